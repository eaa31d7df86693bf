import assert from "node:assert/strict";
import { test } from "node:test";
import { judge, SLACK_BYTES } from "./flat.ts";

const MIB = 1024 * 1024;
const series = (length: number, of: (i: number) => number): number[] => Array.from({ length }, (_, i) => of(i));

test("what goes up and down between the same bounds is flat, also when it had to warm up", () => {
  for (const by of ["median", "largest"] as const) {
    assert.equal(
      judge(
        series(600, (i) => (60 + (i % 47)) * MIB),
        by,
      )?.flat,
      true,
    );
    assert.equal(
      judge(
        series(600, (i) => Math.min(i, 180) * MIB),
        by,
      )?.flat,
      true,
    );
    assert.equal(
      judge(
        series(600, () => 0),
        by,
      )?.flat,
      true,
    );
  }
});

test("what grows slowly all the time is not flat", () => {
  for (const by of ["median", "largest"] as const) {
    // 80 MiB, and 5 MiB more each minute for ten minutes.
    assert.equal(
      judge(
        series(600, (i) => (80 + (5 * i) / 60 + (i % 7)) * MIB),
        by,
      )?.flat,
      false,
    );
    assert.equal(
      judge(
        series(600, (i) => (i < 450 ? 80 : 100) * MIB),
        by,
      )?.flat,
      false,
    );
  }
});

test("a short peak counts where the largest size does, and not for the median", () => {
  const peak = series(600, (i) => (i >= 560 && i < 565 ? 200 : 100) * MIB);
  assert.equal(judge(peak, "median")?.flat, true);
  assert.equal(judge(peak, "largest")?.flat, false);
});

test("the last third may be a twentieth and 4 MiB above the one before it", () => {
  const step = (bytes: number) => series(30, (i) => (i < 20 ? 100 * MIB : bytes));
  assert.equal(judge(step(105 * MIB + SLACK_BYTES), "largest")?.flat, true);
  assert.equal(judge(step(105 * MIB + SLACK_BYTES + 1), "largest")?.flat, false);
});

test("a few samples say nothing", () => {
  assert.equal(judge([1, 2, 3], "median"), null);
});
