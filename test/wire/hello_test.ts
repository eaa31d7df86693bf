import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { FrameSplitter } from "../../src/wire/frame.ts";
import {
  bytesToHex,
  compareIdentity,
  decodeHandshake,
  encodeHandshake,
  HANDSHAKE_LENGTH_MAX,
  type Handshake,
  type Identity,
  PROTOCOL_VERSION,
  UNKNOWN_ID,
} from "../../src/wire/hello.ts";

const identity: Identity = {
  protocolVersion: PROTOCOL_VERSION,
  channel: "control",
  clusterId: "0123456789abcdef0123456789abcdef",
  buildId: "b11d00000000000000000000",
  fingerprint: "3f2a1111222233334444",
  application: "Alerts (stateful) 🦘",
  worker: "initializer",
  generation: 7,
  incarnation: "ffffffffffffffffffffffffffffffff",
  startNumber: 3,
  checkpoints: true,
};

const messages: Handshake[] = [
  {
    kind: "hello",
    ...identity,
    controlHost: "",
    controlPort: 12500,
    dataHost: "fe80::1",
    dataPort: 12501,
    oldestUnacked: 2 ** 53 - 1,
    workerCount: 2,
  },
  { kind: "welcome", ...identity, channel: "data", worker: "w-1.b_2", receivedThrough: 0 },
  { kind: "refuse", ...identity, code: "fingerprint_differs", sentence: "application fingerprint differs: ours …" },
];

function payload(message: Handshake): Uint8Array {
  return encodeHandshake(message).subarray(4);
}

test("each handshake comes back as it was, also byte by byte", () => {
  for (const message of messages) {
    const splitter = new FrameSplitter({ lengthMax: HANDSHAKE_LENGTH_MAX });
    const decoded: Handshake[] = [];
    for (const byte of encodeHandshake(message)) {
      assert.equal(splitter.push(Uint8Array.of(byte)), "ok");
      for (let i = 0; i < splitter.count; i++) {
        decoded.push(decodeHandshake(splitter.bytes.subarray(splitter.starts[i]!, splitter.ends[i]!)));
      }
    }
    assert.deepStrictEqual(decoded, [message]);
  }
});

test("the layout is fixed", () => {
  const hex = bytesToHex(
    encodeHandshake({ ...messages[1]!, application: "a", buildId: "b", fingerprint: "f" } as Handshake),
  );
  const before = ["544d5231", "02", "0002", "02", identity.clusterId, "000162", "000166", "000161"];
  const after = ["0007772d312e625f32", "00000007", identity.incarnation, "00000003", "01", "0000000000000000"];
  const payloadHex = [...before, ...after].join("");
  assert.equal(payloadHex.length / 2, 75);
  assert.equal(hex, `0000004b${payloadHex}`);
});

test("a handshake cut anywhere is a protocol error; what comes behind is ignored", () => {
  for (const message of messages) {
    const bytes = payload(message);
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(() => decodeHandshake(bytes.subarray(0, length)), ProtocolError);
    }
    assert.deepStrictEqual(decodeHandshake(Uint8Array.from([...bytes, 1, 2])), message);
  }
});

test("something else on the port is told apart", () => {
  for (const text of ["GET / HTTP/1.1\r\n", "\x16\x03\x01\x02", "", "TMR2", "abc"]) {
    const error = (() => {
      try {
        return decodeHandshake(new TextEncoder().encode(text));
      } catch (caught) {
        return caught;
      }
    })();
    assert.ok(error instanceof ProtocolError && error.code === "not_tammar", `${text}: ${error}`);
  }
});

