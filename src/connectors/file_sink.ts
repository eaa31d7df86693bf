/**
 * The connector of a file sink: what it is given goes to a file that is not visible, and becomes visible with the checkpoint
 * that covers it. Without checkpoints it becomes visible every few seconds, every few megabytes, and at the end.
 *
 *   idle ──start──▶ opening ──rollBack──▶ ready ──close──▶ closed
 *
 * Two things go on side by side: records are written to the open segment; segments that were cut off are settled (prepared,
 * committed, aborted), one step at a time, in the order of epochs.
 *
 *   S1. `prepare` cuts at what was written by then; the vote comes when all of it is durable under a name of the epoch.
 *   S2. What is prepared depends on what is visible, so nothing is prepared while an epoch before it is undecided.
 *   S3. A disk that can't take more costs a checkpoint, never output: what was not written waits here, the sink is blocked
 *       above `queueBytesMax`, and it is tried again every second.
 *   S4. A sync that failed is not tried again: the vote says that only a rollback helps, until it comes.
 *   S5. What was told to become visible is tried until it is.
 */

import { absolutePath } from "../base/absolute_path.ts";
import { assert, unreachable } from "../base/assert.ts";
import { EnvironmentError, StorageError, TammarError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { DiskError, type Millis, type Runtime } from "../runtime/runtime.ts";
import type { ConnectorStatus, SinkConnector, SinkTransactions, Vote } from "./connector.ts";
import type { OutputRecords } from "./output_queue.ts";
import { PartFolder, SyncFailed } from "./part_folder.ts";
import { type PartPlan, planParts, type VisibleFile } from "./part_plan.ts";
import { type PartPosition, readPartPosition } from "./part_position.ts";
import { PartSegment } from "./part_segment.ts";

/** A disk that failed is tried again so much later. */
const RETRY_MS: Millis = 1_000;
/** Without checkpoints: output is visible so much later than written, or once there is so much of it. */
const VISIBLE_MS: Millis = 10_000;
const VISIBLE_BYTES = 64 << 20;
/** The epoch of output without checkpoints. */
const NO_EPOCH: Epoch = 0;

export interface FileSinkOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  readonly worker: string;
  /** For people: the operator id of the sink. */
  readonly name: string;
  /** May be relative to the working folder. */
  readonly directory: string;
  readonly extension: string;
  /** Above this it is blocked, at half of it free again. */
  readonly queueBytesMax: number;
  readonly checkpoints: boolean;
  /** Wraps every completion. An error thrown inside ends the worker. */
  readonly turn: (run: () => void) => void;
  /** Its `blocked` changed, or it became ready for the first time, or it finished. */
  readonly changed: () => void;
  readonly voted: (epoch: Epoch, vote: Vote) => void;
}

/** An epoch that was cut and is not over. */
interface Cut {
  readonly epoch: Epoch;
  /** The last segment that belongs to it. */
  readonly last: PartSegment;
  /** Null: an epoch before it is undecided (S2). */
  plan: PartPlan | null;
  /** `failed`: the vote was no, and nothing is prepared. */
  phase: "prepared" | "preparing" | "failed" | "waiting";
  verdict: "abort" | "commit" | null;
}

/** Where the folder goes back to. */
interface Restore {
  readonly epoch: Epoch;
  readonly position: PartPosition | null | "unchecked";
}

type State = "closed" | "idle" | "opening" | "ready";

export class FileSinkConnector implements SinkConnector {
  readonly name: string;
  readonly transactions?: SinkTransactions;
  readonly #options: FileSinkOptions;
  readonly #folder: PartFolder;
  #state: State = "idle";
  /** To where the folder goes back before anything else happens. */
  #restore: Restore | null = null;
  /** What is not visible, in order; the last one takes what is written. */
  #segments: PartSegment[] = [new PartSegment()];
  /** What a rollback has taken back; their files may still be open. */
  readonly #dropped: PartSegment[] = [];
  /** Epochs that are not over, in order. */
  #cuts: Cut[] = [];
  /** The last visible file that this process made: the next output may be joined to it. */
  #last: VisibleFile | null = null;
  /** Of the next visible file, without checkpoints. */
  #nextNumber = 0;
  #writing = false;
  #settling = false;
  /** The disk can't take more, and why. */
  #failing: string | null = null;
  #failingSaid = false;
  /** It was the last try to make something visible that failed. */
  #commitFailed = false;
  #spoiled = false;
  #cancelRetry: () => void = () => {};
  #cancelVisible: () => void = () => {};
  #visibleTimer = false;
  #blocked = false;
  #blockedSinceMs: Millis | null = null;
  #ending = false;
  #closing: (() => void) | null = null;
  everConnected = false;
  finished = false;
  visibleBytes = 0;
  visibleFiles = 0;

