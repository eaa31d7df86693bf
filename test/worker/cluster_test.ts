// Whole clusters of the real worker on the virtual runtime.
import assert from "node:assert/strict";
import { test } from "node:test";
import { byKey, expectedLines, PORTS, sequences, VirtualCluster } from "../lib/virtual_cluster.ts";

/** Every key's lines are exactly those of an undisturbed run, in order. */
function assertExact(cluster: VirtualCluster, keys: number, count: number): void {
  assert.deepEqual(byKey(cluster.sink.lines), expectedLines(keys, count));
}

for (const workers of [1, 2, 3]) {
  test(`${workers} worker(s) count what one source gets, and leave no file at the end`, async () => {
    const cluster = new VirtualCluster({ seed: workers, workers });
    cluster.startAll();
    assert.ok(await cluster.working(), "the cluster works");
    cluster.send("initializer", sequences(20, 50));
    assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length >= 1_000, 20_000));
    assertExact(cluster, 20, 50);
    cluster.processes.get(cluster.names.at(-1)!)!.process.signal("SIGTERM");
    assert.ok(await cluster.exited(), "everybody leaves");
    for (const [name, worker] of cluster.processes)
      assert.equal(worker.status, 0, `${name}: ${worker.error}\n${worker.lines.join("\n")}`);
    for (const [name, machine] of cluster.machines) assert.deepEqual(machine.disk.paths(), [], `${name} left files`);
  });
}

test("connections between workers are cut all the time: nothing is lost, doubled or reordered", async () => {
  const cluster = new VirtualCluster({ seed: 11, workers: 3 });
  cluster.startAll();
  assert.ok(await cluster.working());
  const sender = cluster.send("w1", sequences(30, 100), { perMs: 10 });
  let cuts = 0;
  const faults = cluster.world.stream("faults");
  while (!sender.done) {
    await cluster.world.runFor(faults.between(5, 60));
    cuts += cluster.world.network.cut((connection) => connection.port !== PORTS.source && connection.server !== "sink");
  }
  assert.ok(cuts > 10, `${cuts} connections were cut`);
  assert.ok(
    await cluster.world.runUntil(() => cluster.sink.lines.length >= 3_000, 60_000),
    `${cluster.sink.lines.length} lines`,
  );
  assertExact(cluster, 30, 100);
});

test("a silent peer costs a reconnect, never data", async () => {
  const cluster = new VirtualCluster({ seed: 12, workers: 2 });
  cluster.startAll();
  assert.ok(await cluster.working());
  const sender = cluster.send("w1", sequences(10, 200), { perMs: 1 });
  await cluster.world.runFor(100);
  cluster.world.network.partition("initializer", "w1");
  assert.ok(
    await cluster.world.runUntil(() => cluster.processes.get("w1")!.said("connection to initializer lost"), 6_000),
    "noticed within 5 s and a little",
  );
  cluster.world.network.heal();
  assert.ok(await cluster.world.runUntil(() => sender.done && cluster.sink.lines.length >= 2_000, 60_000));
  assertExact(cluster, 10, 200);
});

test("kill -9 of any worker, and of all: the same command lines bring them back to work", async () => {
  const cluster = new VirtualCluster({ seed: 13, workers: 3 });
  cluster.startAll();
  assert.ok(await cluster.working());
  const rounds = [["w1"], ["initializer"], ["w2", "w1"], ["initializer", "w1", "w2"], ["w2"]];
  for (const [round, dead] of rounds.entries()) {
    for (const name of dead) cluster.processes.get(name)!.process.kill();
    await cluster.world.runFor(700);
    for (const name of [...dead].reverse()) cluster.start(name);
    assert.ok(await cluster.working(), `round ${round}: ${dead.join(", ")} came back`);
    for (const name of cluster.names) cluster.send(name, sequences(10, 5, `r${round}${name}`));
    const prefix = `r${round}`;
    const ofRound = () => cluster.sink.lines.filter((line) => line.startsWith(prefix)).length;
    assert.ok(await cluster.world.runUntil(() => ofRound() >= 150, 20_000), `round ${round} counts`);
    for (const name of cluster.names) {
      const expected = expectedLines(10, 5, `r${round}${name}`);
      const found = byKey(cluster.sink.lines);
      for (const [key, lines] of expected) assert.deepEqual(found.get(key), lines);
    }
  }
});

test("power loss of all machines at any moment after forming brings the same cluster back", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const cluster = new VirtualCluster({ seed, workers: 2 });
    cluster.startAll();
    await cluster.world.runFor(seed * 4);
    for (const machine of cluster.machines.values()) machine.powerLoss();
    for (const machine of cluster.machines.values()) machine.powerOn();
    cluster.startAll();
    assert.ok(
      await cluster.working(),
      `seed ${seed}\n${[...cluster.processes.values()].flatMap((p) => [p.name, ...p.lines, `${p.error}`]).join("\n")}`,
    );
  }
});

