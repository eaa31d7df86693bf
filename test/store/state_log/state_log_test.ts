import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError, StorageError } from "../../../src/base/errors.ts";
import type { DiskOperation } from "../../../src/runtime/virtual/disk.ts";
import { segmentName } from "../../../src/store/state_log/state_folder.ts";
import type { StateLog } from "../../../src/store/state_log/state_log.ts";
import { CLUSTER_ID, contentOf, epoch, expected, FOLDER, machine, openLog, put, remove, STAGE } from "./log_world.ts";

const epochsOf = (log: StateLog): number[] => log.ends.map((end) => end.epoch);

/** A log with four epochs, in several segments. */
async function written(log: StateLog): Promise<void> {
  for (let number = 1; number <= 4; number++) await epoch(log, number, 1, 60);
}

test("StateLog costs one sync an epoch, and two more for a new segment", async () => {
  const { world, host, runtime } = machine(1);
  const log = await world.drive(openLog(runtime));
  const syncs: string[][] = [];
  for (let number = 1; number <= 6; number++) {
    const seen: string[] = [];
    host.disk.fault = (operation) => {
      if (operation.startsWith("sync")) seen.push(operation);
      return null;
    };
    await world.drive(epoch(log, number));
    syncs.push(seen);
  }
  assert.deepEqual(syncs[0], ["sync", "sync_dir"]);
  for (const seen of syncs.slice(1)) assert.ok(seen.length <= 2 && seen[0] === "sync", JSON.stringify(syncs));
  assert.ok(syncs.some((seen) => seen.length === 1));
});

test("StateLog lets its epochs be restored one by one, and cuts what is behind the one that was", async () => {
  const { world, runtime } = machine(2);
  const log = await world.drive(openLog(runtime));
  await world.drive(written(log));
  assert.deepEqual(epochsOf(log), [1, 2, 3, 4]);
  assert.ok(log.segment > 2);
  for (const number of [4, 3, 1]) {
    assert.deepEqual(await world.drive(contentOf(log, number)), expected(number, 60));
    assert.equal(epochsOf(log).at(-1), number);
    assert.equal(log.written, 4);
  }
  await assert.rejects(world.drive(contentOf(log, 3)), (error) => {
    assert(error instanceof ResilienceError);
    assert.match(error.message, /Cannot restore checkpoint 3 from .*: the ones there are: 1\. Nothing was changed/);
    return true;
  });
  await world.drive(epoch(log, 5));
  assert.deepEqual(await world.drive(contentOf(log, 5)), { ...expected(1, 60), ...expected(5, 10) });
  assert.deepEqual(await world.drive(contentOf(log, 0)), {});
  assert.equal(log.bytes, 0);
});

test("StateLog keeps removals, stages and their versions apart", async () => {
  const { world, runtime } = machine(3);
  const log = await world.drive(openLog(runtime));
  log.begin(1);
  put(log, 1, 3);
  put(log, 2, 2, { id: "p/other", version: 1, codec: false });
  put(log, 3, 1, { id: "p/count", version: 2, codec: true });
  remove(log, ["key 1"]);
  await world.drive(log.end(7, 1, null, null));
  await world.drive(log.close());
  const again = await world.drive(openLog(runtime));
  const seen: unknown[] = [];
  const end = again.ends[0]!;
  assert.deepEqual([end.epoch, end.generation, end.base], [1, 7, 1]);
  await world.drive(
    again.restore(1, {
      about: (about) => seen.push(about),
      entries: (stage, { keys }) => seen.push([stage.id, stage.version, keys]),
      removed: (stage, { keys }) => seen.push([stage.id, stage.version, "removed", keys]),
    }),
  );
  assert.deepEqual(seen, [
    null,
    ["p/count", 1, ["key 0", "key 1", "key 2"]],
    ["p/other", 1, ["key 0", "key 1"]],
    ["p/count", 2, ["key 0"]],
    ["p/count", 1, "removed", ["key 1"]],
  ]);
});

