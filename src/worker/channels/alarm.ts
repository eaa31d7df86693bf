import type { Clock, Millis } from "../../runtime/runtime.ts";

/** One timer for many deadlines: it rings at the earliest time it was asked for, and is then to be asked again. */
export class Alarm {
  readonly #clock: Clock;
  /** `lateMs`: how much later than asked for. */
  readonly #ring: (now: Millis, lateMs: Millis) => void;
  #at: Millis = Number.POSITIVE_INFINITY;
  #cancel: (() => void) | null = null;

  constructor(clock: Clock, ring: (now: Millis, lateMs: Millis) => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `time` at the latest. */
  at(time: Millis): void {
    if (time >= this.#at) return;
    this.#cancel?.();
    this.#at = time;
    this.#cancel = this.#clock.startTimer(Math.max(0, time - this.#clock.monotonicMs()), this.#fire);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#at = Number.POSITIVE_INFINITY;
  }

  readonly #fire = (): void => {
    const now = this.#clock.monotonicMs();
    const lateMs = now - this.#at;
    this.#cancel = null;
    this.#at = Number.POSITIVE_INFINITY;
    this.#ring(now, lateMs);
  };
}
