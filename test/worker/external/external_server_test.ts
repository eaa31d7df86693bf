import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Log } from "../../../src/base/log.ts";
import type { Address, Runtime } from "../../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../../src/runtime/virtual/host.ts";
import { VirtualWorld } from "../../../src/runtime/virtual/world.ts";
import { encodeExternal } from "../../../src/wire/external.ts";
import type { ResendOutcome } from "../../../src/wire/resend.ts";
import { ExternalServer } from "../../../src/worker/external/external_server.ts";
import type {
  ClusterEntityCounts,
  ClusterStatus,
  ExternalHandler,
  StopEvent,
} from "../../../src/worker/external/handler.ts";
import { fromHex, joined, request, Tool } from "./tool.ts";

class FakeWorker implements ExternalHandler {
  readonly worker = "initializer";
  readonly heard: string[] = [];
  status: ClusterStatus = {
    ready: true,
    worker_count: 3,
    worker_names: ["initializer", "worker1", "__proto__"],
    processing_messages: true,
  };
  keys: readonly string[] = ["a", 'quote"back\\slash', "ü"];
  /** Of questions to the cluster, until a test answers them. */
  readonly open: ((counts: ClusterEntityCounts) => void)[] = [];
  report: (event: StopEvent) => void = () => {};

  clusterStatus(): ClusterStatus {
    return this.status;
  }
  partitions() {
    const of = (id: string) => new Map([[id, new Map([["initializer", ["11", "12"]]])]]);
    return { state: of("1"), stateless: of("2") };
  }
  sourceIds(): string[] {
    return ["7", "8"];
  }
  stateEntities(): Map<string, readonly string[]> {
    this.heard.push("state_entities");
    return new Map([
      ["1", this.keys],
      ["3", []],
    ]);
  }
  stateEntityCounts(): Map<string, number> {
    return new Map([
      ["1", 3],
      ["3", 0],
    ]);
  }
  clusterStateEntityCounts(answer: (counts: ClusterEntityCounts) => void): void {
    this.open.push(answer);
  }
  resend(batch: Uint8Array, answer: (outcome: ResendOutcome) => void): void {
    this.heard.push(`resend ${batch.length}`);
    answer({ taken: [0], left: [], unsure: [], epoch: 7 });
  }
  rotateLog(worker: string): void {
    this.heard.push(`rotate ${worker}`);
  }
  print(text: string): void {
    this.heard.push(`print ${text}`);
  }
  reportStatus(code: string): void {
    this.heard.push(`report ${code}`);
  }
  stop(reason: string, keep: boolean, report: (event: StopEvent) => void): void {
    this.heard.push(`${keep ? "suspend" : "stop"} ${reason}`);
    this.report = report;
  }
  richStatus(answer: (status: unknown) => void): void {
    answer({ rich: true });
  }
  checkpoint(answer: (epoch: number, reason: string) => void): void {
    answer(0, "none today");
  }
}

interface Scene {
  readonly world: VirtualWorld;
  readonly worker: FakeWorker;
  readonly server: ExternalServer;
  readonly address: Address;
  readonly log: string[];
  readonly machine: VirtualHost;
  readonly runtime: Runtime;
  connect(options?: { read?: boolean; from?: Runtime }): Promise<Tool>;
}

async function scene(seed = 1): Promise<Scene> {
  const world = new VirtualWorld({ seed });
  const worker = new FakeWorker();
  const log: string[] = [];
  const write = (code: string, text: string) => void log.push(`${code} ${text}`);
  const collect: Log = { debug: write, info: write, warn: write, error: write };
  const serving = world.host("worker").startProcess((runtime) => {
    runtime.host.onUncaught((error) => {
      throw error;
    });
  });
  const server = new ExternalServer({
    runtime: serving.runtime,
    limits: { externalConnections: 32, externalFrameBytes: 16_384 },
    log: collect,
    handler: worker,
  });
  const bound = await world.drive(server.listen({ host: "0.0.0.0", port: 5050 }));
  assert.equal(bound.port, 5050);
  const address = { host: "worker", port: 5050 };
  const machine = world.host("tools");
  const runtime = machine.startProcess(() => {}).runtime;
  return {
    world,
    worker,
    server,
    address,
    log,
    machine,
    runtime,
    connect: ({ read = true, from = runtime } = {}) => world.drive(Tool.connect(from, address, { read })),
  };
}

