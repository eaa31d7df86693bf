/**
 * O-FAILCLEAR: a worker that cannot start, or cannot go on, leaves soon, with the exit status that goes with the reason, with one
 * error that has a code, says what was wrong, where, and what to do, without a stack trace; and what is refused leaves what is
 * saved as it was. A start that must be refused is.
 *
 * What is saved may change in two ways where a worker is refused by others, whom it has to ask: how often it was started must be
 * durable before it does (`cluster`), and addresses that it learns are kept. So it is compared what is meant: which cluster, whose
 * place in it. A start that comes that far without saved information removes what it made itself, which is compared with what a
 * formed cluster would have left: nothing.
 */
import { EXIT } from "../../base/errors.ts";
import type { Millis } from "../../runtime/runtime.ts";
import type { NewcomerRecord, Observation, ProcessRecord, SavedDigest } from "../observation.ts";
import type { FaultKind, Scenario } from "../scenario.ts";
import { heldBackMs } from "./disturbances.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oFailclear: Oracle = { id: "O-FAILCLEAR", check };

/** From the start to the refusal where nobody else is asked; and from when it begins to leave until it has left. */
const REFUSED_MS: Millis = 5_000;
const HOLDING_BACK: readonly FaultKind[] = ["pause", "disk_stall"];
/** These may keep somebody from being asked, or make another error come first. */
const DISTURBING: readonly FaultKind[] = [
  "pause",
  "disk_stall",
  "disk_full",
  "fail_sync",
  "fail_operation",
  "fail_call",
  "partition",
  "isolate",
  "blackhole",
  "refuse_connects",
  "kill",
  "kill_all",
  "power_loss",
  "power_loss_all",
  "rot",
  "lose_state",
];
/** Lines of level error that are not about this process coming to its end. */
const OTHER_ERRORS =
  /^(user_error_.*|batch_malformed|control_queue_full|checkpoint_.*|state_ahead|state_damaged|state_lost|state_stale|output_.*|input_.*|remove_failed|sink_files_failing)$/;

/** Which status goes with which code. A code that is in no class is documented nowhere. */
const CLASSES: readonly (readonly [RegExp, number])[] = [
  [/^checkpoints_differ$/, EXIT.usage],
  [/^(address_in_use|address_not_available|permission|unresolvable|listen_failed|other)$/, EXIT.environment],
  [
    /^resilience_(exists|full|io|not_empty|not_found|not_folder|other|permission|read_only|too_large|too_many_files)$/,
    11,
  ],
  [/^resilience_(damaged|foreign|in_use|incomplete|no_such_checkpoint|unreadable|unsafe|version)$/, EXIT.resilience],
  [/^resilience_(other_application|other_cluster)$/, EXIT.resilience],
  [
    /^(position_invalid|state_ahead|state_damaged|state_lost|state_stale|state_of_unknown_stage|state_version_differs|state_migration_failed|state_codec_differs|state_codec_failed)$/,
    EXIT.resilience,
  ],
  [/^(application|build|cluster|fingerprint|protocol_version)_differs$/, EXIT.identity],
  [/^(cluster_full|name_taken|superseded)$/, EXIT.identity],
  [/^(save|remove|decision|state|state_log|leaving|output|dead_letters)_failed$/, EXIT.storage],
  [/^output_(in_use|not_empty|exists|full|io|not_found|not_folder|other|permission|read_only|too_many_files)$/, 11],
  [/^input_(full|io|not_a_file|not_found|not_folder|other|permission|read_only|too_large|too_many_files)$/, 11],
  [/^(input|output)_/, EXIT.outside],
];

/** Where: a file, an address, a worker, a stage, an option. */
const WHERE = /\/[a-z0-9_.-]+|[a-z0-9.-]+:\d+|worker|initializer|stage|sink|source|--[a-z]/i;
/** What to do, in so many words. */
const ADVICE =
  /\b(start|restart|use|give|see to|stop|end|wait|clean|look at|free|remove|make|leave|form|choose|correct|go on)\b/i;
