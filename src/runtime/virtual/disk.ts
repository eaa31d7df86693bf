/**
 * The virtual disk of one machine: what processes see (the page cache) and what is durable, apart.
 *
 * F1. Process death loses nothing. Power loss leaves durable content, and of every operation that was not synced,
 *     independently: all, nothing, or (a write) some of its 512-byte sectors, the rest old, zero or garbage.
 * F2. Entries of a folder are durable by `syncDir` of that folder alone, contents of a file by `sync` of that file alone.
 * F3. A sync that fails says so once; a part of what it was to keep is lost at the next power loss, though reads show it
 *     until then.
 */

import type { Prng } from "../../base/prng.ts";
import type { Lock, Millis } from "../runtime.ts";
import { type DirEntry, type Disk, DiskError, type DiskErrorCode, type DiskFile, type FileStat } from "../runtime.ts";
import { FileInode, FolderInode, type Inode } from "./inode.ts";
import type { Held, VirtualProcess } from "./process.ts";
import type { Scheduler } from "./scheduler.ts";

export type DiskOperation =
  | "append"
  | "list"
  | "lock"
  | "make_dir"
  | "open"
  | "read"
  | "remove"
  | "remove_dir"
  | "rename"
  | "stat"
  | "sync"
  | "sync_dir"
  | "truncate";

export interface DiskOptions {
  /** How long an operation takes. Default 0.02 to 0.3. */
  readonly latencyMinMs: Millis;
  readonly latencyMaxMs: Millis;
  /** How long a sync takes. Default 0.3 to 3. */
  readonly syncMinMs: Millis;
  readonly syncMaxMs: Millis;
  /** One operation in so many takes up to twenty times as long. Default 100. */
  readonly slowOneIn: number;
}

export const DISK_DEFAULTS: DiskOptions = {
  latencyMinMs: 0.02,
  latencyMaxMs: 0.3,
  syncMinMs: 0.3,
  syncMaxMs: 3,
  slowOneIn: 100,
};

const SENTENCES: Readonly<Partial<Record<DiskErrorCode, string>>> = {
  exists: "it exists already",
  full: "no space is left",
  io: "the disk reports an input/output error",
  not_empty: "the folder is not empty",
  not_found: "it does not exist",
  not_folder: "it is not a folder",
};

function failure(code: DiskErrorCode, operation: DiskOperation, path: string): DiskError {
  return new DiskError(code, path, `Cannot ${operation.replace("_", " ")} ${path}: ${SENTENCES[code] ?? code}`);
}

export class VirtualDisk {
  /** What all files together may hold. An append that goes beyond writes what fits and fails with `full`. */
  spaceBytes = Number.POSITIVE_INFINITY;
  /** Asked before every operation; an answer makes it fail. A `sync` that fails loses data (F3). */
  fault: ((operation: DiskOperation, path: string) => DiskErrorCode | null) | null = null;
  readonly #scheduler: Scheduler;
  readonly #prng: Prng;
  readonly #options: DiskOptions;
  #root: FolderInode;
  #inodeId = 0;
  #stalledUntilMs: Millis = 0;

