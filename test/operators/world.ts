/** Some workers in one process, joined by plain calls: what the worker's shell does with sockets. */
import type { Application, BuildContext } from "../../src/api/application.ts";
import type { Batch } from "../../src/operators/batch.ts";
import { Dataflow } from "../../src/operators/dataflow.ts";
import type { DataflowHooks, UserError } from "../../src/operators/dataflow_hooks.ts";
import { GeneratorRunner } from "../../src/operators/generator_runner.ts";
import { SourceBatches } from "../../src/operators/source_batch.ts";
import { assignOwners } from "../../src/plan/key_groups.ts";
import { type Plan, planApplication } from "../../src/plan/plan.ts";

export interface TestWorker {
  readonly plan: Plan;
  readonly dataflow: Dataflow;
  readonly errors: UserError[];
  /** Records that left this worker, by exchange. */
  readonly sent: number[];
  /** Lets the generator of a source make up to so many records, in batches of `batchSize`. */
  generate(source: string, count: number, batchSize?: number): void;
  /** Hands values to a source, as one batch. */
  feed(source: string, values: readonly unknown[], times?: readonly number[]): void;
  /** What a sink was given so far. */
  output(sink: number): unknown[];
}

export function world(
  application: Application,
  options: { workers?: number; context?: Partial<BuildContext>; check?: (value: unknown) => void } = {},
): TestWorker[] {
  const workers = options.workers ?? 1;
  const owners = assignOwners(workers);
  const made: TestWorker[] = [];
  for (let self = 0; self < workers; self++) {
    const name = self === 0 ? "initializer" : `worker${self}`;
    const plan = planApplication(application, { ...contextOf(name, workers), ...options.context });
    made.push(makeWorker(plan, name, self, owners, workers, made, options.check));
  }
  return made;
}

export function contextOf(worker = "initializer", workers = 1): BuildContext {
  return { args: [], options: {}, worker, workers, inputs: [] };
}

function makeWorker(
  plan: Plan,
  name: string,
  self: number,
  owners: Uint16Array,
  workerCount: number,
  all: readonly TestWorker[],
  check: ((value: unknown) => void) | undefined,
): TestWorker {
  const errors: UserError[] = [];
  const sent = plan.exchanges.map(() => 0);
  const outputs: unknown[][] = plan.sinks.map(() => []);
  let ticks = 0;
  const hooks: DataflowHooks = {
    self,
    workerCount,
    owners,
    sendRemote(exchange, worker, batch) {
      sent[exchange]! += batch.count;
      all[worker]!.dataflow.fromExchange(exchange, copyOf(batch));
    },
    writeSink: (sink, batch) => outputs[sink]!.push(...batch.values.slice(0, batch.count)),
    userError: (error) => errors.push(error),
    nowMs: () => ticks++,
    stageTimed: () => {},
    slowCode: () => {},
  };
  const dataflow = check === undefined ? new Dataflow(plan, hooks) : new Dataflow(plan, hooks, check);
  const sourceOf = (source: string) => {
    const planned = plan.sources.find((candidate) => candidate.name === source);
    if (planned === undefined) throw new Error(`no source ${source}`);
    return planned;
  };
  const batches = plan.sources.map((source) => new SourceBatches(source.index));
  const generators = new Map<string, GeneratorRunner>();
  return {
    plan,
    dataflow,
    errors,
    sent,
    generate(source, count, batchSize = 100) {
      const { index, definition } = sourceOf(source);
      if (definition.kind !== "generator") throw new Error(`${source} is no generator`);
      let runner = generators.get(source);
      if (runner === undefined) {
        const context = { worker: name, workers: workerCount };
        runner = new GeneratorRunner({ name: source, definition }, context, (error) => errors.push(error));
        generators.set(source, runner);
      }
      for (let left = count; left > 0 && !runner.ended; left -= batchSize) {
        dataflow.fromSource(index, batches[index]!.byArrival(runner.take(Math.min(left, batchSize)), 1000));
      }
    },
    feed(source, values, times) {
      const { index } = sourceOf(source);
      dataflow.fromSource(index, batchOf(values, times, index));
    },
    output: (sink) => outputs[sink]!,
  };
}

export function batchOf(values: readonly unknown[], times?: readonly number[], pipeline = 0): Batch {
  return {
    count: values.length,
    values: [...values],
    times: Float64Array.from(times ?? values.map(() => 0)),
    keys: [],
    hashes: new Uint32Array(0),
    watermark: 0,
    arrivalMs: 0,
    pipeline,
  };
}

/** What the wire does: nothing of the sender's columns is kept. */
function copyOf(batch: Batch): Batch {
  const { count } = batch;
  return {
    ...batch,
    values: structuredClone(batch.values.slice(0, count)),
    times: batch.times.slice(0, count),
    keys: batch.keys.slice(0, count),
    hashes: batch.hashes.slice(0, count),
  };
}
