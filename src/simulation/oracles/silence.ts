/**
 * O-LIVE, of silence: a worker that can hear nothing from a peer notices within the time that the configuration gives a
 * silence, and does not call that peer connected any more. Asked for partitions that last long enough, between two processes
 * that run all the time.
 */
import type { WorkerName } from "../../base/ids.ts";
import type { Millis } from "../../runtime/runtime.ts";
import { DEFAULT_TIMING } from "../../worker/config.ts";
import type { FaultRecord, Observation } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import type { Oracle, Violation } from "./oracle.ts";

export const oSilence: Oracle = { id: "O-LIVE", check };

/** What was on its way when the partition began may come so much later, and a look may be so late. */
const SLACK_MS: Millis = 1_500;

/** `listener` can hear nothing from `speaker`. */
interface Silence {
  readonly listener: WorkerName;
  readonly speaker: WorkerName;
  readonly fromMs: Millis;
  readonly untilMs: Millis;
}

function check(observation: Observation, scenario: Scenario): Violation[] {
  for (const { listener, speaker, fromMs, untilMs } of silences(observation, scenario)) {
    const noticedMs = fromMs + DEFAULT_TIMING.silenceMs + SLACK_MS;
    if (noticedMs >= untilMs) continue;
    if (!observation.livedThrough(listener, fromMs, untilMs) || wasPaused(listener, untilMs, observation, scenario))
      continue;
    const late = observation.samples.find(({ worker, timeMs, status }) => {
      if (worker !== listener || timeMs < noticedMs || timeMs >= untilMs) return false;
      return status.peers.some(({ name, control, data_in }) => name === speaker && (control || data_in));
    });
    if (late === undefined) continue;
    const silentMs = Math.round(late.timeMs - fromMs);
    const text = `${listener} has heard nothing from ${speaker} for ${silentMs} ms and calls it connected`;
    return [{ oracle: "O-LIVE", timeMs: late.timeMs, text }];
  }
  return [];
}

function silences(observation: Observation, scenario: Scenario): Silence[] {
  const found: Silence[] = [];
  const { faults, workers, ending } = observation;
  for (const { timeMs, index, effect } of faults) {
    const fault = scenario.faults[index]!;
    if (effect === "") continue;
    const add = (listener: WorkerName, speaker: WorkerName): void => {
      if (!workers.includes(listener) || !workers.includes(speaker)) return;
      const untilMs = Math.min(
        healedMs(listener, speaker, timeMs, faults, scenario),
        ending?.mendedMs ?? observation.timeMs,
      );
      found.push({ listener, speaker, fromMs: timeMs, untilMs });
    };
    if (fault.do === "partition") {
      if (fault.way !== "back") add(fault.b, fault.a);
      if (fault.way !== "forward") add(fault.a, fault.b);
    }
    if (fault.do === "isolate") {
      for (const other of workers) {
        if (other === fault.worker) continue;
        add(fault.worker, other);
        add(other, fault.worker);
      }
    }
  }
  return found;
}

/** The first partition between two that ends opens the way, whichever others there are. */
function healedMs(a: string, b: string, fromMs: Millis, faults: readonly FaultRecord[], scenario: Scenario): Millis {
  let untilMs = Number.POSITIVE_INFINITY;
  for (const { timeMs, index } of faults) {
    const fault = scenario.faults[index]!;
    let endMs = Number.POSITIVE_INFINITY;
    if (fault.do === "heal") endMs = timeMs;
    else if (fault.do === "isolate" && (fault.worker === a || fault.worker === b)) endMs = timeMs + fault.ms;
    else if (fault.do === "partition" && [fault.a, fault.b].includes(a) && [fault.a, fault.b].includes(b)) {
      endMs = timeMs + fault.ms;
    }
    if (endMs > fromMs) untilMs = Math.min(untilMs, endMs);
  }
  return untilMs;
}

/** Who was stopped itself listens first when it goes on. */
function wasPaused(worker: WorkerName, untilMs: Millis, { faults }: Observation, scenario: Scenario): boolean {
  return faults.some(({ timeMs, index }) => {
    const fault = scenario.faults[index]!;
    return fault.do === "pause" && fault.worker === worker && timeMs < untilMs && timeMs + fault.ms > untilMs - 20_000;
  });
}
