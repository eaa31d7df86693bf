/** What a scenario did to one worker while something was to happen there: what an oracle has to excuse. */
import type { WorkerName } from "../../base/ids.ts";
import type { Millis } from "../../runtime/runtime.ts";
import type { Observation } from "../observation.ts";
import type { FaultKind, Scenario } from "../scenario.ts";

/** For how long faults of these kinds held this worker back within this time. They may have overlapped. */
export function heldBackMs(
  kinds: readonly FaultKind[],
  worker: WorkerName,
  fromMs: Millis,
  untilMs: Millis,
  observation: Observation,
  scenario: Scenario,
): Millis {
  let sumMs = 0;
  for (const { timeMs, kind, index, effect } of observation.faults) {
    if (effect === "" || !kinds.includes(kind)) continue;
    const fault = scenario.faults[index] as { readonly worker?: WorkerName; readonly ms?: Millis };
    if (fault.worker !== undefined && fault.worker !== worker) continue;
    sumMs += Math.max(0, Math.min(untilMs, timeMs + (fault.ms ?? 0)) - Math.max(fromMs, timeMs));
  }
  return sumMs;
}