test("fields outside of their range are refused", () => {
  const broken = (at: number, bytes: number[], message = messages[0]!) => {
    const changed = payload(message).slice();
    changed.set(bytes, at < 0 ? changed.length + at : at);
    assert.throws(
      () => decodeHandshake(changed),
      (error) => error instanceof ProtocolError && error.code === "bad_handshake",
    );
  };
  broken(4, [0]);
  broken(4, [4]);
  broken(7, [0]);
  broken(7, [3]);
  broken(24, [0, 129]);
  broken(26, [10]);
  broken(-10, [0x7f, 0xf8, 0, 0, 0, 0, 0, 0]);
  broken(-8, [0xbf, 0xf0, 0, 0, 0, 0, 0, 0], messages[1]!);
  broken(-8, [0x3f, 0xe0, 0, 0, 0, 0, 0, 0], messages[1]!);
  broken(75 - 9, [2], { ...messages[1]!, application: "a", buildId: "b", fingerprint: "f" });
  const evil = payload({ ...messages[1]!, worker: "worker" } as Handshake);
  const at = Buffer.from(evil).indexOf("worker");
  for (const name of ["../../", "wor er", "worke\n", ".orker"]) {
    evil.set(new TextEncoder().encode(name), at);
    assert.throws(() => decodeHandshake(evil), ProtocolError);
  }
});

test("long names and sentences are cut at a whole character and the frame keeps its limit", () => {
  const message = { ...messages[2]!, application: "ü🦘".repeat(200), sentence: "ü🦘".repeat(2000) } as Handshake;
  const bytes = payload(message);
  assert.ok(bytes.length <= HANDSHAKE_LENGTH_MAX && bytes.length > HANDSHAKE_LENGTH_MAX - 4);
  const decoded = decodeHandshake(bytes);
  assert.ok(decoded.kind === "refuse" && message.kind === "refuse" && message.sentence.startsWith(decoded.sentence));
  assert.ok(message.application.startsWith(decoded.application));
  assert.equal(compareIdentity(message, decoded), null);
  const lone = { ...messages[1]!, application: "a\ud800b" };
  assert.equal(compareIdentity(lone, decodeHandshake(payload(lone as Handshake))), null);
});

test("a stranger's sentence cannot steer a terminal", () => {
  const decoded = decodeHandshake(payload({ ...messages[2]!, sentence: "\x1b[2J\nok\u202e" } as Handshake));
  assert.equal(decoded.kind === "refuse" && decoded.sentence, "\\u{1b}[2J\\u{a}ok\\u{202e}");
});

test("identities are compared in order, and the sentence shows both values", () => {
  const compare = (theirs: Partial<Identity>) => compareIdentity(identity, { ...identity, ...theirs });
  assert.equal(compare({}), null);
  assert.equal(compare({ clusterId: UNKNOWN_ID, worker: "w2", generation: 9, startNumber: 5 }), null);
  assert.equal(compareIdentity({ ...identity, clusterId: UNKNOWN_ID }, identity), null);
  assert.deepEqual(compare({ fingerprint: "91c0aaaabbbbcccc" }), {
    code: "fingerprint_differs",
    sentence: "application fingerprint differs: ours 3f2a11112222…, theirs 91c0aaaabbbb…",
  });
  const all = {
    protocolVersion: 9,
    clusterId: "f".repeat(32),
    buildId: "other",
    application: "x\n",
    fingerprint: "",
    checkpoints: false,
  };
  const sentences: string[] = [];
  for (const key of Object.keys(all)) {
    sentences.push(compare(all)!.sentence);
    delete (all as Record<string, unknown>)[key];
  }
  assert.deepEqual(sentences, [
    "protocol version differs: ours 2, theirs 9",
    "cluster id differs: ours 0123456789ab…, theirs ffffffffffff…",
    "build id differs: ours b11d00000000…, theirs other",
    'application name differs: ours "Alerts (stateful) 🦘", theirs "x\\u{a}"',
    "application fingerprint differs: ours 3f2a11112222…, theirs none",
    "checkpoints differ: ours on, theirs off",
  ]);
  assert.equal(
    compare({ fingerprint: `${identity.fingerprint}x` })!.sentence,
    "application fingerprint differs: ours 3f2a1111222233334444, theirs 3f2a1111222233334444x",
  );
});
