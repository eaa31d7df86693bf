import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ProtocolError } from "../../../src/base/errors.ts";
import { encodeCbor } from "../../../src/wire/cbor.ts";
import type { ControlMessage } from "../../../src/wire/control.ts";
import { decodeControlMessage, encodeControlMessage } from "../../../src/wire/control_codec.ts";

const member = { name: "w1", control: { host: "10.0.0.1", port: 7000 }, data: { host: "::1", port: 65_535 } };
const report = { worker: "w1", complete: false, leftBehind: "3 batches" };

const EACH: readonly ControlMessage[] = [
  {
    kind: "form",
    clusterId: "0f".repeat(16),
    generation: 1,
    routingVersion: 1,
    keyGroupCount: 1_024,
    members: [{ ...member, name: "initializer" }, member],
  },
  { kind: "form_saved" },
  { kind: "formed" },
  { kind: "phase_reached", phase: 3 },
  { kind: "work" },
  { kind: "stop_requested", reason: "SIGTERM", keep: true },
  { kind: "stop", reason: "SIGTERM", keep: false, deadlineMs: 7_999.5 },
  { kind: "drained", ...report },
  { kind: "exit", reports: [report, { worker: "w2", complete: true, leftBehind: "" }], remove: true, suspended: false },
  { kind: "moved", members: [member] },
  { kind: "query", query: "status", request: 7 },
  { kind: "checkpoint_begin", generation: 2, epoch: 3 },
  { kind: "checkpoint_stored", generation: 2, epoch: 3, stateBytes: 4, writtenBytes: 5 },
  { kind: "checkpoint_failed", generation: 2, epoch: 3, reason: "no", rollBack: true },
  { kind: "checkpoint_abort", generation: 2, epoch: 3, reason: "no", failures: 1 },
  { kind: "checkpoint_complete", generation: 2, epoch: 3 },
  { kind: "checkpoint_asked", request: 1 },
  { kind: "rotate_log" },
  { kind: "checkpoint_answered", request: 1, epoch: 0, reason: "no" },
  { kind: "roll_back_wanted", generation: 2, reason: "no" },
  { kind: "recover", generation: 2, reason: "w1 has started" },
  { kind: "recovery_facts", generation: 2, epochs: [1, 2], written: 3, unreadable: "a file is torn" },
  { kind: "restore", generation: 2, epoch: 2, empty: false },
  { kind: "restored", generation: 2, entries: 10 },
  { kind: "recovered", generation: 2, epoch: 2 },
  { kind: "letters_taken", generation: 2, request: 3, count: 4, cut: 5, refused: [{ index: 1, why: "no such stage" }] },
  { kind: "recovery_refused", generation: 2, code: "state_lost", sentence: "its files are lost" },
  { kind: "answer", request: 7, body: { a: [1, "x", null, true, { b: 1.5 }] } },
];

const STREAMS: readonly ControlMessage[] = [
  { kind: "stream_request", generation: 2, source: 0, request: { kind: "claim", claim: 1, stream: 2n ** 64n - 1n } },
  {
    kind: "stream_request",
    generation: 2,
    source: 1,
    request: { kind: "restored", streams: [{ stream: 1n, covered: -1n, seen: 2n ** 63n, claim: 3 }] },
  },
  {
    kind: "stream_answer",
    generation: 2,
    source: 0,
    answer: { kind: "granted", claim: 1, stream: 5n, covered: -1n },
  },
  {
    kind: "stream_answer",
    generation: 2,
    source: 0,
    answer: { kind: "refused", claim: 1, stream: 5n, reason: "active" },
  },
  { kind: "stream_answer", generation: 2, source: 0, answer: { kind: "wanted", claim: 1, stream: 5n } },
];

test("messages about streams come out as they went in, and anything else is refused", () => {
  for (const message of STREAMS) {
    assert.deepEqual(decodeControlMessage(encodeControlMessage(message)), message);
    const field = message.kind === "stream_request" ? "request" : "answer";
    for (const value of [undefined, "x", new Uint8Array(0), Uint8Array.of(9, 9, 9)]) {
      const changed = encodeCbor({ kind: message.kind, generation: 2, source: 0, [field]: value });
      assert.throws(() => decodeControlMessage(changed), ProtocolError);
    }
  }
});

test("every control message comes out as it went in", () => {
  for (const message of EACH) {
    const decoded = decodeControlMessage(encodeControlMessage(message));
    assert.equal(JSON.stringify(decoded), JSON.stringify(message));
  }
});

