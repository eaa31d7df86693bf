/**
 * Are the two worlds the same? Verdicts of all oracles, who left by itself and why, and the lines of every key whose output is
 * determined: whose records were all taken in, by processes that lived to the end, and went out over connections that were
 * not lost.
 */
import type { Observation, ProcessRecord, StreamRecord } from "../../../src/simulation/observation.ts";
import { linesByKey, pathOf, processOf } from "../../../src/simulation/oracles/key_lines.ts";
import type { RunResult } from "../../../src/simulation/run.ts";
import type { Scenario } from "../../../src/simulation/scenario.ts";
import { RecordSequence, SUITE } from "../../../src/simulation/suite.ts";

export interface Parity {
  /** Each one line; empty: they are the same. */
  readonly differences: readonly string[];
  /** Keys whose output was compared, and all keys with input in both worlds. */
  readonly keysCompared: number;
  readonly keys: number;
}

const DIFFERENCES_MAX = 5;

export function compareWorlds(scenario: Scenario, simulated: RunResult, real: RunResult): Parity {
  const differences: string[] = [];
  const tell = (what: string, ofSimulated: string, ofReal: string): void => {
    if (ofSimulated === ofReal) return;
    differences.push(`${what}: simulated ${ofSimulated || "none"}, real ${ofReal || "none"}`);
  };
  tell("oracles violated", verdict(simulated), verdict(real));
  tell("workers that left by themselves", leavings(simulated.observation), leavings(real.observation));
  tell("newcomers that left", refusals(simulated.observation), refusals(real.observation));
  const compare = scenario.checkpointMs === undefined ? compareOutput : compareRecovered;
  const output = compare(scenario, simulated.observation, real.observation);
  return { ...output, differences: [...differences, ...output.differences.slice(0, DIFFERENCES_MAX)] };
}

function verdict({ violations }: RunResult): string {
  return [...new Set(violations.map(({ oracle }) => oracle))].sort().join(" ");
}

/** Before the end of the run. How often is not the same: an operator tries again, in real time. */
function leavings({ processes, ending }: Observation): string {
  const untilMs = ending?.stopAskedMs ?? Number.POSITIVE_INFINITY;
  const left = processes
    .filter(({ cause, endedMs }) => cause !== null && cause !== "kill" && endedMs! < untilMs)
    .map(({ worker, cause, status, errorCode }) => `${worker}: ${cause} ${status ?? ""} ${errorCode ?? ""}`.trim());
  return [...new Set(left)].sort().join(", ");
}

/** Of those who are not of the cluster, and of second processes. */
function refusals({ newcomers }: Observation): string {
  const left = newcomers
    .filter(({ endedMs }) => endedMs !== null)
    .map(({ name, status, errorCode }) => `${name}: ${status} ${errorCode ?? ""}`.trim());
  return [...new Set(left)].sort().join(", ");
}

function compareOutput(scenario: Scenario, simulated: Observation, real: Observation): Parity {
  const suite = SUITE[scenario.application];
  const linesOfBoth = [linesByKey(simulated), linesByKey(real)] as const;
  const differences: string[] = [];
  let keys = 0;
  let keysCompared = 0;
  for (const stream of simulated.streams) {
    const other = onlyStream(stream.id, real);
    if (other === null || onlyStream(stream.id, simulated) === null) continue;
    for (const key of keysOf(stream)) {
      keys++;
      if (other.written !== stream.written) continue;
      if (!isDetermined(key, stream, simulated, scenario) || !isDetermined(key, other, real, scenario)) continue;
      keysCompared++;
      const [ours, theirs] = linesOfBoth.map((lines) => {
        const texts = (lines.get(suite.outputKey(key)) ?? []).map(({ text }) => text);
        return (suite.ordered ? texts : texts.map(dropLastWord).sort()).join("\n");
      });
      if (ours !== theirs) differences.push(`key ${key}: ${firstDifference(ours!, theirs!)}`);
    }
  }
  return { differences, keysCompared, keys };
}

