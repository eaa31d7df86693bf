// The file sink on the virtual disk: what a reader of the folder sees, whatever happens when.
import assert from "node:assert/strict";
import { test } from "node:test";
import { TammarError } from "../../src/base/errors.ts";
import type { DiskErrorCode } from "../../src/runtime/runtime.ts";
import type { DiskOperation } from "../../src/runtime/virtual/disk.ts";
import { Cluster, FOLDER, hiddenNames, outputOf, visible, visibleNames, Writing } from "./file_sink_kit.ts";

async function refused(writing: Writing, cluster: Cluster, status: number, ...parts: string[]): Promise<void> {
  assert.ok(await cluster.world.runUntil(() => writing.failure !== null, 60_000), "not refused");
  const error = writing.failure;
  assert.ok(error instanceof TammarError, String(error));
  assert.equal(error.exitStatus, status, error.message);
  for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
}

test("output is invisible until its checkpoint is complete, then visible as whole records", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(1_000);
  await cluster.world.runFor(5_000);
  assert.equal(visible(cluster.host), "");
  cluster.begin();
  cluster.write(10);
  await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
  assert.deepEqual(cluster.vote, { kind: "commit" });
  assert.equal(visible(cluster.host), "");
  cluster.decide();
  cluster.commit();
  await cluster.world.runFor(1_000);
  assert.equal(visible(cluster.host), outputOf(1_000));
  assert.deepEqual(visibleNames(cluster.host), ["part-0000000000000001-w1-00000000.txt"]);
  await cluster.end();
  assert.equal(cluster.complete.count, 1_010);
});

test("an epoch without output is voted for without touching the disk", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(5);
  await cluster.checkpoint();
  await cluster.world.runFor(1_000);
  let operations = 0;
  cluster.host.disk.fault = () => {
    operations++;
    return null;
  };
  for (let i = 0; i < 10; i++) await cluster.checkpoint();
  await cluster.world.runFor(1_000);
  assert.equal(operations, 0);
  assert.equal(visible(cluster.host), outputOf(5));
});

test("small outputs are joined to the last visible file, and a file that is large enough stays as it is", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  for (let i = 0; i < 100; i++) {
    cluster.write(300);
    await cluster.checkpoint();
    await cluster.world.runFor(50);
    cluster.check();
  }
  await cluster.end();
  const total = outputOf(30_000).length;
  assert.ok(total > 2 << 20);
  const names = visibleNames(cluster.host);
  assert.ok(
    names.length > 1 && names.length <= Math.ceil(total / (1 << 20)) + 2,
    `${names.length} files of ${total} bytes`,
  );
});

test("a reader that lists and reads while files are joined sees a beginning of the output each time", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  const all = outputOf(60 * 500);
  let passes = 0;
  let longest = 0;
  let reading = true;
  let wrong = "";
  cluster.host.startProcess(async ({ disk, clock }) => {
    while (reading) {
      const names = (await disk.list(FOLDER)).map(({ name }) => name).filter((name) => !name.startsWith("."));
      let seen = "";
      for (const name of names) seen += new TextDecoder().decode(await disk.readFile(`${FOLDER}/${name}`, 1 << 30));
      if (!all.startsWith(seen) || seen.length < longest) wrong ||= `pass ${passes}: ${seen.length} after ${longest}`;
      longest = seen.length;
      passes++;
      await new Promise<void>((resolve) => clock.startTimer(3, resolve));
    }
  });
  for (let i = 0; i < 60; i++) {
    cluster.write(500);
    await cluster.checkpoint();
    await cluster.world.runFor(5);
  }
  await cluster.world.runFor(100);
  reading = false;
  assert.equal(wrong, "");
  assert.equal(longest, all.length);
  assert.ok(passes > 60 && visibleNames(cluster.host).length > 1);
});

test("a checkpoint costs what it adds, not what is there", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  // Much more than one checkpoint adds is never copied.
  for (let i = 0; i < 20; i++) {
    cluster.write(4_000);
    await cluster.world.runUntil(() => !cluster.sink.connector.blocked, 5_000);
    await cluster.checkpoint();
  }
  await cluster.end();
  const sizes = visibleNames(cluster.host).map((name) => cluster.host.disk.peek(`${FOLDER}/${name}`)!.length);
  const added = outputOf(80_000).length / 20;
  assert.ok(sizes.every((size) => size <= 9 * added) && sizes.length > 2, `${sizes} of ${added}`);
});

