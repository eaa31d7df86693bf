/**
 * Pacing by rate: `floor(elapsed x rate) - taken`, so that late timers lose nothing. What was not taken for longer than a
 * second is not made up for, or the end of a long pause would be a flood.
 */
import type { Clock, Millis } from "../runtime/runtime.ts";

const CATCH_UP_MS: Millis = 1_000;

export class Pacer {
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** A second. */
  readonly #rate: number;
  /** When the first one was due; moved on when time is forgotten. */
  #startedMs: Millis;
  #taken = 0;

  /** Begins now. @param rate A second; 0: everything is always due. */
  constructor(clock: Pick<Clock, "monotonicMs">, rate: number) {
    this.#clock = clock;
    this.#rate = rate;
    this.#startedMs = clock.monotonicMs();
  }

  /** How many may be taken now. */
  due(): number {
    const rate = this.#rate;
    if (rate === 0) return Number.POSITIVE_INFINITY;
    const now = this.#clock.monotonicMs();
    const due = Math.floor(((now - this.#startedMs) / 1000) * rate) - this.#taken;
    const dueMax = Math.max(1, Math.ceil((CATCH_UP_MS / 1000) * rate));
    if (due <= dueMax) return due;
    this.#startedMs = now - ((this.#taken + dueMax) / rate) * 1000;
    return dueMax;
  }

  took(count: number): void {
    this.#taken += count;
  }

  /** How long until the next one is due. */
  waitMs(): Millis {
    if (this.#rate === 0) return 0;
    return Math.max(0, this.#startedMs + ((this.#taken + 1) / this.#rate) * 1000 - this.#clock.monotonicMs());
  }
}
