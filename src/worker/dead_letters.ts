/**
 * Keeps the records that user code refused, in a file beside the state: each is in it once, whatever is rolled back and done
 * again, since how long the file is belongs to the checkpoint.
 *
 *   D1. What was added before the cut of an epoch is durable before this part votes for it.
 *   D2. A rollback cuts the file to what it was at the cut of the epoch that is gone back to; what waits to be written is
 *       dropped. It is added again when its records come again.
 *   D3. One operation on the file is outstanding. What waits is bounded: beyond it, sources stand still (`blocked`).
 *   D4. The file is bounded as well: when it is full, further records are counted and dropped.
 */
import { ResilienceError, StorageError, type TammarError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Vote } from "../connectors/connector.ts";
import { type Disk, DiskError, type DiskFile } from "../runtime/runtime.ts";
import {
  DEAD_LETTERS_HEADER_BYTES,
  type DeadLetter,
  deadLettersName,
  encodeDeadLetter,
  encodeDeadLettersHeader,
} from "../store/dead_letter_file.ts";
import { join, shellWord } from "../store/folders.ts";
import { removeIfThere } from "../store/replace_file.ts";
import { ByteWriter } from "../wire/byte_writer.ts";

/** As it votes. No sink has this name: those of sinks have a slash. */
export const DEAD_LETTERS = "dead letters";

export interface DeadLettersOptions {
  readonly disk: Disk;
  readonly log: Log;
  /** The worker's. */
  readonly folder: string;
  readonly clusterId: string;
  readonly turn: (run: () => void) => void;
  readonly voted: (epoch: Epoch, vote: Vote) => void;
  readonly failed: (error: TammarError) => void;
  /** Of the file. Default 256 MiB. */
  readonly bytesMax?: number;
}

const BYTES_MAX = 256 * 1024 * 1024;
const WAITING_BYTES_MAX = 4 * 1024 * 1024;

type Job =
  | { readonly kind: "append"; readonly bytes: Uint8Array }
  | { readonly kind: "cut"; readonly length: number }
  | { readonly kind: "sync"; readonly epoch: Epoch };

export class DeadLetters {
  readonly path: string;
  readonly #options: DeadLettersOptions;
  #file: DiskFile | null = null;
  /** Its name is not known to be durable. */
  #isNew = false;
  /** Of the file, when all that waits is done; null: as long as it is found to be. */
  #length: number | null = null;
  /** Up to here the file is as it should be; beyond may be a torn piece. */
  #written = 0;
  #torn = false;
  /** Was anything written or cut since the last sync? */
  #dirty = false;
  #jobs: Job[] = [];
  #waitingBytes = 0;
  #pumping: Promise<void> = Promise.resolve();
  #isBusy = false;
  #isFullSaid = false;
  readonly #out = new ByteWriter();
  /** Since the start of this process. */
  added = 0;
  /** D4. */
  dropped = 0;

  constructor(options: DeadLettersOptions) {
    this.#options = options;
    this.path = join(options.folder, deadLettersName(options.clusterId));
  }

  get blocked(): boolean {
    return this.#waitingBytes > WAITING_BYTES_MAX;
  }

