// One connection of the external channel.
//
//   X1. Requests are carried out in the order they came, and answered in that order: answers have no request id.
//   X2. A request that has come is carried out, also when the client has closed its side already.
//   X3. What a client can make us hold is bounded: while answers wait to be taken, no further request is looked at and
//       nothing is read. A client that takes nothing for `STALL_MS` is cut off.
//   X4. No request waits for ever: what has no answer by its deadline gets its substitute.
//
//   open ──client closed, or a frame too long──▶ finishing ──all answers taken──▶ lingering ──client closed──▶ gone
//     └──────────── no frame in time, idle, stalled, cut ───────────────────────────────────────────────────▶ gone

import { type Conn, NetError, type Runtime } from "../../runtime/runtime.ts";
import { FrameSplitter, type FrameTooLarge } from "../../wire/frame.ts";

/** A client must have sent its first complete frame by then, in total. */
export const FIRST_FRAME_MS = 5_000;
/** A connection on which nothing happens is closed after so long. */
export const IDLE_MS = 60_000;
/** A client that takes no byte of an answer for so long is cut off. */
export const STALL_MS = 10_000;
/** An answer that depends on others is given up after so long. */
export const ANSWER_MS = 5_000;
/** After our last byte: time for the client to close its side. */
const LINGER_MS = 1_000;

const WRITE_BYTES_MAX = 64 * 1024;
/** Bytes of answers, and number of open requests, above which nothing more is taken in. */
const ANSWER_BYTES_MAX = 256 * 1024;
const OPEN_REQUESTS_MAX = 16;

/** Where the answer to one request goes. */
export interface Answer {
  /** One whole frame; more may follow until `done`. Ignored once done or the connection is gone. */
  send(frame: Uint8Array): void;
  done(): void;
  /** Calls `substitute`, which is to finish the answer, if that has not happened by its deadline. */
  within(substitute: () => void): void;
}

export interface ConnectionOwner {
  /** A complete frame that is not empty. The bytes are valid during the call. */
  frame(connection: ExternalConnection, payload: Uint8Array, answer: Answer): void;
  tooLarge(connection: ExternalConnection, failure: FrameTooLarge): void;
  /** Why it was closed by us without being asked; for the log. */
  givenUp(connection: ExternalConnection, why: string): void;
  /** To be asked (`check`) at this time at the latest. */
  deadline(at: number): void;
  /** All that was to be said is in the hands of the kernel, and our side is closed. */
  saidAll(connection: ExternalConnection): void;
  gone(connection: ExternalConnection): void;
}

class Slot implements Answer {
  readonly #connection: ExternalConnection;
  readonly frames: Uint8Array[] = [];
  finished = false;
  deadline = Number.POSITIVE_INFINITY;
  substitute: () => void = () => {};

  constructor(connection: ExternalConnection) {
    this.#connection = connection;
  }

  send(frame: Uint8Array): void {
    if (this.finished) return;
    this.frames.push(frame);
    this.#connection.answered(frame.length);
  }

  done(): void {
    this.finished = true;
    this.#connection.answered(0);
  }

  within(substitute: () => void): void {
    if (this.finished) return;
    this.substitute = substitute;
    this.deadline = this.#connection.deadlineIn(ANSWER_MS);
  }
}

export class ExternalConnection {
  readonly conn: Conn;
  readonly #runtime: Runtime;
  readonly #owner: ConnectionOwner;
  readonly #splitter: FrameSplitter;
  /** Requests not fully answered, oldest first. */
  readonly #slots: Slot[] = [];
  /** Bytes in `#slots`, and of the piece that is being written. */
  #heldBytes = 0;
  #phase: "open" | "finishing" | "lingering" | "gone" = "open";
  #hasFrame = false;
  #clientClosed = false;
  #writing: Uint8Array | null = null;
  /** What of `#writing` was handed to the kernel before the piece that is under way. */
  #written = 0;
  /** When it is closed for want of anything happening; the meaning depends on the phase. */
  #patience: number;
  #unclog: (() => void) | null = null;

  constructor(conn: Conn, runtime: Runtime, frameBytesMax: number, owner: ConnectionOwner) {
    this.conn = conn;
    this.#runtime = runtime;
    this.#owner = owner;
    this.#splitter = new FrameSplitter({ lengthMax: frameBytesMax });
    this.#patience = this.deadlineIn(FIRST_FRAME_MS);
  }

  /** Has it not yet sent a complete frame? */
  get stranger(): boolean {
    return !this.#hasFrame;
  }

  /** Has it had all its answers? Then nothing is lost with it. */
  get idle(): boolean {
    return this.#slots.length === 0 && this.#writing === null;
  }

  /** Is everything said, and our side closed? */
  get hasSaidAll(): boolean {
    return this.#phase === "lingering" || this.#phase === "gone";
  }

