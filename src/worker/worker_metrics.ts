/** What a worker measures, once a batch, and where it sends it: the dataflow's meter over a registry and a link to the hub. */
import type { Log } from "../base/log.ts";
import { DECODE_STEP_ID, DECODE_STEP_NAME, MetricsRegistry, type Recorder } from "../metrics/metrics_registry.ts";
import type { Plan, Target } from "../plan/plan.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { WorkerConfig } from "./config.ts";
import type { DataflowMeter } from "./dataflow_shell.ts";
import { MetricsLink } from "./metrics_link.ts";

/** The recorders of one pipeline. */
interface PipelineRecorders {
  readonly decode: Recorder;
  readonly ingestion: Recorder;
  readonly startToEnd: Recorder;
  readonly ingressEgress: Recorder;
  /** By stage of the plan; only those that the pipeline's records come through. */
  readonly stages: ReadonlyMap<number, Recorder>;
}

export class WorkerMetrics implements DataflowMeter {
  readonly #link: MetricsLink | null;
  /** By pipeline; none without a hub. */
  readonly #pipelines: readonly PipelineRecorders[];

  constructor(config: Pick<WorkerConfig, "application" | "metrics" | "name">, runtime: Runtime, log: Log, plan: Plan) {
    if (config.metrics === null) {
      this.#link = null;
      this.#pipelines = [];
      return;
    }
    const application = config.application.name;
    const link = new MetricsLink({ runtime, log, address: config.metrics, application, worker: config.name });
    const registry = new MetricsRegistry({
      clock: runtime.clock,
      application,
      worker: config.name,
      report: (bytes) => void link.send(bytes),
    });
    this.#link = link;
    this.#pipelines = plan.pipelines.map((pipeline, index) => ({
      decode: registry.computation(pipeline, DECODE_STEP_NAME, DECODE_STEP_ID),
      ingestion: registry.pipelineIngestion(pipeline),
      startToEnd: registry.startToEnd(pipeline),
      ingressEgress: registry.nodeIngressEgress(pipeline),
      stages: new Map(
        stagesOf(plan, index).map((stage, place) => [
          stage,
          registry.computation(pipeline, plan.stages[stage]!.name, DECODE_STEP_ID + 1 + place),
        ]),
      ),
    }));
  }

  start(): void {
    this.#link?.start();
  }

  close(): void {
    this.#link?.close();
  }

  decoded(pipeline: number, records: number, nanos: number): void {
    this.#pipelines[pipeline]?.decode.record(nanos, records);
  }

  ingested(pipeline: number, records: number): void {
    this.#pipelines[pipeline]?.ingestion.record(0, records);
  }

  stage(stage: number, pipeline: number, records: number, nanos: number): void {
    this.#pipelines[pipeline]?.stages.get(stage)?.record(nanos, records);
  }

  finished(pipeline: number, records: number, nanos: number): void {
    this.#pipelines[pipeline]?.startToEnd.record(nanos, records);
  }

  left(pipeline: number, records: number, nanos: number): void {
    this.#pipelines[pipeline]?.ingressEgress.record(nanos, records);
  }
}

/** The stages that the records of a source come through, in their order. */
function stagesOf(plan: Plan, source: number): number[] {
  const stages: number[] = [];
  let target: Target = plan.sources[source]!.target;
  while (target.kind !== "sinks") {
    if (target.kind === "stage") {
      stages.push(target.stage);
      target = plan.stages[target.stage]!.target;
    } else {
      target = plan.exchanges[target.exchange]!.target;
    }
  }
  return stages;
}
