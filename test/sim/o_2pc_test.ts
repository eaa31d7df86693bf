/** O-2PC can fail: each sentence of it, with the smallest log that breaks it. And a whole run that it has nothing to say about. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SinkLogEntry } from "../../src/simulation/environment/sink_book.ts";
import { type Ending, Observation } from "../../src/simulation/observation.ts";
import { o2pc } from "../../src/simulation/oracles/o_2pc.ts";
import type { Scenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const TWO_PHASE: Scenario = {
  format: 1,
  name: "everybody dies once, the sink twice",
  seed: "7",
  workers: 3,
  application: "two_phase",
  keys: 5,
  messages: 400,
  senders: [],
  checkpointMs: 100,
  faults: [
    { at: { ms: 1_500 }, do: "kill", worker: "w1" },
    { at: { after: "prev", ms: 300 }, do: "start", worker: "w1" },
    { at: { ms: 2_500 }, do: "sink_close", ms: 300 },
    { at: { ms: 3_200 }, do: "sink_close", ms: 200 },
    { at: { ms: 4_000 }, do: "power_loss_all" },
    { at: { after: "prev", ms: 300 }, do: "start_all" },
    { at: { ms: 5_000 }, do: "cut", worker: "w2", channel: "sink" },
  ],
  expect: ["O-SEQ", "O-MODEL", "O-LIVE", "O-STAYUP", "O-2PC"],
  limitMs: 8_000,
};

const phase1 = (epoch: number, start: number, end: number): SinkLogEntry => ({
  event: "phase1",
  id: `a-w-w1-id-1:c_id=${epoch}`,
  start,
  end,
  vote: "commit",
});
const phase2 = (epoch: number, decision: "abort" | "commit", end: number): SinkLogEntry => ({
  event: "phase2",
  id: `a-w-w1-id-1:c_id=${epoch}`,
  decision,
  end,
});

/** What is said of a run in which the sink of `w1` wrote this, a tenth of a second an entry. */
function judge(entries: readonly SinkLogEntry[], change: (observation: Observation) => void = () => {}): string[] {
  const observation = new Observation(["initializer", "w1"]);
  for (const [i, entry] of entries.entries()) {
    observation.transactions.push({ timeMs: (i + 1) * 100, worker: "w1", entry });
  }
  observation.timeMs = 10_000;
  observation.ending = { leftMs: 9_000 } as Ending;
  change(observation);
  return o2pc.check(observation, TWO_PHASE).map(({ text }) => text);
}

const GOOD = [
  phase1(1, 0, 10),
  phase2(1, "commit", 10),
  phase1(2, 10, 20),
  phase2(2, "abort", 20),
  phase1(3, 10, 30),
  phase2(3, "commit", 30),
];

function rolledBack(observation: Observation, timeMs: number, epoch: number): void {
  const text = `RESILIENCE: Rolling back to checkpoint ${epoch}`;
  observation.log.push({ timeMs, worker: "w1", process: 0, level: "info", code: "rolling_back", text });
}

test("nothing is said of a log in order, also when a decision is told again", () => {
  assert.deepEqual(judge(GOOD), []);
  assert.deepEqual(judge([...GOOD, phase2(3, "commit", 30)]), []);
  assert.deepEqual(
    judge(GOOD, (observation) => rolledBack(observation, 700, 3)),
    [],
  );
});

test("O-2PC sees a gap, an overlap, both decisions, the wrong order, and a decision about nothing", () => {
  const cases: [SinkLogEntry[], RegExp][] = [
    [[...GOOD, phase1(4, 31, 40), phase2(4, "commit", 40)], /begins at 31, and 30 bytes were committed/],
    [[...GOOD, phase1(4, 10, 40), phase2(4, "commit", 40)], /begins at 10, and 30 bytes were committed/],
    [[...GOOD, phase2(2, "commit", 20)], /was told to abort, and then to commit/],
    [[...GOOD, phase2(3, "abort", 30)], /was told to commit, and then to abort/],
    [[phase1(2, 0, 10), phase2(2, "commit", 10), phase1(1, 10, 20), phase2(1, "commit", 20)], /committed behind 2/],
    [[phase1(1, 0, 10), phase2(2, "commit", 10)], /was committed, and .*c_id=1 was asked for/],
    [[...GOOD, { event: "error", text: "what?" }], /complains: what\?/],
  ];
  for (const [entries, expected] of cases) assert.match(judge(entries).join("\n"), expected);
});

test("O-2PC sees a recovery to before what was committed, a vote without a decision, and a worker that breaks the protocol", () => {
  const back = judge(GOOD, (observation) => rolledBack(observation, 700, 2));
  assert.match(back.join("\n"), /goes back to checkpoint 2, and 3 was committed/);
  assert.deepEqual(
    judge(GOOD, (observation) => rolledBack(observation, 550, 1)),
    [],
  );
  assert.match(judge([...GOOD, phase1(4, 30, 40)]).join("\n"), /c_id=4 was voted for, and has no decision/);
  const refused = judge(GOOD, ({ sinkRefusals }) => sinkRefusals.push({ timeMs: 1, worker: "w1", text: "a gap" }));
  assert.match(refused.join("\n"), /w1 breaks the sink's protocol: a gap/);
});

test("a run in which everybody dies ends with every record committed once", { timeout: 300_000 }, async () => {
  const { observation, violations } = await execute(TWO_PHASE);
  assert.deepEqual(violations, []);
  const decisions = observation.transactions.flatMap(({ entry }) => (entry.event === "phase2" ? [entry.decision] : []));
  assert.ok(decisions.filter((decision) => decision === "commit").length > 50);
  assert.equal(observation.lineCount, 3 * TWO_PHASE.messages);
});

test("a byte that is committed and should not be is seen while the run is on", { timeout: 300_000 }, async () => {
  // As if a record had been put out twice: what is visible is looked at through a glass that doubles a line.
  const { observation } = await execute({ ...TWO_PHASE, faults: [], messages: 50, limitMs: 1_000 });
  const { oSeq } = await import("../../src/simulation/oracles/o_seq.ts");
  const look = oSeq.during!(observation, { ...TWO_PHASE, messages: 50 });
  assert.deepEqual(look(), []);
  const text = observation.visible.get("w1")!;
  const line = text.slice(0, text.indexOf("\n") + 1);
  assert.ok(line.length > 1);
  observation.visible.set("w1", line + text);
  assert.match(look()[0]!.text, /is visible where/);
});
