// A stage with onError "fail" meets a record that it can't take: the worker ends, and does so at each start, until the
// application is another one. On whole virtual clusters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, type ErrorPolicy, fileSink, fileSource, lines, source } from "../../mod.ts";
import { UserCodeError } from "../../src/base/errors.ts";
import { INITIALIZER } from "../../src/base/ids.ts";
import { NO_CHECKPOINTS, type WorkerConfig } from "../../src/worker/config.ts";
import { VirtualCluster, type WorkerProcess } from "../lib/virtual_cluster.ts";

const INPUT = "/data/in.txt";

const picky = (onError: ErrorPolicy, refused = 66) =>
  application("Picky", () =>
    source("numbers", fileSource({ path: INPUT, framing: lines, rate: 100, decode: (line) => Number(line.text()) }))
      .keyBy((number) => `k${number % 10}`)
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply(number, state) {
          if (number % 100 === refused) throw new RangeError("not that one");
          return `${number % 10} ${++state.n}`;
        },
        onError,
      })
      .toSink(fileSink({ directory: "/data/out", encode: (line) => `${line}\n` })),
  );

function failing(seed: number, workers = 1): VirtualCluster {
  const checkpoints = { ...NO_CHECKPOINTS, intervalMs: 50 };
  const config = { inputs: new Map(), outputs: [], checkpoints };
  const made = new VirtualCluster({ seed, workers, application: () => picky("fail"), config });
  const numbers = Array.from({ length: 300 }, (_, i) => `${i}\n`);
  // Only the initializer has records.
  for (const { disk } of made.machines.values()) disk.put(INPUT, "");
  made.machines.get(INITIALIZER)!.disk.put(INPUT, numbers.join(""));
  return made;
}

async function ended(made: VirtualCluster, change: Partial<WorkerConfig> = {}): Promise<WorkerProcess> {
  const worker = made.start(INITIALIZER, change);
  assert.ok(await made.exited(30_000), "it ends");
  return worker;
}

function visible(made: VirtualCluster, name = INITIALIZER): string[] {
  const { disk } = made.machines.get(name)!;
  const parts = disk
    .paths()
    .filter((path) => path.startsWith("/data/out/") && !path.includes("/.") && !path.endsWith("/"));
  return parts.flatMap((path) => new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1));
}

const NEXT: Partial<WorkerConfig> = { application: picky("skip"), applicationCodeDigest: "the next version" };

test("a record that ends its worker again and again is told as such the third time, and not before", async () => {
  const made = failing(61);
  for (const round of [1, 2, 3, 4]) {
    const { error, status } = await ended(made);
    assert.equal(status, 21);
    assert.ok(error instanceof UserCodeError, String(error));
    assert.match(error.message, /numbers\/count: user code threw in apply, key "k6", source numbers, .* at byte 188/);
    assert.equal(error.code, round < 3 ? "user_code_failed" : "user_code_fails_again");
    if (round < 3) assert.doesNotMatch(error.message, /in a row/);
    else assert.match(error.message, new RegExp(`It is the ${round}(rd|th) time in a row .*onError: "dead_letter"`));
  }
});

test("another record begins the count anew", async () => {
  const made = failing(62);
  await ended(made);
  await ended(made);
  const third = await ended(made, { application: picky("fail", 77) });
  assert.match(String(third.error), /key "k7"/);
  assert.doesNotMatch(String(third.error), /in a row/);
});

test("another version goes on from the last checkpoint when it is told to, and only then", async () => {
  const made = failing(63);
  for (let round = 0; round < 3; round++) await ended(made);
  const refused = await ended(made, NEXT);
  assert.equal(refused.status, 12);
  assert.match(String(refused.error), /another version of the application.*--accept-other-version/);
  const accepting = { ...NO_CHECKPOINTS, intervalMs: 50, acceptOtherVersion: true };
  made.start(INITIALIZER, { ...NEXT, checkpoints: accepting });
  assert.ok(await made.world.runUntil(() => visible(made).length === 297, 30_000), `${visible(made).length} lines`);
  // All but three of a key's records, once each, those before the stop too.
  const counts = visible(made).filter((line) => line.startsWith("6 "));
  assert.deepEqual(
    counts,
    Array.from({ length: 27 }, (_, i) => `6 ${i + 1}`),
  );
  // From now on it is the cluster of that version: without the option too, and the old one is refused.
  made.processes.get(INITIALIZER)!.process.kill();
  const worker = made.start(INITIALIZER, NEXT);
  assert.ok(await made.working());
  worker.process.kill();
  const old = await ended(made);
  assert.equal(old.status, 12);
});

test("in a cluster of two another version is refused by whoever still runs the old one, and the old one may still come back", async () => {
  const made = failing(65, 2);
  made.startAll();
  const dead = () => made.names.find((name) => made.processes.get(name)!.status !== null);
  assert.ok(await made.world.runUntil(() => dead() !== undefined, 30_000), "one of them meets the record");
  const name = dead()!;
  assert.equal(name, "w1", "the owner of its key, not who has read it");
  const other = made.names.find((found) => found !== name)!;
  const ends = async () => {
    assert.ok(await made.world.runUntil(() => made.processes.get(name)!.status !== null, 30_000), "it ends");
    return made.processes.get(name)!;
  };
  assert.equal(made.processes.get(name)!.status, 21);
  const accepting = { ...NO_CHECKPOINTS, intervalMs: 50, acceptOtherVersion: true };
  made.start(name, { ...NEXT, checkpoints: accepting });
  const refused = await ends();
  assert.equal(refused.status, 13, String(refused.error));
  assert.match(String(refused.error), /application fingerprint differs: ours .*, theirs/);
  assert.equal(made.processes.get(other)!.status, null, "who is right is left alone");
  made.start(name);
  assert.equal((await ends()).status, 21, "the old version is let in, and meets the record again");
  made.processes.get(other)!.process.kill();
  for (const each of made.names) made.start(each, { ...NEXT, checkpoints: accepting });
  const all = () => made.names.reduce((sum, each) => sum + visible(made, each).length, 0);
  assert.ok(await made.world.runUntil(() => all() === 297, 30_000), `${all()} lines`);
});

test("without the file of stops, or with nonsense in it, counting begins anew", async () => {
  const made = failing(64);
  await ended(made);
  await ended(made);
  const { disk } = made.machines.get(INITIALIZER)!;
  const path = disk.paths().find((found) => found.endsWith("/stops"))!;
  disk.put(path, "two\nnumbers/count");
  const third = await ended(made);
  assert.ok(third.error instanceof UserCodeError);
  assert.equal(third.error.code, "user_code_failed");
});