test("StateLog removes segments that a complete epoch does not need, after it has read back what it needs", async () => {
  const { world, host, runtime } = machine(4);
  const log = await world.drive(openLog(runtime));
  await world.drive(written(log));
  log.begin(5, true);
  put(log, 5, 60);
  const base = log.segment;
  await world.drive(log.end(1, base, null, null));
  const files = () => host.disk.paths().filter((path) => path.includes("segment-"));
  assert.equal(files().length, base);
  log.completed(4);
  await world.runFor(1000);
  assert.equal(files().length, base);
  log.completed(5);
  await world.runUntil(() => files().length === 1, 10_000);
  assert.deepEqual(files(), [`${FOLDER}/${segmentName(base)}`]);
  assert.deepEqual(epochsOf(log), [5]);
  assert.deepEqual(await world.drive(contentOf(log, 5)), expected(5, 60));
});

test("StateLog comes to the end of reading back, however fast epochs follow each other", async () => {
  const { world, host, runtime } = machine(14);
  const log = await world.drive(openLog(runtime));
  await world.drive(written(log));
  log.begin(5, true);
  put(log, 5, 60);
  const base = log.segment;
  await world.drive(log.end(1, base, null, null));
  // Reading all of it takes longer than an epoch.
  for (let number = 6; number <= 90; number++) await world.drive(epoch(log, number, base, 60));
  const oldest = `${FOLDER}/${segmentName(1)}`;
  assert.ok(host.disk.paths().includes(oldest));
  let number = 90;
  for (; number < 150 && host.disk.paths().includes(oldest); number++) {
    log.completed(number);
    await world.drive(epoch(log, number + 1, base, 60));
  }
  assert.ok(number > 92, `read back within ${number - 90} epochs: this test shows nothing`);
  assert.ok(!host.disk.paths().includes(oldest), `the old segments are there after ${number - 90} more epochs`);
  assert.deepEqual(await world.drive(contentOf(log, number)), expected(number, 60));
});

test("StateLog keeps the old segments and is broken when the new base cannot be read back", async () => {
  const { world, host, runtime } = machine(5);
  const log = await world.drive(openLog(runtime));
  await world.drive(written(log));
  log.begin(5, true);
  put(log, 5, 60);
  const base = log.segment;
  await world.drive(log.end(1, base, null, null));
  const path = `${FOLDER}/${segmentName(base)}`;
  const bytes = host.disk.peek(path)!;
  bytes[bytes.length - 200]! ^= 1;
  host.disk.put(path, bytes);
  log.completed(5);
  await world.runUntil(() => log.broken !== null, 10_000);
  assert.match(log.broken!.message, /what was written cannot be read back/);
  assert.equal(host.disk.paths().filter((name) => name.includes("segment-")).length, base);
  await assert.rejects(world.drive(epoch(log, 6)), StorageError);
});

test("StateLog opens after every power cut, also when epochs overlap that nobody waited for", async () => {
  for (let seed = 0; seed < 400; seed++) {
    const { world, host, runtime } = machine(seed);
    const log = await world.drive(openLog(runtime));
    await world.drive(epoch(log, 1));
    log.begin(2);
    put(log, 2, 40);
    const late = log.end(1, 1, null, null);
    log.begin(3);
    put(log, 3, 40);
    log.flush();
    await world.drive(late);
    put(log, 4, 40);
    log.flush();
    await world.runFor(seed % 5);
    put(log, 5, 40);
    log.flush();
    await world.runFor(2);
    host.powerLoss();
    host.powerOn();
    const again = await world.drive(openLog(host.startProcess(() => {}).runtime));
    assert.deepEqual(epochsOf(again), [1, 2], `seed ${seed}`);
    assert.deepEqual(await world.drive(contentOf(again, 2)), expected(2, 40));
  }
});

