import assert from "node:assert/strict";
import { test } from "node:test";
import { binOf, EMPTY_MIN, Histogram } from "../../src/metrics/histogram.ts";

test("a sample's bin is its number of significant bits", () => {
  for (let bits = 1; bits <= 64; bits++) {
    assert.equal(binOf(2 ** (bits - 1)), bits);
    // 2^bits - 1 where a double holds it, else the largest double below 2^bits.
    if (bits <= 53) assert.equal(binOf(2 ** bits - 1), bits);
    else assert.equal(binOf(2 ** bits - 2 ** (bits - 53)), bits);
  }
  assert.deepEqual([-1, -0, 0, 0.9, 1, 1.9, 2 ** 64, Infinity].map(binOf), [0, 0, 0, 0, 1, 1, 64, 64]);
});

test("many samples of one value are booked at once", () => {
  const histogram = new Histogram();
  assert.deepEqual([histogram.min, histogram.max, histogram.total], [EMPTY_MIN, 0, 0]);
  histogram.record(1000.7, 1_000_000);
  histogram.record(3);
  histogram.record(5000, 0);
  assert.deepEqual([histogram.min, histogram.max, histogram.total], [3, 1000, 1_000_001]);
  assert.deepEqual([histogram.bins[10], histogram.bins[2]], [1_000_000, 1]);
  histogram.reset();
  assert.deepEqual([histogram.min, histogram.max, histogram.total], [EMPTY_MIN, 0, 0]);
});
