/**
 * What a TCP sink still has to send: bytes in order, and where each record ends, so that a record which a lost connection
 * cut in half is sent again whole.
 *
 *   Q1. Bytes leave in the order they came; none is offered twice on one connection.
 *   Q2. After `rewind` the next byte offered is the first of a record.
 *   Q3. What the system had taken whole is gone from here: it may be lost with the connection, and is counted by the caller.
 */
import { assert } from "../base/assert.ts";

export interface OutputRecords {
  readonly bytes: Uint8Array;
  /** `ends[i]`: the byte behind record `i`; only read when a connection was lost in the middle. */
  readonly ends: Uint32Array;
}

/** Most bytes offered in one piece: enough to keep a socket busy, little enough to join cheaply. */
const WRITE_BYTES_MAX = 256 * 1024;

const TAKEN: OutputRecords = { bytes: new Uint8Array(0), ends: new Uint32Array(0) };

export class OutputQueue {
  readonly #entries: OutputRecords[] = [];
  /** Index of the first entry that is not wholly taken. Entries before it are dropped now and then. */
  #first = 0;
  /** Bytes taken of that entry. */
  #offset = 0;
  #bytes = 0;

  /** Not yet taken. */
  get bytes(): number {
    return this.#bytes;
  }

  push(records: OutputRecords): void {
    if (records.bytes.length === 0) return;
    this.#entries.push(records);
    this.#bytes += records.bytes.length;
  }

  /**
   * The next bytes to write, without taking them; null when there are none. They may be written until `taken` or `rewind`,
   * also while more is pushed.
   */
  next(): Uint8Array | null {
    const entry = this.#entries[this.#first];
    if (entry === undefined) return null;
    const head = this.#offset === 0 ? entry.bytes : entry.bytes.subarray(this.#offset);
    if (head.length >= WRITE_BYTES_MAX) return head.subarray(0, WRITE_BYTES_MAX);
    if (this.#first + 1 === this.#entries.length) return head;
    let length = head.length;
    let last = this.#first + 1;
    while (last < this.#entries.length && length + this.#entries[last]!.bytes.length <= WRITE_BYTES_MAX) {
      length += this.#entries[last]!.bytes.length;
      last++;
    }
    if (last === this.#first + 1) return head;
    const joined = new Uint8Array(length);
    joined.set(head);
    let at = head.length;
    for (let i = this.#first + 1; i < last; i++) {
      joined.set(this.#entries[i]!.bytes, at);
      at += this.#entries[i]!.bytes.length;
    }
    return joined;
  }

  /** The system took this many of the bytes that `next` offered. */
  taken(count: number): void {
    assert(count <= this.#bytes, "more was taken than was queued");
    this.#bytes -= count;
    let rest = count;
    while (rest > 0) {
      const left = this.#entries[this.#first]!.bytes.length - this.#offset;
      if (rest < left) {
        this.#offset += rest;
        break;
      }
      rest -= left;
      // The place stays for now, the bytes go: a long queue must not hold what it has sent.
      this.#entries[this.#first++] = TAKEN;
      this.#offset = 0;
    }
    if (this.#first === this.#entries.length) {
      this.#entries.length = 0;
      this.#first = 0;
    } else if (this.#first > 64 && this.#first * 2 > this.#entries.length) {
      this.#entries.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /** Is the next byte in the middle of a record? */
  get cut(): boolean {
    return this.#offset > 0 && this.#recordStart() !== this.#offset;
  }

  /** Bytes up to the end of the record that has been begun; 0 if none has. */
  get restOfRecord(): number {
    if (!this.cut) return 0;
    const { ends } = this.#entries[this.#first]!;
    return ends[firstAbove(ends, this.#offset)]! - this.#offset;
  }

  /** The connection is gone: goes back to the start of the record that was cut. Returns how many bytes are offered again. */
  rewind(): number {
    if (this.#offset === 0) return 0;
    const start = this.#recordStart();
    const again = this.#offset - start;
    this.#offset = start;
    this.#bytes += again;
    return again;
  }

  /**
   * Forgets what comes behind the first `offeredBytes`, which `next` has given and which are being written, and behind the
   * record that they end in.
   */
  dropBehind(offeredBytes: number): void {
    const first = this.#entries[this.#first];
    if (first === undefined) return;
    let rest = offeredBytes + this.#offset;
    let index = this.#first;
    while (rest > this.#entries[index]!.bytes.length) rest -= this.#entries[index++]!.bytes.length;
    const { bytes, ends } = this.#entries[index]!;
    const end = rest === 0 ? 0 : ends[firstAbove(ends, rest - 1)]!;
    this.#entries.length = index + 1;
    this.#entries[index] = { bytes: bytes.subarray(0, end), ends: ends.subarray(0, firstAbove(ends, end)) };
    this.#bytes = -this.#offset;
    for (let i = this.#first; i <= index; i++) this.#bytes += this.#entries[i]!.bytes.length;
    if (this.#bytes > 0) return;
    this.#entries.length = 0;
    this.#first = 0;
    this.#offset = 0;
  }

  /** How many records are still here, the one that has been begun too. Counts them: for the end and for status only. */
  countRecords(): number {
    let count = 0;
    for (let i = this.#first; i < this.#entries.length; i++) {
      const { ends } = this.#entries[i]!;
      count += i === this.#first ? ends.length - firstAbove(ends, this.#offset) : ends.length;
    }
    return count;
  }

  #recordStart(): number {
    const { ends } = this.#entries[this.#first]!;
    const index = firstAbove(ends, this.#offset);
    return index === 0 ? 0 : ends[index - 1]!;
  }
}

/** Index of the first element above `value` in an ascending array. */
export function firstAbove(ascending: Uint32Array, value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
