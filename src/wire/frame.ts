// Length-prefixed frames: a header with the payload's length, then the payload.
//
//   F1. Nothing is allocated by an announced length. A buffer grows with the bytes that came.
//   F2. A frame longer than the limit is known from its header, before its payload is kept.
//   F3. A push costs no object, closure or promise per frame: places of frames are numbers in two arrays.

import { assert } from "../base/assert.ts";

/** How the length before each payload is written. The length never counts the header itself. */
export interface HeaderFormat {
  /** 1 to 8. */
  readonly bytes: number;
  /** Default: big-endian. */
  readonly littleEndian?: boolean;
}

/** The header of all protocols of the cluster itself: u32, big-endian. */
export const HEADER_U32: HeaderFormat = { bytes: 4 };

/** A header announced more than the limit. The stream has no known frame borders behind it: close the connection. */
export interface FrameTooLarge {
  readonly kind: "frame_too_large";
  /** As announced; above 2^53 rounded. */
  readonly length: number;
  readonly lengthMax: number;
}

export interface FrameSplitterOptions {
  /** Default: u32, big-endian. */
  readonly header?: HeaderFormat;
  /** Largest payload in bytes. A payload of exactly this length is legal. */
  readonly lengthMax: number;
}

/** What a splitter keeps when it is idle; what grew beyond it for one large frame is given back afterwards. */
const IDLE_CAPACITY_MAX = 256 * 1024;

const EMPTY: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/**
 * Cuts a stream of bytes into frames.
 *
 * ```ts
 * const outcome = splitter.push(chunk);
 * for (let i = 0; i < splitter.count; i++) handle(splitter.bytes, splitter.starts[i]!, splitter.ends[i]!);
 * if (outcome !== "ok") close(outcome);
 * ```
 *
 * `bytes` is the chunk itself when it begins at the start of a frame. When the chunk before it ended inside of a frame,
 * `bytes` is the splitter's own buffer, into which the chunk was copied behind that piece: copying 64 KiB costs a few
 * microseconds, and every caller deals with one buffer. Frames are valid until the next push, and no longer than the
 * chunk. An empty payload is a frame with `starts[i] === ends[i]`.
 */
export class FrameSplitter {
  /** Complete frames of the last push. */
  count = 0;
  /** Where payload `i` begins in `bytes`. Longer than `count`. Read anew after each push: it may have been replaced. */
  starts = new Uint32Array(64);
  /** Where payload `i` ends in `bytes` (exclusive). */
  ends = new Uint32Array(64);
  bytes: Uint8Array = EMPTY;

  readonly lengthMax: number;
  readonly #headerBytes: number;
  readonly #littleEndian: boolean;
  /** Holds the incomplete frame from `#from` to `#to`. */
  #buffer = EMPTY;
  #from = 0;
  #to = 0;
  /** Bytes of the incomplete frame, header included; before its header is complete, the header's size. */
  #wanted: number;
  #failure: FrameTooLarge | null = null;

  constructor(options: FrameSplitterOptions) {
    const header = options.header ?? HEADER_U32;
    assert(Number.isInteger(header.bytes) && header.bytes >= 1 && header.bytes <= 8, "a frame header has 1 to 8 bytes");
    assert(options.lengthMax >= 0 && options.lengthMax <= 0x7fff_ffff, "a frame limit is from 0 to 2^31 - 1");
    this.lengthMax = options.lengthMax;
    this.#headerBytes = header.bytes;
    this.#littleEndian = header.littleEndian ?? false;
    this.#wanted = header.bytes;
  }

  /** Bytes of an incomplete frame that wait for the rest. More than 0: the stream may not end here. */
  get pending(): number {
    return this.#to - this.#from;
  }

