/**
 * Brings the whole cluster back to one checkpoint. The initializer has it; every start of the cluster goes through it too.
 *
 *   idle ──begin──▶ fencing ──generation durable──▶ gathering ──facts of all──▶ restoring ──all restored──▶ idle
 *     ▲                 ▲                              │  ▲                          │
 *     │                 └────────── begin (another one failed meanwhile) ────────────┘
 *     └                                        refused: waits, gathering, for the one whose files do not do
 *
 * V1. Each try has a generation of its own, durable before anybody hears of it: what was sent under an older one is a
 *     straggler everywhere.
 * V2. Which checkpoint is restored is `resolve`'s decision over facts of all workers; nobody restores before that.
 * V3. A failure meanwhile starts the decision again, with the next generation. Nothing waits without saying for whom.
 * V4. Nobody goes on before everybody has restored.
 */
import { assert, unreachable } from "../../base/assert.ts";
import type { Epoch, Generation, WorkerName } from "../../base/ids.ts";
import { type Refusal, resolve, type WorkerFacts } from "./resolve.ts";

export type RecoveryEvent =
  | { readonly kind: "begin"; readonly reason: string; readonly decided: Epoch }
  /** The generation is durable. */
  | { readonly kind: "fenced"; readonly generation: Generation }
  | { readonly kind: "facts"; readonly from: WorkerName; readonly generation: Generation; readonly facts: WorkerFacts }
  | { readonly kind: "restored"; readonly from: WorkerName; readonly generation: Generation; readonly entries: number };

export type RecoveryEffect =
  /** Save this generation, then say `fenced`. */
  | { readonly kind: "fence"; readonly generation: Generation }
  /** To all, this worker too: stand still, drop what is in flight, tell what you have. */
  | { readonly kind: "recover"; readonly generation: Generation; readonly reason: string }
  /** To one worker. `empty`: it starts with nothing at this epoch. */
  | {
      readonly kind: "restore";
      readonly to: WorkerName;
      readonly generation: Generation;
      readonly epoch: Epoch;
      readonly empty: boolean;
    }
  /** To all: go on. */
  | {
      readonly kind: "recovered";
      readonly generation: Generation;
      readonly epoch: Epoch;
      readonly used: Epoch;
      readonly entries: number;
      readonly reason: string;
    }
  /** This worker's files do not do: it leaves, with the sentence. */
  | { readonly kind: "refuse"; readonly refusal: Refusal };

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "fencing"; readonly generation: Generation; readonly reason: string; readonly decided: Epoch }
  | {
      readonly kind: "gathering";
      readonly generation: Generation;
      readonly reason: string;
      readonly decided: Epoch;
      readonly facts: Map<WorkerName, WorkerFacts>;
    }
  | {
      readonly kind: "restoring";
      readonly generation: Generation;
      readonly reason: string;
      readonly decided: Epoch;
      readonly epoch: Epoch;
      readonly used: Epoch;
      readonly waiting: Set<WorkerName>;
      entries: number;
    };

export interface RecoveryConfig {
  readonly workers: readonly WorkerName[];
  readonly acceptStateLoss: boolean;
}

export class RecoveryCoordinator {
  readonly #config: RecoveryConfig;
  #generation: Generation;
  #state: State = { kind: "idle" };
  stragglers = 0;
  /** Of the recovery that is under way, or was the last: how often it began anew. */
  tries = 0;

  /** @param generation The last one that was used. */
  constructor(config: RecoveryConfig, generation: Generation) {
    this.#config = config;
    this.#generation = generation;
  }

  get recovering(): boolean {
    return this.#state.kind !== "idle";
  }

  /** For people; null when nothing is awaited. */
  waitingFor(): string | null {
    const state = this.#state;
    const again = this.tries > 1 ? ` (try ${this.tries})` : "";
    switch (state.kind) {
      case "idle":
      case "fencing":
        return null;
      case "gathering": {
        const missing = this.#config.workers.filter((worker) => !state.facts.has(worker));
        return `recovery waits to hear what they have on disk from: ${missing.join(", ")}${again}`;
      }
      case "restoring":
        return `recovery to checkpoint ${state.epoch} waits for: ${[...state.waiting].sort().join(", ")}${again}`;
      default:
        return unreachable(state);
    }
  }

  handle(event: RecoveryEvent): RecoveryEffect[] {
    switch (event.kind) {
      case "begin":
        return this.#begin(event.reason, event.decided);
      case "fenced": {
        const state = this.#state;
        if (state.kind !== "fencing" || state.generation !== event.generation) return this.#straggler();
        const { generation, reason, decided } = state;
        this.#state = { kind: "gathering", generation, reason, decided, facts: new Map() };
        return [{ kind: "recover", generation, reason }];
      }
      case "facts":
        return this.#facts(event.from, event.generation, event.facts);
      case "restored":
        return this.#restored(event.from, event.generation, event.entries);
      default:
        return unreachable(event);
    }
  }

  #begin(reason: string, decided: Epoch): RecoveryEffect[] {
    this.tries = this.#state.kind === "idle" ? 1 : this.tries + 1;
    this.#generation++;
    this.#state = { kind: "fencing", generation: this.#generation, reason, decided };
    return [{ kind: "fence", generation: this.#generation }];
  }

  #facts(from: WorkerName, generation: Generation, facts: WorkerFacts): RecoveryEffect[] {
    const state = this.#state;
    if (state.kind !== "gathering" || state.generation !== generation) return this.#straggler();
    state.facts.set(from, facts);
    if (!this.#config.workers.every((worker) => state.facts.has(worker))) return [];
    const { decided, reason } = state;
    const resolution = resolve({ decided, workers: state.facts, acceptStateLoss: this.#config.acceptStateLoss });
    if (resolution.kind === "refuse") {
      // They leave, and come back with other files as new processes, which begins anew.
      for (const refusal of resolution.refusals) state.facts.delete(refusal.worker);
      return resolution.refusals.map((refusal): RecoveryEffect => ({ kind: "refuse", refusal }));
    }
    const { epoch, empty, used } = resolution;
    this.#state = {
      kind: "restoring",
      generation,
      reason,
      decided,
      epoch,
      used,
      waiting: new Set(this.#config.workers),
      entries: 0,
    };
    return this.#config.workers.map(
      (to): RecoveryEffect => ({ kind: "restore", to, generation, epoch, empty: empty.includes(to) }),
    );
  }

  #restored(from: WorkerName, generation: Generation, entries: number): RecoveryEffect[] {
    const state = this.#state;
    if (state.kind !== "restoring" || state.generation !== generation) return this.#straggler();
    if (!state.waiting.delete(from)) return this.#straggler();
    state.entries += entries;
    if (state.waiting.size > 0) return [];
    const { epoch, used, reason } = state;
    assert(epoch <= used);
    this.#state = { kind: "idle" };
    return [{ kind: "recovered", generation, epoch, used, entries: state.entries, reason }];
  }

  #straggler(): RecoveryEffect[] {
    this.stragglers++;
    return [];
  }
}
