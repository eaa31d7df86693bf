/**
 * How far the files of one source have been handed on, and what tells that they are still the same files: for each file
 * that was begun its name, the offset behind the last record, and a checksum of its first bytes.
 *
 * Of a folder, names of finished files are kept, since a name may turn up that sorts before them; those whose files are gone
 * are forgotten. Of a single file the end is not final: it may be longer at the next start.
 */
import { ResilienceError } from "../base/errors.ts";
import { crc32c } from "../store/crc32c.ts";

/** So many bytes at the beginning of a file tell whether it is the one that was begun. */
export const HEAD_BYTES_MAX = 4096;
/** More finished files in one folder than this are refused: they are a part of every checkpoint. */
export const FINISHED_MAX = 100_000;

export interface StartedFile {
  readonly name: string;
  /** Behind the last record that was handed on; of a compressed file, in what it holds. */
  offset: number;
  /** The first bytes of the file, as many as were read, up to `HEAD_BYTES_MAX`. */
  headLength: number;
  headChecksum: number;
  /** A single file that is not followed: all that it had was handed on. */
  atEnd: boolean;
}

export class FileProgress {
  readonly #finished: Set<string>;
  readonly #started: Map<string, StartedFile>;
  /** Of `#finished`, for snapshots: made anew when it has changed. */
  #names: readonly string[] | null = null;

  private constructor(finished: Iterable<string>, started: Iterable<StartedFile>) {
    this.#finished = new Set(finished);
    this.#started = new Map([...started].map((file) => [file.name, { ...file }]));
  }

  static fromTheBeginning(): FileProgress {
    return new FileProgress([], []);
  }

  /**
   * @param position What `snapshot` gave.
   * @throws {ResilienceError} If it is none.
   */
  static from(position: unknown): FileProgress {
    const { version, finished, started } = (position ?? {}) as Record<string, unknown>;
    const whole =
      version === 1 &&
      Array.isArray(finished) &&
      finished.length <= FINISHED_MAX &&
      finished.every((name) => typeof name === "string") &&
      Array.isArray(started) &&
      started.every(isStarted);
    if (whole) return new FileProgress(finished, started);
    throw new ResilienceError(
      "position_invalid",
      "Cannot go on reading files: the saved position is not one of a file source of this version",
    );
  }

  /** Plain data. */
  snapshot(): { readonly version: 1; readonly finished: readonly string[]; readonly started: readonly StartedFile[] } {
    this.#names ??= [...this.#finished].sort();
    return { version: 1, finished: this.#names, started: [...this.#started.values()].map((file) => ({ ...file })) };
  }

  get finished(): ReadonlySet<string> {
    return this.#finished;
  }

  started(name: string): StartedFile | null {
    return this.#started.get(name) ?? null;
  }

  get startedNames(): readonly string[] {
    return [...this.#started.keys()];
  }

  begin(file: StartedFile): void {
    this.#started.set(file.name, file);
  }

  /** As if it had never been begun. */
  forget(name: string): void {
    this.#started.delete(name);
  }

  /** Of a folder: all of this file was handed on. */
  finish(name: string): void {
    this.#started.delete(name);
    this.#finished.add(name);
    this.#names = null;
  }

  /** Forgets finished files that are gone; none, if there is not one of ours: it may be the folder that is gone. */
  forgetMissing(listing: readonly string[]): void {
    const there = new Set(listing);
    const gone = [...this.#finished].filter((name) => !there.has(name));
    if (gone.length === 0) return;
    if (gone.length === this.#finished.size && !this.startedNames.some((name) => there.has(name))) return;
    for (const name of gone) this.#finished.delete(name);
    this.#names = null;
  }
}

export function newFile(name: string): StartedFile {
  return { name, offset: 0, headLength: 0, headChecksum: 0, atEnd: false };
}

export function headChecksum(head: Uint8Array): number {
  return crc32c(head);
}

function isStarted(value: unknown): value is StartedFile {
  const { name, offset, headLength, headChecksum: checksum, atEnd } = (value ?? {}) as Record<string, unknown>;
  return (
    typeof name === "string" &&
    name !== "" &&
    !name.includes("/") &&
    isCount(offset, Number.MAX_SAFE_INTEGER) &&
    isCount(headLength, HEAD_BYTES_MAX) &&
    isCount(checksum, 0xffff_ffff) &&
    typeof atEnd === "boolean"
  );
}

function isCount(value: unknown, max: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;
}