/** Sends and waits for so many answers, or the end. */
async function ask(at: Scene, bytes: Uint8Array, answers: number): Promise<Tool> {
  const tool = await at.connect();
  await at.world.drive(tool.conn.write(bytes));
  await at.world.runUntil(() => tool.frames.length >= answers || tool.closed !== null, 10_000);
  return tool;
}

test("ExternalServer answers every query with the id and the shape of old", async () => {
  const at = await scene();
  const steps = { "1": { initializer: ["11", "12"] } };
  const stateless = { "2": { initializer: ["11", "12"] } };
  const expected: [number, number, unknown][] = [
    [7, 8, { state_partitions: steps, stateless_partitions: stateless }],
    [9, 10, { worker_count: 3, worker_names: ["initializer", "worker1", "__proto__"], processing_messages: true }],
    [12, 13, { state_partitions: { "1": { initializer: 2 } }, stateless_partitions: { "2": { initializer: 2 } } }],
    [14, 15, { source_ids: ["7", "8"] }],
    [17, 18, { "1": ["a", 'quote"back\\slash', "ü"], "3": [] }],
    [19, 20, stateless],
    [21, 22, { "1": 3, "3": 0 }],
    [23, 24, { "2": { initializer: 2 } }],
    [1003, 1004, { rich: true }],
  ];
  for (const [asked, answered, body] of expected) {
    const tool = await ask(at, request(asked), 1);
    assert.deepEqual(tool.ids, [answered]);
    assert.deepEqual(tool.json(0), body);
    assert.equal(/\s/.test(tool.text(0)), false);
    tool.conn.abort();
  }
});

test("ExternalServer answers a count over the cluster when it is known, and without it when it stays unknown", async () => {
  const at = await scene();
  const tool = await ask(at, request(25), 0);
  await at.world.runUntil(() => at.worker.open.length === 1, 1_000);
  at.worker.open[0]!(new Map([["__proto__", new Map([["1", new Map([["11", 4]])]])]]));
  await at.world.runUntil(() => tool.frames.length === 1, 1_000);
  assert.equal(tool.text(0), '{"__proto__":{"1":{"11":4}}}');

  await at.world.drive(tool.conn.write(joined(request(25), request(9))));
  assert.equal(await at.world.runUntil(() => tool.frames.length === 3, 6_000), true);
  assert.deepEqual(tool.ids, [26, 26, 10]);
  assert.equal(tool.text(1), "{}");
  at.worker.open[1]!(new Map());
  await at.world.runFor(1_000);
  assert.equal(tool.frames.length, 3);
});

test("ExternalServer says that nothing is known yet instead of waiting", async () => {
  const at = await scene();
  at.worker.status = { ready: false };
  const shrink = '{"query":true,"node_names":[],"node_count":0}';
  const tool = await ask(at, joined(request(9), request(4, shrink)), 2);
  assert.deepEqual(tool.ids, [11, 6]);
  assert.equal(tool.text(0), "");
  assert.match(tool.text(1), /not ready to work yet/);
});

test("ExternalServer refuses to shrink with a reason, says who could leave, and passes on whose log to rotate", async () => {
  const at = await scene();
  const query = '{"query":true,"node_names":[],"node_count":0}';
  const order = '{"query":false,"node_names":["worker1"],"node_count":0}';
  const bytes = joined(request(4, query), request(4, order), request(2, "worker1"), request(2, "nobody"), request(9));
  const tool = await ask(at, bytes, 3);
  assert.deepEqual(tool.ids, [5, 6, 10]);
  assert.deepEqual(tool.json(0), { node_names: ["worker1", "__proto__"], node_count: 2 });
  assert.match(tool.text(1), /later release/);
  assert.deepEqual(at.worker.heard, ["rotate worker1", "rotate nobody"]);
});