  /** @returns false: the file is full (D4). */
  add(letter: DeadLetter): boolean {
    const out = this.#out;
    if (this.#length === 0) encodeDeadLettersHeader(out);
    encodeDeadLetter(out, letter);
    const bytes = out.take();
    const { bytesMax = BYTES_MAX, folder, log } = this.#options;
    if ((this.#length ?? this.#written + this.#waitingBytes) + bytes.length > bytesMax) {
      this.dropped++;
      if (!this.#isFullSaid)
        log.error(
          "dead_letters_full",
          `${this.path} has its full ${bytesMax} bytes: further records that user code refuses are dropped and counted; ` +
            `correct the code, or let the stage skip them. To look at those that are kept: tammar dead-letters ${shellWord(folder)}`,
        );
      this.#isFullSaid = true;
      return false;
    }
    this.added++;
    if (this.#length !== null) this.#length += bytes.length;
    this.#waitingBytes += bytes.length;
    this.#push({ kind: "append", bytes });
    return true;
  }

  /** The cut of this epoch is here: D1. Answers by `voted`, perhaps at once. */
  prepare(epoch: Epoch): void {
    const isClean = !this.#isBusy && this.#jobs.length === 0 && !this.#isNew && (!this.#dirty || this.#file === null);
    if (isClean) this.#options.voted(epoch, { kind: "commit" });
    else this.#push({ kind: "sync", epoch });
  }

  /** For the checkpoint; right behind `prepare`. */
  snapshot(): number {
    return this.#length ?? 0;
  }

  /** D2. `null`: to before everything. */
  goBack(position: unknown): void {
    const isLength = typeof position === "number" && Number.isSafeInteger(position) && position >= 0;
    const length = isLength ? position : 0;
    this.#jobs = [];
    this.#waitingBytes = 0;
    this.#length = length;
    this.#isFullSaid = false;
    this.#push({ kind: "cut", length });
  }

  /** All that was added is in the file when it resolves, as far as the disk takes it. */
  async close(): Promise<void> {
    while (this.#isBusy) await this.#pumping;
    const file = this.#file;
    this.#file = null;
    try {
      if (file !== null && this.#dirty) await file.sync();
      if (this.#isNew) await this.#options.disk.syncDir(this.#options.folder);
      await file?.close();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#options.log.error(
        "dead_letters_failed",
        `Cannot keep the last dead letters in ${this.path}: ${error.message}`,
      );
    }
  }

  #push(job: Job): void {
    this.#jobs.push(job);
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.#pumping = this.#pump();
  }

  async #pump(): Promise<void> {
    for (let job = this.#jobs[0]; job !== undefined; job = this.#jobs[0]) {
      try {
        await this.#do(job);
      } catch (error) {
        // A rollback came meanwhile: what failed is not wanted any more.
        if (this.#jobs[0] !== job) continue;
        if (!this.#failedFor(job, error)) break;
        continue;
      }
      if (this.#jobs[0] !== job) continue;
      this.#jobs.shift();
      if (job.kind === "append") this.#waitingBytes -= job.bytes.length;
      if (job.kind === "sync") this.#vote(job.epoch, { kind: "commit" });
      // Sources may have stood still for it.
      else this.#options.turn(() => {});
    }
    this.#isBusy = false;
  }

  #vote(epoch: Epoch, vote: Vote): void {
    this.#options.turn(() => this.#options.voted(epoch, vote));
  }

  /** @returns Go on? Otherwise it is tried again with the next thing that is to be done. */
  #failedFor(job: Job, error: unknown): boolean {
    const { failed, turn } = this.#options;
    if (error instanceof ResilienceError) {
      turn(() => failed(error));
      this.#jobs = [];
      return true;
    }
    if (!(error instanceof DiskError)) throw error;
    const isSpace = error.code === "full" && job.kind !== "sync";
    if (!isSpace) {
      const why = `Cannot write ${this.path}: ${error.message}; see to that disk, then start again`;
      turn(() => failed(new StorageError("dead_letters_failed", why, { cause: error })));
      this.#jobs = [];
      return true;
    }
    this.#torn = true;
    // Whoever waits for a vote behind it hears why there is none; what is to be written stays.
    const epochs = this.#jobs.flatMap((waiting) => (waiting.kind === "sync" ? [waiting.epoch] : []));
    this.#jobs = this.#jobs.filter((waiting) => waiting.kind !== "sync");
    for (const epoch of epochs) this.#vote(epoch, { kind: "abort", reason: error.message, rollBack: false });
    return false;
  }

  async #do(job: Job): Promise<void> {
    switch (job.kind) {
      case "append": {
        const file = await this.#open();
        if (this.#torn) await file.truncate(this.#written);
        this.#torn = false;
        this.#dirty = true;
        await file.append(job.bytes);
        this.#written += job.bytes.length;
        return;
      }
      case "cut":
        return await this.#cut(job.length);
      case "sync":
        if (this.#dirty && this.#file !== null) await this.#file.sync();
        this.#dirty = false;
        if (this.#isNew) await this.#options.disk.syncDir(this.#options.folder);
        this.#isNew = false;
    }
  }

  async #cut(length: number): Promise<void> {
    const { disk } = this.#options;
    this.#torn = false;
    this.#dirty = true;
    if (length === 0) {
      await this.#file?.close();
      this.#file = null;
      this.#written = 0;
      this.#isNew = false;
      await removeIfThere(disk, this.path);
      return;
    }
    const stat = await disk.stat(this.path);
    if (stat === null || stat.length < length) throw lost(this.path, stat?.length ?? null, length);
    const file = await this.#open();
    if (stat.length > length) await file.truncate(length);
    this.#written = length;
  }

  async #open(): Promise<DiskFile> {
    if (this.#file !== null) return this.#file;
    const { disk } = this.#options;
    const stat = await disk.stat(this.path);
    this.#isNew ||= stat === null;
    this.#file = await disk.open(this.path, stat === null ? "create" : "append");
    this.#written = stat?.length ?? 0;
    // Without checkpoints nobody has said where it stands: it goes on behind what an earlier process has left.
    if (this.#length === null && this.#written === 0) {
      const header = new ByteWriter();
      encodeDeadLettersHeader(header);
      await this.#file.append(header.take());
      this.#written = DEAD_LETTERS_HEADER_BYTES;
    }
    return this.#file;
  }
}

function lost(path: string, is: number | null, wanted: number): ResilienceError {
  const state = is === null ? "it is not there" : `it has ${is} bytes`;
  return new ResilienceError(
    "dead_letters_lost",
    `Cannot go on with ${path}: ${state}, and ${wanted} bytes of dead letters belong to the checkpoint; put the file back`,
  );
}
