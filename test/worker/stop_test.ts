// A stop that does not reach everybody, or is cut short: the same command lines bring the cluster back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { INITIALIZER } from "../../src/base/ids.ts";
import { baseOf, isDecisionName } from "../../src/store/folders.ts";
import { decodeSavedCluster } from "../../src/store/saved_cluster.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { byKey, expectedLines, sequences, VirtualCluster } from "../lib/virtual_cluster.ts";

async function working(seed: number): Promise<VirtualCluster> {
  const cluster = new VirtualCluster({ seed, workers: 3 });
  cluster.startAll();
  assert.ok(await cluster.working());
  return cluster;
}

/** Of the cluster that is saved on this worker's disk; null: none is. */
function savedCluster(cluster: VirtualCluster, name: string): { clusterId: string; state: string } | null {
  const { disk } = cluster.machines.get(name)!;
  const path = disk.paths().find((found) => found.endsWith("/cluster"));
  if (path === undefined) return null;
  const outcome = decodeSavedCluster(disk.peek(path)!);
  assert.equal(outcome.kind, "ok");
  return outcome.kind === "ok" ? outcome.saved : null;
}

/** What was left, and is there again: starts who does not run, and sees that input of all comes out. */
async function assertComesBack(cluster: VirtualCluster, clusterId: string): Promise<void> {
  for (const name of cluster.names) if (cluster.processes.get(name)!.status !== null) cluster.start(name);
  assert.ok(await cluster.working(), "everybody works again");
  for (const name of cluster.names) {
    assert.equal(savedCluster(cluster, name)?.clusterId, clusterId, `${name} is in the same cluster`);
    cluster.send(name, sequences(5, 5, `again ${name} `.replaceAll(" ", "_")));
  }
  const fresh = () => cluster.sink.lines.filter((line) => line.startsWith("again")).length;
  assert.ok(await cluster.world.runUntil(() => fresh() >= 75, 20_000), `${fresh()} lines`);
  const found = byKey(cluster.sink.lines);
  for (const name of cluster.names) {
    for (const [key, lines] of expectedLines(5, 5, `again_${name}_`)) assert.deepEqual(found.get(key), lines);
  }
  cluster.processes.get("w1")!.process.signal("SIGTERM");
  assert.ok(await cluster.exited(), "a stop that reaches everybody ends it");
  for (const [name, { disk }] of cluster.machines) {
    // The directory was there when this start came.
    assert.deepEqual(
      disk.paths().filter((path) => path !== "/tmp/"),
      [],
      `${name} left files`,
    );
  }
}

test("a worker that is told to stop while it has no connection leaves with its files; the others go on", async () => {
  const cluster = await working(31);
  const { clusterId } = savedCluster(cluster, INITIALIZER)!;
  for (const other of [INITIALIZER, "w2"]) cluster.world.network.partition("w1", other);
  await cluster.world.runFor(7_000);
  const w1 = cluster.processes.get("w1")!;
  w1.process.signal("SIGTERM");
  assert.ok(await cluster.world.runUntil(() => w1.status !== null, 12_000), "it leaves");
  assert.equal(w1.status, 0);
  assert.ok(w1.said("initializer: not reachable; all files stay"), w1.lines.join("\n"));
  assert.ok(w1.said("tammar store clean /tmp/Last%20four/w1"), w1.lines.join("\n"));
  assert.equal(cluster.processes.get(INITIALIZER)!.status, null);
  assert.equal(cluster.processes.get("w2")!.status, null);
  cluster.world.network.heal();
  await assertComesBack(cluster, clusterId);
});

