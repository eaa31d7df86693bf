import type { Millis } from "../../runtime/runtime.ts";

/**
 * How long to wait before the next try: doubled each time from `firstMs` up to `maxMs`, with jitter, so that workers that
 * lost the same peer do not come back in step. A delay is between half of the step and the whole of it.
 */
export class Backoff {
  readonly #firstMs: Millis;
  readonly #maxMs: Millis;
  #failures = 0;

  constructor(firstMs: Millis, maxMs: Millis) {
    this.#firstMs = firstMs;
    this.#maxMs = maxMs;
  }

  /** Tries that failed since the last success. */
  get failures(): number {
    return this.#failures;
  }

  /** @param chance Uniform in [0, 1). */
  next(chance: number): Millis {
    // 2 ** 30 steps are beyond every maximum, and the power stays finite.
    const step = Math.min(this.#firstMs * 2 ** Math.min(this.#failures, 30), this.#maxMs);
    this.#failures++;
    return step * (0.5 + chance / 2);
  }

  reset(): void {
    this.#failures = 0;
  }
}
