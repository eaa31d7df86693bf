/** The applications of the original's suites, driven and checked as its harness does it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { NetError } from "../../src/runtime/runtime.ts";
import { type ClientStream, ConnectorClient } from "../lib/connector_client.ts";
import { realRuntime } from "../lib/real_runtime.ts";
import { epochOf, RULE_FILES } from "../lib/two_phase_sink.ts";
import { notRunHere } from "./lib/cluster.ts";
import { type ByteSink, type Harness, type HarnessOptions, withHarness } from "./lib/harness.ts";
import { host } from "./lib/ports.ts";
import { underDeno } from "./lib/process.ts";
import { frame, Sender } from "./lib/sender.ts";
import { RealTwoPhaseSink } from "./lib/two_phase_sink.ts";
import { sleep, waitFor } from "./lib/wait.ts";

function compat(name: string, options: HarnessOptions, body: (harness: Harness) => Promise<void>): void {
  test(name, async () => {
    if (underDeno) return notRunHere(name, "the old program names need the compiled binary");
    await withHarness(options, body);
  });
}

// ---- the detector's senders and checks

/** u64 value, then the key. */
function detectorBody(key: string, value: number): Buffer {
  const body = Buffer.alloc(8 + Buffer.byteLength(key));
  body.writeBigUInt64BE(BigInt(value));
  body.write(key, 8);
  return body;
}

/** Values 1 to `count` of each key, in turn, over one connection. */
async function sendSequences(port: number, keys: number, count: number): Promise<void> {
  const sender = await Sender.open(port);
  for (let value = 1; value <= count; value++) {
    await sender.write(
      Buffer.concat(Array.from({ length: keys }, (_, key) => frame(detectorBody(`key_${key}`, value)))),
    );
  }
  await sender.close();
}

function aloStream(name: string, count: number, ends: () => boolean): ClientStream {
  const id = createHash("sha256").update(name).digest().readBigUInt64BE();
  return {
    id,
    name,
    ids: Array.from({ length: count }, (_, at) => BigInt(at + 1)),
    body: (at) => detectorBody(name, at + 1),
    ends,
  };
}

async function connectorClient(
  port: number,
  cookie: string,
  streams: readonly ClientStream[],
): Promise<{ client: ConnectorClient; done: Promise<void> }> {
  const client = new ConnectorClient(await realRuntime(), { host, port }, { cookie, instance: "instance_0", streams });
  client.messagesMax = 1_000;
  return { client, done: client.run() };
}

interface Detected {
  readonly key: string;
  readonly value: readonly number[];
  readonly trace: string;
  readonly ts: number;
}

function detected(sink: ByteSink, whole = true): Detected[][] {
  return sink.frames(whole).map((frames) => frames.map((bytes) => JSON.parse(bytes.toString("utf8")) as Detected));
}

/** As the original's checker: windows consecutive, every number of every key seen, and few steps back. */
function checkDetected(sink: ByteSink, keys: number, count: number, operations: number, depth = 1): void {
  const numbers = new Map<string, Set<number>>();
  const jumps = new Map<string, number>();
  for (const connection of detected(sink)) {
    const last = new Map<string, number>();
    for (const { key, value, trace, ts } of connection) {
      assert.equal(trace, ".TraceID.TraceWindow".repeat(depth));
      assert.ok(Math.abs(ts - Date.now() / 1_000) < 3_600, `ts ${ts}`);
      assert.equal(value.length, 4);
      value.forEach((number, at) => {
        const before = value[at - 1];
        if (before !== undefined) assert.ok(number === before + 1 || before === 0, `${key}: ${value}`);
      });
      const newest = value[3]!;
      if (newest !== (last.get(key) ?? -1) + 1) jumps.set(key, (jumps.get(key) ?? 0) + 1);
      last.set(key, newest);
      const seen = numbers.get(key) ?? new Set();
      numbers.set(key, seen.add(newest));
    }
  }
  assert.equal(numbers.size, keys);
  for (const [key, seen] of numbers) {
    assert.equal(seen.size, count, `${key} has holes`);
    assert.equal(Math.max(...seen), count);
    assert.ok(jumps.get(key)! <= operations + 1, `${key}: ${jumps.get(key)} runs and steps back`);
  }
}

