// One link to one peer: its two halves, its credit, and the order in which frames go out on the connection that is there.
// No I/O: bytes to send are pulled with `fill`, frames that came are handed in. A control link uses both halves, a data
// link one of them.

import { assert } from "../../base/assert.ts";
import { ProtocolError } from "../../base/errors.ts";
import type { WorkerName } from "../../base/ids.ts";
import { CreditGranter, CreditSpender } from "../../protocol/session/credit.ts";
import { type AckPolicy, LinkReceiver } from "../../protocol/session/link_receiver.ts";
import { LinkSender, type Payload } from "../../protocol/session/link_sender.ts";
import { PayloadSpace } from "../../protocol/session/payload_space.ts";
import type { PeerProcess, Standing } from "../../protocol/session/peer_process.ts";
import type { Millis } from "../../runtime/runtime.ts";
import {
  type LinkFrames,
  PAYLOAD_HEADER_BYTES,
  type PayloadKind,
  SMALL_FRAME_BYTES_MAX,
  writeAck,
  writeCredit,
  writeGoodbye,
  writeHeartbeat,
  writePayloadHeader,
  writeResume,
} from "../../wire/link.ts";
import type { LinkKind } from "./link_owner.ts";

export interface LinkSettings {
  readonly ack: AckPolicy;
  readonly creditWindowBytes: number;
  readonly unackedBytesMax: number;
}

/** Who hears what a link delivers: the channel. */
export interface LinkEvents {
  generation(): number;
  now(): Millis;
  delivered(link: Link, kind: PayloadKind, exchange: number, bytes: Uint8Array): void;
  /** A payload that was received before, or is of an older generation, was not delivered. */
  dropped(why: "duplicate" | "straggler"): void;
  left(link: Link, reason: string): void;
}

export interface LinkCounters {
  payloadsSent: number;
  payloadsReceived: number;
  payloadsResent: number;
  /** Payloads that were received before. */
  duplicatesDropped: number;
  /** Payloads of an older generation. */
  stragglersDropped: number;
}

export class Link implements Omit<LinkFrames, "open"> {
  readonly peer: WorkerName;
  readonly kind: LinkKind;
  readonly sender: LinkSender<PayloadKind>;
  readonly receiver: LinkReceiver;
  readonly counters: LinkCounters = {
    payloadsSent: 0,
    payloadsReceived: 0,
    payloadsResent: 0,
    duplicatesDropped: 0,
    stragglersDropped: 0,
  };
  /** The peer's process as far as this link knows. */
  process: PeerProcess | null = null;

  readonly #settings: LinkSettings;
  readonly #events: LinkEvents;
  readonly #spender: CreditSpender;
  readonly #granter: CreditGranter;
  readonly #space = new PayloadSpace();
  readonly #usableTold = new Map<number, boolean>();
  #creditTouched = false;
  /** Highest number ever given to a connection. */
  #sentThrough = 0;

  // Of the connection that is there.
  #connected = false;
  #peerResumed = false;
  #resumeDue = false;
  #creditDue = false;
  #heartbeatDue = false;
  #goodbye: string | null = null;
  #goodbyeSent = false;
  /** The payload of which a part is written. */
  #current: Payload<PayloadKind> | null = null;
  #currentOffset = 0;

