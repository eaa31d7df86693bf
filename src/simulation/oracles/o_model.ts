/**
 * O-MODEL: the output equals that of a pure, single-threaded run.
 *
 * With checkpoints: `with_checkpoints.ts`. Without them it is exact for each key whose records went through processes that did not die: the one at the other end of the sender's
 * connection, and those that own the key. Whatever the network, the disks, the clocks and other workers did, nothing may be
 * lost, doubled or out of order. Of a sender that lost its connection any prefix may have been taken, over all its keys: a
 * plain source acknowledges nothing.
 *
 * What a lost connection to the plain sink takes along is not the system's to save: lines may be missing there, in one piece,
 * and no more bytes than the two kernels' buffers hold.
 */
import type { WorkerName } from "../../base/ids.ts";
import { NETWORK_DEFAULTS } from "../../runtime/virtual/network.ts";
import type { Observation, StreamRecord } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { isExact, RecordSequence, SUITE } from "../suite.ts";
import { type KeyLine, linesByKey, mayHaveLost, pathOf, sinkWasCut, stoppedInOrder } from "./key_lines.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";
import { checkSink, checkVisibleComplete } from "./with_checkpoints.ts";

export const oModel: Oracle = {
  id: "O-MODEL",
  check(observation, scenario) {
    if (scenario.checkpointMs === undefined) return check(observation, scenario);
    // Those are O-LETTERS'.
    if (SUITE[scenario.application].refuses === true) return [];
    return isExact(SUITE[scenario.application])
      ? checkVisibleComplete(observation, scenario)
      : checkSink(observation, scenario, "O-MODEL");
  },
};

function check(observation: Observation, scenario: Scenario): Violation[] {
  const violations: Violation[] = [];
  const lines = linesByKey(observation);
  /** Bytes of missing lines, by the worker that put them out; null: any. */
  const lost = new Map<WorkerName | null, number>();
  for (const stream of observation.streams) {
    if (violations.length >= REPORTED_MAX) break;
    // A generator that began again puts out the same keys again: O-SEQ judges those.
    if (observation.streams.some((other) => other !== stream && other.id === stream.id)) continue;
    const found = checkStream(stream, lines, observation, scenario, lost);
    if (found !== null) violations.push(found);
  }
  const { sendBufferBytes, receiveBufferBytes } = { ...NETWORK_DEFAULTS, ...scenario.network };
  for (const [worker, bytes] of lost) {
    const cuts = observation.connections.filter(
      (entry) => (worker === null || entry.worker === worker) && mayHaveLost(entry, observation),
    ).length;
    const bytesMax = cuts * (sendBufferBytes + receiveBufferBytes);
    if (bytes <= bytesMax) continue;
    const whose = worker ?? "all workers";
    const text = `${bytes} bytes of ${whose} are missing at the sink; ${cuts} lost connections can hold ${bytesMax}`;
    violations.push({ oracle: "O-MODEL", timeMs: observation.timeMs, text });
  }
  return violations;
}

/** What a worker says when it stops. */
const STOPS: ReadonlySet<string> = new Set(["signal", "stopping", "second_signal"]);

interface Expected {
  readonly key: string;
  /** Place of each of its records in the stream. */
  readonly places: number[];
}

function checkStream(
  stream: StreamRecord,
  lines: ReadonlyMap<string, readonly KeyLine[]>,
  observation: Observation,
  scenario: Scenario,
  lost: Map<WorkerName | null, number>,
): Violation | null {
  const suite = SUITE[scenario.application];
  if (!survived(stream, stream.worker, observation)) return null;
  const judged = expectedKeys(stream).filter(({ key }) => {
    const path = pathOf(key, observation, scenario) ?? observation.workers;
    return path.every((worker) => survived(stream, worker, observation));
  });
  // A worker that stops closes its sources, and to a sender over plain TCP that looks as if all had been read.
  const stopped = observation.log.some(
    ({ process, code, timeMs }) => process === stream.process && STOPS.has(code) && timeMs <= (stream.endedMs ?? 0),
  );
  const isWhole = stream.end === "done" && !stopped && observation.ending?.quietMs != null;
  // The last record that is known to have been taken in: with it, all before it.
  let taken = isWhole ? stream.written : 0;
  const found = new Map<string, readonly KeyLine[]>();
  for (const { key, places } of judged) {
    const ofKey = lines.get(suite.outputKey(key)) ?? [];
    found.set(key, ofKey);
    if (isWhole) continue;
    for (const { text } of ofKey) {
      const value = valueIn(text, suite.ordered);
      const place = places[value - 1];
      if (place === undefined) return violation(`"${text}" is of a record that was never sent`, observation.timeMs);
      taken = Math.max(taken, place + 1);
    }
  }
  // A run that did not come to rest may still have lines on their way.
  const complete = observation.ending?.quietMs != null;
  for (const { key, places } of judged) {
    let count = 0;
    while (count < places.length && places[count]! < taken) count++;
    const got = found.get(key)!;
    const values = Array.from({ length: count }, (_, i) => i + 1);
    const why = suite.ordered
      ? compareOrdered(suite.model(key, values), got, key, complete, observation, scenario, lost)
      : compareUnordered(key, values, got, complete, observation, suite.model, lost);
    if (why !== null) {
      return violation(`stream ${stream.id} to ${stream.worker}, key ${key}: ${why}`, got.at(-1)?.timeMs ?? 0);
    }
  }
  return null;
}

