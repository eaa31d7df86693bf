/**
 * O-SEQ and O-MODEL of runs with checkpoints, where nothing is lost with a process: state and input come back.
 *
 * Whoever dies when: every line is what the undisturbed run puts out for that value. In files (`transfers`), and at a sink that commits in two phases (`two_phase`), what is visible of
 * a key is at any moment the beginning of what that run puts out, once each, and at the end all of it. At a plain TCP sink
 * (`generated`), a recovery may put out again what came behind its checkpoint: values step back then, and only then; none is
 * left out, but where a lost connection took along what the system had taken of it.
 */
import type { WorkerName } from "../../base/ids.ts";
import type { Observation, Reading } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { fileStreamId, generatedId, RecordSequence, SUITE } from "../suite.ts";
import { type KeyLine, linesByKey, pathOf, sinkWasCut } from "./key_lines.ts";
import { REPORTED_MAX, type Violation } from "./oracle.ts";

/** What the undisturbed run puts out: by key, in order. */
export function expectedLines(scenario: Scenario, workers: readonly WorkerName[]): Map<string, string[]> {
  const suite = SUITE[scenario.application];
  const lines = new Map<string, string[]>();
  for (const worker of workers) {
    const records = new RecordSequence(suite.files ? fileStreamId(worker) : generatedId(worker), scenario.keys);
    const values = new Map<string, number[]>();
    for (let i = 0; i < scenario.messages; i++) {
      const { key, value } = records.next();
      const list = values.get(key);
      if (list === undefined) values.set(key, [value]);
      else list.push(value);
    }
    for (const [key, list] of values) lines.set(suite.outputKey(key), suite.model(key, list));
  }
  return lines;
}

/** Looks at what is visible whenever it has changed. */
export function duringVisible(observation: Observation, scenario: Scenario): () => Violation[] {
  const expected = expectedLines(scenario, observation.workers);
  /** Of each worker, and each reading: the text that was judged, and how many lines of each key it has. */
  const seen = new Map<WorkerName | Reading, { text: string; counts: Map<string, number> }>();
  return () => {
    const violations: Violation[] = [];
    const look = (worker: WorkerName, what: WorkerName | Reading, text: string): void => {
      let before = seen.get(what);
      if (before?.text === text) return;
      // A name that was not durable goes with the power, and comes back with the recovery.
      if (before === undefined || !text.startsWith(before.text)) before = { text: "", counts: new Map() };
      const { counts } = before;
      const why = judge(text, before.text.length, counts, worker, expected, observation, scenario);
      seen.set(what, { text, counts });
      if (why !== null) violations.push({ oracle: "O-SEQ", timeMs: observation.timeMs, text: `${worker}: ${why}` });
    };
    for (const [worker, text] of observation.visible) look(worker, worker, text);
    for (const reading of observation.readings) look(reading.worker, reading, reading.text);
    return violations;
  };
}

function judge(
  text: string,
  from: number,
  counts: Map<string, number>,
  worker: WorkerName,
  expected: ReadonlyMap<string, readonly string[]>,
  observation: Observation,
  scenario: Scenario,
): string | null {
  if (text !== "" && !text.endsWith("\n")) return "what is visible ends in the middle of a line";
  const suite = SUITE[scenario.application];
  for (const line of text.slice(from).split("\n").slice(0, -1)) {
    const key = line.slice(0, Math.max(0, line.indexOf(" ")));
    const count = counts.get(key) ?? 0;
    const due = expected.get(key)?.[count];
    if (line !== due) return `"${line}" is visible where "${due ?? "nothing"}" was to come`;
    counts.set(key, count + 1);
    if (count > 0) continue;
    const input = suite.inputKey(key);
    const owner = pathOf(input, observation, scenario)!.at(-1)!;
    if (owner !== worker) return `key ${key} belongs to ${owner}`;
  }
  return null;
}

export function checkVisibleComplete(observation: Observation, scenario: Scenario): Violation[] {
  if (observation.ending?.forGood === true) return checkStopped(observation, scenario);
  if (observation.ending?.quietMs == null) return [];
  let missing = 0;
  for (const lines of expectedLines(scenario, observation.workers).values()) missing += lines.length;
  for (const text of observation.visible.values()) missing -= text.split("\n").length - 1;
  if (missing === 0) return [];
  const text = `${missing} lines are missing at the end`;
  return [{ oracle: "O-MODEL", timeMs: observation.timeMs, text }];
}

