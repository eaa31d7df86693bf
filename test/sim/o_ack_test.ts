/** O-ACK can fail, and has nothing to say about a whole run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { oAck } from "../../src/simulation/oracles/o_ack.ts";
import type { Scenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const SCENARIO: Scenario = {
  format: 1,
  name: "programs wander from worker to worker",
  seed: "21",
  workers: 3,
  application: "programs",
  keys: 5,
  messages: 300,
  senders: [],
  checkpointMs: 100,
  faults: [
    { at: { ms: 1_150 }, do: "cut", worker: "w1", channel: "source" },
    { at: { ms: 1_400 }, do: "kill", worker: "w1" },
    { at: { after: "prev", ms: 200 }, do: "start", worker: "w1" },
    { at: { ms: 2_000 }, do: "power_loss", worker: "initializer" },
    { at: { after: "prev", ms: 300 }, do: "start", worker: "initializer" },
  ],
  expect: ["O-SEQ", "O-MODEL", "O-OWN", "O-LIVE", "O-STAYUP", "O-MEM", "O-ACK"],
  limitMs: 10_000,
};

test("connector programs are told that all is safe, whoever dies, and each record is in the files once", async () => {
  const { observation, violations, faults } = await execute(SCENARIO);
  assert.deepEqual(violations, []);
  assert.deepEqual([...faults.keys()].sort(), ["cut", "kill", "power_loss", "start"]);
  assert.equal(observation.programs.length, 3);
  assert.ok(observation.programs.every(({ finished }) => finished));
  assert.equal(observation.lineCount, 900);
  assert.deepEqual(oAck.check(observation, SCENARIO), []);

  const [first] = observation.programs;
  observation.programs[0] = { ...first!, violations: ["stream 0 begins behind 3, and 9 was acknowledged"] };
  assert.match(oAck.check(observation, SCENARIO)[0]!.text, /^program0: stream 0 begins behind 3/);
  observation.programs[0] = { ...first!, finished: false };
  assert.match(oAck.check(observation, SCENARIO)[0]!.text, /^program0 was not told/);
  observation.ending!.quietMs = null;
  assert.deepEqual(oAck.check(observation, SCENARIO), []);
});

test("senders to a TCP source that acknowledges are told that all is safe, whoever dies, and what they send again counts once", async () => {
  const scenario: Scenario = { ...SCENARIO, name: "senders wander from worker to worker", application: "acknowledged" };
  const { observation, violations, faults } = await execute(scenario);
  assert.deepEqual(violations, []);
  assert.deepEqual([...faults.keys()].sort(), ["cut", "kill", "power_loss", "start"]);
  assert.equal(observation.programs.length, 3);
  assert.ok(observation.programs.every(({ finished }) => finished));
  assert.equal(observation.lineCount, 900);
});
