// Whether the peer of an open connection is still there, and when to let it know that we are.
//
//   L1. A connection on which nothing was said for `heartbeatMs` says a heartbeat.
//   L2. A connection on which nothing was heard for `silenceMs` is given up. That costs a reconnect, never data.
//   L3. A pause of our own (a stopped process, a long collection) is not the peer's silence: whoever looks late listens
//       first.

import type { Millis } from "../../runtime/runtime.ts";

export interface LivenessTiming {
  readonly heartbeatMs: Millis;
  readonly silenceMs: Millis;
}

export class Liveness {
  readonly #timing: LivenessTiming;
  #heardAt: Millis;
  #saidAt: Millis;

  constructor(timing: LivenessTiming, now: Millis) {
    this.#timing = timing;
    this.#heardAt = now;
    this.#saidAt = now;
  }

  heard(now: Millis): void {
    this.#heardAt = now;
  }

  said(now: Millis): void {
    this.#saidAt = now;
  }

  silentForMs(now: Millis): Millis {
    return now - this.#heardAt;
  }

  /** @param lateMs How much later than asked for this look is. */
  look(now: Millis, lateMs: Millis): "fine" | "heartbeat_due" | "silent" {
    // What the peer said meanwhile is in the kernel, behind this timer.
    if (lateMs > this.#timing.silenceMs / 4) this.#heardAt = Math.max(this.#heardAt, now - this.#timing.silenceMs / 2);
    if (now - this.#heardAt >= this.#timing.silenceMs) return "silent";
    return now - this.#saidAt >= this.#timing.heartbeatMs ? "heartbeat_due" : "fine";
  }

  /** When to look again. */
  get nextLookAt(): Millis {
    return Math.min(this.#saidAt + this.#timing.heartbeatMs, this.#heardAt + this.#timing.silenceMs);
  }
}
