import { ProtocolError } from "../base/errors.ts";

/**
 * Reads the fields of one message that is there as a whole. Integers are big-endian. Every read is checked against the
 * bytes present before anything is allocated.
 *
 * @throws {ProtocolError} `truncated`, `bad_text` from every method.
 */
export class ByteReader {
  readonly #what: string;
  readonly data: Uint8Array;
  readonly view: DataView;
  /** Where the next read starts. */
  offset: number;

  /** `what` names the message in errors: `metrics payload`. */
  constructor(what: string, bytes: Uint8Array, offset = 0) {
    this.#what = what;
    this.data = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
  }

  get remaining(): number {
    return this.data.length - this.offset;
  }

  /** Steps over `count` bytes, checked; returns where they start. For columns that are read straight from `view`. */
  skip(count: number): number {
    const at = this.offset;
    if (count > this.data.length - at) {
      throw this.error(
        "truncated",
        `ends too early: ${count} bytes wanted at offset ${at}, ${this.data.length - at} are there`,
      );
    }
    this.offset = at + count;
    return at;
  }

  u8(): number {
    return this.view.getUint8(this.skip(1));
  }

  u16(): number {
    return this.view.getUint16(this.skip(2));
  }

  u32(): number {
    return this.view.getUint32(this.skip(4));
  }

  u64(): bigint {
    return this.view.getBigUint64(this.skip(8));
  }

  f64(): number {
    return this.view.getFloat64(this.skip(8));
  }

  /** Unsigned, seven bits a byte, low ones first; at most 2^32 - 1. */
  varint(): number {
    let value = 0;
    for (let scale = 1; scale <= 0x1000_0000; scale *= 128) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > 0xffff_ffff) break;
        return value;
      }
    }
    throw this.error("bad_number", `holds a number that is too large at offset ${this.offset - 1}`);
  }

  /** A view into the message, not a copy. */
  bytes(count: number): Uint8Array {
    const at = this.skip(count);
    return this.data.subarray(at, at + count);
  }

  str16(): string {
    const length = this.u16();
    return length === 0 ? "" : this.#text(this.bytes(length));
  }

  str32(): string {
    const length = this.u32();
    return length === 0 ? "" : this.#text(this.bytes(length));
  }

  /** Everything that is left, as text. */
  restText(): string {
    return this.#text(this.bytes(this.remaining));
  }

  /** An error about this message; `is` completes the sentence that begins with its name. */
  error(code: string, is: string): ProtocolError {
    return new ProtocolError(code, `${this.#what} ${is}`);
  }

  #text(bytes: Uint8Array): string {
    return decodeUtf8(this.#what, bytes);
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Up to here text is taken byte by byte: a call of a decoder costs 50 to 300 ns, whatever the length. */
const SHORT_TEXT_BYTES = 16;

/** Text that is short and ASCII; null: a decoder has to look at it. */
export function shortAscii(bytes: Uint8Array): string | null {
  const { length } = bytes;
  if (length > SHORT_TEXT_BYTES) return null;
  let text = "";
  for (let i = 0; i < length; i++) {
    const byte = bytes[i]!;
    if (byte >= 0x80) return null;
    text += String.fromCharCode(byte);
  }
  return text;
}

/** Strict: malformed UTF-8 is refused and a byte order mark is kept. */
export function decodeUtf8(what: string, bytes: Uint8Array): string {
  const short = shortAscii(bytes);
  if (short !== null) return short;
  try {
    return UTF8.decode(bytes);
  } catch (cause) {
    throw new ProtocolError("bad_text", `${what} holds text that is not UTF-8`, { cause });
  }
}
