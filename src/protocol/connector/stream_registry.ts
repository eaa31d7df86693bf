/**
 * Who may bring in a stream: of one connector source, for the whole cluster. The initializer has it; the workers ask.
 *
 *   unknown ──claim──▶ active ──release──▶ inactive ──claim──▶ active
 *                                             └─ uncovered records are with its last worker: for that one alone,
 *                                                until a checkpoint covers them
 *
 * G1. A stream is active on one connection of one worker at most.
 * G2. A stream changes workers only when a complete checkpoint covers everything that its last worker took in of it.
 *     Otherwise the records between would be sent to the next worker and processed twice.
 * G3. The point that a claim is granted with is covered: by a complete checkpoint, or, without checkpoints, as far as the
 *     end of a stream was acknowledged.
 * G4. After a rollback nothing is granted before every worker has said what its part of the checkpoint covers. A stream that
 *     several have saved stands at the highest of these points (see `SourceStreams`, S5).
 *
 * G5. Who has a stream that somebody else asks for is told, as often as it is asked for (`takeWanted`).
 *
 * Messages between workers belong to one generation of the cluster: what a worker said before a rollback must not arrive
 * after it. Between two living workers none is lost, doubled or reordered.
 */
import { unreachable } from "../../base/assert.ts";
import type { WorkerName } from "../../base/ids.ts";
import { NOTHING, type Point } from "../../wire/point.ts";
import type { RefusalReason, RegistryAnswer, RegistryRequest, RestoredStream } from "../../wire/stream_claims.ts";

export type {
  CoveredStream,
  RefusalReason,
  RegistryAnswer,
  RegistryRequest,
  RestoredStream,
} from "../../wire/stream_claims.ts";

interface Entry {
  covered: Point;
  owner: { readonly worker: WorkerName; readonly claim: number } | null;
  /** Inactive, and this worker has taken in more than is covered. */
  holder: { readonly worker: WorkerName; readonly seen: Point } | null;
}

/** Told to `worker`. */
export interface Wanted {
  readonly worker: WorkerName;
  readonly answer: RegistryAnswer & { readonly kind: "wanted" };
}

/** Streams of one source in one cluster that ever brought a record. */
export const REGISTRY_STREAMS_MAX = 1_000_000;

export class StreamRegistry {
  readonly #streams = new Map<bigint, Entry>();
  readonly #streamsMax: number;
  /** Who has not said what it restored. */
  readonly #awaited: Set<WorkerName>;
  #wanted: Wanted[] = [];

  constructor(workers: readonly WorkerName[], streamsMax: number = REGISTRY_STREAMS_MAX) {
    this.#awaited = new Set(workers);
    this.#streamsMax = streamsMax;
  }

  /** Streams that are active or not at their beginning. */
  get size(): number {
    return this.#streams.size;
  }

  /** Who has still to say what it restored; nothing is granted meanwhile. */
  get awaited(): readonly WorkerName[] {
    return [...this.#awaited].sort();
  }

  /** A rollback: forgets everything, and waits for all of these. */
  reset(workers: readonly WorkerName[]): void {
    this.#streams.clear();
    this.#awaited.clear();
    for (const worker of workers) this.#awaited.add(worker);
  }

  /** A worker is gone and nobody rolls back for it, as without checkpoints. */
  gone(worker: WorkerName): void {
    this.#forget(worker);
  }

  /** G5: to be told, behind each `handle`; afterwards it is no longer here. */
  takeWanted(): readonly Wanted[] {
    const wanted = this.#wanted;
    if (wanted.length > 0) this.#wanted = [];
    return wanted;
  }

  /** Only a claim has an answer. */
  handle(from: WorkerName, request: RegistryRequest): RegistryAnswer | null {
    switch (request.kind) {
      case "claim":
        return this.#claim(from, request.claim, request.stream);
      case "release":
        this.#release(from, request);
        return null;
      case "covered":
        for (const { stream, covered } of request.streams) this.#cover(from, stream, covered);
        return null;
      case "restored":
        this.#restored(from, request.streams);
        return null;
      default:
        return unreachable(request);
    }
  }

  #claim(from: WorkerName, claim: number, stream: bigint): RegistryAnswer {
    const refused = (reason: RefusalReason): RegistryAnswer => ({ kind: "refused", claim, stream, reason });
    if (this.#awaited.size > 0) return refused("restoring");
    let entry = this.#streams.get(stream);
    if (entry === undefined) {
      if (this.#streams.size >= this.#streamsMax) return refused("too_many_streams");
      entry = { covered: NOTHING, owner: null, holder: null };
      this.#streams.set(stream, entry);
    }
    if (entry.owner !== null) {
      const { worker, claim: had } = entry.owner;
      this.#wanted.push({ worker, answer: { kind: "wanted", claim: had, stream } });
      return refused("active");
    }
    if (entry.holder !== null && entry.holder.worker !== from) return refused("uncovered");
    entry.owner = { worker: from, claim };
    entry.holder = null;
    return { kind: "granted", claim, stream, covered: entry.covered };
  }

  #release(from: WorkerName, { claim, stream, covered, seen }: RegistryRequest & { kind: "release" }): void {
    const entry = this.#streams.get(stream);
    // A claim that was refused is released too, if its connection went before the answer came.
    if (entry === undefined || entry.owner?.worker !== from || entry.owner.claim !== claim) return;
    entry.owner = null;
    if (covered > entry.covered) entry.covered = covered;
    if (seen > entry.covered) entry.holder = { worker: from, seen };
    this.#dropIfUnknown(stream, entry);
  }

  #cover(from: WorkerName, stream: bigint, covered: Point): void {
    const entry = this.#streams.get(stream);
    if (entry === undefined) return;
    if (covered > entry.covered) entry.covered = covered;
    if (entry.holder?.worker === from && entry.holder.seen <= entry.covered) entry.holder = null;
  }

  #restored(from: WorkerName, streams: readonly RestoredStream[]): void {
    this.#forget(from);
    this.#awaited.delete(from);
    for (const { stream, covered, seen, claim } of streams) {
      let entry = this.#streams.get(stream);
      if (entry === undefined) {
        entry = { covered: NOTHING, owner: null, holder: null };
        this.#streams.set(stream, entry);
      }
      if (covered > entry.covered) entry.covered = covered;
      if (claim > 0 && entry.owner === null) entry.owner = { worker: from, claim };
      else if (claim === 0 && seen > entry.covered) entry.holder = { worker: from, seen };
      this.#dropIfUnknown(stream, entry);
    }
    // What another worker has saved of the stream may cover what this one thought uncovered.
    for (const entry of this.#streams.values()) {
      if (entry.holder !== null && entry.holder.seen <= entry.covered) entry.holder = null;
    }
  }

  #forget(worker: WorkerName): void {
    for (const [stream, entry] of this.#streams) {
      if (entry.owner?.worker === worker) entry.owner = null;
      if (entry.holder?.worker === worker) entry.holder = null;
      this.#dropIfUnknown(stream, entry);
    }
  }

  #dropIfUnknown(stream: bigint, { covered, owner, holder }: Entry): void {
    if (covered === NOTHING && owner === null && holder === null) this.#streams.delete(stream);
  }
}
