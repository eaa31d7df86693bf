/**
 * States that a simulator must have been in, or its silence means little: the corners in which distributed systems lose data.
 * Each is counted in every run, by what can be seen from outside; over the runs of one batch each that applies must be
 * reached again and again (O-REACH), by chance or by the scenarios of `directed.ts`.
 */

import type { WorkerName } from "../base/ids.ts";
import { INITIALIZER } from "../base/ids.ts";
import type { Millis } from "../runtime/runtime.ts";
import { CHECKPOINTS_ON } from "./checkpointing.ts";
import type { Observation, RichStatus } from "./observation.ts";

export const RARE_STATES = [
  "frame_cut_in_length",
  "duplicate_filtered",
  "sink_queue_full",
  "credit_used_up",
  "simultaneous_dial",
  "predecessor_superseded",
  "old_process_refused",
  "zombie_came_back",
  "silence_noticed",
  "saved_file_torn",
  "disk_full_during_save",
  "sync_failed_during_save",
  "rot_refused",
  "newcomer_refused_full",
  "newcomer_refused_name",
  "died_between_forming_and_formed",
  "cluster_abandoned",
  "record_cut_at_sink",
  "frame_cut_at_source",
  "strangers_crowded_out",
  "stopped_twice",
  "stopped_before_work",
  "late_message_of_old_generation",
  "checkpoint_aborted_by_vote",
  "died_between_commit_and_its_news",
  "recovery_interrupted_by_recovery",
  "barrier_behind_back_pressure",
  "uncommitted_at_reconnect",
  "disk_full_during_decision",
  "torn_log_record_discarded",
  "muted_without_checkpoints",
  "key_moved_while_partitioned",
  "join_refused_busy",
] as const;
export type RareState = (typeof RARE_STATES)[number];

interface Definition {
  /** A sentence's end: the state in which ... */
  readonly what: string;
  /** From when on it must be reached. */
  readonly applies: "now" | "with checkpoints" | "with growing and shrinking";
  /** How often, in this run; null: whoever sees it says so while it runs (`Observation.reach("rare.<state>")`). */
  readonly count: ((observation: Observation) => number) | null;
}

const SILENCE_MS: Millis = 5_000;
const TWICE_MS: Millis = 1_000;