test("ExternalServer answers in order, whatever pieces the requests come in", async () => {
  const at = await scene();
  const tool = await at.connect();
  const bytes = joined(request(9), fromHex("00000000"), request(25), request(14), request(1, "Größe"), request(17));
  for (const byte of bytes) {
    await at.world.drive(tool.conn.write(Uint8Array.of(byte)));
    await at.world.runFor(20);
  }
  assert.deepEqual(tool.ids, [10], "the answers behind an open one wait");
  at.worker.open[0]!(new Map());
  await at.world.runUntil(() => tool.frames.length === 4, 1_000);
  assert.deepEqual(tool.ids, [10, 26, 15, 18]);
  assert.deepEqual(at.worker.heard, ["print Größe", "state_entities"]);
});

test("ExternalServer acts on what came from a client that has closed its side, and answers it", async () => {
  const at = await scene();
  const tool = await at.connect();
  await at.world.drive(tool.conn.write(joined(request(1, "hello"), request(25), request(9))));
  tool.conn.end();
  await at.world.runUntil(() => at.worker.open.length === 1, 1_000);
  await at.world.runFor(500);
  assert.equal(tool.closed, null);
  at.worker.open[0]!(new Map());
  await at.world.runUntil(() => tool.closed !== null, 3_000);
  assert.deepEqual(tool.ids, [26, 10]);
  assert.equal(tool.closed, "ended");
  assert.deepEqual(at.worker.heard, ["print hello"]);
});

test("ExternalServer stops the cluster for a tool that leaves at once", async () => {
  const at = await scene();
  const tool = await at.connect({ read: false });
  await at.world.drive(tool.conn.write(request(3, "maintenance")));
  tool.conn.end();
  assert.equal(await at.world.runUntil(() => at.worker.heard.includes("stop maintenance"), 1_000), true);
});

test("ExternalServer reports a stop to the end, and close() lets the last words arrive", async () => {
  const at = await scene();
  const tool = await ask(at, request(1001, ""), 0);
  await at.world.runUntil(() => at.worker.heard.length > 0, 1_000);
  at.worker.report({ kind: "stopping", reason: "asked", workers: ["initializer", "worker1"] });
  at.worker.report({ kind: "stopped", worker: "worker1", complete: false, leftBehind: "3 batches" });
  // Longer than anything else may take.
  await at.world.runFor(9_000);
  at.worker.report({ kind: "finished", complete: false });
  await at.world.drive(at.server.close(), 2_000);
  await at.world.runUntil(() => tool.closed !== null, 1_000);
  assert.equal(tool.closed, "ended");
  assert.deepEqual(tool.ids, [1002, 1002, 1002, 1002]);
  assert.deepEqual(
    tool.frames.map((_, index) => tool.json(index)),
    [
      { worker: "initializer", status: "draining", detail: "asked" },
      { worker: "worker1", status: "draining", detail: "asked" },
      { worker: "worker1", status: "incomplete", detail: "3 batches" },
      { done: true, ok: false },
    ],
  );
  await assert.rejects(at.world.drive(Tool.connect(at.runtime, at.address)));
});

test("ExternalServer.close() does not wait longer than a second for anybody", async () => {
  const at = await scene();
  await ask(at, request(25), 0);
  const mute = await at.connect({ read: false });
  await at.world.runFor(100);
  const before = at.world.now();
  await at.world.drive(at.server.close(), 2_000);
  assert.ok(at.world.now() - before <= 1_100);
  void mute;
});

test("ExternalServer does what the vectors say with messages that mean nothing, and keeps the connection", async () => {
  const at = await scene();
  const path = join(import.meta.dirname, "../../vectors/external.json");
  const vectors = JSON.parse(readFileSync(path, "utf8")) as {
    name: string;
    hex: string;
    malformed?: boolean;
    decoded: { outcome?: string };
  }[];
  const malformed = vectors.filter((vector) => vector.malformed);
  assert.ok(malformed.length >= 10);
  for (const { name, hex, decoded } of malformed) {
    const tool = await at.connect();
    await at.world.drive(tool.conn.write(fromHex(hex)));
    await at.world.runFor(200);
    if (decoded.outcome === "close") assert.notEqual(tool.closed, null, name);
    else if (decoded.outcome === "skip") {
      await at.world.drive(tool.conn.write(request(14)));
      await at.world.runUntil(() => tool.ids.includes(15), 1_000);
      assert.equal(tool.ids.at(-1), 15, name);
      assert.equal(tool.closed, null, name);
    } else {
      tool.conn.end();
      await at.world.runUntil(() => tool.closed !== null, 3_000);
      assert.deepEqual(tool.ids, [], name);
    }
    tool.conn.abort();
  }
  assert.ok(at.server.counts.faults >= 6);
});

