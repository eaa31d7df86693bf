/**
 * Keeps the keyed state of one worker in its log: what changed, at each checkpoint; all of it, back, at a recovery.
 *
 *   attach ──▶ freeze(e) ──▶ slice … slice ──▶ end(e) ──▶ completed(e)
 *     ▲           ▲ │
 *     │           └─┴── a later freeze takes over what an earlier one has not finished
 *     └── restore(e)
 *
 *   K1. Freezing is a matter of microseconds; what is frozen is written in slices, while records go on.
 *   K2. Old states go from the log since, beside what changed, whole key groups are written in turn, changed or not. Once all
 *       of them were, in a *round*, nothing before the round is needed any more. Nothing changed: nothing is written.
 *   K3. A round begins when the log has grown to `1.7 x state + 40 MiB`, and writes four bytes for each byte of changes: so it
 *       ends before the log has more than three times the state and 64 MiB. While what is old is not gone yet, nothing is
 *       written beyond that.
 *   K4. What the log has lost (no space on the disk, a value that can't be stored) is frozen again with the next freeze.
 */
import type { StateCodec } from "../api/graph.ts";
import { assert } from "../base/assert.ts";
import { ResilienceError } from "../base/errors.ts";
import type { Epoch, Generation } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import type { Dataflow } from "../operators/dataflow.ts";
import type { StatefulStage } from "../operators/stage.ts";
import type { Clock, Disk, Millis } from "../runtime/runtime.ts";
import type { ChangeTracker } from "../state/change_tracker.ts";
import { EntryColumns } from "../state/entry_columns.ts";
import { join, STATE_FOLDER } from "../store/folders.ts";
import { readAbout } from "../store/state_log/saved_about.ts";
import type { Entries } from "../store/state_log/segment_format.ts";
import { type LogStage, openStateLog, type StateLog } from "../store/state_log/state_log.ts";
import type { TornTail } from "../store/state_log/survey.ts";
import { ValueError } from "../wire/values.ts";

export interface StateKeeperOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** The worker's folder. */
  readonly folder: string;
  readonly clusterId: string;
  readonly application: string;
  readonly worker: string;
  /** States of stages that the application does not have any more are dropped, not refused. Default false. */
  readonly acceptStateLoss?: boolean;
  /** What the log may grow by, beside multiples of the state, before a round begins. Default 40 MiB. */
  readonly slackBytes?: number;
  /** Default 16 MiB. */
  readonly segmentBytes?: number;
  /** Segments lie in the resilience directory, and none goes while this runs: see `StateLogOptions`. */
  readonly rotates?: boolean;
  /** Of a rotation: the file was made; there is a durable checkpoint in it. */
  readonly onRotation?: (step: "begun" | "durable", path: string) => void;
  /** Of one slice, however much time there is: where time stands still, it must end too. Default 8,192. */
  readonly sliceKeys?: number;
}

/** A round begins at so many times the state. */
const ROUND_AT = 1.7;
/** Bytes of whole key groups for a byte of changes. */
const ROUND_RATE = 4;
const SLACK_BYTES = 40 * 1024 * 1024;
/** Of the bound of the log, beside multiples of the state: what may be written while old segments are on their way out. */
const BOUND_TIMES = 3;
const BOUND_SLACK_BYTES = 20 * 1024 * 1024;
/** Of one record of the log, about: what one look at the clock may cost. */
const BLOCK_BYTES = 32 * 1024;
const BLOCK_ENTRIES = 512;
const SLICE_KEYS = 8_192;
/** Bytes of an entry, until some were written. */
const ENTRY_BYTES_GUESS = 32;
/** Smaller blocks say little about the size of entries. */
const MEASURED_ENTRIES = 16;

interface Kept {
  readonly stage: StatefulStage;
  readonly name: LogStage;
  readonly tracker: ChangeTracker<object>;
  /** In the log, on average. */
  entryBytes: number;
}

