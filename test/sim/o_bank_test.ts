// O-BANK fails when money is made, lost, moved twice, or under way in a checkpoint; and has nothing to say otherwise.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Audit, Observation } from "../../src/simulation/observation.ts";
import { oBank } from "../../src/simulation/oracles/o_bank.ts";
import type { Scenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const SCENARIO: Scenario = {
  format: 1,
  name: "a bank of which one worker dies",
  seed: "0xba",
  workers: 3,
  application: "bank",
  keys: 4,
  messages: 200,
  senders: [],
  checkpointMs: 50,
  faults: [
    { at: { ms: 1_200 }, do: "kill", worker: "w1" },
    { at: { after: "prev", ms: 50 }, do: "start", worker: "w1" },
  ],
  expect: ["O-BANK", "O-SEQ", "O-MODEL", "O-OWN", "O-LIVE", "O-STAYUP"],
  limitMs: 5_000,
};

const { observation, violations } = await execute(SCENARIO);

function judged(change: (observation: { audits: Audit[]; visible: Map<string, string> }) => void): string[] {
  const audits = observation.audits.map((each) => structuredClone(each));
  const spoiled = { ...observation, timeMs: 1, audits, visible: new Map(observation.visible), readings: [] };
  change(spoiled);
  const found = oBank.during!(spoiled as unknown as Observation, SCENARIO)();
  return [...found, ...oBank.check(spoiled as unknown as Observation, SCENARIO)].map(({ text }) => text);
}

/** The latest in which there is money. */
const latest = (audits: readonly Audit[]): Audit => audits.at(-1)!;

test("the books of a bank are right in every checkpoint that somebody reads, also behind a recovery", () => {
  assert.deepEqual(violations, []);
  assert.deepEqual(
    judged(() => {}),
    [],
  );
  const moving = observation.audits.filter(({ debits }) => {
    const given = [...debits.values()].reduce((sum: number, state) => sum + (state as { count: number }).count, 0);
    return given > 0 && given < SCENARIO.messages * SCENARIO.workers;
  });
  assert.ok(moving.length > 2, `${moving.length} of ${observation.audits.length} were read while money moved`);
  assert.ok(new Set(observation.audits.map(({ generation }) => generation)).size > 1);
});

test("a credit that is missing in a checkpoint, or there before its debit, is found", () => {
  for (const by of [-1, 1]) {
    const [text] = judged(({ audits }) => {
      const [, state] = [...latest(audits).credits][0]!;
      (state as { amount: number }).amount += by;
    });
    assert.match(text ?? "", /^checkpoint \d+ of generation \d+: \d+ was debited, and \d+ credited$/);
  }
});

test("money that went to another account is found though the sums are right", () => {
  const [text] = judged(({ audits }) => {
    const [one, other] = [...latest(audits).credits.values()] as { amount: number }[];
    one!.amount--;
    other!.amount++;
  });
  assert.match(text ?? "", /: account \d+ was credited .*, and is due /);
});

test("an account of two workers, one that gave what it was not told to, and no reading at all are found", () => {
  const twice = judged(({ audits }) => latest(audits).twice.push("3"));
  assert.match(twice[0] ?? "", /: account 3 is at two workers$/);
  const given = judged(({ audits }) => {
    const [state] = latest(audits).debits.values();
    (state as { amount: number }).amount += 5;
  });
  assert.match(given[0] ?? "", /: account \d+ has given \d+ in \d+ transfers, which are \d+$/);
  assert.deepEqual(
    judged(({ audits }) => void audits.splice(0)),
    ["no checkpoint with money in it could be read in all of the run"],
  );
});

test("a transfer that is visible twice, never, or before an earlier one of its giver is found", () => {
  const change = (how: (lines: string[]) => void) =>
    judged(({ visible }) => {
      const lines = visible.get("w1")!.split("\n");
      how(lines);
      visible.set("w1", lines.join("\n"));
    });
  const doubled = change((lines) => void lines.splice(10, 0, lines[10]!));
  const lost = change((lines) => void lines.splice(10, 1));
  const swapped = change((lines) => {
    const key = lines[10]!.split(" ")[0];
    const other = lines.findIndex((line, i) => i > 10 && line.startsWith(`${key} `));
    [lines[10], lines[other]] = [lines[other]!, lines[10]!];
  });
  for (const [text] of [doubled, lost, swapped])
    assert.match(text ?? "", /^w1: ".*" is visible where ".*" was to come$/);
});
