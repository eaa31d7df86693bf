/**
 * A batch: what one source read gave, on its way through the operators of one worker. Columns of equal length; only the
 * first `count` entries count. Batches are handed on, never kept: who keeps a column copies it. An operator that leaves
 * the number and order of records alone passes the same columns on and replaces `values` only.
 */
export interface Batch {
  count: number;
  values: unknown[];
  /** Event time, whole microseconds since the Unix epoch. */
  times: Float64Array;
  /** Set from the first `keyBy` on; empty before it. */
  keys: string[];
  /** `hashKey(key)` of each key; empty before the first `keyBy`. Travels with the record to other workers. */
  hashes: Uint32Array;
  /** No record with an earlier event time is expected behind this batch; microseconds. */
  watermark: number;
  /** When the source read it, in milliseconds of the wall clock: for latency metrics only. */
  arrivalMs: number;
  /** Index of the pipeline (named after its source) in the plan: metrics are told apart by it. */
  pipeline: number;
}

/** What takes a batch: the next operator, an exchange, a sink. Called synchronously; the batch is the callee's now. */
export type Receive = (batch: Batch) => void;
