import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { EMPTY_MIN } from "../../src/metrics/histogram.ts";
import { MetricsRegistry, type Recorder } from "../../src/metrics/metrics_registry.ts";
import { FrameSplitter, HEADER_U32, writeFrameHeader } from "../../src/wire/frame.ts";
import { decodeMetrics, type MetricsMessage } from "../../src/wire/metrics.ts";

type Payload = MetricsMessage & { kind: "payload" };

interface Bench {
  nowMs: number;
  readonly reports: Uint8Array[];
  readonly registry: MetricsRegistry;
}

function bench(nowMs = 1_000_500, names: { application?: string; worker?: string } = {}): Bench {
  const reports: Uint8Array[] = [];
  const at: Bench = {
    nowMs,
    reports,
    registry: new MetricsRegistry({
      clock: { wallMs: () => at.nowMs },
      application: names.application ?? "app",
      worker: names.worker ?? "initializer",
      report: (bytes) => void reports.push(bytes),
    }),
  };
  return at;
}

function frames(report: Uint8Array): Uint8Array[] {
  const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
  assert.equal(splitter.push(report), "ok");
  assert.equal(splitter.pending, 0);
  return Array.from({ length: splitter.count }, (_, i) =>
    splitter.bytes.subarray(splitter.starts[i]!, splitter.ends[i]!),
  );
}

function payloads(report: Uint8Array): Payload[] {
  return frames(report).map((frame) => {
    const message = decodeMetrics(frame);
    assert.equal(message.kind, "payload");
    return message as Payload;
  });
}

function binsOf(payload: Payload): number[] {
  return Array.from(payload.bins, Number);
}

function totalOf(payload: Payload): number {
  return binsOf(payload).reduce((sum, count) => sum + count, 0);
}

interface Vector {
  readonly name: string;
  readonly hex: string;
  readonly decoded: {
    readonly topic: string;
    readonly name: string;
    readonly category: string;
    readonly worker: string;
    readonly pipeline: string;
    readonly id: number;
    readonly period_ends_at_ns: string;
    readonly recorded_durations_ns: readonly string[];
  };
}

const VECTORS = JSON.parse(readFileSync(join(import.meta.dirname, "../vectors/metrics.json"), "utf8")) as Vector[];

for (const wanted of [
  "payload-computation",
  "payload-computation-prefixed",
  "payload-decode-step",
  "payload-start-to-end",
  "payload-node-ingress-egress",
  "payload-pipeline-ingestion",
  "payload-empty-histogram",
  "payload-unicode",
]) {
  test(`MetricsRegistry makes the vector ${wanted} of its samples, byte for byte`, () => {
    const { hex, decoded } = VECTORS.find((vector) => vector.name === wanted)!;
    const bytes = Uint8Array.from(hex.match(/../g)!, (pair) => Number.parseInt(pair, 16));
    const endMs = Number(BigInt(decoded.period_ends_at_ns) / 1_000_000n);
    const application = decoded.topic.slice("metrics:".length);
    const at = bench(endMs - 3_500, { application, worker: decoded.worker });
    const recorder = recorderOf(at.registry, decoded);
    const other = at.registry.computation(decoded.pipeline, "other", 99);
    // The period before, so that the metric has been seen.
    recorder.record(1, 1);
    at.nowMs = endMs - 2_000;
    other.record(1, 1);
    for (const duration of decoded.recorded_durations_ns) recorder.record(Number(duration), 1);
    at.nowMs = endMs;
    other.record(1, 1);
    assert.equal(at.reports.length, 2);
    assert.deepEqual(frames(at.reports[1]!)[0], bytes.subarray(4));
  });
}

function recorderOf(registry: MetricsRegistry, { category, pipeline, name, id }: Vector["decoded"]): Recorder {
  switch (category) {
    case "start-to-end":
      return registry.startToEnd(pipeline);
    case "node-ingress-egress":
      return registry.nodeIngressEgress(pipeline);
    case "pipeline-ingestion":
      return registry.pipelineIngestion(pipeline);
    default:
      return registry.computation(pipeline, name, id);
  }
}