/** With checkpoints nothing is lost with a process, so all output is determined; at a plain sink it may come again. */
function compareRecovered(scenario: Scenario, simulated: Observation, real: Observation): Parity {
  const [ours, theirs] = [recoveredLines(scenario, simulated), recoveredLines(scenario, real)];
  const keys = new Set([...ours.keys(), ...theirs.keys()]);
  if (sinkMayLack(simulated) || sinkMayLack(real)) return { differences: [], keysCompared: 0, keys: keys.size };
  const differences = [...keys]
    .filter((key) => ours.get(key) !== theirs.get(key))
    .map((key) => `key ${key}: ${firstDifference(ours.get(key) ?? "", theirs.get(key) ?? "")}`);
  return { differences, keysCompared: keys.size, keys: keys.size };
}

/** A plain sink that was cut off from a worker that went on: what was with the system came in no later recovery either. */
function sinkMayLack(observation: Observation): boolean {
  return observation.connections.some(
    (connection) => connection.end !== "ended" && processOf(connection, observation)?.cause !== "kill",
  );
}

function recoveredLines(scenario: Scenario, observation: Observation): Map<string, string> {
  const found = new Map<string, string[]>();
  // What an account had been given when a transfer came depends on who else gave meanwhile; O-BANK knows that.
  const isBank = SUITE[scenario.application].bank === true;
  const add = (whole: string): void => {
    const line = isBank ? dropLastWord(whole) : whole;
    const key = line.slice(0, line.indexOf(" "));
    const list = found.get(key);
    if (list === undefined) found.set(key, [line]);
    else if (SUITE[scenario.application].files || !list.includes(line)) list.push(line);
  };
  for (const text of observation.visible.values()) for (const line of text.split("\n").slice(0, -1)) add(line);
  for (const { lines } of observation.connections) for (const line of lines) add(line);
  return new Map([...found].map(([key, lines]) => [key, lines.join("\n")]));
}

/** It depends on the order in which records of different keys came. */
function dropLastWord(text: string): string {
  return text.slice(0, text.lastIndexOf(" "));
}

function firstDifference(ours: string, theirs: string): string {
  const [simulated, real] = [ours.split("\n"), theirs.split("\n")];
  const at = simulated.findIndex((line, i) => line !== real[i]);
  const place = at < 0 ? simulated.length : at;
  return `line ${place + 1} is "${simulated[place] ?? ""}" simulated, "${real[place] ?? ""}" real`;
}

function onlyStream(id: string, { streams }: Observation): StreamRecord | null {
  const found = streams.filter((stream) => stream.id === id);
  return found.length === 1 ? found[0]! : null;
}

function keysOf(stream: StreamRecord): Set<string> {
  const records = new RecordSequence(stream.id, stream.keys);
  return new Set(Array.from({ length: stream.written }, () => records.next().key));
}

function isDetermined(key: string, stream: StreamRecord, observation: Observation, scenario: Scenario): boolean {
  const { ending, stopsAskedMs, connections } = observation;
  if (ending?.quietMs == null) return false;
  const endMs = ending.stopAskedMs!;
  const isWhole = stream.end === "done" || (stream.endedMs ?? endMs) >= endMs;
  const lastMs = Math.min(stream.endedMs ?? endMs, endMs);
  if (!isWhole || stopsAskedMs.some((timeMs) => timeMs >= stream.openedMs && timeMs < lastMs)) return false;
  const path = pathOf(key, observation, scenario) ?? observation.workers;
  const livedToTheEnd = (process: ProcessRecord | null): boolean =>
    process !== null && process.startedMs <= stream.openedMs && (process.endedMs ?? endMs) >= endMs;
  if (![stream.worker, ...path].every((worker) => livedToTheEnd(observation.processAt(worker, stream.openedMs)))) {
    return false;
  }
  const owners = SUITE[scenario.application].path(key) === null ? path : path.slice(-1);
  return connections.every(
    ({ worker, end, endedMs }) =>
      worker === null || !owners.includes(worker) || end === "ended" || (endedMs ?? endMs) <= stream.openedMs,
  );
}
