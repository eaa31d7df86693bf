// A state log whose segments lie in the resilience directory, where nobody may see a file go.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError, StorageError } from "../../../src/base/errors.ts";
import type { VirtualDisk } from "../../../src/runtime/virtual/disk.ts";
import { rotatedName, rotatedOwner } from "../../../src/store/state_log/state_folder.ts";
import { contentOf, epoch, expected, machine, openLog, put } from "./log_world.ts";

const ON = { rotates: true, segmentBytes: 1_000_000 };
const path = (number: number) => `/r/app-worker1-${number.toString(16).padStart(16, "0")}.evlog`;

function logs(disk: VirtualDisk): string[] {
  return disk.paths().filter((name) => name.endsWith(".evlog"));
}

test("Names of rotated segments tell whose they are, whatever application and worker are called", () => {
  const folders = [
    "/r/a-b/c",
    "/r/a/b-c",
    "/r/%/w1",
    "/r/%2dx-y%20%28z%29/w-1-0000000000000001",
    "/r/Ledger/initializer",
  ];
  const names = folders.map((folder) => rotatedName(folder, 0xabc));
  assert.equal(new Set(names).size, folders.length);
  for (const [at, folder] of folders.entries()) {
    const [application, worker] = folder.slice("/r/".length).split("/");
    assert.deepEqual(rotatedOwner(names[at]!), { application, worker, number: 0xabc });
    assert.match(names[at]!, new RegExp(`^.*${worker}-[^-]*\\.evlog$`), "as watchers look for it");
  }
  for (const name of ["a-w1-1.evlog", "a-w1.evlog", "w1-0000000000000001.evlog", "a-w1-000000000000000g.evlog"]) {
    assert.equal(rotatedOwner(name), null, name);
  }
});

test("A rotation that was asked for makes one new file, asked twice too, and one more when it is asked during it", async () => {
  const { world, host, runtime } = machine(1);
  const log = await world.drive(openLog(runtime, ON));
  const told: string[] = [];
  log.onRotation = (step, of) => void told.push(`${step} ${of}`);
  await world.drive(epoch(log, 1));
  assert.ok(log.rotate());
  assert.ok(!log.rotate());
  log.begin(2);
  assert.ok(log.rotate(), "the first one is under way");
  put(log, 2);
  await world.drive(log.end(1, 1, null, null));
  await world.drive(epoch(log, 3));
  await world.drive(epoch(log, 4));
  assert.deepEqual(logs(host.disk), [path(1), path(2), path(3)]);
  const steps = [1, 2, 3].flatMap((number) => [`begun ${path(number)}`, `durable ${path(number)}`]);
  assert.deepEqual(told, steps);
});

test("A rollback over a rotation leaves its file empty, takes the next number, and a hole in the chain is refused", async () => {
  const { world, host, runtime } = machine(2);
  const log = await world.drive(openLog(runtime, ON));
  await world.drive(epoch(log, 1));
  log.rotate();
  await world.drive(epoch(log, 2));
  assert.deepEqual(await world.drive(contentOf(log, 1)), expected(1));
  assert.equal(host.disk.peek(path(2))!.length, 0);
  log.rotate();
  await world.drive(epoch(log, 3));
  assert.deepEqual(logs(host.disk), [path(1), path(2), path(3)]);
  await world.drive(log.close());
  const again = await world.drive(openLog(runtime, ON));
  assert.deepEqual(
    again.ends.map((end) => end.epoch),
    [1, 3],
  );
  assert.deepEqual(await world.drive(contentOf(again, 3)), expected(3));
  await world.drive(again.close());
  const whole = host.disk.peek(path(1))!;
  host.disk.put(path(1), new Uint8Array());
  await assert.rejects(world.drive(openLog(runtime, ON)), (error) => {
    assert.ok(error instanceof ResilienceError);
    assert.match(
      error.message,
      /\/r\/app-worker1-0{15}[12]\.evlog: it is missing: .*tammar store verify \/r\/app\/worker1;/,
    );
    return true;
  });
  host.disk.put(path(1), whole);
  host.disk.put(path(3), new Uint8Array(whole));
  await assert.rejects(world.drive(openLog(runtime, ON)), /it is a copy of segment 1/);
});

test("A full disk during a rotation fails the epoch once, and the file it left is the next one's", async () => {
  for (const operation of ["open", "append", "sync", "sync_dir"] as const) {
    const { world, host, runtime } = machine(3);
    const log = await world.drive(openLog(runtime, ON));
    await world.drive(epoch(log, 1));
    for (let number = 2; number <= 5; number++) {
      if (number === 2) log.rotate();
      log.begin(number);
      put(log, number);
      const ended = log.end(1, 1, null, null);
      let isHit = false;
      host.disk.fault = (seen, of) => {
        if (isHit || seen !== operation || (of !== path(2) && of !== "/r")) return null;
        isHit = true;
        return "full";
      };
      await assert.rejects(world.drive(ended), (error) => error instanceof StorageError && error.code === "disk_full");
      assert.ok(isHit, operation);
      host.disk.fault = null;
      await world.runFor(100);
      assert.equal(log.broken, null);
    }
    await world.drive(epoch(log, 6));
    assert.deepEqual(logs(host.disk), [path(1), path(2)], operation);
    host.powerLoss();
    host.powerOn();
    const again = await world.drive(openLog(host.startProcess(() => {}).runtime, ON));
    assert.deepEqual(await world.drive(contentOf(again, 6)), expected(6));
  }
});

test("Kept segments that nothing needs are neither read nor counted, and go at a start without rotation", async () => {
  const { world, host, runtime } = machine(4);
  const log = await world.drive(openLog(runtime, ON));
  for (let number = 1; number <= 4; number++) {
    log.rotate();
    log.begin(number);
    put(log, number);
    await world.drive(log.end(1, log.segment, null, null));
    log.completed(number);
  }
  assert.equal(log.bytes, host.disk.peek(path(4))!.length);
  await world.drive(log.close());
  host.disk.put(path(1), "rotten");
  const kept = await world.drive(openLog(runtime, ON));
  assert.deepEqual(await world.drive(contentOf(kept, 4)), expected(4));
  await world.drive(kept.close());
  assert.equal(logs(host.disk).length, 4);
  const off = await world.drive(openLog(runtime));
  assert.deepEqual(await world.drive(contentOf(off, 4)), expected(4));
  assert.ok(!logs(host.disk).includes(path(1)));
  await world.drive(epoch(off, 5, 4));
  await world.drive(off.close());
});
