/**
 * O-OWN: a key is processed by its owner alone, by one process of it at a time; and when nothing moves any more, all workers
 * know the same cluster, and have the keys that the model has, each once and at its owner.
 *
 * Who processes what is told by the application, which notes it for every record. Ownership does not move yet, so the owner
 * is what the model of key groups says for the number of workers.
 *
 * Which keys there are at the end: with checkpoints those of the whole input. Without them a process takes its keys along when
 * it ends, so a key must be there if all its input was taken in, and every process on its way lived from then on; it may be
 * there if anybody has sent it.
 */
import type { Millis } from "../../runtime/runtime.ts";
import type { AtRest, Observation, StreamRecord } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { fileStreamId, generatedId, ownerIndex, RecordSequence, SUITE } from "../suite.ts";
import { pathOf, streamsById } from "./key_lines.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oOwn: Oracle = { id: "O-OWN", check };

function check(observation: Observation, scenario: Scenario): Violation[] {
  const found: Violation[] = [];
  const say = (timeMs: Millis, text: string): void => void found.push({ oracle: "O-OWN", timeMs, text });
  for (const owners of observation.owners) checkProcessing(owners, observation, scenario, say);
  if (observation.atRest.length > 0) {
    checkEqual(observation, say);
    checkKeys(observation, scenario, say);
  }
  return found.slice(0, REPORTED_MAX);
}

type Say = (timeMs: Millis, text: string) => void;

function checkProcessing(
  owners: Observation["owners"][number],
  observation: Observation,
  scenario: Scenario,
  say: Say,
): void {
  for (const [key, spans] of owners) {
    const owner = observation.workers[ownerIndex(key, scenario.workers)]!;
    for (const [i, span] of spans.entries()) {
      if (span.worker !== owner) say(span.firstMs, `key ${key} belongs to ${owner}, and ${span.worker} processes it`);
      const before = spans[i - 1];
      if (before === undefined) continue;
      const { endedMs } = observation.processes[before.process]!;
      if (endedMs !== null && endedMs <= span.firstMs) continue;
      say(
        span.firstMs,
        `key ${key} is processed by process ${span.process} of ${span.worker} while process ${before.process} of ` +
          `${before.worker}, which has processed it, lives`,
      );
    }
  }
}

/** Membership, routing and generation are the same everywhere, and every worker of the scenario is there. */
function checkEqual({ atRest, workers, timeMs }: Observation, say: Say): void {
  const here = atRest.map(({ worker }) => worker);
  for (const worker of workers) if (!here.includes(worker)) say(timeMs, `${worker} is not there when nothing moves`);
  const first = show(atRest[0]!);
  for (const rest of atRest) {
    if (rest.members.join(" ") !== workers.join(" ")) {
      say(timeMs, `members are ${rest.members.join(" ")} at ${rest.worker}, and ${workers.join(" ")} were started`);
    }
    if (show(rest) !== first) say(timeMs, `${rest.worker} knows ${show(rest)}, and ${here[0]} knows ${first}`);
  }
}

function show({ clusterId, phase, generation, routingVersion, keyGroupCount }: AtRest): string {
  return `cluster ${clusterId} in phase ${phase}, generation ${generation}, routing ${routingVersion} of ${keyGroupCount} groups`;
}

function checkKeys(observation: Observation, scenario: Scenario, say: Say): void {
  const { atRest, timeMs } = observation;
  const suite = SUITE[scenario.application];
  const { possible, certain } = inputKeys(observation, scenario);
  for (const stage of suite.stateKeys("", 0, 1).keys()) {
    const stateKeys = ([input, values]: [string, number]) => suite.stateKeys(input, values, scenario.keys)[stage]!;
    const allowed = new Set([...possible].flatMap(stateKeys));
    const holders = new Map<string, string>();
    for (const { worker, keys } of atRest) {
      for (const key of keys[stage] ?? []) {
        const owner = observation.workers[ownerIndex(key, scenario.workers)]!;
        if (holders.has(key)) say(timeMs, `key ${key} is at ${holders.get(key)} and at ${worker}`);
        else if (worker !== owner) say(timeMs, `key ${key} belongs to ${owner}, and ${worker} has it`);
        else if (!allowed.has(key)) say(timeMs, `${worker} has key ${key}, which nobody sent`);
        holders.set(key, worker);
      }
    }
    for (const key of new Set([...certain].flatMap(stateKeys))) {
      if (!holders.has(key)) say(timeMs, `nobody has key ${key}, all of which was taken in`);
    }
  }
}

/** With how many values each has. */
interface InputKeys {
  readonly possible: ReadonlyMap<string, number>;
  readonly certain: ReadonlyMap<string, number>;
}

function inputKeys(observation: Observation, scenario: Scenario): InputKeys {
  const possible = new Map<string, number>();
  const certain = new Map<string, number>();
  if (scenario.checkpointMs !== undefined) {
    const idOf = SUITE[scenario.application].files ? fileStreamId : generatedId;
    for (const worker of observation.workers) {
      for (const [key, values] of keysOf(idOf(worker), scenario.keys, scenario.messages)) certain.set(key, values);
    }
    return { possible: certain, certain };
  }
  for (const [id, streams] of streamsById(observation)) {
    const { keys } = streams[0]!;
    for (let k = 0; k < keys; k++) possible.set(`${id}.k${k}`, 0);
    const last = streams.at(-1)!;
    if (last.end === "cut" || !lived(last.worker, last, observation)) continue;
    for (const [key, values] of keysOf(id, keys, last.written)) {
      const path = pathOf(key, observation, scenario) ?? observation.workers;
      if (path.every((worker) => lived(worker, last, observation))) certain.set(key, values);
    }
  }
  return { possible, certain };
}

function lived(worker: string, stream: StreamRecord, observation: Observation): boolean {
  return observation.livedThrough(worker, stream.openedMs, observation.ending!.quietMs!);
}

/** Those that the first records of a stream have, and how many values each. */
function keysOf(id: string, keys: number, records: number): Map<string, number> {
  const sequence = new RecordSequence(id, keys);
  const found = new Map<string, number>();
  for (let i = 0; i < records; i++) {
    const { key, value } = sequence.next();
    found.set(key, value);
  }
  return found;
}
