import type { DiskFile } from "../../runtime/runtime.ts";
import {
  decodeRecordHeader,
  decodeSegmentHeader,
  RECORD_HEADER_BYTES,
  RECORD_MARK,
  type RecordHeader,
  recordChecksum,
  SEGMENT_HEADER_BYTES_MAX,
  type SegmentHeaderOutcome,
} from "./segment_format.ts";

/** How much is read at once. */
const WINDOW_BYTES = 1024 * 1024;
const RECORD_MARK_FIRST = RECORD_MARK >>> 24;
/** What a search for whole records may take checksums of: so many times the file, and at least so much. */
const SEARCHED_TIMES = 2;
const SEARCHED_BYTES_MIN = 256 * 1024;

export interface ReadRecord extends RecordHeader {
  readonly kind: number;
  /** Where it begins in the file, and where the next one does. */
  readonly offset: number;
  readonly end: number;
  /** Valid until the next read. */
  readonly body: Uint8Array;
}

export type ReadOutcome =
  | { readonly outcome: "record"; readonly record: ReadRecord }
  | { readonly outcome: "end" }
  | { readonly outcome: "bad"; readonly offset: number; readonly why: string };

/** Reads a segment from its beginning, through a window. Nothing is trusted but by its checksum. */
export class SegmentReader {
  /** Where the next record begins. */
  offset = 0;
  readonly length: number;
  readonly #file: DiskFile;
  #window: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(this.#window.buffer);
  #windowAt = 0;
  /** Bytes that `resync` has taken checksums of. */
  #searched = 0;

  private constructor(file: DiskFile, length: number) {
    this.#file = file;
    this.length = length;
  }

  /** @param lengthMax What lies behind it is not looked at. */
  static async of(file: DiskFile, lengthMax = Number.POSITIVE_INFINITY): Promise<SegmentReader> {
    return new SegmentReader(file, Math.min(lengthMax, await file.length()));
  }

  /** To be called first. */
  async header(): Promise<SegmentHeaderOutcome> {
    await this.#ensure(0, Math.min(this.length, SEGMENT_HEADER_BYTES_MAX));
    const outcome = decodeSegmentHeader(this.#window);
    if (outcome.kind === "ok") this.offset = outcome.bytes;
    return outcome;
  }

  /** The next record without waiting; `null`: call `fill` first. */
  take(): ReadOutcome | null {
    const at = this.offset;
    const rest = this.length - at;
    if (rest === 0) return { outcome: "end" };
    if (rest < RECORD_HEADER_BYTES) return { outcome: "bad", offset: at, why: `a record is cut short at its header` };
    if (!this.#has(at, RECORD_HEADER_BYTES)) return null;
    const header = decodeRecordHeader(this.#view, at - this.#windowAt);
    if (header === null) return { outcome: "bad", offset: at, why: "no record begins there" };
    const bytes = RECORD_HEADER_BYTES + header.bodyBytes;
    if (bytes > rest) {
      const why = `a record is cut short: ${bytes} bytes announced, ${rest} there`;
      return { outcome: "bad", offset: at, why };
    }
    if (!this.#has(at, bytes)) return null;
    const from = at - this.#windowAt;
    const record = this.#window.subarray(from, from + bytes);
    const checksum = recordChecksum(record);
    if (checksum !== header.checksum) return { outcome: "bad", offset: at, why: "the checksum of a record is wrong" };
    this.offset = at + bytes;
    return {
      outcome: "record",
      record: { ...header, offset: at, end: at + bytes, body: record.subarray(RECORD_HEADER_BYTES) },
    };
  }

  /** Reads on, so that `take` has an answer. */
  async fill(): Promise<void> {
    await this.#ensure(this.offset, Math.min(RECORD_HEADER_BYTES, this.length - this.offset));
    const header = decodeRecordHeader(this.#view, this.offset - this.#windowAt);
    if (header === null) return;
    const bytes = RECORD_HEADER_BYTES + header.bodyBytes;
    await this.#ensure(this.offset, Math.min(bytes, this.length - this.offset));
  }

  /** The next record. */
  async next(): Promise<ReadOutcome> {
    for (;;) {
      const taken = this.take();
      if (taken !== null) return taken;
      await this.fill();
    }
  }

  /**
   * Looks for a whole record behind a bad place, byte by byte; `null`: there is none up to the end. `cannot_tell`: so much
   * looks like the beginning of a record and is none that the search was given up (a state may hold anything, also what
   * looks like a segment).
   */
  async resync(): Promise<ReadRecord | "cannot_tell" | null> {
    for (this.offset++; this.offset + RECORD_HEADER_BYTES <= this.length; this.offset++) {
      if (!this.#has(this.offset, 4))
        await this.#ensure(this.offset, Math.min(WINDOW_BYTES, this.length - this.offset));
      const from = this.offset - this.#windowAt;
      const at = this.#window.indexOf(RECORD_MARK_FIRST, from);
      // A mark may begin in the last three bytes of the window: they are looked at again in the next one.
      const next = at < 0 ? this.#window.length - 3 : Math.min(at, this.#window.length - 3);
      if (next > from) {
        this.offset = this.#windowAt + next - 1;
        continue;
      }
      if (this.#view.getUint32(from) !== RECORD_MARK) continue;
      const rest = this.length - this.offset;
      await this.#ensure(this.offset, RECORD_HEADER_BYTES);
      const header = decodeRecordHeader(this.#view, this.offset - this.#windowAt);
      if (header === null || header.bodyBytes > rest) continue;
      this.#searched += header.bodyBytes;
      if (this.#searched > SEARCHED_TIMES * this.length + SEARCHED_BYTES_MIN) return "cannot_tell";
      const found = await this.next();
      if (found.outcome === "record") return found.record;
    }
    return null;
  }

  #has(offset: number, length: number): boolean {
    return offset >= this.#windowAt && offset + length <= this.#windowAt + this.#window.length;
  }

  async #ensure(offset: number, length: number): Promise<void> {
    if (this.#has(offset, length)) return;
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.length - offset);
    const read = await this.#file.readAt(offset, wanted);
    if (read.length < wanted) throw new Error(`it has become shorter while it was read: ${offset + read.length} bytes`);
    this.#window = read;
    this.#view = new DataView(read.buffer, read.byteOffset, read.byteLength);
    this.#windowAt = offset;
  }
}
