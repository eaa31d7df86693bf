import { assert } from "../base/assert.ts";

const CAPACITY_MIN = 256;

/**
 * Bytes written one after the other into a buffer that grows. Integers are big-endian, as in every protocol here.
 *
 * A writer is kept and used again: `take` copies what was written and starts anew with the same buffer, so that a
 * message costs one allocation of exactly its size.
 */
export class ByteWriter {
  /** The buffer itself. It is replaced when it grows: read it again after every call that writes. */
  data: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  /** Bytes written so far. */
  length = 0;
  readonly #encoder = new TextEncoder();

  constructor(capacity = CAPACITY_MIN) {
    this.data = new Uint8Array(Math.max(capacity, CAPACITY_MIN));
    this.view = new DataView(this.data.buffer);
  }

  /** Makes room for `count` more bytes and counts them as written. Returns where they start; the caller fills them. */
  reserve(count: number): number {
    const at = this.length;
    const end = at + count;
    if (end > this.data.length) this.#grow(end);
    this.length = end;
    return at;
  }

  #grow(needed: number): void {
    const grown = new Uint8Array(Math.max(needed, this.data.length * 2));
    grown.set(this.data.subarray(0, this.length));
    this.data = grown;
    this.view = new DataView(grown.buffer);
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.data[at] = value;
  }

  u16(value: number): void {
    const at = this.reserve(2);
    this.view.setUint16(at, value);
  }

  u32(value: number): void {
    const at = this.reserve(4);
    this.view.setUint32(at, value);
  }

  /** A `number` must be a whole one, from 0 to below 2^64. */
  u64(value: number | bigint): void {
    const at = this.reserve(8);
    if (typeof value === "bigint") {
      this.view.setBigUint64(at, value);
      return;
    }
    assert(Number.isInteger(value) && value >= 0 && value < 2 ** 64, "a u64 is a whole number from 0 to below 2^64");
    this.view.setUint32(at, Math.floor(value / 0x1_0000_0000));
    this.view.setUint32(at + 4, value >>> 0);
  }

  /** Unsigned, seven bits a byte, low ones first; at most 2^32 - 1. */
  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.u8((rest & 0x7f) | 0x80);
      rest = Math.floor(rest / 128);
    }
    this.u8(rest);
  }

  f64(value: number): void {
    const at = this.reserve(8);
    this.view.setFloat64(at, value);
  }

  /** The bytes alone, without a length. */
  bytes(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.data.set(bytes, at);
  }

  /** UTF-8 without a length. Returns the number of bytes. */
  utf8(text: string): number {
    // Three bytes hold every UTF-16 unit; what was too much is given back.
    const at = this.reserve(text.length * 3);
    const { written } = this.#encoder.encodeInto(text, this.data.subarray(at));
    this.length = at + written;
    return written;
  }

  /** u16 byte count and UTF-8. At most 65,535 bytes. */
  str16(text: string): void {
    const at = this.reserve(2);
    const written = this.utf8(text);
    assert(written <= 0xffff, "str16 holds at most 65,535 bytes");
    this.view.setUint16(at, written);
  }

  /** u32 byte count and UTF-8. */
  str32(text: string): void {
    const at = this.reserve(4);
    const written = this.utf8(text);
    this.view.setUint32(at, written);
  }

  /** Leaves four bytes for a length; `endFrame` fills them in. */
  beginFrame(): number {
    return this.reserve(4);
  }

  /** Writes the number of bytes since `beginFrame`, without the four themselves, to where it left room. */
  endFrame(at: number): void {
    this.view.setUint32(at, this.length - at - 4);
  }

  /** What was written, without a copy: valid until the next write or `clear`. */
  written(): Uint8Array {
    return this.data.subarray(0, this.length);
  }

  /** A copy of what was written; the writer is empty afterwards. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.data.slice(0, this.length);
    this.length = 0;
    return taken;
  }

  clear(): void {
    this.length = 0;
  }
}
