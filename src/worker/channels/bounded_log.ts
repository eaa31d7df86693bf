import type { Log } from "../../base/log.ts";
import type { Clock, Millis } from "../../runtime/runtime.ts";

const LINES_PER_WINDOW = 10;
const WINDOW_MS = 60_000;

interface Window {
  startMs: Millis;
  lines: number;
  untold: number;
}

/**
 * Lines that strangers can cause: of each code ten a minute, then they are counted only, and the count is told with the
 * next. Codes are ours, and few.
 */
export class BoundedLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #windows = new Map<string, Window>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  warn(code: string, text: string): void {
    const now = this.#clock.monotonicMs();
    let window = this.#windows.get(code);
    if (window === undefined || now - window.startMs >= WINDOW_MS) {
      const untold = window?.untold ?? 0;
      if (untold > 0) this.#log.warn(code, `${untold} more of the kind were only counted`);
      window = { startMs: now, lines: 0, untold: 0 };
      this.#windows.set(code, window);
    }
    if (window.lines < LINES_PER_WINDOW) {
      window.lines++;
      this.#log.warn(code, text);
    } else {
      window.untold++;
    }
  }
}
