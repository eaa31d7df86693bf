import assert from "node:assert/strict";
import { test } from "node:test";
import { application, framed, generatorSource, type Payload, source, tcpSink, tcpSource } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import type { Prng } from "../../src/base/prng.ts";
import { assignOwners, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { planApplication } from "../../src/plan/plan.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { encodeDataBatch } from "../../src/wire/data_batch.ts";
import { encodeFrame } from "../../src/wire/frame.ts";
import type { ResentLetter } from "../../src/wire/resend.ts";
import { entryOf } from "../../src/worker/letter_entry.ts";
import { ShellWorld, type ShellWorldOptions } from "./shell_world.ts";

const WORDS = ["wallaby", "wombat", "quokka", "koala", "kangaroo", "emu", "echidna", "dingo", "platypus", "possum"];

function texts(name: string) {
  return source(name, tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }));
}

const line = tcpSink<string>({ encode: (text) => `${text}\n` });

const counter = {
  initial: () => ({ count: 0 }),
  apply: (_value: unknown, state: { count: number }, { key }: { key: string }) => `${key} ${++state.count}`,
};

function wordCount(): Application {
  return application("Word count", () =>
    texts("words")
      .to("split", (text) => text.split(" ").filter((word) => word !== ""))
      .keyBy((word) => word)
      .toStateful("count", counter)
      .toSink(line),
  );
}

/** Counts words, then by first letter what the counts were; to two sinks. */
function twoKeys(): Application {
  return application("Two keys", () =>
    texts("words")
      .to("split", (text) => text.split(" ").filter((word) => word !== ""))
      .keyBy((word) => word)
      .toStateful("count", counter)
      .keyBy((counted) => counted[0]!)
      .toStateful("by letter", {
        initial: () => ({ count: 0 }),
        apply: (counted: string, state) => `${counted[0]} ${++state.count} ${counted}`,
      })
      .toSinks([line, line]),
  );
}

function spread(): Application {
  return application("Spread", ({ worker }) =>
    texts("words")
      .rebalance()
      .to("mark", (text) => `${text}@${worker}`)
      .collect()
      .toStateful("number", {
        initial: () => ({ count: 0 }),
        apply: (text: string, state) => `${++state.count} ${text}`,
      })
      .toSink(line),
  );
}

/** Words of clients and of generators. */
function merged(): Application {
  return application("Merged", () =>
    texts("words")
      .to("split", (text) => text.split(" ").filter((word) => word !== ""))
      .merge(
        source(
          "made",
          generatorSource({
            initial: () => 0,
            next: (n) => (n < 2_999 ? n + 1 : undefined),
            emit: (n) => WORDS[n % 10]!,
            rate: 20_000,
          }),
        ),
      )
      .keyBy((word) => word)
      .toStateful("count", counter)
      .toSink(line),
  );
}

function words(prng: Prng, count: number): string[] {
  const made: string[] = [];
  for (let i = 0; i < count; i++) {
    const word = () => WORDS[prng.int(prng.int(WORDS.length) + 1)]!;
    made.push(Array.from({ length: prng.int(6) }, word).join(" "));
  }
  return made;
}