test("ExternalServer takes a message of 16,384 bytes and closes at the header of a longer one, with earlier answers sent", async () => {
  const at = await scene();
  const longest = await ask(at, joined(request(1, "x".repeat(16_382)), request(9)), 1);
  assert.deepEqual(longest.ids, [10]);
  const tooLong = await ask(at, joined(request(9), request(1, "x".repeat(16_383)).subarray(0, 6)), 2);
  await at.world.runUntil(() => tooLong.closed !== null, 3_000);
  assert.deepEqual(tooLong.ids, [10]);
  const http = await ask(at, new TextEncoder().encode("GET / HTTP/1.1\r\nHost: worker\r\n\r\n"), 1);
  assert.notEqual(http.closed, null);
  assert.match(at.log.at(-1)!, /announced a message of 1195725856 bytes, and 16384 is the most/);
});

test("ExternalServer closes who sends no complete request in five seconds, one byte a second too", async () => {
  const at = await scene();
  const silent = await at.connect();
  const slow = await at.connect();
  const empty = await at.connect();
  for (let second = 0; second < 4; second++) {
    await at.world.drive(slow.conn.write(Uint8Array.of(0)));
    await at.world.drive(empty.conn.write(new Uint8Array(4)));
    await at.world.runFor(1_000);
  }
  assert.deepEqual([silent.closed, slow.closed, empty.closed], [null, null, null]);
  await at.world.runFor(2_000);
  for (const tool of [silent, slow, empty]) assert.notEqual(tool.closed, null);
});

test("ExternalServer closes an idle connection after a minute, and not one that waits for the end of the cluster", async () => {
  const at = await scene();
  const idle = await ask(at, request(9), 1);
  const waiting = await ask(at, request(1001), 0);
  await at.world.runFor(55_000);
  assert.equal(idle.closed, null);
  await at.world.runFor(10_000);
  assert.notEqual(idle.closed, null);
  await at.world.runFor(600_000);
  assert.equal(waiting.closed, null);
});

test("ExternalServer keeps a place for who speaks among thousands who do not", async () => {
  const at = await scene();
  const working = await ask(at, request(9), 1);
  for (let round = 0; round < 50; round++) {
    const machine = at.world.host(`stranger${round}`);
    const from = machine.startProcess(() => {}).runtime;
    for (let i = 0; i < 40; i++) await at.connect({ from, read: false });
  }
  const tool = await ask(at, request(9), 1);
  assert.deepEqual(tool.ids, [10]);
  await at.world.drive(working.conn.write(request(14)));
  await at.world.runUntil(() => working.frames.length === 2, 1_000);
  assert.deepEqual(working.ids, [10, 15]);
  assert.ok(at.server.counts.closed > 1_900);
  assert.ok(at.log.length < 30, `${at.log.length} lines`);
});

test("ExternalServer refuses one connection too many when all the others wait for answers", async () => {
  const at = await scene();
  const tools: Tool[] = [];
  for (let i = 0; i < 32; i++) tools.push(await ask(at, request(1001), 0));
  await at.world.runFor(10);
  // It may be closed before it knows that it was connected.
  await at.connect().catch(() => {});
  await at.world.runUntil(() => at.server.counts.closed === 1, 1_000);
  assert.equal(at.server.counts.closed, 1);
  assert.ok(tools.every((tool) => tool.closed === null));
});

