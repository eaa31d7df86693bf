/**
 * A worker's part in checkpoints and recovery: the driver of `Aligner`. On the initializer `coordination.ts` says what is to
 * be done, to this worker as to all others.
 *
 *   recovering ──recovered──▶ running ──begin, or a barrier──▶ aligning ──all barriers──▶ the cut ──▶ running
 *       ▲                        │                                                         └─▶ writing, in slices
 *       └──────── recover ───────┘                                                             └─▶ stored
 *
 *   X1. At the cut everything of this worker stands still: state is frozen, positions of sources and outputs of sinks are
 *       noted, in one turn. Then everything goes on, while what was frozen is written in slices.
 *   X2. `stored` is said when the epoch is durable here and every sink of this worker has voted for it.
 *   X3. Until `recovered`, and from `recover` to the next one, no record is taken in, and no barrier. What comes of an older
 *       generation is dropped by the links.
 *   X4. A restore is never under way twice: a later one waits for the end of the earlier one, and takes its place.
 */
import { assert, unreachable } from "../base/assert.ts";
import { ResilienceError, StorageError, TammarError } from "../base/errors.ts";
import { type Epoch, type Generation, INITIALIZER, type WorkerName } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Vote } from "../connectors/connector.ts";
import type { Dataflow } from "../operators/dataflow.ts";
import type { Plan } from "../plan/plan.ts";
import { Aligner, type AlignerEffect } from "../protocol/barrier/aligner.ts";
import type { Millis, Runtime } from "../runtime/runtime.ts";
import type { CheckpointMessage, ControlMessage } from "../wire/control.ts";
import type { CheckpointSettings } from "./config.ts";
import { Coordination, type Decisions, SLOW_CHECKPOINT_MS } from "./coordination.ts";
import type { WorkerHooks } from "./crash_points.ts";
import type { DataflowShell, Positions } from "./dataflow_shell.ts";

/** The end of the newest file, which can't be read. */
interface Torn {
  readonly path: string;
  readonly offset: number;
  readonly why: string;
}

/** State that survives: `state_keeper.ts`. */
export interface StatePart {
  facts(): { readonly epochs: readonly Epoch[]; readonly written: Epoch; readonly torn: Torn | null };
  /** From now on this is the state that is frozen. */
  attach(dataflow: Dataflow): void;
  freeze(epoch: Epoch): void;
  /** Writes the next slice of what is frozen. Returns whether everything is written. */
  slice(budgetMs: Millis): boolean;
  /** Durable when it resolves. */
  end(epoch: Epoch, generation: Generation, body: unknown): Promise<{ stateBytes: number; writtenBytes: number }>;
  restore(epoch: Epoch, dataflow: Dataflow): Promise<{ body: unknown | null; entries: number }>;
  completed(epoch: Epoch): void;
  /** The next epoch begins a new file. False: one that was asked for is still to come. */
  rotate(): boolean;
  close(): Promise<void>;
}

export interface CheckpointsOptions {
  readonly settings: CheckpointSettings;
  readonly name: WorkerName;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly plan: Plan;
  readonly shell: DataflowShell;
  readonly turn: (run: () => void) => void;
  readonly send: (to: WorkerName, message: ControlMessage) => void;
  readonly sendBarrier: (to: WorkerName, exchange: number, epoch: Epoch) => void;
  readonly members: readonly WorkerName[];
  readonly generation: () => Generation;
  /** Makes the generation this worker's, and calls back when that is durable. */
  readonly enterGeneration: (generation: Generation, durable: () => void) => void;
  /** The initializer's: whoever waits may work. */
  readonly release: () => void;
  readonly fail: (error: TammarError) => void;
  /** Opens the folder's state; once. */
  readonly openState: () => Promise<StatePart>;
  /** The initializer's; null on others. */
  readonly decisions: Decisions | null;
  /** Whoever lets dead letters in again: see `resend.ts`. */
  readonly letters: {
    standStill(): void;
    completed(epoch: Epoch): void;
    recovered(epoch: Epoch): void;
  };
  /** Did this process find a formed cluster in its folder? For the markers. */
  readonly restarted: boolean;
  readonly hooks: WorkerHooks;
}

