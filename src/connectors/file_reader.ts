/** One file that is being read, plain or compressed, from an offset on. */
import { OutsideError } from "../base/errors.ts";
import type { Disk, DiskFile } from "../runtime/runtime.ts";
import { isCompressed } from "./choose_file.ts";
import { HEAD_BYTES_MAX, headChecksum, type StartedFile } from "./file_progress.ts";
import { gunzip, type Unpacked } from "./gunzip.ts";

const READ_BYTES = 64 * 1024;

export class FileReader {
  readonly path: string;
  readonly started: StartedFile;
  /** Its end is the end of its last record. */
  whole = false;
  readonly #file: DiskFile;
  readonly #unpacked: Unpacked | null;
  /** What was decompressed and not handed on yet. */
  #rest: Uint8Array = new Uint8Array(0);
  /** Of the next byte. */
  #offset = 0;
  /** The beginning of the file as it is on disk. */
  #head: Uint8Array = new Uint8Array(0);
  #closed = false;

  private constructor(path: string, started: StartedFile, file: DiskFile) {
    this.path = path;
    this.started = started;
    this.#file = file;
    this.#unpacked = isCompressed(started.name) ? gunzip((offset, length) => file.readAt(offset, length)) : null;
  }

  /**
   * Opens it where it was left. It must be the file that was begun, and still hold what was read.
   *
   * @throws {OutsideError} If it is not.
   * @throws {DiskError} As `Disk.open`.
   */
  static async open(disk: Disk, path: string, started: StartedFile): Promise<FileReader> {
    const file = await disk.open(path, "read");
    const reader = new FileReader(path, started, file);
    try {
      await reader.#checkHead();
      await reader.#skip();
    } catch (error) {
      await reader.close();
      throw error;
    }
    return reader;
  }

  /** Of the next byte, of what it holds. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes of the file itself. */
  length(): Promise<number> {
    return this.#file.length();
  }

  /** The next bytes, at most 64 KiB; none at the end, as far as the file reaches now. */
  async read(): Promise<Uint8Array> {
    let bytes: Uint8Array;
    if (this.#unpacked === null) {
      bytes = await this.#file.readAt(this.#offset, READ_BYTES);
      if (this.#offset < HEAD_BYTES_MAX) this.#extendHead(bytes);
    } else {
      bytes = await this.#unpack();
    }
    this.#offset += bytes.length;
    return bytes;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // A stream that failed can't be cancelled any more; either way it reads no further.
    this.#unpacked?.cancel().then(undefined, () => {});
    await this.#file.close();
  }

  async #checkHead(): Promise<void> {
    const { started, path } = this;
    if (this.#unpacked === null && started.offset > 0) {
      const length = await this.#file.length();
      if (length < started.offset) throw truncated(path, length, started.offset);
    }
    const head = await this.#file.readAt(0, HEAD_BYTES_MAX);
    const same =
      head.length >= started.headLength && headChecksum(head.subarray(0, started.headLength)) === started.headChecksum;
    if (!same) {
      throw new OutsideError(
        "input_replaced",
        `Cannot go on reading ${path} at byte ${started.offset}: it is another file now, as its first ` +
          `${started.headLength} bytes have changed; put the file back that was read before`,
      );
    }
    this.#head = head;
    this.#noteHead();
  }

  /** Goes forward to where it was left; of what is compressed, all before it is decompressed again. */
  async #skip(): Promise<void> {
    const { offset } = this.started;
    if (this.#unpacked === null) {
      this.#offset = offset;
      return;
    }
    while (this.#offset < offset) {
      const piece = await this.#unpack();
      if (piece.length === 0) throw truncated(this.path, this.#offset, offset);
      const surplus = this.#offset + piece.length - offset;
      if (surplus > 0) {
        const rest = new Uint8Array(surplus + this.#rest.length);
        rest.set(piece.subarray(piece.length - surplus));
        rest.set(this.#rest, surplus);
        this.#rest = rest;
      }
      this.#offset = Math.min(this.#offset + piece.length, offset);
    }
  }

  async #unpack(): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      let next: { readonly done: boolean; readonly value?: Uint8Array | undefined };
      try {
        next = await this.#unpacked!.read();
      } catch (error) {
        throw new OutsideError(
          "input_damaged",
          `Cannot decompress ${this.path} beyond byte ${this.#offset} of its content: ` +
            `${error instanceof Error ? error.message : String(error)}; put a whole file of one gzip member there`,
          { cause: error },
        );
      }
      if (next.done || next.value === undefined) return new Uint8Array(0);
      this.#rest = next.value;
    }
    const piece = this.#rest.subarray(0, READ_BYTES);
    this.#rest = this.#rest.subarray(piece.length);
    return piece;
  }

  #extendHead(bytes: Uint8Array): void {
    const known = this.#head.length;
    if (known < this.#offset || bytes.length === 0) return;
    const length = Math.min(HEAD_BYTES_MAX, this.#offset + bytes.length);
    if (length <= known) return;
    const head = new Uint8Array(length);
    head.set(this.#head);
    head.set(bytes.subarray(known - this.#offset, length - this.#offset), known);
    this.#head = head;
    this.#noteHead();
  }

  #noteHead(): void {
    this.started.headLength = this.#head.length;
    this.started.headChecksum = headChecksum(this.#head);
  }
}

export function truncated(path: string, length: number, offset: number): OutsideError {
  return new OutsideError(
    "input_truncated",
    `Cannot go on reading ${path} at byte ${offset}: it has ${length} bytes now, so it was cut short or replaced; ` +
      "put the file back that was read before",
  );
}
