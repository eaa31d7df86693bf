import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { tcpSink } from "../../mod.ts";
import type { EncodedRecords, TcpSinkSettings } from "../../src/api/tcp_sink.ts";
import type { UserError } from "../../src/operators/dataflow_hooks.ts";
import { encodeSinkBatch } from "../../src/operators/sink_encoder.ts";
import { batchOf } from "./world.ts";

const UTF8 = new TextEncoder();

function encode<T>(settings: TcpSinkSettings<T>, values: readonly T[]): EncodedRecords & { errors: UserError[] } {
  const errors: UserError[] = [];
  const definition = tcpSink(settings) as never;
  const encoded = encodeSinkBatch({ id: "s/sink 0", definition }, batchOf(values), (error) => errors.push(error));
  return { ...encoded, errors };
}

/** The records, cut out at their ends. */
function cut({ bytes, ends }: EncodedRecords): Uint8Array[] {
  let start = 0;
  return Array.from(ends, (end) => {
    const record = bytes.slice(start, end);
    start = end;
    return record;
  });
}

test("any mix of texts and bytes is joined, with the end of every record in bytes", () => {
  const record = fc.oneof(
    fc.string({ maxLength: 5 }),
    fc.string({ unit: "grapheme", maxLength: 5 }),
    fc.constantFrom("ü", "€", "😀", ""),
    fc.uint8Array({ maxLength: 5 }),
  );
  fc.assert(
    fc.property(fc.array(record, { maxLength: 30 }), (records) => {
      const encoded = encode({ encode: (value: string | Uint8Array) => value }, records);
      const expected = records.map((value) =>
        typeof value === "string" ? UTF8.encode(value) : Uint8Array.from(value),
      );
      assert.deepEqual(cut(encoded), expected);
      assert.equal(
        encoded.bytes.length,
        expected.reduce((sum, { length }) => sum + length, 0),
      );
    }),
    { numRuns: 1000 },
  );
});

test("lone surrogates become U+FFFD and the ends stay right", () => {
  const encoded = encode({ encode: (value: string) => value }, ["a\ud800", "b", "\udc00c", "😀\n"]);
  assert.deepEqual(
    cut(encoded),
    ["a\ufffd", "b", "\ufffdc", "😀\n"].map((text) => UTF8.encode(text)),
  );
});

test("an empty batch gives no bytes", () => {
  const { bytes, ends } = encode({ encode: String }, []);
  assert.deepEqual([bytes.length, ends.length], [0, 0]);
});

test("a scratch buffer that the encoder uses again does no harm", () => {
  const scratch = new Uint8Array(1);
  const encoded = encode(
    {
      encode: (value: number) => {
        scratch[0] = value;
        return scratch;
      },
    },
    [1, 2, 3],
  );
  assert.deepEqual(encoded.bytes, Uint8Array.of(1, 2, 3));
});

test("a record whose encoder throws or returns neither text nor bytes is reported and left out", () => {
  const results: unknown[] = ["a\n", 7, undefined, "b\n", Promise.reject(new Error("ignored")), Uint8Array.of(99)];
  const encoded = encode(
    {
      encode: (value: number) => {
        if (value === 9) throw new Error("nine");
        return results[value] as string;
      },
    },
    [9, 0, 1, 2, 9, 3, 4, 5],
  );
  assert.deepEqual(
    cut(encoded).map((record) => new TextDecoder().decode(record)),
    ["a\n", "b\n", "c"],
  );
  const messages = encoded.errors.map(({ error }) => (error as Error).message);
  assert.deepEqual(messages.slice(0, 4), [
    "nine",
    "encode returned a number: return a text or a Uint8Array",
    "encode returned undefined: return a text or a Uint8Array",
    "nine",
  ]);
  assert.match(messages[4]!, /returned a promise/);
  assert.ok(encoded.errors.every(({ stage, during }) => stage === "s/sink 0" && during === "encode"));
});

test("encodeBatch is taken where it gives what it promised, and gets just the records of the batch", () => {
  let given: readonly number[] = [];
  const scratch = Uint8Array.of(1, 2, 3);
  const batch = batchOf([1, 2, 3, 99]);
  batch.count = 3;
  const definition = tcpSink<number>({
    encode: () => assert.fail("not needed"),
    encodeBatch: (values) => {
      given = values;
      return { bytes: scratch, ends: Uint32Array.of(1, 2, 3) };
    },
  });
  const encoded = encodeSinkBatch({ id: "s/sink 0", definition: definition as never }, batch, () => assert.fail());
  assert.deepEqual(given, [1, 2, 3]);
  scratch.fill(0);
  assert.deepEqual(cut(encoded), [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3)]);
});

test("where encodeBatch throws or miscounts, encode finds the culprit", () => {
  const wrong: (() => EncodedRecords)[] = [
    () => {
      throw new Error("one of them");
    },
    () => ({ bytes: Uint8Array.of(1, 2), ends: Uint32Array.of(1) }),
    () => ({ bytes: Uint8Array.of(1, 2), ends: Uint32Array.of(1, 1) }),
    () => ({ bytes: Uint8Array.of(1, 2), ends: Uint32Array.of(3, 2) }),
    () => undefined as unknown as EncodedRecords,
    () => Promise.reject(new Error("ignored")) as unknown as EncodedRecords,
  ];
  for (const encodeBatch of wrong) {
    const encoded = encode({ encode: (value: number) => `${value}`, encodeBatch }, [7, 8]);
    assert.equal(new TextDecoder().decode(encoded.bytes), "78");
    assert.deepEqual([...encoded.ends], [1, 2]);
  }
});
