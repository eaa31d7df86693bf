/**
 * O-SEQ: every input of a key changed its state once, in order. Lines are windows of the last four values, so a lost or
 * doubled change of state shows in the next three lines, also where the output looks complete.
 *
 * With checkpoints: `with_checkpoints.ts`. Without them a process takes its state with it: the window of its successor starts at zeros. And what the dead one
 * had processed without acknowledging is sent to the successor again, what it had acknowledged and not put out is gone. So
 * this is asserted: for each key and process of its owner, the window starts at zeros, at value 1 if the process is older than
 * the stream; then values grow by one. Values step otherwise only behind the death of another stateful process on the way
 * (`two_hops`) or of the generator (`generated`), once for each.
 */
import type { Observation, ProcessRecord, StreamRecord } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { isExact, SUITE } from "../suite.ts";
import { type KeyLine, linesByKey, pathOf, processOf, sinkWasCut, streamsById } from "./key_lines.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";
import { checkSink, duringVisible } from "./with_checkpoints.ts";

export const oSeq: Oracle = {
  id: "O-SEQ",
  check(observation, scenario) {
    if (scenario.checkpointMs === undefined) return check(observation, scenario);
    return isExact(SUITE[scenario.application]) ? [] : checkSink(observation, scenario, "O-SEQ");
  },
  during: (observation, scenario) =>
    // O-BANK and O-LETTERS know what comes out of theirs.
    isExact(SUITE[scenario.application]) && !["bank", "letters"].includes(scenario.application)
      ? duringVisible(observation, scenario)
      : () => [],
};

function check(observation: Observation, scenario: Scenario): Violation[] {
  const suite = SUITE[scenario.application];
  if (!suite.windows) return [];
  const violations: Violation[] = [];
  const lines = linesByKey(observation);
  const known = new Set<string>();
  for (const [id, streams] of streamsById(observation)) {
    for (let k = 0; k < streams[0]!.keys; k++) {
      const key = `${id}.k${k}`;
      const outputKey = suite.outputKey(key);
      known.add(outputKey);
      const ofKey = lines.get(outputKey);
      if (ofKey !== undefined) checkKey(key, ofKey, streams, observation, scenario, violations);
      if (violations.length >= REPORTED_MAX) return violations;
    }
  }
  for (const [key, [line]] of lines) {
    if (known.has(key)) continue;
    violations.push({
      oracle: "O-SEQ",
      timeMs: line!.timeMs,
      text: `a line of a key that nobody sent: "${line!.text}"`,
    });
    if (violations.length >= REPORTED_MAX) break;
  }
  return violations;
}

function checkKey(
  key: string,
  lines: readonly KeyLine[],
  streams: readonly StreamRecord[],
  observation: Observation,
  scenario: Scenario,
  violations: Violation[],
): void {
  const path = pathOf(key, observation, scenario)!;
  const owner = path.at(-1)!;
  // Whose death may make values step: stateful workers on the way, and the generator's.
  const upstream = new Set(path.slice(0, -1));
  if (SUITE[scenario.application].sources.length === 0) upstream.add(streams[0]!.worker);
  // The stop at the end is none: it comes when everything has come out.
  const untilMs = observation.ending?.stopAskedMs ?? Number.POSITIVE_INFINITY;
  const deaths = observation.processes.filter(
    ({ worker, endedMs }) => upstream.has(worker) && endedMs !== null && endedMs < untilMs,
  ).length;
  const groups = new Map<ProcessRecord, KeyLine[]>();
  for (const line of lines) {
    const process = processOf(line.connection, observation);
    if (process === null) continue;
    if (process.worker !== owner) {
      violations.push({
        oracle: "O-SEQ",
        timeMs: line.timeMs,
        text: `key ${key} belongs to ${owner}, and ${process.worker} put out "${line.text}"`,
      });
      return;
    }
    const group = groups.get(process);
    if (group === undefined) groups.set(process, [line]);
    else group.push(line);
  }
  for (const [process, group] of groups) {
    const isOlder = process.startedMs <= streams[0]!.openedMs;
    const found = checkProcess(group, owner, isOlder && deaths === 0, deaths, observation);
    if (found === null) continue;
    const text = `key ${key} at ${owner}, process ${process.number}: ${found.text}`;
    violations.push({ oracle: "O-SEQ", timeMs: found.line.timeMs, text });
    return;
  }
}

interface Found {
  readonly line: KeyLine;
  readonly text: string;
}

/** The lines of one key from one process. */
function checkProcess(
  lines: readonly KeyLine[],
  owner: string,
  fromOne: boolean,
  stepsMax: number,
  observation: Observation,
): Found | null {
  let before: number[] = [0, 0, 0, 0];
  let steps = 0;
  let lastConnection = -1;
  for (const line of lines) {
    const window = parseWindow(line.text);
    if (window === null) return { line, text: `"${line.text}" is no window` };
    const first = lastConnection < 0;
    const since = first ? firstConnectionOf(line, observation) : lastConnection;
    // Lines may be missing where a connection to the sink was lost: then only this window itself can be judged.
    const gap = sinkWasCut(owner, since, line.connection.number, observation);
    if (!gap && (window[0] !== before[1] || window[1] !== before[2] || window[2] !== before[3])) {
      return { line, text: `"${line.text}" follows the window ${before.join(" ")}` };
    }
    // What a window behind a gap has in common with the one before it was counted there.
    const from = gap ? Math.max(1, overlap(before, window)) : 3;
    for (let i = from; i < 4; i++) {
      const previous = window[i - 1]!;
      if (previous === 0) {
        if (fromOne && window[i]! > 1) return { line, text: `it starts at ${window[i]} instead of 1: "${line.text}"` };
      } else if (window[i] !== previous + 1) steps++;
    }
    if (gap && !first && window[3]! <= before[3]! && stepsMax === 0) {
      return { line, text: `"${line.text}" steps back from ${before[3]}` };
    }
    if (steps > stepsMax) {
      return { line, text: `"${line.text}": values do not grow by one (${steps} times, ${stepsMax} can be by design)` };
    }
    before = window;
    lastConnection = line.connection.number;
  }
  return null;
}

/** How many values at the end of the one window are those at the beginning of the next, at most. */
function overlap(before: readonly number[], window: readonly number[]): number {
  for (let count = window.length; count > 0; count--) {
    if (before.slice(-count).every((value, i) => value === window[i])) return count;
  }
  return 0;
}

/** The first connection of the process of this line. */
function firstConnectionOf(line: KeyLine, observation: Observation): number {
  const process = processOf(line.connection, observation);
  const first = observation.connections.find(
    (connection) => connection.worker === line.connection.worker && processOf(connection, observation) === process,
  );
  return first!.number;
}

function parseWindow(text: string): number[] | null {
  const words = text.split(" ").slice(1).map(Number);
  return words.length === 4 && words.every((word) => Number.isInteger(word) && word >= 0) ? words : null;
}
