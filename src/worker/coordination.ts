/**
 * The initializer's coordination of checkpoints and recoveries: the driver of `CheckpointCoordinator` and `RecoveryCoordinator`,
 * and of the record of what is decided. What they say to workers, its own among them, goes out by `toAll` and `to`; what workers
 * answer comes in by `received`.
 *
 *   C1. An epoch exists once the decision record that names it is durable; nobody hears of it before.
 *   C2. Nobody hears of an epoch that a later process could use again: the record reserves a number of them ahead.
 *   C3. A recovery waits for a record that is being written: it has to know what is decided.
 */
import { assert, unreachable } from "../base/assert.ts";
import { StorageError, type TammarError } from "../base/errors.ts";
import type { Epoch, Generation, WorkerName } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import {
  CheckpointCoordinator,
  type CheckpointEffect,
  type CheckpointEvent,
  type CheckpointSummary,
} from "../protocol/checkpoint/checkpoint_coordinator.ts";
import {
  RecoveryCoordinator,
  type RecoveryEffect,
  type RecoveryEvent,
} from "../protocol/recovery/recovery_coordinator.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";
import type { CheckpointMessage } from "../wire/control.ts";
import type { CheckpointSettings } from "./config.ts";
import type { WorkerHooks } from "./crash_points.ts";

/** The record of what exists: `store/decision_file.ts`. */
export interface Decisions {
  /** Null: nothing yet. */
  readonly decision: Decision | null;
  /** Durable when it resolves. `renamed`: called when it is made, and may be lost. */
  write(decision: Decision, renamed: () => void): Promise<void>;
}

interface Decision {
  readonly epoch: Epoch;
  readonly used: Epoch;
  readonly generation: Generation;
}

export interface CoordinationOptions {
  readonly settings: CheckpointSettings;
  readonly members: readonly WorkerName[];
  readonly clock: Clock;
  readonly log: Log;
  readonly hooks: WorkerHooks;
  readonly turn: (run: () => void) => void;
  readonly decisions: Decisions | null;
  readonly generation: () => Generation;
  /** Makes the generation this worker's, and calls back when that is durable. */
  readonly enterGeneration: (generation: Generation, durable: () => void) => void;
  /** This worker takes nothing in any more, until it has recovered. */
  readonly standStill: (reason: string) => void;
  /** Whoever waits may work. */
  readonly release: () => void;
  readonly to: (worker: WorkerName, message: CheckpointMessage) => void;
  /** To whoever asked for a checkpoint on this worker; 0: none was taken, for this reason. */
  readonly answer: (request: number, epoch: Epoch, reason: string) => void;
  readonly fail: (error: TammarError) => void;
}

/** What workers say to the initializer. */
export type ToCoordination = Extract<
  CheckpointMessage,
  { kind: "checkpoint_stored" | "checkpoint_failed" | "roll_back_wanted" | "recovery_facts" | "restored" }
>;

const TICK_MS: Millis = 20;
/** One that takes so long is said to be waited for. */
export const SLOW_CHECKPOINT_MS: Millis = 2_000;
/**
 * C2. So many epochs may be begun before the decision record is written again: no later process of the initializer uses one of
 * them, whatever became of it, since sinks may have heard of it.
 */
const EPOCHS_AHEAD = 16;

export class Coordination {
  readonly #options: CoordinationOptions;
  readonly #coordinator: CheckpointCoordinator;
  readonly #recovery: RecoveryCoordinator;
  #decided: Epoch;
  /** No epoch up to this one is used by a later process: durable. */
  #reserved: Epoch;
  /** The decision record is being written. */
  #recording = false;
  #recorded: Promise<void> = Promise.resolve();
  /** Why a recovery begins as soon as that is over; null: none waits. */
  #recoverySoon: string | null = null;
  #closed = false;
  /** Of the last checkpoint that exists, since the start of this process. */
  lastSummary: CheckpointSummary | null = null;

