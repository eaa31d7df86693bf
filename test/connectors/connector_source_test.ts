import assert from "node:assert/strict";
import { test } from "node:test";
import { connectorSource } from "../../src/api/connector_source.ts";
import { Payload } from "../../src/api/payload.ts";
import { Prng } from "../../src/base/prng.ts";
import { ConnectorSourceConnector, type ConnectorSourceOptions } from "../../src/connectors/connector_source.ts";
import { StreamRegistry } from "../../src/protocol/connector/stream_registry.ts";
import type { Conn, Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { type ConnectorFrame, decodeConnectorFrame, encodeConnectorFrame } from "../../src/wire/connector.ts";
import { FrameSplitter } from "../../src/wire/frame.ts";
import { type ClientStream, ConnectorClient } from "../lib/connector_client.ts";
import { realRuntime } from "../lib/real_runtime.ts";
import { CollectedLog } from "./fakes.ts";

const PORT = 7010;
const COOKIE = "s3cret";

interface Values {
  /** What was decoded, in order. */
  readonly values: string[];
}

/** A source, its decoder and its registry, as one worker has them. */
function sourceOf(
  runtime: Runtime,
  log: CollectedLog,
  { values }: Values,
  blocked: () => boolean,
  options: Partial<ConnectorSourceOptions>,
): ConnectorSourceConnector {
  const registry = new StreamRegistry(["w"]);
  const payload = new Payload();
  const definition = connectorSource({
    decode: (body, message) => `${message.stream}/${message.id}/${message.key}:${body.text()}`,
  });
  const source: ConnectorSourceConnector = new ConnectorSourceConnector({
    runtime,
    log,
    name: "numbers",
    cookie: COOKIE,
    maxCredits: 20,
    refillCredits: 10,
    frameBytesMax: 16_384,
    connectionsMax: 8,
    checkpoints: true,
    turn: (run) => run(),
    blocked,
    records: (bytes, { frames, starts, ends, count }) => {
      // As the shell does it.
      definition.message.openChunk(bytes, frames);
      payload.openChunk(bytes);
      for (let i = 0; i < count; i++) {
        payload.openRecord(starts[i]!, ends[i]!);
        values.push(definition.decode(payload)!);
      }
    },
    toRegistry: (request) => {
      const answer = registry.handle("w", request);
      if (answer !== null) source.answered(answer);
    },
    ...options,
  });
  return source;
}

class Bench {
  readonly world: VirtualWorld;
  readonly log = new CollectedLog();
  readonly values: string[] = [];
  blocked = false;
  source!: ConnectorSourceConnector;
  readonly #machine: VirtualHost;
  #hosts = 0;
  #epoch = 0;
  /** Of the last complete checkpoint. */
  saved: { position: unknown; count: number } = { position: null, count: 0 };

  constructor(seed: number, options: Partial<ConnectorSourceOptions> = {}) {
    this.world = new VirtualWorld({ seed });
    this.#machine = this.world.host("worker");
    this.#machine.startProcess(async (runtime) => {
      this.source = sourceOf(runtime, this.log, this, () => this.blocked, options);
      await this.source.listen({ host: "0.0.0.0", port: PORT });
    });
  }

  async listening(open = true): Promise<this> {
    assert.ok(await this.world.runUntil(() => this.source?.address != null, 1_000));
    if (open) this.source.open();
    return this;
  }

  async client(...streams: readonly ClientStream[]): Promise<ConnectorClient> {
    let client: ConnectorClient | null = null;
    this.world.host(`client${++this.#hosts}`).startProcess(async (runtime) => {
      client = new ConnectorClient(runtime, { host: "worker", port: PORT }, { cookie: COOKIE, streams });
      await client.run();
    });
    assert.ok(await this.runUntil(() => client !== null));
    return client!;
  }

  /** A peer that says what it likes, and keeps the frames it hears. */
  stranger(): { write(bytes: Uint8Array): void; readonly heard: ConnectorFrame[]; readonly over: string } {
    const heard: ConnectorFrame[] = [];
    const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
    let over = "";
    let conn: Conn | null = null;
    // One write at a time.
    let written: Promise<void> | null = null;
    const early: Uint8Array[] = [];
    const write = (to: Conn, bytes: Uint8Array) => {
      const next = () => to.write(bytes).catch(() => {});
      written = written === null ? next() : written.then(next);
    };
    this.world.host(`stranger${++this.#hosts}`).startProcess(async ({ net }) => {
      conn = await net.connect({ host: "worker", port: PORT }, { timeoutMs: 5_000 });
      for (const bytes of early) write(conn, bytes);
      try {
        for (;;) {
          const bytes = await conn.read();
          if (bytes === null) break;
          splitter.push(bytes);
          for (let i = 0; i < splitter.count; i++) {
            heard.push(decodeConnectorFrame(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!)));
          }
        }
        over = "ended";
        conn.end();
      } catch {
        over = "cut";
      }
    });
    return {
      write(bytes) {
        if (conn === null) early.push(bytes);
        else write(conn, bytes);
      },
      heard,
      get over() {
        return over;
      },
    };
  }

  checkpoint(): void {
    const epoch = ++this.#epoch;
    this.saved = { position: this.source.checkpoints.snapshot(epoch), count: this.values.length };
    this.source.checkpoints.acknowledge(epoch);
  }

  rollBack(): void {
    this.values.length = this.saved.count;
    this.source.checkpoints.seek(this.saved.position);
  }

  runUntil(condition: () => boolean, limitMs = 10_000): Promise<boolean> {
    return this.world.runUntil(condition, limitMs);
  }
}

