import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import {
  type ConnectorFrame,
  decodeConnectorFrame,
  decodeTransactionMessage,
  encodeConnectorFrame,
  encodeTransactionMessage,
  type TransactionMessage,
} from "../../src/wire/connector.ts";
import { encodeFrame, FrameSplitter } from "../../src/wire/frame.ts";
import {
  decodeRegistryAnswer,
  decodeRegistryRequest,
  encodeRegistryAnswer,
  encodeRegistryRequest,
  type RegistryAnswer,
  type RegistryRequest,
} from "../../src/wire/stream_claims.ts";
import { decodeAll, SourceBench } from "../protocol/connector/source_bench.ts";
import type { Chance } from "./chance.ts";
import { inPieces } from "./damage.ts";
import { fuzz } from "./fuzz.ts";

const isProtocolError = (error: unknown) => error instanceof ProtocolError;

const NUMBERS = [0n, 1n, 7n, 255n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n];
const TEXTS = ["", "0.0.1", "app-w-w1-id-1:c_id=2", "größe", "🦘", "x".repeat(300)];

function someFrame(chance: Chance): ConnectorFrame {
  const stream = chance.pick(NUMBERS);
  const point = chance.pick(NUMBERS);
  const some = () => chance.bytes(chance.below(9));
  const version = chance.pick(TEXTS);
  return chance.pick<() => ConnectorFrame>([
    () => ({ kind: "hello", version, cookie: some(), program: chance.pick(TEXTS), instance: chance.pick(TEXTS) }),
    () => ({ kind: "ok", credits: chance.below(2 ** 32) }),
    () => ({ kind: "error", text: chance.pick(TEXTS) }),
    () => ({ kind: "notify", stream, name: some(), point }),
    () => ({ kind: "notify_ack", success: chance.below(2) === 0, stream, point }),
    () => ({ kind: "message", stream, id: point, eventTime: BigInt.asIntN(64, point), key: some(), body: some() }),
    () => ({ kind: "ack", credits: 3, points: Array.from({ length: chance.below(4) }, () => ({ stream, point })) }),
    () => ({ kind: "restart", address: chance.pick(TEXTS) }),
    () => ({ kind: "end_of_stream", stream }),
    () => ({ kind: "workers_left", request: stream, workers: [chance.pick(TEXTS), chance.pick(TEXTS)] }),
  ])();
}

function someTransaction(chance: Chance): TransactionMessage {
  const request = chance.pick(NUMBERS);
  const id = chance.pick(TEXTS);
  const ids = Array.from({ length: chance.below(4) }, () => chance.pick(TEXTS));
  return chance.pick<TransactionMessage>([
    { kind: "list_uncommitted", request },
    { kind: "uncommitted", request, ids },
    { kind: "phase1", id, ranges: ids.map(() => ({ stream: 1n, start: request, end: chance.pick(NUMBERS) })) },
    { kind: "vote", id, commit: chance.below(2) === 0 },
    { kind: "phase2", id, commit: chance.below(2) === 0 },
    { kind: "workers_left", request, workers: ids },
  ]);
}

function frameBytes(frame: ConnectorFrame): Uint8Array {
  const out = new ByteWriter();
  encodeConnectorFrame(frame, out);
  return out.take().slice(4);
}

function transactionBytes(message: TransactionMessage): Uint8Array {
  const out = new ByteWriter();
  encodeTransactionMessage(message, out);
  const frame = decodeConnectorFrame(out.take().subarray(4));
  assert.ok(frame.kind === "message");
  return frame.body.slice();
}

test("fuzz: a connector frame means something and comes back, or is refused", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "connector",
    make: (chance) => frameBytes(someFrame(chance)),
    decode: decodeConnectorFrame,
    check: (frame) => {
      assert.deepEqual(decodeConnectorFrame(frameBytes(frame)), frame);
    },
    announced: isProtocolError,
  });
});

test("fuzz: a two-phase-commit message means something and comes back, or is refused", {
  timeout: 300_000,
}, async () => {
  await fuzz({
    name: "two-phase commit",
    make: (chance) => transactionBytes(someTransaction(chance)),
    decode: decodeTransactionMessage,
    check: (message) => {
      assert.deepEqual(decodeTransactionMessage(transactionBytes(message)), message);
    },
    announced: isProtocolError,
  });
});

