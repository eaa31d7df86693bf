import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError, StorageError } from "../../src/base/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { type Decision, DecisionFile, decisionName, encodeDecision } from "../../src/store/decision_file.ts";

const FOLDER = "/r/app/initializer";
const ID = "0123456789abcdef0123456789abcdef";
const decision: Decision = { epoch: 7, used: 9, generation: 3 };

function machine(seed: number) {
  const world = new VirtualWorld({ seed });
  const host = world.host("machine");
  host.disk.put(`${FOLDER}/LOCK`, "");
  const { runtime } = host.startProcess(() => {});
  const read = async (from: Runtime = runtime) =>
    (await world.drive(DecisionFile.open(from.disk, FOLDER, ID))).decision;
  const names = () => host.disk.paths().filter((path) => path.startsWith(`${FOLDER}/decision`));
  return { world, host, runtime, file: new DecisionFile(runtime.disk, FOLDER, ID, null), read, names };
}

test("DecisionFile.open() gives back what was written last, and nothing where nothing was", async () => {
  const { world, file, read, names } = machine(1);
  assert.equal(await read(), null);
  for (const each of [{ epoch: 0, used: 0, generation: 1 }, decision, decision]) {
    await world.drive(file.write(each));
    assert.deepEqual([await read(), file.decision], [each, each]);
    assert.equal(names().length, 1);
  }
});

test("a decision costs one sync", async () => {
  const { world, host, file } = machine(2);
  await world.drive(file.write({ epoch: 0, used: 0, generation: 0 }));
  const synced: string[] = [];
  host.disk.fault = (operation, path) => {
    if (operation.startsWith("sync")) synced.push(path);
    return null;
  };
  await world.drive(file.write(decision));
  assert.deepEqual(synced, [FOLDER]);
});

test("DecisionFile.open() refuses a file with any byte or its name changed, cut short, doubled, or another cluster's", async () => {
  const bytes = encodeDecision(ID);
  const own = decisionName(ID, decision);
  const refused = async (files: Record<string, Uint8Array>, what: string): Promise<void> => {
    const { world, host, runtime } = machine(3);
    for (const [name, content] of Object.entries(files)) host.disk.put(`${FOLDER}/${name}`, content);
    await assert.rejects(
      world.drive(DecisionFile.open(runtime.disk, FOLDER, ID)),
      (error) => error instanceof ResilienceError && error.message.includes(`${FOLDER}/decision-`),
      what,
    );
    for (const [name, content] of Object.entries(files)) assert.deepEqual(host.disk.peek(`${FOLDER}/${name}`), content);
  };
  for (let at = 0; at < bytes.length; at++) {
    const changed = new Uint8Array(bytes);
    changed[at]! ^= 0x10;
    await refused({ [own]: changed }, `byte ${at}`);
    await refused({ [own]: bytes.slice(0, at) }, `${at} bytes`);
  }
  for (let at = "decision-".length; at < own.length; at++) {
    if (own[at] === "-") continue;
    const other = own[at] === "1" ? "2" : "1";
    await refused({ [own.slice(0, at) + other + own.slice(at + 1)]: bytes }, `character ${at}`);
  }
  const foreign = "f".repeat(32);
  await refused({ [decisionName(foreign, decision)]: encodeDecision(foreign) }, "another cluster");
  await refused({ [own]: encodeDecision(foreign) }, "the content of another cluster");
  await refused({ [own]: bytes, [decisionName(ID, { ...decision, epoch: 6 })]: bytes }, "two of them");
});

test("DecisionFile.write() leaves the old decision or the new one when the power is cut at any step", async () => {
  const next: Decision = { epoch: 8, used: 9, generation: 3 };
  for (const before of [null, decision]) {
    const seen = new Set<number | null>();
    for (let step = 0, isOver = false; !isOver; step++) {
      for (let seed = 0; seed < 8; seed++) {
        const { world, host, file, read, names } = machine(step * 8 + seed);
        if (before !== null) await world.drive(file.write(before));
        const from = world.steps;
        let renamed = false;
        let done = false;
        file
          .write(next, () => {
            renamed = true;
          })
          .then(() => {
            done = true;
          });
        await world.runUntil(() => world.steps >= from + step || done, 60_000);
        isOver ||= done;
        host.powerLoss();
        host.powerOn();
        const found = await read(host.startProcess(() => {}).runtime);
        assert.equal(names().filter((path) => !path.endsWith(".new")).length, found === null ? 0 : 1);
        if (done) assert.deepEqual(found, next);
        else if (before !== null && !renamed) assert.deepEqual(found, before);
        else assert.ok(found === null ? before === null : [7, 8].includes(found.epoch));
        if (!done) seen.add(found?.epoch ?? null);
      }
    }
    assert.deepEqual(seen, new Set([before?.epoch ?? null, 8]));
  }
});

test("DecisionFile.write() fails in words", async () => {
  const { world, host, file } = machine(4);
  host.disk.fault = (operation) => (operation === "sync" ? "io" : null);
  await assert.rejects(world.drive(file.write(decision)), (error) => {
    assert(error instanceof StorageError);
    assert.match(error.message, /^Cannot save in .* that checkpoint 7 exists: .*input\/output error/);
    return true;
  });
});

test("DecisionFile.open() refuses a folder that can't be listed in words", async () => {
  const { host, read } = machine(5);
  host.disk.fault = (operation) => (operation === "list" ? "io" : null);
  await assert.rejects(read(), (error) => {
    assert(error instanceof ResilienceError);
    assert.match(error.message, /^Cannot use \/r\/app\/initializer: it cannot be listed: .*input\/output error/);
    return true;
  });
});