test("an aborted epoch belongs to the next one, how often ever", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  for (let round = 0; round < 4; round++) {
    for (let aborts = 0; aborts < round; aborts++) {
      cluster.write(7);
      cluster.begin();
      cluster.write(3);
      if (aborts % 2 === 0) await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
      cluster.abort();
      await cluster.world.runFor(20);
      cluster.check();
    }
    cluster.write(10);
    await cluster.checkpoint();
    await cluster.world.runFor(100);
    assert.equal(visible(cluster.host), outputOf(cluster.complete.count));
  }
  await cluster.end();
});

test("the next epoch may be cut before the word of the one before is here", async () => {
  for (const outcome of ["commit", "abort"] as const) {
    const cluster = new Cluster(1);
    cluster.start();
    await cluster.ready();
    cluster.write(10);
    cluster.begin();
    await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
    const first = cluster.cut!;
    cluster.write(10);
    cluster.begin();
    const second = cluster.cut!;
    await cluster.world.runFor(100);
    assert.equal(cluster.vote, null, "what the second one does depends on the first");
    const { transactions } = cluster.sink.connector;
    if (outcome === "commit") {
      cluster.complete = first;
      transactions!.commit(first.epoch);
    } else transactions!.abort(first.epoch);
    cluster.sink.connector.flush();
    await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
    assert.equal(cluster.cut, second);
    cluster.decide();
    cluster.kill(true);
    cluster.start();
    await cluster.ready();
    assert.equal(visible(cluster.host), outputOf(20));
    await cluster.end();
  }
});

test("a rollback takes back what no complete checkpoint covers, while everything goes on", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  for (let round = 0; round < 20; round++) {
    cluster.write(20);
    await cluster.checkpoint();
    cluster.write(30);
    if (round % 2 === 0) cluster.begin();
    if (round % 4 === 0) await cluster.world.runFor(10);
    cluster.goBack();
    cluster.check();
  }
  await cluster.end();
  assert.equal(cluster.complete.count, 400);
});

/** A life with everything in it: plain files, joined ones, an abort, a rollback. Ends when it is killed, or by itself. */
async function fullLife(cluster: Cluster, isOver: () => boolean): Promise<void> {
  const { world } = cluster;
  const wait = async (condition: () => boolean) => {
    await world.runUntil(() => isOver() || condition(), 60_000);
    return !isOver();
  };
  cluster.start();
  if (!(await wait(() => cluster.sink.connector.everConnected))) return;
  for (const step of [
    "abort",
    "abort",
    "complete",
    "complete",
    "abort",
    "complete",
    "roll back",
    "complete",
  ] as const) {
    cluster.write(15);
    cluster.begin();
    cluster.write(5);
    if (!(await wait(() => cluster.vote !== null))) return;
    if (step === "abort") cluster.abort();
    else if (step === "roll back") cluster.goBack();
    else {
      cluster.decide();
      if (isOver()) return;
      cluster.commit();
    }
  }
  await wait(() => hiddenNames(cluster.host).length <= 1);
}

for (const power of [false, true]) {
  const what = power ? "a power cut" : "the death of the process";
  test(`${what} at any step of its life costs no output and doubles none`, async () => {
    let cuts = 0;
    for (let step = 1, ended = false; !ended; step++) {
      for (let variant = 0; variant < (power ? 3 : 1); variant++) {
        const seed = step * 4 + variant;
        const cluster = new Cluster(seed);
        let over = false;
        await fullLife(cluster, () => {
          over ||= cluster.world.steps >= step;
          return over;
        });
        if (!over) ended = true;
        cluster.kill(power);
        try {
          // Before anybody has put the folder in order.
          cluster.check();
          cluster.start();
          await cluster.ready();
          assert.equal(visible(cluster.host), outputOf(cluster.complete.count), "restored to the checkpoint");
          assert.deepEqual(hiddenNames(cluster.host), []);
          cluster.write(25);
          await cluster.end();
        } catch (error) {
          throw new Error(`seed ${seed}, step ${step}`, { cause: error });
        }
        cuts++;
      }
    }
    assert.ok(cuts > 100, `only ${cuts} cuts`);
  });
}

