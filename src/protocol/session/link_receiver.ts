// The receiving half of a link: takes each payload once, in order, whatever connections it came through, and decides
// when to acknowledge.
//
//   R1. `receivedThrough` grows by one with each payload that is delivered, or jumps to what the sender says is no longer
//       kept (`resume`). It steps back only when the sender is another process (`restart`).
//   R2. A payload at or below `receivedThrough` is a duplicate: not delivered, but acknowledged again.
//   R3. A payload beyond `receivedThrough + 1` is a broken peer: the connection is closed, and the next one resumes.
//   R4. Acks are cumulative and lazy: after `bytesMax` received bytes, or `delayMs` after the first unacknowledged payload.
//       Nothing waits for them but the sender's memory.

import { ProtocolError } from "../../base/errors.ts";
import type { Millis } from "../../runtime/runtime.ts";

export interface AckPolicy {
  readonly delayMs: Millis;
  readonly bytesMax: number;
}

export class LinkReceiver {
  readonly #policy: AckPolicy;
  #receivedThrough = 0;
  #bytesUntold = 0;
  #ackDueAt: Millis = Number.POSITIVE_INFINITY;

  constructor(policy: AckPolicy) {
    this.#policy = policy;
  }

  get receivedThrough(): number {
    return this.#receivedThrough;
  }

  /** When the next ack should leave; infinite: none is due. It may leave earlier, in the company of something else. */
  get ackDueAt(): Millis {
    return this.#ackDueAt;
  }

  /** What `receivedThrough` would be after `restart` (if so) and `resume`. */
  resumedThrough(oldestUnacked: number, restarted: boolean): number {
    return Math.max(restarted ? 0 : this.#receivedThrough, oldestUnacked - 1);
  }

  /** The sender is another process: its numbers start anew. */
  restart(): void {
    this.#receivedThrough = 0;
    this.acked();
  }

  /**
   * A connection is there, and the sender keeps nothing before `oldestUnacked`. If that is more than what was received
   * here, somebody else has acknowledged it (the process before this one), or the sender gave it up.
   */
  resume(oldestUnacked: number): void {
    this.#receivedThrough = this.resumedThrough(oldestUnacked, false);
    this.acked();
  }

  /**
   * Is this payload new, so that it must be delivered?
   *
   * @throws {ProtocolError} `sequence_gap`.
   */
  isNew(sequence: number): boolean {
    const expected = this.#receivedThrough + 1;
    if (sequence <= expected) return sequence === expected;
    throw new ProtocolError("sequence_gap", `payload ${sequence} came where ${expected} was expected`);
  }

  /** The payload is delivered, or was before. Only now: one whose delivery failed comes again. */
  received(sequence: number, byteCount: number, now: Millis): void {
    this.#receivedThrough = Math.max(this.#receivedThrough, sequence);
    this.#bytesUntold += byteCount;
    if (this.#bytesUntold >= this.#policy.bytesMax) this.#ackDueAt = now;
    else if (this.#ackDueAt === Number.POSITIVE_INFINITY) this.#ackDueAt = now + this.#policy.delayMs;
  }

  /** An ack of `receivedThrough` is on its way. */
  acked(): void {
    this.#bytesUntold = 0;
    this.#ackDueAt = Number.POSITIVE_INFINITY;
  }
}