test("a control message without one of its fields, or with one of another type, is refused and says which", () => {
  let tried = 0;
  for (const message of EACH) {
    for (const field of Object.keys(message)) {
      for (const value of [undefined, -1, 1.25, {}, ["x"], Number.NaN, "\u0000"]) {
        const isFree = field === "body" || (field === "deadlineMs" && value === 1.25);
        const isText = ["reason", "leftBehind", "sentence", "unreadable"].includes(field) && typeof value === "string";
        if (isFree || isText) continue;
        const bytes = encodeCbor({ ...message, [field]: value });
        assert.throws(
          () => decodeControlMessage(bytes),
          (error: ProtocolError) => error.code === "bad_control_message",
          `${message.kind}.${field} = ${value}`,
        );
        tried++;
      }
    }
  }
  assert.ok(tried > 100);
});

test("a worker that has epochs of days can say so, and one with gaps in them; nonsense is refused", () => {
  const facts = (epochs: readonly number[]) =>
    ({ kind: "recovery_facts", generation: 2, epochs, written: 9, unreadable: "" }) as const;
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  for (const epochs of [[], [1], [1, 2, 4], range(3, 200_000), [...range(1, 9), ...range(11, 5_000), 7_000]]) {
    const bytes = encodeControlMessage(facts(epochs));
    assert.ok(bytes.length < 200, `${bytes.length} bytes`);
    assert.deepEqual(decodeControlMessage(bytes), facts(epochs));
  }
  // What is too much for the bounds are the oldest ones.
  const every2nd = Array.from({ length: 9_000 }, (_, i) => i * 2 + 1);
  assert.deepEqual(decodeControlMessage(encodeControlMessage(facts(every2nd))), facts(every2nd.slice(-4_096)));
  assert.deepEqual(decodeControlMessage(encodeControlMessage(facts(range(1, 1_000_010)))), facts(range(11, 1_000_010)));
  for (const epochs of [[1], [0, 1], [2, 1], [1, 2, 2, 3], [1, 1_000_001], [1, 1e300], [1.5, 2], "x", [1, "2"]]) {
    const bytes = encodeCbor({ kind: "recovery_facts", generation: 2, epochs, written: 9, unreadable: "" });
    assert.throws(() => decodeControlMessage(bytes), { code: "bad_control_message" }, JSON.stringify(epochs));
  }
});

test("dead letters come out as they went in", () => {
  const message = { kind: "letters", generation: 2, request: 3, letters: Uint8Array.of(1, 2) } as const;
  assert.deepEqual(decodeControlMessage(encodeControlMessage(message)), message);
  const bad = encodeCbor({ ...message, letters: "x" });
  assert.throws(() => decodeControlMessage(bad), { code: "bad_control_message" });
});

test("names, addresses and counts out of bounds are refused", () => {
  const form = EACH[0]!;
  const refused = (change: object) =>
    assert.throws(() => decodeControlMessage(encodeCbor({ ...form, ...change })), { code: "bad_control_message" });
  refused({ members: [{ ...member, name: "../x" }] });
  refused({ members: [{ ...member, control: { host: "a b", port: 1 } }] });
  refused({ members: [{ ...member, control: { host: "a", port: 0 } }] });
  refused({ members: [{ ...member, control: { host: "a", port: 65_536 } }] });
  refused({ members: Array.from({ length: 257 }, () => member) });
  refused({ clusterId: "0F".repeat(16) });
  refused({ generation: 0 });
  assert.throws(() => decodeControlMessage(encodeCbor([])), { code: "bad_control_message" });
  assert.throws(() => decodeControlMessage(encodeCbor({ kind: "toString" })), { code: "bad_control_message" });
  assert.throws(() => decodeControlMessage(encodeCbor({ kind: "stop", reason: "x".repeat(5_000), deadlineMs: 1 })), {
    code: "bad_control_message",
  });
});

test("fields nobody knows are left out", () => {
  const decoded = decodeControlMessage(encodeCbor({ kind: "work", extra: 1, __proto__: { polluted: true } }));
  assert.deepEqual(Object.keys(decoded), ["kind"]);
});

test("bytes at random are a control message or a ProtocolError, nothing else", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .tuple(fc.constantFrom(...EACH), fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 3 }))
      .map(([message, changes]) => {
        const encoded = encodeControlMessage(message);
        for (const [at, value] of changes) encoded[at % encoded.length] = value;
        return encoded;
      }),
  );
  fc.assert(
    fc.property(bytes, (each) => {
      try {
        decodeControlMessage(each);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
      }
    }),
    { numRuns: 20_000 },
  );
});
