// One batch of records on its way to another worker: the payload of a data link's frame.
//
//   u16 exchange | u16 pipeline | u32 count | f64 watermark | f64 arrival | u8 flags | event times: count f64, or one
//   | keyed: count u32 hashes, keys as a string column | u32 length of the values | values
//
// Flags: 1 keyed, 2 all records have the same event time.
//
// The header is big-endian like every header here; columns are little-endian (`values.ts`). Event times are moved as a
// whole, from and to arrays of their own, so that nothing depends on alignment inside of a frame.

import { assert } from "../base/assert.ts";
import { ByteReader } from "./byte_reader.ts";
import type { ByteWriter } from "./byte_writer.ts";
import { decodeStrings, encodeStrings, type KnownStrings } from "./string_column.ts";
import { decodeValues, encodeValues, ValueError } from "./values.ts";

const KEYED = 1;
const ONE_TIME = 2;

/** A batch as columns. Only the first `count` entries of each count. */
export interface DataBatchColumns {
  /** Index of the exchange in the plan. */
  exchange: number;
  /** Index of the pipeline in the plan. */
  pipeline: number;
  count: number;
  /** Microseconds since the Unix epoch; may be infinite. */
  watermark: number;
  /** When the source read it, in milliseconds of the wall clock. */
  arrivalMs: number;
  /** Event times, microseconds since the Unix epoch. */
  times: Float64Array;
  /** `hashKey` of each key; empty for records without keys. */
  hashes: Uint32Array;
  /** Empty for records without keys. */
  keys: string[];
  values: unknown[];
}

/** Keys that the reader of a batch has already: those of the states that it will look for. */
export interface KnownKeys {
  /** A key of this hash and of so many UTF-16 units. There may be others. */
  guessKey(hash: number, length: number): string | undefined;
}

/** The typed columns of one batch after the other, for a reader that is done with one before it decodes the next. Grown as needed. */
export class ColumnSpace {
  #times = new Float64Array(0);
  #hashes = new Uint32Array(0);

  times(count: number): Float64Array<ArrayBuffer> {
    if (this.#times.length < count) this.#times = new Float64Array(count * 2);
    return this.#times;
  }

  hashes(count: number): Uint32Array<ArrayBuffer> {
    if (this.#hashes.length < count) this.#hashes = new Uint32Array(count * 2);
    return this.#hashes;
  }
}

class KeysByHash implements KnownStrings {
  readonly #hashes: Uint32Array;
  readonly #known: KnownKeys;

  constructor(hashes: Uint32Array, known: KnownKeys) {
    this.#hashes = hashes;
    this.#known = known;
  }

  guess(index: number, length: number): string | undefined {
    return this.#known.guessKey(this.#hashes[index]!, length);
  }
}

/** An author's own codec for the values of one stage. What it throws is the author's error. */
export interface ValueBatchCodec {
  encode(values: unknown[], count: number): Uint8Array;
  /** Exactly `count` values or more. `bytes` is valid during the call only. */
  decode(bytes: Uint8Array, count: number): unknown[];
}

/**
 * Appends a batch. A batch without records carries a watermark only.
 *
 * @throws {ValueError} from `encodeValues`; `out` is as it was then.
 */
export function encodeDataBatch(batch: DataBatchColumns, out: ByteWriter, codec?: ValueBatchCodec): void {
  const start = out.length;
  const { count } = batch;
  const keyed = batch.keys.length > 0;
  assert(batch.times.length >= count && batch.values.length >= count, "every column has `count` entries");
  assert(!keyed || (batch.keys.length >= count && batch.hashes.length >= count), "every key has its hash");
  out.u16(batch.exchange);
  out.u16(batch.pipeline);
  out.u32(count);
  out.f64(batch.watermark);
  out.f64(batch.arrivalMs);
  const timeCount = count > 1 && isConstant(batch.times, count) ? 1 : count;
  out.u8((keyed ? KEYED : 0) | (timeCount < count ? ONE_TIME : 0));
  out.bytes(new Uint8Array(batch.times.buffer, batch.times.byteOffset, timeCount * 8));
  if (keyed) {
    out.bytes(new Uint8Array(batch.hashes.buffer, batch.hashes.byteOffset, count * 4));
    const encoded = encodeStrings(batch.keys, count, out);
    assert(encoded, "keys are strings, and not longer than a frame");
  }
  try {
    const length = out.beginFrame();
    if (codec === undefined) encodeValues(batch.values, count, out, batch.keys);
    else out.bytes(codec.encode(batch.values, count));
    out.endFrame(length);
  } catch (error) {
    out.length = start;
    throw error;
  }
}

function isConstant(times: Float64Array, count: number): boolean {
  const first = times[0];
  for (let i = 1; i < count; i++) if (times[i] !== first) return false;
  return true;
}

/**
 * Decodes a batch that fills `bytes`. Nothing of the result refers to them.
 *
 * @param known Keys that are there already.
 * @param space Where times and hashes go: they are valid until it is used again. Default: arrays of their own.
 * @throws {ProtocolError} `bad_batch`, and what `decodeValues` throws. {ValueError} `codec_broken` when the author's codec
 * returns too few values.
 */
export function decodeDataBatch(
  bytes: Uint8Array,
  codec?: ValueBatchCodec,
  known?: KnownKeys,
  space?: ColumnSpace,
): DataBatchColumns {
  const reader = new ByteReader("the data batch", bytes);
  const exchange = reader.u16();
  const pipeline = reader.u16();
  const count = reader.u32();
  const watermark = reader.f64();
  if (Number.isNaN(watermark)) throw reader.error("bad_batch", "has a watermark that is not a number");
  const arrivalMs = reader.f64();
  const flags = reader.u8();
  if (flags > (KEYED | ONE_TIME)) throw reader.error("bad_batch", `has unknown flags ${flags}`);
  // A record has a byte at least, wherever its time is.
  if (count > reader.remaining) throw reader.error("truncated", `lacks some of ${count} records`);
  const times = space?.times(count) ?? new Float64Array(count);
  if ((flags & ONE_TIME) === 0) new Uint8Array(times.buffer).set(reader.bytes(count * 8));
  else times.fill(reader.view.getFloat64(reader.skip(8), true), 0, count);
  let hashes = new Uint32Array(0);
  let keys: string[] = [];
  if ((flags & KEYED) !== 0) {
    const hashBytes = reader.bytes(count * 4);
    hashes = space?.hashes(count) ?? new Uint32Array(count);
    new Uint8Array(hashes.buffer).set(hashBytes);
    keys = decodeStrings(reader, count, known === undefined ? undefined : new KeysByHash(hashes, known));
  }
  const length = reader.u32();
  const at = reader.skip(length);
  if (reader.remaining > 0) throw reader.error("bad_batch", `has ${reader.remaining} bytes too many`);
  let values: unknown[];
  if (codec === undefined) {
    values = decodeValues(bytes, at, length, count, keys);
  } else {
    values = codec.decode(bytes.subarray(at, at + length), count);
    if (!Array.isArray(values) || values.length < count) {
      const got = Array.isArray(values) ? `${values.length} values` : "no array";
      throw new ValueError("codec_broken", "$", 0, `the stage's codec returned ${got} for a batch of ${count} records`);
    }
  }
  return { exchange, pipeline, count, watermark, arrivalMs, times, hashes, keys, values };
}
