// What one worker measures, by pipeline: histograms of a period of two seconds, and the bytes that report it.
//
//   M1. A period ends at the next multiple of two seconds of the wall clock. It is reported at the first sample after its
//       end, which still belongs to it; without samples nothing is reported.
//   M2. Each pipeline has a reporter of its own, which reports everything it has ever seen, what is empty in this period
//       too, in one piece; then it starts anew.
//   M3. A batch costs one call for each metric, whatever it holds. Nothing is kept but the histograms.
//
// It does no I/O: `src/worker/metrics_link.ts` sends what it makes.

import type { Clock, Millis } from "../runtime/runtime.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { encodePayload, type MetricsCategory, metricsTopic } from "../wire/metrics.ts";
import { Histogram } from "./histogram.ts";

export const PERIOD_MS: Millis = 2_000;

const NANOS_PER_MS = 1_000_000;

export interface MetricsRegistryOptions {
  readonly clock: Pick<Clock, "wallMs">;
  /** Its name as its author gave it. */
  readonly application: string;
  readonly worker: string;
  /** Takes whole frames, ready to be sent. Called from within `record`. */
  readonly report: (bytes: Uint8Array) => void;
}

/** One metric of one pipeline. */
export interface Recorder {
  /** Books `count` samples of so many nanoseconds each: a batch at its mean. */
  record(nanos: number, count: number): void;
}

/** Fixed names that hubs know. */
export const DECODE_STEP_NAME = "Decode Time in TCP Source";
/** The place of the decoding step in its pipeline; stages follow. */
export const DECODE_STEP_ID = 1;

export class MetricsRegistry {
  readonly #options: MetricsRegistryOptions;
  readonly #reporters = new Map<string, Reporter>();

  constructor(options: MetricsRegistryOptions) {
    this.#options = options;
  }

  /** Time in one stage. `id`: its place in the pipeline, from {@link DECODE_STEP_ID}. */
  computation(pipeline: string, name: string, id: number): Recorder {
    return this.#recorder(pipeline, name, "computation", id);
  }

  /** From the source to the end of a record's way, wherever that is. */
  startToEnd(pipeline: string): Recorder {
    return this.#recorder(pipeline, pipeline, "start-to-end", 0);
  }

  /** Inside of this worker. */
  nodeIngressEgress(pipeline: string): Recorder {
    return this.#recorder(pipeline, this.#options.worker, "node-ingress-egress", 0);
  }

  /** Records received; the sample is always 0. */
  pipelineIngestion(pipeline: string): Recorder {
    return this.#recorder(pipeline, `${pipeline} source`, "pipeline-ingestion", 0);
  }

  /** The same metric twice is one. */
  #recorder(pipeline: string, name: string, category: MetricsCategory, id: number): Recorder {
    let reporter = this.#reporters.get(pipeline);
    if (reporter === undefined) {
      reporter = new Reporter(pipeline, this.#options);
      this.#reporters.set(pipeline, reporter);
    }
    return reporter.metric(name, category, id);
  }
}

class Metric implements Recorder {
  readonly name: string;
  readonly category: MetricsCategory;
  readonly id: number;
  readonly histogram = new Histogram();
  readonly #reporter: Reporter;
  #seen = false;

  constructor(reporter: Reporter, name: string, category: MetricsCategory, id: number) {
    this.#reporter = reporter;
    this.name = name;
    this.category = category;
    this.id = id;
  }

  record(nanos: number, count: number): void {
    if (count === 0) return;
    this.histogram.record(nanos, count);
    if (!this.#seen) {
      this.#seen = true;
      this.#reporter.seen.push(this);
    }
    this.#reporter.sampled();
  }
}

/** All metrics of one pipeline on this worker. */
class Reporter {
  /** Metrics with a sample at any time, in the order of their first. */
  readonly seen: Metric[] = [];
  readonly #pipeline: string;
  readonly #options: MetricsRegistryOptions;
  readonly #metrics = new Map<string, Metric>();
  readonly #out = new ByteWriter();
  /** End of the current period, milliseconds since the Unix epoch; before the first sample there is none. */
  #endMs: Millis | null = null;

  constructor(pipeline: string, options: MetricsRegistryOptions) {
    this.#pipeline = pipeline;
    this.#options = options;
  }

  metric(name: string, category: MetricsCategory, id: number): Metric {
    const key = `${category} ${id} ${name}`;
    let metric = this.#metrics.get(key);
    if (metric === undefined) {
      metric = new Metric(this, name, category, id);
      this.#metrics.set(key, metric);
    }
    return metric;
  }

  sampled(): void {
    const nowMs = this.#options.clock.wallMs();
    const endMs = this.#endMs;
    if (endMs !== null) {
      // A clock that was set back must not silence us until it has caught up.
      const isSetBack = nowMs < endMs - 2 * PERIOD_MS;
      if (nowMs < endMs && !isSetBack) return;
      this.#report(endMs);
    }
    this.#endMs = (Math.floor(nowMs / PERIOD_MS) + 1) * PERIOD_MS;
  }

  #report(endMs: Millis): void {
    const out = this.#out;
    const { application, worker, report } = this.#options;
    const topic = metricsTopic(application);
    for (const { name, category, id, histogram } of this.seen) {
      encodePayload(out, topic, {
        name,
        category,
        worker,
        pipeline: this.#pipeline,
        id,
        bins: histogram.bins,
        min: histogram.min,
        max: histogram.max,
        periodNs: PERIOD_MS * NANOS_PER_MS,
        periodEndNs: BigInt(endMs) * BigInt(NANOS_PER_MS),
      });
      histogram.reset();
    }
    report(out.take());
  }
}
