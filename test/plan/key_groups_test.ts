import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { assignOwners, DEFAULT_KEY_GROUP_COUNT, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";

/** MurmurHash3 x86 32 of bytes, written from its description alone, in exact integers: the second opinion. */
function murmur3(bytes: Uint8Array): number {
  const mask = 0xffffffffn;
  const rotate = (value: bigint, by: bigint) => ((value << by) | (value >> (32n - by))) & mask;
  const scramble = (word: bigint) => (rotate((word * 0xcc9e2d51n) & mask, 15n) * 0x1b873593n) & mask;
  const word = (from: number, to: number) => {
    let value = 0n;
    for (let i = to - 1; i >= from; i--) value = (value << 8n) | BigInt(bytes[i]!);
    return value;
  };
  const whole = bytes.length - (bytes.length % 4);
  let hash = 0n;
  for (let i = 0; i < whole; i += 4) hash = (rotate(hash ^ scramble(word(i, i + 4)), 13n) * 5n + 0xe6546b64n) & mask;
  if (whole < bytes.length) hash ^= scramble(word(whole, bytes.length));
  hash ^= BigInt(bytes.length);
  hash = ((hash ^ (hash >> 16n)) * 0x85ebca6bn) & mask;
  hash = ((hash ^ (hash >> 13n)) * 0xc2b2ae35n) & mask;
  return Number(hash ^ (hash >> 16n));
}

function utf16(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  for (let i = 0; i < text.length; i++) new DataView(bytes.buffer).setUint16(i * 2, text.charCodeAt(i), true);
  return bytes;
}

test("hashKey() gives these hashes for ever: checkpoints are stored by them", () => {
  const golden: [string, number][] = [
    ["", 0x00000000],
    ["a", 0x6f49d11a],
    ["ab", 0x165860ca],
    ["key_0", 0xf36c903a],
    ["user-00000000042", 0x15ba5013],
    ["Dr. Whiskers", 0x5cc2de12],
    ["naïve", 0x9d8e9b82],
    ["日本語", 0x3bdc2005],
    ["😀", 0x56065e39],
    ["\ud83d", 0x5312e85d],
    ["\ude00", 0x3f9c66c3],
    ["\ud83d\ud83d", 0x35f14671],
    ["\u0000", 0x30f4c306],
    ["\u0000\u0000", 0x2362f9de],
    ["a".repeat(4096), 0x84c0ca42],
  ];
  for (const [key, hash] of golden) assert.equal(hashKey(key), hash, JSON.stringify(key.slice(0, 20)));
});

test("hashKey() agrees with what is published of MurmurHash3", () => {
  // "ab", "abcd" and "test" as bytes are these code units.
  assert.equal(hashKey("\u6261"), 0x9bbfd75f);
  assert.equal(hashKey("\u6261\u6463"), 0x43ed676a);
  assert.equal(hashKey("\u6574\u7473"), 0xba6bd213);
});

test("hashKey() is MurmurHash3 of the code units for any text, lone surrogates too", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.integer({ min: 0xd800, max: 0xdfff }),
      (text, lone) => {
        const key = text + String.fromCharCode(lone);
        return hashKey(text) === murmur3(utf16(text)) && hashKey(key) === murmur3(utf16(key));
      },
    ),
    { numRuns: 2000 },
  );
});

test("keyGroupOf() spreads similar keys evenly", () => {
  const counts = new Float64Array(DEFAULT_KEY_GROUP_COUNT);
  const keyCount = 200 * DEFAULT_KEY_GROUP_COUNT;
  for (let i = 0; i < keyCount; i++) {
    counts[keyGroupOf(hashKey(`user-${String(i).padStart(11, "0")}`), counts.length)]!++;
  }
  let chiSquared = 0;
  for (const count of counts) chiSquared += (count - 200) ** 2 / 200;
  // For an even spread it's near 1; 1.2 would happen once in a hundred thousand times.
  assert.ok(chiSquared / (counts.length - 1) < 1.2, `chi squared per group: ${chiSquared / (counts.length - 1)}`);
});

test("keyGroupOf() stays within the groups for any count", () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.integer({ min: 1, max: 32_768 }), (hash, count) => {
      const group = keyGroupOf(hash, count);
      return Number.isInteger(group) && group >= 0 && group < count;
    }),
  );
});

test("assignOwners() gives each worker one run of key groups, equal within one", () => {
  for (const workers of [1, 2, 3, 7, 40, 1024]) {
    const owners = assignOwners(workers);
    const counts = new Array<number>(workers).fill(0);
    for (let group = 0; group < owners.length; group++) {
      if (group > 0) assert.ok(owners[group]! >= owners[group - 1]!);
      counts[owners[group]!]!++;
    }
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${workers} workers: ${counts}`);
  }
  assert.throws(() => assignOwners(1025));
  assert.throws(() => assignOwners(0));
});
