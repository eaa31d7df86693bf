import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "../../src/store/crc32c.ts";
import { decodeRecord, encodeRecord, HEADER_BYTES } from "../../src/store/record_file.ts";

const BODY = Uint8Array.from({ length: 40 }, (_, index) => index * 7);

test("crc32c() gives the values of RFC 3720, appendix B.4", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e);
});

test("decodeRecord() gives back the body", () => {
  assert.deepEqual(decodeRecord(1, encodeRecord(1, BODY)), { kind: "ok", body: BODY });
  assert.deepEqual(decodeRecord(1, encodeRecord(1, new Uint8Array(0))), { kind: "ok", body: new Uint8Array(0) });
});

test("decodeRecord() refuses a file with any one bit flipped", () => {
  const whole = encodeRecord(1, BODY);
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const flipped = new Uint8Array(whole);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(decodeRecord(1, flipped).kind, "damaged", `bit ${bit}`);
  }
});

test("decodeRecord() refuses a file cut short at any byte, and one with bytes behind it", () => {
  const whole = encodeRecord(1, BODY);
  for (let length = 0; length < whole.length; length++) {
    const outcome = decodeRecord(1, whole.subarray(0, length));
    assert.equal(outcome.kind, "damaged");
    assert.equal(outcome.offset, length);
  }
  const longer = new Uint8Array(whole.length + 1);
  longer.set(whole);
  assert.deepEqual(decodeRecord(1, longer), {
    kind: "damaged",
    offset: whole.length,
    why: "it has more bytes than announced: 41 instead of 40",
  });
});

test("decodeRecord() tells another format version from damage", () => {
  assert.deepEqual(decodeRecord(1, encodeRecord(1, BODY, 2)), { kind: "other_version", version: 2 });
});

test("decodeRecord() refuses a whole record of another kind", () => {
  const outcome = decodeRecord(1, encodeRecord(2 as 1, BODY));
  assert.equal(outcome.kind, "damaged");
  assert.equal(HEADER_BYTES, 16);
});
