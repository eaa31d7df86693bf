import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { ColumnSpace, type DataBatchColumns, decodeDataBatch, encodeDataBatch } from "../../src/wire/data_batch.ts";
import { ValueError } from "../../src/wire/values.ts";

function batchOf(count: number): DataBatchColumns {
  return {
    exchange: 3,
    pipeline: 65535,
    count,
    watermark: 1.7e15,
    arrivalMs: 1.7e12 + 0.25,
    times: Float64Array.from({ length: count }, (_, i) => 1.7e15 + i),
    hashes: Uint32Array.from({ length: count }, (_, i) => 2 ** 32 - 1 - i),
    keys: Array.from({ length: count }, (_, i) => ["user-1", "", "grüße", "\ud800", "🦘"][i % 5]!),
    values: Array.from({ length: count }, (_, i) => ({ n: i, text: `t${i}` })),
  };
}

function encode(batch: DataBatchColumns): Uint8Array {
  const out = new ByteWriter();
  encodeDataBatch(batch, out);
  return out.take();
}

test("a batch comes back with all of its columns", () => {
  for (const count of [0, 1, 5, 1000]) {
    const batch = { ...batchOf(count), watermark: count === 0 ? -Infinity : 5 };
    assert.deepStrictEqual(decodeDataBatch(encode(batch)), batch);
  }
});

test("only the first `count` entries travel, and views into larger buffers work", () => {
  const batch = batchOf(6);
  const backing = new Float64Array(20);
  backing.set(batch.times, 7);
  const sent = { ...batch, count: 4, times: backing.subarray(7), hashes: batch.hashes.subarray(1) };
  assert.deepStrictEqual(decodeDataBatch(encode(sent)), {
    ...batch,
    count: 4,
    times: batch.times.slice(0, 4),
    hashes: batch.hashes.slice(1, 5),
    keys: batch.keys.slice(0, 4),
    values: batch.values.slice(0, 4),
  });
});

test("records without keys travel without hashes", () => {
  const batch = { ...batchOf(3), keys: [], hashes: new Uint32Array(0) };
  assert.deepStrictEqual(decodeDataBatch(encode(batch)), batch);
});

test("the result does not refer to the bytes it came from", () => {
  const batch = { ...batchOf(3), values: [new Uint8Array([1]), new Uint8Array([2]), new Uint8Array([3])] };
  const bytes = encode(batch);
  const decoded = decodeDataBatch(bytes);
  bytes.fill(0xff);
  assert.deepStrictEqual(decoded, batch);
});

test("batches that share a space for their columns come back one after the other, whatever their lengths", () => {
  const space = new ColumnSpace();
  for (const count of [5, 1000, 1, 0, 600]) {
    for (const constant of [false, true]) {
      const batch = batchOf(count);
      if (constant) batch.times.fill(3);
      const { times, hashes, ...rest } = decodeDataBatch(encode(batch), undefined, undefined, space);
      const whole = { ...rest, times: times.slice(0, count), hashes: hashes.slice(0, count) };
      assert.deepStrictEqual(whole, batch, `${count} records`);
    }
  }
});

test("the layout is fixed", () => {
  const out = new ByteWriter();
  const times = new Float64Array([2]);
  const hashes = new Uint32Array([0x01020304]);
  const columns = {
    exchange: 1,
    pipeline: 2,
    count: 1,
    watermark: 1,
    arrivalMs: 0,
    times,
    hashes,
    keys: ["k"],
    values: [true],
  };
  encodeDataBatch(columns, out);
  const hex = Buffer.from(out.take()).toString("hex");
  const header = ["0001", "0002", "00000001", "3ff0000000000000", "0000000000000000", "01"];
  const body = ["0000000000000040", "04030201", "01", "01", "00", "00000001", "6b", "00000002", "03", "03"];
  assert.equal(hex, [...header, ...body].join(""));
});

test("records of one event time carry it once", () => {
  const batch = { ...batchOf(100), times: new Float64Array(100).fill(1.7e15) };
  const bytes = encode(batch);
  assert.deepStrictEqual(decodeDataBatch(bytes), batch);
  assert.equal(encode(batchOf(100)).length - bytes.length, 99 * 8);
});

