/**
 * Which letters of a file of dead letters were let in again: a small file beside it, which the tool writes that sent them. One
 * line for each, where it lies and its checksum: a letter that a rollback took back, and that another one has followed at its
 * place, is another letter.
 */
import { type Disk, DiskError } from "../runtime/runtime.ts";
import { isDeadLettersName } from "./dead_letter_file.ts";
import { parentOf } from "./folders.ts";

const SUFFIX = ".resent";
/** Of a full file of dead letters, each as small as can be, there are fewer lines. */
const BYTES_MAX = 64 * 1024 * 1024;
const LINE = /^(\d{1,15}) ([0-9a-f]{8})$/;

/** What tells a letter from others of its file. */
export interface LetterMark {
  /** Offset in the file. */
  readonly at: number;
  readonly checksum: number;
}

export function isResentName(name: string): boolean {
  return name.endsWith(SUFFIX) && isDeadLettersName(name.slice(0, -SUFFIX.length));
}

export class ResentLetters {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #marks: Map<number, number>;
  /** The last line is not whole: its tool was killed. */
  #isTorn: boolean;

  private constructor(disk: Disk, path: string, text: string) {
    this.#disk = disk;
    this.#path = path;
    this.#isTorn = text !== "" && !text.endsWith("\n");
    this.#marks = new Map();
    for (const line of text.split("\n").slice(0, -1)) {
      const found = LINE.exec(line);
      if (found !== null) this.#marks.set(Number(found[1]), Number.parseInt(found[2]!, 16));
    }
  }

  /** @param path Of the dead letters. @throws {DiskError} */
  static async open(disk: Disk, path: string): Promise<ResentLetters> {
    try {
      const bytes = await disk.readFile(path + SUFFIX, BYTES_MAX);
      return new ResentLetters(disk, path + SUFFIX, new TextDecoder().decode(bytes));
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== "not_found") throw error;
      return new ResentLetters(disk, path + SUFFIX, "");
    }
  }

  has({ at, checksum }: LetterMark): boolean {
    return this.#marks.get(at) === checksum;
  }

  /** Durable when it resolves. @throws {DiskError} */
  async add(marks: readonly LetterMark[]): Promise<void> {
    if (marks.length === 0) return;
    const lines = marks.map(({ at, checksum }) => `${at} ${checksum.toString(16).padStart(8, "0")}\n`);
    const isNew = (await this.#disk.stat(this.#path)) === null;
    const file = await this.#disk.open(this.#path, isNew ? "create" : "append");
    try {
      await file.append(new TextEncoder().encode((this.#isTorn ? "\n" : "") + lines.join("")));
      await file.sync();
    } finally {
      await file.close();
    }
    if (isNew) await this.#disk.syncDir(parentOf(this.#path));
    this.#isTorn = false;
    for (const { at, checksum } of marks) this.#marks.set(at, checksum);
  }
}
