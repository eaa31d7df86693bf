import type { Log } from "../../base/log.ts";
import type { Clock, Millis } from "../../runtime/runtime.ts";

const LINES_PER_WINDOW = 10;
const WINDOW_MS = 60_000;

/** Lines that strangers can cause: ten a minute, then they are counted only, and the count is told. */
export class BoundedLog {
  readonly #log: Log;
  readonly #clock: Clock;
  #windowStart: Millis = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #untold = 0;

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  warn(code: string, text: string): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#windowStart >= WINDOW_MS) {
      this.#windowStart = now;
      this.#lines = 0;
      if (this.#untold > 0) this.#log.warn(code, `${this.#untold} more of the kind were only counted`);
      this.#untold = 0;
    }
    if (this.#lines < LINES_PER_WINDOW) {
      this.#lines++;
      this.#log.warn(code, text);
    } else {
      this.#untold++;
    }
  }
}
