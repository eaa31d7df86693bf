/** Connector sources on whole virtual clusters: programs that come, go and change workers, and machines that die. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, connectorSource, fileSink, source, tcpSink } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { type ClientStream, ConnectorClient } from "../lib/connector_client.ts";
import { PORTS, VirtualCluster } from "../lib/virtual_cluster.ts";

const OUTPUT = "/data/counts";
const COOKIE = "s3cret";

interface Counted {
  readonly key: string;
  readonly value: number;
  /** Of the key, from 1. */
  readonly n: number;
}

/** Body: `key value`. Output: how many records of its key there were, with this one. */
function counting(toFiles: boolean): Application {
  return application("Counting", () => {
    const counted = source(
      "numbers",
      connectorSource({
        decode: (payload) => {
          const [key = "", value = ""] = payload.text().split(" ");
          return { key, value: Number(value) };
        },
        cookie: "not this one",
      }),
    )
      .keyBy((record) => record.key)
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply: ({ key, value }, state): Counted => ({ key, value, n: ++state.n }),
      });
    const encode = (line: Counted) => `${JSON.stringify(line)}\n`;
    return counted.toSink(toFiles ? fileSink({ directory: OUTPUT, encode }) : tcpSink({ encode }));
  });
}

function cluster(seed: number, workers: number, intervalMs: number | null): VirtualCluster {
  const toFiles = intervalMs !== null;
  return new VirtualCluster({
    seed,
    workers,
    application: () => counting(toFiles),
    config: {
      inputs: new Map([
        [
          "numbers",
          {
            host: "0.0.0.0",
            port: PORTS.source,
            frameBytesMax: null,
            connector: { cookie: COOKIE, maxCredits: 67, refillCredits: 10 },
          },
        ],
      ]),
      ...(toFiles ? { outputs: [] } : {}),
      checkpoints: { ...NO_CHECKPOINTS, intervalMs },
    },
  });
}

async function client(made: VirtualCluster, to: string, streams: readonly ClientStream[]): Promise<ConnectorClient> {
  let found: ConnectorClient | null = null;
  made.world.host(`client${++clients}`).startProcess(async (runtime) => {
    found = new ConnectorClient(runtime, { host: to, port: PORTS.source }, { cookie: COOKIE, streams });
    await found.run();
  });
  assert.ok(await made.world.runUntil(() => found !== null, 1_000));
  return found!;
}

let clients = 0;

/** Records 1 to `count` of one key. */
function stream(id: number, count: number, more: Partial<ClientStream> = {}): ClientStream {
  return {
    id: BigInt(id),
    name: `key${id}`,
    // With gaps, from 0.
    ids: Array.from({ length: count }, (_, i) => BigInt(i * 3)),
    body: (index) => new TextEncoder().encode(`key${id} ${index + 1}`),
    ...more,
  };
}

/** What is visible, each worker's files in the order of their names. */
function visible(made: VirtualCluster): Counted[] {
  return made.names.flatMap((name) => {
    const { disk } = made.machines.get(name)!;
    return disk
      .paths()
      .filter((path) => path.startsWith(`${OUTPUT}/`) && !path.endsWith("/") && !path.startsWith(`${OUTPUT}/.`))
      .flatMap((path) => new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1))
      .map((line) => JSON.parse(line) as Counted);
  });
}

/** Every key has each value once, in order, and was counted so. */
function assertOnce(lines: readonly Counted[], why: string): number {
  const seen = new Map<string, number>();
  for (const { key, value, n } of lines) {
    const next = (seen.get(key) ?? 0) + 1;
    assert.deepEqual({ key, value, n }, { key, value: next, n: next }, why);
    seen.set(key, next);
  }
  return lines.length;
}

function said(made: VirtualCluster): string {
  return [...made.processes.values()]
    .flatMap((worker) => [worker.name, ...worker.lines.slice(-15), String(worker.error)])
    .join("\n");
}

