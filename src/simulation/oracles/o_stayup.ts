/**
 * O-STAYUP: only those processes end that the scenario ended, or that had a reason which it gave them: a stop, a disk that
 * failed, files that have rotted. No assertion, no exception that nobody caught.
 */
import { EXIT } from "../../base/errors.ts";
import type { Observation, ProcessRecord } from "../observation.ts";
import type { FaultKind, Scenario } from "../scenario.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oStayup: Oracle = { id: "O-STAYUP", check, during };

const DISK_FAULTS: readonly FaultKind[] = ["disk_full", "fail_sync", "fail_operation"];
/** Of a worker that is none of the cluster's. */
const REFUSALS: readonly string[] = ["cluster_full", "name_taken"];
/** Log codes that mean a bug of ours whenever they appear. */
const BUGS: readonly string[] = ["batch_malformed", "bug"];

function during(observation: Observation, scenario: Scenario): () => Violation[] {
  let seen = 0;
  return () => {
    const violations: Violation[] = [];
    // Ends may be out of order, so the first that still runs is where the next look begins.
    const processes = observation.processes;
    for (let i = seen; i < processes.length; i++) {
      const process = processes[i]!;
      if (process.endedMs === null) continue;
      if (i === seen) seen++;
      const why = judge(process, observation, scenario);
      if (why !== null) violations.push({ oracle: "O-STAYUP", timeMs: process.endedMs, text: why });
    }
    for (const { name, status, errorCode, errorText, phase, startedMs, wantsFolder } of observation.newcomers) {
      if (wantsFolder) continue;
      const isRefused = status === null || (status === EXIT.identity && REFUSALS.includes(errorCode ?? ""));
      if (isRefused && phase === 0) continue;
      const how = phase > 0 ? `was let in, and came to phase ${phase}` : `left with status ${status}: ${errorText}`;
      violations.push({ oracle: "O-STAYUP", timeMs: startedMs, text: `the newcomer ${name} ${how}` });
    }
    for (const { timeMs, worker, text } of observation.uncaught) {
      violations.push({
        oracle: "O-STAYUP",
        timeMs,
        text: `${worker ?? "a process"}: nobody caught ${firstLines(text)}`,
      });
    }
    return violations.slice(0, REPORTED_MAX);
  };
}

function check(observation: Observation, scenario: Scenario): Violation[] {
  const violations = during(observation, scenario)();
  for (const { timeMs, worker, code, text } of observation.log) {
    if (BUGS.includes(code)) violations.push({ oracle: "O-STAYUP", timeMs, text: `${worker} logged ${code}: ${text}` });
  }
  return violations.slice(0, REPORTED_MAX);
}

/** Why this end is not all right; null: it is. */
function judge(process: ProcessRecord, observation: Observation, scenario: Scenario): string | null {
  // What must be refused is O-FAILCLEAR's.
  if (process.cause !== "exit" || process.provoked !== null) return null;
  const { worker, status, errorCode } = process;
  const endedMs = process.endedMs!;
  const said = process.errorText === null ? "" : `: ${errorCode}: ${process.errorText}`;
  const hit = (kinds: readonly FaultKind[]) =>
    observation.faults.some(
      ({ timeMs, kind, index }) =>
        timeMs <= endedMs && kinds.includes(kind) && (scenario.faults[index] as { worker?: string }).worker === worker,
    );
  const stopAsked =
    observation.stopsAskedMs.some((timeMs) => timeMs <= endedMs) ||
    (observation.ending?.stopAskedMs ?? Infinity) <= endedMs;
  switch (status) {
    case EXIT.done:
      return stopAsked ? null : `${worker} left with status 0, and nobody had asked for a stop`;
    case EXIT.environment:
      if (hit(["fail_call"]) && errorCode === "other") return null;
      return hit(DISK_FAULTS) ? null : `${worker} left with status ${status}, and its disk was fine${said}`;
    case EXIT.storage:
      return hit(DISK_FAULTS) ? null : `${worker} left with status ${status}, and its disk was fine${said}`;
    case EXIT.resilience:
      if (hit(DISK_FAULTS) && errorCode === "resilience_unreadable") return null;
      if (hit(["rot", "lose_state"]) || (stopAsked && errorCode === "resilience_other_cluster")) return null;
      break;
    case EXIT.identity:
      if (errorCode === "name_taken" && mayBeHalfOpen(process, observation)) return null;
      // A stop that reached only some leaves others at work, who know those that left, and refuse them without their files.
      if (stopAsked && (errorCode === "name_taken" || errorCode === "superseded")) return null;
      break;
  }
  return `${worker} left with status ${status}${said}`;
}

/**
 * A process that died without telling its peers may be alive for all they know, until its silence has been long enough:
 * who comes under its name meanwhile, without its files, is refused (and says that the name is taken, by whom).
 */
function mayBeHalfOpen(process: ProcessRecord, observation: Observation): boolean {
  const HALF_OPEN_MS = 12_000;
  return observation.processes.some(
    (other) =>
      other.worker === process.worker &&
      other.number < process.number &&
      other.endedMs !== null &&
      process.endedMs! - other.endedMs <= HALF_OPEN_MS,
  );
}

function firstLines(text: string): string {
  return text.split("\n").slice(0, 4).join(" | ");
}
