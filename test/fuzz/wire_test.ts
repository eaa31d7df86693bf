import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { decodeCbor, encodeCbor } from "../../src/wire/cbor.ts";
import { decodeDataBatch, encodeDataBatch } from "../../src/wire/data_batch.ts";
import { decodeExternalAnswer, decodeExternalRequest, encodeExternal } from "../../src/wire/external.ts";
import { encodeFrame, FrameSplitter } from "../../src/wire/frame.ts";
import { bytesToHex, decodeHandshake, encodeHandshake } from "../../src/wire/hello.ts";
import { decodeMetrics, encodeConnect, encodeJoin, encodePayload } from "../../src/wire/metrics.ts";
import { checkValue, decodeValues, encodeValues } from "../../src/wire/values.ts";
import { type Chance, fuzz } from "./fuzz.ts";

const isProtocolError = (error: unknown) => error instanceof ProtocolError;

const TEXTS = [
  "",
  "a",
  "user-1",
  "kind",
  "grüße",
  "🦘",
  "\ud800",
  "__proto__",
  "constructor",
  "toString",
  "7",
  "x".repeat(300),
];
const NUMBERS = [0, -0, 1, -1, 23, 24, 255, 256, 65536, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53 - 1, 1.5, NaN, Infinity];

/** Data that JSON knows, roughly. */
function plain(chance: Chance, depth: number): unknown {
  switch (chance.below(depth <= 0 ? 5 : 8)) {
    case 0:
      return chance.pick(NUMBERS);
    case 1:
      return chance.pick(TEXTS);
    case 2:
      return chance.pick([true, false, null, undefined]);
    case 3:
      return chance.bytes(chance.below(9));
    case 4:
      return chance.below(1000);
    case 5:
      return Array.from({ length: chance.below(4) }, () => plain(chance, depth - 1));
    default: {
      const object: Record<string, unknown> = {};
      for (let rest = chance.below(4); rest > 0; rest--) {
        const enumerable = { value: plain(chance, depth - 1), enumerable: true, configurable: true, writable: true };
        Object.defineProperty(object, chance.pick(TEXTS), enumerable);
      }
      return object;
    }
  }
}

/** And what only values can carry. */
function rich(chance: Chance): unknown {
  switch (chance.below(8)) {
    case 0:
      return BigInt(chance.pick([0, 1, -1, 255, 2 ** 52])) ** BigInt(1 + chance.below(4));
    case 1:
      return new Date(chance.pick(NUMBERS));
    case 2:
      return new Map([[plain(chance, 1), plain(chance, 2)]]);
    case 3:
      return new Set([plain(chance, 1), 1n]);
    case 4:
      return chance.pick([new Float64Array(2), new BigInt64Array(1), new Int16Array(3), new ArrayBuffer(2)]);
    default:
      return plain(chance, 3);
  }
}

function batchOfValues(chance: Chance): unknown[] {
  const count = chance.below(6);
  const make = chance.pick<() => unknown>([
    () => chance.pick(NUMBERS),
    () => chance.pick(TEXTS),
    () => chance.pick([true, false, null, undefined]),
    () => ({ user: chance.pick(TEXTS), amount: chance.pick(NUMBERS), more: { at: chance.below(9), ok: true } }),
    () => [chance.pick(TEXTS), chance.below(5)],
    () => chance.bytes(chance.below(5)),
    () => rich(chance),
    () => ({ mixed: rich(chance), n: 1 }),
  ]);
  return Array.from({ length: count }, make);
}