test("a sink that is away for ten seconds gets everything that the system had not taken", async () => {
  const cluster = new VirtualCluster({ seed: 15, workers: 2 });
  cluster.startAll();
  assert.ok(await cluster.working());
  const sender = cluster.send("w1", sequences(10, 300), { perMs: 1 });
  await cluster.world.runFor(300);
  cluster.sink.close();
  await cluster.world.runFor(10_000);
  cluster.sink.open();
  assert.ok(await cluster.world.runUntil(() => sender.done, 60_000));
  await cluster.world.runFor(5_000);
  // What was in flight when the sink died may be missing; whatever is there is in order, and once.
  const expected = expectedLines(10, 300);
  let missing = 0;
  for (const [key, lines] of byKey(cluster.sink.lines)) {
    const all = expected.get(key)!;
    const places = lines.map((line) => all.indexOf(line));
    assert.ok(
      places.every((place) => place >= 0),
      `${key} has a line nobody expected`,
    );
    for (let i = 1; i < places.length; i++) assert.ok(places[i]! > places[i - 1]!, `${key} is out of order or doubled`);
    missing += all.length - lines.length;
  }
  assert.ok(missing < 200, `${missing} lines are missing`);
});

test("a sink that does not read stops the sources, and only a bounded amount is taken in", async () => {
  const cluster = new VirtualCluster({
    seed: 16,
    workers: 2,
    limits: { sinkQueueBytes: 4_096, exchangeCreditBytes: 8_192 },
  });
  cluster.startAll();
  assert.ok(await cluster.working());
  cluster.sink.pause();
  const records = sequences(50, 1_500);
  const sender = cluster.send("w1", records, { perMs: 200 });
  await cluster.world.runFor(20_000);
  assert.ok(!sender.done, "the sender is held back");
  const taken = sender.sent;
  await cluster.world.runFor(20_000);
  assert.equal(sender.sent, taken, "nothing more is taken in");
  cluster.sink.resume();
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length >= records.length, 120_000));
  assertExact(cluster, 50, 1_500);
});

test("another application, another build and a surplus worker are refused with both values, and leave no file", async () => {
  const cluster = new VirtualCluster({ seed: 17, workers: 2 });
  cluster.startAll();
  assert.ok(await cluster.working());
  const stranger = cluster.world.host("stranger");
  const cases: readonly [Record<string, unknown>, RegExp][] = [
    [{ applicationCodeDigest: "other" }, /application fingerprint differs: ours [0-9a-f]+…?, theirs [0-9a-f]+/],
    [{ buildId: "other" }, /build id differs: ours other, theirs build/],
    [{}, /"w9" is one too many/],
    [{ name: "w1" }, /worker name "w1" is taken/],
  ];
  for (const [change, sentence] of cases) {
    const { WorkerProcess } = await import("../lib/virtual_cluster.ts");
    const worker = new WorkerProcess("w9");
    const config = {
      ...cluster.configOf("w9"),
      ...change,
      controlListen: { host: "0.0.0.0", port: 0 },
      dataListen: { host: "0.0.0.0", port: 0 },
    };
    const process = stranger.startProcess((runtime) => worker.run(config, runtime));
    assert.ok(await cluster.world.runUntil(() => !process.alive, 10_000), "it leaves");
    assert.equal(worker.status, 13, String(worker.error));
    assert.match(String(worker.error), sentence);
    assert.deepEqual(stranger.disk.paths(), [], "it left no file");
  }
  cluster.send("w1", sequences(5, 5));
  assert.ok(await cluster.world.runUntil(() => cluster.sink.lines.length >= 25, 10_000), "the cluster goes on");
});

test("the same seed gives the same run", async () => {
  const run = async () => {
    const cluster = new VirtualCluster({ seed: 18, workers: 3 });
    cluster.startAll();
    await cluster.working();
    cluster.send("w2", sequences(10, 20));
    await cluster.world.runFor(3_000);
    return `${cluster.world.steps} ${cluster.world.traceHash()} ${cluster.sink.lines.length}`;
  };
  const first = await run();
  assert.equal(await run(), first);
  assert.match(first, / 200$/);
});

test("an initializer that comes back with another --worker-count says that the saved number holds", async () => {
  const cluster = new VirtualCluster({ seed: 19, workers: 2 });
  cluster.startAll();
  assert.ok(await cluster.working());
  cluster.processes.get("initializer")!.process.kill();
  const again = cluster.start("initializer", { workerCount: 3 });
  assert.ok(await cluster.world.runUntil(() => again.said("PHASE IV"), 20_000), again.lines.join("\n"));
  assert.ok(again.said("Ignoring --worker-count 3: the cluster that is saved in"), again.lines.join("\n"));
  assert.ok(again.said("has 2 workers"));
});

test("an address of --data that this machine does not have is told as --data, not as the --control beside it", async () => {
  const cluster = new VirtualCluster({ seed: 20, workers: 1 });
  const elsewhere = "w9";
  const refused = cluster.start("initializer", {
    controlListen: { host: elsewhere, port: 0 },
    dataListen: { host: elsewhere, port: PORTS.data },
  });
  assert.ok(await cluster.world.runUntil(() => refused.status !== null, 5_000));
  assert.match(`${refused.error}\n${refused.lines.join("\n")}`, /Cannot listen on --data w9:7001/);
});
