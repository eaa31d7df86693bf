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
import { decodeResendBatch, encodeResendBatch } from "../../src/wire/resend.ts";
import { checkValue, decodeValues, encodeValues } from "../../src/wire/values.ts";
import { inPieces } from "./damage.ts";
import { fuzz } from "./fuzz.ts";
import { batchOfValues, plain, TEXTS } from "./some_values.ts";

const isProtocolError = (error: unknown) => error instanceof ProtocolError;

/** Blocks of about 1 MiB, of every kind of column. */
const LARGE_BATCHES: readonly (readonly unknown[])[] = [
  Array.from({ length: 120_000 }, (_, i) => i / 3),
  Array.from({ length: 80_000 }, (_, i) => `text ${i}`),
  Array.from({ length: 1_000_000 }, (_, i) => i % 2 === 0),
  Array.from({ length: 20_000 }, (_, i) => ({ user: `user ${i}`, amount: i, more: { at: i, ok: true } })),
  Array.from({ length: 40_000 }, (_, i) => [i, `pair ${i}`]),
  Array.from({ length: 50_000 }, (_, i) => new Uint8Array(i % 32)),
  Array.from({ length: 50_000 }, (_, i) => (i % 2 === 0 ? new Map([[i, `v${i}`]]) : new Set([i]))),
  Array.from({ length: 100_000 }, (_, i) => (i % 2 === 0 ? BigInt(i) ** 8n : i)),
];

test("fuzz: frames come out the same however the stream is cut", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "frames",
    make: (chance) => {
      const header = { bytes: 1 + chance.below(4), littleEndian: chance.below(2) === 0 };
      const frames = Array.from({ length: chance.below(6) }, () => encodeFrame(chance.bytes(chance.below(70)), header));
      return Buffer.concat([Uint8Array.of(header.bytes, header.littleEndian ? 1 : 0), ...frames]);
    },
    decode: (input, chance) => {
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
      inPieces(stream, chance, (piece) => {
        cutOutcome = cut.push(piece);
        for (let i = 0; i < cut.count; i++) got.push(bytesToHex(cut.bytes.subarray(cut.starts[i]!, cut.ends[i]!)));
      });
      assert.deepEqual(got, expected);
      assert.deepEqual(cutOutcome, outcome);
      assert.equal(cut.pending, whole.pending);
    },
  });
});

test("fuzz: the external channel answers every frame with a message or a fault", { timeout: 300_000 }, async () => {
  await fuzz({
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
    decode: (bytes) => ({ request: decodeExternalRequest(bytes), answer: decodeExternalAnswer(bytes) }),
    check: ({ request, answer }) => {
      assert.ok(request.kind === "fault" || answer.kind === "fault");
      if (request.kind !== "fault" && request.kind !== "shrink_request") {
        assert.deepEqual(decodeExternalRequest(encodeExternal(request).subarray(4)), request);
      }
    },
  });
});

test("fuzz: the metrics channel makes a message or a fault of every frame", { timeout: 300_000 }, async () => {
  await fuzz({
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
    decode: decodeMetrics,
    check: (message) => {
      if (message.kind !== "payload") return;
      const out = new ByteWriter();
      encodePayload(out, message.topic, message);
      assert.deepEqual(decodeMetrics(out.take().subarray(4)), message);
    },
  });
});

test("fuzz: CBOR is refused, or means the same when written again", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "cbor",
    make: (chance) => encodeCbor(plain(chance, 5)),
    decode: (bytes) => decodeCbor(bytes),
    check: (value) => {
      // Bytes are compared, since -0 is written as 0.
      const again = encodeCbor(value);
      assert.deepEqual(encodeCbor(decodeCbor(again)), again);
    },
    announced: isProtocolError,
  });
});

test("fuzz: a handshake is refused, or means the same when written again", { timeout: 300_000 }, async () => {
  await fuzz({
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
        checkpoints: chance.below(2) === 1,
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
    decode: decodeHandshake,
    check: (message) => {
      const again = decodeHandshake(encodeHandshake(message).subarray(4));
      // What was cut or escaped once stays as it is.
      assert.deepStrictEqual(again, message);
    },
    announced: isProtocolError,
  });
});

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

test("fuzz: a block of values is refused, or decodes to values that can be carried", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "values",
    make: (chance) => {
      const values = batchOfValues(chance);
      const out = new ByteWriter();
      out.u32(values.length);
      encodeValues(values, values.length, out);
      return out.take();
    },
    decode: (bytes) => {
      if (bytes.length < 4) return [];
      const count = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      const values = decodeValues(bytes, 4, bytes.length - 4, count);
      assert.equal(values.length, count);
      return values;
    },
    check: (values) => {
      const count = values.length;
      const out = new ByteWriter();
      encodeValues(values, count, out);
      const block = out.take();
      const again = decodeValues(block, 0, block.length, count);
      encodeValues(again, count, out);
      // Which of the many NaN a number was is the runtime's business, and it may change its mind.
      if (!sameBytes(out.take(), block)) assert.deepStrictEqual(again, values);
      for (const value of values) checkValue(value);
    },
    announced: isProtocolError,
    large: LARGE_BATCHES.map((values) => () => {
      const out = new ByteWriter();
      out.u32(values.length);
      encodeValues(values, values.length, out);
      return out.take();
    }),
  });
});

test("fuzz: a data batch is refused, or comes out whole", { timeout: 300_000 }, async () => {
  await fuzz({
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
    decode: (bytes) => decodeDataBatch(bytes),
    check: (batch) => {
      assert.equal(batch.times.length, batch.count);
      assert.equal(batch.values.length, batch.count);
      assert.equal(batch.keys.length, batch.hashes.length);
      const out = new ByteWriter();
      encodeDataBatch(batch, out);
    },
    announced: isProtocolError,
    large: LARGE_BATCHES.map((values) => () => {
      const count = values.length;
      const out = new ByteWriter();
      const keys = values.map((_, i) => `key ${i}`);
      const columns = { times: new Float64Array(count), hashes: new Uint32Array(count), keys, values: [...values] };
      encodeDataBatch({ exchange: 1, pipeline: 0, count, watermark: 0, arrivalMs: 1.7e12, ...columns }, out);
      return out.take();
    }),
  });
});

test("fuzz: a batch of dead letters is read as it was written, or refused", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "batch of dead letters",
    make: (chance) =>
      encodeResendBatch({
        clusterId: "0".repeat(32),
        another: chance.below(2) === 0,
        letters: chance.some(4, () => ({
          stage: chance.pick(TEXTS),
          during: "apply",
          source: chance.pick([null, ...TEXTS]),
          place: chance.pick([null, { kind: "generator", step: 3 } as const]),
          key: chance.pick([null, ...TEXTS]),
          time: chance.pick([null, 7]),
          bytes: chance.pick([null, chance.bytes(chance.below(9))]),
          head: null,
          value: chance.pick([null, chance.bytes(chance.below(9))]),
        })),
      }),
    decode: decodeResendBatch,
    announced: isProtocolError,
  });
});
