// Ever new keys: the worker says that memory grows, and leaves in words with a checkpoint when it has reached its limit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, fileSink, fileSource, lines, source } from "../../mod.ts";
import { UserCodeError } from "../../src/base/errors.ts";
import { INITIALIZER } from "../../src/base/ids.ts";
import { NO_CHECKPOINTS, type WorkerConfig } from "../../src/worker/config.ts";
import { MemoryGuard } from "../../src/worker/memory_guard.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

const INPUT = "/data/in.txt";
const RECORDS = 6_000;
const KEY_BYTES = 100_000;
const LIMIT = 200_000_000;

/** A machine whose memory is what its keys need. */
class Machine {
  keys = 0;

  readonly app = () =>
    application("New keys", () =>
      source("numbers", fileSource({ path: INPUT, framing: lines, rate: 500, decode: (line) => line.text() }))
        .keyBy((number) => `k${number}`)
        .toStateful("remember", {
          initial: () => {
            this.keys++;
            return { n: 0 };
          },
          apply: (number, state) => `${number} ${++state.n}`,
        })
        .toSink(fileSink({ directory: "/data/out", encode: (line) => `${line}\n` })),
    );

  cluster(seed: number, intervalMs: number | null): VirtualCluster {
    const made = new VirtualCluster({
      seed,
      workers: 1,
      application: this.app,
      limits: { memoryBytes: LIMIT },
      config: { inputs: new Map(), outputs: [], checkpoints: { ...NO_CHECKPOINTS, intervalMs } },
      runtime: (runtime) => ({
        ...runtime,
        host: { ...runtime.host, residentBytes: () => 50_000_000 + this.keys * KEY_BYTES },
      }),
    });
    const numbers = Array.from({ length: RECORDS }, (_, i) => `${i}\n`);
    made.machines.get(INITIALIZER)!.disk.put(INPUT, numbers.join(""));
    return made;
  }
}

function visible(made: VirtualCluster): string[] {
  const { disk } = made.machines.get(INITIALIZER)!;
  const parts = disk.paths().filter((path) => path.startsWith("/data/out/part"));
  return parts.flatMap((path) => new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1));
}

test("a worker that has reached its limit of memory takes a checkpoint and leaves with 21; with more memory it goes on", async () => {
  const machine = new Machine();
  // So rare that the only one is that of the limit.
  const made = machine.cluster(71, 3_600_000);
  const worker = made.start(INITIALIZER);
  assert.ok(await made.exited(30_000), "it leaves");
  assert.equal(worker.status, 21);
  assert.ok(worker.error instanceof UserCodeError, String(worker.error));
  assert.match(
    worker.error.message,
    /Resident memory is \d+ MB of at most 200 MB \(--memory-limit\): numbers\/remember: \d+ keys.*; checkpoint \d+ was taken, and the worker leaves: start it again with a higher --memory-limit/,
  );
  assert.ok(worker.said("warn memory_high: Resident memory is 1"), worker.lines.join("\n"));
  const keys = Number(/remember: (\d+) keys/.exec(worker.error.message)![1]);
  assert.ok(keys >= 1_500 && keys < 3_500, `${keys} keys: it did not wait until all were there`);

  // What was taken in before the limit is in the checkpoint: nothing comes twice.
  machine.keys = 0;
  const change: Partial<WorkerConfig> = {
    limits: { ...made.configOf(INITIALIZER).limits, memoryBytes: LIMIT * 10 },
    checkpoints: { ...NO_CHECKPOINTS, intervalMs: 100 },
  };
  made.start(INITIALIZER, change);
  assert.ok(await made.world.runUntil(() => visible(made).length >= RECORDS, 60_000), `${visible(made).length} lines`);
  assert.deepEqual(new Set(visible(made)), new Set(Array.from({ length: RECORDS }, (_, i) => `${i} 1`)));
  assert.equal(visible(made).length, RECORDS);
  assert.ok(machine.keys < RECORDS - 1_000, "states of before came from the checkpoint");
});

test("from the limit on nothing more is taken in, however long the last checkpoint takes", async () => {
  const machine = new Machine();
  const made = machine.cluster(73, 200);
  const worker = made.start(INITIALIZER);
  assert.ok(await made.world.runUntil(() => machine.keys > 1_000, 30_000));
  const { disk } = made.machines.get(INITIALIZER)!;
  // As soon as it is told, or a moment later.
  assert.ok(await made.world.runUntil(() => worker.said("memory_limit_reached"), 30_000), "the limit is reached");
  const keys = machine.keys;
  disk.stall(6_000);
  await made.world.runFor(5_000);
  assert.equal(worker.status, null, "it waits for its checkpoint");
  assert.ok(machine.keys <= keys + 50, `${machine.keys - keys} keys came behind the limit`);
  assert.ok(await made.exited(30_000), "it leaves");
  assert.match(String(worker.error), /checkpoint \d+ was taken, and the worker leaves/);
});

test("without checkpoints it leaves in words as well", async () => {
  const made = new Machine().cluster(72, null);
  const worker = made.start(INITIALIZER);
  assert.ok(await made.exited(30_000), "it leaves");
  assert.equal(worker.status, 21);
  assert.match(String(worker.error), /no checkpoint could be taken \(they are off/);
});

test("memory is said to be high at four fifths, and again with each twentieth; a peak is no reason to leave", () => {
  let resident = 0;
  const said: string[] = [];
  const guard = new MemoryGuard({
    limitBytes: 1_000,
    residentBytes: () => resident,
    high: (bytes) => said.push(`high ${bytes}`),
    exceeded: (bytes) => said.push(`exceeded ${bytes}`),
  });
  let now = 0;
  const look = (bytes: number, forMs: number) => {
    resident = bytes;
    for (const until = now + forMs; now < until; now += 250) guard.look(now);
    return said.splice(0);
  };
  assert.deepEqual(look(799, 5_000), []);
  assert.deepEqual(look(800, 5_000), ["high 800"]);
  assert.deepEqual(look(849, 1_000), []);
  assert.deepEqual(look(850, 1_000), ["high 850"]);
  assert.deepEqual(look(1_200, 1_000), ["high 1200"]);
  assert.deepEqual(look(700, 1_000), []);
  assert.deepEqual(look(900, 1_000), ["high 900"]);
  assert.deepEqual(look(1_001, 5_000), ["high 1001", "exceeded 1001"]);
});