  /** Reads until the connection is gone. */
  async run(): Promise<void> {
    try {
      for (;;) {
        const chunk = await this.conn.read();
        if (chunk === null) break;
        if (this.#phase === "open") await this.#take(chunk);
      }
    } catch (error) {
      if (!(error instanceof NetError)) throw error;
      this.#vanish();
      return;
    }
    this.#clientClosed = true;
    if (this.#phase === "open") this.finish();
    else if (this.#phase === "lingering") this.#vanish();
  }

  /** Takes no further request; closes once all answers have been taken. */
  finish(): void {
    if (this.#phase !== "open") return;
    this.#phase = "finishing";
    this.#splitter.count = 0;
    this.#unclog?.();
    this.#pump();
  }

  /** Closes at once. */
  abort(): void {
    if (this.#phase === "gone") return;
    this.conn.abort();
    this.#vanish();
  }

  /** Does what is due. */
  check(now: number): void {
    if (this.#phase === "gone") return;
    for (const slot of [...this.#slots]) {
      if (slot.deadline > now) continue;
      slot.deadline = Number.POSITIVE_INFINITY;
      if (!slot.finished) slot.substitute();
    }
    const due = this.#patience <= now;
    // A tool that waits for the end of the cluster is not idle.
    if (due && this.#phase === "open" && this.#hasFrame && this.#writing === null && this.#slots.length > 0) {
      this.#patience = now + IDLE_MS;
    } else if (due) {
      this.#tooSlow();
      return;
    }
    let next = this.#patience;
    for (const slot of this.#slots) next = Math.min(next, slot.deadline);
    this.#owner.deadline(next);
  }

  /** For slots: a moment so many milliseconds from now, at which the owner will look. */
  deadlineIn(ms: number): number {
    const at = this.#runtime.clock.monotonicMs() + ms;
    this.#owner.deadline(at);
    return at;
  }

  /** For slots: bytes were added, or an answer is complete. */
  answered(bytes: number): void {
    if (this.#phase === "gone") return;
    this.#heldBytes += bytes;
    this.#pump();
  }

  async #take(chunk: Uint8Array): Promise<void> {
    const outcome = this.#splitter.push(chunk);
    // `finish` and `#vanish` set the count to 0: what was not begun by then is not begun any more.
    for (let i = 0; i < this.#splitter.count; i++) {
      const payload = this.#splitter.bytes.subarray(this.#splitter.starts[i]!, this.#splitter.ends[i]!);
      if (payload.length === 0) continue;
      this.#hasFrame = true;
      if (this.#writing === null) this.#patience = this.deadlineIn(IDLE_MS);
      const slot = new Slot(this);
      this.#slots.push(slot);
      this.#owner.frame(this, payload, slot);
      if (this.#clogged()) {
        await new Promise<void>((resolve) => {
          this.#unclog = resolve;
        });
        this.#unclog = null;
      }
    }
    if (outcome === "ok" || this.#phase !== "open") return;
    this.#owner.tooLarge(this, outcome);
    if (this.#slots.length === 0) this.abort();
    else this.finish();
  }

  #clogged(): boolean {
    if (this.#phase !== "open") return false;
    return this.#heldBytes > ANSWER_BYTES_MAX || this.#slots.length >= OPEN_REQUESTS_MAX;
  }

  /** Writes what is next, if nothing is being written; ends the connection when all is said. */
  #pump(): void {
    while (this.#writing === null && this.#phase !== "gone") {
      const first = this.#slots[0];
      if (first === undefined) break;
      const frame = first.frames.shift();
      if (frame !== undefined) {
        this.#writing = frame;
        this.#written = 0;
        this.#writeNext();
      } else if (first.finished) this.#slots.shift();
      else break;
    }
    if (!this.#clogged()) this.#unclog?.();
    if (this.#phase !== "finishing" || this.#writing !== null || this.#slots.length > 0) return;
    this.conn.end();
    if (this.#clientClosed) {
      this.#vanish();
      return;
    }
    this.#phase = "lingering";
    this.#patience = this.deadlineIn(LINGER_MS);
    this.#owner.saidAll(this);
  }

  #writeNext(): void {
    const piece = this.#writing!.subarray(this.#written, this.#written + WRITE_BYTES_MAX);
    this.#patience = this.deadlineIn(STALL_MS);
    this.conn.write(piece).then(
      () => this.#onWritten(piece.length),
      () => this.abort(),
    );
  }

  #onWritten(bytes: number): void {
    if (this.#phase === "gone") return;
    this.#written += bytes;
    this.#heldBytes -= bytes;
    if (this.#written < this.#writing!.length) {
      this.#writeNext();
      return;
    }
    this.#writing = null;
    this.#patience = this.deadlineIn(IDLE_MS);
    this.#pump();
  }

  #tooSlow(): void {
    if (this.#phase === "lingering") this.abort();
    else {
      const why = !this.#hasFrame
        ? `no complete request in ${FIRST_FRAME_MS / 1000} s`
        : this.#writing !== null
          ? `it took nothing of its answer for ${STALL_MS / 1000} s`
          : `nothing came for ${IDLE_MS / 1000} s`;
      this.#owner.givenUp(this, why);
      this.abort();
    }
  }

  #vanish(): void {
    if (this.#phase === "gone") return;
    this.#phase = "gone";
    this.#splitter.count = 0;
    this.#slots.length = 0;
    this.#unclog?.();
    this.#owner.gone(this);
  }
}