  constructor(options: CoordinationOptions) {
    this.#options = options;
    const { members, settings, decisions, generation } = options;
    const decision = decisions?.decision ?? null;
    this.#decided = decision?.epoch ?? 0;
    this.#reserved = decision?.used ?? 0;
    this.#coordinator = new CheckpointCoordinator(
      { workers: members, intervalMs: settings.intervalMs, deadlineMs: settings.deadlineMs },
      this.#decided,
      this.#reserved,
    );
    this.#recovery = new RecoveryCoordinator(
      { workers: members, acceptStateLoss: settings.acceptStateLoss },
      Math.max(decision?.generation ?? 0, generation()),
    );
    this.#tick();
  }

  /** Of the recovery that is under way: it has begun so many times; 0: none is. */
  get recoveryTry(): number {
    return this.#recovery.recovering ? this.#recovery.tries : 0;
  }

  /** In words; null while nothing is awaited. */
  get recoveryWaitsFor(): string | null {
    return this.#recovery.waitingFor();
  }

  /** In words; null: no checkpoint takes long. */
  get checkpointWaitsFor(): string | null {
    return this.#coordinator.waitingFor(this.#options.clock.monotonicMs(), SLOW_CHECKPOINT_MS);
  }

  /** A checkpoint is wanted now; answered by `answer`. */
  asked(request: number): void {
    this.#drive({ kind: "asked", request });
  }

  /** The control connection to this worker is gone. */
  peerLost(worker: WorkerName): void {
    this.#drive({ kind: "lost", worker });
  }

  /** No more checkpoints but those that are asked for: the cluster stops. */
  stopping(): void {
    this.#drive({ kind: "stopping" });
  }

  received(from: WorkerName, message: ToCoordination): void {
    switch (message.kind) {
      case "checkpoint_stored":
        return this.#drive({ ...message, kind: "stored", from });
      case "checkpoint_failed":
        return this.#drive({ ...message, kind: "failed", from });
      case "roll_back_wanted":
        return this.beginRecovery(`worker ${from}: ${message.reason}`);
      case "recovery_facts": {
        const { generation, epochs, written, unreadable } = message;
        return this.#driveRecovery({ kind: "facts", from, generation, facts: { epochs, written, unreadable } });
      }
      case "restored": {
        const { generation, entries } = message;
        return this.#driveRecovery({ kind: "restored", from, generation, entries });
      }
      default:
        return unreachable(message);
    }
  }

  /** It begins nothing of itself any more. */
  close(): void {
    this.#closed = true;
  }

  /** Resolves when nothing is being written. */
  get recorded(): Promise<void> {
    return this.#recorded;
  }

  /** C3. */
  beginRecovery(reason: string): void {
    this.#drive({ kind: "suspend", reason: "the cluster recovers" });
    // What is being written may exist by now: going back to before it would leave a record of what is no more.
    if (this.#recording) {
      this.#recoverySoon ??= reason;
      return;
    }
    this.#driveRecovery({ kind: "begin", reason, decided: this.#decided });
  }

  #tick(): void {
    if (this.#closed) return;
    this.#options.clock.startTimer(TICK_MS, () => {
      this.#options.turn(() => {
        if (!this.#closed) this.#drive({ kind: "tick" });
      });
      this.#tick();
    });
  }

  #drive(event: CheckpointEvent): void {
    const { clock, hooks } = this.#options;
    for (const effect of this.#coordinator.handle(event, clock.monotonicMs())) {
      hooks.reached(`checkpoint.${effect.kind}.before`);
      this.#perform(effect);
      hooks.reached(`checkpoint.${effect.kind}.after`);
    }
    this.#reserve();
  }

  #perform(effect: CheckpointEffect): void {
    const generation = this.#options.generation();
    switch (effect.kind) {
      case "begin":
        return this.#begin(effect.epoch);
      case "abort":
        return this.#toAll({ ...effect, kind: "checkpoint_abort", generation });
      case "decide":
        return this.#decide(effect.epoch);
      case "complete":
        this.#decided = effect.epoch;
        this.lastSummary = effect.summary;
        return this.#toAll({ kind: "checkpoint_complete", generation, epoch: effect.epoch });
      case "answer":
        return this.#options.answer(effect.request, effect.complete ?? 0, effect.reason);
      case "roll_back":
        return this.beginRecovery(effect.reason);
      default:
        return unreachable(effect);
    }
  }

  /** C2. */
  #begin(epoch: Epoch): void {
    if (epoch <= this.#reserved) {
      return this.#toAll({ kind: "checkpoint_begin", generation: this.#options.generation(), epoch });
    }
    if (!this.#recording) this.#reserveFrom(epoch);
  }

  /** Between checkpoints, so that none costs more than what it needs itself: after a recovery, after many were aborted. */
  #reserve(): void {
    const { resting, next } = this.#coordinator;
    if (resting && next > this.#reserved && !this.#recording && !this.#closed) this.#reserveFrom(next);
  }

  #reserveFrom(epoch: Epoch): void {
    this.#record(this.#decided, epoch + EPOCHS_AHEAD, () => {
      // One may have begun meanwhile, or have been given up.
      const collecting = this.#coordinator.collecting;
      if (collecting !== 0) this.#begin(collecting);
    });
  }

  /** C1. */
  #decide(epoch: Epoch): void {
    this.#record(epoch, epoch + EPOCHS_AHEAD, () => {
      this.#options.hooks.reached("decision.durable");
      this.#decided = epoch;
      this.#drive({ kind: "decided", epoch });
    });
  }

  /** Writes the decision record. */
  #record(epoch: Epoch, used: Epoch, durable: () => void): void {
    const { decisions, fail, hooks, turn } = this.#options;
    assert(!this.#recording, "decisions are written one after the other");
    this.#recording = true;
    const decision: Decision = { epoch, used, generation: this.#options.generation() };
    this.#recorded = decisions!
      .write(decision, () => hooks.reached("decision.renamed"))
      .then(
        () =>
          turn(() => {
            this.#recording = false;
            this.#reserved = used;
            durable();
            const reason = this.#recoverySoon;
            this.#recoverySoon = null;
            if (reason !== null) this.beginRecovery(reason);
          }),
        (error: unknown) =>
          turn(() => {
            // Whether the record is there is not known: only a restart, which reads it, can tell.
            if (error instanceof StorageError) return fail(error);
            throw error;
          }),
      );
  }

  #driveRecovery(event: RecoveryEvent): void {
    const { reached } = this.#options.hooks;
    for (const effect of this.#recovery.handle(event)) {
      reached(`recovery.${effect.kind}.before`);
      this.#performRecovery(effect);
      reached(`recovery.${effect.kind}.after`);
    }
  }

  #performRecovery(effect: RecoveryEffect): void {
    const { enterGeneration, log, release, standStill, to: tell } = this.#options;
    switch (effect.kind) {
      case "fence": {
        const { generation } = effect;
        // What this worker sent from now on would count as of the new generation.
        standStill("the initializer begins a recovery");
        return enterGeneration(generation, () => this.#driveRecovery({ kind: "fenced", generation }));
      }
      case "recover":
        return this.#toAll({ kind: "recover", generation: effect.generation, reason: effect.reason });
      case "restore": {
        const { to, generation, epoch, empty } = effect;
        return tell(to, { kind: "restore", generation, epoch, empty });
      }
      case "recovered":
        if (effect.epoch > 0)
          log.info(
            "recovered",
            `The cluster is at checkpoint ${effect.epoch} again, with ${effect.entries} keys: ${effect.reason}`,
          );
        this.#drive({ kind: "resume", complete: effect.epoch, used: effect.used });
        this.#toAll({ kind: "recovered", generation: effect.generation, epoch: effect.epoch });
        return release();
      case "refuse": {
        const { worker, code, sentence } = effect.refusal;
        log.error(code, sentence);
        return tell(worker, { kind: "recovery_refused", generation: this.#options.generation(), code, sentence });
      }
      default:
        return unreachable(effect);
    }
  }

  #toAll(message: CheckpointMessage): void {
    for (const member of this.#options.members) this.#options.to(member, message);
  }
}
