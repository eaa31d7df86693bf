/**
 * Takes one checkpoint at a time, from the first barrier to a durable decision. The initializer has it.
 *
 *   resting ──interval, or asked──▶ collecting ──all stored──▶ deciding ──decided──▶ resting
 *      ▲                                │
 *      └── deadline, a worker failed, lost, or voted no: aborted
 *   any ──suspend──▶ suspended ──resume──▶ resting
 *
 * C1. At most one checkpoint is in flight; whoever asks meanwhile gets the next one, which is begun at once behind it: what
 *     was there when it was asked for is in it.
 * C2. `complete` is announced only after `decided` for the same epoch: the decision record is durable.
 * C3. A report of another epoch or generation is a straggler: counted and dropped, never an error.
 * C4. An epoch is never used twice, aborted ones neither, not even after a restart of the coordinator: what a worker has
 *     written under an epoch is known to be of that epoch.
 *
 * It owns which checkpoint exists. It does not own what is in it, or who returns to it (`protocol/recovery/`).
 */
import { assert, unreachable } from "../../base/assert.ts";
import type { Epoch, WorkerName } from "../../base/ids.ts";
import type { Millis } from "../../runtime/runtime.ts";

export type CheckpointEvent =
  | { readonly kind: "tick" }
  /** Somebody wants one now. */
  | { readonly kind: "asked"; readonly request: number }
  /** A worker's part is durable, and its sinks vote for it. */
  | {
      readonly kind: "stored";
      readonly from: WorkerName;
      readonly epoch: Epoch;
      readonly stateBytes: number;
      readonly writtenBytes: number;
    }
  /** A worker could not store its part, or a sink votes against it. `rollBack`: what it gave out cannot be kept. */
  | {
      readonly kind: "failed";
      readonly from: WorkerName;
      readonly epoch: Epoch;
      readonly reason: string;
      readonly rollBack: boolean;
    }
  | { readonly kind: "lost"; readonly worker: WorkerName }
  /** The decision record of this epoch is durable. */
  | { readonly kind: "decided"; readonly epoch: Epoch }
  /** The cluster stops: none is begun any more but those that are asked for. */
  | { readonly kind: "stopping" }
  /** A recovery begins: nothing is started until `resume`. */
  | { readonly kind: "suspend"; readonly reason: string }
  | { readonly kind: "resume"; readonly complete: Epoch; readonly used: Epoch };

export type CheckpointEffect =
  /** To all workers, this one too. */
  | { readonly kind: "begin"; readonly epoch: Epoch }
  | { readonly kind: "abort"; readonly epoch: Epoch; readonly reason: string; readonly failures: number }
  /** Make it durable that this epoch exists, then say `decided`. */
  | { readonly kind: "decide"; readonly epoch: Epoch }
  /** To all workers: this epoch exists. */
  | { readonly kind: "complete"; readonly epoch: Epoch; readonly summary: CheckpointSummary }
  | { readonly kind: "answer"; readonly request: number; readonly complete: Epoch | null; readonly reason: string }
  /** What was given out since the last complete checkpoint cannot be kept. */
  | { readonly kind: "roll_back"; readonly reason: string };

export interface CheckpointSummary {
  readonly epoch: Epoch;
  /** From the first barrier to the durable decision. */
  readonly durationMs: Millis;
  readonly stateBytes: number;
  readonly writtenBytes: number;
}

export interface CheckpointConfig {
  readonly workers: readonly WorkerName[];
  /** From the completion of one to the start of the next; null: only when asked. */
  readonly intervalMs: Millis | null;
  /** One that is not complete by then is aborted. */
  readonly deadlineMs: Millis;
}

type State =
  | { readonly kind: "suspended"; readonly reason: string }
  | { readonly kind: "resting"; readonly next: Millis }
  | {
      readonly kind: "collecting";
      readonly epoch: Epoch;
      readonly since: Millis;
      readonly waiting: Set<WorkerName>;
      stateBytes: number;
      writtenBytes: number;
    }
  | {
      readonly kind: "deciding";
      readonly epoch: Epoch;
      readonly since: Millis;
      readonly stateBytes: number;
      readonly writtenBytes: number;
    };

export class CheckpointCoordinator {
  readonly #config: CheckpointConfig;
  #state: State = { kind: "suspended", reason: "the cluster is starting" };
  /** The last epoch that was ever used. */
  #used: Epoch;
  #complete: Epoch;
  #failures = 0;
  /** Who gets the one in flight, and who the one behind it. */
  #asking: number[] = [];
  #askingNext: number[] = [];
  #stopping = false;
  stragglers = 0;

  /** @param used No epoch up to this one is used again. */
  constructor(config: CheckpointConfig, complete: Epoch, used: Epoch) {
    assert(complete <= used);
    this.#config = config;
    this.#complete = complete;
    this.#used = used;
  }

  /** The last one that exists. */
  get complete(): Epoch {
    return this.#complete;
  }

  /** The one whose reports are awaited; 0: none is. */
  get collecting(): Epoch {
    return this.#state.kind === "collecting" ? this.#state.epoch : 0;
  }

  /** None is under way, and one may begin. */
  get resting(): boolean {
    return this.#state.kind === "resting";
  }