test("what became visible is durable before the next epoch can be complete", async () => {
  for (let seed = 0; seed < 16; seed++) {
    const cluster = new Cluster(seed);
    cluster.start();
    await cluster.ready();
    cluster.write(20);
    cluster.begin();
    await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
    cluster.decide();
    cluster.host.disk.fault = (operation) => (operation === "sync_dir" ? "io" : null);
    cluster.commit();
    await cluster.world.runUntil(() => cluster.sink.log.count("sink_files_failing") > 0, 5_000);
    cluster.host.disk.fault = null;
    assert.equal(visible(cluster.host), outputOf(20));
    cluster.goBack();
    await cluster.world.runFor(100);
    // Without output of its own: nothing else would make the folder durable.
    await cluster.checkpoint();
    cluster.kill(true);
    cluster.start();
    await cluster.ready();
    assert.equal(visible(cluster.host), outputOf(20), `seed ${seed}`);
  }
});

test("a power cut at any step of the restart itself changes nothing", async () => {
  for (let step = 1; step <= 60; step++) {
    for (let variant = 0; variant < 4; variant++) {
      const cluster = new Cluster(step * 4 + variant);
      cluster.start();
      await cluster.ready();
      cluster.write(20);
      if (variant < 2) await cluster.checkpoint();
      for (const aborted of variant % 2 === 0 ? [true, true, false] : [false]) {
        cluster.write(20);
        cluster.begin();
        await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
        if (aborted) cluster.abort();
      }
      cluster.write(20);
      cluster.decide();
      cluster.kill(true);
      for (let again = 0; again < 2; again++) {
        const from = cluster.world.steps;
        cluster.start();
        await cluster.world.runUntil(() => cluster.world.steps >= from + step, 1_000);
        cluster.kill(true);
        cluster.check();
      }
      cluster.start();
      await cluster.ready();
      assert.equal(visible(cluster.host), outputOf(cluster.complete.count), `step ${step}, variant ${variant}`);
      await cluster.end();
    }
  }
});

const OPERATIONS: readonly DiskOperation[] = [
  "append",
  "open",
  "read",
  "remove",
  "rename",
  "stat",
  "sync",
  "sync_dir",
  "truncate",
];

test("an operation that fails costs a checkpoint and says why, never output", async () => {
  let refusals = 0;
  for (const operation of OPERATIONS) {
    for (const code of ["full", "io"] satisfies DiskErrorCode[]) {
      for (const times of [1, 3]) {
        const cluster = new Cluster(times);
        cluster.start();
        await cluster.ready();
        cluster.write(10);
        await cluster.checkpoint();
        await cluster.world.runFor(100);
        let left = times;
        cluster.host.disk.fault = (asked) => (asked === operation && left-- > 0 ? code : null);
        for (let round = 0; round < 8; round++) {
          cluster.write(10);
          cluster.begin();
          assert.ok(await cluster.world.runUntil(() => cluster.vote !== null, 5_000), `${operation} ${code}: no vote`);
          const { vote } = cluster;
          if (vote!.kind === "abort") {
            refusals++;
            assert.match(vote!.reason, /^\/out: Cannot|sync of its files/);
            const mustRollBack = operation === "sync" && vote!.rollBack === true;
            if (mustRollBack) cluster.goBack();
            else cluster.abort();
            assert.equal(vote!.rollBack, mustRollBack);
          } else {
            cluster.decide();
            cluster.commit();
          }
          await cluster.world.runFor(2_500);
          cluster.check();
        }
        cluster.host.disk.fault = null;
        cluster.kill(true);
        cluster.start();
        await cluster.ready();
        cluster.write(10);
        await cluster.end();
      }
    }
  }
  assert.ok(refusals > 10, `${refusals}`);
});

