/**
 * O-LIVE: once everything is mended and every process started, the cluster works again within 30 virtual seconds, new input
 * of every source comes out, what was sent before comes out too, and a stop ends it in order, with nothing left behind.
 *
 * Checkpoints are not part of it yet.
 */
import type { WorkerName } from "../../base/ids.ts";
import { NETWORK_DEFAULTS } from "../../runtime/virtual/network.ts";
import type { Observation } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { stoppedInOrder } from "./key_lines.ts";
import type { Oracle, Violation } from "./oracle.ts";

export const oLive: Oracle = { id: "O-LIVE", check };

function check(observation: Observation, scenario: Scenario): Violation[] {
  const { ending } = observation;
  if (ending === null || ending.forGood) return [];
  const late = (what: string): Violation[] => [
    {
      oracle: "O-LIVE",
      timeMs: observation.timeMs,
      text: `${what}, mended at ${Math.round(ending.mendedMs)} ms; ${state(observation)}`,
    },
  ];
  if (ending.workingMs === null) return late("the cluster does not work again within 30 s");
  if (ending.probedMs === null) return late("new input does not come out within 30 s");
  if (ending.quietMs === null) return late("what was sent before does not come out");
  if (ending.leftMs === null) return late("a stop does not end the cluster within 15 s");
  if (isTooSlowToStop(scenario)) return observation.workers.flatMap((worker) => leftBadly(worker, observation, late));
  if (ending.filesLeft.length > 0) return late(`files are left after a stop: ${ending.filesLeft.join(" ")}`);
  for (const process of observation.processes) {
    const { worker, endedMs, cause, status } = process;
    if (endedMs === null || endedMs < ending.stopAskedMs! || stoppedInOrder(process, observation)) continue;
    const said = observation.log.findLast((entry) => entry.process === process.number && entry.code === "stopped");
    return late(`${worker} did not stop in order: ${cause} ${status}, "${said?.text ?? ""}"`);
  }
  return [];
}

/**
 * A stop has eight seconds. Where every fourth message may take most of a second, those that it needs, a last checkpoint's too,
 * may take longer; then all files stay, in words, and what is asked for is that everybody leaves with 0.
 */
function isTooSlowToStop({ network }: Scenario): boolean {
  const { slowOneIn, latencyMaxMs } = { ...NETWORK_DEFAULTS, ...network };
  return slowOneIn <= 4 && latencyMaxMs >= 10;
}

function leftBadly(worker: WorkerName, observation: Observation, late: (what: string) => Violation[]): Violation[] {
  const { cause, status } = observation.latest(worker)!;
  return cause === "exit" && status === 0 ? [] : late(`${worker} did not leave with 0: ${cause} ${status}`);
}

/** Who is how far, and waits for whom. */
function state(observation: Observation): string {
  return observation.workers
    .map((worker) => {
      const process = observation.latest(worker);
      if (process === null) return `${worker}: never started`;
      if (process.endedMs !== null) return `${worker}: left with ${process.status} ${process.errorCode ?? ""}`;
      const sample = observation.samples.findLast((entry) => entry.process === process.number);
      if (sample === undefined) return `${worker}: started`;
      const { waiting_for, muted, peers, sinks } = sample.status;
      const parts = [`phase ${process.phase}`];
      if (waiting_for !== "") parts.push(`waits: ${waiting_for}`);
      for (const { input, by } of muted) parts.push(`${input} muted by ${by.join(" ")}`);
      for (const { name, unacked_bytes } of peers)
        if (unacked_bytes > 0) parts.push(`${unacked_bytes} bytes for ${name}`);
      for (const { queued_bytes } of sinks) if (queued_bytes > 0) parts.push(`${queued_bytes} bytes for the sink`);
      return `${worker}: ${parts.join(", ")}`;
    })
    .join("; ");
}
