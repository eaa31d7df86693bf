import type { Batch } from "./batch.ts";
import { NO_HASHES } from "./columns.ts";

/** Makes the batches of one source: its watermark is the highest event time so far, so it follows data and never steps back. */
export class SourceBatches {
  readonly #pipeline: number;
  #watermark = Number.NEGATIVE_INFINITY;

  /** @param pipeline The index of the source. */
  constructor(pipeline: number) {
    this.#pipeline = pipeline;
  }

  /** Records whose event time is when they arrived. */
  byArrival(values: unknown[], arrivalMs: number): Batch {
    const arrival = Math.trunc(arrivalMs * 1000);
    if (values.length > 0 && arrival > this.#watermark) this.#watermark = arrival;
    return this.#batch(values, new Float64Array(values.length).fill(arrival), arrivalMs);
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
