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