/** How often each word is in there. */
function countWords(messages: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const word of messages.flatMap((message) => message.split(" "))) {
    if (word !== "") counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

/** Each key's lines are `key 1` to `key n`, in order. */
function assertCounts(lines: readonly string[], expected: ReadonlyMap<string, number>, what: string): void {
  const last = new Map<string, number>();
  for (const text of lines) {
    const [key, number] = text.split(" ") as [string, string];
    assert.equal(Number(number), (last.get(key) ?? 0) + 1, `${what}: ${text}`);
    last.set(key, Number(number));
  }
  assert.deepEqual([...last].sort(), [...expected].sort(), what);
}

/** Small bounds, so that everything is blocked and freed many times. */
const TIGHT = { exchangeCreditBytes: 3_000, sinkQueueBytes: 2_000 };

/** A world with clients at all workers and a sink that pauses; when all is through, the cluster stops. */
async function run(seed: number, options: ShellWorldOptions): Promise<{ world: ShellWorld; sent: string[] }> {
  const world = await new ShellWorld(seed, options).started();
  const sent: string[] = [];
  const clients = world.workers.flatMap((_, worker) =>
    [0, 1].map(() => {
      const messages = words(world.prng, 100 + world.prng.int(900));
      sent.push(...messages);
      return world.send(worker, 0, messages);
    }),
  );
  for (let at = world.world.now(), i = 0; i < 10; i++) {
    at += world.prng.between(0, 40);
    world.world.at(at, () => {
      const sink = world.sinks[world.prng.int(world.sinks.length)]!;
      sink.stopped = i < 9 && !sink.stopped;
      if (i === 9) for (const each of world.sinks) each.stopped = false;
    });
  }
  await world.until(() => clients.every(({ done }) => done), "clients");
  await world.until(() => world.ingested >= sent.length + madeRecords(options), "ingestion");
  world.drain();
  await world.until(() => world.drained, "drain");
  for (const { report, name } of world.workers) {
    assert.deepEqual(report, { worker: name, complete: true, leftBehind: "" }, `seed ${seed}`);
  }
  await world.world.runFor(100);
  return { world, sent };
}

function madeRecords({ application, workers }: ShellWorldOptions): number {
  return application === merged ? 3_000 * workers : 0;
}

test("words are counted as by a plain loop, on one, two and three workers, with everything full now and then", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const { world, sent } = await run(seed, { workers: 1 + (seed % 3), application: wordCount, limits: TIGHT });
    assertCounts(world.sinks[0]!.lines, countWords(sent), `seed ${seed}`);
  }
});

test("keyBy after keyBy between workers goes on with the smallest credit, and both sinks get the same", async () => {
  for (let seed = 1; seed <= 9; seed++) {
    const options = {
      workers: 1 + (seed % 3),
      application: twoKeys,
      sinks: 2,
      limits: { ...TIGHT, exchangeCreditBytes: 1 },
    };
    const { world, sent } = await run(seed, options);
    const counts = countWords(sent);
    const letters = new Map<string, number>();
    for (const [word, count] of counts) letters.set(word[0]!, (letters.get(word[0]!) ?? 0) + count);
    for (const sink of world.sinks) {
      assertCounts(sink.lines, letters, `seed ${seed}, letters`);
      assertCounts(
        sink.lines.map((text) => text.split(" ").slice(2).join(" ")),
        counts,
        `seed ${seed}, words`,
      );
    }
  }
});

test("rebalance() spreads records evenly, and collect() brings all of them to one state", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const workers = 1 + (seed % 3);
    const { world, sent } = await run(seed, { workers, application: spread, limits: TIGHT });
    const lines = world.sinks[0]!.lines.map((text) => /^(\d+) (.*)@(\w+)$/.exec(text)!);
    assert.deepEqual(
      lines.map((parts) => Number(parts[1])),
      sent.map((_, i) => i + 1),
      `seed ${seed}`,
    );
    assert.deepEqual(lines.map((parts) => parts[2]).sort(), sent.toSorted(), `seed ${seed}`);
    for (const { name } of world.workers) {
      const share = lines.filter((parts) => parts[3] === name).length;
      assert.ok(Math.abs(share - sent.length / workers) <= workers * workers, `seed ${seed}: ${name} did ${share}`);
    }
  }
});

test("merge() joins clients and generators under one key", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const { world, sent } = await run(seed, { workers: 1 + (seed % 3), application: merged, limits: TIGHT });
    const expected = countWords(sent);
    for (const word of WORDS) expected.set(word, (expected.get(word) ?? 0) + 300 * world.workers.length);
    assertCounts(world.sinks[0]!.lines, expected, `seed ${seed}`);
  }
});

