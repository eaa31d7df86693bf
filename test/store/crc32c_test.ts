import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "../../src/store/crc32c.ts";

/** Bit by bit, as the definition has it. */
function plain(bytes: Uint8Array): number {
  let value = 0xffff_ffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  }
  return ~value >>> 0;
}

test("crc32c() is that of the definition for every length and every way to cut the bytes in two", () => {
  const bytes = Uint8Array.from({ length: 70 }, (_, i) => (i * 151 + 77) & 0xff);
  for (let length = 0; length <= bytes.length; length++) {
    const part = bytes.subarray(3 % (length + 1), length);
    assert.equal(crc32c(part), plain(part), `${length} bytes`);
  }
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.equal(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), plain(bytes), `cut at ${cut}`);
  }
});
