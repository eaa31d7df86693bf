/**
 * `Disk` over `node:fs`, for Bun and Deno alike; only the lock differs (`FileLocker`).
 *
 * Appending is synchronous (10 µs for 4 KiB; it goes to the page cache) and syncing asynchronous, so that a slow disk
 * stops nobody's heartbeats. Everything else is asynchronous as well.
 */

import * as fs from "node:fs";
import type { Lock } from "./runtime.ts";
import { type DirEntry, type Disk, DiskError, type DiskErrorCode, type DiskFile, type FileStat } from "./runtime.ts";

/** An open, exclusively locked file. Closing it gives the lock up. */
export interface LockedFile {
  readonly device: number;
  readonly inode: number;
  close(): void;
}

/** Opens `path` (made with mode 0600 if missing) and takes its lock; `null` when somebody else has it. */
export type FileLocker = (path: string) => Promise<LockedFile | null>;

/** A file that is unlinked again and again between opening and locking it is somebody's bug, not a race. */
const LOCK_TRIES_MAX = 100;
const READ_STEP_BYTES = 64 * 1024;

const CODES: ReadonlyMap<string, DiskErrorCode> = new Map([
  ["EEXIST", "exists"],
  ["ENOSPC", "full"],
  ["EDQUOT", "full"],
  ["EIO", "io"],
  ["ENOTEMPTY", "not_empty"],
  ["ENOENT", "not_found"],
  ["ENOTDIR", "not_folder"],
  ["EACCES", "permission"],
  ["EPERM", "permission"],
  ["NotCapable", "permission"],
  ["EROFS", "read_only"],
  ["EFBIG", "too_large"],
  ["EMFILE", "too_many_files"],
  ["ENFILE", "too_many_files"],
]);

const SENTENCES: Readonly<Record<DiskErrorCode, string>> = {
  exists: "it exists already",
  full: "no space is left",
  io: "the disk reports an input/output error",
  not_empty: "the folder is not empty",
  not_found: "it does not exist",
  not_folder: "it is not a folder",
  other: "the system reports an error",
  permission: "permission denied",
  read_only: "the file system is read-only",
  too_large: "it is too large",
  too_many_files: "too many files are open",
};

/** @param attempt What was tried, such as `Cannot open`; the path follows it in the message. */
export function diskError(attempt: string, path: string, cause: unknown): DiskError {
  if (cause instanceof DiskError) return cause;
  const { code: systemCode, name, message } = cause as { code?: unknown; name?: unknown; message?: unknown };
  const code = CODES.get(String(systemCode)) ?? CODES.get(String(name)) ?? "other";
  const detail = code === "other" ? `${SENTENCES.other}: ${String(message)}` : SENTENCES[code];
  return new DiskError(code, path, `${attempt} ${path}: ${detail}`, { cause });
}

export function createNodeDisk(locker: FileLocker): Disk {
  return {
    readFile,
    open: openFile,
    list: listFolder,
    stat: statPath,
    rename: (from, to) => done("Cannot rename", from, (back) => fs.rename(from, to, back)),
    remove: (path) => done("Cannot remove", path, (back) => fs.unlink(path, back)),
    makeDir,
    removeDir: (path) => done("Cannot remove the folder", path, (back) => fs.rmdir(path, back)),
    syncDir,
    lock: (path) => lockFile(path, locker),
  };
}

type Back = (error: NodeJS.ErrnoException | null) => void;
type BackWith<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

function done(attempt: string, path: string, call: (back: Back) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error ? reject(diskError(attempt, path, error)) : resolve()));
  });
}

function value<T>(attempt: string, path: string, call: (back: BackWith<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, result) => (error ? reject(diskError(attempt, path, error)) : resolve(result)));
  });
}

function openDescriptor(path: string, flags: number): Promise<number> {
  return value("Cannot open", path, (back: BackWith<number>) => fs.open(path, flags, 0o600, back));
}