/** Two pipelines that share nothing but workers. */
function twoPipelines(): Application {
  return application("Two pipelines", () => [
    texts("slow")
      .keyBy((text) => text)
      .toStateful("count slow", counter)
      .toSink(line),
    texts("fast")
      .keyBy((text) => text)
      .toStateful("count fast", counter)
      .toSink(line),
  ]);
}

test("a sink that stops reading stops the sources that reach it and no others, and what is queued is bounded", async () => {
  for (const workers of [1, 3]) {
    const limits = { exchangeCreditBytes: 20_000, sinkQueueBytes: 10_000 };
    const world = await new ShellWorld(5, { workers, application: twoPipelines, sinks: 2, limits }).started();
    world.sinks[0]!.stopped = true;
    const slow = Array.from({ length: 60_000 }, (_, i) => `slow-${i % 50}-${"x".repeat(60)}`);
    const fast = Array.from({ length: 5_000 }, (_, i) => `fast-${i % 50}`);
    const slowClients = world.workers.map((_, worker) => world.send(worker, 0, slow));
    const fastClients = world.workers.map((_, worker) => world.send(worker, 1, fast));
    await world.until(() => world.sinks[1]!.lineCount === 5_000 * workers, "the fast pipeline is through");
    await world.world.runFor(5_000);
    const read = () => world.workers.map(({ shell }) => shell.sources.status().map((status) => status["bytes"]));
    const before = read();
    await world.world.runFor(5_000);
    assert.deepEqual(read(), before, "nothing moves any more");
    assert.ok(fastClients.every(({ done }) => done));
    assert.ok(
      slowClients.every(({ done }) => !done),
      "clients feel it",
    );
    // What comes of a chunk of 64 KiB that one source hands on at once.
    const batch = 70_000;
    const muted = world.workers.flatMap(({ shell }) => shell.muted());
    assert.ok(
      muted.every(({ input }) => !input.includes("fast")),
      JSON.stringify(muted),
    );
    assert.ok(
      muted.some(({ by }) => by.includes("sink out:7100")),
      JSON.stringify(muted),
    );
    for (const { shell, links, name } of world.workers) {
      assert.ok(
        shell.muted().some(({ input }) => input === "source slow"),
        name,
      );
      const { queuedBytes } = shell.sinks[0]!;
      assert.ok(queuedBytes <= limits.sinkQueueBytes + batch, `${name} has queued ${queuedBytes}`);
      for (const { outstandingMax } of links.byPeer.values()) {
        assert.ok(outstandingMax <= limits.exchangeCreditBytes + batch, `${name} has sent ${outstandingMax} ahead`);
      }
    }
    world.sinks[0]!.stopped = false;
    await world.until(() => world.sinks[0]!.lineCount === 60_000 * workers, "the slow one goes on");
    world.drain();
    await world.until(() => world.drained, "drain");
    assert.ok(
      world.workers.every(({ report }) => report?.complete),
      "drained",
    );
  }
});

test("a source whose records stay here up to the second exchange is held back by the credit of that one", async () => {
  const owners = assignOwners(2, 64);
  const keyOf = (owner: number) => WORDS.find((word) => owners[keyGroupOf(hashKey(word), 64)] === owner)!;
  const [here, there] = [keyOf(0), keyOf(1)];
  const app = () =>
    application("Here, then there", () =>
      texts("words")
        .keyBy(() => here)
        .to("same", (text) => text)
        .keyBy(() => there)
        .toStateful("count", counter)
        .toSink(line),
    );
  const limits = { exchangeCreditBytes: 20_000, sinkQueueBytes: 10_000 };
  const world = await new ShellWorld(11, { workers: 2, application: app, limits }).started();
  world.sinks[0]!.stopped = true;
  const client = world.send(0, 0, ["x".repeat(100)], 40_000);
  await world.world.runFor(5_000);
  assert.equal(client.done, false);
  const [source] = world.workers[0]!.shell.muted();
  assert.deepEqual(source, { input: "source words", by: ["worker w1"] });
  // A chunk of 64 KiB becomes less than 100,000 bytes.
  assert.ok(world.workers[0]!.links.byPeer.get("w1")!.outstandingMax <= limits.exchangeCreditBytes + 100_000);
  world.sinks[0]!.stopped = false;
  await world.until(() => world.sinks[0]!.lineCount === 40_000, "it goes on");
});

