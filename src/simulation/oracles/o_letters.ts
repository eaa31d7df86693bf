/**
 * O-LETTERS: of `letters`, where user code refuses a third of the records until it is corrected, and dead letters are sent again
 * meanwhile, through any worker, by somebody who may be killed:
 *
 *   - at any moment a record is visible once at most, whether it came from its source, or by a letter, or both ways after a recovery;
 *   - at the end each is there; and each has been counted by both states once, as if it had arrived when its letter was let in;
 *   - behind a stop that ended the cluster, what is not visible of the records that were taken in is in a dead letter.
 *
 * By design a letter may be let in once more for each time that nobody could tell what became of it: the worker gave no answer,
 * or said that it did not know, or whoever sent it died before he had written down the answer. Nothing else is an excuse, and
 * what was confirmed and remembered, or refused, is none.
 */
import type { WorkerName } from "../../base/ids.ts";
import type { Observation, Reading, ResentBatch } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { fileStreamId, ownerIndex, RecordSequence, SUITE } from "../suite.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oLetters: Oracle = {
  id: "O-LETTERS",
  during: (observation, scenario) => (isAsked(scenario) ? during(observation, scenario) : () => []),
  check(observation, scenario) {
    if (!isAsked(scenario)) return [];
    const violations: Violation[] = [];
    const say = (text: string): void => {
      if (violations.length < REPORTED_MAX) violations.push({ oracle: "O-LETTERS", timeMs: observation.timeMs, text });
    };
    if (observation.ending?.forGood === true) checkStopped(observation, scenario, say);
    else if (observation.ending?.quietMs != null) checkEnd(observation, scenario, say);
    return violations;
  },
};

type Say = (text: string) => void;

function isAsked({ application }: Scenario): boolean {
  return SUITE[application].refuses === true;
}

interface Line {
  /** `key value`. */
  readonly record: string;
  readonly key: string;
  /** The how-manieth it was. */
  readonly first: number;
  readonly second: number;
}

/** @returns Null: it is no line of this application. */
function parse(text: string): Line | null {
  const found = /^(\S+) ([1-9]\d*) ([1-9]\d*) ([1-9]\d*)$/.exec(text);
  if (found === null) return null;
  const [, key, value, first, second] = found;
  return { record: `${key} ${value}`, key: key!, first: Number(first), second: Number(second) };
}

/** How often each record may have been let in once more. */
function doubtsOf({ resends }: Observation): Map<string, number> {
  const doubts = new Map<string, number>();
  for (const { batches } of resends) {
    for (const batch of batches) {
      for (const index of doubtfulOf(batch)) {
        const record = batch.records[index]!;
        doubts.set(record, (doubts.get(record) ?? 0) + 1);
      }
    }
  }
  return doubts;
}

function doubtfulOf({ records, outcome, remembered }: ResentBatch): readonly number[] {
  if (outcome === null) return [...records.keys()];
  const unsure = outcome.unsure.flatMap(({ letters }) => letters);
  return remembered ? unsure : [...unsure, ...outcome.taken];
}

/** All records of the input, by the machine that has them, in order. */
function inputOf(observation: Observation, scenario: Scenario): Map<WorkerName, string[]> {
  return new Map(
    observation.workers.map((worker) => {
      const sequence = new RecordSequence(fileStreamId(worker), scenario.keys);
      const records = Array.from({ length: scenario.messages }, () => {
        const { key, value } = sequence.next();
        return `${key} ${value}`;
      });
      return [worker, records];
    }),
  );
}

