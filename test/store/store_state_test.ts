// What a worker's folder holds beside its cluster information: the state log and the decision.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError } from "../../src/base/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { type Decision, DecisionFile, decisionNames } from "../../src/store/decision_file.ts";
import { carryOutClean, damagedFiles, inspectStore, planClean } from "../../src/store/inspect.ts";
import { renderShow, renderVerify } from "../../src/store/render.ts";
import { openStateLog, type StateLog } from "../../src/store/state_log/state_log.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { aSavedCluster } from "./records.ts";

const DIRECTORY = "/r";
const saved = aSavedCluster();
const about = {
  base: 1,
  roundFrom: 0,
  roundWritten: 0,
  credit: 0,
  stages: [{ id: "p/count", version: 1, keys: 1, entryBytes: 30 }],
};

function open(runtime: Runtime): Promise<Store> {
  const { disk, clock, host } = runtime;
  return openStore({
    disk,
    clock,
    pid: host.pid,
    directory: DIRECTORY,
    application: saved.application,
    worker: saved.worker,
  });
}

function openLog(runtime: Runtime, folder: string): Promise<StateLog> {
  const { disk, clock } = runtime;
  const { clusterId, application, worker } = saved;
  return openStateLog({ disk, clock, folder: `${folder}/state`, clusterId, application, worker });
}

function decide({ disk }: Runtime, folder: string, decision: Decision): Promise<void> {
  return new DecisionFile(disk, folder, saved.clusterId, null).write(decision);
}

/** A worker that has left a checkpoint and a decision. */
async function filled(runtime: Runtime): Promise<Store> {
  const store = await open(runtime);
  await store.save(saved);
  await decide(runtime, store.folder, { epoch: 1, used: 1, generation: 3 });
  const log = await openLog(runtime, store.folder);
  log.begin(1);
  log.append({ id: "p/count", version: 1, codec: false }, 1, [1], ["a"], [{ n: 1 }]);
  await log.end(3, 1, about, {});
  await log.close();
  return store;
}

function machine(seed: number) {
  const world = new VirtualWorld({ seed });
  const host = world.host("machine");
  const { runtime } = host.startProcess(() => {});
  return { world, host, runtime, ours: () => host.disk.paths().filter((path) => path.startsWith("/r/")) };
}

test("Store.removeAll() takes the state and the decision too", async () => {
  const { world, runtime, ours } = machine(1);
  await world.drive((await world.drive(filled(runtime))).removeAll());
  assert.deepEqual(ours(), []);
});

test("Store.removeAll() leaves all or nothing of a cluster's state when the power is cut at any step", async () => {
  for (let step = 0, isOver = false; !isOver; step++) {
    for (let seed = 0; seed < 8; seed++) {
      const { world, host, runtime } = machine(step * 8 + seed);
      const store = await world.drive(filled(runtime));
      const before = world.steps;
      let done = false;
      store.removeAll().then(() => {
        done = true;
      });
      await world.runUntil(() => world.steps >= before + step || done, 60_000);
      isOver ||= done;
      host.powerLoss();
      host.powerOn();
      const next = host.startProcess(() => {}).runtime;
      const again = await world.drive(open(next));
      const log = await world.drive(openLog(next, again.folder));
      const { decision } = await world.drive(DecisionFile.open(next.disk, again.folder, saved.clusterId));
      const what = `seed ${step * 8 + seed}, step ${step}`;
      if (again.saved === null) assert.deepEqual([log.ends.length, decision], [0, null], what);
      else assert.deepEqual([log.ends.length, decision?.epoch], [1, 1], what);
    }
  }
});