test("a stop in the middle of a flood: all that was taken in comes out, in order, long before the deadline", async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const application = seed % 2 === 0 ? wordCount : twoKeys;
    const world = await new ShellWorld(seed, { workers: 3, application, sinks: 2, limits: TIGHT }).started();
    const message = "emu koala wombat";
    world.workers.forEach((_, worker) => void world.send(worker, 0, [message], 50_000));
    await world.world.runFor(5 + world.prng.int(30));
    assert.ok(world.ingested > 0);
    // The word comes to each at another time.
    for (const worker of world.workers) {
      world.world.at(world.world.now() + world.prng.between(0, 50), () => worker.drain(7_000));
    }
    const from = world.world.now();
    await world.until(() => world.drained, "drain");
    await world.world.runFor(100);
    const taken = world.ingested;
    assert.ok(taken < 150_000, "it was in the middle");
    for (const { report } of world.workers) assert.equal(report?.complete, true, `seed ${seed}: ${report?.leftBehind}`);
    assert.ok(world.workers.every(({ drainedAtMs }) => drainedAtMs - from < 3_000));
    const lines = world.sinks[0]!.lines;
    if (application === wordCount) {
      assertCounts(lines, new Map(["emu", "koala", "wombat"].map((word) => [word, taken])), `seed ${seed}`);
    } else {
      assertCounts(lines, new Map(["e", "k", "w"].map((letter) => [letter, taken])), `seed ${seed}`);
      assert.equal(world.sinks[1]!.lines.length, lines.length);
    }
  }
});

test("a peer that dies during the drain is not waited for, and what it did not take is told", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const world = await new ShellWorld(seed, { workers: 3, application: twoKeys, sinks: 2, limits: TIGHT }).started();
    world.workers.forEach((_, worker) => void world.send(worker, 0, ["emu koala wombat quokka"], 20_000));
    await world.world.runFor(50 + world.prng.int(100));
    world.drain();
    const from = world.world.now();
    world.world.at(from + world.prng.between(0, 5), () => world.workers[1 + (seed % 2)]!.kill());
    await world.until(() => world.drained, "drain");
    for (const { report, drainedAtMs, name } of world.workers) {
      if (report === null) continue;
      assert.ok(drainedAtMs - from < 3_000, `seed ${seed}: ${name} took ${drainedAtMs - from}`);
      assert.equal(report.complete, report.leftBehind === "");
      assert.match(report.leftBehind, /^(\d+ batches \(\d+ bytes\) for worker w[12])?$/, `seed ${seed}`);
    }
  }
});

test("a peer that was dead before the stop, with its credit used up, holds back nobody's output", async () => {
  const world = await new ShellWorld(4, { workers: 3, application: twoKeys, sinks: 2, limits: TIGHT }).started();
  world.workers[2]!.kill();
  const clients = [0, 1].map((worker) => world.send(worker, 0, [WORDS.join(" ")], 5_000));
  await world.world.runFor(3_000);
  assert.ok(clients.some(({ done }) => !done) || !world.quiet, "the dead one stops them");
  assert.ok(world.workers[0]!.shell.muted().some(({ by }) => by.includes("worker w2")));
  const from = world.world.now();
  world.drain();
  await world.until(() => world.drained, "drain");
  for (const { report, drainedAtMs } of world.workers) {
    if (report === null) continue;
    assert.ok(drainedAtMs - from < 1_000, `it took ${drainedAtMs - from}`);
    assert.match(report.leftBehind, /^\d+ batches \(\d+ bytes\) for worker w2$/);
  }
});