const STACK = /\n|\bat \S+ \(|\bat (file|\/)\S*:\d+:\d+|\[object |undefined|\bnull\b|NaN/;

function check(observation: Observation, scenario: Scenario): Violation[] {
  const found: Violation[] = [];
  const say = (timeMs: Millis, text: string): void => void found.push({ oracle: "O-FAILCLEAR", timeMs, text });
  for (const process of observation.processes) {
    const whose = `${process.worker}, process ${process.number}${process.provoked === null ? "" : `, ${process.provoked}`}`;
    const why =
      process.cause === "exit" && process.status !== EXIT.done && process.errorCode !== null
        ? judgeFailure(process, observation, scenario)
        : judgeProvoked(process, observation, scenario);
    if (why !== null) say(process.endedMs ?? observation.timeMs, `${whose}: ${why}`);
  }
  for (const newcomer of observation.newcomers) {
    const why = judgeNewcomer(newcomer, observation, scenario);
    if (why !== null) say(newcomer.endedMs ?? observation.timeMs, `the newcomer ${newcomer.name}: ${why}`);
  }
  return found.slice(0, REPORTED_MAX);
}

/** What such a start is refused with. */
const REFUSALS: Readonly<Record<NonNullable<ProcessRecord["provoked"]>, RegExp>> = {
  folder_in_use: /^resilience_in_use$/,
  other_application: /^resilience_other_application$/,
  other_checkpoints: /^checkpoints_differ$/,
  other_cluster: /^resilience_(other_cluster|foreign)$/,
  other_worker: /^resilience_foreign$/,
  port_in_use: /^address_in_use$/,
};

/** A process that left with an error. */
function judgeFailure(process: ProcessRecord, observation: Observation, scenario: Scenario): string | null {
  const { worker, number, status, errorCode, errorText, provoked } = process;
  if (status === EXIT.bug) return null;
  const wrong = judgeWords(errorCode!, errorText!, status!);
  if (wrong !== null) return wrong;
  if (provoked !== null && !REFUSALS[provoked].test(errorCode!) && !isDisturbed(process, observation, scenario)) {
    return `it was refused with ${errorCode}: ${errorText}`;
  }
  const lines = observation.log.filter(
    (entry) => entry.process === number && entry.level === "error" && !OTHER_ERRORS.test(entry.code),
  );
  if (lines.length > 0) return `it said ${lines.length + 1} errors: ${errorCode}, and before it ${lines[0]!.code}`;
  const { startedMs, leavingMs, endedMs, phase } = process;
  const heldMs = heldBackMs(HOLDING_BACK, worker, startedMs, endedMs!, observation, scenario);
  if (leavingMs !== null && endedMs! - leavingMs > REFUSED_MS + heldMs) {
    return `it took ${Math.round(endedMs! - leavingMs)} ms to leave with ${errorCode}`;
  }
  const isLocal = phase === 0 && (status === EXIT.environment || /^resilience_(?!other_cluster)/.test(errorCode!));
  if (isLocal && endedMs! - startedMs > REFUSED_MS + heldMs) {
    return `it took ${Math.round(endedMs! - startedMs)} ms to be refused with ${errorCode}`;
  }
  // Who leaves in its first life behind the forming of the cluster has a place in it, and keeps that.
  if (phase > 0 && process.savedBefore.cluster === null) return null;
  return judgeSaved(process, isLocal && status === EXIT.resilience);
}

/** Code, status and sentence. */
function judgeWords(code: string, text: string, status: number): string | null {
  const known = CLASSES.find(([codes]) => codes.test(code));
  if (known === undefined) return `its code ${code} is in no class: ${text}`;
  if (known[1] !== status) return `${code} ends with status ${known[1]}, and it left with ${status}`;
  if (text.length < 30 || text.length > 2_000) return `"${text.slice(0, 100)}" is no sentence that helps`;
  if (STACK.test(text)) return `what it said is not for people: ${text.slice(0, 200)}`;
  if (!WHERE.test(text)) return `it does not say where: ${text}`;
  return ADVICE.test(text.replace(/^Cannot \w+/, "")) ? null : `it does not say what to do: ${text}`;
}

/** Refused: is what was saved still what it was? */
function judgeSaved({ status, savedBefore, savedAfter }: Saved, exact: boolean): string | null {
  const isRefusal = status === EXIT.environment || status === EXIT.resilience || status === EXIT.identity;
  if (!isRefusal || savedAfter === null) return null;
  // What a removal that was cut off has left is removed first.
  if (/\/removing /.test(savedBefore.exact)) return null;
  if (exact && savedBefore.exact !== savedAfter.exact) {
    return `it was refused, and what was saved has changed: ${savedBefore.exact} became ${savedAfter.exact}`;
  }
  if (savedBefore.cluster === savedAfter.cluster) return null;
  return `it was refused, and its saved cluster has changed: ${savedBefore.cluster} became ${savedAfter.cluster}`;
}

interface Saved {
  readonly status: number | null;
  readonly savedBefore: SavedDigest;
  readonly savedAfter: SavedDigest | null;
}

/** A start that must be refused, and was not; the scenario may have ended it before. */
function judgeProvoked(process: ProcessRecord, observation: Observation, scenario: Scenario): string | null {
  const { provoked, startedMs, endedMs } = process;
  if (provoked === null) return null;
  if (process.cause === "exit") return `it left with status ${process.status}, and was to be refused`;
  const untilMs = endedMs ?? observation.timeMs;
  // Whoever has to ask waits for the initializer for as long as that is away.
  if (provoked === "other_cluster" || provoked === "other_checkpoints" || untilMs - startedMs < REFUSED_MS) return null;
  return isDisturbed(process, observation, scenario) ? null : "it was to be refused, and was not";
}

function isDisturbed(process: ProcessRecord, { faults, timeMs: nowMs }: Observation, scenario: Scenario): boolean {
  const { worker, startedMs, endedMs } = process;
  return faults.some(({ timeMs, untilMs, kind, index, effect }) => {
    const hit = (scenario.faults[index] as { readonly worker?: string }).worker;
    if (effect === "" || !DISTURBING.includes(kind) || (hit !== undefined && hit !== worker)) return false;
    // What was armed before may come at any time later.
    const isArmed = kind.startsWith("fail_") || kind === "rot" || kind === "lose_state";
    return timeMs <= (endedMs ?? nowMs) && (isArmed || untilMs >= startedMs);
  });
}

function judgeNewcomer(newcomer: NewcomerRecord, observation: Observation, scenario: Scenario): string | null {
  const { name, status, errorCode, errorText, errorLines, phase, wantsFolder, startedMs, endedMs } = newcomer;
  if (phase > 0) return wantsFolder ? "it took a folder that is in use" : null;
  if (status === null) return null;
  if (errorCode === null) return `it left with status ${status}, and was to be refused`;
  const wrong = judgeWords(errorCode, errorText!, status);
  if (wrong !== null) return wrong;
  if (errorLines > 0) return `it said ${errorLines + 1} errors`;
  if (!wantsFolder) return judgeSaved(newcomer, false);
  const heldMs = heldBackMs(HOLDING_BACK, name, startedMs, endedMs!, observation, scenario);
  if (endedMs! - startedMs > REFUSED_MS + heldMs) return `it took ${Math.round(endedMs! - startedMs)} ms to be refused`;
  const isOurs = errorCode === "resilience_in_use" || isNearDiskFault(newcomer, observation, scenario);
  // Whoever holds the folder may have saved meanwhile that its cluster is formed.
  if (errorCode === "resilience_in_use" && newcomer.savedBefore.cluster === null) return null;
  return isOurs ? judgeSaved(newcomer, false) : `its folder is in use, and it was refused with ${errorCode}`;
}

function isNearDiskFault({ name, endedMs }: NewcomerRecord, { faults }: Observation, scenario: Scenario): boolean {
  return faults.some(
    ({ timeMs, kind, index }) =>
      /^(disk_full|fail_sync|fail_operation)$/.test(kind) &&
      timeMs <= endedMs! &&
      (scenario.faults[index] as { readonly worker?: string }).worker === name,
  );
}
