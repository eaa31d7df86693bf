/**
 * Where the segments of a worker's state log lie, and what they are called: in `state/` in the worker's folder, or, from a
 * worker with log rotation, beside the applications' folders in the resilience directory, where watchers of the original's
 * event logs look for them:
 *
 *   <resilience-dir>/<application>/<worker>/state/segment-<16 hex digits>
 *   <resilience-dir>/<application>-<worker>-<16 hex digits>.evlog            a `-` of the application's name is `%2d`
 *
 * Numbers go on over both places: which of the two a segment lies in says nothing else about it.
 */
import { type DirEntry, type Disk, DiskError } from "../../runtime/runtime.ts";
import { encodeNamePart, folderOfNamePart } from "../folder_name.ts";
import { baseOf, join, parentOf, STATE_FOLDER } from "../folders.ts";

export interface SegmentFile {
  readonly number: number;
  readonly path: string;
}

const SEGMENT_NAME = /^segment-([0-9a-f]{16})$/;
const ROTATED_NAME = /^([^-]+)-(.+)-([0-9a-f]{16})\.evlog$/;

export function segmentName(number: number): string {
  return `segment-${hex16(number)}`;
}

/** `null`: no segment is called like that. */
export function segmentNumber(name: string): number | null {
  const match = SEGMENT_NAME.exec(name);
  return match === null ? null : numberOf(match[1]!);
}

export function isSegment(entry: DirEntry): boolean {
  return entry.kind === "file" && segmentNumber(entry.name) !== null;
}

export function segmentPath(folder: string, number: number): string {
  return join(folder, segmentName(number));
}

/** @param folder Of the state log. */
export function rotatedPath(folder: string, number: number): string {
  const workerFolder = parentOf(folder);
  return join(resilienceDirOf(workerFolder), rotatedName(workerFolder, number));
}

/** Where rotated segments of this worker lie. */
export function resilienceDirOf(workerFolder: string): string {
  return parentOf(parentOf(workerFolder));
}

export function rotatedName(workerFolder: string, number: number): string {
  const application = encodeNamePart(baseOf(parentOf(workerFolder)));
  return `${application}-${baseOf(workerFolder)}-${hex16(number)}.evlog`;
}

/** Whose a rotated segment is: the names of its folders; `null`: none is called like that. */
export function rotatedOwner(name: string): { application: string; worker: string; number: number } | null {
  const [, part, worker, hex] = ROTATED_NAME.exec(name) ?? [];
  const application = part === undefined ? null : folderOfNamePart(part);
  const number = hex === undefined ? null : numberOf(hex);
  return application === null || number === null ? null : { application, worker: worker!, number };
}

export function isRotated(path: string): boolean {
  return path.endsWith(".evlog");
}

/** The worker's folder that a segment belongs to. */
export function workerFolderOf(path: string): string {
  const owner = rotatedOwner(baseOf(path));
  if (owner === null) return parentOf(parentOf(path));
  return join(join(parentOf(path), owner.application), owner.worker);
}

/** For people: the name below the worker's folder, or of a file beside the folders. */
export function shownName(path: string): string {
  return isRotated(path) ? baseOf(path) : join(STATE_FOLDER, baseOf(path));
}

/** Entries of a resilience directory that are called like rotated segments of this worker, whatever they are. */
export function rotatedOf(workerFolder: string, entries: readonly DirEntry[]): DirEntry[] {
  const [application, worker] = [baseOf(parentOf(workerFolder)), baseOf(workerFolder)];
  return entries.filter(({ name }) => {
    const owner = rotatedOwner(name);
    return owner !== null && owner.application === application && owner.worker === worker;
  });
}

/** The segments of a state log in both places, ascending; none when there is neither folder. */
export async function listSegments(disk: Disk, folder: string): Promise<SegmentFile[]> {
  const workerFolder = parentOf(folder);
  const directory = resilienceDirOf(workerFolder);
  const inState = (await listOrNone(disk, folder))
    .filter(isSegment)
    .map(({ name }) => ({ number: segmentNumber(name)!, path: join(folder, name) }));
  const rotated = rotatedOf(workerFolder, await listOrNone(disk, directory))
    .filter(({ kind }) => kind === "file")
    .map(({ name }) => ({ number: rotatedOwner(name)!.number, path: join(directory, name) }));
  return [...inState, ...rotated].sort((a, b) => a.number - b.number);
}

async function listOrNone(disk: Disk, folder: string): Promise<readonly DirEntry[]> {
  try {
    return await disk.list(folder);
  } catch (error) {
    if (error instanceof DiskError && error.code === "not_found") return [];
    throw error;
  }
}

function numberOf(hex: string): number | null {
  const number = Number.parseInt(hex, 16);
  return Number.isSafeInteger(number) && number > 0 ? number : null;
}

function hex16(number: number): string {
  return number.toString(16).padStart(16, "0");
}
