import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";

test("Prng draws the same for the same seed and stream, on every runtime", () => {
  const prng = new Prng(42, "net");
  const drawn = [prng.u32(), prng.u32(), prng.u32(), prng.u32()];
  assert.deepEqual(drawn, GOLDEN);
  const again = new Prng(42n, "net");
  assert.deepEqual([again.u32(), again.u32(), again.u32(), again.u32()], GOLDEN);
});

test("Prng streams of one seed, and seeds of one stream, have nothing in common", () => {
  const first = new Set<number>();
  const a = new Prng(7, "disk.w1");
  for (let count = 0; count < 1000; count++) first.add(a.u32());
  for (const other of [new Prng(7, "disk.w2"), new Prng(8, "disk.w1"), new Prng(7n + 2n ** 63n, "disk.w1")]) {
    for (let count = 0; count < 1000; count++) assert.ok(!first.has(other.u32()));
  }
});

test("Prng.int, next, between and chance stay in their ranges and reach all of them", () => {
  const prng = new Prng(3, "ranges");
  const seen = new Set<number>();
  let chances = 0;
  for (let count = 0; count < 10_000; count++) {
    seen.add(prng.int(10));
    const next = prng.next();
    assert.ok(next >= 0 && next < 1);
    const between = prng.between(5, 6);
    assert.ok(between >= 5 && between < 6);
    if (prng.chance(4)) chances++;
  }
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  assert.ok(chances > 2200 && chances < 2800, `${chances} of 10,000`);
  assert.equal(prng.int(1), 0);
});

test("Prng bits are even", () => {
  const prng = new Prng(1, "bits");
  const ones = new Array<number>(32).fill(0);
  for (let count = 0; count < 20_000; count++) {
    const word = prng.u32();
    for (let bit = 0; bit < 32; bit++) ones[bit]! += (word >>> bit) & 1;
  }
  // Five standard deviations of a fair coin.
  for (const [bit, count] of ones.entries()) assert.ok(Math.abs(count - 10_000) < 354, `bit ${bit}: ${count}`);
});

test("Prng.bytes gives as many bytes as asked", () => {
  const prng = new Prng(9, "bytes");
  for (const length of [0, 1, 3, 4, 5, 1000]) assert.equal(prng.bytes(length).length, length);
});

const GOLDEN = [3_021_966_317, 3_458_382_910, 1_944_796_612, 723_049_704];
