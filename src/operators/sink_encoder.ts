/**
 * From a batch to the bytes that a TCP sink sends, with the end of every record: a record that a lost connection cut is
 * sent again whole.
 */
import { showType } from "../api/graph.ts";
import type { EncodedRecords, TcpSink } from "../api/tcp_sink.ts";
import type { Batch } from "./batch.ts";
import type { UserError } from "./dataflow_hooks.ts";
import { refusePromise } from "./operator.ts";

/** What the encoder needs of a sink's definition. */
export type Encoding = Pick<TcpSink<unknown>, "encode" | "encodeBatch">;

const UTF8 = new TextEncoder();
const NO_BYTES = new Uint8Array(0);

/**
 * Encodes the batch. A record whose encoder throws, or returns neither text nor bytes, is reported and left out.
 *
 * @param sink The sink as planned; its id goes into errors. Their `origin` is the record's index in this batch.
 * @returns Bytes of their own, which the caller may keep; `ends` has one entry for each record that is in them.
 */
export function encodeSinkBatch(
  sink: { readonly id: string; readonly definition: Encoding },
  batch: Batch,
  userError: (error: UserError) => void,
): EncodedRecords {
  const { encode, encodeBatch } = sink.definition;
  const { values, count } = batch;
  if (encodeBatch !== undefined) {
    const encoded = tryEncodeBatch(encodeBatch, values, count);
    if (encoded !== null) return encoded;
  }
  const records = new RecordBytes(count);
  let i = 0;
  while (i < count) {
    try {
      for (; i < count; i++) {
        const record: unknown = encode(values[i]);
        if (typeof record === "string") records.addText(record);
        else if (record instanceof Uint8Array) records.addBytes(record);
        else if (record instanceof Promise) throw refusePromise("encode", record);
        else throw new TypeError(`encode returned ${showType(record)}: return a text or a Uint8Array`);
      }
    } catch (error) {
      const [record, time, origin] = [{ value: batch.values[i] }, batch.times[i] ?? null, i];
      const key = batch.keys[i] ?? null;
      userError({ stage: sink.id, during: "encode", key, keyGroup: null, error, record, time, origin });
      i++;
    }
  }
  return records.finish();
}

/** `null` where it threw or returned what can't be: `encode` will find the culprit. */
function tryEncodeBatch(
  encodeBatch: (values: readonly unknown[]) => EncodedRecords,
  values: unknown[],
  count: number,
): EncodedRecords | null {
  try {
    const encoded: unknown = encodeBatch(values.length === count ? values : values.slice(0, count));
    if (encoded instanceof Promise) throw refusePromise("encodeBatch", encoded);
    const { bytes, ends } = encoded as EncodedRecords;
    if (ends.length !== count || (count > 0 && ends[count - 1] !== bytes.length)) return null;
    for (let i = 1; i < count; i++) if (ends[i]! < ends[i - 1]!) return null;
    // Copies, since the author may use the same buffers again.
    return { bytes: bytes.slice(), ends: ends.slice() };
  } catch {
    return null;
  }
}

/** Joins records; text is encoded in one go, as a call of the encoder costs more than a short record. */
class RecordBytes {
  readonly #ends: Uint32Array;
  #count = 0;
  /** What is behind us, in bytes. */
  #bytes: Uint8Array = NO_BYTES;
  #length = 0;
  /** Text behind those bytes, not encoded yet, and the first record in it. Its ends are in code units so far. */
  #text = "";
  #textFrom = 0;

  constructor(countMax: number) {
    this.#ends = new Uint32Array(countMax);
  }

  addText(record: string): void {
    this.#text += record;
    this.#ends[this.#count++] = this.#length + this.#text.length;
  }

  addBytes(record: Uint8Array): void {
    if (this.#text.length > 0) this.#append(this.#encodeText());
    this.#append(record);
    this.#ends[this.#count++] = this.#length;
    this.#textFrom = this.#count;
  }

  finish(): EncodedRecords {
    const ends = this.#count === this.#ends.length ? this.#ends : this.#ends.subarray(0, this.#count);
    if (this.#length === 0) return { bytes: this.#encodeText(), ends };
    if (this.#text.length > 0) this.#append(this.#encodeText());
    return { bytes: this.#bytes.subarray(0, this.#length), ends };
  }

  #encodeText(): Uint8Array {
    const bytes = UTF8.encode(this.#text);
    // As many bytes as code units: it's ASCII, and the ends are right as they are.
    if (bytes.length !== this.#text.length) this.#endsToBytes();
    this.#text = "";
    this.#textFrom = this.#count;
    return bytes;
  }

  #endsToBytes(): void {
    let unit = 0;
    let byte = 0;
    for (let record = this.#textFrom; record < this.#count; record++) {
      const unitEnd = this.#ends[record]! - this.#length;
      for (; unit < unitEnd; unit++) {
        const code = this.#text.charCodeAt(unit);
        if (code < 0x80) byte += 1;
        else if (code < 0x800) byte += 2;
        else if (isHigh(code) && isLow(this.#text.charCodeAt(unit + 1))) {
          byte += 4;
          unit++;
        } else byte += 3;
      }
      this.#ends[record] = this.#length + byte;
    }
  }

  #append(bytes: Uint8Array): void {
    const end = this.#length + bytes.length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2, 1024));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
  }
}

function isHigh(code: number): boolean {
  return code >= 0xd800 && code < 0xdc00;
}

function isLow(code: number): boolean {
  return code >= 0xdc00 && code < 0xe000;
}
