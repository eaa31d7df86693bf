/**
 * Reads the files of one source, in their order: the asynchronous half of the file source. One call is outstanding at a time,
 * and it is made when everything that the one before gave has been handed on.
 *
 *   D1. A file ends when its end was seen after it was known to be whole: opened anew then, since its name may stand for
 *       another, longer one by now.
 *   D2. A file that is not the one that was begun, or is shorter than what was read of it, is refused, never read.
 *   D3. A name that sorts before a finished one is read next, and said.
 */
import { EnvironmentError, OutsideError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Disk, DiskError } from "../runtime/runtime.ts";
import { baseOf, join, parentOf } from "../store/folders.ts";
import { chooseFile, type FileChoice, lastBefore } from "./choose_file.ts";
import { FINISHED_MAX, type FileProgress, newFile } from "./file_progress.ts";
import { FileReader, truncated } from "./file_reader.ts";

export interface FilePlace {
  readonly kind: "directory" | "path";
  /** Absolute. */
  readonly path: string;
}

export type FeedEvent =
  /** Bytes of a file; `fresh`: it was opened, and these lie at the offset where its progress stands. Valid until the next call. */
  | { readonly kind: "chunk"; readonly name: string; readonly bytes: Uint8Array; readonly fresh: boolean }
  /** The end of a whole file. `fresh`: nothing was read of it since it was opened. */
  | { readonly kind: "finished"; readonly name: string; readonly fresh: boolean }
  /** Nothing new; ask again later. */
  | { readonly kind: "idle" }
  | { readonly kind: "end" };

export interface FileFeedOptions {
  readonly disk: Disk;
  readonly log: Log;
  /** Of the source, for people. */
  readonly name: string;
  readonly place: FilePlace;
  readonly follow: boolean;
  /** The feed opens files where it stands and notes their heads; the caller moves the offsets, and finishes files. */
  readonly progress: FileProgress;
}

/** The folder is looked at once in so many polls. */
const POLLS_A_LISTING = 10;

export class FileFeed {
  readonly #options: FileFeedOptions;
  readonly #folder: string;
  #reader: FileReader | null = null;
  /** Nothing was read of it since it was opened. */
  #fresh = false;
  /** Since the folder had something new. */
  #polls = 0;
  /** Whose end this feed has seen. */
  readonly #ended = new Set<string>();
  /** Said once. */
  #saidMissing = false;
  #saidGone = false;

  constructor(options: FileFeedOptions) {
    this.#options = options;
    const { kind, path } = options.place;
    this.#folder = kind === "directory" ? path : parentOf(path);
  }

  /**
   * @throws {EnvironmentError} A file or folder is missing or can't be read.
   * @throws {OutsideError} A file was replaced, cut short or is damaged.
   */
  async next(): Promise<FeedEvent> {
    try {
      return await this.#next();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      const remedy =
        error.code === "not_found"
          ? "it was there a moment ago; give it back"
          : "see to that file and its disk, and start this worker again";
      throw new EnvironmentError(`input_${error.code}`, `${this.#options.name} source: ${error.message}; ${remedy}`, {
        cause: error,
      });
    }
  }

  /** While no call is outstanding, or behind it. */
  async close(): Promise<void> {
    const reader = this.#reader;
    this.#reader = null;
    await reader?.close();
  }