test("StateLog never begins a segment before all before it is durable, whatever was aborted", async () => {
  for (let seed = 0; seed < 300; seed++) {
    const { world, host, runtime } = machine(seed);
    const log = await world.drive(openLog(runtime));
    await world.drive(epoch(log, 1));
    for (let number = 2; number < 6; number++) {
      // None of them is ended.
      log.begin(number, true);
      put(log, number, 30);
      log.flush();
      await world.runFor((seed * number) % 7);
    }
    await world.runFor(seed % 9);
    host.powerLoss();
    host.powerOn();
    const again = await world.drive(openLog(host.startProcess(() => {}).runtime));
    assert.deepEqual(epochsOf(again), [1], `seed ${seed}`);
    assert.ok(again.written <= 5);
    assert.deepEqual(await world.drive(contentOf(again, 1)), expected(1));
    assert.equal(host.disk.paths().filter((path) => path.includes("segment-")).length, 1);
  }
});

/** Cuts the power at every step of `run`, which begins with what `prepare` has left; then `check` looks at what is there. */
async function cutEverywhere(
  prepare: (log: StateLog) => Promise<void>,
  run: (log: StateLog) => Promise<unknown>,
  check: (log: StateLog, done: boolean, drive: <T>(promise: Promise<T>) => Promise<T>) => Promise<void>,
): Promise<void> {
  for (let step = 0; ; step++) {
    let reachedTheEnd = false;
    for (let seed = 0; seed < 6; seed++) {
      const { world, host, runtime } = machine(step * 6 + seed);
      const log = await world.drive(openLog(runtime));
      await world.drive(prepare(log));
      let done = false;
      const before = world.steps;
      run(log).then(
        () => {
          done = true;
        },
        () => {},
      );
      await world.runUntil(() => world.steps >= before + step || done, 60_000);
      reachedTheEnd ||= done;
      host.powerLoss();
      host.powerOn();
      const again = await world.drive(openLog(host.startProcess(() => {}).runtime));
      try {
        await check(again, done, (promise) => world.drive(promise));
      } catch (error) {
        throw new Error(`seed ${step * 6 + seed}, power cut at step ${step}`, { cause: error });
      }
    }
    if (reachedTheEnd) return;
  }
}

test("A rollback is whole or not there when the power is cut at any step, and the epoch it goes to always is", () =>
  cutEverywhere(
    written,
    (log) => contentOf(log, 2),
    async (log, done, drive) => {
      const epochs = epochsOf(log);
      assert.deepEqual(epochs.slice(0, 2), [1, 2]);
      if (done) assert.deepEqual(epochs, [1, 2]);
      assert.deepEqual(await drive(contentOf(log, 2)), expected(2, 60));
      await drive(epoch(log, 9));
      assert.deepEqual(await drive(contentOf(log, 9)), { ...expected(2, 60), ...expected(9) });
    },
  ));

test("Emptying the log is whole or not there when the power is cut at any step", () =>
  cutEverywhere(
    written,
    (log) => contentOf(log, 0),
    async (log, done, drive) => {
      if (done) assert.deepEqual(epochsOf(log), []);
      assert.deepEqual(await drive(contentOf(log, 0)), {});
      await drive(epoch(log, 9));
      assert.deepEqual(await drive(contentOf(log, 9)), expected(9));
    },
  ));

test("An epoch in a new segment, and the end of what it replaces, survive a power cut at any step", () =>
  cutEverywhere(
    written,
    async (log) => {
      log.begin(5, true);
      put(log, 5, 60);
      await log.end(1, log.segment, null, null);
      log.completed(5);
      await epoch(log, 6, log.segment);
      await log.close();
    },
    async (log, done, drive) => {
      const epochs = epochsOf(log);
      const last = epochs.at(-1)!;
      assert.ok(last >= (done ? 6 : 4), `${epochs}`);
      assert.deepEqual(
        await drive(contentOf(log, last)),
        last === 6 ? { ...expected(5, 60), ...expected(6) } : expected(last, 60),
      );
    },
  ));

