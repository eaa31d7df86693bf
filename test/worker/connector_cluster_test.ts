/** Connector sources on whole virtual clusters: programs that come, go and change workers, and machines that die. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, connectorSource, fileSink, source } from "../../mod.ts";
import type { Payload } from "../../src/api/payload.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { ConnectorClient } from "../lib/connector_client.ts";
import {
  assertOnce,
  COOKIE,
  type Counted,
  connect,
  countingCluster,
  keyStream,
  said,
  visible,
} from "../lib/counting_cluster.ts";
import { PORTS, VirtualCluster } from "../lib/virtual_cluster.ts";

test("connector programs are processed once, whoever dies, reconnects and changes workers, whatever is cut", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const workers = 1 + (seed % 3);
    const made = countingCluster(seed, workers, seed % 2 === 0 ? 50 : 400);
    const random = made.world.stream("faults");
    const count = 400;
    made.startAll();
    assert.ok(await made.working(), `seed ${seed}\n${said(made)}`);
    const programs: ConnectorClient[] = [];
    for (const at of [0, 3, 6]) {
      const streams = [at, at + 1, at + 2].map((id) => keyStream(id, count));
      programs.push(await connect(made, made.names[random.int(workers)]!, streams));
    }
    // So that all takes a while.
    for (const program of programs) Object.assign(program, { messagesMax: 3, paceMs: 5, silenceMs: 5_000 });
    for (let round = 0; round < 6; round++) {
      await made.world.runFor(random.between(20, 250));
      for (const program of programs) {
        if (!random.chance(2)) continue;
        program.address = { host: made.names[random.int(workers)]!, port: PORTS.source };
        if (random.chance(2)) program.forget();
        else program.cut();
      }
      const { network } = made.world;
      if (random.chance(3)) network.cut(() => random.chance(2));
      if (random.chance(3)) network.partition(made.names[random.int(workers)]!, made.names[random.int(workers)]!);
      const dead = random.chance(4) ? [] : random.chance(3) ? made.names : [made.names[random.int(workers)]!];
      for (const name of dead) {
        const machine = made.machines.get(name)!;
        if (random.chance(2)) {
          machine.powerLoss();
          machine.powerOn();
        } else made.processes.get(name)!.process.kill();
      }
      assertOnce(visible(made), `seed ${seed}`);
      for (const name of dead) made.start(name);
      await made.world.runFor(random.between(0, 400));
      network.heal();
    }
    const finished = () => programs.every((program) => program.finished);
    await made.world.runUntil(() => finished(), 60_000);
    const violations = programs.flatMap((program) => program.violations);
    assert.deepEqual(violations, [], `seed ${seed}`);
    assert.ok(finished(), `seed ${seed}: ${assertOnce(visible(made), "")} records\n${said(made)}`);
    // What is acknowledged is visible, or becomes so without anybody's help.
    const all = () => visible(made).length === 9 * count;
    await made.world.runUntil(() => made.world.steps % 200 === 0 && all(), 10_000);
    assert.equal(assertOnce(visible(made), `seed ${seed}`), 9 * count, said(made));
  }
});

test("a stream is one worker's: others refuse it until it is released and covered", async () => {
  const made = countingCluster(1, 3, 200);
  made.startAll();
  assert.ok(await made.working(), said(made));
  let ends = false;
  const first = await connect(made, "w1", [keyStream(1, 50, { ends: () => ends })]);
  assert.ok(await made.world.runUntil(() => first.session?.phaseOf(1n) === "open", 5_000), said(made));
  const second = await connect(made, "w2", [keyStream(1, 80)]);
  assert.ok(await made.world.runUntil(() => second.session?.phaseOf(1n) === "refused", 5_000), said(made));
  await made.world.runFor(3_000);
  assert.notEqual(second.session!.phaseOf(1n), "open");
  // The first goes; what it brought is covered soon.
  ends = true;
  first.stop();
  assert.ok(await made.world.runUntil(() => second.finished, 10_000), said(made));
  assert.deepEqual([...first.violations, ...second.violations], []);
  await made.world.runUntil(() => visible(made).length === 80, 5_000);
  assert.equal(assertOnce(visible(made), ""), 80);
});

test("a program that changes workers waits until a checkpoint covers what it sent before", async () => {
  const made = countingCluster(6, 2, 2_000);
  made.startAll();
  assert.ok(await made.working(), said(made));
  const program = await connect(made, "w1", [keyStream(1, 90)]);
  program.paceMs = 20;
  program.messagesMax = 3;
  assert.ok(
    await made.world.runUntil(() => program.session?.streaming === true && program.session.credits < 40, 5_000),
    said(made),
  );
  program.address = { host: "initializer", port: PORTS.source };
  program.forget();
  assert.ok(await made.world.runUntil(() => program.session?.phaseOf(1n) === "refused", 1_000), said(made));
  assert.ok(await made.world.runUntil(() => program.finished, 20_000), said(made));
  await made.world.runUntil(() => visible(made).length === 90, 5_000);
  assert.equal(assertOnce(visible(made), ""), 90);
  assert.deepEqual(program.violations, []);
});

test("a program that is gone without a word loses its stream to who asks for it, and keeps it while nobody does", async () => {
  for (const to of ["w1", "initializer"]) {
    const made = countingCluster(8, 2, 100);
    made.startAll();
    assert.ok(await made.working(), said(made));
    const gone = await connect(made, "w1", [keyStream(1, 40, { ends: () => false })]);
    const idle = await connect(made, "w1", [keyStream(2, 40, { ends: () => false })]);
    assert.ok(await made.world.runUntil(() => visible(made).length === 80, 5_000), said(made));
    const [first] = made.world.network.connections().filter(({ port }) => port === PORTS.source);
    assert.equal(
      made.world.network.blackhole(({ id }) => id === first!.id),
      1,
    );
    await made.world.runFor(20_000);
    assert.ok(!made.processes.get("w1")!.said("source_client_silent"));
    const asks = await connect(made, to, [keyStream(1, 90)]);
    assert.ok(await made.world.runUntil(() => asks.finished, 20_000), said(made));
    assert.ok(made.processes.get("w1")!.said("source_client_silent"));
    assert.deepEqual([idle.session!.phaseOf(2n), idle.connections], ["open", 1]);
    await made.world.runUntil(() => visible(made).length === 130, 5_000);
    assert.equal(assertOnce(visible(made), ""), 130);
    assert.deepEqual([...gone.violations, ...idle.violations, ...asks.violations], []);
  }
});

test("nothing is acknowledged before its checkpoint is complete", async () => {
  // Checkpoints are rare, so that it would be seen.
  const made = countingCluster(2, 2, 2_000);
  made.startAll();
  assert.ok(await made.working(), said(made));
  const program = await connect(made, "w1", [keyStream(1, 60)]);
  let acked = -1n;
  program.told = (_, point) => {
    acked = point;
    // The file sink shows a checkpoint's output when it is complete.
    assert.ok(visible(made).length >= Number(point) / 3 + 1 || point < 0n, `${point} before it was visible`);
  };
  await made.world.runFor(1_500);
  assert.equal(acked, -1n);
  assert.ok(await made.world.runUntil(() => program.finished, 10_000), said(made));
  assert.equal(acked, 59n * 3n);
});

test("two sources of an application have streams of their own, and a rollback of one worker is everybody's", async () => {
  const made = new VirtualCluster({
    seed: 7,
    workers: 2,
    application: () =>
      application("Two", () => {
        const decode = (payload: Payload) => payload.text();
        return ["left", "right"].map((name) =>
          source(name, connectorSource({ decode, cookie: COOKIE })).toSink(
            fileSink({ directory: `/data/${name}`, name, encode: (text) => `${text}\n` }),
          ),
        );
      }),
    config: {
      inputs: new Map(
        ["left", "right"].map((name, at) => [name, { host: "0.0.0.0", port: PORTS.source + at, frameBytesMax: null }]),
      ),
      outputs: [],
      checkpoints: { ...NO_CHECKPOINTS, intervalMs: 50 },
    },
  });
  made.startAll();
  assert.ok(await made.working(), said(made));
  const left = await connect(made, "w1", [keyStream(1, 300)]);
  const right = await connect(made, "initializer", [keyStream(1, 500)], PORTS.source + 1);
  for (const program of [left, right]) Object.assign(program, { messagesMax: 2, paceMs: 3 });
  await made.world.runUntil(() => right.session?.phaseOf(1n) === "open", 5_000);
  await made.world.runFor(100);
  made.processes.get("w1")!.process.kill();
  made.start("w1");
  assert.ok(await made.world.runUntil(() => left.finished && right.finished, 20_000), said(made));
  assert.ok(right.restarts >= 1, "a survivor's program is told to start again");
  assert.deepEqual([...left.violations, ...right.violations], []);
  await made.world.runFor(500);
  const linesOf = (machine: string, folder: string) => {
    const { disk } = made.machines.get(machine)!;
    const paths = disk.paths().filter((path) => path.startsWith(`/data/${folder}/`) && !/\/(\.[^/]*)?$/.test(path));
    return paths.map((path) => new TextDecoder().decode(disk.peek(path)!)).join("");
  };
  const expected = (count: number) => Array.from({ length: count }, (_, at) => `key1 ${at + 1}\n`).join("");
  assert.equal(linesOf("w1", "left"), expected(300));
  assert.equal(linesOf("initializer", "right"), expected(500));
});

test("without checkpoints an end is acknowledged at once, and streams move when they are released", async () => {
  const made = countingCluster(3, 3, null);
  made.startAll();
  assert.ok(await made.working(), said(made));
  let ends = false;
  const first = await connect(made, "w1", [keyStream(1, 30, { ends: () => ends })]);
  assert.ok(await made.world.runUntil(() => first.session?.phaseOf(1n) === "open", 5_000), said(made));
  const second = await connect(made, "w2", [keyStream(1, 60)]);
  assert.ok(await made.world.runUntil(() => second.session?.phaseOf(1n) === "refused", 5_000), said(made));
  await made.world.runUntil(() => made.sink.lines.length === 30, 5_000);
  ends = true;
  assert.ok(await made.world.runUntil(() => first.finished, 1_000), "at once");
  assert.ok(await made.world.runUntil(() => second.finished, 10_000), said(made));
  assert.ok(await made.world.runUntil(() => made.sink.lines.length === 60, 5_000), said(made));
  assertOnce(
    made.sink.lines.map((line) => JSON.parse(line) as Counted),
    "the second began where the end of the first was acknowledged",
  );
  assert.deepEqual([...first.violations, ...second.violations], []);
});

test("without checkpoints the initializer's registry knows all streams again after its death, and a dead worker's are free", async () => {
  const made = countingCluster(4, 3, null);
  made.startAll();
  assert.ok(await made.working(), said(made));
  const first = await connect(made, "w1", [keyStream(1, 30, { ends: () => false })]);
  const other = await connect(made, "w2", [keyStream(2, 30, { ends: () => false })]);
  const open = () => first.session?.phaseOf(1n) === "open" && other.session?.phaseOf(2n) === "open";
  assert.ok(await made.world.runUntil(open, 5_000), said(made));
  made.processes.get("initializer")!.process.kill();
  made.start("initializer");
  assert.ok(await made.working(), said(made));
  const taker = await connect(made, "initializer", [keyStream(1, 30), keyStream(2, 30)]);
  assert.ok(await made.world.runUntil(() => taker.session?.phaseOf(1n) === "refused", 10_000), said(made));
  await made.world.runFor(3_000);
  assert.ok(open(), "they keep what they had");
  assert.notEqual(taker.session!.phaseOf(1n), "open");
  first.stop();
  assert.ok(await made.world.runUntil(() => taker.session!.phaseOf(1n) === "ended", 10_000), said(made));
  assert.notEqual(taker.session!.phaseOf(2n), "open");
  made.processes.get("w2")!.process.kill();
  other.stop();
  made.start("w2");
  assert.ok(await made.world.runUntil(() => taker.finished, 20_000), said(made));
  assert.deepEqual([...first.violations, ...other.violations, ...taker.violations], []);
});

test("a wrong cookie is refused without showing either one, and the log has neither", async () => {
  const made = countingCluster(5, 1, 200);
  made.startAll();
  assert.ok(await made.working(), said(made));
  let wrong: ConnectorClient | null = null;
  made.world.host("stranger").startProcess(async (runtime) => {
    wrong = new ConnectorClient(
      runtime,
      { host: "initializer", port: PORTS.source },
      { cookie: "gu3ssed", streams: [keyStream(1, 1)] },
    );
    await wrong.run();
  });
  assert.ok(await made.world.runUntil(() => (wrong?.errors.length ?? 0) > 0, 5_000), said(made));
  assert.deepEqual(wrong!.errors[0], "Bad cookie");
  const log = made.processes.get("initializer")!.lines.join("\n");
  assert.match(log, /source_bad_cookie/);
  assert.doesNotMatch(log, /s3cret|gu3ssed|not this one/);
});

test("a cluster that is stopped while programs send stops in order, and takes in nothing twice", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const made = countingCluster(seed, 1 + (seed % 3), 100);
    made.startAll();
    assert.ok(await made.working(), said(made));
    const program = await connect(made, made.names.at(-1)!, [keyStream(1, 5_000), keyStream(2, 5_000)]);
    Object.assign(program, { messagesMax: 3, paceMs: 2 });
    let acked = 0;
    program.told = (_, point) => {
      if (point >= 0n) acked++;
    };
    assert.ok(await made.world.runUntil(() => acked > 4, 10_000), said(made));
    made.processes.get(made.names[0]!)!.process.signal("SIGTERM");
    assert.ok(await made.exited(), said(made));
    assert.deepEqual(
      [...made.processes.values()].map(({ status }) => status),
      made.names.map(() => 0),
      said(made),
    );
    program.stop();
    assert.deepEqual(program.violations, []);
    assertOnce(visible(made), `seed ${seed}`);
  }
});
