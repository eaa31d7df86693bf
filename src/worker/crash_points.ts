/**
 * Places where a worker may die, by name: before and after each effect that its driver performs, and the steps of its start
 * and its end. The simulator kills here, cuts power here, kills a peer here; a test build of the binary can too. The
 * command line never passes a hook, and a release build has no way to.
 */

import type { WorkerName } from "../base/ids.ts";

const MEMBERSHIP_EFFECTS = [
  "announce",
  "connect_data",
  "dial",
  "forget_cluster",
  "install",
  "reached",
  "save",
  "send",
] as const;
const STOP_EFFECTS = ["begin_drain", "finish", "send"] as const;
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
  "stop.requested",
  "stop.drained",
  "leave.begin",
  "leave.connectors_closed",
  "leave.goodbye_said",
  "leave.files_removed",
] as const;

export type CrashPoint =
  | (typeof STEPS)[number]
  | `membership.${(typeof MEMBERSHIP_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `stop.${(typeof STOP_EFFECTS)[number]}.${(typeof SIDES)[number]}`
  | `phase.${(typeof PHASES)[number]}`;

/** All of them, in a fixed order. */
export const CRASH_POINTS: readonly CrashPoint[] = [
  ...STEPS,
  ...MEMBERSHIP_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `membership.${effect}.${side}`)),
  ...STOP_EFFECTS.flatMap((effect) => SIDES.map((side): CrashPoint => `stop.${effect}.${side}`)),
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
}

export const NO_HOOKS: WorkerHooks = { reached: () => {} };