/** Behind a stop, what is visible of each machine's input is all of its first records, however many were taken in. */
function checkStopped(observation: Observation, scenario: Scenario): Violation[] {
  const suite = SUITE[scenario.application];
  const counts = new Map<string, number>();
  for (const text of observation.visible.values()) {
    for (const line of text.split("\n").slice(0, -1)) {
      const key = suite.inputKey(line.slice(0, line.indexOf(" ")));
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  const violations: Violation[] = [];
  for (const worker of observation.workers) {
    const records = new RecordSequence(fileStreamId(worker), scenario.keys);
    const own = [...counts].filter(([key]) => key.startsWith(`${fileStreamId(worker)}.`));
    const total = own.reduce((sum, [, count]) => sum + count, 0);
    const due = new Map<string, number>();
    for (let i = 0; i < total; i++) {
      const { key } = records.next();
      due.set(key, (due.get(key) ?? 0) + 1);
    }
    const wrong = own.find(([key, count]) => due.get(key) !== count);
    if (wrong === undefined) continue;
    const text =
      `behind the stop ${total} records of ${worker} are visible, ${wrong[1]} of them of key ${wrong[0]}; of its first ` +
      `${total} records ${due.get(wrong[0]) ?? 0} are`;
    violations.push({ oracle: "O-MODEL", timeMs: observation.timeMs, text });
  }
  return violations;
}

export function checkSink(observation: Observation, scenario: Scenario, oracle: "O-MODEL" | "O-SEQ"): Violation[] {
  const violations: Violation[] = [];
  const found = linesByKey(observation);
  const expected = expectedLines(scenario, observation.workers);
  for (const [key, [line]] of found) {
    if (expected.has(key)) continue;
    violations.push({ oracle, timeMs: line!.timeMs, text: `a line of a key that nobody made: "${line!.text}"` });
  }
  for (const [key, due] of expected) {
    if (violations.length >= REPORTED_MAX) break;
    const lines = found.get(key) ?? [];
    const owner = pathOf(SUITE[scenario.application].inputKey(key), observation, scenario)!.at(-1)!;
    const why =
      oracle === "O-SEQ" ? judgeSteps(due, lines, owner, observation) : judgeComplete(due, lines, owner, observation);
    if (why !== null) violations.push({ oracle, timeMs: lines.at(-1)?.timeMs ?? 0, text: `key ${key}: ${why}` });
  }
  return violations;
}

function judgeSteps(
  due: readonly string[],
  lines: readonly KeyLine[],
  owner: WorkerName,
  observation: Observation,
): string | null {
  const recoveries = observation.log.filter(
    ({ worker, code }) => worker === owner && code === "recovery_started",
  ).length;
  // Behind a stop there is another cluster, which begins with the first value.
  const clusters = new Set(
    observation.samples
      .filter(({ worker, status }) => worker === owner && status.phase > 0)
      .map(({ clusterId }) => clusterId),
  ).size;
  let at = 0;
  let back = 0;
  let connection = 0;
  for (const line of lines) {
    const place = due.indexOf(line.text);
    if (place < 0) return `"${line.text}" is a line that an undisturbed run does not put out`;
    if (place < at) back++;
    else if (place > at && !sinkWasCut(owner, connection, line.connection.number, observation)) {
      return `"${line.text}" came where "${due[at]}" was to come`;
    }
    at = place + 1;
    connection = line.connection.number;
  }
  // One that ended within a second was not sampled; it ended with its files.
  const ends = observation.workers.map(
    (name) => observation.log.filter(({ worker, code }) => worker === name && code === "files_removed").length,
  );
  const backMax = recoveries + Math.max(0, clusters - 1, ...ends);
  return back > backMax ? `it stepped back ${back} times, with ${recoveries} recoveries of ${clusters} clusters` : null;
}

function judgeComplete(
  due: readonly string[],
  lines: readonly KeyLine[],
  owner: WorkerName,
  observation: Observation,
): string | null {
  if (observation.ending?.quietMs == null) return null;
  if (observation.connections.some(({ worker, end }) => worker === owner && end !== "ended")) return null;
  const seen = new Set(lines.map(({ text }) => text));
  const missing = due.filter((line) => !seen.has(line));
  return missing.length === 0 ? null : `${missing.length} lines are missing, the first of them "${missing[0]}"`;
}
