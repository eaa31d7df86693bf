/** What several oracles ask of an observation: lines by key, in the order in which their worker put them out. */
import type { WorkerName } from "../../base/ids.ts";
import type { Observation, ProcessRecord, SinkConnection, StreamRecord } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { ownerIndex, SUITE } from "../suite.ts";

export interface KeyLine {
  readonly text: string;
  readonly timeMs: number;
  readonly connection: SinkConnection;
}

/**
 * A worker has one connection to the sink at a time, so the order of its connections, and inside of each the order of
 * lines, is the order in which it put them out, though bytes of an earlier one may be read later.
 */
export function linesByKey(observation: Observation): Map<string, KeyLine[]> {
  const found = new Map<string, KeyLine[]>();
  for (const connection of observation.connections) {
    for (const [i, text] of connection.lines.entries()) {
      const at = text.indexOf(" ");
      const key = at < 0 ? text : text.slice(0, at);
      const line = { text, timeMs: connection.timesMs[i]!, connection };
      const list = found.get(key);
      if (list === undefined) found.set(key, [line]);
      else list.push(line);
    }
  }
  return found;
}

/** Workers whose state or queues a record of this key goes through behind its source, in order; null: any of them. */
export function pathOf(key: string, observation: Observation, scenario: Scenario): WorkerName[] | null {
  const path = SUITE[scenario.application].path(key);
  if (path === null) return null;
  return path.map((hop) => observation.workers[ownerIndex(hop, scenario.workers)]!);
}

/** The process that opened this connection; null if its worker is not known. */
export function processOf(connection: SinkConnection, observation: Observation): ProcessRecord | null {
  return connection.worker === null ? null : observation.processAt(connection.worker, connection.openedMs);
}

/** Did it end with the cluster, in order, everything that was taken in having come out? */
export function stoppedInOrder(process: ProcessRecord, observation: Observation): boolean {
  return (
    process.cause === "exit" &&
    process.status === 0 &&
    observation.log.some(
      (entry) => entry.process === process.number && entry.code === "stopped" && entry.level === "info",
    )
  );
}

/** Could bytes be lost with a connection of this worker's to the sink, from the first of these two up to, not including, the other? */
export function sinkWasCut(worker: WorkerName, from: number, until: number, observation: Observation): boolean {
  return observation.connections
    .slice(from, until)
    .some((connection) => connection.worker === worker && mayHaveLost(connection, observation));
}

/**
 * A plain sink acknowledges nothing, so what a connection that was cut had in the two kernels is not the system's to save. One
 * that was followed by another, and of which the sink has not learned that it is over, is no better: its other end is gone
 * without a word (power loss, a way that was blocked). The last one of a worker is not: it is in use, or was ended.
 */
export function mayHaveLost(connection: SinkConnection, observation: Observation): boolean {
  if (connection.end !== null) return connection.end === "cut";
  return observation.connections.findLast(({ worker }) => worker === connection.worker) !== connection;
}

/** Streams by the id that begins their keys: a generator has one for each process of its worker. */
export function streamsById(observation: Observation): Map<string, StreamRecord[]> {
  const found = new Map<string, StreamRecord[]>();
  for (const stream of observation.streams) {
    const list = found.get(stream.id);
    if (list === undefined) found.set(stream.id, [stream]);
    else list.push(stream);
  }
  return found;
}
