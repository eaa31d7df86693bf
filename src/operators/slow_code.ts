/**
 * User code that takes long: nothing else happens in a worker meanwhile, and no timer can interrupt it. So it is said
 * afterwards. Batches are timed anyway; only of a stage that was slow is each record timed, for a while.
 */

/** User code that runs so long within one batch is told. In milliseconds. */
export const SLOW_CODE_MS = 1_000;
/** So many batches behind a slow one are looked at record by record. */
const CLOSE_BATCHES = 1_000;

export interface SlowCode {
  /** Operator id, `pipeline/stage name`. */
  readonly stage: string;
  /** `decode`, `key`, `apply`, `encode`. */
  readonly during: string;
  readonly records: number;
  /** Of all of them. */
  readonly ms: number;
  /** The record that took longest; null: not known. Its key is null where it has none. */
  readonly slowest: { readonly ms: number; readonly key: string | null } | null;
}

/** Finds the record that takes longest, in the batches behind one that was slow. */
export class SlowRecords {
  #closeBatches = 0;
  #at = 0;
  #slowest = 0;
  #slowestMs: number = 0;
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** A batch begins. Is each of its records to be timed? */
  begin(): boolean {
    if (this.#closeBatches === 0) return false;
    this.#at = 0;
    this.#slowestMs = 0;
    return true;
  }

  /** Of a batch that is looked at closely: its records, each in its turn. */
  timed<T>(run: () => T): T {
    const record = this.#at++;
    const before = this.#nowMs();
    try {
      return run();
    } finally {
      const ms = this.#nowMs() - before;
      if (ms > this.#slowestMs) {
        this.#slowestMs = ms;
        this.#slowest = record;
      }
    }
  }

  /** The next record has no turn. */
  skip(): void {
    this.#at++;
  }

  /** The batch is over. @returns What is to be told; null: nothing. */
  end(ms: number, stage: string, during: string, records: number, keys: readonly string[]): SlowCode | null {
    const isClose = this.#closeBatches > 0;
    if (isClose) this.#closeBatches--;
    if (ms < SLOW_CODE_MS) return null;
    this.#closeBatches = CLOSE_BATCHES;
    if (records === 1) return { stage, during, records, ms, slowest: { ms, key: keys[0] ?? null } };
    const slowest = isClose ? { ms: this.#slowestMs, key: keys[this.#slowest] ?? null } : null;
    return { stage, during, records, ms, slowest };
  }
}