function frameBytes(...frames: ConnectorFrame[]): Uint8Array {
  const out = new ByteWriter();
  for (const frame of frames) encodeConnectorFrame(frame, out);
  return out.take();
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const hello = (cookie = COOKIE) =>
  ({ kind: "hello", version: "0.0.1", cookie: utf8(cookie), program: "p", instance: "i" }) as const;

function stream(id: bigint, length: number, ends?: () => boolean): ClientStream {
  const ids = Array.from({ length }, (_, i) => BigInt(i + 1));
  return { id, name: `s${id}`, ids, key: `k${id}`, body: (i) => utf8(`v${i + 1}`), ...(ends && { ends }) };
}

function expected(id: bigint, length: number): string[] {
  return Array.from({ length }, (_, i) => `${id}/${i + 1}/k${id}:v${i + 1}`);
}

test("streams come in with key, id and body, and finish with the checkpoint behind their end", async () => {
  const bench = await new Bench(1).listening();
  const client = await bench.client(stream(7n, 100), stream(8n, 30));
  assert.ok(await bench.runUntil(() => bench.values.length === 130));
  assert.deepEqual(
    bench.values.filter((value) => value.startsWith("7/")),
    expected(7n, 100),
  );
  await bench.world.runFor(50);
  assert.equal(client.finished, false);
  bench.checkpoint();
  assert.ok(await bench.runUntil(() => client.finished, 1_000));
  assert.deepEqual(client.violations, []);
  assert.equal(client.connections, 1);
});

test("nothing is read before open, nor while something behind is blocked", async () => {
  const bench = await new Bench(2).listening(false);
  const client = await bench.client(stream(1n, 50));
  await bench.world.runFor(500);
  assert.equal(client.session?.streaming, false);
  bench.source.open();
  assert.ok(await bench.runUntil(() => bench.values.length > 5));
  bench.blocked = true;
  await bench.world.runFor(100);
  const { length } = bench.values;
  await bench.world.runFor(500);
  assert.equal(bench.values.length, length);
  bench.blocked = false;
  bench.source.resume();
  assert.ok(await bench.runUntil(() => bench.values.length === 50));
});

test("a wrong cookie is told in an ERROR that does not say the right one, and the connection ends in order", async () => {
  const bench = await new Bench(3).listening();
  const stranger = bench.stranger();
  stranger.write(frameBytes(hello("guess")));
  // What follows the refused HELLO is read and dropped, so that no reset overtakes the answer.
  stranger.write(new Uint8Array(100_000));
  assert.ok(await bench.runUntil(() => stranger.over !== "", 3_000));
  assert.deepEqual(stranger.heard, [{ kind: "error", text: "Bad cookie" }]);
  assert.equal(stranger.over, "ended");
  assert.ok(!bench.log.lines.join().includes(COOKIE));
  assert.equal(bench.source.connections, 0);
});

test("a stranger has 5 seconds and 16 KiB for its HELLO, and makes room for clients", async () => {
  const bench = await new Bench(4, { frameBytesMax: 1 << 20, connectionsMax: 2 }).listening();
  const silent = bench.stranger();
  await bench.world.runFor(4_900);
  assert.equal(silent.over, "");
  await bench.world.runFor(200);
  assert.equal(silent.over, "cut");
  const talker = bench.stranger();
  talker.write(Uint8Array.from([0, 1, 0, 0, ...new Uint8Array(20_000)]));
  assert.ok(await bench.runUntil(() => talker.over !== "", 1_000));
  assert.match(bench.log.last("source_frame_too_large"), /its hello has more than 16384 bytes/);
  const first = bench.stranger();
  first.write(frameBytes(hello()));
  await bench.world.runFor(10);
  const second = bench.stranger();
  await bench.world.runFor(10);
  const third = bench.stranger();
  third.write(frameBytes(hello()));
  await bench.world.runFor(10);
  assert.deepEqual([first.over, second.over, third.over], ["", "cut", ""]);
  const fourth = bench.stranger();
  await bench.world.runFor(10);
  assert.notEqual(fourth.over, "");
  assert.match(bench.log.last("source_connection_limit"), /all 2 connections are in use/);
});

test("of those that linger for a reason they may not read, the oldest goes when there are too many", async () => {
  const bench = await new Bench(6, { connectionsMax: 3 }).listening();
  const conns: Conn[] = [];
  for (let count = 0; count < 5; count++) {
    // It does not end its side when it hears the end.
    bench.world.host(`lingerer${count}`).startProcess(async ({ net }) => {
      const conn = await net.connect({ host: "worker", port: PORT }, { timeoutMs: 5_000 });
      await conn.write(frameBytes(hello("guess")));
      conns.push(conn);
    });
    assert.ok(await bench.runUntil(() => conns.length > count));
    await bench.world.runFor(10);
  }
  const cut: boolean[] = [];
  for (const conn of conns) {
    // The first may still be taken by its own side, and is answered by a reset.
    await bench.world.drive(conn.write(Uint8Array.of(0)).catch(() => {}));
    await bench.world.runFor(10);
    const written = conn.write(Uint8Array.of(0));
    cut.push(
      await bench.world.drive(
        written.then(
          () => false,
          () => true,
        ),
      ),
    );
  }
  assert.deepEqual(cut, [true, true, false, false, false]);
});

test("a frame over the limit costs its connection, without a word", async () => {
  const bench = await new Bench(5).listening();
  const stranger = bench.stranger();
  stranger.write(frameBytes(hello()));
  stranger.write(Uint8Array.from([0, 0, 0x40, 1, 5]));
  assert.ok(await bench.runUntil(() => stranger.over !== "", 1_000));
  // A reset may overtake the OK.
  for (const { kind } of stranger.heard) assert.equal(kind, "ok");
});

test("a rollback tells clients to start again at our address, and what was not covered comes once more", async () => {
  const bench = await new Bench(6).listening();
  let ends = false;
  const watcher = bench.stranger();
  watcher.write(frameBytes(hello()));
  const newcomer = bench.stranger();
  assert.ok(await bench.runUntil(() => watcher.heard.length === 1 && bench.source.connections === 2));
  const client = await bench.client(stream(1n, 60, () => ends));
  client.messagesMax = 3;
  assert.ok(await bench.runUntil(() => bench.values.length >= 20));
  bench.checkpoint();
  assert.ok(await bench.runUntil(() => bench.values.length >= 40));
  bench.rollBack();
  assert.ok(await bench.runUntil(() => watcher.over !== "", 3_000));
  const address = watcher.heard.at(-1);
  assert.ok(address?.kind === "restart");
  assert.match(address.address, /^10\.0\.0\.1:7010$/);
  assert.equal(newcomer.over, "");
  assert.ok(await bench.runUntil(() => client.restarts === 1 && bench.values.length === 60));
  ends = true;
  await bench.world.runFor(20);
  bench.checkpoint();
  assert.ok(await bench.runUntil(() => client.finished));
  assert.deepEqual(bench.values, expected(1n, 60));
  assert.deepEqual(client.violations, []);
});

test("whoever is refused is reminded until the stream is free", async () => {
  const bench = await new Bench(7).listening();
  const owner = bench.stranger();
  owner.write(frameBytes(hello(), { kind: "notify", stream: 1n, name: utf8("s"), point: 0n }));
  await bench.world.runFor(50);
  const client = await bench.client(stream(1n, 5));
  await bench.world.runFor(3_500);
  assert.notEqual(client.session?.phaseOf(1n), "open");
  assert.ok(Number(bench.source.status()["streams_refused"]) >= 3);
  owner.write(frameBytes({ kind: "error", text: "bye" }));
  assert.ok(await bench.runUntil(() => bench.values.length === 5, 3_000));
});

test("after close nothing is taken in; the last checkpoint is still acknowledged", async () => {
  const bench = await new Bench(8).listening();
  const ended = await bench.client(stream(1n, 10));
  const endless = await bench.client(stream(2n, 100_000));
  assert.ok(await bench.runUntil(() => bench.values.length > 100));
  bench.source.close(true);
  const { length } = bench.values;
  await bench.world.runFor(100);
  bench.checkpoint();
  assert.ok(await bench.runUntil(() => ended.finished, 1_000));
  assert.equal(bench.values.length, length);
  bench.source.close(true);
  endless.stop();
  await bench.world.runFor(2_000);
  assert.deepEqual([...ended.violations, ...endless.violations], []);
});

test("without checkpoints an end of stream is acknowledged at once, and close lets clients go", async () => {
  const bench = await new Bench(9, { checkpoints: false }).listening();
  const client = await bench.client(stream(1n, 10));
  assert.ok(await bench.runUntil(() => client.finished, 1_000));
  const other = await bench.client(stream(2n, 10, () => false));
  assert.ok(await bench.runUntil(() => bench.values.length === 20, 1_000));
  bench.source.close(true);
  assert.ok(await bench.runUntil(() => !other.session?.over && other.connections === 1, 1_000));
  await bench.world.runFor(1_500);
  assert.equal(bench.source.connections, 0);
  other.stop();
});

test("a client that does not read what it is told is left, and memory stays bounded", async () => {
  const bench = await new Bench(10, { maxCredits: 4, refillCredits: 4 }).listening();
  bench.world.host("deaf").startProcess(async ({ net, clock }) => {
    const conn = await net.connect({ host: "worker", port: PORT }, { timeoutMs: 5_000 });
    await conn.write(frameBytes(hello()));
    const refused = frameBytes({ kind: "notify", stream: 1n, name: utf8("s"), point: 0n });
    // Each is answered with 22 bytes; nothing is ever read.
    const many = new Uint8Array(refused.length * 2_000);
    for (let i = 0; i < 2_000; i++) many.set(refused, i * refused.length);
    for (;;) {
      await conn.write(many);
      await new Promise<void>((resolve) => clock.startTimer(1, resolve));
    }
  });
  assert.ok(await bench.runUntil(() => bench.log.count("source_client_stuck") === 1, 60_000));
  assert.equal(bench.source.connections, 0);
});

for (let seed = 1; seed <= 12; seed++) {
  test(`each message is processed once, with cuts, restarts and rollbacks at random (seed ${seed})`, async () => {
    const prng = new Prng(seed, "connector source");
    const bench = await new Bench(seed, { maxCredits: 1 + prng.int(30), refillCredits: prng.int(2) }).listening();
    const lengths = [40, 200, 0, 90];
    const clients = [
      await bench.client(stream(1n, lengths[0]!), stream(2n, lengths[1]!)),
      await bench.client(stream(3n, lengths[2]!), stream(4n, lengths[3]!)),
    ];
    for (const client of clients) {
      client.messagesMax = 1 + prng.int(3);
      client.paceMs = prng.between(2, 12);
    }
    for (let fault = 0; fault < 30; fault++) {
      await bench.world.runFor(prng.between(1, 120));
      switch (prng.int(6)) {
        case 0:
          bench.world.network.cut(({ port }) => port === PORT && prng.chance(2));
          break;
        case 1:
          clients[prng.int(2)]!.forget();
          break;
        case 2:
          bench.rollBack();
          break;
        default:
          bench.checkpoint();
      }
      bench.blocked = prng.chance(8);
      bench.source.resume();
    }
    bench.blocked = false;
    for (let round = 0; round < 200 && !clients.every(({ finished }) => finished); round++) {
      bench.source.resume();
      await bench.world.runFor(200);
      bench.checkpoint();
    }
    assert.ok(clients.every(({ finished }) => finished));
    for (const { violations } of clients) assert.deepEqual(violations, []);
    for (const [i, length] of lengths.entries()) {
      const id = BigInt(i + 1);
      const got = bench.values.filter((value) => value.startsWith(`${id}/`));
      assert.deepEqual(got, expected(id, length));
    }
  });
}

test("over real sockets", async () => {
  const runtime = await realRuntime();
  const log = new CollectedLog();
  const values: string[] = [];
  const source = sourceOf(runtime, log, { values }, () => false, {});
  await source.listen({ host: "127.0.0.1", port: 0 });
  source.open();
  let ended = false;
  const client = new ConnectorClient(runtime, source.address!, {
    cookie: COOKIE,
    streams: [stream(1n, 500, () => ended)],
  });
  const running = client.run();
  const until = async (condition: () => boolean) => {
    for (let i = 0; i < 12_000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.ok(condition());
  };
  await until(() => values.length >= 100);
  const position = source.checkpoints.snapshot(1);
  const { length } = values;
  source.checkpoints.acknowledge(1);
  await until(() => values.length > length);
  values.length = length;
  source.checkpoints.seek(position);
  await until(() => values.length === 500);
  ended = true;
  await until(() => client.session?.phaseOf(1n) === "ended");
  let epoch = 1;
  await until(() => {
    source.checkpoints.snapshot(++epoch);
    source.checkpoints.acknowledge(epoch);
    return client.finished;
  });
  await running;
  assert.deepEqual(values, expected(1n, 500));
  assert.deepEqual(client.violations, []);
  source.close(true);
  source.close(true);
});