/** Looks at what is visible, and at what was read meanwhile, whenever it has changed. */
function during(observation: Observation, scenario: Scenario): () => Violation[] {
  const known = new Set([...inputOf(observation, scenario).values()].flat());
  const judged = new Map<WorkerName | Reading, string>();
  return () => {
    const texts: [WorkerName | Reading, WorkerName, string][] = [
      ...[...observation.visible].map(([worker, text]): [WorkerName, WorkerName, string] => [worker, worker, text]),
      ...observation.readings.map((reading): [Reading, WorkerName, string] => [reading, reading.worker, reading.text]),
    ];
    const changed = texts.filter(([what, , text]) => judged.get(what) !== text);
    if (changed.length === 0) return [];
    const doubts = doubtsOf(observation);
    const violations: Violation[] = [];
    for (const [what, worker, text] of changed) {
      judged.set(what, text);
      const why = judge(text, worker, known, doubts, scenario, observation);
      if (why !== null) violations.push({ oracle: "O-LETTERS", timeMs: observation.timeMs, text: `${worker}: ${why}` });
    }
    return violations.slice(0, REPORTED_MAX);
  };
}

function judge(
  text: string,
  worker: WorkerName,
  known: ReadonlySet<string>,
  doubts: ReadonlyMap<string, number>,
  scenario: Scenario,
  observation: Observation,
): string | null {
  if (text !== "" && !text.endsWith("\n")) return "what is visible ends in the middle of a line";
  const counts = new Map<string, number>();
  for (const each of text.split("\n").slice(0, -1)) {
    const line = parse(each);
    if (line === null || !known.has(line.record)) return `"${each}" is of a record that nobody has given`;
    const count = (counts.get(line.record) ?? 0) + 1;
    counts.set(line.record, count);
    const most = 1 + (doubts.get(line.record) ?? 0);
    if (count > most) return `record ${line.record} is visible ${count} times, and ${most} is the most: "${each}"`;
    if (count > 1) continue;
    const owner = observation.workers[ownerIndex(`${line.key}'`, scenario.workers)]!;
    if (owner !== worker) return `key ${line.key} belongs to ${owner}`;
  }
  return null;
}

function linesOf(observation: Observation): Line[] {
  return [...observation.visible.values()].flatMap((text) =>
    text
      .split("\n")
      .map(parse)
      .filter((line) => line !== null),
  );
}

function checkEnd(observation: Observation, scenario: Scenario, say: Say): void {
  const doubts = doubtsOf(observation);
  const doubtful = new Set([...doubts.keys()].map((record) => record.slice(0, record.indexOf(" "))));
  const lines = linesOf(observation);
  const counts = new Map<string, number>();
  const byKey = new Map<string, Line[]>();
  for (const line of lines) {
    counts.set(line.record, (counts.get(line.record) ?? 0) + 1);
    const list = byKey.get(line.key);
    if (list === undefined) byKey.set(line.key, [line]);
    else list.push(line);
  }
  for (const record of [...inputOf(observation, scenario).values()].flat()) {
    const count = counts.get(record) ?? 0;
    const most = 1 + (doubts.get(record) ?? 0);
    if (count === 0) say(`record ${record} is missing at the end`);
    else if (count > most) say(`record ${record} is there ${count} times at the end, and ${most} is the most`);
  }
  for (const [key, list] of byKey) {
    if (doubtful.has(key)) continue;
    for (const state of ["first", "second"] as const) {
      const numbers = list.map((line) => line[state]).sort((a, b) => a - b);
      const wrong = numbers.findIndex((number, i) => number !== i + 1);
      if (wrong < 0) continue;
      say(`the ${state} state of key ${key} has counted to ${numbers[wrong]} for its record number ${wrong + 1}`);
    }
  }
}

/** Before the last record of a machine that came out, each has come out or is in a letter that nobody has let in. */
function checkStopped(observation: Observation, scenario: Scenario, say: Say): void {
  const there = new Set([...linesOf(observation).map(({ record }) => record)]);
  const left = new Set(observation.lettersLeft);
  for (const [worker, records] of inputOf(observation, scenario)) {
    const until = records.findLastIndex((record) => there.has(record));
    const missing = records.slice(0, until + 1).find((record) => !there.has(record) && !left.has(record));
    if (missing === undefined) continue;
    say(
      `behind the stop record ${missing} of ${worker} is neither visible nor in a letter, and ${records[until]} is visible`,
    );
  }
}