/** Which whole groups are written in turn: all groups of the first stage, then of the second, and so on. */
interface Round {
  /** The segment that it began. */
  readonly from: number;
  /** Groups that are written, counted over all stages. */
  readonly written: number;
}

interface Progress {
  /** The first segment that a restore needs. */
  readonly base: number;
  readonly round: Round | null;
  /** Bytes of whole groups that may be written. */
  readonly credit: number;
}

interface Pending {
  readonly epoch: Epoch;
  /** Of each stage. */
  readonly freezes: readonly number[];
  /** Of each stage, at the cut. */
  readonly keyCounts: readonly number[];
  /** When everything is written. */
  readonly progress: Progress;
  /** The stage that is being written; as many as there are: all are. */
  stage: number;
  readonly rewritesAll: boolean;
  failure: Error | null;
}

export class StateKeeper {
  readonly #options: StateKeeperOptions;
  readonly #log: StateLog;
  #dataflow: Dataflow | null = null;
  #stages: Kept[] = [];
  #pending: Pending | null = null;
  readonly #columns = new EntryColumns();
  /** `null`: nothing was written yet. */
  #progress: Progress | null = null;
  /** As it is in the last end of the log. */
  #durableProgress: Progress | null = null;
  /** K4. */
  #lost = false;
  /** Everything is to be written anew: what was restored is not what the log says. */
  #rewriteAll = false;

  /**
   * Looks at all that is in the folder. Nothing is changed before `restore`.
   *
   * @throws {ResilienceError} Damaged, incomplete, of another version or another's. @throws {EnvironmentError}
   */
  static async open(options: StateKeeperOptions): Promise<StateKeeper> {
    return new StateKeeper(options, await openStateLog({ ...options, folder: join(options.folder, STATE_FOLDER) }));
  }

  private constructor(options: StateKeeperOptions, log: StateLog) {
    this.#options = options;
    this.#log = log;
    log.onLost = () => {
      this.#lost = true;
    };
    if (options.onRotation !== undefined) log.onRotation = options.onRotation;
  }

  /** The next checkpoint begins a new segment. False: one that was asked for is still to come. */
  rotate(): boolean {
    return this.#log.rotate();
  }

  /** What can be restored, beside 0; the highest epoch that anything was written of; what a power cut left unfinished. */
  facts(): { readonly epochs: readonly Epoch[]; readonly written: Epoch; readonly torn: TornTail | null } {
    return { epochs: this.#log.ends.map((end) => end.epoch), written: this.#log.written, torn: this.#log.torn };
  }

  /** Of the log's files. */
  get bytes(): number {
    return this.#log.bytes;
  }

  /** The state of this dataflow is kept from now on. What it holds already counts as changed. */
  attach(dataflow: Dataflow): void {
    if (this.#dataflow === dataflow) return;
    this.#dataflow = dataflow;
    this.#pending = null;
    this.#lost = false;
    this.#stages = dataflow.statefulStages().map((stage) => {
      const { codec } = stage;
      const tracker = stage.state.track(
        codec === null ? undefined : (state) => codec.decode(codec.encode(state).slice()),
      );
      if (stage.state.keyCount > 0) tracker.touchAll();
      const name = { id: stage.id, version: stage.stateVersion, codec: codec !== null };
      return { stage, name, tracker, entryBytes: ENTRY_BYTES_GUESS };
    });
  }