test("connector programs are processed once, whoever dies, reconnects and changes workers", async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const workers = 1 + (seed % 3);
    const made = cluster(seed, workers, seed % 2 === 0 ? 50 : 400);
    const random = made.world.stream("faults");
    const count = 400;
    made.startAll();
    assert.ok(await made.working(), `seed ${seed}\n${said(made)}`);
    const programs: ConnectorClient[] = [];
    for (const at of [0, 3, 6]) {
      const streams = [at, at + 1, at + 2].map((id) => stream(id, count));
      programs.push(await client(made, made.names[random.int(workers)]!, streams));
    }
    // So that all takes a while.
    for (const program of programs) Object.assign(program, { messagesMax: 3, paceMs: 5 });
    for (let round = 0; round < 6; round++) {
      await made.world.runFor(random.between(20, 250));
      for (const program of programs) {
        if (!random.chance(2)) continue;
        program.address = { host: made.names[random.int(workers)]!, port: PORTS.source };
        if (random.chance(2)) program.forget();
        else program.cut();
      }
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

test("what was acknowledged is there when everything loses power at that very moment and no program ever comes back", async () => {
  let acks = 0;
  for (let seed = 1; seed <= 100; seed++) {
    const workers = 1 + (seed % 3);
    const made = cluster(seed, workers, 20);
    made.startAll();
    assert.ok(await made.working(), said(made));
    const programs: ConnectorClient[] = [];
    for (const id of [1, 2]) programs.push(await client(made, made.names[id % workers]!, [stream(id, 800)]));
    const acknowledged = new Map<bigint, bigint>();
    let left = 1 + made.world.stream("power").int(10);
    for (const program of programs) {
      Object.assign(program, { messagesMax: 3, paceMs: 2 });
      program.told = (id, point) => {
        if (left === 0 || point < 0n) return;
        acknowledged.set(id, point);
        acks++;
        if (--left > 0) return;
        for (const machine of made.machines.values()) machine.powerLoss();
        for (const each of programs) each.stop();
      };
    }
    assert.ok(await made.world.runUntil(() => left === 0, 10_000), said(made));
    for (const machine of made.machines.values()) machine.powerOn();
    made.startAll();
    assert.ok(await made.working(), `seed ${seed}\n${said(made)}`);
    const lost = () => {
      const lines = visible(made);
      return [...acknowledged].filter(([id, point]) => {
        const value = Number(point) / 3 + 1;
        return !lines.some((line) => line.key === `key${id}` && line.value === value);
      });
    };
    await made.world.runUntil(() => made.world.steps % 100 === 0 && lost().length === 0, 5_000);
    assert.deepEqual(lost(), [], `seed ${seed}\n${said(made)}`);
    assertOnce(visible(made), `seed ${seed}`);
  }
  assert.ok(acks > 200, `${acks} acknowledgements`);
});

test("a stream is one worker's: others refuse it until it is released and covered", async () => {
  const made = cluster(1, 3, 200);
  made.startAll();
  assert.ok(await made.working(), said(made));
  let ends = false;
  const first = await client(made, "w1", [stream(1, 50, { ends: () => ends })]);
  assert.ok(await made.world.runUntil(() => first.session?.phaseOf(1n) === "open", 5_000), said(made));
  const second = await client(made, "w2", [stream(1, 80)]);
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
  const made = cluster(6, 2, 2_000);
  made.startAll();
  assert.ok(await made.working(), said(made));
  const program = await client(made, "w1", [stream(1, 90)]);
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

test("nothing is acknowledged before its checkpoint is complete", async () => {
  // Checkpoints are rare, so that it would be seen.
  const made = cluster(2, 2, 2_000);
  made.startAll();
  assert.ok(await made.working(), said(made));
  const program = await client(made, "w1", [stream(1, 60)]);
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

test("without checkpoints an end is acknowledged at once, and streams move when they are released", async () => {
  const made = cluster(3, 3, null);
  made.startAll();
  assert.ok(await made.working(), said(made));
  let ends = false;
  const first = await client(made, "w1", [stream(1, 30, { ends: () => ends })]);
  assert.ok(await made.world.runUntil(() => first.session?.phaseOf(1n) === "open", 5_000), said(made));
  const second = await client(made, "w2", [stream(1, 60)]);
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
  const made = cluster(4, 3, null);
  made.startAll();
  assert.ok(await made.working(), said(made));
  const first = await client(made, "w1", [stream(1, 30, { ends: () => false })]);
  const other = await client(made, "w2", [stream(2, 30, { ends: () => false })]);
  const open = () => first.session?.phaseOf(1n) === "open" && other.session?.phaseOf(2n) === "open";
  assert.ok(await made.world.runUntil(open, 5_000), said(made));
  made.processes.get("initializer")!.process.kill();
  made.start("initializer");
  assert.ok(await made.working(), said(made));
  const taker = await client(made, "initializer", [stream(1, 30), stream(2, 30)]);
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
  const made = cluster(5, 1, 200);
  made.startAll();
  assert.ok(await made.working(), said(made));
  let wrong: ConnectorClient | null = null;
  made.world.host("stranger").startProcess(async (runtime) => {
    wrong = new ConnectorClient(
      runtime,
      { host: "initializer", port: PORTS.source },
      { cookie: "gu3ssed", streams: [stream(1, 1)] },
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
    const made = cluster(seed, 1 + (seed % 3), 100);
    made.startAll();
    assert.ok(await made.working(), said(made));
    const program = await client(made, made.names.at(-1)!, [stream(1, 5_000), stream(2, 5_000)]);
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
