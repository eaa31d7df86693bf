// One connection of a control or data channel, from its first byte to its last. It owns the pump, the handshake's bytes
// and the deadline of each phase; what a hello or a welcome means is decided by the hub.
//
//   accepted ─▶ greeting ──hello──▶ welcomed ──resume──▶ open ──▶ leaving ──▶ closed
//                  └──────refused──────────────────────────────────▲
//   dialled ──▶ shaking ──welcome──────────────────────▶ open
//
//   N1. Before the handshake is complete each side says exactly one frame and waits: what comes behind it is a violation.
//   N2. Every phase but `open` has a deadline; `open` ends by silence.
//   N3. A violation closes this connection, and disturbs nothing else.

import { ProtocolError } from "../../base/errors.ts";
import { Liveness, type LivenessTiming } from "../../protocol/session/liveness.ts";
import type { Address, Clock, Conn, Millis, NetError } from "../../runtime/runtime.ts";
import { FrameSplitter } from "../../wire/frame.ts";
import { decodeHandshake, HANDSHAKE_LENGTH_MAX, type Handshake, type Hello } from "../../wire/hello.ts";
import { type LinkFrames, LinkReader, type PayloadKind } from "../../wire/link.ts";
import { ConnPump, type PumpHandler } from "./conn_pump.ts";
import type { Link } from "./link.ts";

export type ConnectionPhase =
  /** Accepted; its hello has not come. */
  | { readonly kind: "greeting"; readonly splitter: FrameSplitter; readonly deadline: Millis }
  /** Accepted and answered; the dialler has not confirmed. */
  | { readonly kind: "welcomed"; readonly hello: Hello; readonly reader: LinkReader; readonly deadline: Millis }
  /** Dialled; the answer to our hello has not come. */
  | { readonly kind: "shaking"; readonly splitter: FrameSplitter; readonly deadline: Millis }
  | { readonly kind: "open"; readonly link: Link; readonly reader: LinkReader; readonly liveness: Liveness }
  /** Our last words are on their way, or said: it waits for the peer to close. */
  | { readonly kind: "leaving"; readonly deadline: Millis }
  | { readonly kind: "closed" };

/** The hub, as a connection sees it. */
export interface ConnectionHost {
  readonly clock: Clock;
  readonly timing: LivenessTiming;
  readonly payloadBytesMax: number;
  turn(run: () => void): void;
  /** All frames of a chunk for that link have been handled. */
  received(link: Link): void;
  /** The first frame: a hello on an accepted connection, an answer on a dialled one. */
  greeted(connection: LinkConnection, message: Handshake): void;
  /** The dialler's resume on a welcomed connection. To take it, the hub calls `open`. */
  confirmed(connection: LinkConnection, hello: Hello, oldestUnacked: number, receivedThrough: number): void;
  /** It is closed already; `before` is the phase in which that happened. Called once. */
  closed(connection: LinkConnection, before: ConnectionPhase, code: string, why: string): void;
}

export class LinkConnection implements PumpHandler, LinkFrames {
  readonly accepted: boolean;
  readonly peer: Address;
  readonly local: Address;
  readonly openedAt: Millis;
  phase: ConnectionPhase;
  bytesReceived = 0;
  bytesSent = 0;
  readonly #host: ConnectionHost;
  readonly #pump: ConnPump;
  /** Handshake bytes that are still to be sent. */
  #raw: Uint8Array | null = null;
  /** Until when the goodbye has time; infinite: none is said. */
  #leaveBy: Millis = Number.POSITIVE_INFINITY;

  constructor(host: ConnectionHost, conn: Conn, accepted: boolean, handshakeMs: Millis) {
    this.#host = host;
    this.accepted = accepted;
    this.peer = conn.peer;
    this.local = conn.local;
    this.openedAt = host.clock.monotonicMs();
    this.phase = {
      kind: accepted ? "greeting" : "shaking",
      splitter: new FrameSplitter({ lengthMax: HANDSHAKE_LENGTH_MAX }),
      deadline: this.openedAt + handshakeMs,
    };
    this.#pump = new ConnPump(conn, this, (run) => host.turn(run));
    this.#pump.start();
  }

  /** Until frames may come: not closed and not leaving. */
  get open(): boolean {
    return this.phase.kind === "open" || this.phase.kind === "welcomed";
  }