/** The text of the last window of each key is at the sink. */
async function awaitWindows(harness: Harness, keys: number, count: number): Promise<void> {
  const text = `[${[count - 3, count - 2, count - 1, count]}]`;
  const wanted = Array.from({ length: keys }, (_, key) => `{"key":"key_${key}","value":${text}`);
  const missing = () => {
    const all = harness.sink.bytes().map((bytes) => bytes.toString("latin1"));
    return wanted.filter((piece) => !all.some((each) => each.includes(piece)));
  };
  await waitFor(() => missing().length === 0, {
    what: `windows ${text}`,
    everyMs: 100,
    seen: () => `missing: ${missing()}\n${harness.tails()}`,
  });
}

const DETECTOR = "machida3 --application-module multi_partition_detector";

compat(
  "multi_partition_detector from TCP, two levels deep",
  { command: `${DETECTOR} --depth 2`, workers: 2, sources: ["Detector"] },
  async (harness) => {
    await harness.startAll();
    await sendSequences(harness.places[0]!.sources[0]!, 40, 250);
    await awaitWindows(harness, 40, 250);
    assert.deepEqual(await harness.stop(), [0, 0]);
    checkDetected(harness.sink, 40, 250, 0, 2);
  },
);

compat(
  "multi_partition_detector from connector programs, and a worker that is killed and comes back",
  { command: `${DETECTOR} --source alo --run-with-resilience`, workers: 3, sources: ["Detector"] },
  async (harness) => {
    await harness.startAll();
    let stopped = false;
    const count = 2_000;
    const streams = Array.from({ length: 40 }, (_, key) => aloStream(`key_${key}`, count, () => stopped));
    const { client, done } = await connectorClient(harness.places[0]!.sources[0]!, "cookie", streams);
    client.messagesMax = 400;
    await waitFor(() => harness.sink.byteCount > 200_000, { what: "output" });
    await harness.programs[2]!.kill();
    await sleep(500);
    harness.start(2);
    await harness.waitReady();
    await harness.programs[2]!.waitForOutput(/RESILIENCE: Replayed \d+ entries from recovery log file\./);
    await awaitWindows(harness, 40, count);
    stopped = true;
    await waitFor(() => client.finished, {
      what: "the last acknowledgements",
      seen: () => harness.tails(),
    });
    await done;
    assert.deepEqual(client.violations, []);
    assert.deepEqual(await harness.stop(), [0, 0, 0]);
    checkDetected(harness.sink, 40, count, 1);
  },
);

compat(
  "multi_partition_detector makes its own records, on the initializer alone",
  { command: `${DETECTOR} --source gensource --partitions 5`, workers: 2 },
  async (harness) => {
    await harness.startAll();
    await waitFor(() => harness.sink.byteCount > 1_000_000, { what: "output" });
    await harness.stop();
    const all = detected(harness.sink, false).flat();
    for (const key of ["0", "1", "2", "3", "4"]) {
      const newest = all.filter((each) => each.key === key).map(({ value }) => value[3]!);
      assert.deepEqual(
        newest,
        Array.from({ length: newest.length }, (_, at) => at + 1),
        key,
      );
      assert.ok(newest.length > 100);
    }
  },
);

compat(
  "alphabet counts votes",
  { command: "machida3 --application-module alphabet", workers: 2, sources: ["alphabet"] },
  async (harness) => {
    await harness.startAll();
    const totals = new Map<string, number>();
    const frames = Array.from({ length: 1_000 }, (_, at) => {
      const letter = String.fromCharCode(97 + ((at * 7) % 26));
      const votes = (at * 2_654_435_761) % 1_000;
      totals.set(letter, (totals.get(letter) ?? 0) + votes);
      const body = Buffer.alloc(5);
      body.write(letter);
      body.writeUInt32BE(votes, 1);
      return frame(body);
    });
    const sender = await Sender.open(harness.places[0]!.sources[0]!);
    await sender.write(Buffer.concat(frames));
    await sender.close();
    await waitFor(() => harness.sink.lines().length === 1_000, { what: "1,000 lines" });
    assert.deepEqual(await harness.stop(), [0, 0]);
    const last = new Map(harness.sink.lines().map((line) => line.split(" => ") as [string, string]));
    for (const [letter, total] of totals) assert.equal(last.get(letter), `${total}`, letter);
    assert.equal(harness.sink.lines().length, 1_000);
  },
);