test("a stop with an absent sink ends at once and says exactly how many records stayed behind", async () => {
  const world = await new ShellWorld(6, { workers: 2, application: wordCount, limits: TIGHT }).started();
  world.sinks[0]!.kill();
  await world.until(() => world.workers.every(({ shell }) => !shell.sinks[0]!.connected), "it is away");
  const clients = [0, 1].map((worker) => world.send(worker, 0, ["emu koala"], 40_000));
  await world.world.runFor(5_000);
  assert.ok(clients.every(({ done }) => !done));
  assert.ok(world.workers[0]!.shell.muted().some(({ by }) => by.includes("sink out:7100 (not connected)")));
  const from = world.world.now();
  world.drain();
  await world.until(() => world.drained, "drain");
  let left = 0;
  for (const { report, drainedAtMs } of world.workers) {
    assert.ok(drainedAtMs - from < 1_000, `it took ${drainedAtMs - from}`);
    const parts = /^(\d+) records \(\d+ bytes\) for out:7100, which is not connected$/.exec(report!.leftBehind);
    left += Number(parts?.[1]);
  }
  assert.equal(left, 2 * world.ingested);
});

test("a stop with a sink that does not read lasts until its deadline, and then says what stayed behind", async () => {
  const world = await new ShellWorld(7, { workers: 2, application: wordCount, limits: TIGHT }).started();
  world.sinks[0]!.stopped = true;
  for (const worker of [0, 1]) world.send(worker, 0, ["emu koala"], 40_000);
  await world.world.runFor(3_000);
  const from = world.world.now();
  world.drain(2_000);
  await world.until(() => world.drained, "drain");
  const took = Math.max(...world.workers.map(({ drainedAtMs }) => drainedAtMs - from));
  assert.ok(took >= 2_000 && took < 2_010, `it took ${took}`);
  const reports = world.workers.map(({ report }) => report!.leftBehind).join("; ");
  assert.match(reports, /\d+ records \(\d+ bytes\) for out:7100, which does not read/);
  // It reads again when all is over: nothing is said twice, and closing leaves no record in half.
  world.sinks[0]!.stopped = false;
  const closed = Promise.all(world.workers.map(({ shell }) => shell.close(300)));
  await world.world.drive(closed);
  await world.world.runFor(1_000);
  for (const text of world.sinks[0]!.connections) assert.match(text, /^$|\n$/);
});

test("a value that can't travel costs its record, wherever it stands in its batch; too much for one frame goes in several", async () => {
  const bad = 333;
  const app = () =>
    application("Unfit", () =>
      texts("words")
        .to("number", (text) => ({ text, odd: text.startsWith(`${bad} `) ? Symbol("no") : null }))
        .rebalance()
        .to("text", ({ text }) => text.split(" ")[0])
        .toSink(line),
    );
  const limits = { dataFrameBytes: 6_000 };
  const world = await new ShellWorld(8, { workers: 2, application: app, limits }).started();
  const messages = Array.from({ length: 600 }, (_, i) => `${i} ${"x".repeat(i === 401 || i === 402 ? 7_000 : 90)}`);
  world.send(0, 0, messages);
  await world.until(() => world.ingested === 600 && world.quiet, "through");
  world.drain();
  await world.until(() => world.drained, "drain");
  await world.world.runFor(100);
  const numbers = world.sinks[0]!.lines.map(Number).sort((a, b) => a - b);
  const missing = messages.map((_, i) => i).filter((i) => !numbers.includes(i));
  const { shell, log } = world.workers[0]!;
  // Half of the records stay here; one of the long ones, and the unfit one if it was to go, could not leave.
  const remote = [401, 402].filter((i) => !numbers.includes(i));
  assert.equal(remote.length, 1);
  assert.ok(
    missing.every((i) => i === bad || i === remote[0]),
    JSON.stringify(missing),
  );
  assert.equal(new Set(numbers).size, numbers.length);
  assert.equal(shell.userErrors, missing.length);
  assert.match(
    log.last("user_error_send"),
    /Unfit|words\/rebalance before text: user code threw in send.*at most 5936/,
  );
});