test("a column of the values that is the same as the keys is not written again", () => {
  const keys = Array.from({ length: 100 }, (_, i) => `user-${i}`);
  const same = keys.map((key) => key.split("").join(""));
  for (const values of [same, same.map((user, n) => ({ n, user })), same.map((user) => [user, [user]])]) {
    const batch = { ...batchOf(100), keys, values };
    const bytes = encode(batch);
    const decoded = decodeDataBatch(bytes);
    assert.deepStrictEqual(decoded, batch);
    assert.notEqual(decoded.values, decoded.keys);
    const other = encode({ ...batch, keys: keys.map((key) => `${key.slice(0, -1)}x`) });
    assert.ok(other.length > bytes.length + 700);
  }
  // Twice in a record: the second one is written.
  const twice = { ...batchOf(100), keys, values: same.map((user) => ({ user, again: user })) };
  assert.deepStrictEqual(decodeDataBatch(encode(twice)), twice);
});

test("columns of the keys where there are no keys, or too many of them, are refused", () => {
  const keys = ["a", "b", "c"];
  const bytes = encode({ ...batchOf(3), keys, values: keys.map((key) => [key, 1]) });
  assert.deepStrictEqual(decodeDataBatch(bytes).values, [
    ["a", 1],
    ["b", 1],
    ["c", 1],
  ]);
  const tuples = bytes.lastIndexOf(5);
  assert.deepEqual([...bytes.subarray(tuples, tuples + 4)], [5, 2, 7, 8]);
  // Both columns are said to be the keys: what is behind them is then too much, or they are refused before that.
  const twice = bytes.slice(0, tuples + 4);
  twice[tuples + 3] = 7;
  new DataView(twice.buffer).setUint32(tuples - 4, 4);
  assert.throws(() => decodeDataBatch(twice), /column of keys/);
  const unkeyed = encode({ ...batchOf(3), keys: [], hashes: new Uint32Array(0), values: [true, true, true] });
  unkeyed[unkeyed.length - 4] = 7;
  assert.throws(() => decodeDataBatch(unkeyed), /column of keys/);
});

test("whole numbers of 32 bits take four bytes each, and -0 is not one of them", () => {
  const size = (numbers: number[]) => {
    const batch = { ...batchOf(4), values: numbers };
    assert.deepStrictEqual(decodeDataBatch(encode(batch)), batch);
    return encode(batch).length;
  };
  const small = size([0, -1, 2 ** 31 - 1, -(2 ** 31)]);
  for (const other of [-0, 0.5, 2 ** 31, NaN, Infinity]) assert.equal(size([0, 1, 2, other]) - small, 16);
});

test("keys that the reader has already are taken over, and a wrong guess is noticed", () => {
  const batch = batchOf(50);
  const bytes = encode(batch);
  const own = new Map(batch.keys.map((key) => [key.length, key]));
  const right: string[] = [];
  const known = {
    guessKey: (hash: number, length: number) => {
      const key = batch.keys[2 ** 32 - 1 - hash]!;
      assert.equal(key.length, length);
      right.push(key);
      return hash % 3 === 0 ? undefined : key;
    },
  };
  assert.deepStrictEqual(decodeDataBatch(bytes, undefined, known), batch);
  assert.equal(right.length, 50);
  const wrong = { guessKey: (_hash: number, length: number) => own.get(length)?.replace(/^./, "?") };
  assert.deepStrictEqual(decodeDataBatch(bytes, undefined, wrong), batch);
});

test("an author's codec carries the values instead", () => {
  const codec = {
    encode: (values: unknown[], count: number) => Uint8Array.from(values.slice(0, count) as number[]),
    decode: (bytes: Uint8Array) => [...bytes],
  };
  const batch = { ...batchOf(3), values: [5, 6, 7] };
  const out = new ByteWriter();
  encodeDataBatch(batch, out, codec);
  const bytes = out.take();
  assert.deepStrictEqual(decodeDataBatch(bytes, codec), batch);
  assert.throws(
    () => decodeDataBatch(bytes, { ...codec, decode: () => [1] }),
    (error) =>
      error instanceof ValueError && error.code === "codec_broken" && /1 values for a batch of 3/.test(error.message),
  );
});

test("a value that cannot travel leaves the writer as it was", () => {
  const out = new ByteWriter();
  out.u8(1);
  assert.throws(() => encodeDataBatch({ ...batchOf(2), values: [1, () => 1] }, out), ValueError);
  assert.equal(out.length, 1);
});

test("a batch cut anywhere, or with a byte too many, is a protocol error", () => {
  const bytes = encode(batchOf(7));
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeDataBatch(bytes.subarray(0, length)), ProtocolError);
  }
  assert.throws(() => decodeDataBatch(Uint8Array.from([...bytes, 0])), ProtocolError);
});

test("a huge announced count allocates nothing", () => {
  const bytes = encode(batchOf(1));
  new DataView(bytes.buffer).setUint32(4, 0xffff_ffff);
  assert.throws(() => decodeDataBatch(bytes), ProtocolError);
});
