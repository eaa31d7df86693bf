/**
 * What a record costs that goes to another worker, piece by piece and without sockets: two dataflows in one process, whose
 * `keyBy` sends half of the records of the first to the second as the bytes of a batch. The least of some rounds, in nanoseconds a
 * record that crosses:
 *
 *   take out   what `keyBy` costs beyond the key and its hash: choosing the owner, and collecting what goes to another worker
 *   encode     the batch as bytes
 *   decode     the bytes as a batch
 *   apply      the stage behind the exchange at the receiver; `apply, local` is the same for records that stayed
 *
 *   bun bench/micro/exchange.ts [keys] [objects|events]
 *   deno run -A bench/micro/exchange.ts [keys] [objects|events]
 */
import process from "node:process";
import { application, generatorSource, source, tcpSink } from "../../mod.ts";
import type { Batch } from "../../src/operators/batch.ts";
import { Dataflow } from "../../src/operators/dataflow.ts";
import type { DataflowHooks } from "../../src/operators/dataflow_hooks.ts";
import { SourceBatches } from "../../src/operators/source_batch.ts";
import { assignOwners } from "../../src/plan/key_groups.ts";
import { planApplication } from "../../src/plan/plan.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { decodeDataBatch, encodeDataBatch } from "../../src/wire/data_batch.ts";

const KEY_COUNT = Number(process.argv[2] ?? 10_000);
const SHAPE = process.argv[3] ?? "objects";
const BATCH = 1_024;
const BATCHES = 100;
const ROUNDS = 25;

interface Event {
  readonly key: string;
  readonly value: number;
}

const counted = application("Count", () =>
  source("numbers", generatorSource({ initial: (): Event => ({ key: "", value: 0 }), next: () => undefined }))
    .keyBy((event) => event.key)
    .toStateful("count", {
      initial: () => ({ count: 0 }),
      apply: (event, state) => {
        state.count += 1;
        return state.count < 0 ? event.key : undefined;
      },
    })
    .toSink(tcpSink({ encode: (line) => line })),
);

const spent = { takeOut: 0, encode: 0, decode: 0, apply: 0, local: 0 };
let crossed = 0;
let stayed = 0;
let bytesSent = 0;
const writer = new ByteWriter(256 * 1024);
const owners = assignOwners(2);

function makeDataflow(self: number, sendRemote: DataflowHooks["sendRemote"], stageTimed: DataflowHooks["stageTimed"]) {
  const plan = planApplication(counted, { args: [], options: {}, worker: `worker${self}`, workers: 2, inputs: [] });
  return new Dataflow(plan, {
    self,
    workerCount: 2,
    owners,
    sendRemote,
    writeSink: () => {},
    userError: ({ error }) => {
      throw error;
    },
    slowCode: () => {},
    nowMs: () => performance.now(),
    stageTimed,
  });
}

const arrived: Uint8Array[] = [];
const receiver = makeDataflow(
  1,
  () => {},
  () => {},
);
const sender = makeDataflow(
  0,
  (exchange, _worker, batch) => {
    const began = performance.now();
    encodeDataBatch({ exchange, ...batch }, writer);
    arrived.push(writer.take());
    const took = performance.now() - began;
    spent.encode += took;
    inside += took;
    crossed += batch.count;
  },
  (_stage, _pipeline, records, nanos) => {
    spent.local += (records * nanos) / 1e6;
    inside += (records * nanos) / 1e6;
    stayed += records;
  },
);
let inside = 0;

const keys = Array.from({ length: KEY_COUNT }, (_, i) => `user-${String(i).padStart(11, "0")}`);
const batches = new SourceBatches(0);
const texts = keys.map((key, i) => `{"key":"${key}","value":${1_000 + (i % 9_000)},"t":1700000000000000}`);
let next = 0;

function makeBatch(): Batch {
  const values: unknown[] = [];
  for (let i = 0; i < BATCH; i++) {
    const place = next++ % KEY_COUNT;
    values.push(SHAPE === "objects" ? { key: keys[place]!, value: next } : JSON.parse(texts[place]!));
  }
  return batches.byArrival(values, Date.now());
}

const figures: Record<string, number[]> = { "take out": [], encode: [], decode: [], apply: [], "apply, local": [] };
for (let round = -3; round < ROUNDS; round++) {
  Object.assign(spent, { takeOut: 0, encode: 0, decode: 0, apply: 0, local: 0 });
  crossed = 0;
  stayed = 0;
  bytesSent = 0;
  for (let i = 0; i < BATCHES; i++) {
    const batch = makeBatch();
    inside = 0;
    const began = performance.now();
    sender.fromSource(0, batch);
    spent.takeOut += performance.now() - began - inside;
    for (const bytes of arrived.splice(0)) {
      bytesSent += bytes.length;
      const before = performance.now();
      const columns = decodeDataBatch(bytes, undefined, receiver.knownKeys(0));
      const decoded = performance.now();
      receiver.fromExchange(0, columns);
      spent.decode += decoded - before;
      spent.apply += performance.now() - decoded;
    }
  }
  if (round < 0) continue;
  figures["take out"]!.push((spent.takeOut * 1e6) / crossed);
  figures["encode"]!.push((spent.encode * 1e6) / crossed);
  figures["decode"]!.push((spent.decode * 1e6) / crossed);
  figures["apply"]!.push((spent.apply * 1e6) / crossed);
  figures["apply, local"]!.push((spent.local * 1e6) / stayed);
}
const lowest = (list: number[]): number => Math.min(...list);
const parts = Object.entries(figures).map(([name, list]) => `${name} ${lowest(list).toFixed(0)}`);
console.log(
  `${KEY_COUNT} keys, ${SHAPE}, ns a record: ${parts.join("; ")}; ${(bytesSent / crossed).toFixed(1)} bytes a record`,
);
