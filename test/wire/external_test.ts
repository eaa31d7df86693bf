import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeExternalAnswer,
  decodeExternalRequest,
  EXTERNAL_REQUEST_LENGTH_MAX,
  type ExternalAnswer,
  type ExternalRequest,
  encodeExternal,
  SHRINK_TEXTS,
} from "../../src/wire/external.ts";
import { fromHex, splitEveryWay, vectors } from "./vectors.ts";

const snake = (name: string) => name.replace(/(?<!^)[A-Z]/g, (c) => `_${c}`).toLowerCase();

interface Expected {
  id: number;
  type: string;
  body_text?: string;
  body_json?: Record<string, unknown>;
}

/** A worker's view of a payload if it is a request, a tool's otherwise. */
function decode(payload: Uint8Array) {
  const request = decodeExternalRequest(payload);
  return request.kind === "fault" && request.code === "unexpected_message" ? decodeExternalAnswer(payload) : request;
}

function check(payload: Uint8Array, expected: Expected): void {
  assert.equal(new DataView(payload.buffer, payload.byteOffset).getUint16(0), expected.id);
  const message = decode(payload);
  assert.equal(message.kind, snake(expected.type));
  if (message.kind === "shrink_request") {
    const { query, node_names, node_count } = expected.body_json!;
    const nodeCount = (node_count as number) < 0 ? Number.POSITIVE_INFINITY : node_count;
    assert.deepStrictEqual(message, { kind: "shrink_request", query, nodeNames: node_names, nodeCount });
  } else if ("text" in message) assert.equal(message.text, expected.body_text);
  else if ("body" in message) assert.deepStrictEqual(message.body, expected.body_json);
  else assert.equal(expected.body_text, "");
  // And back.
  const again = encodeExternal(message as ExternalRequest | ExternalAnswer).subarray(4);
  if (message.kind === "shrink_request" && message.nodeCount === Number.POSITIVE_INFINITY) return;
  assert.deepStrictEqual(decode(again), message);
  if (expected.body_text !== undefined) assert.deepEqual(again, payload);
}

for (const vector of vectors("external.json")) {
  const { decoded } = vector;
  test(`external vector ${vector.name}`, () => {
    const { payloads, outcome, pending } = splitEveryWay(fromHex(vector.hex), EXTERNAL_REQUEST_LENGTH_MAX);
    if (!vector.malformed) {
      assert.equal(outcome, "ok");
      const messages = decoded.messages ?? [decoded];
      assert.equal(payloads.length, messages.length);
      for (const [i, payload] of payloads.entries()) check(payload, messages[i]);
      return;
    }
    switch (decoded.outcome) {
      case "close":
        assert.equal(outcome, "frame_too_large");
        return;
      case "incomplete":
        assert.deepEqual([outcome, payloads.length, pending > 0], ["ok", 0, true]);
        return;
      case "skip": {
        const fault = decodeExternalRequest(payloads[0]!);
        assert.ok(fault.kind === "fault", `decoded to ${fault.kind}`);
        assert.equal(fault.code, decoded.error.replaceAll("-", "_"));
        if (vector.name === "zero-length-frame") {
          assert.deepEqual(decodeExternalRequest(payloads[1]!), { kind: "cluster_status_query" });
        }
        return;
      }
      default:
        assert.fail(decoded.outcome);
    }
  });
}

test("our own messages come back as they were", () => {
  const requests: ExternalRequest[] = [
    { kind: "shutdown_and_report", text: "maintenance" },
    { kind: "suspend_and_report", text: "" },
    { kind: "status_query" },
    { kind: "checkpoint_request" },
    { kind: "shrink_request", query: true, nodeNames: ["w1", 'w"2'], nodeCount: 0 },
  ];
  for (const request of requests)
    assert.deepStrictEqual(decodeExternalRequest(encodeExternal(request).subarray(4)), request);
  const answers: ExternalAnswer[] = [
    { kind: "shutdown_report", body: { worker: "w1", status: "stopped", detail: "" } },
    { kind: "shutdown_report", body: { done: true, ok: false } },
    { kind: "status_query_response", body: { anything: ["\ud83e\udd98"] } },
    { kind: "shrink_error_response", text: SHRINK_TEXTS.accepted(2) },
    { kind: "checkpoint_response", body: { epoch: 7, reason: "" } },
  ];
  for (const answer of answers)
    assert.deepStrictEqual(decodeExternalAnswer(encodeExternal(answer).subarray(4)), answer);
  const ids = [...requests, ...answers].map(
    (message) => encodeExternal(message)[4]! * 256 + encodeExternal(message)[5]!,
  );
  assert.deepEqual(ids, [1001, 1007, 1003, 1005, 4, 1002, 1002, 1004, 6, 1006]);
});

test("the body of a request without one is ignored; text that is not UTF-8 is a fault", () => {
  assert.deepEqual(decodeExternalRequest(fromHex("0009ffff")), { kind: "cluster_status_query" });
  const fault = decodeExternalRequest(fromHex("0001ff"));
  assert.ok(fault.kind === "fault" && fault.code === "bad_text");
  const request = decodeExternalAnswer(fromHex("0009"));
  assert.ok(request.kind === "fault" && request.code === "unexpected_message");
});

test("only an integer is a count, whatever else the body holds", () => {
  const decodeJson = (json: string) => decodeExternalRequest(Buffer.concat([fromHex("0004"), Buffer.from(json)]));
  for (const count of ["2.0", "2e0", "1E1", '"2"', "null", "1.5", "[]"]) {
    const fault = decodeJson(`{"query":false,"node_names":[],"node_count":${count}}`);
    assert.ok(fault.kind === "fault" && fault.code === "bad_json", count);
  }
  for (const json of ["", "null", "[]", "3", '{"query":1,"node_names":[],"node_count":1}', "[".repeat(16000)]) {
    assert.equal(decodeJson(json).kind, "fault", json.slice(0, 50));
  }
  assert.equal(
    decodeJson('{"node_count":0,"node_names":["\\"node_count\\":2.0"],"query":true,"more":[1.5]}').kind,
    "shrink_request",
  );
});
