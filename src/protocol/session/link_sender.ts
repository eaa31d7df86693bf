// The sending half of a link: numbers payloads, keeps them until they are acknowledged, and says which comes next on the
// connection that is there. Connections come and go below it.
//
//                resume(through)                  lost()
//   disconnected ───────────────▶ sending ───────────────▶ disconnected
//                                  │   ▲
//                                  └───┘  next(), ack(through), append(payload)
//
//   S1. Sequence numbers start at 1, grow by 1 and are never used twice in the life of this process.
//   S2. A payload is kept until an ack of its number or a higher one; acks never step back.
//   S3. On one connection payloads leave in the order of their numbers, without a gap; a new connection starts again
//       behind what the receiver says it has.
//   S4. An ack of a number that was never given out is a broken peer, never an assertion of ours.
//
// It owns the payloads. Credit is next door (`credit.ts`); what is written to the connection is up to the caller.

import { assert } from "../../base/assert.ts";
import { ProtocolError } from "../../base/errors.ts";

/** One payload of a link. `bytes` must not be changed any more. */
export interface Payload<Kind> {
  readonly sequence: number;
  readonly kind: Kind;
  /** 0 where the kind has none. */
  readonly exchange: number;
  /** Of the cluster when it was appended. */
  readonly generation: number;
  readonly bytes: Uint8Array;
}

/** What a payload counts beside its bytes, so that a queue of empty ones is bounded too. */
const PAYLOAD_OVERHEAD_BYTES = 64;
/** Consumed places at the front of the queue are given back when there are so many. */
const COMPACT_AT = 1024;

export class LinkSender<Kind> {
  readonly #released: (payload: Payload<Kind>) => void;
  /** `#queue[#head]` is the oldest unacknowledged payload. */
  #queue: Payload<Kind>[] = [];
  #head = 0;
  /** Place in `#queue` of the next payload to write. Only meaningful while sending. */
  #cursor = 0;
  #sending = false;
  #lastSequence = 0;
  #unackedBytes = 0;
  #unsentBytes = 0;

  /** @param released Told of each payload that is no longer kept. */
  constructor(released: (payload: Payload<Kind>) => void = () => {}) {
    this.#released = released;
  }

  /** The last number given out; 0: none yet. */
  get lastSequence(): number {
    return this.#lastSequence;
  }

  /** The first number that is not acknowledged; the next one to be given out when all are. */
  get oldestUnacked(): number {
    return this.#lastSequence - this.unackedFrames + 1;
  }

  get unackedFrames(): number {
    return this.#queue.length - this.#head;
  }

  /** Bytes of what is kept, each payload with a small overhead. */
  get unackedBytes(): number {
    return this.#unackedBytes;
  }

  /** Of these, bytes that were not yet given to this connection; 0 without one. */
  get unsentBytes(): number {
    return this.#sending ? this.#unsentBytes : 0;
  }

  append(kind: Kind, exchange: number, generation: number, bytes: Uint8Array): Payload<Kind> {
    const payload = { sequence: ++this.#lastSequence, kind, exchange, generation, bytes };
    this.#queue.push(payload);
    const size = sizeOf(payload);
    this.#unackedBytes += size;
    this.#unsentBytes += size;
    return payload;
  }

  /**
   * A connection is there, and the receiver has everything up to `through`: sending begins behind it.
   *
   * @throws {ProtocolError} `acked_unsent`.
   */
  resume(through: number): void {
    this.ack(through);
    this.#sending = true;
    this.#cursor = this.#head;
    this.#unsentBytes = this.#unackedBytes;
  }

  /** The connection is gone. */
  lost(): void {
    this.#sending = false;
  }

  /**
   * Cumulative. A number at or below an earlier ack changes nothing.
   *
   * @throws {ProtocolError} `acked_unsent`.
   */
  ack(through: number): void {
    this.checkAck(through);
    let count = through - this.oldestUnacked + 1;
    while (count-- > 0) {
      const payload = this.#queue[this.#head]!;
      // The receiver may have it from an earlier connection: then it is not sent again.
      if (this.#cursor === this.#head) {
        this.#cursor++;
        this.#unsentBytes -= sizeOf(payload);
      }
      this.#unackedBytes -= sizeOf(payload);
      this.#head++;
      this.#released(payload);
    }
    if (this.#head === this.#queue.length) this.#compact();
    else if (this.#head >= COMPACT_AT && this.#head * 2 >= this.#queue.length) this.#compact();
  }

  /** @throws {ProtocolError} `acked_unsent`: no honest peer can have received `through`. */
  checkAck(through: number): void {
    if (through <= this.#lastSequence) return;
    throw new ProtocolError(
      "acked_unsent",
      `the peer acknowledged payload ${through} of a link on which only ${this.#lastSequence} were sent`,
    );
  }

  /** The next payload to write, which then counts as sent on this connection; `null`: nothing, or no connection. */
  next(): Payload<Kind> | null {
    if (!this.#sending || this.#cursor === this.#queue.length) return null;
    const payload = this.#queue[this.#cursor++]!;
    this.#unsentBytes -= sizeOf(payload);
    assert(this.#unsentBytes >= 0);
    return payload;
  }

  /** Drops everything that is kept, as if it were acknowledged. The receiver must be told where sending goes on. */
  discard(): void {
    this.ack(this.#lastSequence);
  }

  /** What is kept, oldest first. */
  *unacked(): Generator<Payload<Kind>> {
    for (let i = this.#head; i < this.#queue.length; i++) yield this.#queue[i]!;
  }

  #compact(): void {
    this.#queue = this.#queue.slice(this.#head);
    this.#cursor -= this.#head;
    this.#head = 0;
  }
}

function sizeOf(payload: Payload<unknown>): number {
  return payload.bytes.length + PAYLOAD_OVERHEAD_BYTES;
}