test("a record that its decoder refuses is told with the whole name of its source, whatever is in it", async () => {
  const decode = (payload: Payload) => {
    const text = payload.text();
    if (text === "bad") throw new Error("no such text");
    return text;
  };
  const app = () =>
    application("Slashes", () => source("in/out/x", tcpSource({ framing: framed.u32, decode })).toSink(line));
  const world = await new ShellWorld(10, { workers: 1, application: app }).started();
  world.send(0, 0, ["a", "bad", "b"]);
  await world.until(() => world.sinks[0]!.lines.length === 2, "the others");
  const { shell, log } = world.workers[0]!;
  assert.equal(shell.userErrors, 1);
  assert.match(
    log.last("user_error_decode"),
    /Unable to decode message at in\/out\/x source; .*, frame 2 \(at byte 5\) of the connection from [\d.]+:\d+: .*no such text/,
  );
});

test("a batch of a peer that can't be read is counted and dropped, and the next one counts", async () => {
  const world = await new ShellWorld(9, { workers: 2, application: wordCount }).started();
  const [worker] = world.workers;
  const batch = (exchange: number, keys: string[]) => {
    const writer = new ByteWriter();
    const values = ["emu"];
    const columns = { exchange, pipeline: 0, count: 1, watermark: 0, arrivalMs: 0, values, keys };
    const hashes = new Uint32Array(keys.length);
    encodeDataBatch({ ...columns, times: new Float64Array(1), hashes }, writer);
    return writer.take();
  };
  const good = batch(0, ["emu"]);
  const released: number[] = [];
  world.workers[0]!.links.release = (_from, _exchange, count) => void released.push(count);
  worker!.turn(() => {
    worker!.shell.batch("w1", 0, good.subarray(0, good.length - 1));
    worker!.shell.batch("w1", 0, batch(0, []));
    worker!.shell.batch("w1", 0, batch(1, ["emu"]));
    worker!.shell.batch("w1", 7, good);
    worker!.shell.batch("w1", 0, good);
  });
  assert.equal(worker!.shell.malformedBatches, 4);
  // Credit comes back for what was dropped as well.
  assert.equal(released.length, 4);
  await world.until(() => world.sinks[0]!.lineCount === 1, "the good one");
});

test("a peer that comes during the stop gets the ends that it waits for", async () => {
  const world = await new ShellWorld(10, { workers: 2, application: twoKeys, sinks: 2 }).started();
  const [initializer, late] = world.workers;
  initializer!.drain(7_000, []);
  await world.until(() => initializer!.report !== null, "it is alone, as far as it knows");
  const from = world.world.now();
  late!.drain(7_000, ["initializer"]);
  await world.until(() => late!.report !== null, "drain");
  assert.ok(late!.drainedAtMs - from < 1_000);
  assert.equal(late!.report!.complete, true);
});

test("a peer that is away when the stop begins is waited for, and what it still sends comes out", async () => {
  const world = await new ShellWorld(10, { workers: 2, application: twoKeys, sinks: 2 }).started();
  const [initializer, away] = world.workers;
  initializer!.drain(7_000, [], ["w1"]);
  await world.world.runFor(1_000);
  assert.equal(initializer!.report, null);
  initializer!.turn(() => initializer!.shell.drain.peerBack("w1", true));
  away!.drain(7_000, ["initializer"]);
  await world.until(() => world.drained, "both have drained");
  for (const { report } of world.workers) assert.equal(report!.complete, true);
});

test("a peer that does not come back during the stop is waited for two seconds, and named", async () => {
  const world = await new ShellWorld(10, { workers: 2, application: twoKeys, sinks: 2 }).started();
  const initializer = world.workers[0]!;
  const from = world.world.now();
  initializer.drain(7_000, ["w1"]);
  initializer.turn(() => initializer.shell.drain.peerAway("w1"));
  await world.until(() => initializer.report !== null, "it has waited");
  const waitedMs = initializer.drainedAtMs - from;
  assert.ok(waitedMs >= 2_000 && waitedMs < 2_100, `${waitedMs} ms`);
  assert.match(initializer.report!.leftBehind, /what worker w1, which is away, may still have had to send/);
});

