import assert from "node:assert/strict";
import { test } from "node:test";
import type { Vote } from "../../src/connectors/connector.ts";
import { ConnectorSinkConnector } from "../../src/connectors/connector_sink.ts";
import { type Conn, NetError } from "../../src/runtime/runtime.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import {
  type ConnectorFrame,
  decodeConnectorFrame,
  decodeTransactionMessage,
  encodeConnectorFrame,
  encodeTransactionMessage,
  type TransactionMessage,
} from "../../src/wire/connector.ts";
import { FrameSplitter } from "../../src/wire/frame.ts";
import { CollectedLog, FakeConn, fakeRuntime, ManualClock, recordsOf, settled } from "./fakes.ts";

const OUTPUT = "app-w-w1-id-7";

/** A sink whose connections are in the test's hands. */
class Bench {
  readonly clock = new ManualClock();
  readonly log = new CollectedLog();
  readonly conns: FakeConn[] = [];
  readonly votes: string[] = [];
  attempts = 0;
  failing = false;
  readonly sink: ConnectorSinkConnector;
  #read = 0;

  constructor(options: { checkpoints?: boolean; queueBytesMax?: number; keepBytesMax?: number } = {}) {
    const connect = (): Promise<Conn> => {
      this.attempts++;
      if (this.failing) return Promise.reject(new NetError("refused", "nobody listens there"));
      const conn = new FakeConn();
      this.conns.push(conn);
      this.#read = 0;
      return Promise.resolve(conn);
    };
    this.sink = new ConnectorSinkConnector({
      runtime: fakeRuntime(this.clock, { connect }),
      log: this.log,
      name: "p/sink 0",
      address: { host: "10.0.0.9", port: 7200 },
      cookie: "Dragons-Love-Tacos",
      application: "app",
      worker: "w1",
      output: () => OUTPUT,
      queueBytesMax: options.queueBytesMax ?? 100,
      keepBytesMax: options.keepBytesMax ?? 1_000,
      checkpoints: options.checkpoints ?? true,
      turn: (run) => {
        run();
        this.sink.flush();
      },
      changed: () => {},
      reached: () => {},
      voted: (epoch: number, vote: Vote) => {
        this.votes.push(vote.kind === "commit" ? `${epoch}` : `against ${epoch}${vote.rollBack ? "!" : ""}`);
      },
    });
  }

  get conn(): FakeConn {
    return this.conns.at(-1)!;
  }

  /** Started, placed, and introduced. */
  async ready(...open: string[]): Promise<this> {
    if (this.conns.length === 0) {
      this.sink.start();
      this.sink.transactions?.rollBack(0, null);
      this.sink.flush();
    }
    await settled();
    await this.introduce(...open);
    assert.ok(this.sink.connected);
    return this;
  }

  async introduce(...open: string[]): Promise<void> {
    await this.takeAll();
    const list = this.sent().at(-1)!;
    await this.deliver({ kind: "ok", credits: 500 }, { kind: "notify_ack", success: true, stream: 1n, point: 0n });
    const request = BigInt(list.split(" ")[1]!);
    await this.transaction({ kind: "uncommitted", request, ids: open.map((epoch) => `${OUTPUT}:c_id=${epoch}`) });
  }

  give(...texts: string[]): void {
    this.sink.write(recordsOf(texts));
    this.sink.flush();
  }

  /** The system takes whatever is offered. */
  async takeAll(): Promise<void> {
    while (this.conn.offered > 0) await this.conn.take();
  }

  async deliver(...frames: ConnectorFrame[]): Promise<void> {
    const out = new ByteWriter();
    for (const frame of frames) encodeConnectorFrame(frame, out);
    await this.conn.deliver(out.take());
  }

  async transaction(message: TransactionMessage): Promise<void> {
    const out = new ByteWriter();
    encodeTransactionMessage(message, out);
    await this.conn.deliver(out.take());
  }

  async vote(epoch: number, commit: boolean): Promise<void> {
    await this.transaction({ kind: "vote", id: `${OUTPUT}:c_id=${epoch}`, commit });
  }

