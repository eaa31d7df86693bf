import { AssertionError } from "../base/assert.ts";
import type { KeyGroup } from "../base/ids.ts";
import type { Batch } from "./batch.ts";
import type { DataflowHooks } from "./dataflow_hooks.ts";

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

  constructor(id: string, hooks: DataflowHooks, next: Operator) {
    this.id = id;
    this.hooks = hooks;
    this.next = next;
  }

  abstract receive(batch: Batch): void;

  protected userError(
    during: string,
    error: unknown,
    value: unknown,
    key: string | null = null,
    keyGroup: KeyGroup | null = null,
  ): void {
    // Ours, not the author's: that ends the process.
    if (error instanceof AssertionError) throw error;
    this.counts.errors++;
    this.hooks.userError({ stage: this.id, during, key, keyGroup, error, record: { value } });
  }
}

/** What the promise of an `async` function becomes, where only plain values are possible. */
export function refusePromise(during: string, promise: Promise<unknown>): TypeError {
  // Nobody will wait for it: a rejection must not end the process.
  promise.then(undefined, () => {});
  return new TypeError(`${during} returned a promise: work on records is synchronous, so leave out "async"`);
}
