/** Names in the folder of the state log, which is part of a worker's folder. */
import { type DirEntry, type Disk, DiskError } from "../../runtime/runtime.ts";
import { join } from "../folders.ts";

const SEGMENT_NAME = /^segment-([0-9a-f]{16})$/;

export function segmentName(number: number): string {
  return `segment-${number.toString(16).padStart(16, "0")}`;
}

/** `null`: no segment is called like that. */
export function segmentNumber(name: string): number | null {
  const match = SEGMENT_NAME.exec(name);
  if (match === null) return null;
  const number = Number.parseInt(match[1]!, 16);
  return Number.isSafeInteger(number) && number > 0 ? number : null;
}

export function isSegment(entry: DirEntry): boolean {
  return entry.kind === "file" && segmentNumber(entry.name) !== null;
}

/** Numbers of the segments in a folder, ascending; none when there is no such folder. */
export async function listSegments(disk: Disk, folder: string): Promise<number[]> {
  try {
    const entries = await disk.list(folder);
    return entries.filter(isSegment).map((entry) => segmentNumber(entry.name)!);
  } catch (error) {
    if (error instanceof DiskError && error.code === "not_found") return [];
    throw error;
  }
}

export function segmentPath(folder: string, number: number): string {
  return join(folder, segmentName(number));
}
