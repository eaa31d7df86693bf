/**
 * The engine without sockets beside a bare loop: frames in memory, the same decoder and encoder, a count by key; a Map
 * there, decoder, `keyBy`, state and encoder of the engine here. Interleaved pairs, median of their ratios. The first two
 * pairs, which fill both states, don't count.
 *
 *   bun bench/micro/dataflow.ts [keys]
 *   deno run -A bench/micro/dataflow.ts [keys]
 */
import process from "node:process";
import { application, framed, Payload, source, tcpSink, tcpSource } from "../../mod.ts";
import { Dataflow } from "../../src/operators/dataflow.ts";
import { encodeSinkBatch } from "../../src/operators/sink_encoder.ts";
import { SourceDecoder } from "../../src/operators/source_decoder.ts";
import { assignOwners } from "../../src/plan/key_groups.ts";
import { planApplication } from "../../src/plan/plan.ts";

const KEY_COUNT = Number(process.argv[2] ?? 10_000);
const BATCH = 1_000;
const BATCHES = 1_000;
const PAIRS = 9;

const encoder = new TextEncoder();
const chunks = Array.from({ length: BATCHES }, () => {
  const bytes = new Uint8Array(BATCH * 20);
  const starts = Uint32Array.from({ length: BATCH }, (_, i) => i * 20 + 4);
  const ends = starts.map((start) => start + 16);
  for (const start of starts) {
    const user = Math.floor(Math.random() * KEY_COUNT);
    encoder.encodeInto(`user-${String(user).padStart(11, "0")}`, bytes.subarray(start));
  }
  return { bytes, frames: { count: BATCH, starts, ends } };
});

interface Total {
  readonly user: string;
  readonly total: number;
}
const decode = (payload: Payload): { user: string; amount: number } => ({ user: payload.text(), amount: 1 });
const encode = ({ user, total }: Total): string => `${user} => ${total}\n`;

const totals = new Map<string, number>();
const payload = new Payload();

function bare(): number {
  let bytesOut = 0;
  for (const { bytes, frames } of chunks) {
    let lines = "";
    payload.openChunk(bytes);
    for (let i = 0; i < frames.count; i++) {
      payload.openRecord(frames.starts[i]!, frames.ends[i]!);
      const { user, amount } = decode(payload);
      const total = (totals.get(user) ?? 0) + amount;
      totals.set(user, total);
      lines += encode({ user, total });
    }
    bytesOut += encoder.encode(lines).length;
  }
  return bytesOut;
}

const counted = application("Count", () =>
  source("events", tcpSource({ framing: framed.u32, decode }))
    .keyBy((event) => event.user)
    .toStateful("count", {
      initial: () => ({ total: 0 }),
      apply: ({ user, amount }, state): Total => {
        state.total += amount;
        return { user, total: state.total };
      },
    })
    .toSink(tcpSink({ encode })),
);

const plan = planApplication(counted, { args: [], options: {}, worker: "initializer", workers: 1, inputs: [] });
const { definition, index, name } = plan.sources[0]!;
const { id, definition: sink } = plan.sinks[0]!;
if (definition.kind !== "tcp" || sink.kind !== "tcp") throw new Error("source and sink are TCP");
const userError = ({ error }: { error: unknown }): never => {
  throw error;
};
let engineBytesOut = 0;
const dataflow = new Dataflow(plan, {
  self: 0,
  workerCount: 1,
  owners: assignOwners(1),
  sendRemote: () => {},
  writeSink: (_sink, batch) => {
    engineBytesOut += encodeSinkBatch({ id, definition: sink }, batch, userError).bytes.length;
  },
  userError,
  nowMs: () => performance.now(),
  slowCode: () => {},
  stageTimed: () => {},
});
const decoder = new SourceDecoder({ index, name, definition }, userError);

function engine(): number {
  engineBytesOut = 0;
  for (const { bytes, frames } of chunks) dataflow.fromSource(0, decoder.decode(bytes, frames, Date.now()));
  return engineBytesOut;
}

function timed(run: () => number): { ns: number; bytesOut: number } {
  const started = performance.now();
  const bytesOut = run();
  return { ns: ((performance.now() - started) * 1e6) / (BATCH * BATCHES), bytesOut };
}

const ratios: number[] = [];
for (let pair = -2; pair < PAIRS; pair++) {
  const one = timed(bare);
  const other = timed(engine);
  if (one.bytesOut !== other.bytesOut)
    throw new Error(`${one.bytesOut} bytes from the loop, ${other.bytesOut} bytes from the engine`);
  console.log(
    `${KEY_COUNT} keys: bare ${one.ns.toFixed(0)} ns a record, engine ${other.ns.toFixed(0)}${pair < 0 ? " (warming up)" : ""}`,
  );
  if (pair >= 0) ratios.push(other.ns / one.ns);
}
ratios.sort((a, b) => a - b);
console.log(
  `engine / bare: ${ratios[PAIRS >> 1]!.toFixed(2)} (${ratios[0]!.toFixed(2)} to ${ratios[PAIRS - 1]!.toFixed(2)})`,
);