  /** The cut: what is there now is what `slice` will write. */
  freeze(epoch: Epoch): void {
    assert(this.#dataflow !== null, "no dataflow was attached");
    if (this.#lost) {
      this.#lost = false;
      this.#progress = this.#durableProgress;
      for (const { tracker } of this.#stages) tracker.unsecure();
    }
    const { groups, ...plan } = this.#planGroups();
    this.#log.begin(epoch, plan.beginsRound);
    const { segment } = this.#log;
    const from = plan.beginsRound ? segment : (this.#progress?.round?.from ?? segment);
    const isComplete = plan.written === this.#groupCount();
    // Of an epoch that was never finished there may be something in segments before this one.
    const before = this.#progress?.base ?? this.#log.oldest;
    const inRound = plan.beginsRound || (this.#progress?.round ?? null) !== null;
    this.#pending = {
      epoch,
      freezes: this.#stages.map(({ tracker }, index) => tracker.freeze(groups[index]!)),
      keyCounts: this.#stages.map(({ stage }) => stage.state.keyCount),
      progress: {
        base: inRound && isComplete ? from : before,
        round: inRound && !isComplete ? { from, written: plan.written } : null,
        credit: inRound && isComplete ? 0 : plan.credit,
      },
      stage: 0,
      rewritesAll: this.#rewriteAll,
      failure: null,
    };
  }

  /**
   * Writes some of what is frozen.
   *
   * @returns Is everything of the epoch handed to the log (or has it failed, as `end` will say)?
   */
  slice(budgetMs: Millis): boolean {
    const pending = this.#pending;
    if (pending === null || pending.failure !== null) return true;
    const isWritten = this.#writeSlice(pending, budgetMs);
    this.#log.flush();
    if (isWritten && pending.failure === null) this.#progress = pending.progress;
    return isWritten;
  }

  #writeSlice(pending: Pending, budgetMs: Millis): boolean {
    const { clock } = this.#options;
    const until = clock.monotonicMs() + budgetMs;
    const columns = this.#columns;
    const sliceKeys = this.#options.sliceKeys ?? SLICE_KEYS;
    const stateBytes = this.#stateBytes();
    let entries = 0;
    for (; pending.stage < this.#stages.length; pending.stage++) {
      const kept = this.#stages[pending.stage]!;
      for (let more = true; more; ) {
        if (
          this.#log.busy ||
          this.#mustWait(stateBytes) ||
          entries >= sliceKeys ||
          (entries > 0 && clock.monotonicMs() >= until)
        )
          return false;
        more = kept.tracker.take(Math.min(blockEntries(kept), sliceKeys), columns);
        entries += columns.total;
        columns.warm();
        this.#writeBlock(kept, pending);
        columns.clear();
        if (pending.failure !== null) return true;
      }
    }
    return true;
  }

  /**
   * Ends an epoch whose slices are all written.
   *
   * @param body What to save with it: plain data for CBOR.
   * @returns When it is durable: bytes of all state as it is in the log, about; bytes that this epoch has written.
   * @throws {StorageError} `disk_full`: this epoch is lost, and the next may succeed. Others: nothing can be kept any more.
   * @throws {ValueError} Some state is no plain data.
   */
  async end(
    epoch: Epoch,
    generation: Generation,
    body: unknown,
  ): Promise<{ readonly stateBytes: number; readonly writtenBytes: number }> {
    const pending = this.#pending;
    assert(pending?.epoch === epoch, `epoch ${epoch} ends, which was not frozen last`);
    this.#pending = null;
    if (pending.failure !== null) throw pending.failure;
    assert(pending.stage === this.#stages.length, `epoch ${epoch} ends before all of it was written`);
    const stages = this.#stages;
    const { progress } = pending;
    const stateBytes = this.#stateBytes();
    const ended = this.#log.end(generation, progress.base, this.#about(pending), body);
    const writtenBytes = this.#log.epochBytes;
    await ended;
    stages.forEach(({ tracker }, index) => {
      tracker.secured(pending.freezes[index]!);
    });
    this.#durableProgress = progress;
    if (pending.rewritesAll) this.#rewriteAll = false;
    return { stateBytes, writtenBytes };
  }

  /**
   * Fills a fresh dataflow with the state of an epoch, and takes everything after it out of the log. 0: the empty state.
   *
   * @returns What was given to `end`, and how many keys have state.
   * @throws {ResilienceError} No such epoch, unreadable, of stages or state versions that the application does not know.
   */
  async restore(epoch: Epoch, dataflow: Dataflow): Promise<{ readonly body: unknown; readonly entries: number }> {
    this.attach(dataflow);
    const stages = new Map(this.#stages.map((kept) => [kept.name.id, kept]));
    this.#progress = null;
    let isAsSaved = true;
    const stageOf = (of: LogStage): Kept | null => {
      const kept = stages.get(of.id);
      if (kept === undefined) {
        if (this.#options.acceptStateLoss !== true) throw unknownStage(of, [...stages.keys()]);
        isAsSaved = false;
        return null;
      }
      if (of.version !== kept.name.version) {
        if (kept.stage.migrate === null) throw otherVersion(of, kept);
        isAsSaved = false;
      }
      return kept;
    };
    const body = await this.#log.restore(epoch, {
      about: (about) => {
        this.#progress = this.#readAbout(about);
      },
      entries: (of, entries) => {
        const kept = stageOf(of);
        if (kept === null) return;
        const { hashes, keys, count } = entries;
        kept.stage.state.load(hashes, keys, valuesOf(of, kept, entries), count);
      },
      removed: (of, { hashes, keys, count }) => stageOf(of)?.stage.state.loadRemoved(hashes, keys, count),
    });
    this.#durableProgress = this.#progress;
    this.#rewriteAll = !isAsSaved;
    return { body, entries: this.#stages.reduce((sum, { stage }) => sum + stage.state.keyCount, 0) };
  }

  /** This epoch exists: what only earlier ones needed may go. */
  completed(epoch: Epoch): void {
    this.#log.completed(epoch);
  }

  /** What was not ended is lost. */
  async close(): Promise<void> {
    this.#pending = null;
    await this.#log.close();
  }

  /** K3. */
  #mustWait(stateBytes: number): boolean {
    const slack = (this.#options.slackBytes ?? SLACK_BYTES) + BOUND_SLACK_BYTES;
    return this.#log.collecting && this.#log.bytes >= stateBytes * BOUND_TIMES + slack;
  }

  #writeBlock(kept: Kept, pending: Pending): void {
    const { count, hashes, keys, values, removedCount, removedHashes, removedKeys } = this.#columns;
    if (count > 0) this.#writeEntries(kept, pending, count, hashes, keys, values);
    if (removedCount > 0) this.#log.appendRemoved(kept.name, removedCount, removedHashes, removedKeys);
    const { failure } = kept.tracker;
    if (failure !== null) this.#failed(pending, unfit(kept, failure.key, failure.error));
  }

  #writeEntries(
    kept: Kept,
    pending: Pending,
    count: number,
    hashes: readonly number[],
    keys: readonly string[],
    values: readonly object[],
  ): void {
    try {
      const encoded = kept.stage.codec === null ? values : encodeStates(kept.stage.codec, values, count);
      const bytes = this.#log.append(kept.name, count, hashes, keys, encoded);
      if (count >= MEASURED_ENTRIES || bytes / count > kept.entryBytes * 4) {
        kept.entryBytes += (bytes / count - kept.entryBytes) * Math.min(1, count / 4096 + 0.01);
      }
    } catch (error) {
      if (error instanceof ValueError && error.code === "value_too_large" && count > 1) {
        // Each for itself may fit.
        const half = count >> 1;
        this.#writeEntries(kept, pending, half, hashes.slice(0, half), keys.slice(0, half), values.slice(0, half));
        this.#writeEntries(kept, pending, count - half, hashes.slice(half), keys.slice(half), values.slice(half));
        return;
      }
      const at = error instanceof ValueError ? error.index : 0;
      this.#failed(pending, unfit(kept, keys[at] ?? "", error));
    }
  }

  #failed(pending: Pending, error: Error): void {
    pending.failure ??= error;
    this.#lost = true;
  }

  // ---- rounds

  #groupCount(): number {
    return this.#stages.reduce((sum, { stage }) => sum + stage.state.keyGroupCount, 0);
  }

