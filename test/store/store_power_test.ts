// The store on the virtual disk: power cuts and faults at every step.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError, StorageError } from "../../src/base/errors.ts";
import type { DiskErrorCode, Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import type { SavedCluster } from "../../src/store/saved_cluster.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { aSavedCluster } from "./records.ts";

const DIRECTORY = "/var/lib/tammar";

function open(runtime: Runtime): Promise<Store> {
  return openStore({
    disk: runtime.disk,
    clock: runtime.clock,
    pid: runtime.host.pid,
    directory: DIRECTORY,
    application: "Alerts (stateful)",
    worker: "worker1",
  });
}

interface Life {
  /** How many saves have resolved. */
  durable: number;
  /** How many saves were begun. */
  begun: number;
  done: boolean;
}

/** A process that saves one record after the other. */
function live(host: VirtualHost, records: readonly SavedCluster[], end: (store: Store) => Promise<unknown>): Life {
  const life: Life = { durable: 0, begun: 0, done: false };
  host.startProcess(async (runtime) => {
    const store = await open(runtime);
    for (const record of records) {
      life.begun++;
      await store.save(record);
      life.durable++;
    }
    await end(store);
    life.done = true;
  });
  return life;
}

/** Cuts the power at every step of such a life, each with several outcomes of what the disk still had. */
async function cutEverywhere(
  records: readonly SavedCluster[],
  end: (store: Store) => Promise<unknown>,
  check: (saved: SavedCluster | null, life: Life) => void,
): Promise<number> {
  let cuts = 0;
  for (let step = 0; ; step++) {
    let reachedTheEnd = false;
    for (let seed = 0; seed < 8; seed++) {
      const world = new VirtualWorld({ seed: step * 8 + seed });
      const host = world.host("machine");
      const life = live(host, records, end);
      await world.runUntil(() => world.steps >= step || life.done, 60_000);
      reachedTheEnd ||= life.done;
      host.powerLoss();
      host.powerOn();
      const again = host.startProcess(() => {});
      const store = await world.drive(open(again.runtime));
      try {
        check(store.saved, life);
      } catch (error) {
        throw new Error(`seed ${step * 8 + seed}, power cut at step ${step}`, { cause: error });
      }
      await world.drive(store.close());
      cuts++;
    }
    if (reachedTheEnd) return cuts;
  }
}

const first = aSavedCluster({ startNumber: 1 });
const second = aSavedCluster({ startNumber: 2, members: [...aSavedCluster().members] });

test("Store.save() leaves the old record or the new one when the power is cut at any step", async () => {
  const cuts = await cutEverywhere(
    [first, second],
    (store) => store.close(),
    (saved, life) => {
      const number = saved?.startNumber ?? 0;
      assert.ok(number >= life.durable, `record ${life.durable} was durable, and ${number} is there`);
      assert.ok(number <= life.begun);
      if (saved !== null) assert.deepEqual(saved, number === 1 ? first : second);
    },
  );
  assert.ok(cuts > 100, `only ${cuts} cuts`);
});

test("Store.removeAll() leaves the whole record or none when the power is cut at any step", async () => {
  await cutEverywhere(
    [second],
    (store) => store.removeAll(),
    (saved) => {
      if (saved !== null) assert.deepEqual(saved, second);
    },
  );
});

test("openStore() takes over at once from a process that was killed", async () => {
  const world = new VirtualWorld({ seed: 1 });
  const host = world.host("machine");
  const life = live(host, [first], () => new Promise(() => {}));
  await world.runUntil(() => life.durable === 1, 1_000);
  const other = host.startProcess(() => {});
  await assert.rejects(world.drive(open(other.runtime)), (error) => {
    assert(error instanceof ResilienceError);
    assert.match(error.message, /already running there, in process [0-9]+/);
    return true;
  });
  host.processes[0]!.kill();
  const store = await world.drive(open(other.runtime));
  assert.equal(store.saved?.startNumber, 1);
  await world.drive(store.removeAll());
  assert.deepEqual(
    host.disk.paths().filter((path) => path.includes("Alerts")),
    [],
  );
});

test("openStore() has one winner when many start at once, also while the last one is leaving", async () => {
  for (let seed = 0; seed < 200; seed++) {
    const world = new VirtualWorld({ seed });
    const host = world.host("machine");
    let holders = 0;
    let refused = 0;
    let left = 0;
    const failures: unknown[] = [];
    for (let worker = 0; worker < 6; worker++) {
      host.startProcess(async (runtime) => {
        runtime.host.onUncaught((error) => failures.push(error));
        let store: Store;
        try {
          store = await open(runtime);
        } catch (error) {
          assert(error instanceof ResilienceError, `seed ${seed}: ${error}`);
          refused++;
          return;
        }
        assert.equal(++holders, 1, `seed ${seed}: two hold it`);
        await store.save(first);
        await new Promise<void>((resolve) => runtime.clock.startTimer(runtime.random.next() * 100, resolve));
        holders--;
        await store.removeAll();
        left++;
      });
    }
    await world.runUntil(() => refused + left === 6, 60_000);
    assert.deepEqual(failures, [], `seed ${seed}`);
    assert.equal(refused + left, 6, `seed ${seed}: ${refused} refused, ${left} left`);
    assert.ok(left >= 1);
  }
});

test("Store.save() says which file could not be saved, and the old record stays, whatever operation fails", async () => {
  const operations = ["open", "append", "sync", "rename", "sync_dir"] as const;
  for (const [index, operation] of operations.entries()) {
    for (const code of ["io", "full"] satisfies DiskErrorCode[]) {
      const world = new VirtualWorld({ seed: index });
      const host = world.host("machine");
      const process = host.startProcess(() => {});
      const store = await world.drive(open(process.runtime));
      await world.drive(store.save(first));
      host.disk.fault = (asked) => (asked === operation ? code : null);
      await assert.rejects(world.drive(store.save(second)), (error) => {
        assert(error instanceof StorageError);
        assert.match(error.message, /^Cannot save the cluster information in \/var\/lib\/tammar\/Alerts/);
        return true;
      });
      host.disk.fault = null;
      process.kill();
      const again = await world.drive(open(host.startProcess(() => {}).runtime));
      assert.deepEqual(again.saved, operation === "sync_dir" ? second : first);
      await world.drive(again.save(second));
    }
  }
});
