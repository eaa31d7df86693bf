/**
 * O-AUTH, before there are keys: bytes that are no legal message of this cluster change nothing but counters. Whoever sends
 * them to a port where a first message is due is closed by the deadline for it, and what the worker knows and has saved is
 * what it was: cluster, members, generation, phase, the saved cluster information.
 *
 * When something else happens at the same time, nobody can tell what changed it; so what is compared beside the cluster and its
 * members is compared only if the scenario did nothing else shortly before or meanwhile. A source has no deadline: its clients
 * may be as slow as they like, and what they send are records.
 */
import type { Millis } from "../../runtime/runtime.ts";
import { DEFAULT_TIMING } from "../../worker/config.ts";
import type { Observation, Sample, StrangerRecord } from "../observation.ts";
import type { FaultKind, Scenario } from "../scenario.ts";
import { heldBackMs } from "./disturbances.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oAuth: Oracle = { id: "O-AUTH", check };

/** For the bytes of a hello that never comes: the same on the ports of tools. */
const DEADLINE_MS = DEFAULT_TIMING.handshakeMs;
/** For the connection to be there, and for its end to arrive, on a slow network. */
const SLACK_MS: Millis = 3_000;
/** What was done before that has had its effect by then: silence of a peer is noticed after 5 s, a connection made anew. */
const CALM_MS: Millis = 15_000;
const HOLDING_BACK: readonly FaultKind[] = ["pause", "blackhole", "partition", "isolate"];
/** Of an operator who only asks, or strangers: they are to change nothing themselves. */
const HARMLESS: readonly FaultKind[] = ["stranger", "command", "clock_jump"];

function check(observation: Observation, scenario: Scenario): Violation[] {
  const violations: Violation[] = [];
  for (const stranger of observation.strangers) {
    const { worker, port, what, openedMs } = stranger;
    const why = judgeEnd(stranger, observation, scenario) ?? judgeState(stranger, observation);
    if (why === null) continue;
    const text = `a stranger (${what}) at the ${port} port of ${worker}, connected at ${Math.round(openedMs)} ms: ${why}`;
    violations.push({ oracle: "O-AUTH", timeMs: stranger.endedMs ?? observation.timeMs, text });
  }
  violations.push(...judgeMembers(observation));
  return violations.slice(0, REPORTED_MAX);
}

/** Was it closed in time? */
function judgeEnd(stranger: StrangerRecord, observation: Observation, scenario: Scenario): string | null {
  const { worker, port, openedMs, endedMs } = stranger;
  if (port === "source") return null;
  const untilMs = Math.min(endedMs ?? observation.timeMs, observation.processes[stranger.process]!.endedMs ?? Infinity);
  const heldMs = heldBackMs(HOLDING_BACK, worker, openedMs, untilMs, observation, scenario);
  const tookMs = untilMs - openedMs;
  // Where the worker's end of it was lost on the way, the stranger never learns that it was closed: it says nothing more.
  if (heldMs > 0 || tookMs <= DEADLINE_MS + SLACK_MS) return null;
  return `it is open for ${Math.round(tookMs)} ms, and ${DEADLINE_MS} are allowed`;
}

/** Is all that the worker knows and has saved what it was? */
function judgeState(stranger: StrangerRecord, observation: Observation): string | null {
  const { process, openedMs, savedBefore, savedAfter } = stranger;
  const endedMs = stranger.endedMs ?? observation.timeMs;
  if (!isCalm(openedMs, endedMs, observation)) return null;
  if (savedAfter !== null && savedAfter !== savedBefore) return "the saved cluster information has changed";
  const ofProcess = observation.samples.filter((sample) => sample.process === process);
  const before = ofProcess.findLast((sample) => sample.timeMs <= openedMs);
  const after = ofProcess.find((sample) => sample.timeMs >= endedMs);
  if (before === undefined || after === undefined || before.status.phase < 4) return null;
  return show(before) === show(after) ? null : `${show(before)} became ${show(after)}`;
}

function show({ clusterId, members, status }: Sample): string {
  const { phase, generation, stopping, peers } = status;
  const connected = peers.map(({ name, control, data_out, data_in }) => `${name} ${control} ${data_out} ${data_in}`);
  return `cluster ${clusterId} of ${members.join(" ")}, phase ${phase}, generation ${generation}, ${
    stopping ? "stopping, " : ""
  }connected: ${connected.join("; ")}`;
}

/** Has the scenario done nothing that may still have an effect, and no process begun or ended? */
function isCalm(fromMs: Millis, untilMs: Millis, observation: Observation): boolean {
  const { faults, processes, stopsAskedMs, ending } = observation;
  const isNear = (timeMs: Millis | null): boolean =>
    timeMs !== null && timeMs > fromMs - CALM_MS && timeMs <= untilMs + SLACK_MS;
  if (ending !== null && isNear(ending.mendedMs)) return false;
  if (stopsAskedMs.some((timeMs) => timeMs <= untilMs + SLACK_MS)) return false;
  if (processes.some(({ startedMs, endedMs }) => isNear(startedMs) || isNear(endedMs))) return false;
  return !faults.some(({ timeMs, untilMs: overMs, kind, effect }) => {
    if (effect === "" || HARMLESS.includes(kind)) return false;
    return isNear(timeMs) || isNear(overMs) || (timeMs <= fromMs && overMs >= fromMs);
  });
}

/**
 * Nobody is a member who was not started, and who has a cluster keeps it for as long as the process lives: unless that was
 * shut down without it, which it says.
 */
function judgeMembers(observation: Observation): Violation[] {
  const gone = new Set(observation.log.filter(({ code }) => code === "cluster_gone").map(({ process }) => process));
  const violations: Violation[] = [];
  const clusters = new Map<number, string>();
  for (const { timeMs, worker, process, clusterId, members, status } of observation.samples) {
    const say = (text: string): void => void violations.push({ oracle: "O-AUTH", timeMs, text: `${worker}: ${text}` });
    const stranger = members.find((name) => !observation.workers.includes(name));
    if (stranger !== undefined) say(`${stranger} is a member, and nobody started it`);
    if (status.phase === 0) continue;
    const known = clusters.get(process) ?? clusterId;
    if (known !== clusterId && !gone.has(process)) say(`its cluster ${known} became ${clusterId}`);
    clusters.set(process, clusterId);
  }
  return violations;
}