  #stateBytes(): number {
    return Math.round(this.#stages.reduce((sum, { stage, entryBytes }) => sum + stage.state.keyCount * entryBytes, 0));
  }

  /** Which whole groups this epoch writes, by stage. */
  #planGroups(): { groups: number[][]; beginsRound: boolean; written: number; credit: number } {
    const groups: number[][] = this.#stages.map(() => []);
    const stateBytes = this.#stateBytes();
    const changedBytes = this.#stages.reduce((sum, kept) => sum + kept.tracker.changedCount * kept.entryBytes, 0);
    const round = this.#progress?.round ?? null;
    const slack = this.#options.slackBytes ?? SLACK_BYTES;
    const beginsRound =
      this.#rewriteAll || (round === null && this.#log.bytes + changedBytes > stateBytes * ROUND_AT + slack);
    if (round === null && !beginsRound) return { groups, beginsRound, written: 0, credit: 0 };
    const groupCount = this.#groupCount();
    let credit = this.#rewriteAll
      ? Number.POSITIVE_INFINITY
      : (beginsRound ? 0 : (this.#progress?.credit ?? 0)) + changedBytes * ROUND_RATE;
    let written = beginsRound ? 0 : round!.written;
    for (let first = 0, index = 0; index < this.#stages.length; index++) {
      const { stage, entryBytes } = this.#stages[index]!;
      const { keyGroupCount } = stage.state;
      while (written < first + keyGroupCount) {
        const group = written - first;
        const bytes = stage.state.groupSize(group) * entryBytes;
        if (bytes > credit || (changedBytes === 0 && !this.#rewriteAll)) {
          return { groups, beginsRound, written, credit: Math.round(credit) };
        }
        credit -= bytes;
        groups[index]!.push(group);
        written++;
      }
      first += keyGroupCount;
    }
    assert(written === groupCount, "all groups of all stages");
    return { groups, beginsRound, written, credit: 0 };
  }

  /** What the log keeps for us with an end. */
  #about({ progress, keyCounts }: Pending): unknown {
    const { base, round, credit } = progress;
    return {
      base,
      roundFrom: round?.from ?? 0,
      roundWritten: round?.written ?? 0,
      credit: Math.min(credit, Number.MAX_SAFE_INTEGER),
      stages: this.#stages.map(({ name, entryBytes }, index) => ({
        id: name.id,
        version: name.version,
        keys: keyCounts[index]!,
        entryBytes: Math.ceil(entryBytes),
      })),
    };
  }

  #readAbout(about: unknown): Progress {
    const { base, roundFrom, roundWritten, credit, stages } = readAbout(about);
    for (const saved of stages) {
      const kept = this.#stages.find(({ name }) => name.id === saved.id);
      if (kept === undefined) continue;
      kept.stage.state.reserve(saved.keys);
      kept.entryBytes = saved.entryBytes;
    }
    // Rounds count the groups of all stages: with other stages one would not be what it was.
    const isSame =
      stages.length === this.#stages.length &&
      this.#stages.every(({ name }, index) => stages[index]?.id === name.id) &&
      roundWritten < this.#groupCount();
    return { base, round: roundFrom > 0 && isSame ? { from: roundFrom, written: roundWritten } : null, credit };
  }
}

