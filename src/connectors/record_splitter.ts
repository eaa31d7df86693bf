/**
 * Cuts what is read of a file into records, lines or frames, and tells how far each reaches in the file.
 *
 *   R1. Records are valid until the next push. Only what is incomplete is copied.
 *   R2. What a splitter keeps is at most one record of the longest length allowed and one chunk.
 */
import type { Framing, LineFraming } from "../api/framing.ts";
import { FrameSplitter } from "../wire/frame.ts";

export interface RecordSplitter {
  /** Complete records of the last push. */
  readonly count: number;
  /** Where record `i` lies in `bytes`; both longer than `count`. Read anew after each push. */
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly bytes: Uint8Array;
  /** Lines that were longer than allowed, and so left out: counted until somebody sets it back. Of a frame it can't be told where the next one begins. */
  leftOut: number;
  /** Bytes that wait for the rest of their record. */
  readonly pending: number;
  /** The length that a frame announced, when it is more than allowed; null: all is well. */
  push(chunk: Uint8Array): number | null;
  /** Nothing follows: what is pending may be a record, the only one of this call. */
  finish(): void;
  /**
   * Bytes of the file from behind the last record of earlier pushes to behind record `i`: header, line feed and all, and the
   * lines that were left out before the next record of this push.
   */
  spanThrough(i: number): number;
  /** The same to where record `i` begins, with its header. */
  startOf(i: number): number;
}

export function makeRecordSplitter(framing: Framing | LineFraming, lengthMax: number): RecordSplitter {
  return "kind" in framing ? new LineRecords(lengthMax) : new FrameRecords(framing, lengthMax);
}

class FrameRecords implements RecordSplitter {
  readonly #splitter: FrameSplitter;
  readonly #headerBytes: number;
  leftOut = 0;

  constructor({ headerBytes, littleEndian }: Framing, lengthMax: number) {
    this.#headerBytes = headerBytes;
    this.#splitter = new FrameSplitter({ header: { bytes: headerBytes, littleEndian }, lengthMax });
  }

  get count(): number {
    return this.#splitter.count;
  }
  get starts(): Uint32Array {
    return this.#splitter.starts;
  }
  get ends(): Uint32Array {
    return this.#splitter.ends;
  }
  get bytes(): Uint8Array {
    return this.#splitter.bytes;
  }
  get pending(): number {
    return this.#splitter.pending;
  }

  push(chunk: Uint8Array): number | null {
    const outcome = this.#splitter.push(chunk);
    return outcome === "ok" ? null : outcome.length;
  }

  finish(): void {
    this.#splitter.count = 0;
  }

  spanThrough(i: number): number {
    return this.#splitter.ends[i]! - this.#splitter.starts[0]! + this.#headerBytes;
  }

  startOf(i: number): number {
    return this.#splitter.starts[i]! - this.#splitter.starts[0]!;
  }
}

const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;
/** What is kept between pushes; what grew beyond it for one long line is given back. */
const IDLE_BYTES_MAX = 256 * 1024;
const NO_BYTES = new Uint8Array(0);

class LineRecords implements RecordSplitter {
  count = 0;
  starts = new Uint32Array(64);
  ends = new Uint32Array(64);
  bytes: Uint8Array = NO_BYTES;
  leftOut = 0;
  readonly #lengthMax: number;
  /** Holds the beginning of a line from `#from` on. What lies before it are records, until the next push. */
  #buffer: Uint8Array = NO_BYTES;
  #from = 0;
  pending = 0;
  /** The line that is on its way is too long: left out up to its end. */
  #skipping = false;
  /** Bytes of the file between the end of the last record and the first byte of `bytes`: of lines that are left out. */
  #lead = 0;
  /** The same before the bytes that the next push begins with. */
  #leadNext = 0;
  /** Where the line after the last record of this push begins. */
  #through = 0;

  constructor(lengthMax: number) {
    this.#lengthMax = lengthMax;
  }

  push(chunk: Uint8Array): null {
    const kept = this.pending;
    const bytes = kept === 0 ? chunk : this.#keep(chunk);
    this.bytes = bytes;
    this.count = 0;
    this.#lead = this.#leadNext;
    this.#through = 0;
    let start = 0;
    let at = bytes.indexOf(LINE_FEED, kept);
    while (at >= 0) {
      this.#line(start, at);
      start = at + 1;
      at = bytes.indexOf(LINE_FEED, start);
    }
    this.#leadNext = this.count === 0 ? this.#lead + start : start - this.#through;
    const rest = bytes.length - start;
    // One byte more than allowed may still be the carriage return before the line feed.
    if (this.#skipping || rest > this.#lengthMax + 1) {
      this.#skipping = true;
      this.#leadNext += rest;
      this.pending = 0;
    } else if (kept === 0) {
      this.#from = 0;
      this.#put(0, start === 0 ? chunk : chunk.subarray(start));
    } else {
      this.#from = start;
      this.pending = rest;
    }
    return null;
  }

  finish(): void {
    this.bytes = this.#buffer.subarray(this.#from, this.#from + this.pending);
    this.count = 0;
    this.#lead = this.#leadNext;
    if (this.#skipping) this.leftOut++;
    else if (this.pending > 0) this.#line(0, this.pending);
    this.#through = this.pending;
    this.pending = 0;
    this.#skipping = false;
  }

  spanThrough(i: number): number {
    return this.#lead + (i + 1 < this.count ? this.starts[i + 1]! : this.#through);
  }

  startOf(i: number): number {
    return this.#lead + this.starts[i]!;
  }

  #line(start: number, lineFeed: number): void {
    const end = lineFeed > start && this.bytes[lineFeed - 1] === CARRIAGE_RETURN ? lineFeed - 1 : lineFeed;
    if (this.#skipping || end - start > this.#lengthMax) {
      this.#skipping = false;
      this.leftOut++;
      return;
    }
    if (this.count === this.starts.length) this.#growPlaces();
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count++;
    this.#through = lineFeed + 1;
  }

  /** What was kept, with the chunk behind it. */
  #keep(chunk: Uint8Array): Uint8Array {
    if (this.#from > 0) this.#buffer.copyWithin(0, this.#from, this.#from + this.pending);
    this.#from = 0;
    this.#put(this.pending, chunk);
    return this.#buffer.subarray(0, this.pending);
  }

  #put(at: number, bytes: Uint8Array): void {
    const length = at + bytes.length;
    const idle = this.#buffer.length > IDLE_BYTES_MAX && length <= IDLE_BYTES_MAX / 2;
    if (length > this.#buffer.length || idle) {
      const grown = new Uint8Array(idle ? IDLE_BYTES_MAX / 2 : Math.max(length, 2 * at, 4096));
      grown.set(this.#buffer.subarray(0, at));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, at);
    this.pending = length;
  }

  #growPlaces(): void {
    const starts = new Uint32Array(this.starts.length * 4);
    const ends = new Uint32Array(this.starts.length * 4);
    starts.set(this.starts);
    ends.set(this.ends);
    this.starts = starts;
    this.ends = ends;
  }
}
