import type { Clock, Millis } from "../runtime/runtime.ts";

/**
 * The wall clock with a fraction of its millisecond, for latencies: the real one has whole milliseconds, and most records are
 * through in less than one.
 *
 * The monotonic clock gives the fraction. Where that would leave the millisecond that the wall clock is in (a step of the
 * clock, or a fraction that is not known yet), the wall clock is right, and from then on the fraction is counted from there: so
 * it lags behind by ever less, and workers of one machine soon agree to some microseconds.
 */
export class FineWallClock {
  readonly #clock: Clock;
  #offsetMs: Millis = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  nowMs(): Millis {
    const wall = this.#clock.wallMs();
    const monotonic = this.#clock.monotonicMs();
    const fine = monotonic + this.#offsetMs;
    if (fine >= wall && fine < Math.floor(wall) + 1) return fine;
    this.#offsetMs = wall - monotonic;
    return wall;
  }
}
