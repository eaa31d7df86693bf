/**
 * The control channel's messages, worker to worker: this file is the channel's table of contents. Each travels as one CBOR
 * map with a `kind`, inside the payload of a link (`link.ts`), so that it is neither lost nor doubled between two living
 * workers. Who says it, to whom, and what the receiver does is said at each.
 */
import type { Generation, RoutingVersion, WorkerName } from "../base/ids.ts";
import type { Address } from "../runtime/runtime.ts";

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
  | { readonly kind: "stop_requested"; readonly reason: string }
  /** The coordinator of the stop to all: sources stop, drain, flush, then say `drained`. */
  | { readonly kind: "stop"; readonly reason: string; readonly deadlineMs: number }
  /** To the coordinator of the stop. */
  | ({ readonly kind: "drained" } & DrainReport)
  /** The coordinator of the stop to all: remove your files, exit 0. Absent workers are in the reports too. */
  | { readonly kind: "exit"; readonly reports: readonly DrainReport[] }
  /** Initializer to all: a worker came back somewhere else. */
  | { readonly kind: "moved"; readonly members: readonly MemberAddress[] }
  /** Anyone to anyone, for external queries that span the cluster. */
  | { readonly kind: "query"; readonly query: ClusterQuery; readonly request: number }
  | { readonly kind: "answer"; readonly request: number; readonly body: unknown };

export type ClusterQuery = "state_entity_count" | "status";