/** How long one slice of writing may keep the loop. */
const SLICE_MS: Millis = 1;
/** Of the path and place of damage, in a message. */
const SAID_MAX = 2_048;
/** Who may wait for a checkpoint at once. */
const ASKING_MAX = 64;

/** An epoch that was cut here and is on its way to the disk. */
interface Cut {
  readonly epoch: Epoch;
  positions: Positions;
  readonly votesMissing: Set<string>;
  readonly alignMs: Millis;
  readonly sinceMs: Millis;
  /** What was written, once it is durable. */
  durable: { readonly stateBytes: number; readonly writtenBytes: number } | null;
}

/** For `tammar query status`: short plain values under names in snake case. */
export type CheckpointStatus = Readonly<Record<string, string | number | boolean>>;

/** One cut, as this worker has seen it. */
interface OwnCut {
  readonly alignMs: Millis;
  readonly writeMs: Millis;
  readonly stateBytes: number;
  readonly writtenBytes: number;
}

interface OwnRecovery {
  readonly epoch: Epoch;
  readonly entries: number;
  /** From standing still to being asked to restore; reading the state; until everybody had. */
  readonly gatherMs: Millis;
  readonly restoreMs: Millis;
  readonly waitMs: Millis;
  readonly reason: string;
  /** Had this process been working before, or did it come (back) with this recovery? */
  readonly role: "survivor" | "returned" | "started";
  readonly endedMs: Millis;
}

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #peers: readonly WorkerName[];
  #aligner: Aligner;
  #phase: "recovering" | "running" = "recovering";
  /** The generation for which this process has restored; 0: none. An earlier process may have gone on in it. */
  #restored: Generation = 0;
  #recoveringWhy = "the cluster is starting";
  /** Has it been running in this process? */
  #everRan = false;
  #state: StatePart | null = null;
  #cut: Cut | null = null;
  /** Sources stand still since too many checkpoints failed. */
  #muted = false;
  /** Sources stand still since this worker is about to leave. */
  #leaving = false;
  /** Everything that touches the state's files and must not overlap, in order. */
  #files: Promise<void> = Promise.resolve();
  /** Of the last recovery that this process was asked to take part in. */
  #askedGeneration: Generation = 0;
  #lastComplete: Epoch = 0;
  #lastCompleteMs: Millis;
  #lastCut: OwnCut | null = null;
  #lastRecovery: OwnRecovery | null = null;
  #aligningSinceMs: Millis = 0;
  #stillSinceMs: Millis;
  #restoringSinceMs: Millis = 0;
  #restoredAtMs: Millis = 0;
  #entries = 0;
  #committed: Epoch = 0;
  #cutEpoch: Epoch = 0;
  #aborted = 0;
  #closed = false;
  /** The initializer's; null on others. */
  readonly #coordination: Coordination | null;
  #requests = 0;
  readonly #answers = new Map<number, (epoch: Epoch, reason: string) => void>();

  constructor(options: CheckpointsOptions) {
    this.#options = options;
    const { members, name, plan, shell } = options;
    this.#peers = members.filter((member) => member !== name);
    this.#aligner = new Aligner(plan.exchanges, this.#peers, 0);
    this.#lastCompleteMs = this.#now();
    this.#stillSinceMs = this.#now();
    const gateClosed = () => {
      if (this.#phase === "recovering") return "for_a_recovery";
      return this.#aligner.aligning === 0 ? null : "for_a_cut";
    };
    shell.gate = {
      get closed() {
        return gateClosed();
      },
      holds: (from, exchange) => this.#phase === "recovering" || this.#aligner.holds(from, exchange),
      barrier: (from, exchange, epoch) => this.#align(this.#aligner.barrier(from, exchange, epoch)),
    };
    shell.standStill(true);
    this.#coordination = options.name === INITIALIZER ? this.#coordinate() : null;
  }

  #coordinate(): Coordination {
    return new Coordination({
      ...this.#options,
      clock: this.#options.runtime.clock,
      standStill: (reason) => this.#standStill(reason),
      to: (worker, message) => this.#to(worker, message),
      answer: (request, epoch, reason) => this.#answer(request, epoch, reason),
    });
  }

  get status(): CheckpointStatus {
    const summary = this.#coordination?.lastSummary;
    const ms = (value: Millis | undefined) => Math.round((value ?? 0) * 10) / 10;
    const cut = this.#lastCut;
    const recovery = this.#lastRecovery;
    return {
      epoch: this.#lastComplete,
      age_ms: ms(this.#now() - this.#lastCompleteMs),
      // Of all workers; only the initializer knows.
      duration_ms: ms(summary?.durationMs),
      total_state_bytes: summary?.stateBytes ?? 0,
      total_written_bytes: summary?.writtenBytes ?? 0,
      align_ms: ms(cut?.alignMs),
      write_ms: ms(cut?.writeMs),
      state_bytes: cut?.stateBytes ?? 0,
      written_bytes: cut?.writtenBytes ?? 0,
      // One that is on its way to the disk, and since when; 0: none is.
      writing_epoch: this.#cut?.epoch ?? 0,
      writing_ms: this.#cut === null ? 0 : ms(this.#now() - this.#cut.sinceMs),
      aborted: this.#aborted,
      aligning: this.#aligner.aligning,
      muted: this.#muted,
      recovering: this.#phase === "recovering" ? this.#recoveringWhy : "",
      // The initializer's: the one that is under way has begun so many times; 0: none is.
      recovery_try: this.#coordination?.recoveryTry ?? 0,
      recovery_epoch: recovery?.epoch ?? 0,
      recovery_keys: recovery?.entries ?? 0,
      recovery_gather_ms: ms(recovery?.gatherMs),
      recovery_restore_ms: ms(recovery?.restoreMs),
      recovery_wait_ms: ms(recovery?.waitMs),
      recovery_role: recovery?.role ?? "",
      recovery_reason: recovery?.reason ?? "",
      recovery_age_ms: recovery === null ? 0 : ms(this.#now() - recovery.endedMs),
    };
  }

  get recovering(): boolean {
    return this.#phase === "recovering";
  }

  /** The last that was cut here, or gone back to. */
  get lastCut(): Epoch {
    return this.#cutEpoch;
  }

  /** In words; null while nothing is awaited. */
  waitingFor(): string | null {
    const recovery = this.#coordination?.recoveryWaitsFor ?? null;
    if (recovery !== null) return recovery;
    if (this.#muted) return "sources stand still: too many checkpoints in a row have failed";
    const collecting = this.#coordination?.checkpointWaitsFor ?? null;
    if (collecting !== null) return collecting;
    const cut = this.#cut;
    if (cut === null || this.#now() - cut.sinceMs < SLOW_CHECKPOINT_MS) return null;
    if (cut.durable === null) return `checkpoint ${cut.epoch} is being written`;
    return `checkpoint ${cut.epoch} waits for the word of ${[...cut.votesMissing].join(", ")}`;
  }

  /** The initializer's: these have come to phase III, and the cluster has to go through a recovery before they work. */
  ready(workers: readonly WorkerName[]): void {
    this.#coordination?.beginRecovery(`${workers.join(", ")} ${workers.length === 1 ? "has" : "have"} started`);
  }

  /** The control connection to this worker is gone. */
  peerLost(worker: WorkerName): void {
    this.#coordination?.peerLost(worker);
  }

  /** Takes one now; `answer` gets its epoch, or 0 and why not. */
  ask(answer: (epoch: Epoch, reason: string) => void): void {
    if (this.#answers.size >= ASKING_MAX) return answer(0, `${ASKING_MAX} others wait for one already`);
    const request = ++this.#requests;
    this.#answers.set(request, answer);
    if (this.#coordination !== null) this.#coordination.asked(request);
    else this.#options.send(INITIALIZER, { kind: "checkpoint_asked", request });
  }

  /** Begins a new file of the event log, with a checkpoint that is taken for it, or the next one that succeeds. */
  rotate(): void {
    const { hooks, log } = this.#options;
    if (this.#state === null) {
      return log.warn(
        "rotation_refused",
        "Cannot rotate the event log: this worker is not ready yet; ask again when it is",
      );
    }
    if (!this.#state.rotate()) {
      return log.info("rotation_ongoing", "Event log rotation already ongoing. Rotate log request ignored.");
    }
    log.info("rotation_started", "Starting event log rotation.");
    hooks.reached("rotation.asked");
    this.ask((epoch, reason) => {
      if (epoch !== 0) return;
      log.warn(
        "rotation_waits",
        `The new file of the event log comes with the next checkpoint: none was taken: ${reason}`,
      );
    });
  }

  /** No more checkpoints but those that are asked for: the cluster stops. */
  stopping(): void {
    this.#coordination?.stopping();
  }

  /** No record was ever taken in, by this process or one before it. */
  get hasNothing(): boolean {
    return !this.#everRan && !this.#options.restarted;
  }

  /** The last checkpoint that this worker knows to exist; 0: none. */
  get lastComplete(): Epoch {
    return this.#lastComplete;
  }

  /** The last checkpoint that sinks were told of; 0: none since the last recovery. */
  get committed(): Epoch {
    return this.#committed;
  }

  voted(sink: string, epoch: Epoch, vote: Vote): void {
    const cut = this.#cut;
    if (cut === null || cut.epoch !== epoch || !cut.votesMissing.delete(sink)) return;
    this.#options.hooks.reached("cut.voted");
    if (vote.kind === "commit") return this.#storedIfDone();
    this.#cut = null;
    this.#tell({
      kind: "checkpoint_failed",
      generation: this.#generation,
      epoch,
      reason: `${sink}: ${vote.reason}`,
      rollBack: vote.rollBack ?? true,
    });
  }

  /** What a sink gave out since the last checkpoint is lost to it. */
  rollBackWanted(reason: string): void {
    if (this.#phase === "running") this.#tell({ kind: "roll_back_wanted", generation: this.#generation, reason });
  }

  received(from: WorkerName, message: CheckpointMessage): void {
    if ("generation" in message && message.kind !== "recover" && message.generation !== this.#generation) return;
    switch (message.kind) {
      // Of an epoch that an earlier process of this name has taken part in, this one knows nothing before it has restored.
      case "checkpoint_begin":
        if (this.#phase === "running") this.#align(this.#aligner.begin(message.epoch));
        return;
      case "checkpoint_abort":
        if (this.#phase === "running") this.#abort(message.epoch, message.reason, message.failures);
        return;
      case "checkpoint_complete":
        if (this.#phase === "running") this.#completed(message.epoch);
        return;
      case "checkpoint_answered":
        return this.#answer(message.request, message.epoch, message.reason);
      case "recover":
        return this.#recover(message.generation, message.reason);
      case "restore":
        return this.#restore(message.generation, message.epoch, message.empty);
      case "recovered":
        return this.#recovered(message.generation, message.epoch);
      case "recovery_refused":
        return this.#options.fail(new ResilienceError(message.code, `Cannot recover: ${message.sentence}`));
      case "checkpoint_asked":
        return this.#askedBy(from, message.request);
      case "checkpoint_stored":
      case "checkpoint_failed":
      case "roll_back_wanted":
      case "recovery_facts":
      case "restored":
        return this.#coordination?.received(from, message);
      default:
        return unreachable(message);
    }
  }

  /** Nothing is written any more when it resolves. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#coordination?.close();
    this.#cut = null;
    await this.#files;
    await this.#coordination?.recorded;
    await this.#state?.close();
  }

  #now(): Millis {
    return this.#options.runtime.clock.monotonicMs();
  }

  get #generation(): Generation {
    return this.#options.generation();
  }

  /** To the initializer, which may be this worker. */
  #tell(message: CheckpointMessage): void {
    if (this.#options.name === INITIALIZER) this.received(INITIALIZER, message);
    else this.#options.send(INITIALIZER, message);
  }

  #align(effects: readonly AlignerEffect[]): void {
    const { shell, sendBarrier } = this.#options;
    const { reached } = this.#options.hooks;
    for (const effect of effects) {
      reached(`align.${effect.kind}.before`);
      switch (effect.kind) {
        case "inject":
          this.#aligningSinceMs = this.#now();
          shell.standStill(true);
          break;
        case "send_barrier":
          sendBarrier(effect.to, effect.exchange, effect.epoch);
          break;
        case "aligned":
          this.#takeCut(effect.epoch);
          break;
        case "released":
          this.#goOn();
          break;
        default:
          unreachable(effect);
      }
      reached(`align.${effect.kind}.after`);
    }
  }

  /** Nothing more is taken in by this worker's sources. */
  standStillForGood(): void {
    this.#leaving = true;
    this.#goOn();
  }

  #goOn(): void {
    this.#options.shell.standStill(
      this.#leaving || this.#muted || this.#phase === "recovering" || this.#aligner.aligning !== 0,
    );
  }

  #takeCut(epoch: Epoch): void {
    const { hooks, shell } = this.#options;
    const votesMissing = new Set(shell.voters);
    const sinceMs = this.#now();
    const alignMs = sinceMs - this.#aligningSinceMs;
    const cut: Cut = {
      epoch,
      positions: { sources: {}, sinks: {}, deadLetters: 0 },
      votesMissing,
      alignMs,
      sinceMs,
      durable: null,
    };
    // Before the sinks prepare: one that has nothing to do votes at once.
    this.#cut = cut;
    this.#cutEpoch = epoch;
    cut.positions = shell.cut(epoch);
    hooks.reached("cut.positions_taken");
    this.#state!.freeze(epoch);
    hooks.reached("cut.frozen");
    this.#goOn();
    this.#write(cut);
  }

  #write(cut: Cut): void {
    const { clock } = this.#options.runtime;
    if (this.#cut !== cut || this.#closed) return;
    const isWritten = this.#state!.slice(SLICE_MS);
    this.#options.hooks.reached("cut.slice_written");
    if (!isWritten) {
      clock.soon(() => this.#options.turn(() => this.#write(cut)));
      return;
    }
    const generation = this.#generation;
    this.#inOrder(
      async () => {
        if (this.#cut !== cut) return;
        const durable = await this.#state!.end(cut.epoch, generation, { ...cut.positions });
        this.#options.turn(() => {
          this.#options.hooks.reached("cut.durable");
          cut.durable = durable;
          this.#lastCut = { alignMs: cut.alignMs, writeMs: this.#now() - cut.sinceMs, ...durable };
          this.#storedIfDone();
        });
      },
      (error) => {
        if (this.#cut !== cut) return;
        this.#cut = null;
        const reason = error instanceof Error ? error.message : String(error);
        if (error instanceof StorageError && error.code !== "disk_full") return this.#options.fail(error);
        this.#tell({ kind: "checkpoint_failed", generation, epoch: cut.epoch, reason, rollBack: false });
      },
    );
  }

  #storedIfDone(): void {
    const cut = this.#cut;
    if (cut === null || cut.durable === null || cut.votesMissing.size > 0) return;
    this.#cut = null;
    this.#options.hooks.reached("cut.stored");
    this.#tell({ kind: "checkpoint_stored", generation: this.#generation, epoch: cut.epoch, ...cut.durable });
  }

  #abort(epoch: Epoch, reason: string, failures: number): void {
    const { log, settings, shell } = this.#options;
    this.#aborted++;
    log.warn("checkpoint_aborted", `Checkpoint ${epoch} is aborted (${failures} in a row): ${reason}`);
    if (this.#cut?.epoch === epoch) this.#cut = null;
    shell.abort(epoch);
    if (failures >= settings.failuresMax && !this.#muted) {
      this.#muted = true;
      log.error(
        "checkpoints_failing",
        `Sources stand still until a checkpoint succeeds: ${failures} in a row have failed, the last one because of this: ${reason}`,
      );
    }
    this.#align(this.#aligner.abort(epoch));
    this.#goOn();
  }

  #completed(epoch: Epoch): void {
    this.#lastComplete = epoch;
    this.#lastCompleteMs = this.#now();
    if (this.#muted) this.#options.log.info("checkpoints_work", `Checkpoint ${epoch} succeeded: sources go on`);
    this.#muted = false;
    this.#goOn();
    this.#options.shell.commit(epoch);
    this.#committed = epoch;
    this.#options.letters.completed(epoch);
    this.#options.hooks.reached("commit.sinks_told");
    this.#state!.completed(epoch);
    this.#options.hooks.reached("commit.old_files_retired");
  }

  #recover(generation: Generation, reason: string): void {
    const { hooks, log, restarted, shell, enterGeneration, openState } = this.#options;
    if (generation < this.#generation) return;
    const isFirstStart = !restarted && !this.#everRan;
    this.#standStill(reason);
    if (!isFirstStart)
      log.info(
        "recovery_started",
        `|~~ - Starting recovery for crash recovery - ~~| generation ${generation}: ${reason}`,
      );
    enterGeneration(generation, () => {});
    this.#askedGeneration = generation;
    shell.startOver();
    hooks.reached("recovery.stands_still");
    this.#inOrder(async () => {
      this.#state ??= await openState();
      const { epochs, written, torn } = this.#state.facts();
      const unreadable =
        torn === null ? "" : `${torn.path} cannot be read from offset ${torn.offset} on: ${torn.why}`.slice(-SAID_MAX);
      this.#options.turn(() => {
        hooks.reached("recovery.facts_known");
        if (this.#generation !== generation) return;
        this.#tell({ kind: "recovery_facts", generation, epochs, written, unreadable });
      });
    });
  }

  /** X3. */
  #standStill(reason: string): void {
    if (this.#phase === "running") this.#stillSinceMs = this.#now();
    this.#phase = "recovering";
    this.#restored = 0;
    this.#committed = 0;
    this.#recoveringWhy = reason;
    this.#muted = false;
    this.#cut = null;
    this.#aligner = new Aligner(this.#options.plan.exchanges, this.#peers, 0);
    this.#options.shell.standStill(true);
    this.#options.letters.standStill();
    // Their initializer may be another process by now. Those of the initializer itself are answered by its coordination.
    if (this.#coordination !== null) return;
    for (const answer of this.#answers.values()) answer(0, "the cluster recovers");
    this.#answers.clear();
  }

  #restore(generation: Generation, epoch: Epoch, empty: boolean): void {
    const { hooks, log, restarted, shell, turn } = this.#options;
    // Meant for an earlier process of this name, which was in this generation, said what it has, and died: a recovery for this one
    // follows.
    if (generation !== this.#askedGeneration) return;
    if (restarted || this.#everRan) log.info("rolling_back", `RESILIENCE: Rolling back to checkpoint ${epoch}`);
    this.#restoringSinceMs = this.#now();
    if (empty && epoch > 0)
      log.error("state_lost", `This worker's files of checkpoint ${epoch} are lost: it starts empty, as was accepted`);
    this.#inOrder(async () => {
      if (this.#generation !== generation) return;
      const dataflow = shell.startOver();
      const state = this.#state!;
      const { body, entries } = await state.restore(empty ? 0 : epoch, dataflow);
      turn(() => {
        if (this.#generation !== generation) return;
        state.attach(dataflow);
        this.#aligner = new Aligner(this.#options.plan.exchanges, this.#peers, epoch);
        this.#lastComplete = epoch;
        this.#lastCompleteMs = this.#now();
        hooks.reached("recovery.state_read");
        shell.goBack(epoch, positionsOf(body), restarted && !this.#everRan);
        hooks.reached("recovery.gone_back");
        if (restarted || entries > 0)
          log.info("replayed", `RESILIENCE: Replayed ${entries} entries from recovery log file.`);
        this.#restored = generation;
        this.#restoredAtMs = this.#now();
        this.#entries = entries;
        this.#tell({ kind: "restored", generation, entries });
      });
    });
  }

  #recovered(generation: Generation, epoch: Epoch): void {
    const { log } = this.#options;
    // It may be meant for an earlier process of this name, which has restored and died.
    if (this.#phase !== "recovering" || this.#restored !== generation) return;
    this.#phase = "running";
    this.#lastRecovery = {
      epoch,
      entries: this.#entries,
      gatherMs: this.#restoringSinceMs - this.#stillSinceMs,
      restoreMs: this.#restoredAtMs - this.#restoringSinceMs,
      waitMs: this.#now() - this.#restoredAtMs,
      reason: this.#recoveringWhy,
      role: this.#everRan ? "survivor" : this.#options.restarted ? "returned" : "started",
      endedMs: this.#now(),
    };
    if (this.#options.restarted || this.#everRan) {
      log.info("recovery_complete", `|~~ - Recovery COMPLETE - ~~| at checkpoint ${epoch}`);
      log.info("resuming", "~~~Resuming message processing.~~~");
    }
    this.#everRan = true;
    this.#cutEpoch = epoch;
    this.#goOn();
    this.#options.letters.recovered(epoch);
  }

  /** X4. An error that nobody handles ends the worker. */
  #inOrder(work: () => Promise<void>, failed?: (error: unknown) => void): void {
    this.#files = this.#files.then(async () => {
      try {
        await work();
      } catch (error) {
        this.#options.turn(() => {
          if (failed !== undefined) return failed(error);
          const known = error instanceof TammarError ? error : null;
          this.#options.fail(
            known ?? new StorageError("state_failed", `Cannot use the saved state: ${String(error)}`, { cause: error }),
          );
        });
      }
    });
  }

  #answer(request: number, epoch: Epoch, reason: string): void {
    const answer = this.#answers.get(request);
    this.#answers.delete(request);
    answer?.(epoch, reason);
  }

  #askedBy(from: WorkerName, request: number): void {
    this.ask((epoch, reason) => {
      const answered: ControlMessage = { kind: "checkpoint_answered", request, epoch, reason };
      if (from === this.#options.name) this.received(from, answered as CheckpointMessage);
      else this.#options.send(from, answered);
    });
  }

  #to(worker: WorkerName, message: CheckpointMessage): void {
    if (worker === this.#options.name) this.received(worker, message);
    else this.#options.send(worker, message);
  }
}

/** What `end` was given, as it comes back. */
function positionsOf(body: unknown): Positions | null {
  if (body === null) return null;
  const { sources, sinks, deadLetters } = body as Partial<Positions>;
  assert(
    typeof sources === "object" && typeof sinks === "object",
    "a checkpoint's positions are those that were saved",
  );
  return { sources: sources ?? {}, sinks: sinks ?? {}, deadLetters: deadLetters ?? 0 };
}
