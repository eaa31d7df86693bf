/** One bin for each number of significant bits of a sample in nanoseconds: 0 to 64. */
export const BIN_COUNT = 65;

/** Smallest sample of a histogram without any. */
export const EMPTY_MIN = 2n ** 64n - 1n;

/**
 * The bin of a sample: the number of its significant bits. Bin 0 holds 0, bin i holds 2^(i-1) to 2^i - 1. Fractions are
 * dropped, what is negative counts as 0.
 */
export function binOf(nanoseconds: number): number {
  if (nanoseconds < 1) return 0;
  if (nanoseconds < 0x1_0000_0000) return 32 - Math.clz32(nanoseconds);
  if (nanoseconds >= 2 ** 64) return 64;
  return 64 - Math.clz32(nanoseconds / 0x1_0000_0000);
}

/** Latencies of one period. Counts are doubles: exact up to 2^53 samples. */
export class Histogram {
  readonly bins = new Float64Array(BIN_COUNT);
  #min = Number.POSITIVE_INFINITY;
  #max = 0;

  /** Books `count` samples (default 1) of whole nanoseconds; fractions are dropped. */
  record(nanoseconds: number, count = 1): void {
    if (count === 0) return;
    const sample = nanoseconds > 0 ? Math.floor(nanoseconds) : 0;
    const bin = binOf(sample);
    this.bins[bin] = this.bins[bin]! + count;
    if (sample < this.#min) this.#min = sample;
    if (sample > this.#max) this.#max = sample;
  }

  get total(): number {
    let total = 0;
    for (const count of this.bins) total += count;
    return total;
  }

  /** Smallest sample, in nanoseconds; `EMPTY_MIN` without samples. */
  get min(): number | bigint {
    return this.#min === Number.POSITIVE_INFINITY ? EMPTY_MIN : this.#min;
  }

  /** Largest sample, in nanoseconds; 0 without samples. */
  get max(): number {
    return this.#max;
  }

  reset(): void {
    this.bins.fill(0);
    this.#min = Number.POSITIVE_INFINITY;
    this.#max = 0;
  }
}
