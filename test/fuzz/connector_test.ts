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
import {
  decodeRegistryAnswer,
  decodeRegistryRequest,
  encodeRegistryAnswer,
  encodeRegistryRequest,
  type RegistryAnswer,
  type RegistryRequest,
} from "../../src/wire/stream_claims.ts";
import { type Chance, fuzz } from "./fuzz.ts";

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

test("fuzz: a connector frame means something and comes back, or is refused", { timeout: 60_000 }, () => {
  fuzz({
    name: "connector",
    make: (chance) => frameBytes(someFrame(chance)),
    run: (bytes) => {
      const frame = decodeConnectorFrame(bytes);
      assert.deepEqual(decodeConnectorFrame(frameBytes(frame)), frame);
    },
    announced: isProtocolError,
    corpus: ["", "ff", "0600000001ffffffff", "09000000000000000700ffffff", "07ffffffff", "05"],
  });
});

test("fuzz: a two-phase-commit message means something and comes back, or is refused", { timeout: 60_000 }, () => {
  fuzz({
    name: "two-phase commit",
    make: (chance) => transactionBytes(someTransaction(chance)),
    run: (bytes) => {
      const message = decodeTransactionMessage(bytes);
      assert.deepEqual(decodeTransactionMessage(transactionBytes(message)), message);
    },
    announced: isProtocolError,
    corpus: ["", "ca0000000000000001ffffffff", "cb0001740000000f", "cd00017402"],
  });
});

test("fuzz: what is said about streams between workers comes back, or is refused", { timeout: 60_000 }, () => {
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
      ]);
      const isRequest = chance.below(2) === 0;
      const message = isRequest ? encodeRegistryRequest(request) : encodeRegistryAnswer(answer);
      return Uint8Array.of(isRequest ? 1 : 0, ...message);
    },
    run: (bytes) => {
      if (bytes[0] === 1) {
        const request = decodeRegistryRequest(bytes.subarray(1));
        assert.deepEqual(decodeRegistryRequest(encodeRegistryRequest(request)), request);
      } else {
        const answer = decodeRegistryAnswer(bytes.subarray(1));
        assert.deepEqual(decodeRegistryAnswer(encodeRegistryAnswer(answer)), answer);
      }
    },
    announced: isProtocolError,
    corpus: ["", "01", "0104", "0105", "00", "0002000000000000000100000000000000010f"],
  });
});