function blockEntries(kept: Kept): number {
  return Math.max(1, Math.min(BLOCK_ENTRIES, Math.floor(BLOCK_BYTES / kept.entryBytes)));
}

/** @throws {ValueError} `codec_failed`: of the stage's codec. */
function encodeStates(codec: StateCodec<object>, states: readonly object[], count: number): Uint8Array[] {
  const encoded: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    let problem: unknown = "it returned no Uint8Array";
    try {
      const bytes: unknown = codec.encode(states[i]!);
      if (bytes instanceof Uint8Array) {
        encoded.push(bytes.slice());
        continue;
      }
    } catch (error) {
      problem = error;
    }
    throw new ValueError("codec_failed", "$", i, `the stage's codec.encode() failed: ${messageOf(problem)}`);
  }
  return encoded;
}

function decodeState(of: LogStage, codec: StateCodec<object>, key: string, bytes: Uint8Array): object {
  let problem: unknown = "it returned no object";
  try {
    const state: unknown = codec.decode(bytes);
    if (typeof state === "object" && state !== null && !(state instanceof Promise)) return state;
  } catch (error) {
    problem = error;
  }
  throw new ResilienceError(
    "state_codec_failed",
    `Cannot restore the state of key ${showKey(key)} in stage ${JSON.stringify(of.id)}: its codec.decode() failed: ` +
      `${messageOf(problem)}. Nothing was changed. Correct the codec, or give the stage another version and a migrate(), ` +
      "which is given the bytes",
    { cause: problem },
  );
}