test("fuzz: what is said about streams between workers comes back, or is refused", { timeout: 300_000 }, () => {
  const covered = (chance: Chance) => chance.pick([-1n, 0n, 1n, 2n ** 64n - 2n]);
  fuzz({
    name: "stream claims",
    make: (chance) => {
      const stream = chance.pick(NUMBERS);
      const claim = chance.pick([0, 1, 2 ** 32, Number.MAX_SAFE_INTEGER]);
      const some = Array.from({ length: chance.below(3) }, () => ({ stream, covered: covered(chance) }));
      const request = chance.pick<RegistryRequest>([
        { kind: "claim", claim, stream },
        { kind: "release", claim, stream, covered: covered(chance), seen: covered(chance) },
        { kind: "covered", streams: some },
        { kind: "restored", streams: some.map((each) => ({ ...each, seen: covered(chance), claim })) },
      ]);
      const answer = chance.pick<RegistryAnswer>([
        { kind: "granted", claim, stream, covered: covered(chance) },
        { kind: "refused", claim, stream, reason: chance.pick(["active", "uncovered", "restoring"]) },
        { kind: "wanted", claim, stream },
      ]);
      const isRequest = chance.below(2) === 0;
      const message = isRequest ? encodeRegistryRequest(request) : encodeRegistryAnswer(answer);
      return Uint8Array.of(isRequest ? 1 : 0, ...message);
    },
    decode: (bytes) => {
      const message = bytes.subarray(1);
      return bytes[0] === 1
        ? { request: decodeRegistryRequest(message), answer: null }
        : { request: null, answer: decodeRegistryAnswer(message) };
    },
    check: ({ request, answer }) => {
      if (request !== null) assert.deepEqual(decodeRegistryRequest(encodeRegistryRequest(request)), request);
      if (answer !== null) assert.deepEqual(decodeRegistryAnswer(encodeRegistryAnswer(answer)), answer);
    },
    announced: isProtocolError,
  });
});

const utf8 = (text: string) => new TextEncoder().encode(text);
const HELLO: ConnectorFrame = {
  kind: "hello",
  version: "0.0.1",
  cookie: utf8("cookie"),
  program: "p",
  instance: "i",
};

/** What clients of a source may say, and what they may not. */
function saidToASource(chance: Chance): ConnectorFrame {
  const stream = chance.pick([1n, 2n, 3n]);
  const id = BigInt(chance.below(20));
  return chance.pick<() => ConnectorFrame>([
    () => ({ kind: "notify", stream, name: utf8("s"), point: id }),
    () => ({ kind: "message", stream, id, eventTime: 0n, key: utf8("k"), body: utf8("x") }),
    () => ({ kind: "message", stream, id, eventTime: 0n, key: utf8("k"), body: utf8("x") }),
    () => ({ kind: "end_of_stream", stream }),
    () => someFrame(chance),
  ])();
}

test("fuzz: two clients of a source say what they like, each record counts once", { timeout: 300_000 }, async () => {
  const ofBench = (chance: Chance) => new SourceBench({ checkpoints: chance.below(2) === 0, credits: 3, refill: 1 });
  await fuzz({
    name: "connector source",
    make: (chance) => {
      const frames = [HELLO, ...chance.some(9, () => saidToASource(chance))];
      return Buffer.concat(frames.map((frame) => encodeFrame(frameBytes(frame))));
    },
    decode: (bytes, chance) => {
      const bench = ofBench(chance);
      const bystander = bench.greeted();
      bench.open(bystander, 1n);
      const connection = bench.connect();
      const splitter = new FrameSplitter({ lengthMax: 16_384 });
      let records = 0;
      inPieces(bytes, chance, (piece) => {
        if (connection.closing !== null || splitter.push(piece) !== "ok") return;
        const places = connection.receive(splitter.bytes, splitter.starts, splitter.ends, splitter.count);
        for (let i = 0; i < places.count; i++) {
          assert.ok(places.starts[i]! < places.ends[i]! && places.ends[i]! <= splitter.bytes.length);
          records++;
        }
        bench.exchange();
        connection.topUp();
        if (chance.below(4) === 0 && bench.streams.cover(bench.barrier())) connection.acknowledge();
      });
      const closing = connection.closing;
      connection.disconnected();
      bench.exchange();
      // The other one goes on, whatever this one has said.
      bench.send(bystander, { kind: "message", stream: 1n, id: 1000n, eventTime: 0n, key: utf8(""), body: utf8("y") });
      return { bench, bystander, connection, closing, records };
    },
    check: ({ bench, bystander, connection, closing, records }) => {
      assert.equal(bystander.closing, null);
      assert.deepEqual(bench.records, ["y"]);
      assert.ok(records <= 3 * 20);
      // What it was told are frames of the protocol, the last one an error if it was closed for one.
      const told = decodeAll(connection.out.take());
      if (closing !== null && closing.code !== "client_error") assert.equal(told.at(-1)?.kind, "error");
    },
  });
});
