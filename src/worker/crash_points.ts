/**
 * Places where a worker may die, by name: before and after each effect that its driver performs, and the steps of its start
 * and its end. The simulator kills here, cuts power here, kills a peer here; a test build of the binary can too. The
 * command line never passes a hook, and a release build has no way to.
 */

import type { WorkerName } from "../base/ids.ts";
import type { SinkStep } from "../protocol/connector/sink_commit.ts";

const MEMBERSHIP_EFFECTS = [
  "announce",
  "connect_data",
  "dial",
  "forget_cluster",
  "install",
  "reached",
  "ready",
  "save",
  "send",
] as const;
const STOP_EFFECTS = ["begin_drain", "decide", "finish", "last_checkpoint", "prepare", "send"] as const;
const ALIGNER_EFFECTS = ["aligned", "inject", "released", "send_barrier"] as const;
const CHECKPOINT_EFFECTS = ["abort", "answer", "begin", "complete", "decide", "roll_back"] as const;
const RECOVERY_EFFECTS = ["fence", "recover", "recovered", "refuse", "restore"] as const;
/** Of a sink that commits in two phases. */
const SINK_STEPS: readonly SinkStep[] = [
  "asked",
  "decided",
  "decided_again",
  "listed",
  "lost_before_vote",
  "lost_behind_vote",
  "voted",
];
const SIDES = ["before", "after"] as const;
const PHASES = [1, 2, 3, 4] as const;

const STEPS = [
  "start.begin",
  "start.folder_locked",
  "start.sources_bound",
  "start.control_listening",
  "start.data_listening",
  "start.external_listening",
  "start.number_saved",
  "cluster.forming_durable",
  "cluster.formed_durable",
  "link.control_connected",
  "link.data_out_connected",
  "link.data_in_connected",
  "link.control_lost",
  "data.batch_received",
  "data.batch_sent",
  "cut.positions_taken",
  "cut.frozen",
  "cut.slice_written",
  "cut.durable",
  "cut.voted",
  "cut.stored",
  "decision.renamed",
  "decision.durable",
  "commit.sinks_told",
  "commit.old_files_retired",
  "recovery.stands_still",
  "recovery.facts_known",
  "recovery.state_read",
  "recovery.gone_back",
  "rotation.asked",
  "rotation.file_made",
  "rotation.durable",
  "stop.requested",
  "stop.drained",
  "stop.prepared",
  "stop.settled",
  "stop.decided",
  "leave.begin",
  "leave.connectors_closed",
  "leave.goodbye_said",
  "leave.files_removed",
] as const;

export type CrashPoint =
  | (typeof STEPS)[number]
  | `membership.${(typeof MEMBERSHIP_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `stop.${(typeof STOP_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `align.${(typeof ALIGNER_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `checkpoint.${(typeof CHECKPOINT_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `sink.${SinkStep}`
  | `recovery.${(typeof RECOVERY_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `phase.${(typeof PHASES)[number]}`;

/** All of them, in a fixed order. */
export const CRASH_POINTS: readonly CrashPoint[] = [
  ...STEPS,
  ...MEMBERSHIP_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `membership.${effect}.${side}`)),
  ...STOP_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `stop.${effect}.${side}`)),
  ...ALIGNER_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `align.${effect}.${side}`)),
  ...CHECKPOINT_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `checkpoint.${effect}.${side}`)),
  ...SINK_STEPS.map((point): CrashPoint => `sink.${point}`),
  ...RECOVERY_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `recovery.${effect}.${side}`)),
  ...PHASES.map((phase): CrashPoint => `phase.${phase}`),
];

/** For whoever watches a worker from inside: called synchronously, and may end the process. */
export interface WorkerHooks {
  readonly reached: (point: CrashPoint) => void;
  /** Handed over once the worker's channels listen: what it says of itself at any moment, without asking over the network. */
  readonly observable?: (status: () => WorkerStatus) => void;
}

/** The members and the rich status of one worker (`queries.ts`). */
export interface WorkerStatus {
  readonly clusterId: string;
  readonly members: readonly WorkerName[];
  readonly status: unknown;
  /** What only a watcher in the same process can see; left out where it is in another one. */
  readonly inside?: WorkerInside;
}

export interface WorkerInside {
  readonly routingVersion: number;
  readonly keyGroupCount: number;
  /** Of batches that came from each peer and are not processed yet. */
  readonly heldBytes: ReadonlyMap<WorkerName, number>;
  /** Keys of each stateful stage that this worker has state of, in the order of stages. */
  readonly keys: () => readonly (readonly string[])[];
}

export const NO_HOOKS: WorkerHooks = { reached: () => {} };
