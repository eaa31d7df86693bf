/**
 * What leaves a worker through its exchanges. A batch that can't go as a whole goes in halves; a record that can't go alone is
 * its author's error.
 */
import type { WorkerName } from "../base/ids.ts";
import type { Batch } from "../operators/batch.ts";
import type { Plan } from "../plan/plan.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { type DataBatchColumns, encodeDataBatch } from "../wire/data_batch.ts";
import { ValueError } from "../wire/values.ts";
import type { BatchLinks } from "./batch_links.ts";
import type { UserErrors } from "./user_errors.ts";

/** Of a frame, for what stands before the batch. */
const HEADER_BYTES_MAX = 64;

export interface OutletOptions {
  readonly plan: Plan;
  readonly frameBytesMax: number;
  readonly links: Pick<BatchLinks, "sendBatch">;
  readonly userErrors: UserErrors;
}

export class Outlet {
  readonly #options: OutletOptions;
  readonly #writer = new ByteWriter(256 * 1024);

  constructor(options: OutletOptions) {
    this.#options = options;
  }

  /** The batch's columns may be reused after the call. */
  send(to: WorkerName, exchange: number, batch: Batch): void {
    const { count, times, hashes, keys, values, watermark, arrivalMs, pipeline } = batch;
    this.#send(to, { exchange, pipeline, count, watermark, arrivalMs, times, hashes, keys, values });
  }

  #send(to: WorkerName, columns: DataBatchColumns): void {
    const { exchange, count } = columns;
    const { frameBytesMax, links, plan, userErrors } = this.#options;
    const writer = this.#writer;
    const lengthMax = frameBytesMax - HEADER_BYTES_MAX;
    let why: unknown;
    try {
      encodeDataBatch(columns, writer);
      if (writer.length <= lengthMax) {
        const bytes = writer.written();
        writer.clear();
        return links.sendBatch(to, exchange, bytes);
      }
      why = new RangeError(`the record has ${writer.length} bytes; at most ${lengthMax} can go to another worker`);
    } catch (error) {
      // A value that can't travel, behind the first ones, which are all checked. The others of its batch do travel.
      if (!(error instanceof ValueError)) throw error;
      why = error;
    }
    writer.clear();
    if (count === 1) {
      return userErrors.threw({
        stage: plan.exchanges[exchange]!.id,
        during: "send",
        key: columns.keys[0] ?? null,
        keyGroup: null,
        error: why,
        record: { value: columns.values[0] },
        time: columns.times[0] ?? null,
        origin: null,
      });
    }
    const half = count >>> 1;
    this.#send(to, slice(columns, 0, half));
    this.#send(to, slice(columns, half, count));
  }
}

function slice(columns: DataBatchColumns, from: number, to: number): DataBatchColumns {
  return {
    ...columns,
    count: to - from,
    times: columns.times.slice(from, to),
    hashes: columns.hashes.slice(from, to),
    keys: columns.keys.slice(from, to),
    values: columns.values.slice(from, to),
  };
}
