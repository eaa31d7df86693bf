import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hashKey } from "../../src/plan/key_groups.ts";
import { KeyTable } from "../../src/state/key_table.ts";

/** Puts all keys in, looking at the table from all sides while it grows. */
function check(keys: readonly string[], hashOf: (key: string) => number): void {
  const table = new KeyTable<{ key: string }>();
  const model = new Map<string, { key: string }>();
  for (const key of keys) {
    assert.equal(table.get(hashOf(key), key), model.get(key));
    if (!model.has(key)) {
      const value = { key };
      model.set(key, value);
      table.add(hashOf(key), key, value);
    }
    assert.equal(table.size, model.size);
  }
  for (const [key, value] of model) assert.equal(table.get(hashOf(key), key), value, JSON.stringify(key));
  assert.deepEqual([...table.keys()].sort(), [...model.keys()].sort());
  assert.deepEqual(new Map(table.entries()), model);
}

test("KeyTable does what a Map does, for any keys", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary", maxLength: 3 }), { maxLength: 200 }), (keys) =>
      check(keys, hashKey),
    ),
    { numRuns: 200 },
  );
});

test("KeyTable does what a Map does when hashes crowd: all equal, few, or with equal upper bits", () => {
  const keys = Array.from({ length: 1500 }, (_, i) => `key ${i}`);
  check(keys, () => 0);
  check(keys, () => 0xffffffff);
  check(keys, (key) => hashKey(key) % 3);
  check(keys, (key) => hashKey(key) & 0xff);
  check(keys, (key) => hashKey(key) << 24);
  check(keys, hashKey);
});

test("KeyTable finds keys that were crowded out after it has grown and they have room", () => {
  // Times the multiplier of Fibonacci hashing this is 1, so homes can be chosen: all at slot 0 up to 64 slots, one slot
  // each from 16,384 on, which the other keys make it grow to.
  const inverse = 0xe8b2f51;
  const crowd = Array.from({ length: 200 }, (_, i) => `crowd ${i}`);
  const others = Array.from({ length: 8000 }, (_, i) => `other ${i}`);
  const hashOf = (key: string) =>
    key.startsWith("crowd ") ? Math.imul(Number(key.slice(6)) << 18, inverse) >>> 0 : hashKey(key);
  check([...crowd, ...others], hashOf);
});

test("KeyTable does not look through a forged crowd for each key of it", () => {
  const table = new KeyTable<object>();
  const keys = Array.from({ length: 100_000 }, (_, i) => `forged ${i}`);
  const before = process.cpuUsage();
  for (const key of keys) table.add(42, key, {});
  for (const key of keys) assert.ok(table.get(42, key));
  const { user, system } = process.cpuUsage(before);
  // Thirteen million comparisons of texts, a tenth of a second or two; without the bound ten thousand million, a minute.
  assert.ok(user + system < 10e6, `${user + system} µs of processor time`);
});

test("KeyTable refuses a key that is there already", () => {
  const table = new KeyTable<object>();
  table.add(1, "a", {});
  assert.throws(() => table.add(1, "a", {}), /already/);
  table.add(1, "b", {});
  assert.equal(table.size, 2);
});

test("KeyTable guesses a key by its hash and length, and misses what is crowded out", () => {
  const table = new KeyTable<number>();
  for (let i = 0; i < 1_000; i++) table.add(hashKey(`key ${i}`), `key ${i}`, i);
  for (let i = 0; i < 1_000; i++) {
    assert.equal(table.guessKey(hashKey(`key ${i}`), `key ${i}`.length), `key ${i}`);
    assert.equal(table.guessKey(hashKey(`key ${i}`), 20), undefined);
  }
  assert.equal(table.guessKey(hashKey("another"), 7), undefined);
  const crowd = new KeyTable<number>();
  for (let i = 0; i < 200; i++) crowd.add(7, `crowd ${i}`, i);
  assert.equal(crowd.guessKey(7, 7), "crowd 0");
  assert.equal(crowd.guessKey(7, 9), undefined);
});
