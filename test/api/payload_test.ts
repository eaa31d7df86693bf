import assert from "node:assert/strict";
import { test } from "node:test";
import { Payload } from "../../mod.ts";

/** A record in the middle of a chunk, which itself lies somewhere in a buffer. */
function inside(record: readonly number[]): Payload {
  const buffer = Uint8Array.from([9, 9, 9, 77, 77, ...record, 88, 88, 9]);
  const payload = new Payload();
  payload.openChunk(buffer.subarray(3, buffer.length - 1));
  payload.openRecord(2, 2 + record.length);
  return payload;
}

test("Payload reads every kind of number from its own bytes, in either order", () => {
  const record = [0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07];
  const payload = inside(record);
  const view = new DataView(Uint8Array.from(record).buffer);
  assert.equal(payload.byteLength, 8);
  assert.equal(payload.getUint8(0), 0x80);
  assert.equal(payload.getInt8(0), -128);
  for (const littleEndian of [false, true]) {
    assert.equal(payload.getUint16(1, littleEndian), view.getUint16(1, littleEndian));
    assert.equal(payload.getInt16(0, littleEndian), view.getInt16(0, littleEndian));
    assert.equal(payload.getUint32(4, littleEndian), view.getUint32(4, littleEndian));
    assert.equal(payload.getInt32(0, littleEndian), view.getInt32(0, littleEndian));
    assert.equal(payload.getFloat32(3, littleEndian), view.getFloat32(3, littleEndian));
    assert.equal(payload.getFloat64(0, littleEndian), view.getFloat64(0, littleEndian));
    assert.equal(payload.getBigUint64(0, littleEndian), view.getBigUint64(0, littleEndian));
    assert.equal(payload.getBigInt64(0, littleEndian), view.getBigInt64(0, littleEndian));
  }
});

test("Payload never reads its neighbours' bytes", () => {
  const payload = inside([1, 2, 3, 4]);
  assert.throws(() => payload.getUint8(4), /Cannot read 1 bytes at 4: the record has 4 bytes/);
  assert.throws(() => payload.getUint8(-1), RangeError);
  assert.throws(() => payload.getUint32(1), RangeError);
  assert.throws(() => payload.getFloat64(0), RangeError);
  assert.throws(() => payload.getUint8(Number.NaN), RangeError);
  assert.throws(() => payload.text(0, 5), RangeError);
  assert.throws(() => payload.text(3, 2), RangeError);
  assert.throws(() => payload.bytes(-1), RangeError);
});

test("Payload gives text and bytes, whole or in part", () => {
  const payload = Payload.of("naïve 😀");
  assert.equal(payload.text(), "naïve 😀");
  assert.equal(payload.text(7), "😀");
  assert.equal(payload.text(0, 2), "na");
  assert.equal(payload.text(11), "");
  assert.deepEqual(inside([1, 2, 3]).bytes(1), Uint8Array.from([2, 3]));
  assert.deepEqual(inside([1, 2, 3]).bytes(), Uint8Array.from([1, 2, 3]));
});

test("Payload keeps a byte order mark and replaces what is no UTF-8", () => {
  assert.equal(inside([0xef, 0xbb, 0xbf, 0x61]).text(), "\ufeffa");
  assert.equal(inside([0x61, 0xff]).text(), "a\ufffd");
});

test("bytes() of a Payload stay when the chunk is used again", () => {
  const chunk = Uint8Array.from([1, 2, 3]);
  const kept = Payload.of(chunk).bytes();
  chunk.fill(0);
  assert.deepEqual(kept, Uint8Array.from([1, 2, 3]));
});
