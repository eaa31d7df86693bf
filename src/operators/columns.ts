/** Moving records within the columns of a batch. */
import type { Batch } from "./batch.ts";

/**
 * Rearranges times, keys and hashes so that output `i` has those of record `origins[i]`; the values are there already.
 * Origins ascend. Columns are changed in place where that's enough.
 */
export function gather(batch: Batch, origins: Uint32Array, count: number, keyed: boolean): void {
  const { times, keys, hashes } = batch;
  // In place only if nothing is written over before it is read: each origin at or behind its output.
  let inPlace = count <= batch.count;
  for (let i = 0; inPlace && i < count; i++) inPlace = origins[i]! >= i;
  const timesTo = inPlace ? times : new Float64Array(count);
  for (let i = 0; i < count; i++) timesTo[i] = times[origins[i]!]!;
  batch.times = timesTo;
  if (keyed) {
    const keysTo = inPlace ? keys : new Array<string>(count);
    const hashesTo = inPlace ? hashes : new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      keysTo[i] = keys[origins[i]!]!;
      hashesTo[i] = hashes[origins[i]!]!;
    }
    batch.keys = keysTo;
    batch.hashes = hashesTo;
  }
  batch.count = count;
}

/** Takes one record out. For what happens rarely. */
export function dropRecord(batch: Batch, record: number): void {
  const { values, keys, times, hashes, count } = batch;
  for (let i = record + 1; i < count; i++) moveRecord(batch, i, i - 1, keys.length > 0);
  values.length = count - 1;
  batch.times = times.subarray(0, count - 1);
  if (keys.length > 0) {
    keys.length = count - 1;
    batch.hashes = hashes.subarray(0, count - 1);
  }
  batch.count = count - 1;
}

/** Keeps the records `order[from, to)`, which ascend. */
export function keepRecords(batch: Batch, order: Uint32Array, from: number, to: number, keyed: boolean): void {
  for (let i = from; i < to; i++) {
    const record = order[i]!;
    if (record !== i - from) moveRecord(batch, record, i - from, keyed);
  }
  batch.count = to - from;
}

/** Copies a record to another place of the same batch. */
export function moveRecord(batch: Batch, from: number, to: number, keyed: boolean): void {
  batch.values[to] = batch.values[from];
  batch.times[to] = batch.times[from]!;
  if (!keyed) return;
  batch.keys[to] = batch.keys[from]!;
  batch.hashes[to] = batch.hashes[from]!;
}

/** Collects the records that go to one other worker. One for each target, used for every batch. */
export class Outbox {
  #count = 0;
  #values: unknown[] = [];
  #keys: string[] = [];
  #times = new Float64Array(64);
  #hashes = new Uint32Array(64);

  get count(): number {
    return this.#count;
  }

  /** Takes the records `order[from, to)` of the batch, in place of those it has. */
  fill(batch: Batch, order: Uint32Array, from: number, to: number, keyed: boolean): void {
    const count = to - from;
    // Arrays of the right size at once: growing them would cost more than filling them.
    const taken = new Array<unknown>(count);
    if (this.#times.length < count) {
      this.#times = new Float64Array(count * 2);
      this.#hashes = new Uint32Array(count * 2);
    }
    const { values, times } = batch;
    const timesTo = this.#times;
    for (let i = 0; i < count; i++) {
      const record = order[from + i]!;
      taken[i] = values[record];
      timesTo[i] = times[record]!;
    }
    this.#values = taken;
    this.#count = count;
    if (keyed) this.#fillKeys(batch, order, from, count);
  }

  #fillKeys({ keys, hashes }: Batch, order: Uint32Array, from: number, count: number): void {
    const taken = new Array<string>(count);
    const hashesTo = this.#hashes;
    for (let i = 0; i < count; i++) {
      const record = order[from + i]!;
      taken[i] = keys[record]!;
      hashesTo[i] = hashes[record]!;
    }
    this.#keys = taken;
  }

  /** The records as a batch with the watermark and so on of `like`; empties the box. The typed columns are used again. */
  take(like: Batch): Batch {
    const batch: Batch = {
      count: this.#count,
      values: this.#values,
      times: this.#times,
      keys: this.#keys,
      hashes: this.#keys.length > 0 ? this.#hashes : NO_HASHES,
      watermark: like.watermark,
      arrivalMs: like.arrivalMs,
      pipeline: like.pipeline,
    };
    this.#count = 0;
    this.#values = [];
    this.#keys = [];
    return batch;
  }
}

export const NO_HASHES: Uint32Array = new Uint32Array(0);
