// Disks that are full, slow, read-only, or taken away while a cluster works: what its workers say, and how it goes on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { INITIALIZER } from "../../src/base/ids.ts";
import type { DiskErrorCode } from "../../src/runtime/runtime.ts";
import type { VirtualDisk } from "../../src/runtime/virtual/disk.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { byKey, expectedLines, sequences, VirtualCluster } from "../lib/virtual_cluster.ts";

const KEYS = 20;
const COUNT = 400;

async function working(seed: number, deadlineMs = 30_000): Promise<{ cluster: VirtualCluster; disk: VirtualDisk }> {
  const checkpoints = { ...NO_CHECKPOINTS, intervalMs: 200, deadlineMs };
  const cluster = new VirtualCluster({ seed, workers: 2, config: { checkpoints } });
  cluster.startAll();
  assert.ok(await cluster.working());
  return { cluster, disk: cluster.machines.get("w1")!.disk };
}

function said(cluster: VirtualCluster, name: string): string {
  return cluster.processes.get(name)!.lines.join("\n");
}

async function assertAllComesOut(cluster: VirtualCluster): Promise<void> {
  const whole = KEYS * COUNT;
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length >= whole, 120_000), "all comes out");
  assert.deepEqual(byKey(cluster.sink.lines), expectedLines(KEYS, COUNT));
}

test("a full disk costs checkpoints, then sources stand still, and all goes on by itself when there is space again", async () => {
  const { cluster, disk } = await working(81);
  cluster.send(INITIALIZER, sequences(KEYS, COUNT), { perMs: 1 });
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length > 500, 30_000));
  disk.spaceBytes = disk.usedBytes();
  const failing = () => said(cluster, INITIALIZER).includes("checkpoints_failing");
  assert.ok(await cluster.world.runUntil(failing, 30_000), "too many have failed");
  assert.match(
    said(cluster, INITIALIZER),
    /checkpoint_aborted: Checkpoint \d+ is aborted \(5 in a row\): worker w1: Cannot write the checkpoint to \/tmp\/.*no space is left.*Free some space there/,
  );
  assert.match(
    said(cluster, INITIALIZER),
    /checkpoints_failing: Sources stand still until a checkpoint succeeds: 5 in a row have failed, .*no space is left/,
  );
  // What was on its way comes out, then nothing.
  await cluster.world.runFor(1_000);
  const before = cluster.sink.lines.length;
  assert.ok(before < KEYS * COUNT);
  await cluster.world.runFor(5_000);
  assert.equal(cluster.sink.lines.length, before, "sources stand still");
  assert.match(said(cluster, "w1"), /waiting: sources stand still: too many checkpoints in a row have failed/);
  for (const name of cluster.names) assert.equal(cluster.processes.get(name)!.status, null);
  disk.spaceBytes = Number.POSITIVE_INFINITY;
  await assertAllComesOut(cluster);
  for (const name of cluster.names) assert.match(said(cluster, name), /checkpoints_work: .*sources go on/);
});

test("a disk that stalls delays its checkpoint, and who waits says for what; nothing is given up", async () => {
  const { cluster, disk } = await working(82);
  cluster.send(INITIALIZER, sequences(KEYS, COUNT), { perMs: 1 });
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length > 500, 30_000));
  disk.stall(16_000);
  await cluster.world.runFor(17_000);
  assert.match(said(cluster, "w1"), /waiting: checkpoint \d+ is being written \(\d+ s\)/);
  assert.match(said(cluster, INITIALIZER), /waiting: checkpoint \d+ waits for w1 \(\d+ s\)/);
  assert.ok(cluster.sink.lines.length === KEYS * COUNT, "records go on meanwhile");
  await assertAllComesOut(cluster);
  for (const name of cluster.names) assert.doesNotMatch(said(cluster, name), /aborted|recovery|lost/);
});

test("a disk that has become read-only, or fails, ends its worker with 20; started again on a good one it goes on", async () => {
  for (const code of ["read_only", "io", "permission", "too_many_files"] satisfies DiskErrorCode[]) {
    const { cluster, disk } = await working(83);
    cluster.send(INITIALIZER, sequences(KEYS, COUNT), { perMs: 1 });
    assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length > 500, 30_000));
    disk.fault = (operation) => (operation === "append" || operation === "sync" || operation === "open" ? code : null);
    const worker = cluster.processes.get("w1")!;
    assert.ok(await cluster.world.runUntil(() => worker.status !== null, 30_000), `${code}: it leaves`);
    assert.equal(worker.status, 20, `${code}: ${worker.error}`);
    assert.match(String(worker.error), /Cannot .*\/tmp\/Last%20four\/w1/);
    assert.equal(cluster.processes.get(INITIALIZER)!.status, null);
    disk.fault = null;
    cluster.start("w1");
    const complete = () => cluster.processes.get("w1")!.said("Recovery COMPLETE");
    assert.ok(await cluster.world.runUntil(complete, 30_000), code);
  }
});

