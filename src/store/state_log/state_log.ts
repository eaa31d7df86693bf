// The log of one worker's keyed state: what changed, epoch by epoch, in segments (`segment_format.ts`).
//
//   open ──▶ (restore) ──▶ begin(e) ──▶ append … ──▶ end(e) ──▶ (completed(e)) ──▶ begin(e + 1) …
//
//   L1. `end` resolves when everything that was appended up to then, and the end itself, is durable.
//   L2. Restoring an epoch reads from its base to its end, in order, and nothing else. What lies behind is cut away,
//       durably, before anything is appended again.
//   L3. A segment is begun only when all before is durable.
//   L4. A sync that fails breaks the log for good: nobody knows what the disk has kept. A disk without space does not: the
//       log goes back to its last end, and the epochs since then fail.
//   L5. Segments go only when a complete epoch does not need them, and after what it needs was read back.
//   L6. One operation on the file being written is outstanding, and what waits for it is bounded (`busy`).
//   L7. With rotation no file of a rotated segment goes: what L2 takes back leaves a segment empty, and its number is not
//       given again, but for one that a full disk kept from being begun. What L5 lets go of is forgotten, and stays.
//
// It does not know which epochs exist (the coordinator decides) or what state is.

import { assert } from "../../base/assert.ts";
import { ResilienceError, StorageError } from "../../base/errors.ts";
import type { Epoch, Generation } from "../../base/ids.ts";
import { type Clock, type Disk, DiskError, type DiskFile } from "../../runtime/runtime.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import { parentOf, shellWord } from "../folders.ts";
import { removeIfThere } from "../replace_file.ts";
import { wellFormed } from "../saved_cluster.ts";
import { damagedSegment, environmentError, unreadableSegment } from "./log_errors.ts";
import {
  decodeEnd,
  decodeEntries,
  decodeStage,
  type Entries,
  encodeEnd,
  encodeEntries,
  encodeRecord,
  encodeSegmentHeader,
  encodeStage,
  RECORD,
  type RecordKind,
  type StageNumber,
} from "./segment_format.ts";
import { type ReadRecord, SegmentReader } from "./segment_reader.ts";
import { isRotated, rotatedPath, type SegmentFile, segmentPath } from "./state_folder.ts";
import { isTakenBack, type LogEnd, type LogIdentity, survey, type TornTail } from "./survey.ts";

export interface StateLogOptions extends LogIdentity {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Made if it is missing; the folder around it must be there. */
  readonly folder: string;
  /** A segment that has grown beyond it is the last of its kind: the next epoch begins a new one. Default 16 MiB. */
  readonly segmentBytes?: number;
  /** L7: new segments lie in the resilience directory, and stay. Default false. */
  readonly rotates?: boolean;
}

/** Whose state. */
export interface LogStage {
  /** Operator id. */
  readonly id: string;
  readonly version: number;
  /** Its values are bytes that the stage's own codec wrote. */
  readonly codec: boolean;
}

/** Takes what `restore` reads, in order. */
export interface RestoreTarget {
  /** What the log's user said about itself at the end that is restored; before everything else. */
  about(about: unknown): void;
  entries(stage: LogStage, entries: Entries): void;
  removed(stage: LogStage, entries: Entries): void;
}

const SEGMENT_BYTES = 16 * 1024 * 1024;
/** What is handed to the file at once. */
const CHUNK_BYTES = 256 * 1024;
/** What may wait for the file. */
const QUEUE_BYTES_MAX = 8 * 1024 * 1024;
/** Reading back gives the loop back after so long, or so many records. */
const SLICE_MS = 2;
const SLICE_RECORDS = 64;

type Job =
  | { readonly kind: "segment"; readonly path: string; readonly mayBeThere: boolean; readonly header: Uint8Array }
  | { readonly kind: "bytes"; readonly out: ByteWriter }
  | {
      readonly kind: "end";
      readonly end: LogEnd;
      readonly done: () => void;
      readonly failed: (error: unknown) => void;
    };

interface Segment extends SegmentFile {
  /** With what is still in the queue. */
  length: number;
}

/**
 * Opens the log in a folder and looks at all that is there. Changes nothing, but for making the folder.
 *
 * @throws {ResilienceError} Damaged, incomplete, of another version, or another's. @throws {EnvironmentError}
 */
