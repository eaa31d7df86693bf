/**
 * Stages: what an author's function does to each record of a batch. A stage gives 0, 1 or many outputs for a record.
 *
 *   G1. Outputs keep the order of their records, and take over time, key and hash of theirs.
 *   G2. The `try` stands around the loop, not in it: it costs nothing until something throws. Then the culprit is reported
 *       and dropped, and the loop goes on behind it.
 *   G3. Stages never keep a column of a batch that they have handed on.
 */

import type { StateCodec, StateContext, StatefulDefinition } from "../api/graph.ts";
import { showType } from "../api/graph.ts";
import { keyGroupOf } from "../plan/key_groups.ts";
import type { PlannedStatefulStage, PlannedStatelessStage } from "../plan/plan.ts";
import { KeyedState } from "../state/keyed_state.ts";
import type { Batch } from "./batch.ts";
import { gather } from "./columns.ts";
import type { DataflowHooks } from "./dataflow_hooks.ts";
import type { Lineage } from "./lineage.ts";
import { type Operator, OperatorBase, refusePromise } from "./operator.ts";
import { SlowRecords } from "./slow_code.ts";

abstract class Stage extends OperatorBase {
  readonly index: number;
  /** Of each output, which record it comes from. Ours, used for every batch, grown as needed. */
  protected origins: Uint32Array = new Uint32Array(0);
  protected readonly slow: SlowRecords;
  readonly #keyed: boolean;

  constructor(
    stage: { index: number; id: string; keyed: boolean },
    hooks: DataflowHooks,
    lineage: Lineage,
    next: Operator,
  ) {
    super(stage.id, hooks, lineage, next);
    this.index = stage.index;
    this.#keyed = stage.keyed;
    this.slow = new SlowRecords(() => hooks.nowMs());
  }

  receive(batch: Batch): void {
    const { count, pipeline, keys } = batch;
    if (count > 0) {
      const started = this.hooks.nowMs();
      if (this.origins.length < count) this.origins = new Uint32Array(count * 2);
      const isClose = this.slow.begin();
      // Outputs take the places of their records.
      const keysBefore = isClose ? keys.slice() : keys;
      const outputs = this.process(batch, isClose);
      const ms = this.hooks.nowMs() - started;
      this.hooks.stageTimed(this.index, pipeline, count, (ms * 1e6) / count);
      const slow = this.slow.end(ms, this.id, "apply", count, keysBefore);
      if (slow !== null) this.hooks.slowCode(slow);
      this.counts.recordsIn += count;
      this.counts.recordsOut += outputs;
    }
    this.next.receive(batch);
  }

  /**
   * Turns the batch into its outputs; returns how many there are.
   *
   * @param isClose Is each record to be timed?
   */
  protected abstract process(batch: Batch, isClose: boolean): number;

  /** Appends the elements of an array result; returns the new number of outputs. */
  protected spread(results: readonly unknown[], outputs: unknown[], count: number, record: number): number {
    const end = count + results.length;
    if (this.origins.length < end) {
      const grown = new Uint32Array(end * 2);
      grown.set(this.origins);
      this.origins = grown;
    }
    let at = count;
    for (const result of results) {
      if (result === undefined || result === null) continue;
      if (result instanceof Promise) throw refuseAll(results);
      outputs[at] = result;
      this.origins[at] = record;
      at++;
    }
    return at;
  }

  protected finish(batch: Batch, outputs: unknown[], count: number, rearranged: boolean): number {
    batch.values = outputs;
    if (rearranged || count !== batch.count) {
      gather(batch, this.origins, count, this.#keyed);
      this.lineage.moved(this.origins);
    }
    return count;
  }
}

export class StatelessStage extends Stage {
  readonly #apply: (value: unknown) => unknown;

  constructor(stage: PlannedStatelessStage, hooks: DataflowHooks, lineage: Lineage, next: Operator) {
    super(stage, hooks, lineage, next);
    this.#apply = stage.apply;
  }

  readonly #timed = (value: unknown): unknown => this.slow.timed(() => this.#apply(value));