test("a full disk blocks the sink and refuses checkpoints in words; once there is room it goes on by itself", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(100);
  await cluster.checkpoint();
  await cluster.world.runFor(100);
  const { disk } = cluster.host;
  disk.spaceBytes = disk.usedBytes() + 5_000;
  for (let round = 0; round < 5; round++) {
    cluster.write(500);
    await cluster.world.runFor(1_000);
    cluster.begin();
    await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
    assert.equal(cluster.vote?.kind, "abort");
    assert.match((cluster.vote as { reason: string }).reason, /no space is left/);
    assert.equal((cluster.vote as { rollBack?: boolean }).rollBack, false);
    cluster.abort();
  }
  assert.ok(cluster.sink.connector.blocked);
  assert.equal(cluster.sink.connector.connected, false);
  assert.equal(cluster.sink.log.count("sink_files_failing"), 1);
  disk.spaceBytes = Number.POSITIVE_INFINITY;
  await cluster.world.runFor(3_000);
  assert.equal(cluster.sink.connector.blocked, false);
  assert.equal(cluster.sink.log.count("sink_files_work"), 1);
  await cluster.end();
  assert.equal(cluster.complete.count, 2_600);
});

test("whatever happens in whatever order, a reader sees a beginning of the output, and in the end all of it", async () => {
  const runs = Number(process.env.RUNS ?? 100);
  const seedFrom = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));
  for (let run = 0; run < runs; run++) {
    const seed = seedFrom + run;
    const cluster = new Cluster(seed);
    const { random, world, host } = cluster;
    const faulty = random.chance(2);
    if (faulty) {
      host.disk.fault = (operation) => {
        if (cluster.writing?.connector.everConnected !== true || !random.chance(40)) return null;
        return OPERATIONS.includes(operation) ? (random.chance(2) ? "full" : "io") : null;
      };
    }
    try {
      cluster.start();
      for (let step = 0; step < 120; step++) {
        const { connector } = cluster.sink;
        // A disk that fails while the folder is put in order ends the worker.
        if (faulty && cluster.sink.failure instanceof TammarError) {
          cluster.kill(random.chance(2));
          cluster.start();
          continue;
        }
        const chosen = random.int(14);
        if (chosen < 4 && connector.everConnected) cluster.write(1 + random.int(random.chance(6) ? 200 : 12));
        else if (chosen < 7 && connector.everConnected && cluster.cut === null) cluster.begin();
        else if (chosen < 10 && cluster.vote !== null) {
          if (cluster.vote.kind === "commit" && !random.chance(4)) {
            cluster.decide();
            if (random.chance(8)) {
              cluster.kill(random.chance(2));
              cluster.start();
            } else cluster.commit();
          } else if (cluster.vote.kind === "abort" && cluster.vote.rollBack !== false) cluster.goBack();
          else cluster.abort();
        } else if (chosen === 10 && cluster.cut !== null && cluster.vote === null && random.chance(3)) cluster.abort();
        else if (chosen === 11 && random.chance(3)) cluster.goBack();
        else if (chosen === 12 && random.chance(3)) {
          cluster.kill(random.chance(2));
          cluster.start();
        } else await world.runFor(random.between(0, random.chance(10) ? 3_000 : 6));
        if (cluster.sink.failure === null) cluster.check();
      }
      host.disk.fault = null;
      await world.runFor(3_000);
      if (cluster.cut !== null || cluster.sink.failure !== null || !cluster.sink.connector.everConnected) {
        cluster.kill(true);
        cluster.start();
      }
      await cluster.ready();
      // A sync that failed on the way is known only to the sink, which asks for a rollback.
      cluster.begin();
      await world.runUntil(() => cluster.vote !== null, 5_000);
      if (cluster.vote?.kind === "commit") {
        cluster.decide();
        cluster.commit();
      } else cluster.goBack();
      await cluster.ready();
      cluster.write(10);
      await cluster.end(faulty);
    } catch (error) {
      throw new Error(`SEED=${seed} RUNS=1`, { cause: error });
    }
  }
});

test("two workers share a folder, and none touches what is the other's", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  const others = ["w", "w1-1", "w10"].map((worker) => {
    const other = new Writing(cluster.host.startProcess(() => {}).runtime, { worker });
    other.connector.transactions!.rollBack(0, null);
    other.connector.start();
    return other;
  });
  await cluster.world.runUntil(() => others.every((other) => other.connector.everConnected), 5_000);
  for (const other of others) {
    other.write(0, 3);
    other.prepare(1);
  }
  cluster.write(3);
  await cluster.checkpoint();
  await cluster.world.runUntil(() => others.every((other) => other.votes.size === 1), 5_000);
  cluster.kill(false);
  cluster.start();
  await cluster.ready();
  for (const other of others) other.connector.transactions!.commit(1);
  await cluster.world.runFor(1_000);
  assert.deepEqual(
    visibleNames(cluster.host),
    ["w", "w1", "w1-1", "w10"].map((worker) => `part-0000000000000001-${worker}-00000000.txt`).sort(),
  );
  for (const name of visibleNames(cluster.host)) {
    assert.equal(new TextDecoder().decode(cluster.host.disk.peek(`${FOLDER}/${name}`)!), outputOf(3));
  }
});