export async function openStateLog(options: StateLogOptions): Promise<StateLog> {
  const { disk, folder } = options;
  try {
    const found = await survey(disk, folder, options);
    if ((await disk.stat(folder)) === null) {
      await disk.makeDir(folder);
      await disk.syncDir(parentOf(folder));
    }
    return new StateLog(options, found);
  } catch (error) {
    if (error instanceof DiskError) throw environmentError(folder, error);
    throw error;
  }
}

export class StateLog {
  /** What was found behind the last whole record when the log was opened; `null`: nothing. The next restore cuts it away. */
  readonly torn: TornTail | null;
  readonly #options: StateLogOptions;
  readonly #disk: Disk;
  #segments: Segment[];
  #leftovers: readonly SegmentFile[];
  #ends: LogEnd[];
  #written: Epoch;
  /** Must `restore` be called first? */
  #mustRestore: boolean;
  /** Of the last record, queued ones too. */
  #sequence = 0;
  #checksum = 0;
  #securedSequence = 0;
  #epoch: Epoch = 0;
  /** The highest number that a file has, or had: L7. */
  #highest: number;
  /** Numbers that a full disk kept from being used, ascending. */
  #spares: number[] = [];
  /** The next epoch begins a new segment. */
  #rotationWanted = false;
  /** There is no durable end yet in the newest segment. */
  #rotationBegun = false;
  #file: DiskFile | null = null;
  #fileHasUnsynced = false;
  #folderHasUnsynced = false;
  #out = new ByteWriter(CHUNK_BYTES * 2);
  /** Ready to be the next `#out`: a new one would cost as much as what is written into it, in memory that is touched first. */
  #spareOut: ByteWriter | null = null;
  #jobs: Job[] = [];
  #queuedBytes = 0;
  #pumping: Promise<void> | null = null;
  /** Numbers of stages in the segment being written. */
  readonly #stages = new Map<string, StageNumber>();
  /** The epochs since the last end are lost: nothing is taken until the next `begin`. */
  #epochFailed: StorageError | null = null;
  #broken: StorageError | null = null;
  #collecting: Promise<void> | null = null;
  #collectFor: LogEnd | null = null;
  #closed = false;
  /** Bytes that were appended since `begin`. */
  epochBytes = 0;
  /** Called when everything since the last end was lost, before anything else happens. */
  onLost: () => void = () => {};
  /** Called when the file of a rotated segment was made, and when there is a durable end in it. */
  onRotation: (step: "begun" | "durable", path: string) => void = () => {};

  /** Use {@link openStateLog}. */
  constructor(options: StateLogOptions, found: Awaited<ReturnType<typeof survey>>) {
    this.#options = options;
    this.#disk = options.disk;
    this.#segments = found.segments.map((segment) => ({ ...segment }));
    this.#leftovers = found.leftovers;
    this.#highest = Math.max(0, ...[...found.segments, ...found.leftovers].map(({ number }) => number));
    this.#ends = [...found.ends];
    this.#written = found.written;
    this.torn = found.torn;
    this.#mustRestore = found.segments.length + found.leftovers.length > 0;
  }

  /** What can be restored, ascending. 0, the empty state, is always possible and never among them. */
  get ends(): readonly LogEnd[] {
    return this.#ends;
  }

  /** The highest epoch that anything was ever written of. */
  get written(): Epoch {
    return this.#written;
  }

