import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import { TcpSinkConnector } from "../../src/connectors/tcp_sink.ts";
import { type Conn, NetError, type Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { CollectedLog, FakeConn, fakeRuntime, ManualClock, recordsOf, settled } from "./fakes.ts";

/** A sink whose connections are in the test's hands. */
class Bench {
  readonly clock = new ManualClock();
  readonly log = new CollectedLog();
  readonly conns: FakeConn[] = [];
  /** Attempts to connect that fail before the next one succeeds. */
  failures = 0;
  attempts = 0;
  changes = 0;
  readonly votes: [number, string][] = [];
  readonly sink: TcpSinkConnector;

  constructor(queueBytesMax = 100) {
    const connect = (): Promise<Conn> => {
      this.attempts++;
      if (this.failures-- > 0) return Promise.reject(new NetError("refused", "nobody listens there"));
      const conn = new FakeConn();
      this.conns.push(conn);
      return Promise.resolve(conn);
    };
    this.sink = new TcpSinkConnector({
      runtime: fakeRuntime(this.clock, { connect }),
      log: this.log,
      name: "p/sink 0",
      address: { host: "10.0.0.9", port: 7100 },
      queueBytesMax,
      checkpoints: true,
      voted: (epoch, vote) => this.votes.push([epoch, vote.kind]),
      // As a worker does it: everything is flushed behind each turn.
      turn: (run) => {
        run();
        this.sink.flush();
      },
      changed: () => {
        this.changes++;
      },
    });
  }

  get conn(): FakeConn {
    return this.conns.at(-1)!;
  }

  async connected(): Promise<this> {
    this.sink.start();
    await settled();
    assert.ok(this.sink.connected);
    return this;
  }

  /** One turn of the worker that has output. */
  give(...texts: string[]): void {
    this.sink.write(recordsOf(texts));
    this.sink.flush();
  }
}

test("a sink that is absent is tried every 250 ms, and gets what was kept for it when it is there", async () => {
  const bench = new Bench();
  bench.failures = 3;
  bench.give("a\n", "b\n");
  bench.sink.start();
  await bench.clock.advance(749);
  assert.equal(bench.attempts, 3);
  assert.equal(bench.sink.everConnected, false);
  await bench.clock.advance(1);
  assert.equal(bench.attempts, 4);
  assert.equal(bench.sink.everConnected, true);
  assert.equal(bench.changes, 1);
  await bench.conn.take();
  assert.equal(bench.conn.text, "a\nb\n");
  assert.match(bench.log.lines[0]!, /TCPSink initializing connection to 10.0.0.9:7100/);
  assert.equal(bench.log.count("sink_connection_failed"), 3);
});

test("a sink has one write outstanding; what comes meanwhile is joined into the next one", async () => {
  const bench = await new Bench().connected();
  bench.give("a\n");
  for (const text of ["b\n", "c\n", "d\n"]) bench.give(text);
  assert.equal(bench.conn.offered, 2);
  await bench.conn.take();
  assert.equal(bench.conn.offered, 6);
  await bench.conn.take();
  assert.equal(bench.conn.writes, 2);
  assert.equal(bench.conn.text, "a\nb\nc\nd\n");
  assert.equal(bench.sink.bytesSent, 8);
});

test("a sink is blocked above its limit, and free again at half of it", async () => {
  const bench = await new Bench(10).connected();
  const told = bench.changes;
  bench.give("12345");
  bench.give("67890");
  assert.equal(bench.sink.blocked, false);
  bench.give("1");
  assert.equal(bench.sink.blocked, true);
  assert.equal(bench.sink.blockedSinceMs, bench.clock.now);
  await bench.conn.take();
  assert.equal(bench.sink.queuedBytes, 6);
  assert.equal(bench.sink.blocked, true);
  await bench.conn.take();
  assert.equal(bench.sink.blocked, false);
  assert.equal(bench.sink.blockedSinceMs, null);
  assert.equal(bench.changes, told + 2);
});

test("a record that a reset cut is sent again whole, and what may be missing is counted", async () => {
  const bench = await new Bench().connected();
  bench.give("first\n");
  await bench.conn.take();
  bench.give("second\n", "third\n", "fourth\n");
  bench.conn.failWrite("reset", 10);
  bench.conn.failRead("reset");
  await settled();
  assert.equal(bench.conn.aborted, true);
  assert.equal(bench.sink.connectionsLost, 1);
  assert.equal(bench.sink.bytesAtRisk, 16);
  assert.equal(bench.sink.queuedBytes, 13);
  assert.match(
    bench.log.last("sink_connection_closed"),
    /13 bytes wait.* 3 of them of a record that was cut.*at most 16/,
  );
  await bench.clock.advance(250);
  await bench.conn.take();
  assert.equal(bench.conns[0]!.text, "first\nsecond\nthi");
  assert.equal(bench.conns[1]!.text, "third\nfourth\n");
});

test("what a write got through before its connection was given up is known before anything else is sent", async () => {
  const bench = await new Bench().connected();
  bench.give("first\n", "second\n");
  // The peer closes while the write is outstanding; the connector aborts, and the write had got through all the same.
  const { conn } = bench;
  conn.abort = () => {
    conn.aborted = true;
  };
  await conn.deliver(null);
  assert.equal(conn.aborted, true);
  await bench.clock.advance(1_000);
  assert.equal(bench.conns.length, 1, "no other connection before the outcome is known");
  await conn.take();
  assert.equal(bench.sink.bytesAtRisk, 13);
  bench.give("third\n");
  await bench.clock.advance(250);
  await bench.conn.take();
  assert.equal(bench.conn.text, "third\n");
});

test("a peer that ends its direction is taken as gone, bytes that it sends are ignored", async () => {
  const bench = await new Bench().connected();
  for (let i = 0; i < 3; i++) await bench.conn.deliver(new Uint8Array(1000));
  assert.equal(bench.sink.connected, true);
  await bench.conn.deliver(null);
  assert.equal(bench.sink.connected, false);
  assert.equal(bench.conn.aborted, true);
  await bench.clock.advance(250);
  assert.equal(bench.sink.connected, true);
  assert.equal(bench.conns.length, 2);
});

test("end() finishes when all is sent, and is not undone when the peer closes behind it", async () => {
  const bench = await new Bench().connected();
  bench.give("a\n");
  bench.sink.end();
  bench.give("b\n");
  assert.equal(bench.sink.finished, false);
  await bench.conn.take();
  await bench.conn.take();
  assert.equal(bench.sink.finished, true);
  assert.equal(bench.conn.ended, true);
  assert.equal(bench.conn.text, "a\nb\n");
  await bench.conn.deliver(null);
  await bench.clock.advance(1_000);
  assert.equal(bench.conns.length, 1, "it does not connect again");
  assert.equal(bench.sink.connectionsLost, 0);
  assert.equal(bench.log.count("sink_connection_closed"), 0);
});

test("a sink votes for a checkpoint once all that was written before it is with the system", async () => {
  const bench = await new Bench().connected();
  const { prepare, abort } = bench.sink.transactions!;
  prepare(1);
  assert.deepEqual(bench.votes, [[1, "commit"]], "nothing is on its way");
  bench.give("a\n");
  bench.give("b\n");
  prepare(2);
  bench.give("c\n");
  await bench.conn.take();
  assert.equal(bench.votes.length, 1, "b is not with the system");
  await bench.conn.take();
  assert.deepEqual(bench.votes[1], [2, "commit"]);
  bench.give("d\n");
  prepare(3);
  abort(3);
  await bench.conn.take();
  assert.equal(bench.votes.length, 2, "nobody wants to know any more");
});

test("a record that a lost connection cut keeps its checkpoint back until it is sent again whole", async () => {
  const bench = await new Bench().connected();
  bench.give("first\n", "second\n");
  bench.sink.transactions!.prepare(1);
  bench.conn.failWrite("reset", 8);
  await bench.clock.advance(250);
  assert.deepEqual(bench.votes, []);
  await bench.conn.take();
  assert.equal(bench.conn.text, "second\n");
  assert.deepEqual(bench.votes, [[1, "commit"]]);
});

test("a rollback takes back what is not with the system, but for the write and the record that have been begun", async () => {
  const bench = await new Bench().connected();
  bench.give("first\n");
  bench.give("second\n", "third\n");
  bench.sink.transactions!.prepare(1);
  bench.sink.transactions!.rollBack(0, null);
  bench.give("again\n");
  await bench.conn.take();
  await bench.conn.take();
  assert.equal(bench.conn.text, "first\nagain\n");
  assert.deepEqual(bench.votes, [], "the epoch is gone");
  bench.sink.transactions!.prepare(2);
  assert.deepEqual(bench.votes, [[2, "commit"]]);
  assert.equal(bench.sink.queuedBytes, 0);
});

test("a sink that comes back after end() gets the rest, then finishes", async () => {
  const bench = await new Bench().connected();
  bench.give("a\n");
  bench.sink.end();
  bench.conn.failWrite("reset", 1);
  await bench.clock.advance(250);
  await bench.conn.take();
  assert.equal(bench.conn.text, "a\n");
  assert.equal(bench.sink.finished, true);
});

test("close() lets the record that is cut come through, and nothing behind it", async () => {
  const bench = await new Bench(1 << 20).connected();
  const long = "x".repeat(400 * 1024);
  bench.give(long, "next\n");
  // The first write ends in the middle of the record.
  assert.ok(bench.conn.offered < long.length);
  let closed = false;
  const closing = bench.sink.close(300).then(() => {
    closed = true;
  });
  await bench.conn.take();
  assert.equal(closed, false);
  bench.sink.flush();
  await bench.conn.take();
  await closing;
  assert.equal(bench.conn.sent.length, long.length);
  assert.equal(bench.conn.ended, true);
  assert.equal(bench.conn.aborted, false);
  assert.equal(bench.sink.queuedBytes, 5);
  assert.equal(bench.sink.countQueuedRecords(), 1);
  assert.equal(bench.clock.timerCount, 0);
});

test("close() gives up a peer that does not read after the grace, and says so", async () => {
  const bench = await new Bench().connected();
  bench.give("a\n");
  const closing = bench.sink.close(300);
  await bench.clock.advance(299);
  assert.equal(bench.conn.aborted, false);
  await bench.clock.advance(1);
  await closing;
  assert.equal(bench.conn.aborted, true);
  assert.equal(bench.log.count("sink_record_cut"), 1);
  await bench.clock.advance(1_000);
  assert.equal(bench.conns.length, 1);
});

test("close() ends at once and for good in every other state", async () => {
  const idle = new Bench();
  await idle.sink.close(300);
  idle.sink.start();
  assert.equal(idle.attempts, 0);

  const waiting = new Bench();
  waiting.failures = 1;
  waiting.sink.start();
  await settled();
  await waiting.sink.close(300);
  assert.equal(waiting.clock.timerCount, 0);
  await waiting.clock.advance(1_000);
  assert.equal(waiting.attempts, 1);

  const connecting = new Bench();
  connecting.sink.start();
  await connecting.sink.close(300);
  await settled();
  assert.equal(connecting.conn.aborted, true);

  const connected = await new Bench().connected();
  connected.give("a\n");
  await connected.conn.take();
  await connected.sink.close(300);
  assert.equal(connected.conn.ended, true);
  assert.equal(connected.conn.aborted, false);

  // Lost while it was closing: no reconnect either.
  const lost = await new Bench().connected();
  lost.give("a\n");
  const closing = lost.sink.close(300);
  lost.conn.failWrite("reset", 1);
  lost.conn.failRead("reset");
  await closing;
  await lost.clock.advance(1_000);
  assert.equal(lost.conns.length, 1);
});

/** What one connection of the sink brought. */
interface Received {
  readonly chunks: Uint8Array[];
  /** The peer read all of it, up to the end. */
  complete: boolean;
}

test("whatever happens to connections: whole records in order, a cut one at the end of a lost connection alone", async () => {
  for (let seed = 1; seed <= 25; seed++) {
    const world = new VirtualWorld({ seed });
    const prng = new Prng(seed, "sink test");
    const received: Received[] = [];
    const out = world.host("out");
    const listen = () =>
      out.startProcess(async ({ net, clock }) => {
        await net.listen({
          host: "0.0.0.0",
          port: 7100,
          accept: (conn) => void readAll(conn, clock, received, prng),
          failed: () => {},
        });
      });
    // Absent at first, then comes and goes; now and then its connections are cut.
    let process: ReturnType<typeof listen> | null = null;
    for (let at = prng.between(0, 800); at < 6_000; at += prng.between(50, 900)) {
      world.at(at, () => {
        if (process === null) process = listen();
        else if (prng.chance(2)) world.network.cut(() => true);
        else {
          process.kill();
          process = null;
        }
      });
    }
    world.at(6_500, () => {
      process ??= listen();
    });
    const queueBytesMax = 20_000;
    const log = new CollectedLog();
    let sink!: TcpSinkConnector;
    let given = 0;
    let largest = 0;
    world.host("worker").startProcess((runtime: Runtime) => {
      const turn = (run: () => void) => {
        run();
        sink.flush();
      };
      const address = { host: "out", port: 7100 };
      const quiet = { checkpoints: false, voted: () => {}, changed: () => {} };
      sink = new TcpSinkConnector({ runtime, log, name: "s", address, queueBytesMax, turn, ...quiet });
      sink.start();
      const produce = () => {
        turn(() => {
          if (!sink.blocked) {
            const texts: string[] = [];
            for (let i = prng.int(20); i >= 0; i--) texts.push(`<${given++}:${"x".repeat(prng.int(600))}>`);
            sink.write(recordsOf(texts));
          }
          largest = Math.max(largest, sink.queuedBytes);
        });
        if (given < 4_000) runtime.clock.startTimer(prng.between(0, 20), produce);
        else sink.end();
      };
      produce();
    });
    const what = `seed ${seed}`;
    assert.ok(await world.runUntil(() => sink?.finished && received.at(-1)?.complete === true, 120_000), what);
    assert.ok(largest <= queueBytesMax + 20 * 620, `${what}: ${largest} bytes were queued`);
    let next = 0;
    let missing = 0;
    for (const [index, { chunks, complete }] of received.entries()) {
      const text = new TextDecoder().decode(Buffer.concat(chunks));
      const whole = text.match(/<\d+:x*>/g) ?? [];
      const rest = text.slice(whole.join("").length);
      assert.equal(text, whole.join("") + rest, `${what}: records are whole and side by side`);
      const isLast = index === received.length - 1;
      if (isLast) assert.equal(rest, "", what);
      else assert.match(rest, /^(<(\d+(:x*)?)?)?$/, what);
      const first = whole.length === 0 ? null : numberOf(whole[0]!);
      if (first === null) continue;
      assert.ok(first >= next, `${what}: connection ${index} begins with ${first} after ${next - 1}`);
      if (first > next) missing += first - next;
      for (const [i, record] of whole.entries()) assert.equal(numberOf(record), first + i, what);
      next = first + whole.length;
      if (complete && !isLast) assert.fail(`${what}: a connection ended in order before the last one`);
    }
    assert.equal(next, given, what);
    // A record has four bytes or more.
    assert.ok(missing * 4 <= sink.bytesAtRisk, `${what}: ${missing} records are missing`);
    assert.equal(sink.connectionsLost > 0, log.count("sink_connection_closed") > 0, what);
  }
});

function numberOf(record: string): number {
  return Number(record.slice(1, record.indexOf(":")));
}

/** A slow reader: it stops now and then. */
async function readAll(conn: Conn, clock: Runtime["clock"], received: Received[], prng: Prng): Promise<void> {
  const entry: Received = { chunks: [], complete: false };
  received.push(entry);
  try {
    for (;;) {
      const bytes = await conn.read();
      if (bytes === null) break;
      entry.chunks.push(new Uint8Array(bytes));
      if (prng.chance(4)) await new Promise<void>((resolve) => clock.startTimer(prng.between(0, 200), resolve));
    }
    entry.complete = true;
    conn.end();
  } catch {
    // Cut.
  }
}