test("MetricsRegistry reports at the first sample after the end of the period, and that sample belongs to it", () => {
  const at = bench(1_000_500);
  const recorder = at.registry.startToEnd("p");
  recorder.record(100, 7);
  at.nowMs = 1_001_999;
  recorder.record(200, 1);
  assert.equal(at.reports.length, 0);
  at.nowMs = 1_002_000;
  recorder.record(1_000, 2);
  assert.equal(at.reports.length, 1);
  const [payload] = payloads(at.reports[0]!);
  assert.equal(payload!.periodEndNs, 1_002_000_000_000n);
  assert.equal(payload!.periodNs, 2_000_000_000n);
  assert.equal(totalOf(payload!), 10);
  assert.deepEqual([payload!.min, payload!.max], [100n, 1_000n]);

  at.nowMs = 1_003_999;
  recorder.record(5, 1);
  assert.equal(at.reports.length, 1, "a multiple is the end of one period and not of the next");
  at.nowMs = 1_004_000;
  recorder.record(5, 1);
  assert.equal(payloads(at.reports[1]!)[0]!.bins[3], 2n);
});

test("MetricsRegistry reports nothing without a sample, and then the period that the last one was in", () => {
  const at = bench(1_000_500);
  const recorder = at.registry.startToEnd("p");
  recorder.record(1, 1);
  at.nowMs = 1_600_000;
  assert.equal(at.reports.length, 0);
  recorder.record(1, 1);
  assert.equal(payloads(at.reports[0]!)[0]!.periodEndNs, 1_002_000_000_000n);
  at.nowMs = 1_601_999;
  recorder.record(1, 1);
  assert.equal(at.reports.length, 1);
  at.nowMs = 1_602_000;
  recorder.record(1, 1);
  assert.equal(payloads(at.reports[1]!)[0]!.periodEndNs, 1_602_000_000_000n);
});

test("MetricsRegistry reports everything it has ever seen, what is empty too, and nothing it has never seen", () => {
  const at = bench();
  const { registry } = at;
  const count = registry.computation("p", "count", 2);
  const ingestion = registry.pipelineIngestion("p");
  registry.nodeIngressEgress("p");
  ingestion.record(0, 10);
  count.record(1_000, 10);
  at.nowMs += 2_000;
  ingestion.record(0, 5);
  at.nowMs += 2_000;
  ingestion.record(0, 5);
  assert.equal(at.reports.length, 2);
  const second = payloads(at.reports[1]!);
  assert.deepEqual(
    second.map(({ name, category, id, worker, pipeline, topic }) => [name, category, id, worker, pipeline, topic]),
    [
      ["p source", "pipeline-ingestion", 0, "initializer", "p", "metrics:app"],
      ["count", "computation", 2, "initializer", "p", "metrics:app"],
    ],
  );
  assert.deepEqual([second[1]!.min, second[1]!.max, totalOf(second[1]!)], [EMPTY_MIN, 0n, 0]);
  assert.equal(second[0]!.bins[0], 5n);
});

test("MetricsRegistry keeps pipelines apart: each has its own period and stages of the same name", () => {
  const at = bench();
  at.registry.computation("a", "count", 2).record(1, 1);
  at.registry.computation("b", "count", 3).record(1, 1);
  at.nowMs += 2_000;
  at.registry.computation("b", "count", 3).record(1, 1);
  assert.equal(at.reports.length, 1);
  assert.deepEqual(
    payloads(at.reports[0]!).map(({ pipeline, id }) => [pipeline, id]),
    [["b", 3]],
  );
});

test("MetricsRegistry goes on when the clock is set back", () => {
  const at = bench(10_000_500);
  const recorder = at.registry.startToEnd("p");
  recorder.record(1, 1);
  at.nowMs = 5_000_500;
  recorder.record(1, 1);
  at.nowMs = 5_002_000;
  recorder.record(1, 1);
  assert.equal(payloads(at.reports.at(-1)!)[0]!.periodEndNs, 5_002_000_000_000n);
});

test("MetricsRegistry's reports are frames and nothing else", () => {
  const at = bench();
  at.registry.startToEnd("p").record(1, 1);
  at.nowMs += 2_000;
  at.registry.startToEnd("p").record(1, 1);
  const report = at.reports[0]!;
  const header = new Uint8Array(4);
  writeFrameHeader(header, 0, report.length - 4, HEADER_U32);
  assert.deepEqual(report.subarray(0, 4), header);
});