  constructor(options: FileSinkOptions) {
    const { runtime, directory, log, worker } = options;
    this.#options = options;
    this.name = options.name;
    this.#folder = new PartFolder({
      disk: runtime.disk,
      random: runtime.random,
      log,
      directory: absolutePath(directory, runtime.host.workingDir),
      worker,
    });
    if (!options.checkpoints) return;
    const isSettled = () => this.#restore === null && this.#cuts.every((cut) => cut.verdict !== "commit");
    this.transactions = {
      get settled() {
        return isSettled();
      },
      prepare: (epoch) => this.#prepare(epoch),
      snapshot: () => this.#snapshot(),
      commit: (epoch) => this.#decide(epoch, "commit"),
      abort: (epoch) => this.#decide(epoch, "abort"),
      rollBack: (epoch, position) => this.#rollBack(epoch, position === null ? null : readPartPosition(position)),
    };
  }

  get blocked(): boolean {
    return this.#blocked;
  }
  get blockedSinceMs(): Millis | null {
    return this.#blockedSinceMs;
  }
  get connected(): boolean {
    return this.everConnected && this.#state !== "closed" && this.#failing === null;
  }
  get target(): string {
    return this.#folder.directory;
  }
  get queuedBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.queue.bytes, 0);
  }
  countQueuedRecords(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.queue.countRecords(), 0);
  }

  status(): ConnectorStatus {
    return {
      kind: "file",
      phase: this.#restore === null ? this.#state : "restoring",
      visible_bytes: this.visibleBytes,
      visible_files: this.visibleFiles,
      hidden_bytes: this.#segments.reduce((sum, segment) => sum + segment.bytes, 0),
      last_file: this.#last?.name ?? "",
      failing: this.#failing ?? "",
    };
  }

  start(): void {
    if (this.#state !== "idle") return;
    this.#state = "opening";
    // With checkpoints it is not known before `rollBack` what may be visible.
    if (!this.#options.checkpoints) this.#restore = { epoch: NO_EPOCH, position: "unchecked" };
    this.#advance();
  }

  write(records: OutputRecords): void {
    if (records.bytes.length === 0) return;
    this.#open.push(records);
    if (!this.#options.checkpoints) this.#showSoon();
    this.#judge();
  }

  /** At the end of a turn. */
  flush(): void {
    this.#advance();
  }

  end(): void {
    this.#ending = true;
    if (!this.#options.checkpoints) this.#show();
    this.#advance();
  }

  /** Without checkpoints, what was written becomes visible first, if that takes no longer than `graceMs`. */
  async close(graceMs: Millis): Promise<void> {
    if (this.#state === "closed") return;
    if (!this.#options.checkpoints && this.#state === "ready") this.#show();
    this.#advance();
    if (!this.#isQuiet()) {
      await new Promise<void>((resolve) => {
        const cancel = this.#options.runtime.clock.startTimer(graceMs, resolve);
        this.#closing = () => {
          cancel();
          resolve();
        };
      });
    }
    this.#state = "closed";
    this.#cancelRetry();
    this.#cancelVisible();
    for (const segment of this.#segments) await ignored(this.#folder.closeFile(segment));
    await ignored(this.#folder.close());
  }

  get #open(): PartSegment {
    return this.#segments.at(-1)!;
  }

  // Epochs.

  #prepare(epoch: Epoch): void {
    assert(
      this.#cuts.every((cut) => cut.epoch < epoch),
      "epochs come in order",
    );
    const cut: Cut = { epoch, last: this.#open, plan: null, phase: "waiting", verdict: null };
    if (this.#cuts.length === 0) cut.plan = this.#plan(cut);
    this.#cuts.push(cut);
    this.#segments.push(new PartSegment());
    this.#advance();
  }

  #plan({ epoch, last }: Cut): PartPlan {
    const segments = this.#segments.slice(0, this.#segments.indexOf(last) + 1);
    const { worker, extension, checkpoints } = this.#options;
    const firstNumber = checkpoints ? 0 : this.#nextNumber;
    return planParts(epoch, segments, this.#last, { worker, extension, firstNumber });
  }

  #snapshot(): PartPosition {
    return { version: 1, folder: this.#folder.id, parts: this.#cuts.at(-1)?.plan?.results ?? null };
  }

  #decide(epoch: Epoch, verdict: "abort" | "commit"): void {
    const cut = this.#cuts.find((candidate) => candidate.epoch === epoch);
    if (cut === undefined || cut.verdict !== null) return;
    // An epoch that this sink has not voted for can't exist.
    assert(verdict === "abort" || cut.phase === "prepared", "a commit without a vote");
    cut.verdict = verdict;
    this.#advance();
  }

  #rollBack(epoch: Epoch, position: PartPosition | null): void {
    // Their files are removed by the restore, which has to wait for whoever uses them at this moment.
    this.#dropped.push(...this.#segments);
    this.#segments = [new PartSegment()];
    this.#cuts = [];
    this.#last = null;
    this.#spoiled = false;
    this.#ending = false;
    this.#restore = { epoch, position };
    if (this.#state === "idle") this.#state = "opening";
    this.#judge();
    this.#advance();
  }

  // Without checkpoints, an epoch is made up whenever something is to become visible.

  #showSoon(): void {
    if (this.#open.bytes >= VISIBLE_BYTES) return this.#show();
    if (this.#visibleTimer) return;
    this.#visibleTimer = true;
    const { runtime, turn } = this.#options;
    this.#cancelVisible = runtime.clock.startTimer(VISIBLE_MS, () =>
      turn(() => {
        this.#visibleTimer = false;
        this.#show();
      }),
    );
  }

  #show(): void {
    // One at a time; what comes meanwhile is shown with the next one.
    if (this.#cuts.length > 0 || this.#open.bytes === 0) return;
    this.#cancelVisible();
    this.#visibleTimer = false;
    this.#cuts.push({ epoch: NO_EPOCH, last: this.#open, plan: null, phase: "waiting", verdict: "commit" });
    this.#segments.push(new PartSegment());
    this.#advance();
  }

  // Disk work: at most one piece of writing and one of settling at a time.

  #advance(): void {
    if (this.#state === "idle" || this.#state === "closed") return;
    if (this.#restore !== null) {
      if (!this.#writing && !this.#settling) this.#startRestore(this.#restore);
    } else if (this.#state === "opening") {
      if (!this.everConnected && !this.#settling) this.#startOpen();
    } else if (this.#state === "ready") {
      this.#write();
      this.#settle();
    }
    this.#judge();
    if (this.#closing !== null && this.#isQuiet()) this.#closing();
  }

  #isQuiet(): boolean {
    if (this.#writing || this.#settling) return false;
    if (this.#state !== "ready" || this.#failing !== null) return true;
    // What waits for a verdict waits for others.
    return this.queuedBytes === 0 && this.#cuts.every((cut) => cut.verdict === null && cut.phase !== "waiting");
  }

  #startOpen(): void {
    this.#settling = true;
    const opened = (): void => {
      this.#settling = false;
      this.#opened();
    };
    this.#whenDone(this.#folder.open(), opened, (error) => {
      throw error;
    });
  }

  #opened(): void {
    if (this.everConnected) return;
    this.everConnected = true;
    this.#options.log.info("sink_folder_open", `${this.name} writes files to ${this.target}`);
    this.#options.changed();
  }

  #startRestore(restore: Restore): void {
    this.#settling = true;
    const before = this.#dropped.splice(0);
    const run = async (): Promise<number> => {
      for (const segment of before) await ignored(this.#folder.closeFile(segment));
      return await this.#folder.restore(restore.epoch, restore.position);
    };
    const failed = (error: unknown): void => {
      throw this.#state === "ready" && error instanceof EnvironmentError ? this.#storageError(error) : error;
    };
    const done = (nextNumber: number): void => {
      this.#settling = false;
      // Another one came meanwhile.
      if (this.#restore !== restore) return;
      this.#restore = null;
      this.#nextNumber = nextNumber;
      this.#state = "ready";
      this.#opened();
    };
    this.#whenDone(run(), done, failed);
  }

  #write(): void {
    if (this.#writing || this.#failing !== null) return;
    const segment = this.#segments.find((candidate) => candidate.queue.bytes > 0);
    if (segment === undefined) return;
    const bytes = segment.queue.next()!;
    this.#writing = true;
    const run = async (): Promise<void> => {
      if (segment.file === null) await this.#folder.create(segment);
      await this.#folder.append(segment, bytes);
    };
    this.#whenDone(
      run(),
      () => {
        this.#writing = false;
        segment.queue.taken(bytes.length);
        segment.written += bytes.length;
        this.#works();
      },
      (error) => {
        this.#writing = false;
        this.#failed("write", error);
      },
    );
  }

  /** The first epoch that can go on does its next step. */
  #settle(): void {
    if (this.#settling) return;
    const cut = this.#cuts[0];
    if (cut === undefined) return;
    switch (cut.phase) {
      case "waiting":
        return this.#startPrepare(cut);
      case "preparing":
        return;
      case "prepared":
        if (cut.verdict === "commit") {
          if (!this.#commitFailed) this.#startCommit(cut.plan!);
        } else if (cut.verdict === "abort") this.#startAbort(cut.plan!);
        return;
      case "failed":
        if (cut.plan !== null) return this.#startAbort(cut.plan);
        // Without checkpoints it is tried again.
        if (!this.#options.checkpoints) {
          if (this.#failing === null) cut.phase = "waiting";
        } else if (cut.verdict !== null) {
          this.#cuts.shift();
          this.#dropEmpty();
        }
        if (this.#cuts[0] !== cut || cut.phase === "waiting") this.#settle();
        return;
      default:
        return unreachable(cut.phase);
    }
  }

  #startPrepare(cut: Cut): void {
    if (cut.verdict === "abort") {
      this.#cuts.shift();
      this.#dropEmpty();
      return this.#settle();
    }
    cut.plan ??= this.#plan(cut);
    const { plan } = cut;
    if (this.#spoiled) return this.#refuse(cut, "a sync of its files has failed before", true);
    if (!plan.segments.every((segment) => segment.isWritten)) {
      if (this.#failing !== null) this.#refuse(cut, this.#failing, false);
      return;
    }
    cut.phase = "preparing";
    this.#settling = true;
    this.#whenDone(
      this.#folder.prepare(plan),
      () => {
        this.#settling = false;
        cut.phase = "prepared";
        if (this.#options.checkpoints && this.#cuts[0] === cut && cut.verdict === null) {
          this.#options.voted(cut.epoch, { kind: "commit" });
        }
      },
      (error) => {
        this.#settling = false;
        // A longer file may be more than there is room for, or the one before was changed: the next one stands alone.
        if (plan.join !== null) this.#last = null;
        if (!(error instanceof SyncFailed)) refuseBug(error);
        if (error instanceof SyncFailed) this.#spoiled = true;
        // With checkpoints a rollback makes up for it.
        if (this.#spoiled && !this.#options.checkpoints) throw this.#storageError(error);
        if (!this.#options.checkpoints) this.#failed("sync", error);
        this.#refuse(cut, reason(error), this.#spoiled);
      },
    );
  }

  /** Votes against an epoch. */
  #refuse(cut: Cut, why: string, rollBack: boolean): void {
    cut.phase = "failed";
    if (!this.#options.checkpoints || !this.#cuts.includes(cut) || cut.verdict !== null) return;
    const { runtime, turn, voted } = this.#options;
    // Never inside of `prepare`: who called it is not through with it.
    runtime.clock.soon(() =>
      turn(() => {
        if (this.#cuts.includes(cut)) voted(cut.epoch, { kind: "abort", reason: `${this.target}: ${why}`, rollBack });
      }),
    );
  }

  #startCommit(plan: PartPlan): void {
    this.#settling = true;
    this.#whenDone(
      this.#folder.commit(plan),
      () => {
        this.#settling = false;
        this.#works();
        if (this.#cuts[0]?.plan !== plan) return;
        this.#cuts.shift();
        this.#shown(plan);
        // What was written meanwhile, without checkpoints.
        if (!this.#options.checkpoints && this.#open.bytes > 0) {
          if (this.#ending || this.#closing !== null) this.#show();
          else this.#showSoon();
        }
      },
      (error) => {
        this.#settling = false;
        this.#commitFailed = true;
        this.#failed("make visible", error);
      },
    );
  }

  #shown(plan: PartPlan): void {
    const { results, segments, join } = plan;
    this.#segments = this.#segments.filter((segment) => !segments.includes(segment));
    this.#dropEmpty();
    if (results.length === 0) return;
    this.#last = results.at(-1)!;
    this.visibleBytes += segments.reduce((sum, segment) => sum + segment.bytes, 0);
    if (join !== null) return;
    this.visibleFiles += results.length;
    this.#nextNumber += results.length;
  }

  /** Segments that were cut off without anything in them. */
  #dropEmpty(): void {
    const wanted = new Set([this.#open, ...this.#cuts.map((cut) => cut.last)]);
    this.#segments = this.#segments.filter((segment) => segment.bytes > 0 || wanted.has(segment));
  }

  #startAbort(plan: PartPlan): void {
    this.#settling = true;
    const over = (): void => {
      this.#settling = false;
      const cut = this.#cuts[0];
      if (cut?.plan !== plan) return;
      if (cut.phase === "failed") cut.plan = null;
      else this.#cuts.shift();
      this.#dropEmpty();
    };
    // What could not be removed means nothing any more, and is removed by the next start.
    this.#whenDone(this.#folder.abort(plan), over, over);
  }

  /** One completion, one turn. */
  #whenDone<T>(work: Promise<T>, done: (value: T) => void, failed: (error: unknown) => void): void {
    const { turn } = this.#options;
    work.then(
      (value) =>
        turn(() => {
          done(value);
          this.#advance();
        }),
      (error: unknown) =>
        turn(() => {
          if (this.#state === "closed") return;
          failed(error);
          this.#advance();
        }),
    );
  }

  // Trouble.

  #failed(what: string, error: unknown): void {
    refuseBug(error);
    const { log, runtime, turn, changed } = this.#options;
    const why = reason(error);
    this.#failing = why;
    if (!this.#failingSaid) {
      this.#failingSaid = true;
      log.error(
        "sink_files_failing",
        `${this.name} can't ${what} its files in ${this.target}: ${why}; it tries again every second`,
      );
    }
    this.#cancelRetry();
    this.#cancelRetry = runtime.clock.startTimer(RETRY_MS, () =>
      turn(() => {
        this.#failing = null;
        this.#commitFailed = false;
        this.#advance();
      }),
    );
    changed();
  }

  /** What failed before has worked. */
  #works(): void {
    if (!this.#failingSaid || this.#failing !== null) return;
    this.#failingSaid = false;
    this.#options.log.info("sink_files_work", `${this.name} can write to its files in ${this.target} again`);
    this.#options.changed();
  }

  #storageError(error: unknown): StorageError {
    const message = `Cannot keep output in ${this.target}: ${reason(error)}; start again`;
    return new StorageError("output_failed", message, { cause: error });
  }

  #judge(): void {
    const queued = this.queuedBytes;
    if (this.#ending && !this.finished && queued === 0 && this.#state === "ready" && this.#isAllOut()) {
      this.finished = true;
      this.#options.changed();
    }
    const max = this.#options.queueBytesMax;
    const blocked = this.#blocked ? queued > max / 2 : queued > max;
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    this.#blockedSinceMs = blocked ? this.#options.runtime.clock.monotonicMs() : null;
    this.#options.changed();
  }

  /** After `end`: with checkpoints the last one makes it visible, so that being written is enough. */
  #isAllOut(): boolean {
    return this.#options.checkpoints || (this.#cuts.length === 0 && this.#open.bytes === 0);
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What is neither the disk's nor the folder's fault is a bug of ours. */
function refuseBug(error: unknown): void {
  if (!(error instanceof DiskError) && !(error instanceof TammarError)) throw error;
}

/** Closing what is given up anyway. */
async function ignored(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch {
    // Nothing depends on it.
  }
}
