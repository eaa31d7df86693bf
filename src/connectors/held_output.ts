/**
 * Output of a connector sink that is not sent yet, or may have to be sent again: records by their offset in the worker's
 * output, and as MESSAGE frames.
 *
 *   H1. Frames leave in the order of records, from where `seek` was last told; whole records only.
 *   H2. What was released is gone: nobody seeks a place before it.
 */
import { assert } from "../base/assert.ts";
import { MESSAGE_AT, MESSAGE_OVERHEAD_BYTES, OUTPUT_STREAM, TAG } from "../wire/connector.ts";
import { firstAbove, type OutputRecords } from "./output_queue.ts";

/** Most bytes of frames in one piece, unless one record alone has more. */
const PIECE_BYTES_MAX = 256 * 1024;

interface Entry {
  /** Of its first byte. */
  readonly offset: number;
  readonly records: OutputRecords;
}

export interface OutputFrames {
  readonly bytes: Uint8Array;
  /** Offset behind the last record in it. */
  readonly through: number;
}

export class HeldOutput {
  /** From `#first` on; those before it are released, and dropped now and then. */
  #entries: (Entry | null)[] = [];
  #first = 0;
  #end = 0;
  /** The next record to give out: number `#record` of entry `#entry`, which begins at `#next`. */
  #entry = 0;
  #record = 0;
  #next = 0;

  /** Pieces that are held, however small. */
  get pieces(): number {
    return this.#entries.length - this.#first;
  }

  /** Offset behind the last record. */
  get end(): number {
    return this.#end;
  }

  push(records: OutputRecords): void {
    if (records.bytes.length === 0) return;
    this.#entries.push({ offset: this.#end, records });
    this.#end += records.bytes.length;
  }

  /** Nothing is held; the next record has this offset. */
  reset(offset: number): void {
    this.#entries = [];
    this.#first = 0;
    this.#end = offset;
    this.#entry = 0;
    this.#record = 0;
    this.#next = offset;
  }

  /** What ends before this offset is not wanted again. */
  release(offset: number): void {
    while (this.#first < this.#entries.length) {
      const entry = this.#entries[this.#first]!;
      if (entry.offset + entry.records.bytes.length > offset) break;
      this.#entries[this.#first++] = null;
    }
    if (this.#entry < this.#first) {
      this.#entry = this.#first;
      this.#record = 0;
    }
    if (this.#first < 64 || this.#first * 2 < this.#entries.length) return;
    this.#entries.splice(0, this.#first);
    this.#entry -= this.#first;
    this.#first = 0;
  }

  /** The next frame is of the record that begins here. */
  seek(offset: number): void {
    if (offset === this.#next) return;
    assert(offset <= this.#end, "a place behind the last record");
    let low = this.#first;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { offset: start, records } = this.#entries[middle]!;
      if (start + records.bytes.length > offset) high = middle;
      else low = middle + 1;
    }
    this.#entry = low;
    this.#record = 0;
    this.#next = offset;
    const entry = this.#entries[low];
    if (entry === undefined || entry === null) return;
    assert(entry.offset <= offset, "a place that was released");
    // The record behind all that end at or before it.
    if (offset > entry.offset) this.#record = firstAbove(entry.records.ends, offset - entry.offset);
    const before = this.#record === 0 ? 0 : entry.records.ends[this.#record - 1]!;
    assert(entry.offset + before === offset, "a place in the middle of a record");
  }

  /** MESSAGEs of the next records that end at or before `limit`; null: there are none. */
  frames(limit: number): OutputFrames | null {
    let records = 0;
    let body = 0;
    let { entry, record } = { entry: this.#entry, record: this.#record };
    // How much fits, before anything is copied. A record without bytes has no place of its own, and is left out.
    measure: for (; entry < this.#entries.length; entry++, record = 0) {
      const { offset, records: held } = this.#entries[entry]!;
      const { ends } = held;
      for (; record < ends.length; record++) {
        const end = offset + ends[record]!;
        const size = end - this.#next - body;
        if (size === 0) continue;
        if (end > limit) break measure;
        const total = body + size + (records + 1) * MESSAGE_OVERHEAD_BYTES;
        if (records > 0 && total > PIECE_BYTES_MAX) break measure;
        records++;
        body += size;
      }
    }
    if (records === 0) return null;
    const out = new Uint8Array(body + records * MESSAGE_OVERHEAD_BYTES);
    this.#fill(out, entry, record);
    this.#entry = entry;
    this.#record = record;
    this.#next += body;
    return { bytes: out, through: this.#next };
  }

  #fill(out: Uint8Array, entryEnd: number, recordEnd: number): void {
    const view = new DataView(out.buffer);
    let at = 0;
    let record = this.#record;
    for (let index = this.#entry; index <= entryEnd && index < this.#entries.length; index++, record = 0) {
      const { offset, records } = this.#entries[index]!;
      const { bytes, ends } = records;
      const until = index === entryEnd ? recordEnd : ends.length;
      let start = record === 0 ? 0 : ends[record - 1]!;
      for (; record < until; record++) {
        const end = ends[record]!;
        if (end === start) continue;
        const id = offset + start;
        view.setUint32(at, MESSAGE_AT.key + end - start);
        const frame = at + 4;
        out[frame] = TAG.message;
        view.setUint32(frame + MESSAGE_AT.stream + 4, Number(OUTPUT_STREAM));
        view.setUint32(frame + MESSAGE_AT.id, Math.floor(id / 0x1_0000_0000));
        view.setUint32(frame + MESSAGE_AT.id + 4, id >>> 0);
        const to = frame + MESSAGE_AT.key - start;
        // A view costs more than a few bytes do.
        if (end - start > 64) out.set(bytes.subarray(start, end), to + start);
        else for (let i = start; i < end; i++) out[to + i] = bytes[i]!;
        at = frame + MESSAGE_AT.key + end - start;
        start = end;
      }
    }
  }

  /** From where output goes on, up to the end. Counts them: for the end and for status only. */
  countRecords(): number {
    let count = 0;
    for (let index = this.#entry; index < this.#entries.length; index++) {
      const { ends } = this.#entries[index]!.records;
      count += index === this.#entry ? ends.length - this.#record : ends.length;
    }
    return count;
  }
}

/** How much output is in the frames that are whole in the first `count` of these bytes. */
export function wholeOutput(frames: Uint8Array, count: number): number {
  const view = new DataView(frames.buffer, frames.byteOffset, frames.byteLength);
  let at = 0;
  let output = 0;
  while (at + 4 <= count) {
    const length = view.getUint32(at);
    at += 4 + length;
    if (at > count) break;
    output += length - MESSAGE_AT.key;
  }
  return output;
}