compat(
  "dummy answers queries as the suites want it",
  { command: "machida3 --application-module dummy", workers: 2, sources: ["dummy"] },
  async (harness) => {
    await harness.startAll();
    const sender = await Sender.open(harness.places[0]!.sources[0]!);
    await sender.send("ABCDEFGHIJ");
    await waitFor(() => harness.sink.byteCount === 50, { what: "ten letters" });
    type Steps<T> = Record<string, T>;
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);

    const entities = new Map<string, string[]>();
    const counts = new Map<string, number>();
    for (const at of [0, 1]) {
      assert.deepEqual(await harness.query(at, "cluster-status-query"), {
        processing_messages: true,
        worker_names: ["initializer", "worker1"],
        worker_count: 2,
      });
      const keys = await harness.query<Steps<string[]>>(at, "state-entity-query");
      assert.equal(Object.keys(keys).length, 2);
      for (const [step, ids] of Object.entries(keys)) entities.set(step, [...(entities.get(step) ?? []), ...ids]);
      for (const [step, count] of Object.entries(await harness.query<Steps<number>>(at, "state-entity-count-query"))) {
        counts.set(step, (counts.get(step) ?? 0) + count);
      }
      const name = harness.places[at]!.name;
      const stateless = await harness.query<Steps<Steps<string[]>>>(at, "stateless-partition-query");
      for (const [step, workers] of Object.entries(stateless)) {
        assert.ok(Number.parseInt(step, 10) !== 0 && /^[0-9]+$/.test(step), step);
        assert.equal(workers[name]!.length, 10);
      }
      assert.deepEqual(
        Object.values(await harness.query<Steps<Steps<number>>>(at, "stateless-partition-count-query")),
        [{ [name]: 10 }],
      );
    }
    assert.equal(entities.size, 2);
    const sizes = [...entities.values()].sort((a, b) => a.length - b.length);
    assert.equal(sizes[0]!.length, 1);
    assert.match(sizes[0]![0]!, /^collect-/);
    assert.deepEqual(sizes[1]!.map(Number).sort(), [65, 66, 67, 68, 69, 70, 71, 72, 73, 74]);
    assert.deepEqual(
      [...counts.values()].sort((a, b) => a - b),
      [1, 10],
    );

    const partitions = await harness.query<Steps<Steps<Steps<string[]>>>>(0, "partition-query");
    assert.deepEqual(Object.keys(partitions).sort(), ["state_partitions", "stateless_partitions"]);
    for (const workers of Object.values(partitions["state_partitions"]!)) assert.ok("initializer" in workers);
    const partitionCounts = await harness.query<Steps<Steps<Steps<number>>>>(0, "partition-count-query");
    assert.equal(Object.keys(partitionCounts["stateless_partitions"]!).length, 1);
    const states = Object.values(partitionCounts["state_partitions"]!);
    assert.deepEqual(
      states.map((workers) => workers["initializer"]),
      [10, 10],
    );
    const sources = await harness.query<{ source_ids: string[] }>(0, "source-ids-query");
    assert.deepEqual(Object.keys(sources), ["source_ids"]);
    assert.equal(new Set(sources.source_ids).size, 13);

    await sender.close();
    assert.deepEqual(await harness.stop(), [0, 0]);
    const letters = harness.sink
      .frames()
      .flat()
      .map((bytes) => bytes.toString("latin1"));
    assert.equal(sum(letters.map(() => 1)), 10);
    assert.deepEqual(letters.sort(), [..."ABCDEFGHIJ"]);
  },
);

compat(
  "passthrough from TCP through steps with and without state",
  {
    command:
      "machida3 --application-module passthrough --parallelism 4 --source tcp --source-decoder framed --step asis --key-by first-byte --step asis-state --sink-parallelism 1 --sink tcp",
    workers: 2,
    sources: ["InputBlobs"],
  },
  async (harness) => {
    await harness.startAll();
    const lines = Array.from({ length: 2_000 }, (_, at) => `${String.fromCharCode(97 + (at % 26))} line ${at}\n`);
    const sender = await Sender.open(harness.places[0]!.sources[0]!);
    await sender.send(lines);
    await sender.close();
    const size = lines.join("").length;
    await waitFor(() => harness.sink.byteCount >= size, { what: "all lines" });
    assert.deepEqual(await harness.stop(), [0, 0]);
    assert.equal(harness.sink.byteCount, size);
    assert.deepEqual(harness.sink.lines().sort(), lines.map((line) => line.trimEnd()).sort());
  },
);