  /** Of all segments, with what waits to be written. */
  get bytes(): number {
    let bytes = 0;
    for (const segment of this.#segments) bytes += segment.length;
    return bytes;
  }

  /** The first segment that may be needed. */
  get oldest(): number {
    // What was taken back is nobody's base: it could not be told from one that was emptied.
    return this.#segments.find((segment) => !isTakenBack(segment))?.number ?? 1;
  }

  /** The segment that the next record goes into. */
  get segment(): number {
    return this.#segments.at(-1)?.number ?? 1;
  }

  /**
   * The next epoch begins a new segment, whatever happens until then.
   *
   * @returns False: that was asked for already, and its file is still to come.
   */
  rotate(): boolean {
    if (this.#rotationWanted) return false;
    this.#rotationWanted = true;
    return true;
  }

  /** Append nothing for a moment: enough waits for the disk. */
  get busy(): boolean {
    return this.#queuedBytes >= QUEUE_BYTES_MAX;
  }

  /** Are old segments about to go? */
  get collecting(): boolean {
    return this.#collecting !== null;
  }

  /** Set once the log is of no use any more. */
  get broken(): StorageError | null {
    return this.#broken;
  }

  /**
   * From now on, records are of this epoch.
   *
   * @param newSegment They begin a new segment, so that all before can go once they are a new base.
   */
  begin(epoch: Epoch, newSegment = false): void {
    assert(
      !this.#mustRestore && !this.#closed,
      "nothing is written before what is there was restored, or after closing",
    );
    this.#epoch = epoch;
    this.#written = Math.max(this.#written, epoch);
    this.epochBytes = 0;
    // What failed has been cut away by now, or the log is still at it, and then this epoch fails too.
    if (this.#pumping === null && this.#broken === null) this.#epochFailed = null;
    if (this.#lost()) return;
    const current = this.#segments.at(-1);
    const isFull = current !== undefined && current.length >= (this.#options.segmentBytes ?? SEGMENT_BYTES);
    if (current === undefined || newSegment || isFull || this.#rotationWanted) this.#beginSegment();
  }

  /**
   * Appends entries: the first `count` of each column. They are written in the background.
   *
   * @returns Bytes. @throws {ValueError} A value that cannot be stored; nothing was appended then.
   */
  append(
    stage: LogStage,
    count: number,
    hashes: readonly number[],
    keys: readonly string[],
    values: readonly unknown[],
  ): number {
    return this.#entries(RECORD.entries, stage, count, hashes, keys, values);
  }

  /** Appends that keys have no state any more. */
  appendRemoved(stage: LogStage, count: number, hashes: readonly number[], keys: readonly string[]): number {
    return this.#entries(RECORD.removed, stage, count, hashes, keys, null);
  }

  /** Hands what was appended to the file, without waiting for more. */
  flush(): void {
    if (this.#out.length === 0) return;
    this.#push({ kind: "bytes", out: this.#out });
    this.#out = this.#spareOut ?? new ByteWriter(CHUNK_BYTES * 2);
    this.#spareOut = null;
  }

  /**
   * Ends the epoch.
   *
   * @param base The first segment that is needed to restore it.
   * @param about What the caller keeps about the log: plain data for CBOR, small. `restore` gives it back.
   * @param body What the caller saves with the epoch: plain data for CBOR.
   * @returns Resolves when everything of the epoch is durable.
   * @throws {StorageError} `disk_full`: the epoch is lost, and the log is as before it. Others: see `broken`.
   */
  end(generation: Generation, base: number, about: unknown, body: unknown): Promise<void> {
    if (this.#lost()) return Promise.reject(this.#failure());
    const wallMs = Math.max(0, Math.floor(this.#options.clock.wallMs()));
    this.#record(RECORD.end, (out) => encodeEnd(out, { generation, base, wallMs, about }, body));
    this.flush();
    const end: LogEnd = {
      epoch: this.#epoch,
      generation,
      segment: this.segment,
      offset: this.#segments.at(-1)!.length,
      sequence: this.#sequence,
      checksum: this.#checksum,
      base,
      wallMs,
      about,
    };
    return new Promise<void>((done, failed) => this.#push({ kind: "end", end, done, failed }));
  }

  /**
   * Reads an epoch back, then cuts away all that was written after it. Reading gives the loop back now and then.
   *
   * @returns The body that was given to `end`; `null` for epoch 0, which empties the log.
   * @throws {ResilienceError} There is no such epoch, or it can't be read. Nothing was cut then.
   * @throws {StorageError} Cutting failed.
   */
  async restore(epoch: Epoch, target: RestoreTarget): Promise<unknown> {
    await this.#idle();
    const end = this.#ends.find((candidate) => candidate.epoch === epoch) ?? null;
    if (end === null && epoch !== 0) {
      const there = this.#ends.map((candidate) => candidate.epoch).join(", ") || "none";
      throw new ResilienceError(
        "resilience_no_such_checkpoint",
        `Cannot restore checkpoint ${epoch} from ${this.#options.folder}: the ones there are: ${there}. Nothing was changed.`,
      );
    }
    const body = end === null ? null : await this.#read(end, target);
    await this.#cutOrBreak(end);
    return body;
  }

  /** This epoch exists: what it does not need goes, in the background, once what it needs was read back. */
  completed(epoch: Epoch): void {
    const end = this.#ends.find((candidate) => candidate.epoch === epoch);
    if (end === undefined || this.#closed) return;
    this.#ends = this.#ends.filter((candidate) => candidate.epoch >= epoch);
    while (this.#keeps(this.#segments[0]!) && this.#segments[0]!.number < end.base) this.#segments.shift();
    if (this.#segments[0]!.number >= end.base) return;
    // Reading back is never begun anew for a later epoch: where it takes longer than a checkpoint, it would not come to an end.
    this.#collectFor ??= end;
    this.#collecting ??= this.#collect().finally(() => {
      this.#collecting = null;
    });
  }

  /** Resolves when nothing is under way any more. What was not ended is left to the next restore. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#idle();
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  // --- Writing -----------------------------------------------------------------------------------------------------

  #lost(): boolean {
    return this.#broken !== null || this.#epochFailed !== null;
  }

  #failure(): StorageError {
    return (this.#broken ?? this.#epochFailed)!;
  }

  #entries(
    kind: RecordKind,
    stage: LogStage,
    count: number,
    hashes: readonly number[],
    keys: readonly string[],
    values: readonly unknown[] | null,
  ): number {
    if (this.#lost()) return 0;
    const { number } = this.#stageNumber(stage);
    const bytes = this.#record(kind, (out) => encodeEntries(out, number, count, hashes, keys, values));
    if (this.#out.length >= CHUNK_BYTES) this.flush();
    return bytes;
  }

  #stageNumber(stage: LogStage): StageNumber {
    const key = `${stage.version} ${stage.codec ? "codec" : "plain"} ${stage.id}`;
    const known = this.#stages.get(key);
    if (known !== undefined) return known;
    const made = { ...stage, number: this.#stages.size + 1 };
    this.#record(RECORD.stage, (out) => encodeStage(out, made));
    this.#stages.set(key, made);
    return made;
  }

  #record(kind: RecordKind, write: (out: ByteWriter) => void): number {
    const before = this.#out.length;
    this.#checksum = encodeRecord(
      this.#out,
      { kind, sequence: this.#sequence + 1, epoch: this.#epoch, securedSequence: this.#securedSequence },
      write,
    );
    this.#sequence++;
    const bytes = this.#out.length - before;
    this.#segments.at(-1)!.length += bytes;
    this.#queuedBytes += bytes;
    this.epochBytes += bytes;
    return bytes;
  }

  #beginSegment(): void {
    this.flush();
    const spare = this.#spares.shift();
    const number = spare ?? this.#highest + 1;
    this.#highest = Math.max(this.#highest, number);
    const { clusterId, application, worker, folder, rotates } = this.#options;
    const header = encodeSegmentHeader({
      clusterId,
      application: wellFormed(application),
      worker,
      number,
      base: this.#segments.some((segment) => !isTakenBack(segment)) ? this.oldest : number,
      previousSequence: this.#sequence,
      previousChecksum: this.#checksum,
    });
    const path = rotates === true ? rotatedPath(folder, number) : segmentPath(folder, number);
    this.#segments.push({ number, path, length: header.length });
    this.#stages.clear();
    this.#queuedBytes += header.length;
    this.epochBytes += header.length;
    this.#rotationWanted = false;
    this.#rotationBegun = true;
    this.#push({ kind: "segment", path, mayBeThere: spare !== undefined, header });
  }

  /** L7. */
  #keeps({ path }: SegmentFile): boolean {
    return this.#options.rotates === true && isRotated(path);
  }

  #push(job: Job): void {
    this.#jobs.push(job);
    this.#pumping ??= this.#pump();
  }

  async #pump(): Promise<void> {
    // Not in the caller's turn: who appends is in the middle of something.
    await null;
    for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) {
      try {
        await this.#run(job);
      } catch (error) {
        await this.#fail(job, error);
      }
    }
    this.#pumping = null;
  }

  async #run(job: Job): Promise<void> {
    switch (job.kind) {
      case "bytes":
        await this.#append(job.out.written());
        if (job.out.data.length > CHUNK_BYTES * 4) return;
        job.out.clear();
        this.#spareOut = job.out;
        return;
      case "segment": {
        if (this.#file !== null) {
          if (this.#fileHasUnsynced) await this.#sync(this.#file);
          await this.#file.close();
          this.#file = null;
        }
        await this.#syncFolder();
        this.#folderHasUnsynced = true;
        const isThere = job.mayBeThere && (await this.#disk.stat(job.path)) !== null;
        this.#file = await this.#disk.open(job.path, isThere ? "append" : "create");
        if (isRotated(job.path)) this.onRotation("begun", job.path);
        await this.#append(job.header);
        return;
      }
      case "end":
        await this.#sync(this.#file!);
        await this.#syncFolder();
        await this.#checkStillThere(job.end);
        this.#ends.push(job.end);
        this.#securedSequence = job.end.sequence;
        this.#rotated(job.end);
        job.done();
    }
  }

  #rotated(end: LogEnd): void {
    if (!this.#rotationBegun || end.segment !== this.segment) return;
    this.#rotationBegun = false;
    const path = this.#path(end.segment);
    if (isRotated(path)) this.onRotation("durable", path);
  }

  async #append(bytes: Uint8Array): Promise<void> {
    this.#fileHasUnsynced = true;
    await this.#file!.append(bytes);
    this.#queuedBytes -= bytes.length;
  }

  async #sync(file: DiskFile): Promise<void> {
    try {
      await file.sync();
    } catch (cause) {
      // L4. Without space there is nothing wrong with the disk, and what was to be synced is cut away.
      if (cause instanceof DiskError && cause.code === "full") throw cause;
      throw this.#brokenBy(cause, "what was written may not be durable, and is not tried again");
    }
    this.#fileHasUnsynced = false;
  }

  async #syncFolder(): Promise<void> {
    if (!this.#folderHasUnsynced) return;
    await this.#disk.syncDir(this.#home);
    this.#folderHasUnsynced = false;
  }

  /** Where new segments are made. */
  get #home(): string {
    const { folder, rotates } = this.#options;
    return rotates === true ? parentOf(rotatedPath(folder, 1)) : folder;
  }

  /** Writing to a file that was unlinked succeeds. */
  async #checkStillThere(end: LogEnd): Promise<void> {
    const path = this.#path(end.segment);
    const found = await this.#disk.stat(path);
    if (found !== null && found.length >= end.offset) return;
    const is = found === null ? "it is gone" : `it has ${found.length} bytes instead of ${end.offset}`;
    throw this.#brokenBy(new Error(`${path}: ${is}`), "somebody else has touched the folder");
  }

  async #fail(job: Job, cause: unknown): Promise<void> {
    const isPassing = cause instanceof DiskError && cause.code === "full";
    const error =
      cause instanceof StorageError
        ? cause
        : isPassing
          ? new StorageError(
              "disk_full",
              `Cannot write the checkpoint to ${this.#options.folder}: ${cause.message}; it is given up, and the last ` +
                `complete one stays. Free some space there, and the next one will be complete`,
              { cause },
            )
          : this.#brokenBy(cause, "the log cannot be used any more");
    if (!isPassing) this.#broken = error;
    this.#epochFailed = error;
    const waiting = [job, ...this.#jobs.splice(0)];
    this.#out.clear();
    this.#queuedBytes = 0;
    this.onLost();
    if (isPassing) {
      try {
        this.#spares.push(...(await this.#cut(this.#ends.at(-1) ?? null)));
        this.#spares.sort((a, b) => a - b);
      } catch (again) {
        this.#broken = this.#brokenBy(again, "what was written of it cannot be taken back");
      }
    }
    // Appended by somebody who has not noticed yet.
    waiting.push(...this.#jobs.splice(0));
    for (const waiter of waiting) if (waiter.kind === "end") waiter.failed(this.#broken ?? error);
  }

  #brokenBy(cause: unknown, consequence: string): StorageError {
    const why = cause instanceof Error ? cause.message : String(cause);
    const { folder } = this.#options;
    return new StorageError(
      "state_log_failed",
      `Cannot keep the state in ${folder}: ${why}; ${consequence}. See to that disk, then start again: the worker returns ` +
        `to the last complete checkpoint. To look at it: tammar store verify ${shellWord(parentOf(folder))}`,
      { cause },
    );
  }

  async #idle(): Promise<void> {
    this.#collectFor = null;
    while (this.#pumping !== null || this.#collecting !== null) {
      await this.#pumping;
      await this.#collecting;
    }
  }

  // --- Cutting -----------------------------------------------------------------------------------------------------

  async #cutOrBreak(end: LogEnd | null): Promise<void> {
    if (this.#broken !== null) throw this.#broken;
    try {
      await this.#cut(end);
    } catch (cause) {
      this.#broken = this.#brokenBy(cause, "what was written after the checkpoint cannot be taken back");
      throw this.#broken;
    }
    this.#mustRestore = false;
    this.#epochFailed = null;
    this.#spares = [];
  }

  /**
   * Takes everything behind an end away, durably; `null`: everything.
   *
   * @returns Numbers whose files stay, or may not have been made: L7.
   */
  async #cut(end: LogEnd | null): Promise<readonly number[]> {
    this.#out.clear();
    this.#queuedBytes = 0;
    const file = this.#file;
    this.#file = null;
    await file?.close();
    const leftovers = this.#leftovers.filter((segment) => !this.#keeps(segment));
    for (const { path } of leftovers) await removeIfThere(this.#disk, path);
    for (const folder of new Set(leftovers.map(({ path }) => parentOf(path)))) await this.#disk.syncDir(folder);
    if (this.#folderHasUnsynced) await this.#disk.syncDir(this.#home);
    this.#leftovers = [];
    this.#folderHasUnsynced = false;
    // The newest first, each for good before the next: what a power cut leaves is a log that was there before.
    const behind = this.#segments.filter(({ number }) => end === null || number > end.segment).reverse();
    for (const segment of behind) {
      if (this.#options.rotates === true) await this.#empty(segment.path);
      else await removeIfThere(this.#disk, segment.path);
      await this.#disk.syncDir(parentOf(segment.path));
    }
    if (end !== null) {
      this.#file = await this.#disk.open(this.#path(end.segment), "append");
      if ((await this.#file.length()) !== end.offset) {
        await this.#file.truncate(end.offset);
        await this.#file.sync();
      }
    }
    this.#fileHasUnsynced = false;
    this.#segments = this.#segments.filter(({ number }) => end !== null && number <= end.segment);
    const newest = this.#segments.at(-1);
    if (newest !== undefined) newest.length = end!.offset;
    this.#ends = this.#ends.filter((candidate) => end !== null && candidate.sequence <= end.sequence);
    this.#sequence = end?.sequence ?? 0;
    this.#checksum = end?.checksum ?? 0;
    this.#securedSequence = this.#sequence;
    // Their numbers may have been given in what is gone.
    this.#stages.clear();
    this.#rotationWanted ||= this.#rotationBegun && this.#options.rotates === true;
    this.#rotationBegun = false;
    if (this.#options.rotates !== true) this.#highest = newest?.number ?? 0;
    return this.#options.rotates === true ? behind.map(({ number }) => number) : [];
  }

  async #empty(path: string): Promise<void> {
    if ((await this.#disk.stat(path)) === null) return;
    const file = await this.#disk.open(path, "append");
    try {
      await file.truncate(0);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  // --- Reading back ------------------------------------------------------------------------------------------------

  async #read(end: LogEnd, target: RestoreTarget): Promise<unknown> {
    target.about(end.about);
    let body: unknown = null;
    const stages = new Map<number, StageNumber>();
    await this.#walk(
      end,
      (path, record) => {
        try {
          switch (record.kind) {
            case RECORD.stage: {
              const stage = decodeStage(record.body);
              stages.set(stage.number, stage);
              return;
            }
            case RECORD.entries:
            case RECORD.removed: {
              const entries = decodeEntries(record.kind, record.body);
              const stage = stages.get(entries.stage);
              if (stage === undefined) throw new Error(`stage ${entries.stage} was not introduced`);
              if (record.kind === RECORD.entries) target.entries(stage, entries);
              else target.removed(stage, entries);
              return;
            }
            case RECORD.end:
              if (record.sequence === end.sequence) body = decodeEnd(record.body).body;
              return;
            default:
              throw new Error(`it is of unknown kind ${record.kind}`);
          }
        } catch (error) {
          if (error instanceof ResilienceError) throw error;
          throw damagedSegment(path, record.offset, `a record makes no sense: ${(error as Error).message}`);
        }
      },
      () => stages.clear(),
    );
    return body;
  }

  /** Every record that an end needs, in order, checked. @throws {ResilienceError} */
  async #walk(
    end: LogEnd,
    visit: (path: string, record: ReadRecord) => void,
    beginSegment: () => void = () => {},
    isWanted: () => boolean = () => true,
  ): Promise<void> {
    let sequence = -1;
    for (const segment of [...this.#segments]) {
      const { number, path } = segment;
      if (number < end.base || number > end.segment || isTakenBack(segment)) continue;
      let file: DiskFile | null = null;
      let reader: SegmentReader | null = null;
      beginSegment();
      try {
        file = await this.#disk.open(path, "read");
        reader = await SegmentReader.of(file, number === end.segment ? end.offset : undefined);
        const start = await reader.header();
        if (start.kind !== "ok") throw damagedSegment(path, 0, "why" in start ? start.why : "it has another version");
        if (sequence < 0) sequence = start.header.previousSequence;
        await this.#walkRecords(reader, path, sequence, visit, isWanted);
        sequence = this.#walked;
        if (!isWanted()) return;
      } catch (error) {
        if (error instanceof DiskError) throw unreadableSegment(path, reader?.offset ?? 0, error);
        throw error;
      } finally {
        await file?.close();
      }
    }
    if (sequence !== end.sequence) {
      throw damagedSegment(
        this.#path(end.segment),
        end.offset,
        `it ends with record ${sequence} instead of ${end.sequence}`,
      );
    }
  }

  /** The sequence number that `#walkRecords` came to. */
  #walked = 0;

  async #walkRecords(
    reader: SegmentReader,
    path: string,
    sequenceBefore: number,
    visit: (path: string, record: ReadRecord) => void,
    isWanted: () => boolean,
  ): Promise<void> {
    const { clock } = this.#options;
    let sequence = sequenceBefore;
    let since = clock.monotonicMs();
    let records = 0;
    for (;;) {
      const read = reader.take();
      if (read === null) {
        await reader.fill();
        since = clock.monotonicMs();
        continue;
      }
      if (read.outcome === "end") break;
      if (read.outcome === "bad") throw damagedSegment(path, read.offset, read.why);
      const { record } = read;
      sequence++;
      if (record.sequence !== sequence) {
        throw damagedSegment(path, record.offset, `record ${record.sequence} stands where ${sequence} belongs`);
      }
      visit(path, record);
      records++;
      if (records % SLICE_RECORDS === 0 || clock.monotonicMs() - since >= SLICE_MS) {
        await new Promise<void>((resolve) => clock.soon(resolve));
        if (!isWanted()) return;
        since = clock.monotonicMs();
      }
    }
    this.#walked = sequence;
  }

  // --- Removing old segments ---------------------------------------------------------------------------------------

  async #collect(): Promise<void> {
    for (let end = this.#collectFor; end !== null; end = this.#collectFor) {
      const wanted = end;
      const isWanted = () => this.#collectFor === wanted;
      try {
        await this.#walk(wanted, () => {}, undefined, isWanted);
        if (!isWanted()) continue;
        for (let oldest = this.#segments[0]!; oldest.number < wanted.base; oldest = this.#segments[0]!) {
          if (!this.#keeps(oldest)) await removeIfThere(this.#disk, oldest.path);
          this.#segments.shift();
        }
      } catch (error) {
        this.#broken = this.#brokenBy(error, "what was written cannot be read back");
        this.#epochFailed = this.#broken;
        this.onLost();
      }
      if (this.#collectFor === wanted) this.#collectFor = null;
    }
  }

  #path(number: number): string {
    return this.#segments.find((segment) => segment.number === number)!.path;
  }
}