const OPERATIONS: readonly DiskOperation[] = ["append", "open", "sync", "sync_dir", "stat"];

test("A full disk fails the epoch, the log goes back to its last end, and goes on once there is space", async () => {
  for (const operation of OPERATIONS) {
    for (let skip = 0; skip < 3; skip++) {
      const { world, host, runtime } = machine(skip);
      const log = await world.drive(openLog(runtime));
      await world.drive(epoch(log, 1, 1, 60));
      let lost = 0;
      log.onLost = () => lost++;
      log.begin(2, true);
      put(log, 2, 60);
      let left = skip;
      let failed = false;
      host.disk.fault = (asked) => {
        if (asked !== operation || failed || left-- > 0) return null;
        failed = true;
        return "full";
      };
      const ended = world.drive(log.end(1, 1, null, null)).then(
        () => null,
        (error: unknown) => error,
      );
      const error = await ended;
      host.disk.fault = null;
      if (!failed) {
        assert.equal(error, null);
        continue;
      }
      assert(error instanceof StorageError, `${operation} ${skip}`);
      assert.equal(error.code, "disk_full");
      assert.match(
        error.message,
        /^Cannot write the checkpoint to .*no space is left; it is given up, and the last complete/,
      );
      assert.equal(lost, 1);
      assert.equal(log.broken, null);
      assert.deepEqual(epochsOf(log), [1]);
      await world.drive(epoch(log, 3, 1));
      assert.deepEqual(await world.drive(contentOf(log, 3)), { ...expected(1, 60), ...expected(3) });
      await world.drive(log.close());
      assert.deepEqual(epochsOf(await world.drive(openLog(runtime))), [1, 3]);
    }
  }
});

test("A real limit of space is the same: what was cut off is taken back", async () => {
  const { world, host, runtime } = machine(7);
  const log = await world.drive(openLog(runtime));
  await world.drive(epoch(log, 1));
  host.disk.spaceBytes = host.disk.usedBytes() + 500;
  for (let number = 2; number < 6; number++) {
    await assert.rejects(world.drive(epoch(log, number, 1, 100)), /no space is left/);
    assert.deepEqual(epochsOf(log), [1]);
    assert.ok(host.disk.usedBytes() < host.disk.spaceBytes - 400);
  }
  host.disk.spaceBytes = Number.POSITIVE_INFINITY;
  await world.drive(epoch(log, 6, 1, 100));
  assert.deepEqual(await world.drive(contentOf(log, 6)), expected(6, 100));
});

test("What is appended while the log goes back is lost with its epoch, and the epoch after it is not", async () => {
  const { world, host, runtime } = machine(8);
  const log = await world.drive(openLog(runtime));
  await world.drive(epoch(log, 1));
  log.begin(2);
  put(log, 2);
  host.disk.fault = (operation) => (operation === "append" ? "full" : null);
  const second = log.end(1, 1, null, null).catch((error: unknown) => error);
  log.begin(3);
  put(log, 3);
  const third = log.end(1, 1, null, null).catch((error: unknown) => error);
  assert((await world.drive(second)) instanceof StorageError);
  assert((await world.drive(third)) instanceof StorageError);
  host.disk.fault = null;
  await world.drive(epoch(log, 4));
  assert.deepEqual(epochsOf(log), [1, 4]);
});

