/**
 * The control channel's messages, worker to worker: this file is the channel's table of contents. Each travels as one CBOR
 * map with a `kind`, inside the payload of a link (`link.ts`), so that it is neither lost nor doubled between two living
 * workers. Who says it, to whom, and what the receiver does is said at each.
 */
import type { Epoch, Generation, RoutingVersion, WorkerName } from "../base/ids.ts";
import type { Address } from "../runtime/runtime.ts";
import type { RegistryAnswer, RegistryRequest } from "./stream_claims.ts";

/** How a worker can be reached. */
export interface MemberAddress {
  readonly name: WorkerName;
  readonly control: Address;
  readonly data: Address;
}

/** How far a worker has come. The markers `INIT PHASE I` to `IV` name the same steps. */
export type Phase = 1 | 2 | 3 | 4;

/** What one worker left behind at a shutdown. */
export interface DrainReport {
  readonly worker: WorkerName;
  /** Everything that was taken in came out. */
  readonly complete: boolean;
  /** Batches or bytes that could not be delivered, in words; empty when complete. */
  readonly leftBehind: string;
}

export type ControlMessage =
  /** Initializer to all, once enough workers are there: save this as `forming` and say `form_saved`. */
  | {
      readonly kind: "form";
      readonly clusterId: string;
      readonly generation: Generation;
      readonly routingVersion: RoutingVersion;
      readonly keyGroupCount: number;
      /** Initializer first, the others sorted by name: the order of owners. */
      readonly members: readonly MemberAddress[];
    }
  /** A worker to the initializer: `form` is durable here. */
  | { readonly kind: "form_saved" }
  /** Initializer to all: everybody saved it. Save it as `formed`, connect to all others. */
  | { readonly kind: "formed" }
  /** A worker to the initializer, whenever its phase changes and whenever it meets a new incarnation of the initializer. */
  | { readonly kind: "phase_reached"; readonly phase: Phase }
  /** Initializer to a worker that reached phase III, when all have: read your sources. */
  | { readonly kind: "work" }
  /** Anyone to the initializer (or to everyone, while it is away): stop the cluster. */
  | { readonly kind: "stop_requested"; readonly reason: string; readonly keep: boolean }
  /** The coordinator of the stop to all: sources stop, drain, flush, then say `drained`. */
  | { readonly kind: "stop"; readonly reason: string; readonly keep: boolean; readonly deadlineMs: number }
  /** To the coordinator of the stop. */
  | ({ readonly kind: "drained" } & DrainReport)
  /** To the initializer, in a stop: all that this checkpoint decides is visible here. */
  | { readonly kind: "settled"; readonly epoch: Epoch }
  /**
   * The coordinator of the stop to all: exit 0. Absent workers are in the reports too. `remove`: the initializer has decided
   * that the files go; false from another coordinator says nothing about that. `suspended`: they stay, as somebody asked, with
   * a last checkpoint.
   */
  | {
      readonly kind: "exit";
      readonly reports: readonly DrainReport[];
      readonly remove: boolean;
      readonly suspended: boolean;
    }
  /** Initializer to all: a worker came back somewhere else. */
  | { readonly kind: "moved"; readonly members: readonly MemberAddress[] }
  /** Anyone to anyone, for external queries that span the cluster. */
  | { readonly kind: "query"; readonly query: ClusterQuery; readonly request: number }
  | { readonly kind: "answer"; readonly request: number; readonly body: unknown }
  /** Anyone to anyone: begin a new file of your event log, as a tool has asked. */
  | { readonly kind: "rotate_log" }
  | CheckpointMessage
  | StreamMessage
  | LettersMessage;

