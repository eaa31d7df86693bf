/** The examples, run through their plans without a port, against plain models of what they promise. */
import assert from "node:assert/strict";
import { test } from "node:test";
import alerts from "../../examples/alerts.ts";
import celsius from "../../examples/celsius.ts";
import wordCount from "../../examples/word_count.ts";
import type { Application } from "../../mod.ts";
import { readOptionValues } from "../../src/api/options.ts";
import { encodeSinkBatch } from "../../src/operators/sink_encoder.ts";
import { SourceDecoder } from "../../src/operators/source_decoder.ts";
import { batchOf, type TestWorker, world } from "../operators/world.ts";

/** The lines that a worker's sink would send. */
function lines(worker: TestWorker): string[] {
  const sink = worker.plan.sinks[0]!;
  const { bytes } = encodeSinkBatch(sink, batchOf(worker.output(0)), (error) => assert.fail(String(error.error)));
  const text = new TextDecoder().decode(bytes);
  assert.ok(text === "" || text.endsWith("\n"));
  return text.split("\n").slice(0, -1);
}

/** Hands payloads to a TCP source, as one read would. */
function send(worker: TestWorker, payloads: readonly Uint8Array[]): void {
  const { definition, index, name } = worker.plan.sources[0]!;
  assert.ok(definition.kind === "tcp");
  assert.deepEqual(definition.framing, { headerBytes: 4, littleEndian: false });
  const decoder = new SourceDecoder({ index, name, definition }, (error) => assert.fail(String(error.error)));
  const starts: number[] = [];
  const ends: number[] = [];
  const bytes: number[] = [];
  for (const payload of payloads) {
    starts.push(bytes.length);
    bytes.push(...payload);
    ends.push(bytes.length);
  }
  const frames = { count: payloads.length, starts: Uint32Array.from(starts), ends: Uint32Array.from(ends) };
  worker.dataflow.fromSource(index, decoder.decode(Uint8Array.from(bytes), frames, 0));
}

function names(application: Application, workers: readonly TestWorker[]): [string, string] {
  return [application.name, workers[0]!.plan.sources[0]!.name];
}

const float32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value);
  return bytes;
};

test("celsius: each reading becomes a line in Fahrenheit, in order", () => {
  const workers = world(celsius);
  assert.deepEqual(names(celsius, workers), ["Celsius Conversion", "celsius"]);
  const readings = [0, 100, -40, 36.5, 21.25, -273.15];
  send(workers[0]!, readings.map(float32));
  assert.deepEqual(
    lines(workers[0]!),
    readings.map((reading) => String(Math.fround(reading) * 1.8 + 32)),
  );
  assert.deepEqual(lines(workers[0]!).slice(0, 3), ["32", "212", "-40"]);
});

test("word_count: words are cut, cleaned and counted as promised", () => {
  const workers = world(wordCount);
  assert.deepEqual(names(wordCount, workers), ["Word Count Application", "words"]);
  const payloads = ["The cat, the 'dog'; THE end.\n(cat)  \u00dcber \u2013 Ma\u00dfe! a-b", "--\ncat"];
  send(
    workers[0]!,
    payloads.map((payload) => new TextEncoder().encode(payload)),
  );
  assert.deepEqual(lines(workers[0]!), [
    ...["the => 1", "cat => 1", "the => 2", "dog => 1", "the => 3", "end => 1"],
    ...["cat => 2", " => 1", "\u00fcber => 1", "\u2013 => 1", "ma\u00dfe => 1", "a-b => 1"],
    ...[" => 2", "cat => 3"],
  ]);
});

test("word_count: every ASCII punctuation mark is stripped from both ends, and nothing else", () => {
  const [worker] = world(wordCount);
  const punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
  const words = [...punctuation].map((mark) => `${mark}${mark}a${mark}b${mark}`);
  send(worker!, [new TextEncoder().encode(words.join(" "))]);
  assert.deepEqual(
    lines(worker!),
    [...punctuation].map((mark) => `a${mark}b => 1`),
  );
  send(worker!, [new TextEncoder().encode("0 9 Z z \u00a0 \u007f")]);
  assert.deepEqual(lines(worker!).slice(punctuation.length), [
    "0 => 1",
    "9 => 1",
    "z => 1",
    "z => 2",
    "\u00a0 => 1",
    "\u007f => 1",
  ]);
});

test("word_count: with three workers every word is counted once, wherever its text came in", () => {
  const text = "one two three two three three four four four four".repeat(20).split(" ");
  const workers = world(wordCount, { workers: 3 });
  text.forEach((word, i) => {
    send(workers[i % 3]!, [new TextEncoder().encode(word)]);
  });
  const expected = new Map<string, number>();
  for (const word of text) expected.set(word, (expected.get(word) ?? 0) + 1);
  const highest = new Map<string, number>();
  for (const line of workers.flatMap(lines)) {
    const [word, count] = line.split(" => ");
    highest.set(word!, Math.max(highest.get(word!) ?? 0, Number(count)));
  }
  assert.deepEqual(highest, expected);
});

/** The generator and the alerts, from their description: exact integers, no cleverness. */
function modelAlerts(records: number): string[] {
  const users = ["Fido", "Rex", "Dr. Whiskers", "Feathers", "Mountaineer"];
  const generated = [1n, 0n, 0n, 0n, 0n];
  const totals = [0n, 0n, 0n, 0n, 0n];
  const out: string[] = [];
  let amount = 1n;
  for (let i = 0; i < records; i++) {
    const user = i % 5;
    if (i > 0) {
      amount = ((((amount * 2305843009213693951n + 7n) % 2500n) + 2500n) % 2500n) - 1250n;
      if (generated[user]! > 5000n) amount = -6000n;
      else if (generated[user]! < -5000n) amount = 6000n;
      generated[user]! += amount;
    }
    totals[user]! += amount;
    if (totals[user]! > 2000n) out.push(`Deposit Alert for ${users[user]}: ${totals[user]}`);
    else if (totals[user]! < -2000n) out.push(`Withdrawal Alert for ${users[user]}: ${totals[user]}`);
  }
  return out;
}

test("alerts: the lines are those of the model, over batches of any size", () => {
  const expected = modelAlerts(20_000);
  assert.ok(expected.length > 100);
  for (const batchSize of [1, 7, 1024]) {
    const workers = world(alerts, { context: { options: { rate: 0 } } });
    assert.deepEqual(names(alerts, workers), ["Alerts (stateful)", "Alerts (stateful)"]);
    workers[0]!.generate("Alerts (stateful)", 20_000, batchSize);
    assert.deepEqual(lines(workers[0]!), expected);
  }
});

test("alerts: with two workers each customer has one owner, who sees what both generate", () => {
  const workers = world(alerts, { workers: 2, context: { options: { rate: 0 } } });
  for (const worker of workers) worker.generate("Alerts (stateful)", 500);
  const keys = workers.map((worker) => [...worker.dataflow.keysOf(0)]);
  assert.equal(new Set(keys.flat()).size, 5);
  assert.equal(keys.flat().length, 5);
});

test("alerts: --rate is 1,000 unless it's given, and goes to the generator", () => {
  assert.deepEqual(readOptionValues(alerts.options, {}), { rate: 1000 });
  const [worker] = world(alerts, { context: { options: readOptionValues(alerts.options, { rate: "25" }) } });
  const { definition } = worker!.plan.sources[0]!;
  assert.ok(definition.kind === "generator");
  assert.equal(definition.rate, 25);
});