test("A sync that fails is never tried again: the log is broken, and what is there stays", async () => {
  for (const operation of ["sync", "sync_dir", "append"] as const) {
    const { world, host, runtime } = machine(9);
    const log = await world.drive(openLog(runtime));
    await world.drive(epoch(log, 1));
    log.begin(2, true);
    put(log, 2);
    let asked = 0;
    host.disk.fault = (seen) => (seen === operation && asked++ === 0 ? "io" : null);
    await assert.rejects(world.drive(log.end(1, 1, null, null)), (error) => {
      assert(error instanceof StorageError);
      assert.equal(error.code, "state_log_failed");
      assert.match(
        error.message,
        /^Cannot keep the state in .*input\/output error; .*returns to the last complete checkpoint/,
      );
      return true;
    });
    assert.ok(log.broken !== null);
    await assert.rejects(world.drive(epoch(log, 3)), StorageError);
    await assert.rejects(world.drive(contentOf(log, 1)), StorageError);
    host.disk.fault = null;
    host.powerLoss();
    host.powerOn();
    const again = await world.drive(openLog(host.startProcess(() => {}).runtime));
    // The second may be there all the same: the power cut may keep what no sync confirmed.
    assert.equal(epochsOf(again)[0], 1);
    assert.deepEqual(await world.drive(contentOf(again, 1)), expected(1));
  }
});

test("StateLog notices that its file is not in its folder any more", async () => {
  const { world, runtime } = machine(10);
  const log = await world.drive(openLog(runtime));
  await world.drive(epoch(log, 1));
  await world.drive(runtime.disk.remove(`${FOLDER}/${segmentName(1)}`));
  await assert.rejects(world.drive(epoch(log, 2)), /it is gone; somebody else has touched the folder/);
});

test("StateLog says that it is busy when the disk stands still, and takes no more than it may keep", async () => {
  const { world, host, runtime } = machine(11);
  const log = await world.drive(openLog(runtime));
  await world.drive(epoch(log, 1));
  host.disk.stall(60_000);
  log.begin(2);
  while (!log.busy) put(log, 2, 1000);
  assert.ok(log.epochBytes > 8_000_000 && log.epochBytes < 9_000_000, `${log.epochBytes}`);
  await world.drive(log.end(1, 1, null, null));
  assert.equal(log.busy, false);
});

test("A reader gives the loop back while it restores", async () => {
  const { world, runtime } = machine(12);
  const log = await world.drive(openLog(runtime));
  log.begin(1);
  for (let i = 0; i < 500; i++) put(log, i, 5);
  await world.drive(log.end(1, 1, null, null));
  let turns = 0;
  let restored = false;
  const count = () => {
    turns++;
    if (!restored) runtime.clock.soon(count);
  };
  const restoring = contentOf(log, 1).finally(() => {
    restored = true;
  });
  runtime.clock.soon(count);
  await world.drive(restoring);
  assert.ok(turns >= 7, `${turns} turns for 500 records`);
});

test("Another's segments are refused in words, and untouched", async () => {
  const { world, host, runtime } = machine(13);
  const log = await world.drive(openLog(runtime));
  await world.drive(epoch(log, 1));
  await world.drive(log.close());
  const before = host.disk.peek(`${FOLDER}/${segmentName(1)}`);
  const others = [{ clusterId: "f".repeat(32) }, { application: "Other" }, { worker: "worker2" }];
  for (const other of others) {
    await assert.rejects(world.drive(openLog(runtime, other)), (error) => {
      assert(error instanceof ResilienceError);
      assert.equal(error.code, "resilience_foreign");
      for (const value of [CLUSTER_ID, ...Object.values(other)])
        assert.ok(error.message.includes(value), error.message);
      assert.match(error.message, /Nothing was changed\. .*tammar store clean \/r\/app\/worker1/);
      return true;
    });
  }
  assert.deepEqual(host.disk.peek(`${FOLDER}/${segmentName(1)}`), before);
});

test("A value that cannot be stored is refused, and nothing of it is in the log", async () => {
  const { world, runtime } = machine(14);
  const log = await world.drive(openLog(runtime));
  log.begin(1);
  put(log, 1);
  assert.throws(() => log.append(STAGE, 1, [1], ["bad"], [{ f: () => {} }]), /\$\.f is a function/);
  await world.drive(log.end(1, 1, null, null));
  await world.drive(log.close());
  assert.deepEqual(await world.drive(contentOf(await world.drive(openLog(runtime)), 1)), expected(1));
});
