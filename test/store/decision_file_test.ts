import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError, StorageError } from "../../src/base/errors.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { type Decision, encodeDecision, readDecision, writeDecision } from "../../src/store/decision_file.ts";

const FOLDER = "/r/app/initializer";
const PATH = `${FOLDER}/decision`;
const ID = "0123456789abcdef0123456789abcdef";
const decision: Decision = { epoch: 7, used: 9, generation: 3 };

function machine(seed: number) {
  const world = new VirtualWorld({ seed });
  const host = world.host("machine");
  host.disk.put(`${FOLDER}/LOCK`, "");
  return { world, host, runtime: host.startProcess(() => {}).runtime };
}

test("readDecision() gives back what was written, and nothing where nothing was", async () => {
  const { world, runtime } = machine(1);
  assert.equal(await world.drive(readDecision(runtime.disk, FOLDER, ID)), null);
  for (const each of [{ epoch: 0, used: 0, generation: 1 }, decision]) {
    await world.drive(writeDecision(runtime.disk, FOLDER, ID, each));
    assert.deepEqual(await world.drive(readDecision(runtime.disk, FOLDER, ID)), each);
  }
});

test("readDecision() refuses the file with any byte changed, cut short anywhere, or another cluster's", async () => {
  const { world, host, runtime } = machine(2);
  const bytes = encodeDecision(ID, decision);
  const refused = async (content: Uint8Array, what: string): Promise<void> => {
    host.disk.put(PATH, content);
    await assert.rejects(
      world.drive(readDecision(runtime.disk, FOLDER, ID)),
      (error) => error instanceof ResilienceError && error.message.includes(PATH),
      what,
    );
    assert.deepEqual(host.disk.peek(PATH), content);
  };
  for (let at = 0; at < bytes.length; at++) {
    const changed = new Uint8Array(bytes);
    changed[at]! ^= 0x10;
    await refused(changed, `byte ${at}`);
    await refused(bytes.slice(0, at), `${at} bytes`);
  }
  await refused(encodeDecision("f".repeat(32), decision), "another cluster");
});

test("writeDecision() leaves the old decision or the new one when the power is cut at any step", async () => {
  const next: Decision = { epoch: 8, used: 9, generation: 3 };
  for (let step = 0, isOver = false; !isOver; step++) {
    for (let seed = 0; seed < 8; seed++) {
      const { world, host, runtime } = machine(step * 8 + seed);
      await world.drive(writeDecision(runtime.disk, FOLDER, ID, decision));
      const before = world.steps;
      let done = false;
      writeDecision(runtime.disk, FOLDER, ID, next).then(() => {
        done = true;
      });
      await world.runUntil(() => world.steps >= before + step || done, 60_000);
      isOver ||= done;
      host.powerLoss();
      host.powerOn();
      const read = await world.drive(readDecision(host.startProcess(() => {}).runtime.disk, FOLDER, ID));
      if (done) assert.deepEqual(read, next);
      else assert.ok(read?.epoch === 7 || read?.epoch === 8);
    }
  }
});

test("writeDecision() fails in words", async () => {
  const { world, host, runtime } = machine(3);
  host.disk.fault = (operation) => (operation === "sync" ? "io" : null);
  await assert.rejects(world.drive(writeDecision(runtime.disk, FOLDER, ID, decision)), (error) => {
    assert(error instanceof StorageError);
    assert.match(error.message, /^Cannot save in .* that checkpoint 7 exists: .*input\/output error/);
    return true;
  });
});
