import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError } from "../../../src/base/errors.ts";
import { readSourcePosition } from "../../../src/protocol/connector/source_streams.ts";
import { decodeCbor, encodeCbor } from "../../../src/wire/cbor.ts";
import { type ConnectorFrame, NOTHING_COVERED } from "../../../src/wire/connector.ts";
import { frames, message, SourceBench, utf8 } from "./source_bench.ts";

const hello = (change: { version?: string; cookie?: Uint8Array } = {}): ConnectorFrame => ({
  kind: "hello",
  version: "0.0.1",
  cookie: utf8("cookie"),
  program: "p",
  instance: "i",
  ...change,
});
const ack = (credits: number, ...points: [bigint, bigint][]): ConnectorFrame => ({
  kind: "ack",
  credits,
  points: points.map(([stream, point]) => ({ stream, point })),
});
const error = (text: string): ConnectorFrame => ({ kind: "error", text });
const notify = (stream: bigint, point = 0n): ConnectorFrame => ({ kind: "notify", stream, name: utf8("s"), point });
const notifyAck = (success: boolean, stream: bigint, point: bigint): ConnectorFrame => ({
  kind: "notify_ack",
  success,
  stream,
  point,
});

test("a HELLO is welcomed with the credits, and a second one ends the connection", () => {
  const bench = new SourceBench();
  const connection = bench.connect();
  assert.deepEqual(bench.send(connection, hello()), [{ kind: "ok", credits: 10 }]);
  assert.equal(connection.remaining, 10);
  assert.deepEqual(bench.send(connection, hello()), [error("Bad protocol FSM state")]);
  assert.equal(connection.closing?.code, "bad_state");
});

test("another version and another cookie are refused; the right cookie is never told", () => {
  const bench = new SourceBench();
  assert.deepEqual(bench.send(bench.connect(), hello({ version: "v0.0.1" })), [
    error("Unknown protocol version: v0.0.1"),
  ]);
  for (const cookie of ["", "cooki", "cookie ", "Cookie", "x".repeat(10_000)].map(utf8).concat([Uint8Array.of(0xff)])) {
    const connection = bench.connect();
    assert.deepEqual(bench.send(connection, hello({ cookie })), [error("Bad cookie")]);
    assert.equal(connection.closing?.code, "bad_cookie");
  }
  const secret = new SourceBench({ cookie: "s3cret" });
  const refused = secret.connect();
  secret.send(refused, hello({ cookie: utf8("s3cres") }));
  assert.ok(!`${JSON.stringify(refused.closing)}${new TextDecoder().decode(refused.out.data)}`.includes("s3cret"));
  const none = new SourceBench({ cookie: "" });
  assert.deepEqual(none.send(none.connect(), hello({ cookie: utf8("") })), [{ kind: "ok", credits: 10 }]);
});

test("before its HELLO a client may say nothing else", () => {
  for (const frame of [notify(1n), message(1n, 1n, "x"), { kind: "end_of_stream", stream: 1n } as const]) {
    const bench = new SourceBench();
    const connection = bench.connect();
    assert.deepEqual(bench.send(connection, frame, hello()), [error("Bad protocol FSM state")], frame.kind);
    assert.deepEqual(bench.records, []);
  }
});

test("frames of the other side, unreadable ones and an ERROR end the connection, a WORKERS_LEFT does not", () => {
  const bench = new SourceBench();
  const wrong: [ConnectorFrame, string][] = [
    [{ kind: "ok", credits: 1 }, "Invalid message: ok"],
    [notifyAck(true, 1n, 1n), "Invalid message: notify_ack"],
    [ack(1), "Invalid message: ack"],
    [{ kind: "restart", address: "" }, "Invalid message: restart"],
  ];
  for (const [frame, text] of wrong) {
    for (const connection of [bench.connect(), bench.greeted()]) {
      assert.deepEqual(bench.send(connection, frame), [error(text)]);
      assert.notEqual(connection.closing, null);
    }
  }
  for (const bytes of [
    [0, 0, 0, 0],
    [0, 0, 0, 1, 10],
    [0, 0, 0, 2, 5, 0],
    [0, 0, 0, 3, 3, 0, 0],
  ]) {
    const connection = bench.greeted();
    bench.sendBytes(connection, Uint8Array.from(bytes));
    assert.deepEqual(frames(connection), [error("Unable to decode message")]);
  }
  const connection = bench.greeted();
  assert.deepEqual(bench.send(connection, { kind: "workers_left", request: 7n, workers: ["w"] }), []);
  assert.ok(!connection.closing);
  const polite = bench.greeted();
  assert.deepEqual(bench.send(polite, error("bye\nbye"), notify(1n)), []);
  assert.equal(polite.closing?.text, "the client said: bye\\u000abye");
});