async function readFile(path: string, lengthMax: number): Promise<Uint8Array> {
  const descriptor = await openDescriptor(path, fs.constants.O_RDONLY);
  try {
    const { size } = await fstat(path, descriptor);
    if (size > lengthMax) throw tooLarge(path, size, lengthMax);
    // One byte more than it had when we looked tells whether it has grown since, and the end without a second call.
    let content = new Uint8Array(size + 1);
    let length = 0;
    for (;;) {
      const read = await readInto(path, descriptor, content, length, content.length - length, length);
      length += read;
      if (length > lengthMax) throw tooLarge(path, length, lengthMax);
      if (read === 0) return content.subarray(0, length);
      if (length === content.length) {
        const grown = new Uint8Array(length + READ_STEP_BYTES);
        grown.set(content);
        content = grown;
      }
    }
  } finally {
    closeQuietly(descriptor);
  }
}

function tooLarge(path: string, length: number, lengthMax: number): DiskError {
  const detail = `it has ${length} bytes or more, at most ${lengthMax} are read`;
  return new DiskError("too_large", path, `Cannot read ${path}: ${detail}`);
}

function fstat(path: string, descriptor: number): Promise<fs.Stats> {
  return value("Cannot look at", path, (back: BackWith<fs.Stats>) => fs.fstat(descriptor, back));
}

function readInto(
  path: string,
  descriptor: number,
  target: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  return value("Cannot read", path, (back: BackWith<number>) =>
    fs.read(descriptor, target, offset, length, position, back),
  );
}

async function openFile(path: string, mode: "create" | "append" | "read"): Promise<DiskFile> {
  const { O_RDONLY, O_RDWR, O_APPEND, O_CREAT, O_EXCL } = fs.constants;
  const flags =
    mode === "read" ? O_RDONLY : mode === "append" ? O_RDWR | O_APPEND : O_RDWR | O_APPEND | O_CREAT | O_EXCL;
  return new NodeFile(path, await openDescriptor(path, flags));
}

const APPENDED = Promise.resolve();

class NodeFile implements DiskFile {
  readonly #path: string;
  /** -1: closed. A descriptor number is used again by the next open, so a late call must not get through. */
  #descriptor: number;

  constructor(path: string, descriptor: number) {
    this.#path = path;
    this.#descriptor = descriptor;
  }

