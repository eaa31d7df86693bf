/**
 * The bytes of one record as a source's decoder sees them: what the frame holds, without its header.
 *
 * Reads like a `DataView` of exactly this record (big-endian unless asked otherwise; reading outside of the record
 * throws, so that a short record can't borrow bytes of its neighbour), and gives text and bytes. One object serves all
 * records of a source: use it inside the decoder, never keep it. What `text` and `bytes` return may be kept.
 */
export class Payload {
  #bytes: Uint8Array = NO_BYTES;
  #view: DataView = NO_VIEW;
  #start = 0;
  #end = 0;

  /** A payload of its own, for tests of a decoder: `decode(Payload.of(bytes))`; text becomes UTF-8. */
  static of(content: Uint8Array | string): Payload {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const payload = new Payload();
    payload.openChunk(bytes);
    payload.openRecord(0, bytes.length);
    return payload;
  }

  /** How many bytes the record has. */
  get byteLength(): number {
    return this.#end - this.#start;
  }

  getUint8(at: number): number {
    return this.#view.getUint8(this.#place(at, 1));
  }
  getInt8(at: number): number {
    return this.#view.getInt8(this.#place(at, 1));
  }
  getUint16(at: number, littleEndian = false): number {
    return this.#view.getUint16(this.#place(at, 2), littleEndian);
  }
  getInt16(at: number, littleEndian = false): number {
    return this.#view.getInt16(this.#place(at, 2), littleEndian);
  }
  getUint32(at: number, littleEndian = false): number {
    return this.#view.getUint32(this.#place(at, 4), littleEndian);
  }
  getInt32(at: number, littleEndian = false): number {
    return this.#view.getInt32(this.#place(at, 4), littleEndian);
  }
  getFloat32(at: number, littleEndian = false): number {
    return this.#view.getFloat32(this.#place(at, 4), littleEndian);
  }
  getFloat64(at: number, littleEndian = false): number {
    return this.#view.getFloat64(this.#place(at, 8), littleEndian);
  }
  getBigUint64(at: number, littleEndian = false): bigint {
    return this.#view.getBigUint64(this.#place(at, 8), littleEndian);
  }
  getBigInt64(at: number, littleEndian = false): bigint {
    return this.#view.getBigInt64(this.#place(at, 8), littleEndian);
  }

  /**
   * UTF-8 text from byte `from` (default: the first) up to, not including, byte `to` (default: the end). Bytes that are
   * not UTF-8 become U+FFFD, a byte order mark stays.
   *
   * @throws {RangeError} Outside of the record.
   */
  text(from = 0, to: number = this.byteLength): string {
    const start = this.#place(from, to - from);
    return UTF8.decode(this.#bytes.subarray(start, start + to - from));
  }

  /**
   * A copy of the bytes from `from` (default: the first) up to, not including, `to` (default: the end).
   *
   * @throws {RangeError} Outside of the record.
   */
  bytes(from = 0, to: number = this.byteLength): Uint8Array {
    const start = this.#place(from, to - from);
    return this.#bytes.slice(start, start + to - from);
  }

  /** For the engine: the chunk whose records follow. */
  openChunk(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#start = 0;
    this.#end = 0;
  }

  /** For the engine: the next record lies from `start` up to `end` in the chunk. */
  openRecord(start: number, end: number): void {
    this.#start = start;
    this.#end = end;
  }

  #place(at: number, length: number): number {
    const start = this.#start + at;
    if (!(at >= 0 && length >= 0 && start + length <= this.#end)) {
      throw new RangeError(`Cannot read ${length} bytes at ${at}: the record has ${this.byteLength} bytes`);
    }
    return start;
  }
}

const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });
