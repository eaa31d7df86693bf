/**
 * The n-th call fails, for every n: of all that a worker asks its disk and its network for while it starts, comes back, and
 * stops. Whichever it is, the worker goes on, or it leaves with a sentence that says why; nobody hangs, and what is saved
 * stays what it was.
 */
import { EXIT } from "../base/errors.ts";
import { INITIALIZER, type WorkerName } from "../base/ids.ts";
import type { DiskErrorCode, Millis } from "../runtime/runtime.ts";
import type { Observation, ProcessRecord } from "./observation.ts";
import type { Violation } from "./oracles/oracle.ts";
import type { RunOptions, RunResult } from "./run.ts";
import { type Fault, ORACLE_IDS, SCENARIO_FORMAT, type Scenario } from "./scenario.ts";

export const LOOP_STAGES = ["start", "restart", "shutdown"] as const;
export type LoopStage = (typeof LOOP_STAGES)[number];
export const LOOP_CALLS = ["disk", "net"] as const;
export type LoopCall = (typeof LOOP_CALLS)[number];

/** What is gone through, once for each n. */
export interface Loop {
  readonly stage: LoopStage;
  readonly call: LoopCall;
  readonly worker: WorkerName;
  readonly checkpoints: boolean;
}

export interface LoopCase extends Loop {
  readonly n: number;
  readonly scenario: Scenario;
}

/** All: 3 stages, 2 kinds of calls, 2 workers, with and without checkpoints. */
export const LOOPS: readonly Loop[] = LOOP_STAGES.flatMap((stage) =>
  LOOP_CALLS.flatMap((call) =>
    [INITIALIZER, "w1"].flatMap((worker) => [false, true].map((checkpoints) => ({ stage, call, worker, checkpoints }))),
  ),
);

/** When each begins. */
const BEGINS_MS: Readonly<Record<LoopStage, Millis>> = { start: 20, restart: 1_500, shutdown: 1_500 };
/** A worker that neither goes on nor leaves within this after a call has failed hangs. */
const HANGS_MS: Millis = 8_000;
const CODES: readonly DiskErrorCode[] = ["io", "full", "too_many_files", "read_only", "permission"];
const REASONS: readonly number[] = [EXIT.environment, EXIT.resilience, EXIT.storage];
/** Never reached: it only counts. */
const UNREACHED = 100_000;

/** Runs the loop once undisturbed, and says how many calls there are. */
export async function countCalls(
  loop: Loop,
  run: (scenario: Scenario, options: Partial<RunOptions>) => Promise<RunResult>,
): Promise<{ readonly calls: number; readonly violations: readonly Violation[] }> {
  const timesMs: Millis[] = [];
  const { observation, violations } = await run(loopScenario(loop, UNREACHED), {
    onCall: (worker, call, timeMs) => {
      if (worker === loop.worker && call === loop.call) timesMs.push(timeMs);
    },
  });
  const [fromMs, untilMs] = span(loop.stage, processes(observation, loop.worker));
  return { calls: timesMs.filter((ms) => ms >= fromMs && ms <= untilMs).length, violations };
}

/** From when until when the stage lasts, in an undisturbed run. */
function span(stage: LoopStage, all: readonly ProcessRecord[]): [Millis, Millis] {
  switch (stage) {
    case "start":
      return [0, all[0]!.phaseMs];
    case "restart":
      return [all[1]!.startedMs, all[1]!.phaseMs];
    case "shutdown":
      return [BEGINS_MS.shutdown, all[0]!.endedMs!];
  }
}

function processes({ processes: all }: Observation, worker: WorkerName): ProcessRecord[] {
  return all.filter((process) => process.worker === worker);
}

export function loopCase(loop: Loop, n: number): LoopCase {
  return { ...loop, n, scenario: loopScenario(loop, n) };
}