function messageOf(problem: unknown): string {
  return printable(problem instanceof Error ? problem.message : String(problem));
}

function valuesOf(of: LogStage, kept: Kept, { keys, values }: Entries): object[] {
  const { codec, migrate, stateVersion } = kept.stage;
  if (of.version === stateVersion || migrate === null) {
    if (of.codec !== (codec !== null)) throw otherCodec(of);
    if (codec === null) return values as object[];
    return values.map((bytes, index) => decodeState(of, codec, keys[index]!, bytes as Uint8Array));
  }
  return values.map((value, index) => {
    let problem: unknown = "it returned no object";
    try {
      const migrated: unknown = migrate(value as object, of.version);
      if (typeof migrated === "object" && migrated !== null && !(migrated instanceof Promise)) return migrated;
    } catch (error) {
      problem = error;
    }
    throw new ResilienceError(
      "state_migration_failed",
      `Cannot restore the state of key ${showKey(keys[index]!)} in stage ${JSON.stringify(of.id)}: its migrate() from ` +
        `version ${of.version} to ${stateVersion} failed: ${messageOf(problem)}. Nothing was changed. Correct migrate(), or go ` +
        `on with the application that wrote the checkpoint`,
      { cause: problem },
    );
  });
}

function unknownStage(of: LogStage, known: readonly string[]): ResilienceError {
  return new ResilienceError(
    "state_of_unknown_stage",
    `Cannot restore the checkpoint: it has state of stage ${JSON.stringify(of.id)}, and the application has no stateful ` +
      `stage of that name, but ${known.map((id) => JSON.stringify(id)).join(", ") || "none at all"}. Nothing was changed. ` +
      `Give the stage its name back, or drop its state with --accept-state-loss`,
  );
}

function otherVersion(of: LogStage, kept: Kept): ResilienceError {
  return new ResilienceError(
    "state_version_differs",
    `Cannot restore the checkpoint: it has states of version ${of.version} of stage ${JSON.stringify(of.id)}, and the ` +
      `application has version ${kept.name.version} without migrate(). Nothing was changed. Give the stage a migrate() from ` +
      `version ${of.version}, or go on with the application that wrote the checkpoint`,
  );
}

function otherCodec(of: LogStage): ResilienceError {
  const [had, has] = of.codec ? ["that a codec wrote", "no codec"] : ["that are plain data", "a codec"];
  return new ResilienceError(
    "state_codec_differs",
    `Cannot restore the checkpoint: it has states ${had} of stage ${JSON.stringify(of.id)}, and the application's stage of the ` +
      `same version has ${has}. Nothing was changed. Give the stage another version and a migrate(), which is given what was ` +
      "saved, or go on with the application that wrote the checkpoint",
  );
}

/** A state that can't be stored, by its stage and key. */
function unfit(kept: Kept, key: string, error: unknown): Error {
  if (!(error instanceof ValueError)) return error instanceof Error ? error : new Error(String(error));
  // Which of the block it was says nothing to whoever reads it: the key does.
  const why = error.message.replace(` of value ${error.index} `, " ");
  const message = `Cannot store the state of key ${showKey(key)} in stage ${JSON.stringify(kept.name.id)}: ${why}`;
  return new ValueError(error.code, error.path, 0, message);
}

function showKey(key: string): string {
  return JSON.stringify(printable(key, 64));
}