  async #next(): Promise<FeedEvent> {
    const reader = this.#reader;
    if (reader !== null) {
      const bytes = await reader.read();
      const { name } = reader.started;
      const fresh = this.#fresh;
      if (bytes.length > 0) {
        this.#fresh = false;
        this.#polls = 0;
        return { kind: "chunk", name, bytes, fresh };
      }
      if (reader.whole) {
        this.#ended.add(name);
        this.#polls = 0;
        await this.close();
        return { kind: "finished", name, fresh };
      }
    }
    if (this.#polls++ % POLLS_A_LISTING !== 0) return { kind: "idle" };
    const names = await this.#list();
    if (reader !== null && !names.includes(reader.started.name)) return await this.#gone(reader, names);
    this.#refuseMissing(names);
    const choice = this.#choose(names);
    if (choice.kind !== "read") return { kind: choice.kind === "end" ? "end" : "idle" };
    if (reader !== null && choice.name === reader.started.name && !choice.whole)
      return await this.#stillTheSame(reader);
    this.#polls = 0;
    return (await this.#open(choice.name, choice.whole)) ? await this.#next() : { kind: "idle" };
  }

  #choose(names: readonly string[]): FileChoice {
    const { follow, progress, place } = this.#options;
    return chooseFile({ names, finished: place.kind === "directory" ? progress.finished : this.#ended, follow });
  }

  /** What was begun must be there, or there is no telling what it still held. */
  #refuseMissing(names: readonly string[]): void {
    const { progress, name: source } = this.#options;
    for (const name of progress.startedNames) {
      const { offset, atEnd } = progress.started(name)!;
      if (atEnd || names.includes(name)) continue;
      if (offset === 0) {
        progress.forget(name);
        continue;
      }
      throw new OutsideError(
        "input_missing",
        `${source} source: Cannot go on reading ${join(this.#folder, name)} at byte ${offset}: it is not there; put it back`,
      );
    }
  }

  /** The file that is open was removed: it has ended if there is a later one, else it may be the folder that is away. */
  async #gone(reader: FileReader, names: readonly string[]): Promise<FeedEvent> {
    const { name } = reader.started;
    if (names.some((other) => other > name)) {
      reader.whole = true;
      return await this.#next();
    }
    if (!this.#saidGone) {
      this.#saidGone = true;
      const source = this.#options.name;
      this.#options.log.warn(
        "source_file_gone",
        `${source} source: ${reader.path} was removed while it was followed; waiting for it to come back`,
      );
    }
    return { kind: "idle" };
  }

  /** Names of the files that are there, sorted. */
  async #list(): Promise<string[]> {
    const { disk, place, progress } = this.#options;
    if (place.kind === "path") {
      const stat = await disk.stat(place.path);
      if (stat !== null && stat.kind === "folder") {
        const message = `Cannot read ${place.path}: it is a folder; give a file, or have its files read as a directory`;
        throw new EnvironmentError("input_not_a_file", `${this.#options.name} source: ${message}`);
      }
      if (stat === null) this.#missing("file");
      return stat === null ? [] : [baseOf(place.path)];
    }
    let names: string[];
    try {
      names = (await disk.list(place.path))
        .filter(({ name, kind }) => kind !== "folder" && !name.startsWith("."))
        .map(({ name }) => name);
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== "not_found") throw error;
      this.#missing("folder");
      return [];
    }
    progress.forgetMissing(names);
    if (progress.finished.size <= FINISHED_MAX) return names;
    throw new OutsideError(
      "input_too_many_files",
      `${this.#options.name} source: Cannot go on reading ${place.path}: it still has more than ${FINISHED_MAX} files that ` +
        "were read; move some away",
    );
  }

  #missing(what: "file" | "folder"): void {
    const { follow, log, name, place, progress } = this.#options;
    // What was begun is missed elsewhere.
    if (progress.finished.size > 0 || progress.startedNames.length > 0) return;
    if (!follow) {
      const message = `Cannot read ${place.path}: there is no such ${what}; give the path of one that is there`;
      throw new EnvironmentError("input_not_found", `${name} source: ${message}`);
    }
    if (this.#saidMissing) return;
    this.#saidMissing = true;
    log.info("source_file_awaited", `${name} source waits for ${place.path}: there is no such ${what} yet`);
  }

  /** The file that is followed, at its end: has its name come to stand for another one? */
  async #stillTheSame(reader: FileReader): Promise<FeedEvent> {
    const stat = await this.#options.disk.stat(reader.path);
    if (stat === null) return { kind: "idle" };
    if (stat.length < reader.offset) throw truncated(reader.path, stat.length, reader.offset);
    // Longer than the open one: either it has just grown, or the name stands for a longer file with the same beginning.
    if (stat.length > (await reader.length())) await this.#open(reader.started.name, false);
    return { kind: "idle" };
  }

  /** Opens a file where its progress stands. False: it has vanished, so look again. */
  async #open(name: string, whole: boolean): Promise<boolean> {
    const { disk, log, progress, name: source } = this.#options;
    const before = this.#reader;
    const again = before?.started.name === name;
    const known = progress.started(name);
    const path = join(this.#folder, name);
    let reader: FileReader;
    try {
      reader = await FileReader.open(disk, path, known ?? newFile(name));
    } catch (error) {
      if (!(error instanceof DiskError && error.code === "not_found")) throw error;
      // It was there when the folder was listed. What is open still is.
      if (again) before!.whole = whole;
      return again;
    }
    reader.whole = whole;
    this.#reader = reader;
    this.#fresh = true;
    await before?.close();
    if (again) return true;
    if (known === null) {
      const last = lastBefore(name, [...progress.finished, ...progress.startedNames]);
      progress.begin(reader.started);
      if (last !== null) {
        const message = `${path} came after ${last}, which sorts behind it, had been begun; it is read now`;
        log.warn("source_file_late", `${source} source: ${message}`);
      }
    }
    const from = reader.offset > 0 ? ` from byte ${reader.offset}` : "";
    log.debug("source_file_opened", `${source} source reads ${path}${from}`);
    return true;
  }
}
