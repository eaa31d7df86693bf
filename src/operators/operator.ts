import { AssertionError } from "../base/assert.ts";
import type { KeyGroup } from "../base/ids.ts";
import type { Batch } from "./batch.ts";
import type { DataflowHooks } from "./dataflow_hooks.ts";
import type { Lineage } from "./lineage.ts";

/** A place that takes batches: a stage, an exchange, the sinks. It calls what comes behind it before it returns. */
export interface Operator {
  receive(batch: Batch): void;
}

/** What went through an operator since it was made. */
export interface OperatorCounts {
  /** Records that came in. */
  recordsIn: number;
  /** Records that went on. */
  recordsOut: number;
  /** Records that were lost to a user error. */
  errors: number;
}

/** What operators share: their id, their counts, how they report a user error. */
export abstract class OperatorBase implements Operator {
  readonly counts: OperatorCounts = { recordsIn: 0, recordsOut: 0, errors: 0 };
  readonly id: string;
  protected readonly hooks: DataflowHooks;
  protected readonly next: Operator;
  protected readonly lineage: Lineage;

  constructor(id: string, hooks: DataflowHooks, lineage: Lineage, next: Operator) {
    this.id = id;
    this.hooks = hooks;
    this.lineage = lineage;
    this.next = next;
  }

  abstract receive(batch: Batch): void;

  /** Number `record` of the batch, as it was when the batch came in, is lost. */
  protected userError(
    during: string,
    error: unknown,
    { values, times }: Batch,
    record: number,
    key: string | null = null,
    keyGroup: KeyGroup | null = null,
  ): void {
    // Ours, not the author's: that ends the process.
    if (error instanceof AssertionError) throw error;
    this.counts.errors++;
    const [time, origin] = [times[record] ?? null, this.lineage.originOf(record)];
    this.hooks.userError({
      ...{ stage: this.id, during, key, keyGroup, error, time, origin },
      record: { value: values[record] },
    });
  }
}

/** What the promise of an `async` function becomes, where only plain values are possible. */
export function refusePromise(during: string, promise: Promise<unknown>): TypeError {
  // Nobody will wait for it: a rejection must not end the process.
  promise.then(undefined, () => {});
  return new TypeError(`${during} returned a promise: work on records is synchronous, so leave out "async"`);
}