const DEFINITIONS: Readonly<Record<RareState, Definition>> = {
  frame_cut_in_length: {
    what: "a worker has read a part of a frame's length, and no more",
    applies: "now",
    count: null,
  },
  duplicate_filtered: {
    what: "a payload comes again on a new connection, and is dropped by its number",
    applies: "now",
    count: (observation) => channelCount(observation, "duplicatesDropped"),
  },
  sink_queue_full: {
    what: "the queue of a sink is at its cap, and what feeds it stands still",
    applies: "now",
    count: (observation) => logged(observation, "sink_blocked"),
  },
  credit_used_up: {
    what: "a worker has no credit left at another one, and what feeds that exchange stands still",
    applies: "now",
    count: ({ samples }) => count(samples, ({ status }) => status.muted.some(({ by }) => by.some(isWorker))),
  },
  simultaneous_dial: {
    what: "two workers have dialled each other at once, and one of the two connections goes",
    applies: "now",
    count: (observation) => channelCount(observation, "duplicates"),
  },
  predecessor_superseded: {
    what: "a worker that was started again comes while its peers still hold a connection to the process before",
    applies: "now",
    count: superseded,
  },
  old_process_refused: {
    what: "the hello of a process arrives after its successor's, and is refused",
    applies: "now",
    count: (observation) => logged(observation, "refused", "was started again"),
  },
  zombie_came_back: {
    what: "a stopped process goes on after its peers have given it up, and is taken back as what it is",
    applies: "now",
    count: zombies,
  },
  silence_noticed: {
    what: "a half-open connection is given up because nothing was heard on it",
    applies: "now",
    count: (observation) => logged(observation, "peer_lost", "silent for"),
  },
  saved_file_torn: {
    what: "a worker starts with a file that a power cut had left half written, and does without it",
    applies: "now",
    count: null,
  },
  disk_full_during_save: {
    what: "the disk is full while the cluster information is saved",
    applies: "now",
    count: (observation) => ended(observation, "save_failed", "no space is left"),
  },
  sync_failed_during_save: {
    what: "the sync of the cluster information fails",
    applies: "now",
    count: (observation) => ended(observation, "save_failed", "Cannot sync"),
  },
  rot_refused: {
    what: "a worker finds its saved file damaged, and leaves it alone",
    applies: "now",
    count: (observation) => ended(observation, "resilience_damaged", ""),
  },
  newcomer_refused_full: {
    what: "a worker too many asks to be let in",
    applies: "now",
    count: ({ newcomers }) => count(newcomers, ({ errorCode }) => errorCode === "cluster_full"),
  },
  newcomer_refused_name: {
    what: "a worker asks to be let in under a name that is taken",
    applies: "now",
    count: (observation) =>
      ended(observation, "name_taken", "") +
      count(observation.newcomers, ({ errorCode }) => errorCode === "name_taken"),
  },
  died_between_forming_and_formed: {
    what: "a worker dies with what it had saved while the cluster formed, and no more",
    applies: "now",
    count: null,
  },
  cluster_abandoned: {
    what: "a worker forgets a cluster that never was formed, and joins the next one",
    applies: "now",
    count: ({ reached }) => reached.get("point.membership.forget_cluster.before") ?? 0,
  },
  record_cut_at_sink: {
    what: "the connection of a sink is lost in the middle of a record",
    applies: "now",
    count: ({ connections }) => count(connections, ({ rest }) => rest !== ""),
  },
  frame_cut_at_source: {
    what: "a sender is lost in the middle of a frame",
    applies: "now",
    count: (observation) => logged(observation, "source_connection_closed", "never became whole"),
  },
  strangers_crowded_out: {
    what: "so many strangers sit at a port that the oldest has to go",
    applies: "now",
    count: (observation) => logged(observation, "stranger_closed", "more than"),
  },
  stopped_twice: {
    what: "a second stop is asked for while the first one goes on",
    applies: "now",
    count: ({ stopsAskedMs }) => count(stopsAskedMs, (ms, i) => i > 0 && ms - stopsAskedMs[i - 1]! < TWICE_MS),
  },
  stopped_before_work: {
    what: "a stop comes to a worker that is not at work yet",
    applies: "now",
    count: stoppedEarly,
  },
  late_message_of_old_generation: {
    what: "a payload of an older generation arrives, and is dropped",
    applies: "with checkpoints",
    count: (observation) => channelCount(observation, "stragglersDropped"),
  },
  checkpoint_aborted_by_vote: {
    what: "a sink votes against a checkpoint, and it is aborted",
    applies: "with checkpoints",
    count: (observation) => logged(observation, "checkpoint_aborted", "/sink"),
  },
  died_between_commit_and_its_news: {
    what: "the coordinator dies when a checkpoint is decided, and nobody has heard of it",
    applies: "with checkpoints",
    count: null,
  },
  recovery_interrupted_by_recovery: {
    what: "another worker dies while the cluster recovers",
    applies: "with checkpoints",
    count: recoveriesInterrupted,
  },
  barrier_behind_back_pressure: {
    what: "a barrier waits behind records that wait for a sink",
    applies: "with checkpoints",
    count: ({ samples }) => count(samples, ({ status }) => status.muted.length > 0 && isAligning(status)),
  },
  uncommitted_at_reconnect: {
    what: "a sink comes back with what it had prepared and was not told of, both to commit and to abort",
    applies: "with checkpoints",
    count: openAtReconnect,
  },
  disk_full_during_decision: {
    what: "there is no room for the name that decides a checkpoint",
    applies: "with checkpoints",
    count: (observation) => ended(observation, "decision_failed", "no space is left"),
  },
  torn_log_record_discarded: {
    what: "the last record of a state log is torn, and is dropped",
    applies: "with checkpoints",
    count: (observation) => logged(observation, "state_torn"),
  },
  muted_without_checkpoints: {
    what: "so many checkpoints have failed that sources stand still",
    applies: "with checkpoints",
    count: (observation) => logged(observation, "checkpoints_failing"),
  },
  key_moved_while_partitioned: {
    what: "a key moves to another worker while the sender of its records is cut off",
    applies: "with growing and shrinking",
    count: null,
  },
  join_refused_busy: {
    what: "a worker asks to join while another one does",
    applies: "with growing and shrinking",
    count: null,
  },
};

export function describeRareState(state: RareState): { readonly what: string; readonly applies: string } {
  return DEFINITIONS[state];
}

export function applicableStates(): RareState[] {
  return RARE_STATES.filter((state) => {
    const { applies } = DEFINITIONS[state];
    return applies === "now" || (applies === "with checkpoints" && CHECKPOINTS_ON);
  });
}