/** Checkpoints and recovery. Every message says its generation: one of another is a straggler. */
export type CheckpointMessage =
  /** Initializer to all: sources inject the barriers of this epoch. */
  | { readonly kind: "checkpoint_begin"; readonly generation: Generation; readonly epoch: Epoch }
  /** A worker to the initializer: its part is durable, its sinks vote for it. */
  | {
      readonly kind: "checkpoint_stored";
      readonly generation: Generation;
      readonly epoch: Epoch;
      readonly stateBytes: number;
      readonly writtenBytes: number;
    }
  /** A worker to the initializer. `rollBack`: what was given out since the last checkpoint can't be kept. */
  | {
      readonly kind: "checkpoint_failed";
      readonly generation: Generation;
      readonly epoch: Epoch;
      readonly reason: string;
      readonly rollBack: boolean;
    }
  /** Initializer to all: the epoch will not exist. `failures`: how many in a row. */
  | {
      readonly kind: "checkpoint_abort";
      readonly generation: Generation;
      readonly epoch: Epoch;
      readonly reason: string;
      readonly failures: number;
    }
  /** Initializer to all: the epoch exists. Sinks commit, sources acknowledge, older files may go. */
  | { readonly kind: "checkpoint_complete"; readonly generation: Generation; readonly epoch: Epoch }
  /** Anyone to the initializer: take one now. */
  | { readonly kind: "checkpoint_asked"; readonly request: number }
  /** The answer. `epoch` 0: none was taken, for this reason. */
  | { readonly kind: "checkpoint_answered"; readonly request: number; readonly epoch: Epoch; readonly reason: string }
  /** Anyone to the initializer: bring the cluster back to its last checkpoint. */
  | { readonly kind: "roll_back_wanted"; readonly generation: Generation; readonly reason: string }
  /** Initializer to all: stand still, drop what is in flight, say what you have. */
  | { readonly kind: "recover"; readonly generation: Generation; readonly reason: string }
  /**
   * A worker to the initializer: epochs it can restore, ascending, the highest it has written anything of, and where its log
   * can't be read to its end, in words.
   */
  | {
      readonly kind: "recovery_facts";
      readonly generation: Generation;
      readonly epochs: readonly Epoch[];
      readonly written: Epoch;
      readonly unreadable: string;
    }
  /** Initializer to one worker. `empty`: what it had is lost, and that was accepted. */
  | { readonly kind: "restore"; readonly generation: Generation; readonly epoch: Epoch; readonly empty: boolean }
  /** A worker to the initializer: state is back, sources and sinks are. `entries`: keys that were read. */
  | { readonly kind: "restored"; readonly generation: Generation; readonly entries: number }
  /** Initializer to all: everybody has restored, go on. */
  | { readonly kind: "recovered"; readonly generation: Generation; readonly epoch: Epoch }
  /** Initializer to one worker: its files do not do; it leaves with this sentence. */
  | {
      readonly kind: "recovery_refused";
      readonly generation: Generation;
      readonly code: string;
      readonly sentence: string;
    };

/** Who brings in which stream of a connector source. A message of another generation is a straggler. */
export type StreamMessage =
  /** A worker to the initializer: its source, by index in the plan, asks or tells. */
  | {
      readonly kind: "stream_request";
      readonly generation: Generation;
      readonly source: number;
      readonly request: RegistryRequest;
    }
  /** The initializer to the worker that asked. */
  | {
      readonly kind: "stream_answer";
      readonly generation: Generation;
      readonly source: number;
      readonly answer: RegistryAnswer;
    };

/** Dead letters that a tool has sent to one worker, and whose keys are another's. A message of another generation is a straggler. */
export type LettersMessage =
  /** Anyone to the owner: let these in (`resend.ts`). One such list at a time. */
  | {
      readonly kind: "letters";
      readonly generation: Generation;
      readonly request: number;
      readonly letters: Uint8Array;
    }
  /**
   * The owner to whoever sent them: the next `count` of them are dealt with, in order. Those among `refused`, by their index in
   * the list, are not in; the others are, and when they came in, `cut` was the last epoch that was cut there.
   */
  | {
      readonly kind: "letters_taken";
      readonly generation: Generation;
      readonly request: number;
      readonly count: number;
      readonly cut: Epoch;
      readonly refused: readonly RefusedLetter[];
    };

export interface RefusedLetter {
  readonly index: number;
  readonly why: string;
}

export type ClusterQuery = "state_entity_count" | "status";
