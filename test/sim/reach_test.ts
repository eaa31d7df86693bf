// Rare states: each directed scenario gets where it leads, and the oracle says what was never reached.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LengthCuts } from "../../src/simulation/length_cuts.ts";
import { checkReached, REACHED_MIN } from "../../src/simulation/oracles/o_reach.ts";
import { applicableStates, describeRareState, RARE_STATES } from "../../src/simulation/rare_states.ts";
import { parseScenario, showScenario } from "../../src/simulation/scenario.ts";
import { DIRECTED, directedRuns } from "./directed.ts";
import { execute } from "./execute.ts";

test("O-REACH fails on a state that was never reached, or too seldom, and says which and how often", () => {
  const states = applicableStates();
  const reached = new Map(states.map((state) => [`rare.${state}`, REACHED_MIN]));
  assert.deepEqual(checkReached(reached, 1_000), []);
  reached.set("rare.saved_file_torn", REACHED_MIN - 1);
  reached.delete("rare.zombie_came_back");
  const violations = checkReached(reached, 1_000);
  assert.deepEqual(
    violations.map(({ oracle, timeMs }) => [oracle, timeMs]),
    [
      ["O-REACH", 1_000],
      ["O-REACH", 1_000],
    ],
  );
  const texts = violations.map(({ text }) => text).sort();
  assert.match(texts[0]!, /^saved_file_torn \(.*\) was reached 19 times, at least 20 are asked$/);
  assert.match(texts[1]!, /^zombie_came_back \(.*\) was reached 0 times/);
});

test("a state is described, named once, and asked for from when on it can be reached", () => {
  assert.equal(new Set(RARE_STATES).size, RARE_STATES.length);
  for (const state of RARE_STATES) assert.ok(describeRareState(state).what.length > 20, state);
  assert.ok(applicableStates().length >= 16);
  assert.ok(!applicableStates().includes("join_refused_busy"));
});

test("directed scenarios are scenarios: they are the same after they were written and read", () => {
  for (const { scenario } of directedRuns([])) assert.deepEqual(parseScenario(showScenario(scenario)), scenario);
});

for (const { state, scenario } of DIRECTED) {
  test(`directed scenarios reach ${state}`, async () => {
    for (let seed = 1n; seed <= 60n; seed++) {
      const result = await execute(scenario(seed));
      assert.deepEqual(result.violations, [], `seed ${seed}`);
      if ((result.reached.get(`rare.${state}`) ?? 0) > 0) return;
    }
    assert.fail("none of 60 seeds got there");
  });
}

test("a piece that ends inside of a length is seen, wherever the pieces before it were cut", () => {
  const connection = { id: 1, client: "w1", server: "w2", port: 1 };
  const cuts = new LengthCuts();
  const read = (...bytes: number[]) => cuts.read(connection, "server", new Uint8Array(bytes));
  assert.equal(read(0, 0, 0, 2, 7), false, "in the body");
  assert.equal(read(7, 0, 0), true, "two bytes of the next length");
  assert.equal(read(0), true, "three of them");
  assert.equal(read(0), false, "an empty frame is whole");
  assert.equal(read(0, 0, 0, 1, 9), false, "a whole frame");
  assert.equal(
    cuts.read(connection, "client", new Uint8Array([0])),
    true,
    "the other direction has a place of its own",
  );
  assert.equal(read(0, 0, 0, 1), false, "a whole length");
});
