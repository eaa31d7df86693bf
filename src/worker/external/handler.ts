import type { DrainReport } from "../../wire/control.ts";
import type { ResendOutcome } from "../../wire/resend.ts";

export type ClusterStatus =
  | { readonly ready: false }
  | {
      readonly ready: true;
      readonly worker_count: number;
      /** The initializer first, others sorted. */
      readonly worker_names: readonly string[];
      readonly processing_messages: boolean;
    };

/** Group of a state or stateless partition → worker → ids of its steps. */
export type StepLists = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

export interface Partitions {
  readonly state: StepLists;
  readonly stateless: StepLists;
}

/** Worker → group → step → number of keys. */
export type ClusterEntityCounts = ReadonlyMap<string, ReadonlyMap<string, ReadonlyMap<string, number>>>;

/** What a tool that waits for the end of the cluster is told. */
export type StopEvent =
  /** The stop has begun. `reason`: of whoever asked first. */
  | { readonly kind: "stopping"; readonly reason: string; readonly workers: readonly string[] }
  /** One worker is done. */
  | ({ readonly kind: "stopped" } & DrainReport)
  /** All are done, or were given up; nothing follows. */
  | { readonly kind: "finished"; readonly complete: boolean };

/**
 * What the external channel asks of its worker (`queries.ts`). Every call returns at once, in every state of the worker:
 * where nothing is known yet, the answer is empty. Ids are decimal texts (`entity_ids.ts`).
 */
export interface ExternalHandler {
  /** This worker's name. */
  readonly worker: string;
  clusterStatus(): ClusterStatus;
  /** Of this worker alone. */
  partitions(): Partitions;
  /** One for each instance of a source on this worker. */
  sourceIds(): readonly string[];
  /** Keys this worker holds, by group; a group without keys has an empty list. */
  stateEntities(): ReadonlyMap<string, readonly string[]>;
  stateEntityCounts(): ReadonlyMap<string, number>;
  /** Of all workers. `answer` is called once, within a few seconds: whoever is absent by then is left out. */
  clusterStateEntityCounts(answer: (counts: ClusterEntityCounts) => void): void;
  /** Text of a stranger for the log. */
  print(text: string): void;
  /** For the log: `boundary-count-status`, or a code nobody knows. */
  reportStatus(code: string): void;
  /**
   * Stops the cluster. `reason`: of a stranger, may be empty. `report` may be called until the end of the worker; calls
   * after the tool has gone are harmless.
   */
  stop(reason: string, keep: boolean, report: (event: StopEvent) => void): void;
  /** Everything worth knowing, by name. `answer` is called once, within a few seconds, with what JSON can carry. */
  richStatus(answer: (status: unknown) => void): void;
  /** Begins a new file of a worker's event log, of this one's or another's. What came of it is in that worker's log. */
  rotateLog(worker: string): void;
  /** Takes a checkpoint. `answer` is called once: its epoch, or 0 and why there is none. */
  checkpoint(answer: (epoch: number, reason: string) => void): void;
  /** Lets dead letters in again: a whole batch, `wire/resend.ts`; the bytes are the callee's. `answer` is called once. */
  resend(batch: Uint8Array, answer: (outcome: ResendOutcome) => void): void;
}
