// O-LETTERS fails when a record is lost, doubled or counted twice behind letters that were sent again, and has nothing to say otherwise.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Observation, ResendRecord } from "../../src/simulation/observation.ts";
import { oLetters } from "../../src/simulation/oracles/o_letters.ts";
import type { Scenario } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const SCENARIO: Scenario = {
  format: 1,
  name: "letters are sent again while workers die",
  seed: "0x1e7",
  workers: 3,
  application: "letters",
  keys: 4,
  messages: 200,
  senders: [],
  checkpointMs: 50,
  faults: [
    { at: { ms: 1_500 }, do: "resend", worker: "w1", through: "w2", ms: 5_000 },
    { at: { ms: 2_000 }, do: "correct" },
    { at: { after: "prev", ms: 10 }, do: "resend", worker: "w1", through: "initializer", ms: 5_000 },
    { at: { after: "prev", ms: 0 }, do: "resend", worker: "w2", through: "w1", ms: 5_000 },
    { at: { after: "prev", ms: 20 }, do: "kill", worker: "w2" },
    { at: { after: "prev", ms: 100 }, do: "start", worker: "w2" },
    { at: { after: "prev", ms: 1_000 }, do: "resend", worker: "w2", through: "w2", ms: 5 },
  ],
  expect: ["O-LETTERS", "O-SEQ", "O-MODEL", "O-OWN", "O-LIVE", "O-STAYUP", "O-MEM", "O-FAILCLEAR"],
  limitMs: 9_000,
};

const STOPPED: Scenario = {
  ...SCENARIO,
  name: "a cluster is stopped, and its letters are left",
  faults: [
    { at: { ms: 1_500 }, do: "resend", worker: "w1", through: "w2", ms: 5_000 },
    { at: { ms: 1_800 }, do: "command", worker: "w1", what: "stop", times: 1 },
  ],
};

const played = await execute(SCENARIO);
const stopped = await execute(STOPPED);

interface Spoiled {
  readonly visible: Map<string, string>;
  readonly resends: ResendRecord[];
  lettersLeft: string[];
}

function judged(observation: Observation, change: (observation: Spoiled) => void): string[] {
  const spoiled = {
    ...observation,
    timeMs: 1,
    visible: new Map(observation.visible),
    resends: structuredClone(observation.resends),
    lettersLeft: [...observation.lettersLeft],
    readings: [],
  };
  change(spoiled);
  const found = oLetters.during!(spoiled as unknown as Observation, SCENARIO)();
  return [...found, ...oLetters.check(spoiled as unknown as Observation, SCENARIO)].map(({ text }) => text);
}

const edit = (change: (lines: string[]) => string[]) => (spoiled: Spoiled) => {
  const [[worker, text]] = [...spoiled.visible] as [[string, string]];
  spoiled.visible.set(worker, `${change(text.split("\n").slice(0, -1)).join("\n")}\n`);
};

test("what was refused comes out once when its letters are sent again, though a worker dies meanwhile", () => {
  assert.deepEqual([...played.violations, ...stopped.violations], []);
  for (const { observation } of [played, stopped])
    assert.deepEqual(
      judged(observation, () => {}),
      [],
    );
  const { resends, ending } = played.observation;
  const faults = resends.filter(({ startedMs }) => startedMs < ending!.mendedMs);
  assert.equal(faults.length, 4);
  assert.ok(faults.some(({ batches }) => batches.some(({ outcome }) => (outcome?.taken.length ?? 0) > 0)));
  assert.ok(resends.length > 5, "at the end all are sent again");
});

test("a record that is missing, comes twice, or was never given is found", () => {
  const { observation } = played;
  assert.match(
    judged(
      observation,
      edit((lines) => lines.slice(1)),
    )[0] ?? "",
    /^record \S+ \d+ is missing at the end$/,
  );
  const twice = judged(
    observation,
    edit((lines) => [...lines, lines[0]!]),
  );
  assert.match(twice[0] ?? "", /: record \S+ \d+ is visible 2 times, and 1 is the most: /);
  assert.match(twice[1] ?? "", /^record \S+ \d+ is there 2 times at the end, and 1 is the most$/);
  assert.match(
    judged(
      observation,
      edit((lines) => [...lines, "f-w1.k0 900 1 1"]),
    )[0] ?? "",
    /nobody has given$/,
  );
  assert.match(
    judged(
      observation,
      edit((lines) => [...lines, "what"]),
    )[0] ?? "",
    /nobody has given$/,
  );
});

test("a state that has counted a record twice is found, and who puts out what belongs to another", () => {
  const { observation } = played;
  const counted = edit((lines) => lines.with(-1, lines.at(-1)!.replace(/\d+$/, "77")));
  assert.match(
    judged(observation, counted)[0] ?? "",
    /^the second state of key \S+ has counted to \d+ for its record number/,
  );
  const swapped = judged(observation, ({ visible }) => {
    const [[one, first], [other, second]] = [...visible] as [[string, string], [string, string]];
    visible.set(one, second).set(other, first);
  });
  assert.match(swapped[0] ?? "", /: key \S+ belongs to \S+$/);
});

test("a letter may come once more for each time that nobody knew what became of it, and not for another reason", () => {
  const { observation } = played;
  const line = [...observation.visible.values()][0]!.split("\n")[0]!;
  const records = [line.split(" ").slice(0, 2).join(" ")];
  const doubt = (batch: Partial<ResendRecord["batches"][number]>) => ({
    ...observation.resends[0]!,
    batches: [{ records, outcome: null, remembered: false, ...batch }],
  });
  const taken = { taken: [0], left: [], unsure: [], epoch: 3 };
  const unsure = { taken: [], left: [], unsure: [{ letters: [0], why: "its owner died" }], epoch: 0 };
  const left = { taken: [], left: [{ letters: [0], why: "the cluster went back" }], unsure: [], epoch: 0 };
  const [excuses, none] = [
    [doubt({}), doubt({ outcome: unsure, remembered: true }), doubt({ outcome: taken })],
    [doubt({ outcome: taken, remembered: true }), doubt({ outcome: left })],
  ];
  const again = (times: number, ...runs: ResendRecord[]) =>
    judged(observation, (spoiled) => {
      spoiled.resends.push(...runs);
      edit((lines) => [...lines, ...Array<string>(times).fill(line)])(spoiled);
    }).filter((text) => text.startsWith("record"));
  for (const run of excuses) assert.deepEqual(again(1, run), []);
  assert.deepEqual(again(3, ...excuses), []);
  assert.match(again(4, ...excuses)[0] ?? "", /is there 5 times at the end, and 4 is the most$/);
  for (const run of none) assert.equal(again(1, run).length, 1);
});

test("behind a stop, a record that is neither visible nor in a letter is found", () => {
  const { observation } = stopped;
  assert.equal(observation.ending?.forGood, true);
  assert.ok(observation.lettersLeft.length > 10);
  const found = judged(observation, (spoiled) => {
    spoiled.lettersLeft = [];
  });
  assert.match(found[0] ?? "", /^behind the stop record \S+ \d+ of \S+ is neither visible nor in a letter, and /);
});
