// Oracles of one thing each, shown failing on an observation that was spoiled.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Observation } from "../../src/simulation/observation.ts";
import type { Oracle } from "../../src/simulation/oracles/oracle.ts";
import { oRetries } from "../../src/simulation/oracles/retries.ts";
import { oRot } from "../../src/simulation/oracles/rot.ts";
import { oSilence } from "../../src/simulation/oracles/silence.ts";
import { oTimers } from "../../src/simulation/oracles/timers.ts";
import { parseScenario, type Scenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const QUIET: Scenario = {
  format: 1,
  name: "little happens to it",
  seed: "7",
  workers: 2,
  application: "last_four",
  keys: 5,
  messages: 50,
  senders: [{ worker: "w1", source: 0, batch: 2, everyMs: 10, startMs: 0 }],
  faults: [],
  expect: ["O-LIVE", "O-FAILCLEAR", "O-MEM"],
  limitMs: 5_000,
};

async function judged(oracle: Oracle, scenario: Scenario, spoil: (observation: Observation) => void): Promise<string> {
  const { observation, violations } = await execute(scenario);
  assert.deepEqual(violations, []);
  assert.deepEqual(oracle.check(observation, scenario), []);
  spoil(observation);
  const [first] = oracle.check(observation, scenario);
  assert.equal(first?.oracle, oracle.id);
  return first!.text;
}

test("O-LIVE fails on a worker that dials without waiting", async () => {
  const text = await judged(oRetries, QUIET, (observation) => {
    for (let i = 0; i < 1_000; i++) observation.tried("w1", "initializer", 3_000);
  });
  assert.match(text, /w1 tried to connect to initializer 1000 times in the second from 3000 ms/);
});

test("O-LIVE fails on a worker that does not notice the silence of a peer", async () => {
  const path = new URL("./planted/silence_never_ends.json", import.meta.url);
  const text = await judged(oSilence, parseScenario(readFileSync(path, "utf8")), ({ samples }) => {
    const late = samples.findIndex(({ worker, timeMs }) => worker === "w1" && timeMs >= 9_000);
    const sample = samples[late]!;
    const peers = sample.status.peers.map((peer) => ({ ...peer, control: true }));
    samples[late] = { ...sample, status: { ...sample.status, peers } };
  });
  assert.match(text, /w1 has heard nothing from w2 for 7\d\d\d ms and calls it connected/);
});

test("O-FAILCLEAR fails on a worker that goes on with saved information that has rotted", async () => {
  const scenario: Scenario = {
    ...QUIET,
    faults: [
      { at: { ms: 1_500 }, do: "kill", worker: "w1" },
      { at: { after: "prev", ms: 10 }, do: "rot", worker: "w1", file: 1, bit: 300 },
      { at: { after: "prev", ms: 10 }, do: "start", worker: "w1" },
      { at: { after: "prev", ms: 600 }, do: "restore", worker: "w1" },
      { at: { after: "prev", ms: 10 }, do: "start", worker: "w1" },
    ],
  };
  const text = await judged(oRot, scenario, ({ log, processes }) => {
    const refused = processes.find(({ status }) => status === 12)!;
    const { worker, number: process, startedMs: timeMs } = refused;
    log.push({ timeMs, worker, process, level: "info", code: "control_listening", text: "" });
  });
  assert.match(text, /w1 was started on .*\/cluster, in which a bit of fault 1 was flipped, and went on with it/);
});

test("O-MEM fails on a worker that waits for ever more timers", async () => {
  const text = await judged(oTimers, QUIET, ({ samples }) => {
    samples[1] = { ...samples[1]!, timers: 400 };
  });
  assert.match(text, /waits for 400 timers, 40 is the most/);
});