  /** After a failure the frames before it are there, and every later push fails the same way without any. */
  push(chunk: Uint8Array): "ok" | FrameTooLarge {
    this.count = 0;
    if (this.#failure !== null) return this.#failure;
    const pending = this.#to - this.#from;
    if (pending === 0) {
      this.bytes = chunk;
      const rest = this.#scan(chunk, 0, chunk.length);
      this.#from = 0;
      this.#to = 0;
      if (this.#failure !== null) return this.#failure;
      if (rest < chunk.length) this.#keep(chunk, rest);
      return "ok";
    }
    this.#keep(chunk, 0);
    this.bytes = this.#buffer;
    // The middle of a large frame: nothing to look at yet.
    if (this.#to - this.#from < this.#wanted) return "ok";
    this.#from = this.#scan(this.#buffer, this.#from, this.#to);
    if (this.#failure === null) return "ok";
    this.#from = this.#to;
    return this.#failure;
  }

  /** Finds frames in `bytes[at, end)`. Returns where the first incomplete one begins. */
  #scan(bytes: Uint8Array, from: number, end: number): number {
    const headerBytes = this.#headerBytes;
    const lengthMax = this.lengthMax;
    const plain = headerBytes === 4 && !this.#littleEndian;
    let starts = this.starts;
    let ends = this.ends;
    let count = 0;
    let at = from;
    let wanted = headerBytes;
    while (end - at >= headerBytes) {
      const length = plain
        ? ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
        : this.#length(bytes, at);
      if (length > lengthMax) {
        this.#failure = { kind: "frame_too_large", length, lengthMax };
        this.#buffer = EMPTY;
        break;
      }
      const start = at + headerBytes;
      const next = start + length;
      if (next > end) {
        wanted = headerBytes + length;
        break;
      }
      if (count === starts.length) {
        this.#growPlaces();
        starts = this.starts;
        ends = this.ends;
      }
      starts[count] = start;
      ends[count] = next;
      count++;
      at = next;
    }
    this.count = count;
    this.#wanted = wanted;
    return at;
  }

  #length(bytes: Uint8Array, at: number): number {
    let length = 0;
    if (this.#littleEndian) for (let i = this.#headerBytes - 1; i >= 0; i--) length = length * 256 + bytes[at + i]!;
    else for (let i = 0; i < this.#headerBytes; i++) length = length * 256 + bytes[at + i]!;
    return length;
  }

  #growPlaces(): void {
    const starts = new Uint32Array(this.starts.length * 4);
    const ends = new Uint32Array(this.starts.length * 4);
    starts.set(this.starts);
    ends.set(this.ends);
    this.starts = starts;
    this.ends = ends;
  }

  /** Puts `chunk[start, end of chunk)` behind the incomplete frame. */
  #keep(chunk: Uint8Array, start: number): void {
    const pending = this.#to - this.#from;
    const needed = pending + chunk.length - start;
    let buffer = this.#buffer;
    const idle = buffer.length > IDLE_CAPACITY_MAX && needed <= IDLE_CAPACITY_MAX / 2;
    if (needed > buffer.length || idle) {
      // While a frame is incomplete at most that frame and the end of one chunk are held, so that doubling stays bounded.
      buffer = new Uint8Array(idle ? needed : Math.max(needed, Math.min(buffer.length * 2, needed * 2)));
      buffer.set(this.#buffer.subarray(this.#from, this.#to));
      this.#buffer = buffer;
      this.#from = 0;
    } else if (this.#from + needed > buffer.length) {
      buffer.copyWithin(0, this.#from, this.#to);
      this.#from = 0;
    }
    buffer.set(start === 0 ? chunk : chunk.subarray(start), this.#from + pending);
    this.#to = this.#from + needed;
  }
}

/** One frame as bytes of its own. The payload's length must fit the header. */
export function encodeFrame(payload: Uint8Array, header: HeaderFormat = HEADER_U32): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(header.bytes + payload.length);
  writeFrameHeader(frame, 0, payload.length, header);
  frame.set(payload, header.bytes);
  return frame;
}

/** Writes the header for a payload of `length` bytes to `target[at, at + header.bytes)`. */
export function writeFrameHeader(
  target: Uint8Array,
  at: number,
  length: number,
  header: HeaderFormat = HEADER_U32,
): void {
  assert(length < 256 ** header.bytes, "the payload is too long for its header");
  let rest = length;
  for (let i = 0; i < header.bytes; i++) {
    target[header.littleEndian ? at + i : at + header.bytes - 1 - i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}
