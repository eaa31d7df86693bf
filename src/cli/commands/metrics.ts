import { EXIT } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Conn, Host } from "../../runtime/runtime.ts";
import { FrameSplitter } from "../../wire/frame.ts";
import { decodeMetrics, type MetricsMessage } from "../../wire/metrics.ts";
import { addressOf, addressText, isGiven, type OptionSpec } from "../options.ts";
import { complain, jsonText, print, untilSignal } from "../terminal.ts";
import { defineTool } from "../tool.ts";

const OPTIONS: readonly OptionSpec[] = [
  { name: "listen", letter: "l", value: "HOST:PORT", help: "Where workers push to", default: "127.0.0.1:5001" },
  { name: "json", letter: "j", value: null, help: "Print one JSON object a line" },
];

const FRAME_BYTES_MAX = 64 << 10;
/** Frames of one connection that mean nothing, until it is closed: a stranger who sends nothing else. */
const FAULTS_MAX = 100;
const CONNECTIONS_MAX = 1_024;

type Payload = Extract<MetricsMessage, { kind: "payload" }>;

/** A hub to point `--metrics` at: prints what comes. */
export const metrics = defineTool({
  name: "metrics",
  calledAs: [],
  summary: "Listen like a metrics hub and print what workers measure",
  usage: "[options]",
  options: OPTIONS,
  examples: ["", "--listen 0.0.0.0:5001 --json"],
  takesWords: false,
  async run(parsed, { runtime }) {
    const { host, net } = runtime;
    const listen = addressOf(parsed, "listen", "listen") ?? { host: "127.0.0.1", port: 5001 };
    const json = isGiven(parsed, "json");
    const end = untilSignal(runtime);
    let connections = 0;
    const listener = await net.listen({
      ...listen,
      accept(conn) {
        if (connections >= CONNECTIONS_MAX) {
          conn.abort();
          return;
        }
        connections++;
        const left = () => void connections--;
        takeMetrics(conn, host, json).then((outcome) => {
          left();
          if (outcome === "reader_gone") end.now();
        }, left);
      },
      failed: (error) => complain(host, `cannot accept a connection: ${error.message}`),
    });
    if (!json && !(await print(host, `Listening on ${addressText(listener.address)}\n`))) end.now();
    await end.wait;
    listener.close();
    return EXIT.done;
  },
});

/** One worker's connection. What can't be understood is skipped and said; a lost frame border, or too much of it, ends it. */
async function takeMetrics(conn: Conn, host: Host, json: boolean): Promise<"ended" | "reader_gone"> {
  const splitter = new FrameSplitter({ lengthMax: FRAME_BYTES_MAX });
  const peer = addressText(conn.peer);
  let faults = 0;
  for (;;) {
    const chunk = await conn.read();
    if (chunk === null) break;
    const outcome = splitter.push(chunk);
    const lines: string[] = [];
    for (let i = 0; i < splitter.count && faults < FAULTS_MAX; i++) {
      const message = decodeMetrics(splitter.bytes.subarray(splitter.starts[i], splitter.ends[i]));
      if (message.kind === "fault") {
        faults++;
        complain(host, `${peer}: ${printable(message.sentence)}; skipped`);
      } else if (json) lines.push(...jsonLines(message));
      else lines.push(...textLines(message, peer));
    }
    if (lines.length > 0 && !(await print(host, lines.join("")))) return "reader_gone";
    if (faults === FAULTS_MAX) {
      complain(host, `${peer}: ${FAULTS_MAX} frames that mean nothing; connection closed`);
      break;
    }
    if (outcome !== "ok") {
      complain(
        host,
        `${peer}: a frame of ${outcome.length} bytes, at most ${FRAME_BYTES_MAX} are taken; connection closed`,
      );
      break;
    }
  }
  conn.abort();
  return "ended";
}

function jsonLines(message: MetricsMessage): string[] {
  if (message.kind !== "payload") return [];
  const { topic, worker, pipeline, category, name, id } = message;
  const object = {
    time: timeText(message.periodEndNs),
    application: applicationOf(topic),
    worker,
    pipeline,
    category,
    name,
    id,
    count: number(countOf(message)),
    min_ns: number(message.min),
    max_ns: number(message.max),
    period_ns: number(message.periodNs),
    period_end_ns: String(message.periodEndNs),
    bins: Array.from(message.bins, number),
  };
  return [`${jsonText(object)}\n`];
}

function textLines(message: MetricsMessage, peer: string): string[] {
  switch (message.kind) {
    case "connect":
      return [];
    case "join":
      return [
        `${printable(message.worker ?? "a worker")} of "${printable(applicationOf(message.topic))}" connected from ${peer}\n`,
      ];
    case "payload": {
      const count = countOf(message);
      if (count === 0n) return [];
      const { worker, pipeline, category, name, periodNs } = message;
      const seconds = Number(periodNs) / 1e9;
      const rate = seconds > 0 ? `, ${Math.round(Number(count) / seconds)}/s` : "";
      const times =
        category === "pipeline-ingestion"
          ? ""
          : `, ${nanos(message.min)} to ${nanos(message.max)}, p50 < ${nanos(below(message, 0.5))}, p99 < ${nanos(below(message, 0.99))}`;
      const where = `${printable(worker)} ${printable(pipeline)} ${printable(category)} "${printable(name)}"`;
      return [`${timeText(message.periodEndNs)} ${where}: ${count} records${rate}${times}\n`];
    }
  }
}

function applicationOf(topic: string): string {
  return topic.replace(/^metrics:/, "");
}

function countOf(payload: Payload): bigint {
  let count = 0n;
  for (let bin = 0; bin < payload.bins.length; bin++) count += payload.bins[bin]!;
  return count;
}

/** The upper end of the bin that holds the sample at `share` of all, but not more than the largest sample. */
function below(payload: Payload, share: number): bigint {
  const wanted = Math.ceil(Number(countOf(payload)) * share);
  let seen = 0;
  for (let bin = 0; bin < payload.bins.length; bin++) {
    seen += Number(payload.bins[bin]);
    if (seen >= wanted) {
      const end = 1n << BigInt(bin);
      return end < payload.max ? end : payload.max;
    }
  }
  return payload.max;
}

function nanos(value: bigint): string {
  const ns = Number(value);
  if (ns < 1_000) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${(ns / 1e9).toPrecision(3)} s`;
}

function timeText(ns: bigint): string {
  const ms = Number(ns / 1_000_000n);
  return ms <= 8.64e15 ? new Date(ms).toISOString() : `${ns} ns`;
}

/** JSON has no integers above 2^53: these go as text. */
function number(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value);
}