  /** Frames that the system took on this connection since the last call; output as `id text`. */
  sent(): string[] {
    const bytes = Uint8Array.from(this.conn.sent.slice(this.#read));
    const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
    assert.equal(splitter.push(bytes), "ok");
    this.#read = this.conn.sent.length - splitter.pending;
    return Array.from({ length: splitter.count }, (_, i) => {
      const frame = decodeConnectorFrame(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!));
      if (frame.kind === "error") return `error ${frame.text}`;
      if (frame.kind !== "message") return frame.kind;
      if (frame.stream === 1n) return `${frame.id} ${new TextDecoder().decode(frame.body)}`;
      const message = decodeTransactionMessage(frame.body);
      if (message.kind === "list_uncommitted") return `list ${message.request}`;
      if (message.kind === "phase1") return `phase1 ${message.ranges[0]!.start} ${message.ranges[0]!.end}`;
      return message.kind === "phase2" ? `phase2 ${message.commit}` : message.kind;
    });
  }
}

test("with checkpoints it connects when it is told where output begins, without at once", async () => {
  const bench = new Bench();
  bench.sink.start();
  await settled();
  assert.equal(bench.attempts, 0);
  assert.equal(bench.sink.everConnected, true, "nobody waits for it");
  bench.sink.transactions!.rollBack(3, { version: 1, offset: 12 });
  await settled();
  assert.equal(bench.attempts, 1);
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["hello", "notify", "list 77778"]);
  assert.equal(bench.sink.connected, false);
  assert.deepEqual(bench.sink.transactions!.snapshot(), { version: 1, offset: 12 });

  const without = new Bench({ checkpoints: false });
  without.sink.start();
  await settled();
  assert.equal(without.attempts, 1);
});

test("what a recovery brings before it is started is kept, and goes when it is", async () => {
  const bench = new Bench();
  bench.sink.transactions!.rollBack(3, { version: 1, offset: 12 });
  bench.give("one\n");
  bench.sink.transactions!.prepare(4);
  bench.give("two\n");
  assert.deepEqual(bench.sink.transactions!.snapshot(), { version: 1, offset: 20 });
  bench.sink.start();
  await settled();
  await bench.introduce("3");
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["phase2 true", "12 one\n", "phase1 12 16"]);
});

test("output is records with their offsets, and a checkpoint's round is at its end", async () => {
  const bench = await new Bench().ready();
  bench.give("one\n", "", "three\n");
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["0 one\n", "4 three\n"]);
  bench.give("4\n");
  bench.sink.transactions!.prepare(1);
  assert.deepEqual(bench.sink.transactions!.snapshot(), { version: 1, offset: 12 });
  bench.give("later\n");
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["10 4\n", "phase1 0 12"]);
  await bench.vote(1, true);
  assert.deepEqual(bench.votes, ["1"]);
  bench.sink.transactions!.commit(1);
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["phase2 true", "12 later\n"]);
});

test("many records go in pieces of 256 KiB, one write at a time", async () => {
  const bench = await new Bench({ queueBytesMax: 1 << 20, keepBytesMax: 1 << 20 }).ready();
  const record = `${"x".repeat(999)}\n`;
  bench.give(...Array.from({ length: 400 }, () => record));
  bench.give(record);
  const sizes: number[] = [];
  while (bench.conn.offered > 0) {
    sizes.push(bench.conn.offered);
    await bench.conn.take();
  }
  assert.deepEqual(sizes, [254 * 1031, 147 * 1031]);
  const sent = bench.sent();
  assert.equal(sent.length, 401);
  sent.forEach((text, i) => {
    assert.equal(text, `${i * 1000} ${record}`);
  });
});

test("while it is away it takes what fits, then it is blocked; when it is back it is free again at half of it", async () => {
  const bench = new Bench({ queueBytesMax: 10 });
  bench.failing = true;
  bench.sink.start();
  bench.sink.transactions!.rollBack(0, null);
  await settled();
  bench.give("12345");
  assert.equal(bench.sink.blocked, false);
  bench.give("67890", "1");
  assert.equal(bench.sink.blocked, true);
  assert.equal(bench.sink.blockedSinceMs, bench.clock.now);
  assert.equal(bench.sink.countQueuedRecords(), 3);
  bench.failing = false;
  await bench.clock.advance(1_000);
  await bench.ready();
  await bench.takeAll();
  assert.equal(bench.sink.blocked, false);
  assert.deepEqual(bench.sent(), ["0 12345", "5 67890", "10 1"]);
});

test("what comes behind a cut waits for the verdict, bounded: it is blocked meanwhile", async () => {
  const bench = await new Bench({ queueBytesMax: 10 }).ready();
  bench.sink.transactions!.prepare(1);
  bench.give("12345678901");
  assert.equal(bench.sink.blocked, true);
  await bench.takeAll();
  await bench.vote(1, true);
  assert.equal(bench.sink.blocked, true);
  bench.sink.transactions!.commit(1);
  await bench.takeAll();
  assert.equal(bench.sink.blocked, false);
});