function loopScenario({ stage, call, worker, checkpoints }: Loop, n: number): Scenario {
  const failure: Fault =
    call === "disk"
      ? { at: { ms: BEGINS_MS[stage] }, do: "fail_operation", worker, n, code: CODES[n % CODES.length]! }
      : { at: { ms: BEGINS_MS[stage] }, do: "fail_call", worker, n };
  const stages: Readonly<Record<LoopStage, readonly Fault[]>> = {
    start: [failure],
    restart: [
      { at: { ms: BEGINS_MS.restart - 1 }, do: "kill", worker },
      failure,
      { at: { after: "prev", ms: 1 }, do: "start", worker },
    ],
    shutdown: [failure, { at: { after: "prev", ms: 0 }, do: "signal", worker: "w1", signal: "SIGTERM" }],
  };
  const late: Fault = { at: { ms: BEGINS_MS[stage] + HANGS_MS + 1_000 }, do: "start", worker };
  return {
    format: SCENARIO_FORMAT,
    name: `${stage} of ${worker}${checkpoints ? " with checkpoints" : ""}: ${call} call ${n} fails`,
    seed: "1",
    workers: 2,
    application: checkpoints ? "transfers" : "last_four",
    keys: 3,
    messages: 40,
    senders: [{ worker: "w1", source: 0, batch: 2, everyMs: 10, startMs: 0 }],
    starts: [INITIALIZER, "w1"].map((name) => (name === worker && stage === "start" ? BEGINS_MS.start + 1 : 0)),
    ...(checkpoints ? { checkpointMs: 200 } : {}),
    faults: stage === "shutdown" ? [...stages.shutdown, { at: late.at, do: "heal" }] : [...stages[stage], late],
    // The output of files is there for good after a stop, and the next cluster refuses to write behind it.
    expect: stage === "shutdown" && checkpoints ? [] : ORACLE_IDS,
    limitMs: BEGINS_MS[stage] + HANGS_MS + 2_000,
  };
}

/** What is asked of such a run beside the oracles. */
export function judgeLoop(
  { stage, call, worker }: Loop,
  { observation }: RunResult,
): { readonly violations: readonly Violation[]; readonly took: boolean } {
  const failed = [...observation.reached.keys()].find(
    (name) => name.startsWith(`${call}.`) && name.endsWith("_failed"),
  );
  const hit = processes(observation, worker)[stage === "restart" ? 1 : 0]!;
  const { number, status, cause, errorText, phase, phaseMs, startedMs, endedMs } = hit;
  const untilMs = BEGINS_MS[stage] + HANGS_MS;
  const violations: Violation[] = [];
  const complain = (text: string): void => {
    violations.push({
      oracle: "O-FAILCLEAR",
      timeMs: endedMs ?? untilMs,
      text: `${worker} ${text} (${failed ?? "nothing failed"})`,
    });
  };
  const hasLeft = cause === "exit" && endedMs! <= untilMs;
  // Whoever cannot be told of a stop goes on, and those who stop say so.
  const untold = observation.log.some(
    ({ code, text }) => code === "stopped" && text.includes(`${worker}: not reachable`),
  );
  if (stage === "shutdown" && !hasLeft) {
    if (!untold) complain("does not stop");
  } else if (!hasLeft && (phase < 4 || phaseMs > untilMs)) {
    complain(`hangs in phase ${phase} since ${Math.round(phaseMs || startedMs)} ms`);
  }
  if (hasLeft && status !== EXIT.done) {
    if (call === "net" && failed !== "net.listen_failed") {
      complain(`left with status ${status}, and could have tried again: ${errorText}`);
    }
    if (!REASONS.includes(status!)) complain(`left with status ${status}, which is not for a failing call`);
    // What goes wrong while it leaves is said in the log.
    const said =
      errorText ?? observation.log.findLast((entry) => entry.process === number && entry.level === "error")?.text;
    if (said === undefined || said.length < 20) complain(`left with status ${status}, without a word`);
    else if (said.includes("\n")) complain(`left with a message of several lines: ${said.split("\n")[0]}`);
  }
  for (const { text } of observation.uncaught) complain(`did not catch ${text.split("\n")[0]}`);
  return { violations, took: failed !== undefined };
}
