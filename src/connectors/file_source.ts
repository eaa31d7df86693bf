/**
 * The connector of a file source: hands on the records of a file, or of a folder's files one after the other, and knows
 * after each record where it stands.
 *
 *   new ──open──▶ resting ──resume──▶ reading ──bytes──▶ resting
 *                    │ ▲                 └──nothing new, or the pace──▶ waiting ──timer──▶ resting
 *                    └─┴── the last file's end ──▶ ended          any ──close──▶ closed
 *
 *   F1. What was handed on is what the position says; what is read beyond it is dropped by a seek and read again.
 *   F2. One read of at most 64 KiB is outstanding, and only when all records of the one before were handed on.
 *   F3. A last line without a line feed is a record once its file is whole; before that it waits for its rest.
 */
import type { Framing, LineFraming } from "../api/framing.ts";
import { absolutePath } from "../base/absolute_path.ts";
import { OutsideError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Millis, Runtime } from "../runtime/runtime.ts";
import { baseOf } from "../store/folders.ts";
import type { RecordPlace } from "../wire/record_place.ts";
import type { ConnectorStatus, HandOver, SourceCheckpoints, SourceConnector } from "./connector.ts";
import { type FeedEvent, FileFeed, type FilePlace } from "./file_feed.ts";
import { FileProgress } from "./file_progress.ts";
import { Pacer } from "./pacer.ts";
import { makeRecordSplitter, type RecordSplitter } from "./record_splitter.ts";

/** How often the end of a file that is followed is looked at. */
const FOLLOW_MS: Millis = 100;
/** Between two batches of a paced source, at least. */
const PACE_MS: Millis = 5;

export interface FileSourceOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  readonly name: string;
  /** Its path may be relative to the working folder. */
  readonly place: FilePlace;
  readonly framing: Framing | LineFraming;
  readonly lengthMax: number;
  readonly follow: boolean;
  /** Records a second; 0: unpaced. */
  readonly rate: number;
  /** An error thrown inside ends the worker. */
  readonly turn: (run: () => void) => void;
  /** Is anything behind this source unable to take more? Then nothing is read until `resume`. */
  readonly blocked: () => boolean;
  readonly frames: HandOver;
}

type State =
  | { readonly kind: "new" }
  | { readonly kind: "resting" }
  | { readonly kind: "reading" }
  | { readonly kind: "waiting"; readonly cancel: () => void }
  | { readonly kind: "ended" }
  | { readonly kind: "closed" };

export class FileSourceConnector implements SourceConnector {
  readonly checkpoints: SourceCheckpoints;
  readonly #options: FileSourceOptions;
  readonly #place: FilePlace;
  #state: State = { kind: "new" };
  #progress = FileProgress.fromTheBeginning();
  #feed: FileFeed;
  #splitter: RecordSplitter;
  #pacer: Pacer;
  /** The file that the splitter's records are of. */
  #file = "";
  /** The first record of the splitter that was not handed on. */
  #next = 0;
  /** Where the file stood before the splitter's first record. */
  #base = 0;
  /** The file has been read to its end: when its records are handed on, it is finished. */
  #finishing = false;
  records = 0;
  bytesRead = 0;
  filesFinished = 0;
  linesLeftOut = 0;

  constructor(options: FileSourceOptions) {
    this.#options = options;
    const { place, runtime } = options;
    this.#place = { kind: place.kind, path: absolutePath(place.path, runtime.host.workingDir) };
    this.#feed = this.#makeFeed();
    this.#splitter = this.#makeSplitter();
    this.#pacer = new Pacer(runtime.clock, options.rate);
    this.checkpoints = {
      snapshot: () => this.#progress.snapshot(),
      seek: (position) => this.#seek(position),
      // Nobody upstream waits for it.
      acknowledge: (_epoch: Epoch) => {},
    };
  }

  get ended(): boolean {
    return this.#state.kind === "ended";
  }

