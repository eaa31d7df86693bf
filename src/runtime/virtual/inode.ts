/** Files and folders of a virtual disk: current state, durable state, and the operations between the two. */

import type { Prng } from "../../base/prng.ts";
import type { Millis } from "../runtime.ts";

const SECTOR_BYTES = 512;

/** What a power loss does to operations that were not synced: drawn once for the whole disk. */
type LossMode = number;
const KEEP_ALL: LossMode = 0;
const DROP_ALL: LossMode = 1;

export type Inode = FileInode | FolderInode;

/** Bytes that grow at the end. */
export class Content {
  length = 0;
  #bytes = new Uint8Array(0);

  read(offset: number, length: number): Uint8Array {
    return this.#bytes.slice(offset, Math.max(offset, Math.min(offset + length, this.length)));
  }

  /** Whatever lies between the end and `offset` becomes zeros. */
  write(offset: number, bytes: Uint8Array): void {
    this.#reserve(offset + bytes.length);
    this.#bytes.set(bytes, offset);
    this.length = Math.max(this.length, offset + bytes.length);
  }

  resize(length: number): void {
    this.#reserve(length);
    if (length < this.length) this.#bytes.fill(0, length, this.length);
    this.length = length;
  }

  replace(bytes: Uint8Array): void {
    this.#bytes = new Uint8Array(bytes);
    this.length = bytes.length;
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(length, 2 * this.#bytes.length, 256));
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
  }
}

type FileOperation = { readonly offset: number; readonly bytes: Uint8Array } | { readonly length: number };

export class FileInode {
  readonly id: number;
  readonly mode: number;
  modifiedMs: Millis;
  /** The holder of its lock. */
  lockedBy: object | null = null;
  readonly content = new Content();
  readonly #durable = new Content();
  #unsynced: FileOperation[] = [];
  /** Operations that are no longer in `#unsynced`: a mark counts from the beginning of time. */
  #settled = 0;

  constructor(id: number, mode: number, modifiedMs: Millis) {
    this.id = id;
    this.mode = mode;
    this.modifiedMs = modifiedMs;
  }

  append(bytes: Uint8Array, nowMs: Millis): void {
    if (bytes.length === 0) return;
    const kept = new Uint8Array(bytes);
    this.#unsynced.push({ offset: this.content.length, bytes: kept });
    this.content.write(this.content.length, kept);
    this.modifiedMs = nowMs;
  }

  truncate(length: number): void {
    this.#unsynced.push({ length });
    this.content.resize(length);
  }

  /** A sync that begins now covers the operations before this mark. */
  mark(): number {
    return this.#settled + this.#unsynced.length;
  }

  /** @param failing The sync fails: half of the operations, drawn here, never become durable. */
  sync(mark: number, failing: Prng | null): void {
    const count = Math.max(0, mark - this.#settled);
    for (const operation of this.#unsynced.splice(0, count)) {
      if (failing === null || failing.chance(2)) apply(this.#durable, operation);
    }
    this.#settled += count;
  }

  replaceDurable(bytes: Uint8Array): void {
    this.content.replace(bytes);
    this.#durable.replace(bytes);
    this.#settled += this.#unsynced.length;
    this.#unsynced = [];
  }

  powerLoss(prng: Prng, mode: LossMode): void {
    for (const operation of this.#unsynced) {
      const fate = mode === KEEP_ALL ? "keep" : mode === DROP_ALL ? "drop" : drawFate(prng);
      if (fate === "keep") apply(this.#durable, operation);
      else if (fate === "tear" && "bytes" in operation) tear(this.#durable, operation.offset, operation.bytes, prng);
    }
    this.#settled += this.#unsynced.length;
    this.#unsynced = [];
    this.content.replace(this.#durable.read(0, this.#durable.length));
    this.lockedBy = null;
  }
}

/** Most are damaged, so that the rule is exercised and not the luck. */
function drawFate(prng: Prng): "keep" | "drop" | "tear" {
  const drawn = prng.int(10);
  return drawn === 0 ? "keep" : drawn < 5 ? "drop" : "tear";
}

function apply(content: Content, operation: FileOperation): void {
  if ("bytes" in operation) content.write(operation.offset, operation.bytes);
  else content.resize(operation.length);
}

/** Some sectors of a write arrive; the others stay as they were, or hold zeros or garbage. The length may be cut too. */
function tear(content: Content, offset: number, bytes: Uint8Array, prng: Prng): void {
  let at = 0;
  const end = prng.chance(2) ? bytes.length : prng.int(bytes.length + 1);
  while (at < end) {
    const sectorEnd = Math.min(end, at + SECTOR_BYTES - ((offset + at) % SECTOR_BYTES));
    const part = bytes.subarray(at, sectorEnd);
    const kind = prng.int(4);
    if (kind <= 1) content.write(offset + at, part);
    else if (kind === 2) content.write(offset + at, new Uint8Array(part.length));
    else if (prng.chance(2)) content.write(offset + at, prng.bytes(part.length));
    at = sectorEnd;
  }
}

/** An entry set (`inode`) or removed (`null`); a rename inside a folder is one operation. */
interface EntryOperation {
  readonly name: string;
  readonly inode: Inode | null;
  readonly removed: string | null;
}

export class FolderInode {
  readonly id: number;
  readonly mode: number;
  readonly modifiedMs: Millis;
  entries = new Map<string, Inode>();
  readonly #durable = new Map<string, Inode>();
  #unsynced: EntryOperation[] = [];
  #settled = 0;

  constructor(id: number, mode: number, modifiedMs: Millis) {
    this.id = id;
    this.mode = mode;
    this.modifiedMs = modifiedMs;
  }

  set(name: string, inode: Inode): void {
    this.#run({ name, inode, removed: null });
  }

  delete(name: string): void {
    this.#run({ name, inode: null, removed: null });
  }

  rename(from: string, to: string, inode: Inode): void {
    this.#run({ name: to, inode, removed: from });
  }

  putDurable(name: string, inode: Inode): void {
    this.entries.set(name, inode);
    this.#durable.set(name, inode);
  }

  takeDurable(name: string): void {
    this.entries.delete(name);
    this.#durable.delete(name);
  }

  mark(): number {
    return this.#settled + this.#unsynced.length;
  }

  sync(mark: number): void {
    const count = Math.max(0, mark - this.#settled);
    for (const operation of this.#unsynced.splice(0, count)) applyEntry(this.#durable, operation);
    this.#settled += count;
  }

  powerLoss(prng: Prng, mode: LossMode): void {
    for (const operation of this.#unsynced) {
      const kept = mode === KEEP_ALL || (mode !== DROP_ALL && prng.chance(2));
      if (kept) applyEntry(this.#durable, operation);
    }
    this.#settled += this.#unsynced.length;
    this.#unsynced = [];
    this.entries = new Map(this.#durable);
  }

  #run(operation: EntryOperation): void {
    this.#unsynced.push(operation);
    applyEntry(this.entries, operation);
  }
}

function applyEntry(entries: Map<string, Inode>, operation: EntryOperation): void {
  if (operation.removed !== null) entries.delete(operation.removed);
  if (operation.inode === null) entries.delete(operation.name);
  else entries.set(operation.name, operation.inode);
}
