import type { Batch } from "./batch.ts";
import { NO_HASHES } from "./columns.ts";

/** Makes the batches of one source: its watermark is the highest event time so far, so it follows data and never steps back. */
export class SourceBatches {
  readonly #pipeline: number;
  /** The column of each batch in turn, since nobody keeps one. */
  #times = new Float64Array(0);
  #watermark = Number.NEGATIVE_INFINITY;

  /** @param pipeline The index of the source. */
  constructor(pipeline: number) {
    this.#pipeline = pipeline;
  }

  /** Records whose event time is when they arrived. */
  byArrival(values: unknown[], arrivalMs: number): Batch {
    const arrival = Math.trunc(arrivalMs * 1000);
    if (values.length > 0 && arrival > this.#watermark) this.#watermark = arrival;
    if (this.#times.length < values.length) this.#times = new Float64Array(values.length * 2);
    return this.#batch(values, this.#times.subarray(0, values.length).fill(arrival), arrivalMs);
  }

  /** Records with event times of their own, in microseconds; `times` may be longer than `values`. */
  byEventTime(values: unknown[], times: Float64Array, arrivalMs: number): Batch {
    for (let i = 0; i < values.length; i++) if (times[i]! > this.#watermark) this.#watermark = times[i]!;
    return this.#batch(values, times, arrivalMs);
  }

  #batch(values: unknown[], times: Float64Array, arrivalMs: number): Batch {
    const { length: count } = values;
    const watermark = this.#watermark;
    return { count, values, times, keys: [], hashes: NO_HASHES, watermark, arrivalMs, pipeline: this.#pipeline };
  }
}
