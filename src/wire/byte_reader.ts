import { ProtocolError } from "../base/errors.ts";

/**
 * Reads the fields of one message that is there as a whole. Integers are big-endian. Every read is checked against the
 * bytes present before anything is allocated.
 *
 * @throws {ProtocolError} `truncated`, `bad_text` from every method.
 */
export class ByteReader {
  readonly #what: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Where the next read starts. */
  offset: number;

  /** `what` names the message in errors: `metrics payload`. */
  constructor(what: string, bytes: Uint8Array, offset = 0) {
    this.#what = what;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.offset;
  }

  #take(count: number): number {
    const at = this.offset;
    if (count > this.#bytes.length - at) {
      throw new ProtocolError(
        "truncated",
        `${this.#what} ends too early: ${count} bytes wanted at offset ${at}, ${this.#bytes.length - at} are there`,
      );
    }
    this.offset = at + count;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8));
  }

  /** A view into the message, not a copy. */
  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  str16(): string {
    return this.#text(this.bytes(this.u16()));
  }

  str32(): string {
    return this.#text(this.bytes(this.u32()));
  }

  /** Everything that is left, as text. */
  restText(): string {
    return this.#text(this.bytes(this.remaining));
  }

  #text(bytes: Uint8Array): string {
    return decodeUtf8(this.#what, bytes);
  }
}

/** Strict: malformed UTF-8 is refused and a byte order mark is kept. */
export function decodeUtf8(what: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new ProtocolError("bad_text", `${what} holds text that is not UTF-8`, { cause });
  }
}