test("a worker whose folder is taken away while it works leaves with 20 at the next checkpoint, and is refused without it", async () => {
  const { cluster, disk } = await working(84);
  cluster.send(INITIALIZER, sequences(KEYS, COUNT), { perMs: 1 });
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length > 500, 30_000));
  const root = "/tmp/Last%20four/w1/";
  const host = cluster.machines.get("w1")!;
  host.startProcess(async (runtime) => {
    for (const path of disk.paths().filter((found) => found.startsWith(root) && !found.endsWith("/"))) {
      await runtime.disk.remove(path);
    }
  });
  const worker = cluster.processes.get("w1")!;
  assert.ok(await cluster.world.runUntil(() => worker.status !== null, 10_000), "it leaves");
  assert.equal(worker.status, 20, String(worker.error));
  assert.match(String(worker.error), /somebody else has touched the folder/);
  assert.equal(cluster.processes.get(INITIALIZER)!.status, null);
  const again = cluster.start("w1");
  assert.ok(await cluster.world.runUntil(() => again.status !== null, 30_000), "it is refused");
  assert.equal(again.status, 13);
  assert.match(
    String(again.error),
    /the newcomer has none of its saved cluster information; start it with the --resilience-dir/,
  );
});

test("a worker whose files are swapped for a copy of them while it works leaves with 20 at the next checkpoint", async () => {
  const { cluster, disk } = await working(86);
  cluster.send(INITIALIZER, sequences(KEYS, COUNT), { perMs: 1 });
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length > 500, 30_000));
  cluster.machines.get("w1")!.startProcess(async (runtime) => {
    for (const path of disk
      .paths()
      .filter((found) => found.startsWith("/tmp/Last%20four/w1/state/") && !found.endsWith("/"))) {
      const copy = disk.peek(path)!;
      await runtime.disk.remove(path);
      disk.put(path, copy);
    }
  });
  const worker = cluster.processes.get("w1")!;
  assert.ok(await cluster.world.runUntil(() => worker.status !== null, 10_000), "it leaves");
  assert.equal(worker.status, 20, String(worker.error));
  assert.match(String(worker.error), /it has \d+ bytes instead of \d+; somebody else has touched the folder/);
});

test("a worker that comes back with an empty folder is refused, and let in with empty state once that was accepted", async () => {
  const { cluster } = await working(85);
  cluster.send(INITIALIZER, sequences(KEYS, COUNT), { perMs: 20 });
  await assertAllComesOut(cluster);
  await cluster.world.runFor(1_000);
  cluster.processes.get("w1")!.process.kill();
  const elsewhere = { resilienceDir: "/elsewhere" };
  const ended = async (name: string) => {
    const { status } = cluster.processes.get(name)!;
    assert.ok(
      await cluster.world.runUntil(() => cluster.processes.get(name)!.status !== null, 30_000),
      `${name} ${status}`,
    );
    return cluster.processes.get(name)!;
  };

  cluster.start("w1", elsewhere);
  const taken = await ended("w1");
  assert.equal(taken.status, 13, String(taken.error));
  assert.match(
    String(taken.error),
    /has none of its saved cluster information.*initializer again with --accept-state-loss/,
  );

  const restart = async (acceptStateLoss: boolean) => {
    cluster.processes.get(INITIALIZER)!.process.kill();
    const checkpoints = { ...NO_CHECKPOINTS, intervalMs: 200, acceptStateLoss };
    cluster.start(INITIALIZER, { checkpoints });
    cluster.start("w1", elsewhere);
  };
  await restart(false);
  const lost = await ended("w1");
  assert.equal(lost.status, 12, String(lost.error));
  assert.match(String(lost.error), /"w1".*--accept-state-loss/);
  assert.equal(cluster.processes.get(INITIALIZER)!.status, null, "the initializer waits for the right one");

  await restart(true);
  assert.ok(await cluster.working(), "it is let in");
  assert.match(said(cluster, "w1"), /state_lost: .* it starts empty, as was accepted/);
  const before = cluster.sink.lines.length;
  cluster.send(
    INITIALIZER,
    Array.from({ length: KEYS }, (_, key) => `key${key} 7`),
  );
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length >= before + KEYS, 30_000), "it works");
  const windows = cluster.sink.lines.slice(before).map((line) => line.slice(line.indexOf(" ") + 1));
  const own = windows.filter((window) => window === "0 0 0 7").length;
  const kept = windows.filter((window) => window === `${COUNT - 2} ${COUNT - 1} ${COUNT} 7`).length;
  assert.ok(own > 0 && kept > 0, "the keys of that worker begin anew, those of the other go on");
  assert.equal(own + kept, KEYS);
});
