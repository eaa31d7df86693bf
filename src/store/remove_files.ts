/**
 * Removes what is ours in a worker's folder, and rotated segments beside the folders, so that a power cut in between never leaves a part that looks like a whole:
 * first a file that says so (`REMOVING_FILE`), which whoever comes next obeys.
 */
import { type Disk, DiskError, type Lock } from "../runtime/runtime.ts";
import { isDecisionName, isKnown, join, LOCK_FILE, REMOVING_FILE, STATE_FOLDER } from "./folders.ts";
import { removeIfThere } from "./replace_file.ts";
import { isRotated, isSegment, listSegments, resilienceDirOf } from "./state_log/state_folder.ts";

/**
 * Removes every known file while the lock is held, the lock last, and gives it up. Returns what is left: what is not ours, and
 * dead letters. `also`: names of files that go as well.
 */
export async function emptyFolder(
  disk: Disk,
  folder: string,
  lock: Lock,
  also: readonly string[] = [],
): Promise<readonly string[]> {
  let unknown: readonly string[];
  try {
    unknown = await removeKnown(disk, folder, also);
  } catch (error) {
    await lock.release();
    throw error;
  }
  await lock.removeAndRelease();
  return unknown;
}

/** Everything but the lock; to be called by who holds it. Returns names that are left. */
export async function removeKnown(
  disk: Disk,
  folder: string,
  also: readonly string[] = [],
): Promise<readonly string[]> {
  const entries = await disk.list(folder);
  const stays = (entry: { name: string; kind: string }) => !isKnown(entry) && !also.includes(entry.name);
  const unknown = entries.filter(stays).map((entry) => entry.name);
  const state = join(folder, STATE_FOLDER);
  const hasState = entries.some((entry) => entry.kind === "folder" && entry.name === STATE_FOLDER);
  const inState = hasState ? await disk.list(state) : [];
  const segments = await listSegments(disk, state);
  const hasDecision = entries.some((entry) => entry.kind === "file" && isDecisionName(entry.name));
  if (segments.length > 0 || hasDecision) await mark(disk, folder);
  for (const { path } of segments) await removeIfThere(disk, path);
  if (segments.some(({ path }) => isRotated(path))) await disk.syncDir(resilienceDirOf(folder));
  if (hasState) {
    await disk.syncDir(state);
    unknown.push(...inState.filter((entry) => !isSegment(entry)).map((entry) => join(STATE_FOLDER, entry.name)));
    if (inState.every(isSegment)) await disk.removeDir(state);
  }
  for (const entry of entries) {
    const { name, kind } = entry;
    const goes = kind === "file" && !stays(entry);
    if (goes && name !== LOCK_FILE && name !== REMOVING_FILE) await removeIfThere(disk, join(folder, name));
  }
  await disk.syncDir(folder);
  // All else is gone for good by now.
  if (await removeIfThere(disk, join(folder, REMOVING_FILE))) await disk.syncDir(folder);
  return unknown;
}

/** From then on whoever opens the folder finds nothing in it. Durable when it resolves; false: there is no room for it. */
export async function mark(disk: Disk, folder: string): Promise<boolean> {
  try {
    const file = await disk.open(join(folder, REMOVING_FILE), "create");
    await file.close();
  } catch (error) {
    // On a full disk a removal goes without: files are removed to make room, after all.
    if (error instanceof DiskError && error.code === "full") return false;
    if (!(error instanceof DiskError) || error.code !== "exists") throw error;
  }
  await disk.syncDir(folder);
  return true;
}
