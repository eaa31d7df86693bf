import assert from "node:assert/strict";
import { test } from "node:test";
import { FineWallClock } from "../../src/worker/fine_wall_clock.ts";

/** A wall clock of whole milliseconds beside a monotonic one; `trueMs` is what both are read from. */
function clocks(trueMs: number) {
  const state = { trueMs, stepMs: 0 };
  const clock = {
    wallMs: () => Math.floor(state.trueMs) + state.stepMs,
    monotonicMs: () => state.trueMs - 1_000_000,
    startTimer: () => () => {},
    soon: () => {},
  };
  return { state, fine: new FineWallClock(clock) };
}

test("what takes a part of a millisecond is seen as that part", () => {
  const { state, fine } = clocks(1_700_000_000_000.3);
  for (let i = 0; i < 1_000; i++) {
    state.trueMs += 0.317;
    fine.nowMs();
  }
  const before = fine.nowMs();
  assert.ok(Math.abs(before - state.trueMs) < 0.01, `${before} at ${state.trueMs}`);
  state.trueMs += 0.25;
  assert.ok(Math.abs(fine.nowMs() - before - 0.25) < 0.01);
});

test("it never leaves the millisecond of the wall clock, which may step", () => {
  const { state, fine } = clocks(1_700_000_000_000.9);
  for (const stepMs of [0, 0, 3_600_000, 3_600_000, -7, -7, 0]) {
    state.stepMs = stepMs;
    for (let i = 0; i < 50; i++) {
      state.trueMs += 0.11;
      const wall = Math.floor(state.trueMs) + stepMs;
      const now = fine.nowMs();
      assert.ok(now >= wall && now < wall + 1, `${now} at ${wall}`);
    }
  }
});