test("ExternalServer closes the oldest that waits for nothing when all places are taken", async () => {
  const at = await scene();
  const waiting = await ask(at, request(1001), 0);
  await at.world.runFor(10);
  const tools: Tool[] = [];
  for (let i = 0; i < 31; i++) tools.push(await ask(at, request(9), 1));
  assert.deepEqual((await ask(at, request(9), 1)).ids, [10]);
  await at.world.runUntil(() => tools[0]!.closed !== null, 1_000);
  assert.deepEqual(
    tools.map((tool) => tool.closed !== null),
    tools.map((_, place) => place === 0),
  );
  assert.equal(waiting.closed, null);
});

test("ExternalServer holds a bounded amount for a client that does not read, and cuts it off", async () => {
  const at = await scene();
  at.worker.keys = ["k".repeat(1_000_000)];
  const greedy = await at.connect({ read: false });
  const bytes = joined(...Array.from({ length: 2_000 }, () => request(17)));
  void greedy.conn.write(bytes).catch(() => {});
  await at.world.runFor(5_000);
  const asked = at.worker.heard.length;
  assert.ok(asked < 30, `${asked} answers of a megabyte were made`);
  await at.world.runFor(10_000);
  assert.equal(at.worker.heard.length, asked);
  assert.match(at.log.at(-1)!, /it took nothing of its answer for 10 s/);
  // Who reads gets all of it.
  at.worker.heard.length = 0;
  const reader = await at.connect();
  void reader.conn.write(joined(...Array.from({ length: 40 }, () => request(17))));
  await at.world.runUntil(() => reader.frames.length === 40, 60_000);
  assert.equal(reader.frames.length, 40);
});

test("ExternalServer survives random bytes on many connections", async () => {
  const seed = Date.now() % 1_000_000;
  console.log(`seed ${seed}`);
  const at = await scene(seed);
  const random = at.world.stream("garbage");
  for (let i = 0; i < 300; i++) {
    const tool = await at.connect();
    const body = random.bytes(random.int(60));
    const framed = random.int(2) === 0;
    const bytes = framed ? joined(Uint8Array.of(0, 0, 0, body.length), body) : body;
    await at.world.drive(tool.conn.write(bytes).catch(() => {}));
    if (random.int(2) === 0) tool.conn.abort();
    else tool.conn.end();
    await at.world.runFor(10);
  }
  assert.deepEqual((await ask(at, request(9), 1)).ids, [10]);
});

test("a batch of dead letters comes in pieces, in order, and is answered behind the last", async () => {
  const { world, worker, connect } = await scene();
  const piece = (total: number, at: number, length: number) =>
    encodeExternal({ kind: "letters_resend", total, at, piece: new Uint8Array(length) });
  const tool = await connect();
  await world.drive(tool.conn.write(joined(piece(30, 0, 10), piece(30, 10, 15), piece(30, 25, 5))));
  await world.runUntil(() => tool.frames.length === 1, 5_000);
  assert.deepEqual(worker.heard, ["resend 30"]);
  assert.deepEqual(tool.json(0), { taken: [0], left: [], unsure: [], epoch: 7 });
  // A gap; more than all may have us hold; more than was announced, which is no message at all.
  await world.drive(tool.conn.write(joined(piece(30, 0, 10), piece(30, 11, 19))));
  await world.runUntil(() => tool.frames.length === 2, 5_000);
  assert.match(tool.text(1), /a piece is missing/);
  const others = [await connect(), await connect(), await connect(), await connect()];
  for (const other of others) await world.drive(other.conn.write(piece(3 << 20, 0, 9)));
  await world.runFor(100);
  await world.drive(tool.conn.write(piece(9, 0, 9)));
  await world.runUntil(() => tool.frames.length === 3, 5_000);
  assert.match(tool.text(2), /others send as much as can be held/);
  for (const other of others) other.conn.abort();
  await world.runFor(100);
  await world.drive(tool.conn.write(joined(piece(9, 0, 10), piece((3 << 20) + 1, 0, 9), piece(9, 0, 9))));
  await world.runUntil(() => tool.frames.length === 4, 5_000);
  assert.deepEqual(worker.heard, ["resend 30", "resend 9"]);
});
