/**
 * One client of a connector source: its handshake, its streams, its credit.
 *
 *   greeting ──HELLO──▶ streaming
 *       └──────────────────┴── a fault, an ERROR, a rollback ──▶ closed
 *
 * N1. Nothing is taken from a client before its HELLO, nothing after it is closed.
 * N2. Every frame costs a credit. When few are left, or a checkpoint is acknowledged, the client gets back what it has used.
 *     Who sends without credit is not punished (back-pressure holds it), and gets it back as well: clients may say NOTIFY
 *     for many streams with less credit than that, and count it.
 * N3. A client whose NOTIFY was refused hears an ACK from time to time: that is when it tries again.
 * N4. The cookie is compared in constant time, and never shown.
 *
 * Frames to send are appended to `out`; records to hand on are places in the chunk that was given. When `closing` is set,
 * whoever owns the connection sends `out` and closes.
 */
import { ProtocolError } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import {
  type ConnectorFrame,
  decodeConnectorFrame,
  encodeConnectorFrame,
  MESSAGE_AT,
  SOURCE_VERSION,
  type StreamPoint,
  TAG,
} from "../../wire/connector.ts";
import { NOTHING, pointToWire } from "../../wire/point.ts";
import type { SourceStream, SourceStreams } from "./source_streams.ts";
import type { RefusalReason } from "./stream_registry.ts";

export interface SourceConnectionOptions {
  readonly cookie: Uint8Array;
  /** From 1. */
  readonly maxCredits: number;
  /** The client gets credit back when no more than these are left. */
  readonly refillCredits: number;
}

/** Records in a chunk: MESSAGE `i` begins with its tag at `frames[i]`; its body lies from `starts[i]` to `ends[i]`. */
export interface MessagePlaces {
  readonly count: number;
  readonly frames: Uint32Array;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

/** Why it is closed, for the log. */
export interface Closing {
  readonly code:
    | "bad_cookie"
    | "bad_message"
    | "bad_state"
    | "bad_version"
    | "client_error"
    | "rolled_back"
    | "unknown_stream";
  readonly text: string;
}

class Places implements MessagePlaces {
  count = 0;
  frames = new Uint32Array(64);
  starts = new Uint32Array(64);
  ends = new Uint32Array(64);

  add(frame: number, start: number, end: number): void {
    if (this.count === this.frames.length) {
      this.frames = grown(this.frames);
      this.starts = grown(this.starts);
      this.ends = grown(this.ends);
    }
    this.frames[this.count] = frame;
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count++;
  }
}

export class SourceConnection {
  readonly #options: SourceConnectionOptions;
  readonly #streams: SourceStreams;
  /** Frames for the client, whole ones. */
  readonly out = new ByteWriter();
  readonly #places = new Places();
  /** Open and closing ones. */
  readonly #own = new Map<bigint, SourceStream>();
  /** NOTIFYs without an answer: what the client said of its point. */
  readonly #notified = new Map<bigint, bigint>();
  #state: "greeting" | "streaming" | "closed" = "greeting";
  #remaining = 0;
  /** The stream of the last message, by the halves of its id: most come in runs. */
  #lastHigh = -1;
  #lastLow = 0;
  #last: SourceStream | null = null;
  /** N3: a NOTIFY was refused, and no ACK was sent since. */
  owesAck = false;
  closing: Closing | null = null;
  /** As the client calls itself, for people. */
  client = "";

  constructor(options: SourceConnectionOptions, streams: SourceStreams) {
    this.#options = options;
    this.#streams = streams;
  }

  get greeted(): boolean {
    return this.#state !== "greeting";
  }

  /** Credits that the client has left, by our count; negative when it sent without. */
  get remaining(): number {
    return this.#remaining;
  }

  /**
   * Takes whole frames: `count` of them, frame `i` from `starts[i]` to `ends[i]` of `bytes`.
   *
   * @returns the records to hand on, in order; valid until the next call.
   */
  receive(bytes: Uint8Array, starts: Uint32Array, ends: Uint32Array, count: number): MessagePlaces {
    const places = this.#places;
    places.count = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < count && this.#state !== "closed"; i++) {
      this.#remaining--;
      const start = starts[i]!;
      const end = ends[i]!;
      if (start < end && bytes[start] === TAG.message && this.#state === "streaming") {
        this.#message(view, start, end);
      } else this.#frame(bytes.subarray(start, end));
    }
    return places;
  }

