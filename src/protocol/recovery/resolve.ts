/**
 * Which checkpoint everyone returns to, or why none will do: one pure decision over facts (design 3.8).
 *
 * The coordinator's decision record says which epoch exists. A worker reported its part durable before that record was
 * written, so a worker that has not got it has lost something since.
 */
import type { Epoch, WorkerName } from "../../base/ids.ts";

/** What one worker has on its disk. */
export interface WorkerFacts {
  /** Epochs that it can restore, ascending; 0 (empty) is always possible and never listed. */
  readonly epochs: readonly Epoch[];
  /** The highest epoch that it has written anything of, complete or not. */
  readonly written: Epoch;
  /** Where its log can't be read to its end, and why; "": it can. What follows there may be torn, or damaged. */
  readonly unreadable: string;
}

export interface RecoveryFacts {
  /** The last epoch that was decided; 0: none ever was. */
  readonly decided: Epoch;
  readonly workers: ReadonlyMap<WorkerName, WorkerFacts>;
  /** `--accept-state-loss`: a worker that lost its part starts empty, instead of nobody starting at all. */
  readonly acceptStateLoss: boolean;
}

export type Resolution =
  | {
      readonly kind: "restore";
      readonly epoch: Epoch;
      /** These start empty, since what they had is lost and that was accepted. */
      readonly empty: readonly WorkerName[];
      /** No epoch up to this one may be used again. */
      readonly used: Epoch;
    }
  | { readonly kind: "refuse"; readonly refusals: readonly Refusal[] };

export interface Refusal {
  readonly worker: WorkerName;
  readonly code: "state_ahead" | "state_damaged" | "state_lost" | "state_stale";
  /** For that worker's operator. */
  readonly sentence: string;
}

export function resolve(facts: RecoveryFacts): Resolution {
  const { decided, workers, acceptStateLoss } = facts;
  const refusals: Refusal[] = [];
  const empty: WorkerName[] = [];
  let used = decided;
  for (const [worker, facts] of workers) {
    const { epochs, written } = facts;
    used = Math.max(used, written);
    if (decided === 0 || epochs.includes(decided)) continue;
    if (acceptStateLoss) empty.push(worker);
    else refusals.push(refusalOf(worker, decided, facts));
  }
  if (refusals.length > 0) return { kind: "refuse", refusals };
  return { kind: "restore", epoch: decided, empty, used };
}

function refusalOf(worker: WorkerName, decided: Epoch, { epochs, written, unreadable }: WorkerFacts): Refusal {
  const remedy =
    "give it back the resilience directory that it had, or start the initializer with --accept-state-loss to go on with empty state for this worker";
  const last = epochs.at(-1);
  // A checkpoint that exists was whole on the disk: what can't be read of it has not been torn by a crash.
  if (unreadable !== "" && (last ?? 0) < decided) {
    const orOld = written >= decided ? "" : ", unless its files are an old copy";
    return {
      worker,
      code: "state_damaged",
      sentence:
        `of worker "${worker}", ${unreadable}. Checkpoint ${decided}, at which the cluster is, was whole there: the file was ` +
        `damaged${orOld}. To look at it: tammar store verify, with this worker's --resilience-dir; ${remedy}`,
    };
  }
  if (last === undefined) {
    return {
      worker,
      code: "state_lost",
      sentence: `the cluster is at checkpoint ${decided}, and worker "${worker}" has no checkpoint at all: its files are lost; ${remedy}`,
    };
  }
  if (last < decided) {
    return {
      worker,
      code: "state_stale",
      sentence: `the cluster is at checkpoint ${decided}, and the newest one that worker "${worker}" has is ${last}: its files are an old copy, or the newest of them was cut short; ${remedy}`,
    };
  }
  return {
    worker,
    code: "state_ahead",
    sentence:
      `the cluster's last decided checkpoint is ${decided}, and worker "${worker}" has only ${showEpochs(epochs)}: ` +
      `the initializer's files are an old copy, or this worker's are of another run; ${remedy}`,
  };
}

/** The newest are enough to see what is wrong. */
function showEpochs(epochs: readonly Epoch[]): string {
  const shown = epochs.slice(-SHOWN_MAX).join(", ");
  return epochs.length <= SHOWN_MAX ? shown : `${epochs.length} from ${epochs[0]} on, the last of them ${shown}`;
}

const SHOWN_MAX = 16;