function violation(text: string, timeMs: number): Violation {
  return { oracle: "O-MODEL", timeMs, text };
}

/** The process of this worker at the beginning of the stream lived until the end, or stopped in order. */
function survived(stream: StreamRecord, worker: WorkerName, observation: Observation): boolean {
  const process = observation.processAt(worker, stream.openedMs);
  if (process === null) return false;
  if (worker === stream.worker && process.number !== stream.process) return false;
  if (process.endedMs !== null && process.endedMs <= stream.openedMs) return false;
  if (process.endedMs === null || stoppedInOrder(process, observation)) return true;
  // The stop at the end of the run comes when everything has come out.
  const stopAskedMs = observation.ending?.stopAskedMs ?? Number.POSITIVE_INFINITY;
  return process.endedMs >= stopAskedMs;
}

function expectedKeys(stream: StreamRecord): Expected[] {
  const records = new RecordSequence(stream.id, stream.keys);
  const keys = new Map<string, Expected>();
  for (let place = 0; place < stream.written; place++) {
    const { key } = records.next();
    const entry = keys.get(key);
    if (entry === undefined) keys.set(key, { key, places: [place] });
    else entry.places.push(place);
  }
  return [...keys.values()];
}

/** The value that a line was put out for. */
function valueIn(text: string, isWindow: boolean): number {
  const words = text.split(" ");
  return Number(isWindow ? words.at(-1) : words[1]);
}

function compareOrdered(
  expected: readonly string[],
  got: readonly KeyLine[],
  key: string,
  complete: boolean,
  observation: Observation,
  scenario: Scenario,
  lost: Map<WorkerName | null, number>,
): string | null {
  const owner = pathOf(key, observation, scenario)!.at(-1)!;
  let at = 0;
  let connection = 0;
  const skip = (until: number) => {
    let bytes = lost.get(owner) ?? 0;
    for (; at < until; at++) bytes += expected[at]!.length + 1;
    lost.set(owner, bytes);
  };
  for (const line of got) {
    if (line.text !== expected[at]) {
      const place = expected.indexOf(line.text, at);
      const cut = sinkWasCut(owner, connection, line.connection.number, observation);
      if (place < 0 || !cut) return `"${line.text}" came where "${expected[at] ?? "nothing"}" was to come`;
      skip(place);
    }
    at++;
    connection = line.connection.number;
  }
  if (at < expected.length && complete) {
    if (!sinkWasCut(owner, connection, observation.connections.length, observation)) {
      return `${expected.length - at} lines are missing at the end, the first of them "${expected[at]}"`;
    }
    skip(expected.length);
  }
  return null;
}

function compareUnordered(
  key: string,
  expected: readonly number[],
  got: readonly KeyLine[],
  complete: boolean,
  observation: Observation,
  model: (key: string, values: readonly number[]) => string[],
  lost: Map<WorkerName | null, number>,
): string | null {
  const values = got.map(({ text }) => valueIn(text, false));
  const seen = new Set(values);
  if (seen.size < values.length) return `a record came out twice: ${values.join(" ")}`;
  const anyLost = observation.connections.some((connection) => mayHaveLost(connection, observation));
  const lines = model(key, values);
  const count = (text: string) => Number(text.split(" ")[2]);
  // Where lines may be missing, the count of the lines that came only grows.
  const wrong = got.findIndex(({ text }, i) =>
    anyLost ? count(text) <= (i === 0 ? 0 : count(got[i - 1]!.text)) : text !== lines[i],
  );
  if (wrong >= 0) return `"${got[wrong]!.text}" came where "${lines[wrong]}" was to come`;
  const missing = expected.filter((value) => !seen.has(value));
  if (!complete || missing.length === 0) return null;
  if (!anyLost) return `${missing.length} values are missing: ${missing.slice(0, 9).join(" ")}`;
  // It is bounded over all workers, and all keys.
  let bytes = lost.get(null) ?? 0;
  for (const line of model(key, missing)) bytes += line.length + 1;
  lost.set(null, bytes);
  return null;
}