  status(): ConnectorStatus {
    return {
      kind: "file",
      [this.#place.kind]: this.#place.path,
      ...(this.#place.kind === "directory" ? { file: this.#file } : {}),
      offset: this.#progress.started(this.#file)?.offset ?? 0,
      records: this.records,
      bytes: this.bytesRead,
      files_finished: this.filesFinished,
      lines_left_out: this.linesLeftOut,
      ended: this.ended,
    };
  }

  open(): void {
    if (this.#state.kind !== "new") return;
    this.#state = { kind: "resting" };
    this.#pacer = new Pacer(this.#options.runtime.clock, this.#options.rate);
    this.resume();
  }

  /** What was blocked may be free again. */
  resume(): void {
    while (this.#state.kind === "resting" && !this.#options.blocked()) {
      if (this.#next < this.#splitter.count) this.#handOn();
      else if (this.#finishing) this.#finishFile();
      else this.#read();
    }
  }

  /** What was read and not handed on is dropped: the position says so. */
  close(): void {
    if (this.#state.kind === "waiting") this.#state.cancel();
    if (this.#state.kind !== "reading") this.#closeFeed(this.#feed);
    this.#state = { kind: "closed" };
  }

  #seek(position: unknown | null): void {
    const { clock } = this.#options.runtime;
    const state = this.#state;
    // It hands on nothing more, and the last checkpoint of a stop asks where it stands.
    if (state.kind === "closed") {
      this.#progress = position === null ? FileProgress.fromTheBeginning() : FileProgress.from(position);
      return;
    }
    if (state.kind === "waiting") state.cancel();
    // One that is being read is closed when that is over.
    if (state.kind !== "reading") this.#closeFeed(this.#feed);
    this.#progress = position === null ? FileProgress.fromTheBeginning() : FileProgress.from(position);
    this.#feed = this.#makeFeed();
    this.#splitter = this.#makeSplitter();
    this.#file = "";
    this.#next = 0;
    this.#finishing = false;
    if (state.kind === "new") return;
    this.#pacer = new Pacer(clock, this.#options.rate);
    this.#state = { kind: "resting" };
    clock.soon(() => this.#options.turn(() => this.resume()));
  }

  #makeFeed(): FileFeed {
    const { runtime, log, name, follow } = this.#options;
    return new FileFeed({ disk: runtime.disk, log, name, place: this.#place, follow, progress: this.#progress });
  }

  #makeSplitter(): RecordSplitter {
    return makeRecordSplitter(this.#options.framing, this.#options.lengthMax);
  }

  /** As many records as are due. */
  #handOn(): void {
    const splitter = this.#splitter;
    const from = this.#next;
    const count = Math.min(splitter.count - from, this.#pacer.due());
    if (count > 0) {
      this.#next = from + count;
      this.#pacer.took(count);
      this.records += count;
      this.#progress.started(this.#file)!.offset = this.#base + splitter.spanThrough(from + count - 1);
      const { bytes, starts, ends } = splitter;
      const locate = (record: number): RecordPlace => {
        return { kind: "file", file: this.#path(), byte: this.#base + splitter.startOf(from + record) };
      };
      if (from === 0) this.#options.frames(bytes, starts, ends, count, locate);
      else this.#options.frames(bytes, starts.subarray(from), ends.subarray(from), count, locate);
    }
    // Whatever took the records may have closed this source, or sent it back.
    if (this.#next < splitter.count && splitter === this.#splitter && this.#state.kind === "resting") {
      if (this.#options.rate > 0) this.#wait(Math.max(PACE_MS, this.#pacer.waitMs()));
    }
  }

  #read(): void {
    this.#state = { kind: "reading" };
    const feed = this.#feed;
    const { turn } = this.#options;
    feed.next().then(
      (event) =>
        turn(() => {
          if (this.#isStale(feed)) return this.#closeFeed(feed);
          this.#state = { kind: "resting" };
          this.#take(event);
          this.resume();
        }),
      (error: unknown) =>
        turn(() => {
          if (this.#isStale(feed)) return this.#closeFeed(feed);
          throw error;
        }),
    );
  }

  #isStale(feed: FileFeed): boolean {
    return feed !== this.#feed || this.#state.kind === "closed";
  }

  #take(event: FeedEvent): void {
    switch (event.kind) {
      case "idle":
        return this.#wait(FOLLOW_MS);
      case "end":
        return this.#end();
      case "chunk":
        this.bytesRead += event.bytes.length;
        this.#begin(event.name, event.fresh);
        return this.#split(event.bytes);
      case "finished":
        this.#begin(event.name, event.fresh);
        this.#finishing = true;
        this.#splitter.finish();
        if (this.#splitter.count === 0 && this.#splitter.pending > 0) this.#reportCut();
        return this.#countLeftOut();
    }
  }

  /** Makes ready for records of this file, behind those that were handed on. */
  #begin(name: string, fresh: boolean): void {
    if (fresh) this.#splitter = this.#makeSplitter();
    this.#file = name;
    this.#next = 0;
    this.#base = this.#progress.started(name)!.offset;
  }

  #split(bytes: Uint8Array): void {
    const tooLong = this.#splitter.push(bytes);
    this.#countLeftOut();
    if (tooLong === null) return;
    const { count } = this.#splitter;
    const at = this.#base + (count === 0 ? 0 : this.#splitter.spanThrough(count - 1));
    throw new OutsideError(
      "input_frame_too_large",
      `${this.#options.name} source: Cannot go on reading ${this.#path()} at byte ${at}: a frame of ${tooLong} bytes is ` +
        `announced there, and ${this.#options.lengthMax} are allowed; if the file is whole, allow more by lengthMax`,
    );
  }

  #countLeftOut(): void {
    const { leftOut } = this.#splitter;
    if (leftOut === 0) return;
    // A splitter counts from its beginning: it is made anew only with a file, and what it told is taken off here.
    this.#splitter.leftOut = 0;
    const first = this.linesLeftOut === 0;
    this.linesLeftOut += leftOut;
    if (!first) return;
    this.#options.log.error(
      "source_line_too_long",
      `${this.#options.name} source: a line behind byte ${this.#base} of ${this.#path()} has more than ` +
        `${this.#options.lengthMax} bytes and is left out; further ones are only counted`,
    );
  }

  #reportCut(): void {
    this.#options.log.warn(
      "source_frame_cut",
      `${this.#options.name} source: the last ${this.#splitter.pending} bytes of ${this.#path()} are the beginning of a ` +
        "frame that never became whole; they are left out",
    );
  }

  #finishFile(): void {
    this.#finishing = false;
    this.#next = 0;
    this.#splitter = this.#makeSplitter();
    this.filesFinished++;
    if (this.#place.kind === "directory") this.#progress.finish(this.#file);
    else this.#progress.started(this.#file)!.atEnd = true;
  }

  #end(): void {
    this.#state = { kind: "ended" };
    const { log, name } = this.#options;
    const what = this.#place.kind === "path" ? this.#place.path : `all files of ${this.#place.path}`;
    log.info("source_file_ended", `${name} source has read ${what}: ${this.records} records since this worker started`);
  }

  #wait(delayMs: Millis): void {
    const { runtime, turn } = this.#options;
    const cancel = runtime.clock.startTimer(delayMs, () =>
      turn(() => {
        if (this.#state.kind !== "waiting" || this.#state.cancel !== cancel) return;
        this.#state = { kind: "resting" };
        this.resume();
      }),
    );
    this.#state = { kind: "waiting", cancel };
  }

  #closeFeed(feed: FileFeed): void {
    // Closing what was only read has nothing to lose.
    feed.close().then(undefined, () => {});
  }

  #path(): string {
    return this.#place.kind === "path" ? this.#place.path : `${this.#place.path}/${baseOf(this.#file)}`;
  }
}