  /** When to look at it again. */
  get deadline(): Millis {
    const phase = this.phase;
    switch (phase.kind) {
      case "open":
        return Math.min(phase.liveness.nextLookAt, phase.link.receiver.ackDueAt, this.#leaveBy);
      case "closed":
        return Number.POSITIVE_INFINITY;
      default:
        return phase.deadline;
    }
  }

  // ---- what the hub does with it

  /** Sends the hello of a dialled connection. */
  sendHello(bytes: Uint8Array): void {
    this.#raw = bytes;
    this.#pump.flush();
  }

  welcome(hello: Hello, bytes: Uint8Array): void {
    if (this.phase.kind !== "greeting") return;
    const reader = new LinkReader(this.#host.payloadBytesMax);
    this.phase = { kind: "welcomed", hello, reader, deadline: this.phase.deadline };
    this.#raw = bytes;
    this.#pump.flush();
  }

  /** Says why not, half-closes and waits a moment for the peer to read it. */
  refuse(bytes: Uint8Array): void {
    if (this.phase.kind !== "greeting") return;
    this.phase = { kind: "leaving", deadline: this.phase.deadline };
    this.#raw = bytes;
    this.#pump.endWhenFlushed();
    this.#pump.flush();
  }

  /** Frames go to and come from `link` from now on. The caller has told the link. */
  opened(link: Link): void {
    const before = this.phase;
    const reader = before.kind === "welcomed" ? before.reader : new LinkReader(this.#host.payloadBytesMax);
    const liveness = new Liveness(this.#host.timing, this.#host.clock.monotonicMs());
    this.phase = { kind: "open", link, reader, liveness };
  }

  flush(): void {
    this.#pump.flush();
  }

  /** Sends what the link still has, then goodbye, half-closes, and waits until `deadline` for the peer to close. */
  leave(reason: string, deadline: Millis): void {
    if (this.phase.kind !== "open") {
      this.close("closed", reason);
      return;
    }
    this.phase.link.leave(reason);
    this.#leaveBy = deadline;
    this.#pump.flush();
  }
  /** Aborts it. `code` and `why` go to the hub. */
  close(code: string, why: string): void {
    const before = this.phase;
    if (before.kind === "closed") return;
    this.phase = { kind: "closed" };
    this.#pump.abort();
    this.#host.closed(this, before, code, why);
  }

  /** A deadline has passed, perhaps. */
  look(now: Millis, lateMs: Millis): void {
    const phase = this.phase;
    switch (phase.kind) {
      case "closed":
        return;
      case "open": {
        if (now >= this.#leaveBy) {
          this.close("closed", "the peer did not take our goodbye");
          return;
        }
        const state = phase.liveness.look(now, lateMs);
        if (state === "heartbeat_due") phase.link.heartbeatWanted();
        else if (state === "silent")
          this.close("silent", `silent for ${Math.round(phase.liveness.silentForMs(now))} ms`);
        return;
      }
      case "leaving":
        if (now >= phase.deadline) this.close("closed", "the peer did not close in time");
        return;
      default:
        if (now >= phase.deadline) {
          const code = this.bytesReceived === 0 ? "said_nothing" : "handshake_late";
          this.close(code, `no complete handshake within ${Math.round(now - this.openedAt)} ms`);
        }
    }
  }

  // ---- the pump

  sendableBytes(): number {
    if (this.#raw !== null) return this.#raw.length;
    return this.phase.kind === "open" ? this.phase.link.sendableBytes(this.#host.clock.monotonicMs()) : 0;
  }

  fill(target: Uint8Array, view: DataView): number {
    let count = 0;
    if (this.#raw !== null) {
      // A handshake is shorter than the smallest buffer.
      target.set(this.#raw);
      count = this.#raw.length;
      this.#raw = null;
    } else if (this.phase.kind === "open") {
      const now = this.#host.clock.monotonicMs();
      const { link, liveness } = this.phase;
      count = link.fill(target, view, now);
      if (count > 0) liveness.said(now);
      if (link.goodbyeSent) this.#pump.endWhenFlushed();
    }
    this.bytesSent += count;
    return count;
  }

  received(chunk: Uint8Array): void {
    this.bytesReceived += chunk.length;
    try {
      const phase = this.phase;
      switch (phase.kind) {
        case "greeting":
        case "shaking":
          this.#receivedHandshake(chunk, phase.splitter);
          break;
        case "welcomed":
          phase.reader.push(chunk, this);
          break;
        case "open":
          phase.liveness.heard(this.#host.clock.monotonicMs());
          phase.reader.push(chunk, this);
          break;
        case "leaving":
        case "closed":
          break;
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.close(error.code, error.message);
    }
    if (this.phase.kind === "open") this.#host.received(this.phase.link);
  }

  ended(): void {
    this.close("ended", "the peer closed the connection");
  }

  failed(error: NetError): void {
    this.close(error.code, error.message);
  }

  #receivedHandshake(chunk: Uint8Array, splitter: FrameSplitter): void {
    const outcome = splitter.push(chunk);
    if (outcome !== "ok") {
      const sentence = `its first frame announces ${outcome.length} bytes, a handshake has at most ${outcome.lengthMax}`;
      throw new ProtocolError("not_tammar", sentence);
    }
    if (splitter.count === 0) return;
    if (splitter.count > 1 || splitter.pending > 0) {
      throw new ProtocolError("early_bytes", "bytes came behind its first frame before that was answered");
    }
    const message = decodeHandshake(splitter.bytes.subarray(splitter.starts[0]!, splitter.ends[0]!));
    this.#host.greeted(this, message);
  }

  // ---- frames of the link

  payload(kind: PayloadKind, exchange: number, generation: number, sequence: number, bytes: Uint8Array): void {
    this.#link().payload(kind, exchange, generation, sequence, bytes);
  }

  ack(through: number): void {
    this.#link().ack(through);
  }

  credit(exchange: number, limit: number): void {
    this.#link().credit(exchange, limit);
  }

  heartbeat(): void {
    this.#link().heartbeat();
  }

  goodbye(reason: string): void {
    this.#link().goodbye(reason);
  }

  resume(oldestUnacked: number, receivedThrough: number): void {
    if (this.phase.kind === "welcomed") {
      this.#host.confirmed(this, this.phase.hello, oldestUnacked, receivedThrough);
    } else {
      this.#link().resume(oldestUnacked, receivedThrough);
    }
  }

  #link(): Link {
    if (this.phase.kind === "open") return this.phase.link;
    throw new ProtocolError("no_resume", "a frame of the link came before it was resumed");
  }
}