test("a lost connection is made again after 250 ms, and all that is not committed is sent again", async () => {
  const bench = await new Bench().ready();
  bench.give("a\n", "b\n");
  await bench.takeAll();
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  await bench.vote(1, true);
  bench.sink.transactions!.commit(1);
  bench.give("c\n");
  await bench.takeAll();
  bench.give("d\n");
  bench.conn.failWrite("reset", 10);
  bench.conn.failRead("reset");
  await settled();
  assert.equal(bench.sink.connectionsLost, 1);
  assert.equal(bench.sink.connected, false);
  await bench.clock.advance(249);
  assert.equal(bench.conns.length, 1);
  await bench.clock.advance(1);
  await bench.ready();
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["4 c\n", "6 d\n"]);
});

test("a write that gets through when its connection is given up is no way back to it", async () => {
  const bench = await new Bench().ready();
  bench.give("a\n");
  const { conn } = bench;
  conn.abort = () => {
    conn.aborted = true;
  };
  await conn.deliver(null);
  await bench.clock.advance(2_000);
  assert.equal(bench.conns.length, 1, "no other connection before the outcome is known");
  await conn.take();
  await bench.clock.advance(250);
  await bench.ready();
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["0 a\n"]);
});

test("a sink that breaks the protocol gets to read why; the next connection is made when it has closed, or after a second", async () => {
  for (const closes of [true, false]) {
    const bench = await new Bench().ready();
    bench.give("a\n");
    await bench.takeAll();
    bench.sent();
    await bench.deliver({ kind: "ack", credits: 1, points: [] });
    await bench.takeAll();
    assert.deepEqual(bench.sent(), ["error Bad External Connection State: F"]);
    assert.equal(bench.conn.ended, true);
    assert.equal(bench.conn.aborted, false);
    assert.equal(bench.log.count("sink_protocol_error"), 1);
    if (closes) await bench.conn.deliver(null);
    else await bench.clock.advance(1_000);
    assert.equal(bench.conn.aborted, true);
    await bench.clock.advance(1_000);
    assert.equal(bench.conns.length, 2);
  }
});

test("a sink that does not answer the introduction within 10 seconds loses its connection", async () => {
  const bench = new Bench();
  bench.sink.start();
  bench.sink.transactions!.rollBack(0, null);
  await settled();
  await bench.takeAll();
  await bench.clock.advance(9_999);
  assert.equal(bench.conn.ended, false);
  await bench.clock.advance(1);
  assert.equal(bench.conn.ended, true);
  assert.equal(bench.log.count("sink_too_slow"), 1);
  await bench.clock.advance(2_000);
  assert.equal(bench.conns.length, 2);
  // A vote may take as long as its checkpoint.
  await bench.ready();
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["phase1 0 0"]);
  for (let second = 1; second <= 60; second++) {
    await bench.clock.advance(1_000);
    await bench.takeAll();
  }
  assert.equal(bench.conns.length, 2);
  // Each second it is tried whether it is still there.
  const tried = bench.sent();
  assert.ok(tried.length >= 59);
  assert.deepEqual([...new Set(tried)], ["workers_left"]);
  await bench.vote(1, true);
  assert.deepEqual(bench.votes, ["1"]);
  await bench.clock.advance(5_000);
  assert.equal(bench.conn.offered, 0);
  assert.equal(bench.clock.timerCount, 0);
});

test("a frame that no sink has to say costs the connection before it is read", async () => {
  const bench = await new Bench().ready();
  await bench.conn.deliver(Uint8Array.of(0, 0x10, 0, 1));
  assert.equal(bench.log.count("sink_protocol_error"), 1);
  assert.equal(bench.conn.ended, true);
});

test("a vote against is passed on, and the same output is sent again on the next connection", async () => {
  const bench = await new Bench().ready();
  bench.give("a\n");
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  await bench.vote(1, false);
  assert.deepEqual(bench.votes, ["against 1"]);
  bench.sink.transactions!.abort(1);
  await bench.conn.deliver(null);
  await bench.clock.advance(1_000);
  await bench.ready("1");
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["phase2 false", "0 a\n"]);
  assert.equal(bench.sink.status()["votes_against"], 1);
});

test("more output than is kept, and a lost connection: the vote asks for a rollback, in a turn of its own", async () => {
  const bench = await new Bench({ keepBytesMax: 3 }).ready();
  bench.give("1234\n");
  await bench.takeAll();
  bench.conn.failRead("reset");
  await settled();
  // Nobody is held back by what can't be sent any more.
  bench.give("x".repeat(1_000));
  assert.equal(bench.sink.blocked, false);
  bench.sink.transactions!.prepare(1);
  assert.deepEqual(bench.votes, []);
  await bench.clock.advance(1);
  assert.deepEqual(bench.votes, ["against 1!"]);
  await bench.clock.advance(250);
  await bench.ready();
  bench.sink.transactions!.rollBack(0, null);
  bench.give("1234\n");
  await bench.conn.deliver(null);
  await bench.clock.advance(250);
  await bench.ready();
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["0 1234\n"]);
});

