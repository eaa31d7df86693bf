// What follows the handshake on control and data connections: the frames of a link (`docs/protocol/links.md`).
//
//   u32 length | u8 kind | fields
//
//   1 payload     u8 payload kind | u16 exchange | u32 generation | f64 sequence | bytes
//   2 ack         f64 through
//   3 credit      u16 exchange | f64 limit
//   4 heartbeat
//   5 goodbye     UTF-8 text, at most 256 bytes
//   6 resume      f64 oldest unacknowledged | f64 received through
//
//   L1. Nothing is allocated by an announced length beyond 256 KiB: a body grows with the bytes that came.
//   L2. The body of a batch is handed over where it is: among the bytes that were read, or, when it came in pieces, in a buffer
//       that is used for the next one. Whoever keeps it copies it; most batches are taken in at once. Any other body is an
//       array of its own.

import { ProtocolError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import { decodeUtf8 } from "./byte_reader.ts";

export const PAYLOAD_KINDS = ["control_message", "batch", "end_of_input", "barrier"] as const;
export type PayloadKind = (typeof PAYLOAD_KINDS)[number];

/** As its kind is written in a payload. */
const BATCH = PAYLOAD_KINDS.indexOf("batch") + 1;

/** The body of a barrier: its epoch, f64. */
const BARRIER_BYTES = 8;

export function encodeBarrier(epoch: Epoch): Uint8Array {
  const bytes = new Uint8Array(BARRIER_BYTES);
  new DataView(bytes.buffer).setFloat64(0, epoch);
  return bytes;
}

/** @throws {ProtocolError} `bad_frame`: no whole number from 1. */
export function decodeBarrier(bytes: Uint8Array): Epoch {
  const epoch = new DataView(bytes.buffer, bytes.byteOffset, BARRIER_BYTES).getFloat64(0);
  if (!Number.isSafeInteger(epoch) || epoch < 1) throw new ProtocolError("bad_frame", `a barrier of epoch ${epoch}`);
  return epoch;
}

/** Length, kind and fields of a payload frame: what comes before its bytes. */
export const PAYLOAD_HEADER_BYTES = 20;
/** The largest frame that is no payload, length included. */
export const SMALL_FRAME_BYTES_MAX = 4 + 1 + 256;

const PAYLOAD = 1;
const ACK = 2;
const CREDIT = 3;
const HEARTBEAT = 4;
const GOODBYE = 5;
const RESUME = 6;

const GOODBYE_BYTES_MAX = SMALL_FRAME_BYTES_MAX - 5;
/** Bytes behind the length that every frame of a kind has; for a goodbye and a payload the least. */
const LENGTH_MIN: readonly number[] = [0, 16, 9, 11, 1, 1, 17];
/** What is allocated for a body before any of its bytes came. */
const BODY_FIRST_BYTES_MAX = 256 * 1024;
const NO_BYTES = new Uint8Array(0);

/** Takes the frames as they come. A throw ends the connection; nothing of what follows is delivered. */
export interface LinkFrames {
  /** `false`: nothing more is wanted from this connection, the rest of what was read is dropped. */
  readonly open: boolean;
  /** `bytes` are the taker's to keep; those of a batch are valid during the call only. */
  payload(kind: PayloadKind, exchange: number, generation: number, sequence: number, bytes: Uint8Array): void;
  ack(through: number): void;
  credit(exchange: number, limit: number): void;
  heartbeat(): void;
  goodbye(reason: string): void;
  resume(oldestUnacked: number, receivedThrough: number): void;
}

/** The part of a payload frame before its bytes. Needs `PAYLOAD_HEADER_BYTES` at `at`; returns where the bytes go. */
export function writePayloadHeader(
  target: DataView,
  at: number,
  kind: PayloadKind,
  exchange: number,
  generation: number,
  sequence: number,
  byteCount: number,
): number {
  target.setUint32(at, PAYLOAD_HEADER_BYTES - 4 + byteCount);
  target.setUint8(at + 4, PAYLOAD);
  target.setUint8(at + 5, PAYLOAD_KINDS.indexOf(kind) + 1);
  target.setUint16(at + 6, exchange);
  target.setUint32(at + 8, generation);
  target.setFloat64(at + 12, sequence);
  return at + PAYLOAD_HEADER_BYTES;
}

/** These need `SMALL_FRAME_BYTES_MAX` at `at` and return where the next frame goes. */
export function writeAck(target: DataView, at: number, through: number): number {
  target.setUint32(at, 9);
  target.setUint8(at + 4, ACK);
  target.setFloat64(at + 5, through);
  return at + 13;
}

export function writeCredit(target: DataView, at: number, exchange: number, limit: number): number {
  target.setUint32(at, 11);
  target.setUint8(at + 4, CREDIT);
  target.setUint16(at + 5, exchange);
  target.setFloat64(at + 7, limit);
  return at + 15;
}

export function writeHeartbeat(target: DataView, at: number): number {
  target.setUint32(at, 1);
  target.setUint8(at + 4, HEARTBEAT);
  return at + 5;
}

/** A longer reason is cut. */
export function writeGoodbye(target: DataView, at: number, reason: string): number {
  const room = new Uint8Array(target.buffer, target.byteOffset + at + 5, GOODBYE_BYTES_MAX);
  const { written } = new TextEncoder().encodeInto(reason, room);
  target.setUint32(at, 1 + written);
  target.setUint8(at + 4, GOODBYE);
  return at + 5 + written;
}

export function writeResume(target: DataView, at: number, oldestUnacked: number, receivedThrough: number): number {
  target.setUint32(at, 17);
  target.setUint8(at + 4, RESUME);
  target.setFloat64(at + 5, oldestUnacked);
  target.setFloat64(at + 13, receivedThrough);
  return at + 21;
}

/** Cuts the bytes of one connection into link frames. */
export class LinkReader {
  readonly #bodyBytesMax: number;
  /** The frame that is not complete, up to its body. */
  readonly #head = new Uint8Array(SMALL_FRAME_BYTES_MAX);
  readonly #view = new DataView(this.#head.buffer);
  #headLength = 0;
  /** How much of the head is needed for the next step. */
  #headWanted = 5;
  /** The body of a payload, once its head is complete. */
  #body: Uint8Array | null = null;
  #bodyLength = 0;
  #bodyWanted = 0;
  /** For the bodies of batches that come in pieces. */
  #pieces: Uint8Array = NO_BYTES;

  /** @param bodyBytesMax Largest body of a payload; one of exactly that length is legal. */
  constructor(bodyBytesMax: number) {
    this.#bodyBytesMax = bodyBytesMax;
  }

  /**
   * `chunk` is not kept.
   *
   * @throws {ProtocolError} `frame_too_large`, `bad_frame`, `bad_text`, and what `frames` throws. The reader is of no use
   * afterwards.
   */
  push(chunk: Uint8Array, frames: LinkFrames): void {
    let at = 0;
    while (at < chunk.length && frames.open) {
      if (this.#body !== null) {
        at = this.#takeBody(chunk, at, frames);
        continue;
      }
      while (this.#headLength < this.#headWanted && at < chunk.length) this.#head[this.#headLength++] = chunk[at++]!;
      if (this.#headLength < this.#headWanted) return;
      if (this.#headWanted === 5) this.#headWanted = this.#judgeLength();
      if (this.#headLength < this.#headWanted) continue;
      if (this.#head[4] === PAYLOAD) at = this.#beginBody(chunk, at, frames);
      else this.#takeSmall(frames);
    }
  }

  /** Returns how many bytes of head this frame has. */
  #judgeLength(): number {
    const length = this.#view.getUint32(0);
    const kind = this.#head[4]!;
    const least = LENGTH_MIN[kind];
    if (least === undefined || kind === 0) throw bad(`kind ${kind} is unknown`);
    const most =
      kind === PAYLOAD
        ? PAYLOAD_HEADER_BYTES - 4 + this.#bodyBytesMax
        : kind === GOODBYE
          ? 1 + GOODBYE_BYTES_MAX
          : least;
    if (length > most) {
      const sentence = `a link frame of ${length} bytes is refused: at most ${most} are allowed for kind ${kind}`;
      throw new ProtocolError("frame_too_large", sentence);
    }
    if (length < least) throw bad(`${length} bytes are too few for kind ${kind}`);
    return kind === PAYLOAD ? PAYLOAD_HEADER_BYTES : 4 + length;
  }

  /** Returns where in the chunk the next frame begins, or the body goes on. */
  #beginBody(chunk: Uint8Array, at: number, frames: LinkFrames): number {
    const wanted = this.#view.getUint32(0) - (PAYLOAD_HEADER_BYTES - 4);
    this.#bodyWanted = wanted;
    this.#bodyLength = 0;
    if (this.#head[5] !== BATCH) {
      this.#body = wanted === 0 ? NO_BYTES : new Uint8Array(Math.min(wanted, BODY_FIRST_BYTES_MAX));
      if (wanted === 0) this.#takePayload(NO_BYTES, frames);
      return at;
    }
    if (wanted <= chunk.length - at) {
      this.#takePayload(chunk.subarray(at, at + wanted), frames);
      return at + wanted;
    }
    const first = Math.min(wanted, BODY_FIRST_BYTES_MAX);
    if (this.#pieces.length < first) this.#pieces = new Uint8Array(first);
    this.#body = this.#pieces;
    return at;
  }

  #takeBody(chunk: Uint8Array, at: number, frames: LinkFrames): number {
    let body = this.#body!;
    if (this.#bodyLength === body.length) {
      const grown = new Uint8Array(Math.min(this.#bodyWanted, body.length * 2));
      grown.set(body);
      this.#body = grown;
      body = grown;
    }
    const count = Math.min(body.length - this.#bodyLength, this.#bodyWanted - this.#bodyLength, chunk.length - at);
    body.set(at === 0 && count === chunk.length ? chunk : chunk.subarray(at, at + count), this.#bodyLength);
    this.#bodyLength += count;
    if (this.#bodyLength === this.#bodyWanted) {
      this.#takePayload(body.length === this.#bodyWanted ? body : body.subarray(0, this.#bodyWanted), frames);
    }
    return at + count;
  }

  #takePayload(body: Uint8Array, frames: LinkFrames): void {
    const kindNumber = this.#head[5]!;
    const kind = PAYLOAD_KINDS[kindNumber - 1];
    if (kind === undefined) throw bad(`payload kind ${kindNumber} is unknown`);
    const exchange = this.#view.getUint16(6);
    if (kind === "control_message" && exchange !== 0) throw bad(`a control message names exchange ${exchange}`);
    if (kind === "end_of_input" && this.#bodyWanted !== 0) throw bad("an end of input has a body");
    if (kind === "barrier" && this.#bodyWanted !== BARRIER_BYTES) throw bad("a barrier is eight bytes: its epoch");
    const generation = this.#view.getUint32(8);
    const sequence = this.#count(12, "sequence number");
    this.#endFrame();
    frames.payload(kind, exchange, generation, sequence, body);
  }

  #takeSmall(frames: LinkFrames): void {
    const view = this.#view;
    const kind = this.#head[4]!;
    const length = this.#headLength;
    this.#endFrame();
    switch (kind) {
      case ACK:
        frames.ack(this.#count(5, "acknowledged number"));
        break;
      case CREDIT:
        frames.credit(view.getUint16(5), this.#count(7, "credit limit"));
        break;
      case HEARTBEAT:
        frames.heartbeat();
        break;
      case GOODBYE:
        frames.goodbye(decodeUtf8("the goodbye", this.#head.subarray(5, length)));
        break;
      case RESUME: {
        const oldest = this.#count(5, "oldest unacknowledged number");
        if (oldest === 0) throw bad("payloads are numbered from 1, its oldest unacknowledged one is 0");
        frames.resume(oldest, this.#count(13, "received number"));
        break;
      }
    }
  }

  #endFrame(): void {
    this.#headLength = 0;
    this.#headWanted = 5;
    this.#body = null;
  }

  #count(at: number, what: string): number {
    const value = this.#view.getFloat64(at);
    if (!Number.isSafeInteger(value) || value < 0) throw bad(`its ${what} is ${value}`);
    return value;
  }
}

function bad(why: string): ProtocolError {
  return new ProtocolError("bad_frame", `a link frame is refused: ${why}`);
}