  append(bytes: Uint8Array): Promise<void> {
    try {
      const descriptor = this.#open("Cannot append to");
      let offset = 0;
      while (offset < bytes.length) offset += fs.writeSync(descriptor, bytes, offset, bytes.length - offset, null);
      return APPENDED;
    } catch (cause) {
      return Promise.reject(diskError("Cannot append to", this.#path, cause));
    }
  }

  async sync(): Promise<void> {
    const descriptor = this.#open("Cannot sync");
    await done("Cannot sync", this.#path, (back) => fs.fdatasync(descriptor, back));
  }

  async readAt(offset: number, length: number): Promise<Uint8Array> {
    const descriptor = this.#open("Cannot read");
    const target = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const read = await readInto(this.#path, descriptor, target, filled, length - filled, offset + filled);
      if (read === 0) break;
      filled += read;
    }
    return target.subarray(0, filled);
  }

  async length(): Promise<number> {
    return (await fstat(this.#path, this.#open("Cannot look at"))).size;
  }

  async truncate(length: number): Promise<void> {
    const descriptor = this.#open("Cannot truncate");
    await done("Cannot truncate", this.#path, (back) => fs.ftruncate(descriptor, length, back));
  }

  async close(): Promise<void> {
    if (this.#descriptor < 0) return;
    const descriptor = this.#descriptor;
    this.#descriptor = -1;
    await done("Cannot close", this.#path, (back) => fs.close(descriptor, back));
  }

  #open(attempt: string): number {
    if (this.#descriptor >= 0) return this.#descriptor;
    throw new DiskError("other", this.#path, `${attempt} ${this.#path}: the file was closed before`);
  }
}

async function listFolder(path: string): Promise<DirEntry[]> {
  const found = await value("Cannot list", path, (back: BackWith<fs.Dirent[]>) =>
    fs.readdir(path, { withFileTypes: true }, back),
  );
  const entries = found.map((entry): DirEntry => ({ name: entry.name, kind: kindOf(entry) }));
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function kindOf(entry: { isFile(): boolean; isDirectory(): boolean }): "file" | "folder" | "other" {
  return entry.isFile() ? "file" : entry.isDirectory() ? "folder" : "other";
}

async function statPath(path: string): Promise<FileStat | null> {
  try {
    const stat = await value("Cannot look at", path, (back: BackWith<fs.Stats>) => fs.stat(path, back));
    return {
      kind: kindOf(stat),
      length: stat.size,
      modifiedMs: stat.mtimeMs,
      mode: stat.mode & 0o7777,
      ownedByUs: process.geteuid === undefined || stat.uid === process.geteuid(),
    };
  } catch (error) {
    if (error instanceof DiskError && (error.code === "not_found" || error.code === "not_folder")) return null;
    throw error;
  }
}

/** `parentIsThere`: it was made or seen just now, so that what is not found is something else (in /proc, or under automount). */
async function makeDir(path: string, parentIsThere = false): Promise<void> {
  try {
    await done("Cannot make the folder", path, (back) => fs.mkdir(path, 0o700, back));
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    if (error.code === "not_found") {
      const parent = path.slice(0, path.lastIndexOf("/"));
      if (parent === "" || parentIsThere) throw error;
      await makeDir(parent);
      return makeDir(path, true);
    }
    if (error.code === "exists") {
      if ((await statPath(path))?.kind === "folder") return;
      throw new DiskError("not_folder", path, `Cannot make the folder ${path}: a file has that name`, { cause: error });
    }
    throw error;
  }
  // mkdir takes the umask off the mode, and a folder that we made has to be ours to use.
  await done("Cannot set the mode of", path, (back) => fs.chmod(path, 0o700, back));
}

async function syncDir(path: string): Promise<void> {
  const descriptor = await openDescriptor(path, fs.constants.O_RDONLY);
  try {
    await done("Cannot sync the folder", path, (back) => fs.fsync(descriptor, back));
  } finally {
    closeQuietly(descriptor);
  }
}

/** For descriptors that were only read or synced: closing has nothing left to lose. */
function closeQuietly(descriptor: number): void {
  fs.close(descriptor, () => {});
}

async function lockFile(path: string, locker: FileLocker): Promise<Lock | null> {
  for (let attempt = 0; attempt < LOCK_TRIES_MAX; attempt++) {
    let held: LockedFile | null;
    try {
      held = await locker(path);
    } catch (cause) {
      throw diskError("Cannot lock", path, cause);
    }
    if (held === null) return null;
    const named = await inodeOf(path);
    if (named !== null && named.ino === held.inode && named.dev === held.device) return new NodeLock(path, held);
    // The holder before us removed the file between our open and our lock: what we locked has no name any more.
    held.close();
  }
  throw new DiskError("other", path, `Cannot lock ${path}: it was replaced ${LOCK_TRIES_MAX} times while we tried`);
}

async function inodeOf(path: string): Promise<fs.Stats | null> {
  try {
    return await value("Cannot look at", path, (back: BackWith<fs.Stats>) => fs.lstat(path, back));
  } catch (error) {
    if (error instanceof DiskError && error.code === "not_found") return null;
    throw error;
  }
}

class NodeLock implements Lock {
  readonly #path: string;
  #held: LockedFile | null;

  constructor(path: string, held: LockedFile) {
    this.#path = path;
    this.#held = held;
  }

  async removeAndRelease(): Promise<void> {
    if (this.#held === null) return;
    await done("Cannot remove", this.#path, (back) => fs.unlink(this.#path, back));
    await this.release();
  }

  async release(): Promise<void> {
    const held = this.#held;
    this.#held = null;
    held?.close();
  }
}
