import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import {
  COMMIT_STREAM,
  type ConnectorFrame,
  decodeConnectorFrame,
  decodeTransactionMessage,
  encodeConnectorFrame,
  encodeTransactionMessage,
  MESSAGE_AT,
  MESSAGE_OVERHEAD_BYTES,
  type TransactionMessage,
} from "../../src/wire/connector.ts";
import { fromHex, splitEveryWay, vectors } from "./vectors.ts";

/** What the vectors assume of a source. */
const FRAME_BYTES_MAX = 16_384;

type Fields = Record<string, unknown>;

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** `name` in `expected` as hex, or as length and digest where it is long. */
function sameBytes(expected: Fields, name: string, bytes: Uint8Array): void {
  if (`${name}_len` in expected) {
    assert.equal(bytes.length, expected[`${name}_len`]);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), expected[`${name}_sha256`]);
  } else if (`${name}_hex` in expected) assert.equal(hex(bytes), expected[`${name}_hex`]);
  else assert.equal(Buffer.from(bytes).toString("utf8"), expected[name]);
}

/** The fields of a frame as the vectors name them, byte fields apart. */
function named(frame: ConnectorFrame): Fields {
  switch (frame.kind) {
    case "hello":
      return { version: frame.version, program_name: frame.program, instance_name: frame.instance };
    case "ok":
      return { initial_credits: frame.credits };
    case "error":
      return { message: frame.text };
    case "notify":
      return { stream_id: `${frame.stream}`, point_of_ref: `${frame.point}` };
    case "notify_ack":
      return { success: frame.success, stream_id: `${frame.stream}`, point_of_ref: `${frame.point}` };
    case "message":
      return { stream_id: `${frame.stream}`, message_id: `${frame.id}`, event_time: `${frame.eventTime}` };
    case "ack": {
      const acks = frame.points.map(({ stream, point }) => ({ stream_id: `${stream}`, point_of_ref: `${point}` }));
      return { credits: frame.credits, acks };
    }
    case "restart":
      return { address: frame.address };
    case "end_of_stream":
      return { stream_id: `${frame.stream}` };
    case "workers_left":
      return { rtag: `${frame.request}`, leaving_workers: frame.workers };
  }
}

const TYPES: Readonly<Record<string, ConnectorFrame["kind"]>> = {
  HELLO: "hello",
  OK: "ok",
  ERROR: "error",
  NOTIFY: "notify",
  NOTIFY_ACK: "notify_ack",
  MESSAGE: "message",
  ACK: "ack",
  RESTART: "restart",
  EOS_MESSAGE: "end_of_stream",
  WORKERS_LEFT: "workers_left",
};

function checkFrame(payload: Uint8Array, expected: Fields): void {
  const frame = decodeConnectorFrame(payload);
  assert.equal(frame.kind, TYPES[expected["type"] as string]);
  assert.equal(payload[0], expected["tag"]);
  for (const [name, value] of Object.entries(named(frame))) assert.deepEqual(value, expected[name], name);
  if (frame.kind === "hello") sameBytes(expected, "cookie", frame.cookie);
  if (frame.kind === "notify") sameBytes(expected, "stream_name", frame.name);
  if (frame.kind === "message") {
    sameBytes(expected, "key", frame.key);
    if ("body_hex" in expected || "body_len" in expected) sameBytes(expected, "body", frame.body);
  }
  const out = new ByteWriter();
  encodeConnectorFrame(frame, out);
  assert.equal(hex(out.take().subarray(4)), hex(payload));
}

function namedTransaction(message: TransactionMessage): Fields {
  switch (message.kind) {
    case "list_uncommitted":
      return { tag: 201, type: "LIST_UNCOMMITTED", rtag: `${message.request}` };
    case "uncommitted":
      return { tag: 202, type: "REPLY_UNCOMMITTED", rtag: `${message.request}`, txn_ids: message.ids };
    case "phase1": {
      const where = message.ranges.map((range) => ({
        stream_id: `${range.stream}`,
        start: `${range.start}`,
        end: `${range.end}`,
      }));
      return { tag: 203, type: "PHASE1", txn_id: message.id, where };
    }
    case "vote":
      return { tag: 204, type: "PHASE1_REPLY", txn_id: message.id, commit: message.commit };
    case "phase2":
      return { tag: 205, type: "PHASE2", txn_id: message.id, commit: message.commit };
    case "workers_left":
      return { tag: 206, type: "WORKERS_LEFT", rtag: `${message.request}`, leaving_workers: message.workers };
  }
}

function checkTransaction(payload: Uint8Array, inner: Fields): void {
  const frame = decodeConnectorFrame(payload);
  assert.ok(frame.kind === "message" && frame.stream === COMMIT_STREAM);
  const message = decodeTransactionMessage(frame.body);
  assert.deepEqual(namedTransaction(message), inner);
  const out = new ByteWriter();
  encodeTransactionMessage(message, out);
  assert.equal(hex(out.take().subarray(4)), hex(payload));
}