test("fuzz: frames come out the same however the stream is cut", { timeout: 60_000 }, () => {
  fuzz({
    name: "frames",
    make: (chance) => {
      const header = { bytes: 1 + chance.below(4), littleEndian: chance.below(2) === 0 };
      const frames = Array.from({ length: chance.below(6) }, () => encodeFrame(chance.bytes(chance.below(70)), header));
      return Buffer.concat([Uint8Array.of(header.bytes, header.littleEndian ? 1 : 0), ...frames]);
    },
    run: (input, chance) => {
      const header = { bytes: 1 + ((input[0] ?? 0) % 8), littleEndian: input[1] === 1 };
      // As made, mostly.
      if ((input[0] ?? 0) >= 1 && (input[0] ?? 0) <= 4) header.bytes = input[0]!;
      const stream = new Uint8Array(input.subarray(2));
      const whole = new FrameSplitter({ header, lengthMax: 64 });
      const outcome = whole.push(stream);
      const expected: string[] = [];
      for (let i = 0; i < whole.count; i++)
        expected.push(bytesToHex(stream.subarray(whole.starts[i]!, whole.ends[i]!)));
      const cut = new FrameSplitter({ header, lengthMax: 64 });
      const got: string[] = [];
      let cutOutcome: unknown = "ok";
      for (let at = 0; at < stream.length; ) {
        const to = Math.min(stream.length, at + 1 + chance.below(chance.pick([1, 5, 100])));
        const chunk = stream.slice(at, to);
        cutOutcome = cut.push(chunk);
        for (let i = 0; i < cut.count; i++) got.push(bytesToHex(cut.bytes.subarray(cut.starts[i]!, cut.ends[i]!)));
        chunk.fill(0xee);
        at = to;
      }
      assert.deepEqual(got, expected);
      assert.deepEqual(cutOutcome, outcome);
      assert.equal(cut.pending, whole.pending);
    },
    corpus: ["0400", "0400ffffffff", "080000000001000000", "01000000", "0101ff"],
  });
});

test("fuzz: the external channel answers every frame with a message or a fault", { timeout: 60_000 }, () => {
  fuzz({
    name: "external",
    make: (chance) => {
      const text = chance.pick(TEXTS);
      const nodeNames = [text, chance.pick(TEXTS)];
      const message = chance.pick([
        { kind: "print", text } as const,
        { kind: "clean_shutdown", text } as const,
        { kind: "state_entity_query" } as const,
        { kind: "shrink_request", query: true, nodeNames, nodeCount: chance.below(9) } as const,
        { kind: "cluster_status_query_response_not_initialized" } as const,
        { kind: "shutdown_report", body: { worker: text, status: "stopped", detail: "" } } as const,
        { kind: "status_query_response", body: plain(chance, 3) ?? null } as const,
      ]);
      return encodeExternal(message).slice(4);
    },
    run: (bytes) => {
      const request = decodeExternalRequest(bytes);
      const answer = decodeExternalAnswer(bytes);
      assert.ok(request.kind === "fault" || answer.kind === "fault");
      if (request.kind !== "fault" && request.kind !== "shrink_request") {
        assert.deepEqual(decodeExternalRequest(encodeExternal(request).subarray(4)), request);
      }
    },
    corpus: ["", "00", "0004", "00045b5b5b5b", "000a7b225f5f70726f746f5f5f223a317d", "03e9", "03ea7b7d"],
  });
});

test("fuzz: the metrics channel makes a message or a fault of every frame", { timeout: 60_000 }, () => {
  fuzz({
    name: "metrics",
    make: (chance) => {
      const out = new ByteWriter();
      const text = () => chance.pick(TEXTS.slice(0, 6));
      switch (chance.below(6)) {
        case 0:
          encodeConnect(out);
          break;
        case 1:
          encodeJoin(out, text(), text());
          break;
        default: {
          const bins = Array.from({ length: 65 }, () => chance.pick([0, 1, 2 ** 53, 2n ** 64n - 1n]));
          const names = { name: text(), category: text(), worker: text(), pipeline: text(), id: chance.below(65536) };
          encodePayload(out, text(), {
            ...names,
            bins,
            min: 0,
            max: 2n ** 64n - 1n,
            periodNs: 2e9,
            periodEndNs: 1546300802e9,
          });
        }
      }
      return out.take().slice(4);
    },
    run: (bytes) => {
      const message = decodeMetrics(bytes);
      if (message.kind !== "payload") return;
      const out = new ByteWriter();
      encodePayload(out, message.topic, message);
      assert.deepEqual(decodeMetrics(out.take().subarray(4)), message);
    },
    corpus: ["", "04", "0200000000", "03000000076d657472696373ffffffff"],
  });
});

