/**
 * The seam between the dataflow of one worker (plain calls over batches, no I/O) and the worker's shell, which owns
 * sockets, links and time. The shell makes one `Dataflow` for each start of the worker.
 */
import type { KeyGroup } from "../base/ids.ts";
import type { Batch } from "./batch.ts";
import type { SlowCode } from "./slow_code.ts";

export interface DataflowHooks {
  /** Index of this worker in the cluster's order of members (initializer first), and how many there are. */
  readonly self: number;
  readonly workerCount: number;
  /** Owner (member index) of each key group; replaced as a whole when the routing version changes. */
  readonly owners: Uint16Array;
  /** Hands records to another worker over the data channel; the batch's columns may be reused after the call. */
  sendRemote(exchange: number, worker: number, batch: Batch): void;
  /** Hands records to a sink's connector: `sink` is the index in the plan. */
  writeSink(sink: number, batch: Batch): void;
  /** User code threw on one record. The dataflow goes on with the next. */
  userError(error: UserError): void;
  /** User code ran for long, while nothing else could happen. */
  slowCode(slow: SlowCode): void;
  /** For timing; microsecond resolution where the platform has it. */
  nowMs(): number;
  /** `nanosPerRecord` for each of `records` records of one batch that went through one stage. */
  stageTimed(stage: number, pipeline: number, records: number, nanosPerRecord: number): void;
}

export interface UserError {
  /** Operator id, `pipeline/stage name`. */
  readonly stage: string;
  /** `decode`, `key`, `apply`, `encode`, ... */
  readonly during: string;
  readonly key: string | null;
  readonly keyGroup: KeyGroup | null;
  readonly error: unknown;
  /** What was lost: the bytes of the record, before it was decoded, or the value that the stage got; null: no record was. */
  readonly record: { readonly bytes: Uint8Array } | { readonly value: unknown } | null;
  /** Event time, in microseconds; null: it has none yet. */
  readonly time: number | null;
  /**
   * Which of the records it was that the source handed over: of its frames, while they are decoded, else of the batch that
   * they became. Null: not known, as behind an exchange.
   */
  readonly origin: number | null;
}