function refusal(decode: () => unknown): string {
  try {
    decode();
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error));
    return error.code.replaceAll("_", "-");
  }
  return "";
}

for (const { name, hex: bytes, decoded, malformed } of vectors("connector-v3.json")) {
  test(`connector vector ${name}`, () => {
    const stream = fromHex(bytes);
    // Three of them are for the side without a limit.
    const lengthMax = malformed ? FRAME_BYTES_MAX : 1 << 20;
    const { payloads, outcome, pending } = splitEveryWay(stream, lengthMax, undefined, decoded.split_at);
    if (malformed === undefined) {
      assert.equal(outcome, "ok");
      const expected: Fields[] = decoded.frames ?? [decoded];
      assert.equal(payloads.length, expected.length);
      for (const [i, payload] of payloads.entries()) checkFrame(payload, expected[i]!);
      if (name === "message-at-limit") assert.equal(splitEveryWay(stream, FRAME_BYTES_MAX).payloads.length, 1);
      return;
    }
    switch (decoded.outcome) {
      case "close":
        assert.equal(outcome, "frame_too_large");
        return;
      case "incomplete":
        assert.deepEqual([outcome, payloads.length, pending > 0], ["ok", 0, true]);
        return;
      case "accept":
        decodeConnectorFrame(payloads[0]!);
        return;
      case "error-and-close": {
        // Whose cookie is not UTF-8 is refused for the cookie, by the source.
        const expected = decoded.error === "bad-cookie" ? "" : decoded.error;
        assert.equal(
          refusal(() => decodeConnectorFrame(payloads[0]!)),
          expected,
        );
        return;
      }
      default:
        assert.fail(decoded.outcome);
    }
  });
}

test("what is taken of odd frames: trailing bytes go, any success but 1 is none, a RESTART may lack its field", () => {
  assert.deepEqual(decodeConnectorFrame(fromHex("080000000000000001000000000000004d")), {
    kind: "end_of_stream",
    stream: 1n,
  });
  const ack = decodeConnectorFrame(fromHex("040200000000000000010000000000000005"));
  assert.ok(ack.kind === "notify_ack" && !ack.success && ack.point === 5n);
  assert.deepEqual(decodeConnectorFrame(fromHex("07")), { kind: "restart", address: "" });
  const hello = decodeConnectorFrame(fromHex("000005302e302e310002fffe000170000169"));
  assert.ok(hello.kind === "hello" && hex(hello.cookie) === "fffe");
});

for (const { name, hex: bytes, decoded, malformed } of vectors("connector-2pc.json")) {
  test(`two-phase-commit vector ${name}`, () => {
    const { payloads, outcome } = splitEveryWay(fromHex(bytes), 1 << 20);
    assert.deepEqual([outcome, payloads.length], ["ok", 1]);
    const payload = payloads[0]!;
    if (malformed === undefined) {
      checkFrame(payload, { ...decoded.outer, key_hex: decoded.outer.key_hex });
      checkTransaction(payload, decoded.inner);
      return;
    }
    const frame = decodeConnectorFrame(payload);
    // These three are well formed, and nothing that a sink may say: the session refuses them.
    if (["bad-stream", "unexpected-frame", "too-few-credits"].includes(decoded.error)) return;
    assert.ok(frame.kind === "message");
    const expected = decoded.error === "empty" ? "empty-frame" : decoded.error;
    assert.equal(
      refusal(() => decodeTransactionMessage(frame.body)),
      expected,
    );
  });
}

for (const { name, decoded } of vectors("connector-sessions.json")) {
  test(`every frame of the conversation ${name} is read and written`, () => {
    for (const step of decoded.steps) {
      if (step.event !== undefined) continue;
      const { payloads, outcome } = splitEveryWay(fromHex(step.hex), 1 << 20);
      assert.deepEqual([outcome, payloads.length], ["ok", 1]);
      checkFrame(payloads[0]!, step.frame);
      if (step.frame.inner !== undefined) checkTransaction(payloads[0]!, step.frame.inner);
    }
  });
}

test("the fields of a MESSAGE lie where the batched reader looks for them", () => {
  const out = new ByteWriter();
  const key = fromHex("0102");
  const body = fromHex("aabbcc");
  encodeConnectorFrame({ kind: "message", stream: 7n, id: 8n, eventTime: -9n, key, body }, out);
  const bytes = out.take();
  assert.equal(bytes.length, MESSAGE_OVERHEAD_BYTES + key.length + body.length);
  const view = new DataView(bytes.buffer, 4);
  assert.equal(view.getBigUint64(MESSAGE_AT.stream), 7n);
  assert.equal(view.getBigUint64(MESSAGE_AT.id), 8n);
  assert.equal(view.getBigInt64(MESSAGE_AT.eventTime), -9n);
  assert.equal(view.getUint16(MESSAGE_AT.keyLength), 2);
  assert.equal(view.getUint8(MESSAGE_AT.key), 1);
});