test("an initializer that is told to stop while the others are away keeps its files, as they do", async () => {
  const cluster = await working(32);
  const { clusterId } = savedCluster(cluster, INITIALIZER)!;
  for (const name of ["w1", "w2"]) cluster.processes.get(name)!.process.kill();
  for (const name of ["w1", "w2"]) cluster.processes.get(name)!.status = 137;
  await cluster.world.runFor(1_000);
  const initializer = cluster.processes.get(INITIALIZER)!;
  initializer.process.signal("SIGTERM");
  assert.ok(await cluster.exited(), "it leaves");
  assert.equal(initializer.status, 0);
  assert.ok(
    initializer.said("The files stay, because the cluster was not stopped as a whole"),
    initializer.lines.join("\n"),
  );
  await assertComesBack(cluster, clusterId);
});

test("a second signal to one worker does not take the cluster from the others, nor does one to all", async () => {
  for (const twice of [["w1"], [INITIALIZER], [INITIALIZER, "w1", "w2"]]) {
    const cluster = await working(33);
    const { clusterId } = savedCluster(cluster, INITIALIZER)!;
    // So that the stop takes a while.
    cluster.sink.pause();
    for (const name of cluster.names) cluster.send(name, sequences(50, 2_000), { perMs: 500 });
    await cluster.world.runFor(3_000);
    for (const name of twice) cluster.processes.get(name)!.process.signal("SIGTERM");
    await cluster.world.runFor(500);
    for (const name of twice) {
      assert.equal(cluster.processes.get(name)!.status, null, `${name} is still there`);
      cluster.processes.get(name)!.process.signal("SIGTERM");
    }
    assert.ok(await cluster.exited(), "everybody leaves");
    for (const [name, { status, error }] of cluster.processes) assert.equal(status, 0, `${name}: ${error}`);
    cluster.sink.resume();
    await assertComesBack(cluster, clusterId);
  }
});

test("who does not hear that the cluster is gone gives way to the next one by itself", async () => {
  const cluster = await working(34);
  const { clusterId } = savedCluster(cluster, INITIALIZER)!;
  cluster.processes.get(INITIALIZER)!.process.signal("SIGTERM");
  assert.ok(await cluster.world.runUntil(() => savedCluster(cluster, "w1")?.state === "stopping", 5_000));
  // Its report still goes out; what comes back does not arrive.
  cluster.world.network.partition(INITIALIZER, "w1", { way: "forward" });
  assert.ok(await cluster.exited(), "everybody leaves");
  assert.equal(cluster.processes.get("w1")!.status, 0);
  assert.equal(savedCluster(cluster, INITIALIZER), null);
  assert.equal(savedCluster(cluster, "w1")?.clusterId, clusterId);
  cluster.world.network.heal();
  cluster.startAll();
  assert.ok(await cluster.working(), "a new cluster forms");
  assert.ok(cluster.processes.get("w1")!.said(`Cluster ${clusterId} has been shut down`));
  await assertComesBack(cluster, savedCluster(cluster, INITIALIZER)!.clusterId);
});

test("who does not hear that the cluster is gone, and is sent to another one, keeps what it has saved and says so", async () => {
  const cluster = await working(34);
  const { clusterId } = savedCluster(cluster, INITIALIZER)!;
  cluster.processes.get(INITIALIZER)!.process.signal("SIGTERM");
  assert.ok(await cluster.world.runUntil(() => savedCluster(cluster, "w1")?.state === "stopping", 5_000));
  cluster.world.network.partition(INITIALIZER, "w1", { way: "forward" });
  assert.ok(await cluster.exited(), "everybody leaves");
  cluster.world.network.heal();
  // Of the same application and build.
  const elsewhere = { host: INITIALIZER, port: 7_500 };
  cluster.start(INITIALIZER, { controlListen: { host: "0.0.0.0", port: elsewhere.port } });
  const saved = savedCluster(cluster, "w1");
  const w1 = cluster.start("w1", { initializerControl: elsewhere });
  assert.ok(await cluster.world.runUntil(() => w1.status !== null, 10_000), "it leaves");
  assert.match(
    String(w1.error),
    /belongs to cluster [0-9a-f]{32} .* answered at initializer:7500; the initializer of the saved one was at initializer:7000/,
  );
  assert.deepEqual(
    { ...savedCluster(cluster, "w1"), startNumber: 0, incarnation: "" },
    { ...saved, startNumber: 0, incarnation: "" },
  );
  assert.equal(savedCluster(cluster, "w1")?.state, "stopping");
  assert.equal(savedCluster(cluster, "w1")?.clusterId, clusterId);
  // With the right address it gives way, as ever.
  cluster.processes.get(INITIALIZER)!.process.kill();
  cluster.startAll();
  assert.ok(await cluster.world.runUntil(() => cluster.processes.get("w1")!.said("has been shut down"), 10_000));
});

