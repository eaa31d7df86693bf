// The n-th call fails: how the calls are counted, and what is asked of such a run.
import assert from "node:assert/strict";
import { test } from "node:test";
import { countCalls, judgeLoop, LOOPS, type Loop, loopCase } from "../../src/simulation/n_loop.ts";
import type { RunResult } from "../../src/simulation/run.ts";
import { parseScenario, showScenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const RESTART: Loop = { stage: "restart", call: "disk", worker: "w1", checkpoints: false };

test("every loop has calls, and its scenarios are scenarios", async () => {
  assert.equal(LOOPS.length, 24);
  for (const loop of LOOPS) {
    const { scenario } = loopCase(loop, 7);
    assert.deepEqual(parseScenario(showScenario(scenario)), scenario);
  }
  const { calls, violations } = await countCalls(RESTART, execute);
  assert.deepEqual(violations, []);
  assert.ok(calls > 10, `${calls} calls`);
});

test("the last call that was counted is hit, and none is behind it", async () => {
  const loop: Loop = { stage: "shutdown", call: "disk", worker: "w1", checkpoints: false };
  const { calls } = await countCalls(loop, execute);
  for (const [n, took] of [
    [calls, true],
    [calls + 1, false],
  ] as const) {
    const result = await execute(loopCase(loop, n).scenario);
    assert.deepEqual(judgeLoop(loop, result), { violations: [], took });
  }
});

test("a worker that hangs, leaves without a word or where it could have tried again is seen", async () => {
  const run = (): Promise<RunResult> => execute(loopCase(RESTART, 3).scenario);
  const judged = (result: RunResult, change: object, loop = RESTART): string => {
    const hit = result.observation.processes.filter(({ worker }) => worker === "w1")[1]!;
    Object.assign(hit, change);
    return judgeLoop(loop, result)
      .violations.map(({ oracle, text }) => `${oracle} ${text}`)
      .join("; ");
  };
  const result = await run();
  assert.deepEqual(judgeLoop(RESTART, result), { violations: [], took: true });
  assert.match(judged(result, { errorText: "two\nlines, and more than that" }), /several lines/);
  assert.match(judged(result, { errorText: null }), /without a word/);
  assert.match(judged(result, { status: 70, errorText: "nobody knows how this came about" }), /status 70/);
  assert.match(
    judged(result, { endedMs: null, cause: null, phase: 2, phaseMs: 1_600 }),
    /O-FAILCLEAR w1 hangs in phase 2/,
  );
  const net: Loop = { ...RESTART, call: "net" };
  const other = await execute(loopCase(net, 5).scenario);
  const left = { status: 11, cause: "exit", endedMs: 1_700, errorText: "the connection was cut by the peer" };
  assert.match(judged(other, left, net), /could have tried again/);
});
