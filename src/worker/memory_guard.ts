/**
 * Sees to it that a worker leaves in words, with a checkpoint, before the system kills it for its memory. What it looks at is
 * the resident memory: that is what the system looks at.
 *
 *   below ──four fifths──▶ high: said, and again with each twentieth more ──the limit, one second long──▶ exceeded, once
 */
import type { Millis } from "../runtime/runtime.ts";

/** Of the limit. */
const HIGH_SHARE = 0.8;
const SAID_AGAIN_SHARE = 0.05;
/** A peak is no reason: a collection may be about to come. */
const EXCEEDED_MS: Millis = 1_000;

export interface MemoryGuardOptions {
  /** Infinity: there is none. */
  readonly limitBytes: number;
  readonly residentBytes: () => number;
  readonly high: (residentBytes: number) => void;
  readonly exceeded: (residentBytes: number) => void;
}

export class MemoryGuard {
  readonly #options: MemoryGuardOptions;
  /** It is high, and was said to be at so many bytes. */
  #saidBytes: number | null = null;
  #aboveSinceMs: Millis | null = null;
  #isExceeded = false;

  constructor(options: MemoryGuardOptions) {
    this.#options = options;
  }

  /** To be called some times a second. */
  look(nowMs: Millis): void {
    const { limitBytes, residentBytes, high, exceeded } = this.#options;
    if (this.#isExceeded || limitBytes === Number.POSITIVE_INFINITY) return;
    const resident = residentBytes();
    if (resident < limitBytes * HIGH_SHARE) this.#saidBytes = null;
    else if (this.#saidBytes === null || resident >= this.#saidBytes + limitBytes * SAID_AGAIN_SHARE) {
      this.#saidBytes = resident;
      high(resident);
    }
    if (resident < limitBytes) {
      this.#aboveSinceMs = null;
      return;
    }
    this.#aboveSinceMs ??= nowMs;
    if (nowMs - this.#aboveSinceMs < EXCEEDED_MS) return;
    this.#isExceeded = true;
    exceeded(resident);
  }
}