  /** At the end of a turn: gives credit back, if few are left. */
  topUp(): void {
    if (this.#state === "streaming" && this.#remaining <= this.#options.refillCredits) this.#ack([]);
  }

  /** N3: it is time. */
  remind(): void {
    if (this.#state === "streaming" && this.owesAck) this.#ack([], true);
  }

  /** A checkpoint covers more (`SourceStreams.cover`). Streams that ended before its barrier are over. */
  acknowledge(): void {
    if (this.#state !== "streaming") return;
    const points: StreamPoint[] = [];
    for (const stream of this.#own.values()) {
      const { state } = stream;
      const over = state.kind === "closing" && state.inCut;
      const point = stream.acknowledgeable;
      // Of a stream without data there is nothing to say, but that it is over.
      if (point !== NOTHING || over) points.push({ stream: stream.id, point: pointToWire(point) });
      if (over) this.#forget(stream);
    }
    this.#ack(points);
  }

  granted(stream: SourceStream): void {
    this.#notified.delete(stream.id);
    this.#own.set(stream.id, stream);
    this.#send({ kind: "notify_ack", success: true, stream: stream.id, point: pointToWire(stream.covered) });
  }

  refused(stream: bigint, _reason: RefusalReason): void {
    const point = this.#notified.get(stream) ?? 0n;
    this.#notified.delete(stream);
    this.#refuse(stream, point);
  }

  /** A rollback: the client starts again at `address`. One that has not said HELLO has nothing to start again. */
  restart(address: string): void {
    if (this.#state !== "streaming") return;
    this.#send({ kind: "restart", address });
    this.#close("rolled_back", "the cluster rolls back; the client was told to start again");
  }

  /** It is gone: its streams are free. */
  disconnected(): void {
    this.#state = "closed";
    this.#own.clear();
    this.#notified.clear();
    this.#last = null;
    this.#streams.releaseAll(this);
  }

  #message(view: DataView, start: number, end: number): void {
    const body =
      end - start < MESSAGE_AT.key ? -1 : start + MESSAGE_AT.key + view.getUint16(start + MESSAGE_AT.keyLength);
    if (body < 0 || body > end) return this.#fault("bad_message", "Unable to decode message");
    const streamHigh = view.getUint32(start + MESSAGE_AT.stream);
    const streamLow = view.getUint32(start + MESSAGE_AT.stream + 4);
    const idHigh = view.getUint32(start + MESSAGE_AT.id);
    const idLow = view.getUint32(start + MESSAGE_AT.id + 4);
    let stream = this.#last;
    if (stream === null || streamLow !== this.#lastLow || streamHigh !== this.#lastHigh) {
      stream = this.#own.get(view.getBigUint64(start + MESSAGE_AT.stream)) ?? null;
      this.#last = stream;
      this.#lastHigh = streamHigh;
      this.#lastLow = streamLow;
    }
    // No message has the id that means "nothing".
    if (stream === null || stream.state.kind !== "open" || (idHigh === 0xffff_ffff && idLow === 0xffff_ffff)) {
      const id = view.getBigUint64(start + MESSAGE_AT.id);
      const which = view.getBigUint64(start + MESSAGE_AT.stream);
      return this.#fault("unknown_stream", `Bad/unregistered stream_id ${which} with message_id ${id}`);
    }
    if (idHigh > stream.throughHigh || (idHigh === stream.throughHigh && idLow > stream.throughLow)) {
      stream.throughHigh = idHigh;
      stream.throughLow = idLow;
    }
    if (idHigh < stream.seenHigh || (idHigh === stream.seenHigh && idLow <= stream.seenLow)) {
      this.#streams.duplicates++;
      return;
    }
    stream.seenHigh = idHigh;
    stream.seenLow = idLow;
    if (body < end) this.#places.add(start, body, end);
  }

  #frame(bytes: Uint8Array): void {
    let frame: ConnectorFrame;
    try {
      frame = decodeConnectorFrame(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#fault("bad_message", "Unable to decode message", error.message);
    }
    switch (frame.kind) {
      case "error":
        return this.#close("client_error", `the client said: ${printable(frame.text)}`);
      case "ok":
      case "notify_ack":
      case "ack":
      case "restart":
        return this.#fault("bad_state", `Invalid message: ${frame.kind}`);
      case "workers_left":
        return;
      case "hello":
        return this.#hello(frame);
      case "notify":
        if (this.#state !== "streaming") break;
        return this.#notify(frame.stream, frame.point);
      case "end_of_stream":
        if (this.#state !== "streaming") break;
        return this.#endOfStream(frame.stream);
      case "message":
        // Here before the HELLO alone.
        break;
    }
    this.#fault("bad_state", "Bad protocol FSM state", `${frame.kind} came before hello`);
  }

  #hello({ version, cookie, program, instance }: ConnectorFrame & { kind: "hello" }): void {
    if (this.#state === "streaming") return this.#fault("bad_state", "Bad protocol FSM state", "a second hello came");
    this.client = `${printable(program, 64)} ${printable(instance, 64)}`;
    if (version !== SOURCE_VERSION) {
      return this.#fault("bad_version", `Unknown protocol version: ${printable(version, 64)}`);
    }
    if (!sameInConstantTime(cookie, this.#options.cookie)) return this.#fault("bad_cookie", "Bad cookie");
    const { maxCredits } = this.#options;
    this.#state = "streaming";
    this.#remaining = maxCredits;
    this.#send({ kind: "ok", credits: maxCredits });
  }

  #notify(stream: bigint, point: bigint): void {
    if (!this.#streams.claim(this, stream)) return this.#refuse(stream, point);
    this.#notified.set(stream, point);
  }

  #endOfStream(id: bigint): void {
    const stream = this.#own.get(id);
    if (stream?.state.kind !== "open") {
      return this.#fault("bad_message", "Unable to decode message", `stream ${id} ended, which is not open here`);
    }
    const { through } = stream;
    if (!this.#streams.end(stream)) return;
    this.#forget(stream);
    // Without credits: that is how clients of old saw it.
    this.#send({ kind: "ack", credits: 0, points: [{ stream: id, point: pointToWire(through) }] });
    this.owesAck = false;
  }

  #forget(stream: SourceStream): void {
    this.#own.delete(stream.id);
    this.#last = null;
    this.#streams.release(stream);
  }

  #refuse(stream: bigint, point: bigint): void {
    this.owesAck = true;
    this.#streams.refusals++;
    this.#send({ kind: "notify_ack", success: false, stream, point });
  }

  #ack(points: readonly StreamPoint[], always = false): void {
    const credits = Math.min(this.#options.maxCredits - this.#remaining, 0xffff_ffff);
    if (credits === 0 && points.length === 0 && !always) return;
    this.#remaining = this.#options.maxCredits;
    this.owesAck = false;
    this.#send({ kind: "ack", credits, points });
  }

  /** `text` goes to the client, `detail` to the log. */
  #fault(code: Closing["code"], text: string, detail?: string): void {
    this.#send({ kind: "error", text });
    this.#close(code, detail === undefined ? text : `${text}: ${detail}`);
  }

  #close(code: Closing["code"], text: string): void {
    this.#state = "closed";
    this.closing = { code, text };
  }

  /** Nothing follows an ERROR or a RESTART: an answer of the registry may come behind it. */
  #send(frame: ConnectorFrame): void {
    if (this.#state === "closed") return;
    encodeConnectorFrame(frame, this.out);
  }
}

/** Takes as long as the longer one, wherever they differ. */
function sameInConstantTime(theirs: Uint8Array, ours: Uint8Array): boolean {
  const length = Math.max(theirs.length, ours.length);
  let difference = theirs.length ^ ours.length;
  for (let i = 0; i < length; i++) difference |= (theirs[i] ?? 0) ^ (ours[i] ?? 0);
  return difference === 0;
}

function grown(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 4);
  larger.set(array);
  return larger;
}