test("a second sink of the same worker name is refused its folder", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  const second = new Writing(cluster.host.startProcess(() => {}).runtime);
  second.connector.start();
  await refused(second, cluster, 11, FOLDER, "w1", "another sink");
});

test("a folder with output of an earlier run is refused, and left as it is", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(10);
  await cluster.end();
  cluster.kill(false);
  const before = cluster.host.disk.paths();
  const fresh = new Writing(cluster.host.startProcess(() => {}).runtime);
  fresh.connector.transactions!.rollBack(0, null);
  await refused(fresh, cluster, 11, FOLDER, "an earlier run", "part-0000000000000001-w1-00000000.txt");
  assert.deepEqual(cluster.host.disk.paths(), before);
  assert.equal(visible(cluster.host), outputOf(10));
});

test("a sink that is started takes its folder, and touches nothing before it is told to where it goes back", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(10);
  cluster.begin();
  await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
  cluster.decide();
  cluster.kill(false);
  const before = cluster.host.disk.paths();
  const writing = new Writing(cluster.host.startProcess(() => {}).runtime);
  writing.connector.start();
  assert.ok(await cluster.world.runUntil(() => writing.connector.everConnected, 5_000));
  await cluster.world.runFor(5_000);
  assert.deepEqual(cluster.host.disk.paths(), before);
  writing.connector.transactions!.rollBack(cluster.complete.epoch, cluster.complete.position);
  await cluster.world.runFor(1_000);
  assert.equal(visible(cluster.host), outputOf(10));
});

test("a sink that is started without checkpoints by mistake leaves what a checkpoint has prepared", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(10);
  cluster.begin();
  await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
  cluster.decide();
  cluster.kill(false);
  const mistaken = new Writing(cluster.host.startProcess(() => {}).runtime, { checkpoints: false });
  mistaken.connector.start();
  assert.ok(await cluster.world.runUntil(() => mistaken.connector.everConnected, 5_000));
  await cluster.world.drive(mistaken.connector.close(1_000));
  const writing = new Writing(cluster.host.startProcess(() => {}).runtime);
  writing.connector.start();
  writing.connector.transactions!.rollBack(cluster.complete.epoch, cluster.complete.position);
  await cluster.world.runFor(1_000);
  assert.equal(visible(cluster.host), outputOf(10));
});

test("another folder than the checkpoint's, or one that has lost output, is refused", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(10);
  await cluster.checkpoint();
  await cluster.world.runFor(100);
  cluster.kill(false);
  const { epoch, position } = cluster.complete;

  const elsewhere = new Writing(cluster.host.startProcess(() => {}).runtime, { folder: "/mnt/out" });
  elsewhere.connector.transactions!.rollBack(epoch, position);
  await refused(elsewhere, cluster, 22, "/mnt/out", "give that one");

  const [name] = visibleNames(cluster.host);
  const whole = cluster.host.disk.peek(`${FOLDER}/${name}`)!;
  cluster.host.disk.put(`${FOLDER}/${name}`, whole.subarray(1));
  cluster.start();
  await refused(cluster.sink, cluster, 22, name!, `${whole.length - 1} bytes`, `${whole.length} bytes`);
  cluster.kill(false);
  const { disk } = cluster.host.startProcess(() => {}).runtime;
  await cluster.world.drive(disk.remove(`${FOLDER}/${name}`));
  cluster.start();
  await refused(cluster.sink, cluster, 22, name!, "is not there");
  cluster.kill(false);
  cluster.host.disk.put(`${FOLDER}/${name}`, "");
  cluster.start();
  assert.ok(await cluster.world.runUntil(() => cluster.sink.connector.status().phase === "ready", 5_000));
  assert.equal(cluster.sink.log.count("output_given_up"), 1);
});