  /** The epoch that the next one will be. */
  get next(): Epoch {
    return this.#used + 1;
  }

  /** Aborted ones since the last that completed. */
  get failures(): number {
    return this.#failures;
  }

  /** In words: whose part of one is awaited for so long or longer; null: nobody's. */
  waitingFor(now: Millis, longMs: Millis): string | null {
    const state = this.#state;
    if (state.kind !== "collecting" || now - state.since < longMs) return null;
    return `checkpoint ${state.epoch} waits for ${[...state.waiting].sort().join(", ")}`;
  }

  handle(event: CheckpointEvent, now: Millis): CheckpointEffect[] {
    const state = this.#state;
    switch (event.kind) {
      case "tick":
        if (state.kind === "resting" && now >= state.next) return this.#begin(now);
        if (state.kind === "collecting" && now - state.since >= this.#config.deadlineMs) {
          return this.#abort(
            state.epoch,
            `not complete within ${this.#config.deadlineMs} ms: waits for ${[...state.waiting].sort().join(", ")}`,
            now,
          );
        }
        return [];
      case "asked":
        if (state.kind === "suspended") {
          return [{ kind: "answer", request: event.request, complete: null, reason: state.reason }];
        }
        this.#askingNext.push(event.request);
        return state.kind === "resting" ? this.#begin(now) : [];
      case "stopping":
        this.#stopping = true;
        if (state.kind === "resting") this.#rest(now);
        return [];
      case "stored": {
        if (state.kind !== "collecting" || state.epoch !== event.epoch || !state.waiting.delete(event.from))
          return this.#straggler();
        state.stateBytes += event.stateBytes;
        state.writtenBytes += event.writtenBytes;
        if (state.waiting.size > 0) return [];
        const { epoch, since, stateBytes, writtenBytes } = state;
        this.#state = { kind: "deciding", epoch, since, stateBytes, writtenBytes };
        return [{ kind: "decide", epoch }];
      }
      case "failed": {
        if (state.kind !== "collecting" || state.epoch !== event.epoch) return this.#straggler();
        const effects = this.#abort(event.epoch, `worker ${event.from}: ${event.reason}`, now);
        if (event.rollBack) effects.push({ kind: "roll_back", reason: `worker ${event.from}: ${event.reason}` });
        return effects;
      }
      case "lost":
        if (state.kind !== "collecting") return [];
        return this.#abort(state.epoch, `worker ${event.worker} is lost`, now);
      case "decided":
        if (state.kind !== "deciding" || state.epoch !== event.epoch) return this.#straggler();
        return this.#completed(state, now);
      case "suspend": {
        // One that is being decided may exist by now: what is on disk will tell, so nothing is said about it.
        const effects: CheckpointEffect[] =
          state.kind === "collecting"
            ? [{ kind: "abort", epoch: state.epoch, reason: event.reason, failures: this.#failures }]
            : [];
        for (const request of [...this.#asking.splice(0), ...this.#askingNext.splice(0)]) {
          effects.push({ kind: "answer", request, complete: null, reason: event.reason });
        }
        this.#state = { kind: "suspended", reason: event.reason };
        return effects;
      }
      case "resume":
        this.#complete = event.complete;
        this.#used = Math.max(this.#used, event.used);
        this.#failures = 0;
        this.#rest(now);
        return [];
      default:
        return unreachable(event);
    }
  }

  #begin(now: Millis): CheckpointEffect[] {
    const epoch = this.#used + 1;
    this.#used = epoch;
    this.#asking = this.#askingNext.splice(0);
    this.#state = {
      kind: "collecting",
      epoch,
      since: now,
      waiting: new Set(this.#config.workers),
      stateBytes: 0,
      writtenBytes: 0,
    };
    return [{ kind: "begin", epoch }];
  }

  #abort(epoch: Epoch, reason: string, now: Millis): CheckpointEffect[] {
    this.#failures++;
    this.#rest(now);
    return [
      { kind: "abort", epoch, reason, failures: this.#failures },
      ...this.#asking
        .splice(0)
        .map((request): CheckpointEffect => ({ kind: "answer", request, complete: null, reason })),
      ...this.#beginNext(now),
    ];
  }

  #completed(state: State & { kind: "deciding" }, now: Millis): CheckpointEffect[] {
    const { epoch, since, stateBytes, writtenBytes } = state;
    this.#complete = epoch;
    this.#failures = 0;
    this.#rest(now);
    const summary: CheckpointSummary = { epoch, durationMs: now - since, stateBytes, writtenBytes };
    return [
      { kind: "complete", epoch, summary },
      ...this.#asking
        .splice(0)
        .map((request): CheckpointEffect => ({ kind: "answer", request, complete: epoch, reason: "" })),
      ...this.#beginNext(now),
    ];
  }

  #beginNext(now: Millis): CheckpointEffect[] {
    return this.#askingNext.length > 0 ? this.#begin(now) : [];
  }

  #rest(now: Millis): void {
    const { intervalMs } = this.#config;
    const isAskedFor = intervalMs === null || this.#stopping;
    this.#state = { kind: "resting", next: isAskedFor ? Number.POSITIVE_INFINITY : now + intervalMs };
  }

  #straggler(): CheckpointEffect[] {
    this.stragglers++;
    return [];
  }
}