/** At the end of a run: adds what can be counted then to what was seen meanwhile, as `rare.<state>`. */
export function countRareStates(observation: Observation): void {
  for (const state of RARE_STATES) {
    const times = DEFINITIONS[state].count?.(observation) ?? 0;
    if (times > 0) observation.reach(`rare.${state}`, times);
  }
}

function count<T>(all: readonly T[], condition: (value: T, index: number) => boolean): number {
  let times = 0;
  for (const [i, value] of all.entries()) if (condition(value, i)) times++;
  return times;
}

function logged({ log }: Observation, code: string, text = ""): number {
  return count(log, (entry) => entry.code === code && (text === "" || entry.text.includes(text)));
}

function ended({ processes }: Observation, code: string, text: string): number {
  return count(processes, ({ errorCode, errorText }) => errorCode === code && (errorText ?? "").includes(text));
}

function isWorker(blocker: string): boolean {
  return blocker.startsWith("worker ");
}

/** Of all processes, as each said it for the last time. */
function channelCount({ samples }: Observation, name: string): number {
  const perProcess = new Map<number, number>();
  for (const { process, status } of samples) {
    let sum = 0;
    for (const channel of status.channels) sum += Number(channel[name] ?? 0);
    if (sum > 0) perProcess.set(process, sum);
  }
  return [...perProcess.values()].reduce((a, b) => a + b, 0);
}

/** Pauses that were longer than the patience of peers, and were lived through. */
function zombies({ faults, log, processes }: Observation): number {
  return count(faults, ({ kind, timeMs, effect: worker }) => {
    if (kind !== "pause" || worker === "") return false;
    const process = processes.findLast((entry) => entry.worker === worker && entry.startedMs <= timeMs);
    if (process === undefined) return false;
    const about = (code: string, what: string, fromMs: Millis) =>
      log.find(
        (entry) =>
          entry.code === code &&
          entry.timeMs > fromMs &&
          entry.worker !== worker &&
          entry.text.includes(what) &&
          entry.text.includes(`connection to ${worker} `),
      );
    const lost = about("peer_lost", "silent for", timeMs + SILENCE_MS / 2);
    if (lost === undefined || lost.timeMs > timeMs + 3 * SILENCE_MS) return false;
    const back = about("peer_connected", "reconnected", lost.timeMs);
    return back !== undefined && (process.endedMs === null || process.endedMs > back.timeMs);
  });
}

/** A connection was replaced, and at the same moment the new one is there: of another process. */
function superseded({ log }: Observation): number {
  return count(log, ({ code, text, process }, i) => {
    if (code !== "peer_lost" || !text.endsWith("took its place")) return false;
    const next = log[i + 1];
    return next?.process === process && next.code === "peer_connected" && !next.text.endsWith("reconnected");
  });
}

function isAligning({ checkpoint }: RichStatus): boolean {
  return checkpoint.aligning !== undefined && checkpoint.aligning > 0;
}

/** The initializer begins one before the one before it is complete. */
function recoveriesInterrupted({ log }: Observation): number {
  let times = 0;
  let underWay = false;
  for (const { worker, code } of log) {
    if (worker !== INITIALIZER) continue;
    if (code === "recovery_started") {
      if (underWay) times++;
      underWay = true;
    } else if (code === "recovery_complete") underWay = false;
  }
  return times;
}

/** Entries `stopping` of processes that have not said that they are at work. */
function stoppedEarly({ log }: Observation): number {
  const working = new Set<number>();
  let times = 0;
  for (const { code, process } of log) {
    if (code === "phase_4") working.add(process);
    else if (code === "stopping" && !working.has(process)) times++;
  }
  return times;
}

/** Transactions that were open when the sink's connection was made anew: pairs of one to commit and one to abort. */
function openAtReconnect({ transactions }: Observation): number {
  const open = new Map<WorkerName, string>();
  const kept = new Set<string>();
  const times = { commit: 0, abort: 0 };
  for (const { worker, entry } of transactions) {
    const id = open.get(worker);
    if (entry.event === "phase1") open.set(worker, entry.id);
    else if (entry.event === "opened" && id !== undefined) kept.add(id);
    else if (entry.event === "phase2") {
      if (kept.delete(entry.id)) times[entry.decision]++;
      open.delete(worker);
    }
  }
  return Math.min(times.commit, times.abort);
}