  constructor(peer: WorkerName, kind: LinkKind, settings: LinkSettings, events: LinkEvents) {
    this.peer = peer;
    this.kind = kind;
    this.sender = new LinkSender((payload) => this.#released(payload));
    this.receiver = new LinkReceiver(settings.ack);
    this.#settings = settings;
    this.#events = events;
    this.#spender = new CreditSpender(settings.creditWindowBytes);
    this.#granter = new CreditGranter(settings.creditWindowBytes);
  }

  // ---- for the channel

  /** The bytes of a batch are valid during the call; all others are the link's from now on. */
  append(kind: PayloadKind, exchange: number, bytes: Uint8Array): void {
    const kept = kind === "batch" ? this.#space.copy(bytes) : bytes;
    this.sender.append(kind, exchange, this.#events.generation(), kept);
    if (kind === "batch") this.#spender.spend(exchange, bytes.length);
    this.#creditTouched = true;
  }

  #released(payload: Payload<PayloadKind>): void {
    // What is acknowledged while a part of it is still to be written came by an earlier connection.
    if (payload.kind === "batch" && payload !== this.#current) this.#space.free(payload.bytes);
  }

  hasCredit(exchange: number): boolean {
    return this.#spender.has(exchange) && this.sender.unackedBytes < this.#settings.unackedBytesMax;
  }

  /** Calls `changed` for every exchange whose credit was used up or came back since the last call. */
  noticeCredit(changed: (exchange: number) => void): void {
    if (!this.#creditTouched) return;
    this.#creditTouched = false;
    for (const exchange of this.#spender.exchanges()) {
      const usable = this.hasCredit(exchange);
      if (usable === (this.#usableTold.get(exchange) ?? true)) continue;
      this.#usableTold.set(exchange, usable);
      changed(exchange);
    }
  }

  release(exchange: number, byteCount: number): void {
    if (this.#granter.release(exchange, byteCount)) this.#creditDue = true;
  }

  /** Bytes that were received and are not yet released. */
  get heldBytes(): number {
    return this.#granter.heldBytes;
  }

  /** Gives up everything that is not acknowledged. Only of a control link: credit spent on batches would not come back. */
  discard(): void {
    assert(this.kind === "control");
    this.sender.discard();
    this.#resumeDue = this.#connected;
    this.#creditTouched = true;
  }

  // ---- connections

  /**
   * A connection to `process` is open.
   *
   * @param through What the peer has of our payloads.
   * @param oldestUnacked The first of its payloads that it still keeps.
   * @throws {ProtocolError} `acked_unsent`.
   */
  connected(process: PeerProcess, standing: Standing, through: number, oldestUnacked: number): void {
    assert(!this.#connected, "the connection before this one is gone");
    assert(standing !== "older", "an older process is refused");
    this.sender.resume(through);
    if (standing === "same") {
      this.#granter.reconnected();
    } else {
      this.receiver.restart();
      this.#granter.restart();
      this.#spender.restart();
      for (const payload of this.sender.unacked()) {
        if (payload.kind === "batch") this.#spender.spend(payload.exchange, payload.bytes.length);
      }
    }
    this.receiver.resume(oldestUnacked);
    this.process = process;
    this.#connected = true;
    this.#peerResumed = false;
    this.#resumeDue = true;
    this.#creditDue = this.#granter.anyDue;
    this.#creditTouched = true;
    this.#heartbeatDue = false;
    this.#goodbye = null;
    this.#goodbyeSent = false;
  }

  lost(): void {
    this.sender.lost();
    this.#connected = false;
    this.#current = null;
  }

  /** The listener's side: the resume of the dialler has been seen before `connected`. */
  resumeSeen(): void {
    this.#peerResumed = true;
  }

  heartbeatWanted(): void {
    this.#heartbeatDue = true;
  }

  /** Says goodbye when everything that is queued is sent. */
  leave(reason: string): void {
    this.#goodbye = reason;
  }

  /** The goodbye, and so everything before it, was given to the connection. */
  get goodbyeSent(): boolean {
    return this.#goodbyeSent;
  }

  /** About how many bytes `fill` would give. */
  sendableBytes(now: Millis): number {
    if (!this.#connected || this.#goodbyeSent) return 0;
    let count = this.sender.unsentBytes;
    if (this.#current !== null) count += this.#current.bytes.length - this.#currentOffset;
    if (count > 0 || this.#resumeDue || this.#creditDue || this.#heartbeatDue || this.#goodbye !== null) {
      return count + 1024;
    }
    return this.receiver.ackDueAt <= now ? 1024 : 0;
  }

  /** Writes the next frames, or parts of them, to the front of `target`. Returns the number of bytes. */
  fill(target: Uint8Array, view: DataView, now: Millis): number {
    if (!this.#connected || this.#goodbyeSent) return 0;
    let at = this.#current === null ? 0 : this.#fillBody(target, 0);
    const roomUntil = target.length - SMALL_FRAME_BYTES_MAX;
    if (this.#current !== null || at > roomUntil) return at;
    if (this.#resumeDue) {
      at = writeResume(view, at, this.sender.oldestUnacked, this.receiver.receivedThrough);
      this.#resumeDue = false;
      this.receiver.acked();
    }
    // Before credit: what the receiver has processed is then never counted as being on its way as well.
    const hasMore = at > 0 || this.#creditDue || this.sender.unsentBytes > 0 || this.#goodbye !== null;
    if (
      at <= roomUntil &&
      (this.receiver.ackDueAt <= now || (hasMore && this.receiver.ackDueAt < Number.POSITIVE_INFINITY))
    ) {
      at = writeAck(view, at, this.receiver.receivedThrough);
      this.receiver.acked();
    }
    if (this.#creditDue) {
      let complete = true;
      this.#granter.tellDue((exchange, limit) => {
        complete = at <= roomUntil;
        if (complete) at = writeCredit(view, at, exchange, limit);
        return complete;
      });
      this.#creditDue = !complete;
    }
    while (at <= roomUntil) {
      const payload = this.sender.next();
      if (payload === null) break;
      if (payload.sequence > this.#sentThrough) {
        this.#sentThrough = payload.sequence;
        this.counters.payloadsSent++;
      } else {
        this.counters.payloadsResent++;
      }
      const { kind, exchange, generation, sequence, bytes } = payload;
      at = writePayloadHeader(view, at, kind, exchange, generation, sequence, bytes.length);
      this.#current = payload;
      this.#currentOffset = 0;
      at = this.#fillBody(target, at);
      if (this.#current !== null) return at;
    }
    if (this.#heartbeatDue && at === 0) at = writeHeartbeat(view, at);
    this.#heartbeatDue = false;
    if (this.#goodbye !== null && this.sender.unsentBytes === 0 && at <= roomUntil) {
      at = writeGoodbye(view, at, this.#goodbye);
      this.#goodbyeSent = true;
    }
    return at;
  }

  #fillBody(target: Uint8Array, at: number): number {
    const { bytes } = this.#current!;
    const offset = this.#currentOffset;
    const count = Math.min(bytes.length - offset, target.length - at);
    target.set(count === bytes.length ? bytes : bytes.subarray(offset, offset + count), at);
    this.#currentOffset = offset + count;
    if (this.#currentOffset === bytes.length) this.#current = null;
    return at + count;
  }

  // ---- frames that came

  payload(kind: PayloadKind, exchange: number, generation: number, sequence: number, bytes: Uint8Array): void {
    this.#checkResumed("a payload");
    if (this.kind === "data_out" || (this.kind === "control") !== (kind === "control_message")) {
      throw new ProtocolError("unexpected_payload", `a ${kind} came on a ${this.kind} link`);
    }
    if (this.receiver.isNew(sequence)) this.#take(kind, exchange, generation, bytes);
    else {
      this.counters.duplicatesDropped++;
      this.#events.dropped("duplicate");
    }
    this.receiver.received(sequence, bytes.length + PAYLOAD_HEADER_BYTES, this.#events.now());
  }

  #take(kind: PayloadKind, exchange: number, generation: number, bytes: Uint8Array): void {
    if (kind === "batch") this.#granter.received(exchange, bytes.length);
    // Records belong to a generation. Messages of the control channel say themselves which one they are for, where it
    // matters: who comes back knows an older one, and still has to be heard. 0 is said before there is a cluster.
    if (kind === "control_message" || generation === 0 || generation >= this.#events.generation()) {
      this.#events.delivered(this, kind, exchange, bytes);
    } else {
      this.counters.stragglersDropped++;
      this.#events.dropped("straggler");
      if (kind === "batch") this.release(exchange, bytes.length);
    }
    this.counters.payloadsReceived++;
  }

  ack(through: number): void {
    this.#checkResumed("an ack");
    this.sender.ack(through);
    this.#creditTouched = true;
  }

  credit(exchange: number, limit: number): void {
    this.#checkResumed("credit");
    if (this.kind !== "data_out") throw new ProtocolError("unexpected_credit", `credit came on a ${this.kind} link`);
    this.#spender.grant(exchange, limit);
    this.#creditTouched = true;
  }

  heartbeat(): void {}

  goodbye(reason: string): void {
    this.#events.left(this, reason);
  }

  resume(oldestUnacked: number, receivedThrough: number): void {
    this.#peerResumed = true;
    this.receiver.resume(oldestUnacked);
    this.ack(receivedThrough);
  }

  #checkResumed(what: string): void {
    if (!this.#peerResumed) throw new ProtocolError("no_resume", `${what} came before the link was resumed`);
  }
}