test("a MESSAGE whose key is longer than the frame is unreadable", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  bench.open(connection, 1n);
  const frame = new Uint8Array(4 + 27 + 3);
  frame.set([0, 0, 0, 30, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
  frame.set([0, 4], 4 + 25);
  bench.sendBytes(connection, frame);
  assert.deepEqual(frames(connection), [error("Unable to decode message")]);
});

test("records of an open stream are handed on once, in order, and those without a body are only counted", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  assert.deepEqual(bench.open(connection, 5n), notifyAck(true, 5n, NOTHING_COVERED));
  bench.send(connection, message(5n, 0n, "a"), message(5n, 0n, "again"), message(5n, 7n, ""), message(5n, 6n, "late"));
  bench.send(connection, message(5n, 1n << 40n, "b"), message(5n, (1n << 40n) - 1n, "late"), message(5n, 8n, "late"));
  assert.deepEqual(bench.records, ["a", "b"]);
  assert.equal(bench.streams.duplicates, 4);
  assert.deepEqual(bench.checkpoint(connection), [ack(8, [5n, 1n << 40n])]);
});

test("a message of a stream that is not open, or with the id that means nothing, ends the connection", () => {
  const bench = new SourceBench();
  const other = bench.greeted();
  bench.open(other, 9n);
  const connection = bench.greeted();
  const text = "Bad/unregistered stream_id 9 with message_id 3";
  assert.deepEqual(bench.send(connection, message(9n, 3n, "x")), [error(text)]);
  const last = message(9n, NOTHING_COVERED, "x");
  assert.equal(bench.send(other, last)[0]?.kind, "error");
  assert.deepEqual(bench.records, []);
});

test("a stream that a connection has is refused to others, and free when that connection is gone", () => {
  const bench = new SourceBench();
  const first = bench.greeted();
  const second = bench.greeted();
  bench.open(first, 1n);
  bench.send(first, message(1n, 3n, "a"));
  assert.deepEqual(bench.send(second, notify(1n, 77n)), [notifyAck(false, 1n, 77n)]);
  assert.deepEqual(bench.send(first, notify(1n, 3n)), [notifyAck(false, 1n, 3n)]);
  first.disconnected();
  bench.exchange();
  assert.deepEqual(bench.send(second, notify(1n, 3n)), [notifyAck(true, 1n, NOTHING_COVERED)]);
  bench.send(second, message(1n, 3n, "a"), message(1n, 4n, "b"));
  assert.deepEqual(bench.records, ["a", "b"]);
});

test("whoever was refused hears an ACK, also when no credit is to be given back", () => {
  const bench = new SourceBench();
  bench.open(bench.greeted(), 1n);
  const connection = bench.greeted();
  bench.send(connection, notify(1n));
  assert.ok(connection.owesAck);
  connection.remind();
  assert.deepEqual(frames(connection), [ack(1)]);
  connection.remind();
  assert.deepEqual(frames(connection), []);
  connection.owesAck = true;
  connection.remind();
  assert.deepEqual(frames(connection), [ack(0)]);
});

test("credit comes back when little is left, and with every checkpoint", () => {
  const bench = new SourceBench({ credits: 5, refill: 2 });
  const connection = bench.greeted();
  bench.open(connection, 1n);
  assert.deepEqual(bench.send(connection, message(1n, 1n, "a")), []);
  assert.equal(connection.remaining, 3);
  assert.deepEqual(bench.send(connection, message(1n, 2n, "b")), [ack(3)]);
  assert.deepEqual(bench.send(connection, message(1n, 3n, "c")), []);
  assert.deepEqual(bench.checkpoint(connection), [ack(1, [1n, 3n])]);
  // More than it had is not punished, and comes back.
  const flood = Array.from({ length: 9 }, (_, i) => message(1n, BigInt(10 + i), "x"));
  assert.deepEqual(bench.send(connection, ...flood), [ack(9)]);
});

test("a checkpoint acknowledges what came before its barrier, and says nothing of streams without data", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  bench.open(connection, 1n);
  bench.open(connection, 2n);
  bench.send(connection, message(1n, 4n, "a"));
  const epoch = bench.barrier();
  bench.send(connection, message(1n, 5n, "b"));
  assert.deepEqual(bench.complete(epoch, connection), [ack(4, [1n, 4n])]);
  assert.deepEqual(bench.complete(epoch, connection), []);
  assert.deepEqual(bench.checkpoint(connection), [ack(0, [1n, 5n])]);
});

test("of an aborted checkpoint nothing is acknowledged", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  bench.open(connection, 1n);
  bench.send(connection, message(1n, 4n, "a"));
  const aborted = bench.barrier();
  bench.send(connection, message(1n, 5n, "b"));
  const next = bench.barrier();
  assert.deepEqual(bench.complete(aborted, connection), []);
  assert.deepEqual(bench.complete(next, connection), [ack(3, [1n, 5n])]);
});