  protected process(batch: Batch, isClose: boolean): number {
    const apply = isClose ? this.#timed : this.#apply;
    const { values, count } = batch;
    const outputs: unknown[] = new Array(count);
    let at = 0;
    let rearranged = false;
    let i = 0;
    while (i < count) {
      try {
        for (; i < count; i++) {
          const result = apply(values[i]);
          if (result === undefined || result === null) continue;
          if (typeof result === "object") {
            if (Array.isArray(result)) {
              at = this.spread(result, outputs, at, i);
              rearranged = true;
              continue;
            }
            if (result instanceof Promise) throw refusePromise("The stage", result);
          }
          outputs[at] = result;
          this.origins[at] = i;
          at++;
        }
      } catch (error) {
        this.userError("apply", error, batch, i, batch.keys[i] ?? null);
        i++;
      }
    }
    return this.finish(batch, outputs, at, rearranged);
  }
}

export class StatefulStage extends Stage {
  readonly state: KeyedState<object>;
  /** What its states look like. */
  readonly stateVersion: number;
  /** From states of another version; `null`: there is no way. */
  readonly migrate: ((state: object, fromVersion: number) => object) | null;
  /** `null`: its states are plain data. */
  readonly codec: StateCodec<object> | null;
  readonly #definition: StatefulDefinition;
  readonly #context = new RecordContext();
  readonly #keyGroupCount: number;

  constructor(stage: PlannedStatefulStage, hooks: DataflowHooks, lineage: Lineage, next: Operator) {
    super(stage, hooks, lineage, next);
    this.#definition = stage.definition;
    this.stateVersion = stage.definition.version ?? 1;
    this.migrate = stage.definition.migrate ?? null;
    this.codec = stage.definition.codec ?? null;
    this.#keyGroupCount = hooks.owners.length;
    this.state = new KeyedState(this.#keyGroupCount);
  }

  protected process(batch: Batch, isClose: boolean): number {
    const definition = isClose ? this.#timed : this.#definition;
    const context = this.#context;
    const state = this.state;
    const { values, count, keys, hashes } = batch;
    const outputs: unknown[] = new Array(count);
    state.expect(hashes, count);
    context.open(batch);
    let at = 0;
    let rearranged = false;
    let i = 0;
    while (i < count) {
      try {
        for (; i < count; i++) {
          const key = keys[i]!;
          const hash = hashes[i]!;
          const held = state.get(hash, key) ?? this.#begin(hash, key, batch, i);
          if (held === undefined) {
            this.slow.skip();
            continue;
          }
          context.record = i;
          const result = definition.apply(values[i], held, context);
          if (result === undefined || result === null) continue;
          if (typeof result === "object") {
            if (Array.isArray(result)) {
              at = this.spread(result, outputs, at, i);
              rearranged = true;
              continue;
            }
            if (result instanceof Promise) throw refusePromise("apply", result);
          }
          outputs[at] = result;
          this.origins[at] = i;
          at++;
        }
      } catch (error) {
        this.userError("apply", error, batch, i, keys[i]!, keyGroupOf(hashes[i]!, this.#keyGroupCount));
        i++;
      }
    }
    context.close();
    return this.finish(batch, outputs, at, rearranged);
  }

  readonly #timed: Pick<StatefulDefinition, "apply"> = {
    apply: (value, state, context) => this.slow.timed(() => this.#definition.apply(value, state, context)),
  };

  /** The first state of a key; `undefined`, after a report, where there's none to be had: the next record tries again. */
  #begin(hash: number, key: string, batch: Batch, record: number): object | undefined {
    try {
      const begun: unknown = this.#definition.initial(key);
      if (begun instanceof Promise) throw refusePromise("initial", begun);
      if (typeof begun !== "object" || begun === null) {
        throw new TypeError(`initial returned ${showType(begun)}: a state is an object, which apply changes in place`);
      }
      this.state.add(hash, key, begun);
      return begun;
    } catch (error) {
      this.userError("initial", error, batch, record, key, keyGroupOf(hash, this.#keyGroupCount));
      return undefined;
    }
  }
}

/** One object for all records: it looks into the batch's columns when asked. */
class RecordContext implements StateContext {
  record = 0;
  #keys: readonly string[] = [];
  #times: Float64Array = new Float64Array(0);

  open(batch: Batch): void {
    this.#keys = batch.keys;
    this.#times = batch.times;
  }
  close(): void {
    this.#keys = [];
  }
  get key(): string {
    return this.#keys[this.record]!;
  }
  get eventTime(): number {
    return this.#times[this.record]!;
  }
}

/** For an array of promises, such as `map` of an `async` function gives. */
function refuseAll(results: readonly unknown[]): Error {
  const refusals = results
    .filter((result) => result instanceof Promise)
    .map((result) => refusePromise("The stage", result));
  return refusals[0]!;
}
