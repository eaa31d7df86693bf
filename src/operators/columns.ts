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

  push(batch: Batch, record: number, keyed: boolean): void {
    const at = this.#count;
    if (at === this.#times.length) this.#grow();
    this.#values.push(batch.values[record]);
    this.#times[at] = batch.times[record]!;
    if (keyed) {
      this.#keys.push(batch.keys[record]!);
      this.#hashes[at] = batch.hashes[record]!;
    }
    this.#count = at + 1;
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

  #grow(): void {
    const times = new Float64Array(this.#times.length * 2);
    times.set(this.#times);
    this.#times = times;
    const hashes = new Uint32Array(this.#hashes.length * 2);
    hashes.set(this.#hashes);
    this.#hashes = hashes;
  }
}

export const NO_HASHES: Uint32Array = new Uint32Array(0);