test("the end of a stream is acknowledged by the first checkpoint whose barrier comes behind it", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  bench.open(connection, 1n);
  bench.open(connection, 2n);
  bench.send(connection, message(1n, 4n, "a"));
  const early = bench.barrier();
  bench.send(
    connection,
    message(1n, 6n, "b"),
    { kind: "end_of_stream", stream: 1n },
    { kind: "end_of_stream", stream: 2n },
  );
  // It waits to close: nobody gets it, nothing more comes in.
  assert.deepEqual(bench.send(bench.greeted(), notify(1n)), [notifyAck(false, 1n, 0n)]);
  assert.deepEqual(bench.complete(early, connection), [ack(6, [1n, 4n])]);
  // An empty stream ends as well: it says where it began.
  assert.deepEqual(bench.checkpoint(connection), [ack(0, [1n, 6n], [2n, NOTHING_COVERED])]);
  assert.deepEqual(bench.checkpoint(connection), []);
  assert.deepEqual(bench.open(connection, 1n), notifyAck(true, 1n, 6n));
  assert.equal(bench.send(connection, { kind: "end_of_stream", stream: 2n })[0]?.kind, "error");
  assert.equal(bench.registry.size, 1);
});

test("after a stream's end a message of it ends the connection", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  bench.open(connection, 1n);
  bench.send(connection, message(1n, 1n, "a"), { kind: "end_of_stream", stream: 1n });
  assert.equal(bench.send(connection, message(1n, 2n, "b"))[0]?.kind, "error");
  assert.deepEqual(bench.records, ["a"]);
});

test("a client that comes back is told no more than it has sent on this connection", () => {
  const bench = new SourceBench();
  const first = bench.greeted();
  bench.open(first, 1n);
  bench.send(first, message(1n, 1n, "a"));
  bench.checkpoint(first);
  bench.send(first, message(1n, 2n, "b"), message(1n, 3n, "c"));
  const epoch = bench.barrier();
  first.disconnected();
  const second = bench.greeted();
  assert.deepEqual(bench.open(second, 1n), notifyAck(true, 1n, 1n));
  bench.send(second, message(1n, 2n, "b"));
  assert.deepEqual(bench.complete(epoch, second), [ack(2, [1n, 2n])]);
  bench.send(second, message(1n, 3n, "c"), message(1n, 4n, "d"));
  assert.deepEqual(bench.checkpoint(second), [ack(2, [1n, 4n])]);
  assert.deepEqual(bench.records, ["a", "b", "c", "d"]);
});

test("a rollback sends greeted clients away and goes back to what was saved", () => {
  const bench = new SourceBench();
  const connection = bench.greeted();
  const stranger = bench.connect();
  bench.open(connection, 1n);
  bench.send(connection, message(1n, 1n, "a"));
  const position = bench.streams.snapshot(1);
  bench.send(connection, message(1n, 2n, "b"));
  for (const each of [connection, stranger]) each.restart("10.0.0.1:7000");
  assert.deepEqual(frames(connection), [{ kind: "restart", address: "10.0.0.1:7000" }]);
  assert.deepEqual([connection.closing?.code, stranger.closing], ["rolled_back", null]);
  bench.registry.reset(["w", "w2"]);
  bench.streams.seek(readSourcePosition(decodeCbor(encodeCbor(position))));
  bench.exchange();
  bench.send(stranger, hello());
  assert.deepEqual(bench.open(stranger, 1n), notifyAck(false, 1n, 0n));
  bench.registry.handle("w2", { kind: "restored", streams: [] });
  assert.deepEqual(bench.open(stranger, 1n), notifyAck(true, 1n, 1n));
  assert.deepEqual(bench.open(stranger, 2n), notifyAck(true, 2n, NOTHING_COVERED));
  bench.send(stranger, message(1n, 2n, "b again"));
  assert.deepEqual(bench.records, ["a", "b", "b again"]);
  connection.disconnected();
  assert.deepEqual(bench.streams.takeRequests(), []);
});

test("without checkpoints only an end of stream is acknowledged, at once", () => {
  const bench = new SourceBench({ checkpoints: false });
  const connection = bench.greeted();
  bench.open(connection, 1n);
  bench.send(connection, message(1n, 1n, "a"), message(1n, 2n, "b"));
  assert.deepEqual(bench.send(connection, { kind: "end_of_stream", stream: 1n }), [ack(0, [1n, 2n])]);
  assert.deepEqual(bench.open(connection, 1n), notifyAck(true, 1n, 2n));
  bench.send(connection, message(1n, 3n, "c"));
  connection.disconnected();
  // It begins where something was acknowledged, and what is known here is not taken in twice.
  const next = bench.greeted();
  assert.deepEqual(bench.open(next, 1n), notifyAck(true, 1n, 2n));
  bench.send(next, message(1n, 3n, "c"), message(1n, 4n, "d"));
  assert.deepEqual(bench.records, ["a", "b", "c", "d"]);
});

test("a position that is none is refused in words", () => {
  assert.equal(readSourcePosition(null), null);
  for (const saved of [{}, { streams: 1 }, { streams: [] }, { streams: new Uint8Array(17) }, "x", undefined]) {
    assert.throws(() => readSourcePosition(saved), ResilienceError);
  }
});