test("an initializer that loses its power behind the decision has decided", async () => {
  const cluster = await working(35);
  const machine = cluster.machines.get(INITIALIZER)!;
  cluster.processes.get("w2")!.process.signal("SIGTERM");
  assert.ok(await cluster.world.runUntil(() => machine.disk.paths().some((path) => path.endsWith("/removing")), 5_000));
  await cluster.world.runFor(3);
  machine.powerLoss();
  cluster.processes.get(INITIALIZER)!.status = 137;
  machine.powerOn();
  assert.ok(await cluster.exited(), "everybody leaves");
  cluster.startAll();
  assert.ok(await cluster.working(), "a cluster forms");
  await assertComesBack(cluster, savedCluster(cluster, INITIALIZER)!.clusterId);
});

test("a stop without a last checkpoint says so, from which one the cluster goes on, and how; and so it does", async () => {
  const cluster = new VirtualCluster({
    seed: 37,
    workers: 3,
    config: { checkpoints: { ...NO_CHECKPOINTS, intervalMs: 300 } },
  });
  cluster.startAll();
  assert.ok(await cluster.working());
  const epoch = () => {
    const names = cluster.machines.get(INITIALIZER)!.disk.paths().map(baseOf);
    return Number(names.find(isDecisionName)?.split("-")[1] ?? 0);
  };
  assert.ok(await cluster.world.runUntil(() => epoch() >= 2, 10_000));
  // There is no room for another one; what was written of it can be taken back.
  const { disk } = cluster.machines.get("w1")!;
  let syncs = 0;
  disk.fault = (operation, path) =>
    operation === "sync" && path.includes("segment-") && syncs++ % 2 === 0 ? "full" : null;
  const last = epoch();
  cluster.processes.get("w2")!.process.signal("SIGTERM");
  assert.ok(await cluster.exited(), "everybody leaves");
  for (const [name, { status, lines }] of cluster.processes) {
    assert.equal(status, 0, name);
    assert.match(
      lines.at(-1)!,
      /What stayed behind: initializer: no last checkpoint: worker w1: .*no space is left/,
      name,
    );
    assert.match(
      lines.at(-1)!,
      new RegExp(`with the same commands to go on from checkpoint ${last}, .* tammar checkpoint`),
      name,
    );
  }
  disk.fault = null;
  cluster.startAll();
  assert.ok(await cluster.working(), "everybody works again");
  for (const [name, worker] of cluster.processes) {
    assert.ok(worker.said(`Rolling back to checkpoint ${last}`), `${name}: ${worker.lines.join(" | ")}`);
  }
});

test("one worker alone, told to stop twice, leaves nothing behind", async () => {
  const cluster = new VirtualCluster({ seed: 36, workers: 1 });
  cluster.startAll();
  assert.ok(await cluster.working());
  cluster.sink.pause();
  cluster.send(INITIALIZER, sequences(50, 2_000), { perMs: 500 });
  await cluster.world.runFor(3_000);
  cluster.processes.get(INITIALIZER)!.process.signal("SIGTERM");
  await cluster.world.runFor(500);
  cluster.processes.get(INITIALIZER)!.process.signal("SIGTERM");
  assert.ok(await cluster.exited());
  assert.equal(cluster.processes.get(INITIALIZER)!.status, 0);
  assert.deepEqual(cluster.machines.get(INITIALIZER)!.disk.paths(), []);
});