compat(
  "passthrough from connector programs: ids are places in a file, the first one is 0",
  {
    command:
      "machida3 --application-module passthrough --source connector --source-decoder unframed --step asis --sink tcp --run-with-resilience",
    workers: 1,
    sources: ["InputBlobs"],
    inputTail: ":Dragons-Love-Tacos:500:50",
  },
  async (harness) => {
    await harness.startAll();
    const lines = Array.from({ length: 3_000 }, (_, at) => `line ${at}\n`);
    let place = 0;
    const ids = lines.map((line) => {
      const id = BigInt(place);
      place += line.length;
      return id;
    });
    const feed: ClientStream = { id: 1n, name: "feed", ids, body: (at) => Buffer.from(lines[at]!) };
    const { client, done } = await connectorClient(harness.places[0]!.sources[0]!, "Dragons-Love-Tacos", [feed]);
    await waitFor(() => client.finished, {
      what: "the last acknowledgement",
      seen: () => harness.tails(),
    });
    await done;
    assert.deepEqual(client.violations, []);
    assert.deepEqual(await harness.stop(), [0]);
    assert.equal(Buffer.concat(harness.sink.bytes()).toString("latin1"), lines.join(""));
    assert.doesNotMatch(harness.programs[0]!.output, /Dragons/);
  },
);

compat(
  "celsius_connectors converts what connector programs say",
  { command: "machida3 --application-module celsius_connectors", workers: 1, sources: ["celsius"] },
  async (harness) => {
    await harness.startAll();
    const celsius = Array.from({ length: 100 }, (_, at) => at - 40);
    const body = (at: number): Buffer => {
      const bytes = Buffer.alloc(4);
      bytes.writeFloatBE(celsius[at]!);
      return bytes;
    };
    const stream: ClientStream = { id: 7n, name: "c", ids: celsius.map((_, at) => BigInt(at)), body };
    const { client, done } = await connectorClient(harness.places[0]!.sources[0]!, "Dragons-Love-Tacos", [stream]);
    await waitFor(() => client.finished, {
      what: "the last acknowledgement",
      seen: () => harness.tails(),
    });
    await done;
    assert.deepEqual(client.violations, []);
    assert.deepEqual(await harness.stop(), [0]);
    assert.deepEqual(
      harness.sink.lines(),
      celsius.map((degrees) => `${degrees * 1.8 + 32}`),
    );
  },
);

for (const { number, rule, expected } of RULE_FILES) {
  compat(
    `aloc_sink_celsius, rule file ${number}: checkpoint 3 ends in a ${expected}, checkpoint 14 in a commit`,
    {
      // A tenth of the usual time.
      command: "machida3 --application-module aloc_sink_celsius --time-between-checkpoints 100_000_000",
      workers: 1,
      withoutOut: true,
      initializerName: "worker-name",
    },
    async (harness) => {
      // The application says where.
      const sink = await RealTwoPhaseSink.open(`${harness.folder}/out`, 7200, [rule]).catch((error: unknown) => {
        if (!(error instanceof NetError && error.code === "address_in_use")) throw error;
        return null;
      });
      if (sink === null) return notRunHere("aloc_sink_celsius", "port 7200 is in use");
      try {
        await harness.startAll();
        const isThere = () => sink.decisions("initializer").has(14);
        await waitFor(isThere, { what: "checkpoint 14", seen: () => harness.tails() });
        assert.deepEqual(await harness.stop(), [0]);
        assert.deepEqual(sink.fatal, []);
        const decisions = sink.decisions("initializer");
        assert.equal(decisions.get(3), expected);
        assert.equal(decisions.get(14), "commit");
        const prepared = sink.log("initializer").flatMap((entry) => (entry.event === "phase1" ? [entry.id] : []));
        for (const id of prepared) assert.match(id, /^Celsius to Fahrenheit-w-initializer-id-[0-9]+:c_id=[0-9]+$/);
        assert.deepEqual(
          prepared.map(epochOf),
          prepared.map((_, at) => at + 1),
        );
        const lines = sink.committed("initializer").split("\n").slice(0, -1);
        assert.ok(lines.length > 1_000, `${lines.length} lines`);
        lines.forEach((line, at) => {
          const fahrenheit = (at - 40) * 1.8 + 32;
          assert.equal(line, Number.isInteger(fahrenheit) ? `${fahrenheit}.0` : `${fahrenheit}`);
        });
      } finally {
        sink.close();
      }
    },
  );
}