  constructor(scheduler: Scheduler, prng: Prng, options: Partial<DiskOptions> = {}) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#options = { ...DISK_DEFAULTS, ...options };
    this.#root = new FolderInode(this.#inodeId++, 0o755, 0);
  }

  // What a scenario does to it, and how a checker outside the system looks at it.

  /** No operation completes for a while, from now on. */
  stall(durationMs: Millis): void {
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.#scheduler.nowMs + durationMs);
  }

  /** The current content; `null` if there is no such file. */
  peek(path: string): Uint8Array | null {
    const inode = this.#find(path);
    return inode instanceof FileInode ? inode.content.read(0, inode.content.length) : null;
  }

  /** Every file and folder, sorted; folders end in `/`. */
  paths(): string[] {
    const paths: string[] = [];
    const walk = (folder: FolderInode, prefix: string) => {
      for (const [name, inode] of folder.entries) {
        if (inode instanceof FolderInode) {
          paths.push(`${prefix}${name}/`);
          walk(inode, `${prefix}${name}/`);
        } else paths.push(`${prefix}${name}`);
      }
    };
    walk(this.#root, "/");
    return paths.sort();
  }

  /** Puts a durable file there, with its folders: a fixture, or rot. */
  put(path: string, content: Uint8Array | string): void {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const parts = partsOf(path);
    let folder = this.#root;
    for (const part of parts.slice(0, -1)) {
      let next = folder.entries.get(part);
      if (!(next instanceof FolderInode)) {
        next = new FolderInode(this.#inodeId++, 0o700, this.#scheduler.nowMs);
        folder.putDurable(part, next);
      }
      folder = next as FolderInode;
    }
    const name = parts.at(-1)!;
    let file = folder.entries.get(name);
    if (!(file instanceof FileInode)) file = new FileInode(this.#inodeId++, 0o600, this.#scheduler.nowMs);
    (file as FileInode).replaceDurable(bytes);
    folder.putDurable(name, file);
  }

  /** Removes a file for good, as somebody's hand does. */
  take(path: string): void {
    const { folder, name } = this.#folderOf("remove", path);
    folder.takeDurable(name);
  }

  /** Bytes of all files. */
  usedBytes(): number {
    let used = 0;
    const seen = new Set<Inode>();
    const walk = (folder: FolderInode) => {
      for (const inode of folder.entries.values()) {
        if (seen.has(inode)) continue;
        seen.add(inode);
        if (inode instanceof FolderInode) walk(inode);
        else used += inode.content.length;
      }
    };
    walk(this.#root);
    return used;
  }

  /** What was not synced is lost, kept or torn. The machine calls it once its processes are gone. */
  powerLoss(): void {
    // The extremes are drawn often: everything had been written back in time, or nothing at all.
    const mode = this.#prng.int(4);
    const seen = new Set<Inode>();
    const walk = (folder: FolderInode) => {
      folder.powerLoss(this.#prng, mode);
      for (const inode of folder.entries.values()) {
        if (seen.has(inode)) continue;
        seen.add(inode);
        if (inode instanceof FolderInode) walk(inode);
        else inode.powerLoss(this.#prng, mode);
      }
    };
    walk(this.#root);
  }

  // The seam as one process sees it.

  diskOf(process: VirtualProcess): Disk {
    const call = <T>(operation: DiskOperation, path: string, run: () => T): Promise<T> =>
      this.#complete(process, operation, path, run);
    return {
      readFile: (path, lengthMax) => call("read", path, () => this.#readFile(path, lengthMax)),
      open: (path, mode) => call("open", path, () => this.#open(process, path, mode)),
      list: (path) => call("list", path, () => this.#list(path)),
      stat: (path) => call("stat", path, () => this.#stat(path)),
      rename: (from, to) => call("rename", from, () => this.#rename(from, to)),
      remove: (path) => call("remove", path, () => this.#remove(path)),
      makeDir: (path) => call("make_dir", path, () => this.#makeDir(path)),
      removeDir: (path) => call("remove_dir", path, () => this.#removeDir(path)),
      syncDir: (path) => this.#syncDir(process, path),
      lock: (path) => call("lock", path, () => this.#lock(process, path)),
    };
  }

  /** Runs an operation in an event of its own, when its time has come. */
  #complete<T>(process: VirtualProcess, operation: DiskOperation, path: string, run: () => T): Promise<T> {
    return process.completion(
      operation,
      () => {
        this.check(operation, path);
        return run();
      },
      this.#durationMs(operation),
    );
  }

  /** @throws {DiskError} What the scenario wants to happen. */
  check(operation: DiskOperation, path: string): void {
    const code = this.fault?.(operation, path) ?? null;
    if (code !== null) throw failure(code, operation, path);
  }

  #durationMs(operation: DiskOperation): Millis {
    const options = this.#options;
    const isSync = operation === "sync" || operation === "sync_dir";
    const minMs = isSync ? options.syncMinMs : options.latencyMinMs;
    const maxMs = isSync ? options.syncMaxMs : options.latencyMaxMs;
    const ownMs = this.#prng.between(minMs, this.#prng.chance(options.slowOneIn) ? maxMs * 20 : maxMs);
    return Math.max(0, this.#stalledUntilMs - this.#scheduler.nowMs) + ownMs;
  }

  #find(path: string): Inode | null {
    let inode: Inode = this.#root;
    for (const part of partsOf(path)) {
      if (!(inode instanceof FolderInode)) return null;
      const next = inode.entries.get(part);
      if (next === undefined) return null;
      inode = next;
    }
    return inode;
  }

  /** The folder that holds the last name of `path`, and that name. */
  #folderOf(operation: DiskOperation, path: string): { folder: FolderInode; name: string } {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) throw failure("exists", operation, path);
    let folder: Inode = this.#root;
    for (const part of parts) {
      const next: Inode | undefined = folder instanceof FolderInode ? folder.entries.get(part) : undefined;
      if (next === undefined)
        throw failure(folder instanceof FolderInode ? "not_found" : "not_folder", operation, path);
      folder = next;
    }
    if (!(folder instanceof FolderInode)) throw failure("not_folder", operation, path);
    return { folder, name };
  }

  #file(operation: DiskOperation, path: string): FileInode {
    const { folder, name } = this.#folderOf(operation, path);
    const inode = folder.entries.get(name);
    if (inode === undefined) throw failure("not_found", operation, path);
    if (inode instanceof FolderInode) throw failure("other", operation, path);
    return inode;
  }

  #folder(operation: DiskOperation, path: string): FolderInode {
    const inode = this.#find(path);
    if (inode === null) throw failure("not_found", operation, path);
    if (!(inode instanceof FolderInode)) throw failure("not_folder", operation, path);
    return inode;
  }

  #readFile(path: string, lengthMax: number): Uint8Array {
    const { content } = this.#file("read", path);
    if (content.length > lengthMax) {
      const detail = `it has ${content.length} bytes, at most ${lengthMax} are read`;
      throw new DiskError("too_large", path, `Cannot read ${path}: ${detail}`);
    }
    return content.read(0, content.length);
  }

  #open(process: VirtualProcess, path: string, mode: "create" | "append" | "read"): DiskFile {
    if (mode !== "create") return new VirtualFile(this, process, path, this.#file("open", path), mode === "append");
    const { folder, name } = this.#folderOf("open", path);
    if (folder.entries.has(name)) throw failure("exists", "open", path);
    const inode = new FileInode(this.#inodeId++, 0o600, this.#scheduler.nowMs);
    folder.set(name, inode);
    return new VirtualFile(this, process, path, inode, true);
  }

  #list(path: string): DirEntry[] {
    const entries = [...this.#folder("list", path).entries].map(
      ([name, inode]): DirEntry => ({ name, kind: inode instanceof FolderInode ? "folder" : "file" }),
    );
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #stat(path: string): FileStat | null {
    const inode = this.#find(path);
    if (inode === null) return null;
    const isFolder = inode instanceof FolderInode;
    return {
      kind: isFolder ? "folder" : "file",
      length: isFolder ? 0 : inode.content.length,
      modifiedMs: inode.modifiedMs,
      mode: inode.mode,
      ownedByUs: true,
    };
  }

  #rename(from: string, to: string): void {
    const source = this.#folderOf("rename", from);
    const target = this.#folderOf("rename", to);
    const inode = source.folder.entries.get(source.name);
    if (inode === undefined) throw failure("not_found", "rename", from);
    const replaced = target.folder.entries.get(target.name);
    if (replaced === inode) return;
    if (replaced instanceof FolderInode && replaced.entries.size > 0) throw failure("not_empty", "rename", to);
    if (source.folder === target.folder) source.folder.rename(source.name, target.name, inode);
    else {
      target.folder.set(target.name, inode);
      source.folder.delete(source.name);
    }
  }

  #remove(path: string): void {
    this.#file("remove", path);
    const { folder, name } = this.#folderOf("remove", path);
    folder.delete(name);
  }

  #makeDir(path: string): void {
    let folder = this.#root;
    for (const part of partsOf(path)) {
      let next = folder.entries.get(part);
      if (next === undefined) {
        next = new FolderInode(this.#inodeId++, 0o700, this.#scheduler.nowMs);
        folder.set(part, next);
      }
      if (!(next instanceof FolderInode)) throw failure("not_folder", "make_dir", path);
      folder = next;
    }
  }

  #removeDir(path: string): void {
    const inode = this.#folder("remove_dir", path);
    const { folder, name } = this.#folderOf("remove_dir", path);
    if (inode.entries.size > 0) throw failure("not_empty", "remove_dir", path);
    folder.delete(name);
  }

  #syncDir(process: VirtualProcess, path: string): Promise<void> {
    const inode = this.#find(path);
    const mark = inode instanceof FolderInode ? inode.mark() : 0;
    return this.#complete(process, "sync_dir", path, () => {
      if (!(inode instanceof FolderInode)) throw failure(inode === null ? "not_found" : "not_folder", "sync_dir", path);
      inode.sync(mark);
    });
  }

  #lock(process: VirtualProcess, path: string): Lock | null {
    const { folder, name } = this.#folderOf("lock", path);
    let inode = folder.entries.get(name);
    if (inode === undefined) {
      inode = new FileInode(this.#inodeId++, 0o600, this.#scheduler.nowMs);
      folder.set(name, inode);
    }
    if (inode instanceof FolderInode) throw failure("other", "lock", path);
    if (inode.lockedBy !== null) return null;
    const lock = new VirtualLock(
      process,
      inode,
      (run) => this.#complete(process, "remove", path, run),
      () => {
        if (folder.entries.get(name) === inode) folder.delete(name);
      },
    );
    inode.lockedBy = lock;
    process.held.add(lock);
    return lock;
  }

  // What an open file asks of it.

  appendTo(file: FileInode, path: string, bytes: Uint8Array): void {
    this.check("append", path);
    const room = this.spaceBytes === Number.POSITIVE_INFINITY ? bytes.length : this.spaceBytes - this.usedBytes();
    file.append(bytes.length <= room ? bytes : bytes.subarray(0, Math.max(0, room)), this.#scheduler.nowMs);
    if (bytes.length > room) throw failure("full", "append", path);
  }

  fileOperation<T>(process: VirtualProcess, operation: DiskOperation, path: string, run: () => T): Promise<T> {
    return this.#complete(process, operation, path, run);
  }

  syncFile(process: VirtualProcess, file: FileInode, path: string): Promise<void> {
    const mark = file.mark();
    return process.completion(
      "sync",
      () => {
        const code = this.fault?.("sync", path) ?? null;
        file.sync(mark, code === null ? null : this.#prng);
        if (code !== null) throw failure(code, "sync", path);
      },
      this.#durationMs("sync"),
    );
  }
}

/** `/a/b` as `a`, `b`. */
function partsOf(path: string): string[] {
  if (!path.startsWith("/")) throw new DiskError("other", path, `Cannot use the path ${path}: it is not absolute`);
  return path.split("/").filter((part) => part !== "");
}

class VirtualFile implements DiskFile {
  readonly #disk: VirtualDisk;
  readonly #process: VirtualProcess;
  readonly #path: string;
  readonly #inode: FileInode;
  readonly #writable: boolean;
  #open = true;

  constructor(disk: VirtualDisk, process: VirtualProcess, path: string, inode: FileInode, writable: boolean) {
    this.#disk = disk;
    this.#process = process;
    this.#path = path;
    this.#inode = inode;
    this.#writable = writable;
  }

  append(bytes: Uint8Array): Promise<void> {
    if (!this.#process.alive) return new Promise(() => {});
    try {
      this.#check("append", true);
      // At once, as the real ones do: the page cache has it even if the process dies in the next moment.
      this.#disk.appendTo(this.#inode, this.#path, bytes);
    } catch (error) {
      return this.#disk.fileOperation(this.#process, "append", this.#path, () => {
        throw error;
      });
    }
    return this.#process.completion("appended", () => {});
  }

  sync(): Promise<void> {
    if (!this.#open) return this.#refuse("sync");
    return this.#disk.syncFile(this.#process, this.#inode, this.#path);
  }

  readAt(offset: number, length: number): Promise<Uint8Array> {
    return this.#disk.fileOperation(this.#process, "read", this.#path, () => {
      this.#check("read", false);
      return this.#inode.content.read(offset, length);
    });
  }

  length(): Promise<number> {
    return this.#disk.fileOperation(this.#process, "stat", this.#path, () => {
      this.#check("stat", false);
      return this.#inode.content.length;
    });
  }

  truncate(length: number): Promise<void> {
    return this.#disk.fileOperation(this.#process, "truncate", this.#path, () => {
      this.#check("truncate", true);
      this.#inode.truncate(length);
    });
  }

  close(): Promise<void> {
    return this.#process.completion("close", () => {
      this.#open = false;
    });
  }

  #check(operation: DiskOperation, writes: boolean): void {
    if (!this.#open) {
      throw new DiskError("other", this.#path, `Cannot ${operation} ${this.#path}: the file was closed before`);
    }
    if (writes && !this.#writable) {
      throw new DiskError("other", this.#path, `Cannot ${operation} ${this.#path}: it was opened for reading`);
    }
  }

  #refuse(operation: DiskOperation): Promise<void> {
    return this.#disk.fileOperation(this.#process, operation, this.#path, () => this.#check(operation, false));
  }
}

class VirtualLock implements Lock, Held {
  readonly #process: VirtualProcess;
  readonly #inode: FileInode;
  readonly #complete: (run: () => void) => Promise<void>;
  readonly #unlink: () => void;

  constructor(
    process: VirtualProcess,
    inode: FileInode,
    complete: (run: () => void) => Promise<void>,
    unlink: () => void,
  ) {
    this.#process = process;
    this.#inode = inode;
    this.#complete = complete;
    this.#unlink = unlink;
  }

  removeAndRelease(): Promise<void> {
    return this.#complete(() => {
      if (this.#inode.lockedBy !== this) return;
      this.#unlink();
      this.#release();
    });
  }

  release(): Promise<void> {
    return this.#complete(() => this.#release());
  }

  processDied(): void {
    this.#release();
  }

  #release(): void {
    this.#process.held.delete(this);
    if (this.#inode.lockedBy === this) this.#inode.lockedBy = null;
  }
}
