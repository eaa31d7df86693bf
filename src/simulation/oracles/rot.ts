/**
 * O-FAILCLEAR, of saved cluster information that has rotted: a worker that is started on it says so and leaves. It never goes
 * on with other content than was saved: a checksum sees every single bit.
 */
import { CLUSTER_FILE } from "../../store/folders.ts";
import type { Observation } from "../observation.ts";
import type { Fault, Scenario } from "../scenario.ts";
import type { Oracle, Violation } from "./oracle.ts";

export const oRot: Oracle = { id: "O-FAILCLEAR", check };

/** What a worker logs when it has taken the files in its folder for good. */
const WENT_ON = "control_listening";

function check(observation: Observation, scenario: Scenario): Violation[] {
  const workerOf = (index: number) => (scenario.faults[index] as Fault & { worker?: string }).worker;
  const { faults, processes, log, ending } = observation;
  return faults.flatMap(({ timeMs, kind, index, effect }, place): Violation[] => {
    const [worker, path] = effect.split(" ");
    if (kind !== "rot" || path === undefined || !path.endsWith(`/${CLUSTER_FILE}`)) return [];
    // Another flip may be of the same bit.
    const next = faults.slice(place + 1).find((later) => {
      return (later.kind === "rot" || later.kind === "restore") && workerOf(later.index) === worker;
    });
    const untilMs = next?.timeMs ?? ending?.mendedMs ?? Number.POSITIVE_INFINITY;
    const onIt = processes.filter((one) => one.worker === worker && one.startedMs >= timeMs && one.startedMs < untilMs);
    const wentOn = onIt.find(({ number }) => log.some((entry) => entry.process === number && entry.code === WENT_ON));
    if (wentOn === undefined) return [];
    const text = `${worker} was started on ${path}, in which a bit of fault ${index} was flipped, and went on with it`;
    return [{ oracle: "O-FAILCLEAR", timeMs: wentOn.startedMs, text }];
  });
}
