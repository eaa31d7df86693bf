import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { ByteReader } from "../../src/wire/byte_reader.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { decodeStrings, encodeStrings, ownText } from "../../src/wire/string_column.ts";

function encode(strings: unknown[], count = strings.length): Uint8Array {
  const out = new ByteWriter();
  assert.ok(encodeStrings(strings, count, out));
  return out.take();
}

const decode = (bytes: Uint8Array, count: number) => decodeStrings(new ByteReader("a test", bytes), count);

test("a pair cut in two, in two strings, comes back in two strings", () => {
  // Joined they are one whole character, which UTF-8 holds.
  for (const strings of [["a\ud83e", "\udd98b"], ["\udd98", "\ud83e"], ["\ufeff", "", "\ufeffx"], [], [""]]) {
    assert.deepStrictEqual(decode(encode(strings), strings.length), strings);
  }
});

test("lengths take one byte each up to 255 units, four beyond", () => {
  const short = "x".repeat(255);
  assert.equal(encode([short, ""])[0], 1);
  assert.equal(encode([`${short}x`, ""])[0], 4);
  assert.deepStrictEqual(decode(encode([`${short}x`, "", short]), 3), [`${short}x`, "", short]);
});

test("something else among the strings writes nothing", () => {
  const out = new ByteWriter();
  for (const strings of [["a", 1], [null], ["a", undefined]])
    assert.equal(encodeStrings(strings, strings.length, out), false);
  assert.equal(out.length, 0);
  assert.deepStrictEqual(decode(encode(["a", 1], 1), 1), ["a"]);
});

test("lengths that do not fit the text are refused", () => {
  const bytes = encode(["ab", "c"]);
  for (const [at, value] of [
    [0, 2],
    [1, 1],
    [1, 3],
    [2, 0],
    [3, 2],
    [3, 1],
    [7, 2],
    [7, 4],
    [8, 0xff],
  ] as const) {
    const broken = bytes.slice();
    broken[at] = value;
    assert.throws(() => decode(broken, 2), ProtocolError, `byte ${at} as ${value}`);
  }
  assert.throws(() => decode(bytes, 2 ** 32 - 1), ProtocolError);
});

test("an owned text is the same text", () => {
  for (const text of ["", "7", "__proto__", "a\ud800", "user-1".repeat(9)]) assert.equal(ownText(text), text);
});