test("a peer that comes back during the stop as another process is not waited for", async () => {
  const world = await new ShellWorld(10, { workers: 2, application: twoKeys, sinks: 2 }).started();
  const initializer = world.workers[0]!;
  initializer.drain(7_000, [], ["w1"]);
  await world.world.runFor(100);
  initializer.turn(() => initializer.shell.drain.peerBack("w1", false));
  await world.until(() => initializer.report !== null, "it goes on");
  assert.equal(initializer.report!.complete, true);
});

for (const closed of ["for_a_cut", "for_a_recovery"] as const) {
  test(`a stop while sources stand still ${closed}: what was read goes on behind it, or not at all`, async () => {
    const run = await new ShellWorld(17, { workers: 1, application: wordCount }).started();
    const worker = run.workers[0]!;
    const gate = { closed: null as typeof closed | null, holds: () => false, barrier: () => {} };
    const word = encodeFrame(new TextEncoder().encode("emu"));
    run.world.host("client").startProcess(async ({ net, clock }) => {
      const conn = await net.connect({ host: worker.name, port: 7010 }, { timeoutMs: 1_000 });
      await conn.write(word);
      while (gate.closed === null) await new Promise<void>((resolve) => clock.startTimer(1, resolve));
      for (let i = 0; i < 99; i++) await conn.write(word);
    });
    // The next read is under way by then.
    await run.until(() => worker.ingested === 1, "the first word is taken in");
    worker.turn(() => {
      worker.shell.gate = gate;
      gate.closed = closed;
      worker.shell.standStill(true);
    });
    await run.world.runFor(100);
    run.drain();
    await run.world.runFor(100);
    assert.equal(worker.ingested, 1);
    assert.equal(worker.report === null, closed === "for_a_cut");
    worker.turn(() => {
      gate.closed = null;
      worker.shell.standStill(false);
    });
    await run.until(() => run.drained, "the stop ends");
    // One read was under way.
    assert.ok(closed === "for_a_cut" ? worker.ingested > 1 : worker.ingested === 1);
    assert.equal(worker.report!.complete, true);
    await run.world.runFor(100);
    assert.equal(run.sinks[0]!.lineCount, worker.ingested);
  });
}

test("a dead letter goes in only where a source could hand on a record: not at a cut, not in a recovery, not in a stop", async () => {
  const decode = (payload: Payload) => payload.text();
  const app = () =>
    application("Letters", () =>
      source("words", tcpSource({ framing: framed.u32, decode }))
        .to("same", (word) => word)
        .toSink(line),
    );
  const world = await new ShellWorld(11, { workers: 1, application: app }).started();
  const { shell } = world.workers[0]!;
  const letter: ResentLetter = {
    ...{ stage: "words/decode", during: "decode", source: "words", place: null, key: null, time: 5 },
    ...{ bytes: new TextEncoder().encode("again"), head: null, value: null },
  };
  const plan = planApplication(app(), { args: [], options: {}, worker: "initializer", workers: 1, inputs: [] });
  const entry = entryOf(plan, letter);
  assert.ok(typeof entry !== "string");
  assert.equal(shell.letters.mayTake(entry), true);
  shell.standStill(true);
  assert.equal(shell.letters.mayTake(entry), false);
  shell.standStill(false);
  const { gate } = shell;
  for (const closed of ["for_a_cut", "for_a_recovery"] as const) {
    shell.gate = { ...gate, closed };
    assert.equal(shell.letters.mayTake(entry), false);
  }
  shell.gate = gate;
  assert.equal(shell.letters.take(entry, letter), null);
  shell.flush();
  await world.until(() => world.sinks[0]!.lines.includes("again"), "the letter");
  shell.drain.begin(1_000, []);
  assert.equal(shell.letters.mayTake(entry), false);
});