test("fuzz: CBOR is refused, or means the same when written again", { timeout: 60_000 }, () => {
  fuzz({
    name: "cbor",
    make: (chance) => encodeCbor(plain(chance, 5)),
    run: (bytes) => {
      const value = decodeCbor(bytes);
      // Bytes are compared, since -0 is written as 0.
      const again = encodeCbor(value);
      assert.deepEqual(encodeCbor(decodeCbor(again)), again);
    },
    announced: isProtocolError,
    corpus: [
      "",
      "ff",
      "9f",
      "a1",
      "d81b82665265674578706661",
      "1b0000000000000001",
      "a2616101616102",
      "7affffffff",
      "c340",
    ],
  });
});

test("fuzz: a handshake is refused, or means the same when written again", { timeout: 60_000 }, () => {
  fuzz({
    name: "hello",
    make: (chance) => {
      const identity = {
        protocolVersion: chance.below(65536),
        channel: chance.pick(["control", "data"] as const),
        clusterId: bytesToHex(chance.bytes(16)),
        buildId: chance.pick(["", "b1", "x".repeat(128)]),
        fingerprint: chance.pick(["", "f1", "~".repeat(64)]),
        application: chance.pick(TEXTS),
        worker: chance.pick(["initializer", "w1", "a.b_c-d"]),
        generation: chance.below(2 ** 32),
        incarnation: bytesToHex(chance.bytes(16)),
        startNumber: chance.below(2 ** 32),
      };
      const addresses = { controlHost: "10.0.0.1", controlPort: 1, dataHost: "", dataPort: 65535 };
      const message = chance.pick([
        {
          kind: "hello",
          ...identity,
          ...addresses,
          oldestUnacked: chance.below(9),
          workerCount: chance.below(9),
        } as const,
        { kind: "welcome", ...identity, receivedThrough: 2 ** 53 - 1 } as const,
        { kind: "refuse", ...identity, code: "c", sentence: chance.pick(TEXTS) } as const,
      ]);
      return encodeHandshake(message).slice(4);
    },
    run: (bytes) => {
      const message = decodeHandshake(bytes);
      const again = decodeHandshake(encodeHandshake(message).subarray(4));
      // What was cut or escaped once stays as it is.
      assert.deepStrictEqual(again, message);
    },
    announced: isProtocolError,
    corpus: ["", "544d5231", "544d523101", "474554202f"],
  });
});

test("fuzz: a block of values is refused, or decodes to values that can be carried", { timeout: 60_000 }, () => {
  fuzz({
    name: "values",
    make: (chance) => {
      const values = batchOfValues(chance);
      const out = new ByteWriter();
      out.u8(values.length);
      encodeValues(values, values.length, out);
      return out.take();
    },
    run: (bytes) => {
      if (bytes.length === 0) return;
      const count = bytes[0]!;
      const values = decodeValues(bytes, 1, bytes.length - 1, count);
      assert.equal(values.length, count);
      const out = new ByteWriter();
      encodeValues(values, count, out);
      const block = out.take();
      encodeValues(decodeValues(block, 0, block.length, count), count, out);
      assert.deepEqual(out.take(), block);
      for (const value of values) checkValue(value);
    },
    announced: isProtocolError,
    corpus: ["00", "0104", "01ff", "0100ffffffff", "010401", "ff03", "0104800102", "0105ffffffff0f"],
  });
});

test("fuzz: a data batch is refused, or comes out whole", { timeout: 60_000 }, () => {
  fuzz({
    name: "data batch",
    make: (chance) => {
      const values = batchOfValues(chance);
      const count = values.length;
      const keyed = chance.below(4) > 0;
      const out = new ByteWriter();
      encodeDataBatch(
        {
          exchange: chance.below(65536),
          pipeline: chance.below(4),
          count,
          watermark: chance.pick([-Infinity, 0, 1.7e15]),
          arrivalMs: 1.7e12,
          times: new Float64Array(count),
          hashes: new Uint32Array(keyed ? count : 0),
          keys: keyed ? values.map(() => chance.pick(TEXTS)) : [],
          values,
        },
        out,
      );
      return out.take();
    },
    run: (bytes) => {
      const batch = decodeDataBatch(bytes);
      assert.equal(batch.times.length, batch.count);
      assert.equal(batch.values.length, batch.count);
      assert.equal(batch.keys.length, batch.hashes.length);
      const out = new ByteWriter();
      encodeDataBatch(batch, out);
    },
    announced: isProtocolError,
    corpus: ["", "0000000000000000ffffffff", `00000000ffffffff${"00".repeat(17)}`],
  });
});