test("at the end it is finished when all is sent; then it waits until the sink shows that it has heard the last verdict", async () => {
  const bench = await new Bench().ready();
  bench.give("a\n");
  bench.sink.end();
  assert.equal(bench.sink.finished, false);
  await bench.takeAll();
  assert.equal(bench.sink.finished, true);
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  await bench.vote(1, true);
  bench.sink.transactions!.commit(1);
  let closed = false;
  assert.equal(bench.sink.transactions!.settled, false);
  const closing = bench.sink.close(1_000).then(() => {
    closed = true;
  });
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["0 a\n", "phase1 0 2", "phase2 true", "list 77779"]);
  assert.equal(closed, false);
  await bench.transaction({ kind: "uncommitted", request: 77779n, ids: [] });
  assert.equal(bench.sink.transactions!.settled, true);
  await closing;
  assert.equal(bench.log.count("sink_undecided"), 0);
});

test("a sink that does not say what is open when it is asked once more is asked on another connection", async () => {
  const bench = await new Bench().ready();
  bench.sink.end();
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  await bench.vote(1, true);
  bench.sink.transactions!.commit(1);
  await bench.takeAll();
  await bench.clock.advance(1_999);
  assert.equal(bench.conn.ended, false);
  await bench.clock.advance(1);
  assert.equal(bench.conn.ended, true);
  await bench.conn.deliver(null);
  await bench.clock.advance(250);
  assert.equal(bench.sink.transactions!.settled, false);
  await bench.ready();
  assert.equal(bench.sink.transactions!.settled, true);
  // The next commit is asked about at once.
  bench.sink.transactions!.prepare(2);
  await bench.takeAll();
  await bench.vote(2, true);
  bench.sink.transactions!.commit(2);
  await bench.takeAll();
  assert.equal(bench.sent().at(-1), "list 77781");
});

test("a close that can't tell the sink what to commit says so, and not before its time is over", async () => {
  const bench = await new Bench().ready();
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  await bench.vote(1, true);
  bench.failing = true;
  bench.conn.failRead("reset");
  await settled();
  bench.sink.transactions!.commit(1);
  let closed = false;
  const closing = bench.sink.close(1_000).then(() => {
    closed = true;
  });
  await bench.clock.advance(999);
  assert.equal(closed, false);
  await bench.clock.advance(1);
  await closing;
  assert.equal(bench.log.count("sink_undecided"), 1);
});

test("a close finds the sink again, and tells it", async () => {
  const bench = await new Bench().ready();
  bench.sink.transactions!.prepare(1);
  await bench.takeAll();
  await bench.vote(1, true);
  bench.conn.failRead("reset");
  await settled();
  bench.sink.transactions!.commit(1);
  const closing = bench.sink.close(5_000);
  await bench.clock.advance(250);
  await bench.ready("1");
  await bench.takeAll();
  await closing;
  assert.deepEqual(bench.sent(), ["phase2 true"]);
  assert.equal(bench.log.count("sink_undecided"), 0);
});

test("without checkpoints a record that was cut is sent again whole, and what may be missing is counted", async () => {
  const bench = await new Bench({ checkpoints: false }).ready();
  assert.equal(bench.sink.transactions, undefined);
  bench.give("first\n");
  await bench.takeAll();
  bench.give("second\n", "third\n");
  // The second one is whole, of the third one there are three bytes.
  bench.conn.failWrite("reset", 31 + 7 + 31 + 3);
  bench.conn.failRead("reset");
  await settled();
  assert.equal(bench.sink.bytesAtRisk, 13);
  await bench.clock.advance(250);
  await bench.ready();
  await bench.takeAll();
  assert.deepEqual(bench.sent(), ["13 third\n"]);
  bench.sink.end();
  assert.equal(bench.sink.finished, true);
  assert.equal(bench.conn.ended, true);
});

test("a position that is none is refused in words", () => {
  const bench = new Bench();
  for (const position of [{}, { version: 2, offset: 1 }, { version: 1, offset: -1 }, { version: 1, offset: 0.5 }, 7]) {
    assert.throws(() => bench.sink.transactions!.rollBack(1, position), /its position in the checkpoint is none/);
  }
});