test("openStore() refuses state or a decision without the cluster information, and touches nothing", async () => {
  for (const gone of [["cluster"], ["cluster", "decision"]]) {
    const { world, runtime, ours } = machine(2);
    const store = await world.drive(filled(runtime));
    await world.drive(store.close());
    const [decision] = await world.drive(decisionNames(runtime.disk, store.folder));
    for (const name of gone) {
      await world.drive(runtime.disk.remove(`${store.folder}/${name === "decision" ? decision : name}`));
    }
    const before = ours();
    await assert.rejects(world.drive(open(runtime)), (error) => {
      assert(error instanceof ResilienceError);
      assert.equal(error.code, "resilience_incomplete");
      assert.match(error.message, /holds state\/segment-0{15}1, but the file cluster that this belongs to is missing/);
      return true;
    });
    assert.deepEqual(ours(), before);
  }
});

test("openStore() forgets the decision of a cluster that was never formed", async () => {
  const { world, runtime } = machine(3);
  const store = await world.drive(open(runtime));
  await world.drive(store.save({ ...saved, state: "forming" }));
  await world.drive(decide(runtime, store.folder, { epoch: 0, used: 0, generation: 1 }));
  await world.drive(store.close());
  const again = await world.drive(open(runtime));
  assert.equal(again.saved, null);
  assert.deepEqual(await world.drive(decisionNames(runtime.disk, again.folder)), []);
});

test("show, verify and clean know the state and the decision", async () => {
  const { world, host, runtime, ours } = machine(4);
  const store = await world.drive(filled(runtime));
  await world.drive(store.close());
  const report = await world.drive(inspectStore(runtime.disk, DIRECTORY));
  const shown = renderShow(report, runtime.clock.wallMs());
  assert.match(shown, /decided +checkpoint 1 \(the highest number used is 1\)/);
  assert.match(shown, /checkpoint +1 of generation 3, .* ago \(.*\); p\/count: 1 key, about 30 bytes/);
  assert.match(renderVerify(report), /state\/segment-0{15}1: ok .*\n(?:.*\n)*4 files read back, all fine/);
  const path = `${store.folder}/state/segment-0000000000000001`;
  const bytes = host.disk.peek(path)!;
  const changed = new Uint8Array(bytes);
  changed[3]! ^= 1;
  host.disk.put(path, changed);
  // The header alone: what is behind it does not say that it was durable, but the decision does.
  const damaged = await world.drive(inspectStore(runtime.disk, DIRECTORY));
  assert.match(
    renderVerify(damaged),
    /state\/segment-0{15}1: damaged at offset 0: .*, and checkpoint 1, which exists and was whole here, is not in it/,
  );
  assert.equal(damagedFiles(damaged), 1);
  const [decision] = await world.drive(decisionNames(runtime.disk, store.folder));
  // Without the decision nobody can tell.
  await world.drive(runtime.disk.rename(`${store.folder}/${decision}`, `${store.folder}/elsewhere`));
  const alone = await world.drive(inspectStore(runtime.disk, DIRECTORY));
  assert.match(
    renderVerify(alone),
    /segment-0{15}1: ok up to offset 0 of .* unless the checkpoint that exists was in it/,
  );
  assert.equal(damagedFiles(alone), 0);
  await world.drive(runtime.disk.rename(`${store.folder}/elsewhere`, `${store.folder}/${decision}`));
  host.disk.put(path, new Uint8Array(0));
  const emptied = await world.drive(inspectStore(runtime.disk, DIRECTORY));
  assert.match(
    renderVerify(emptied),
    /checkpoint 1, which exists .*: it was cut short, or these files are an old copy/,
  );
  host.disk.put(path, changed);
  host.disk.put(`${store.folder}/${decision}`, encodeShort());
  assert.equal(damagedFiles(await world.drive(inspectStore(runtime.disk, DIRECTORY))), 1);
  await world.drive(carryOutClean(runtime.disk, await world.drive(planClean(runtime.disk, DIRECTORY))));
  assert.deepEqual(
    ours().filter((name) => !name.endsWith("/")),
    [],
  );
});

function encodeShort(): Uint8Array {
  return new Uint8Array(5);
}
