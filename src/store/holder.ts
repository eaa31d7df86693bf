import { type Disk, DiskError, type Millis } from "../runtime/runtime.ts";

/** Who wrote into the lock file last. Only the lock itself says whether that process still holds it. */
export interface Holder {
  readonly pid: number;
  /** Milliseconds since the Unix epoch. */
  readonly sinceMs: Millis;
}

/** The text of a lock file; its beginning marks the folder as Tammar's. */
const NOTE = /^tammar worker lock\npid ([0-9]{1,10})\nsince ([0-9]{1,16})\n$/;
const MARK = "tammar worker lock\n";
const NOTE_BYTES_MAX = 256;

/** To be called by who holds the lock. */
export async function writeHolder(disk: Disk, lockPath: string, pid: number, nowMs: Millis): Promise<void> {
  const file = await disk.open(lockPath, "append");
  try {
    await file.truncate(0);
    await file.append(new TextEncoder().encode(`${MARK}pid ${pid}\nsince ${Math.floor(nowMs)}\n`));
  } finally {
    await file.close();
  }
}

/** Null: there is no lock file, or it does not say. */
export async function readHolder(disk: Disk, lockPath: string): Promise<Holder | null> {
  const match = NOTE.exec((await readNote(disk, lockPath)) ?? "");
  return match === null ? null : { pid: Number(match[1]), sinceMs: Number(match[2]) };
}

/** Is this file a lock of ours, held or not? */
export async function isOurLock(disk: Disk, lockPath: string): Promise<boolean> {
  return ((await readNote(disk, lockPath)) ?? "").startsWith(MARK);
}

async function readNote(disk: Disk, lockPath: string): Promise<string | null> {
  try {
    return new TextDecoder().decode(await disk.readFile(lockPath, NOTE_BYTES_MAX));
  } catch (error) {
    if (error instanceof DiskError) return null;
    throw error;
  }
}
