import { assert, unreachable } from "../base/assert.ts";
import type { Plan, PlannedExchange, PlannedStage, Target } from "../plan/plan.ts";
import type { KnownKeys } from "../wire/data_batch.ts";
import { checkValue } from "../wire/values.ts";
import type { Batch } from "./batch.ts";
import type { DataflowHooks } from "./dataflow_hooks.ts";
import { type CheckValue, CollectExchange, KeyExchange, RebalanceExchange } from "./exchange.ts";
import { Lineage } from "./lineage.ts";
import type { Operator, OperatorBase, OperatorCounts } from "./operator.ts";
import { StatefulStage, StatelessStage } from "./stage.ts";

/**
 * The operators of one worker, connected as the plan says. A batch that is handed in has gone through everything when the
 * call returns: to the sinks and to other workers by way of the hooks.
 *
 * The dataflow holds keyed state and nothing else. It never waits, keeps no record and knows nothing of sockets or time.
 */
export class Dataflow {
  readonly #plan: Plan;
  readonly #hooks: DataflowHooks;
  readonly #check: CheckValue;
  readonly #lineage = new Lineage();
  readonly #stages: (StatelessStage | StatefulStage)[] = [];
  readonly #exchanges: OperatorBase[] = [];
  /** By source and by exchange: what takes its records. */
  readonly #behindSource: Operator[];
  readonly #behindExchange: Operator[] = [];

  /** @param check Says whether a value can travel, by throwing. Another one than the codec's is for tests. */
  constructor(plan: Plan, hooks: DataflowHooks, check: CheckValue = checkValue) {
    assert(hooks.owners.length > 0 && hooks.self < hooks.workerCount);
    this.#plan = plan;
    this.#hooks = hooks;
    this.#check = check;
    this.#behindSource = plan.sources.map((source) => this.#operatorAt(source.target));
  }

  /** Records that a source of this worker has read. The batch is the dataflow's from here on. */
  fromSource(source: number, batch: Batch): void {
    this.#lineage.begin();
    this.#behindSource[source]!.receive(batch);
  }

  /** Records that another worker sent through an exchange; `keys` and `hashes` are set unless it's a rebalance. */
  fromExchange(exchange: number, batch: Batch): void {
    this.#lineage.forget();
    this.#behindExchange[exchange]!.receive(batch);
  }

  /** Records that go in again at the operator that refused them; with keys where that has keys. */
  intoStage(stage: number, batch: Batch): void {
    this.#lineage.begin();
    this.#stages[stage]!.receive(batch);
  }

  /** As they were before the exchange, on any worker. */
  intoExchange(exchange: number, batch: Batch): void {
    this.#lineage.begin();
    this.#exchanges[exchange]!.receive(batch);
  }

  intoSink(sink: number, batch: Batch): void {
    this.#lineage.begin();
    this.#hooks.writeSink(sink, batch);
  }

  /** Within `writeSink`: which record of the source's batch this one was; null: not known. */
  originOf(record: number): number | null {
    return this.#lineage.originOf(record);
  }

  /** The keys that records of this exchange will be looked for under: those of the first state behind it, if there is one. */
  knownKeys(exchange: number): KnownKeys | undefined {
    let target = this.#plan.exchanges[exchange]!.target;
    while (target.kind === "stage") {
      const stage = this.#stages[target.stage];
      if (stage instanceof StatefulStage) return stage.state;
      target = this.#plan.stages[target.stage]!.target;
    }
    return undefined;
  }

  /** The stages of this worker that have state, in the plan's order. */
  statefulStages(): StatefulStage[] {
    return this.#stages.filter((stage) => stage instanceof StatefulStage);
  }

  /** The keys that a stage of this worker has state for; none for a stateless stage. */
  *keysOf(stage: number): IterableIterator<string> {
    const operator = this.#stages[stage];
    if (operator instanceof StatefulStage) yield* operator.state.keys();
  }

  /** How many keys `keysOf` would give. */
  keyCount(stage: number): number {
    const operator = this.#stages[stage];
    return operator instanceof StatefulStage ? operator.state.keyCount : 0;
  }

  /** What went through a stage of this worker. */
  stageCounts(stage: number): Readonly<OperatorCounts> {
    return this.#stages[stage]!.counts;
  }

  /** What went into an exchange on this worker; `recordsOut` has those that stayed and those that left. */
  exchangeCounts(exchange: number): Readonly<OperatorCounts> {
    return this.#exchanges[exchange]!.counts;
  }

  /** What stands at a target; made when first met, as a merge has several ways to it. */
  #operatorAt(target: Target): Operator {
    switch (target.kind) {
      case "stage": {
        const made = this.#stages[target.stage];
        if (made !== undefined) return made;
        const stage = this.#makeStage(this.#plan.stages[target.stage]!);
        this.#stages[target.stage] = stage;
        return stage;
      }
      case "exchange": {
        const made = this.#exchanges[target.exchange];
        if (made !== undefined) return made;
        const planned = this.#plan.exchanges[target.exchange]!;
        const behind = this.#operatorAt(planned.target);
        this.#behindExchange[target.exchange] = behind;
        const exchange = this.#makeExchange(planned, behind);
        this.#exchanges[target.exchange] = exchange;
        return exchange;
      }
      case "sinks":
        return new SinkPort(target.sinks, this.#hooks);
      default:
        return unreachable(target);
    }
  }

  #makeStage(stage: PlannedStage): StatelessStage | StatefulStage {
    const next = this.#operatorAt(stage.target);
    return stage.kind === "stateless"
      ? new StatelessStage(stage, this.#hooks, this.#lineage, next)
      : new StatefulStage(stage, this.#hooks, this.#lineage, next);
  }

  #makeExchange(exchange: PlannedExchange, next: Operator): OperatorBase {
    switch (exchange.kind) {
      case "key":
        return new KeyExchange(exchange, this.#hooks, this.#lineage, next, this.#check);
      case "collect":
        return new CollectExchange(exchange, this.#hooks, this.#lineage, next, this.#check);
      case "rebalance":
        return new RebalanceExchange(exchange, this.#hooks, this.#lineage, next, this.#check);
      default:
        return unreachable(exchange.kind);
    }
  }
}

/** The end: every sink gets the same batch, to read only. */
class SinkPort implements Operator {
  readonly #sinks: readonly number[];
  readonly #hooks: DataflowHooks;

  constructor(sinks: readonly number[], hooks: DataflowHooks) {
    this.#sinks = sinks;
    this.#hooks = hooks;
  }

  receive(batch: Batch): void {
    if (batch.count === 0) return;
    for (const sink of this.#sinks) this.#hooks.writeSink(sink, batch);
  }
}