test("a visible file that somebody has changed is not joined to", async () => {
  const cluster = new Cluster(1);
  cluster.start();
  await cluster.ready();
  cluster.write(10);
  await cluster.checkpoint();
  await cluster.world.runFor(100);
  const [name] = visibleNames(cluster.host);
  cluster.host.disk.put(`${FOLDER}/${name}`, "something else\n");
  cluster.write(10);
  cluster.begin();
  await cluster.world.runUntil(() => cluster.vote !== null, 5_000);
  assert.equal(cluster.vote?.kind, "abort");
  assert.match((cluster.vote as { reason: string }).reason, /somebody else has changed it/);
  cluster.abort();
  await cluster.checkpoint();
  await cluster.world.runFor(100);
  assert.equal(visible(cluster.host), `something else\n${outputOf(20).slice(outputOf(10).length)}`);
});

test("a position that no file sink gave is refused", () => {
  const cluster = new Cluster(1);
  for (const bad of [
    1,
    [],
    {},
    { version: 2, folder: "x", parts: [] },
    { version: 1, folder: "x", parts: [{ name: "a/b", bytes: 1 }] },
  ]) {
    const writing = new Writing(cluster.host.startProcess(() => {}).runtime);
    assert.throws(
      () => writing.connector.transactions!.rollBack(1, bad),
      (error) => error instanceof TammarError && error.exitStatus === 12,
    );
  }
});

test("a folder that cannot be made is refused at the start, in words", async () => {
  for (const operation of ["make_dir", "lock", "list", "append", "sync", "sync_dir"] as const) {
    const cluster = new Cluster(1);
    cluster.host.disk.fault = (asked) => (asked === operation ? "permission" : null);
    cluster.start();
    await refused(cluster.sink, cluster, 11, "Cannot write output to /out");
  }
});

test("without checkpoints output becomes visible every ten seconds and at the end", async () => {
  const cluster = new Cluster(1);
  const life = () => {
    const writing = new Writing(cluster.host.startProcess(() => {}).runtime, { checkpoints: false });
    assert.equal(writing.connector.transactions, undefined);
    writing.connector.start();
    return writing;
  };
  const first = life();
  await cluster.world.runUntil(() => first.connector.everConnected, 5_000);
  first.write(0, 10);
  await cluster.world.runFor(5_000);
  first.write(10, 20);
  assert.equal(visible(cluster.host), "");
  await cluster.world.runFor(6_000);
  assert.equal(visible(cluster.host), outputOf(20));
  first.write(20, 30);
  await cluster.world.runFor(11_000);
  assert.equal(visible(cluster.host), outputOf(30));
  first.write(30, 40);
  first.connector.end();
  assert.ok(await cluster.world.runUntil(() => first.connector.finished, 5_000));
  assert.equal(visible(cluster.host), outputOf(40));
  assert.equal(visibleNames(cluster.host).length, 1, "small ones are joined");
  first.write(40, 45);
  await cluster.world.drive(first.connector.close(1_000));
  assert.equal(visible(cluster.host), outputOf(45));
  const second = life();
  await cluster.world.runUntil(() => second.connector.everConnected, 5_000);
  second.write(45, 50);
  await cluster.world.drive(second.connector.close(1_000));
  assert.equal(visible(cluster.host), outputOf(50));
  assert.deepEqual(visibleNames(cluster.host), [
    "part-0000000000000000-w1-00000000.txt",
    "part-0000000000000000-w1-00000001.txt",
  ]);
  assert.deepEqual(hiddenNames(cluster.host), []);
});

test("without checkpoints a disk that fails for a while costs nothing", async () => {
  for (const operation of OPERATIONS.filter((candidate) => candidate !== "sync")) {
    const cluster = new Cluster(1);
    const writing = new Writing(cluster.host.startProcess(() => {}).runtime, { checkpoints: false });
    writing.connector.start();
    await cluster.world.runUntil(() => writing.connector.everConnected, 5_000);
    writing.write(0, 10);
    await cluster.world.runFor(11_000);
    let failing = true;
    cluster.host.disk.fault = (asked) => (failing && asked === operation ? "full" : null);
    writing.write(10, 20);
    await cluster.world.runFor(15_000);
    failing = false;
    writing.write(20, 30);
    writing.connector.end();
    assert.ok(await cluster.world.runUntil(() => writing.connector.finished, 20_000), operation);
    assert.equal(visible(cluster.host), outputOf(30), operation);
    assert.equal(writing.failure, null);
  }
});
