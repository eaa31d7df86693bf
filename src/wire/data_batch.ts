// One batch of records on its way to another worker: the payload of a data link's frame.
//
//   u16 exchange | u16 pipeline | u32 count | f64 watermark | f64 arrival | u8 keyed | count f64 event times
//   | keyed: count u32 hashes, keys as a string column | u32 length of the values | values
//
// The header is big-endian like every header here; columns are little-endian (`values.ts`). Event times are moved as a
// whole, from and to arrays of their own, so that nothing depends on alignment inside of a frame.

import { assert } from "../base/assert.ts";
import { ByteReader } from "./byte_reader.ts";
import type { ByteWriter } from "./byte_writer.ts";
import { decodeStrings, encodeStrings } from "./string_column.ts";
import { decodeValues, encodeValues, ValueError } from "./values.ts";

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
  out.u8(keyed ? 1 : 0);
  out.bytes(new Uint8Array(batch.times.buffer, batch.times.byteOffset, count * 8));
  if (keyed) {
    out.bytes(new Uint8Array(batch.hashes.buffer, batch.hashes.byteOffset, count * 4));
    const encoded = encodeStrings(batch.keys, count, out);
    assert(encoded, "keys are strings, and not longer than a frame");
  }
  try {
    const length = out.beginFrame();
    if (codec === undefined) encodeValues(batch.values, count, out);
    else out.bytes(codec.encode(batch.values, count));
    out.endFrame(length);
  } catch (error) {
    out.length = start;
    throw error;
  }
}

/**
 * Decodes a batch that fills `bytes`. Nothing of the result refers to them.
 *
 * @throws {ProtocolError} `bad_batch`, and what `decodeValues` throws. {ValueError} `codec_broken` when the author's codec
 * returns too few values.
 */
export function decodeDataBatch(bytes: Uint8Array, codec?: ValueBatchCodec): DataBatchColumns {
  const reader = new ByteReader("the data batch", bytes);
  const exchange = reader.u16();
  const pipeline = reader.u16();
  const count = reader.u32();
  const watermark = reader.f64();
  if (Number.isNaN(watermark)) throw reader.error("bad_batch", "has a watermark that is not a number");
  const arrivalMs = reader.f64();
  const keyed = reader.u8();
  if (keyed > 1) throw reader.error("bad_batch", `has unknown flags ${keyed}`);
  const timeBytes = reader.bytes(count * 8);
  const times = new Float64Array(count);
  new Uint8Array(times.buffer).set(timeBytes);
  let hashes = new Uint32Array(0);
  let keys: string[] = [];
  if (keyed === 1) {
    const hashBytes = reader.bytes(count * 4);
    hashes = new Uint32Array(count);
    new Uint8Array(hashes.buffer).set(hashBytes);
    keys = decodeStrings(reader, count);
  }
  const length = reader.u32();
  const at = reader.skip(length);
  if (reader.remaining > 0) throw reader.error("bad_batch", `has ${reader.remaining} bytes too many`);
  let values: unknown[];
  if (codec === undefined) {
    values = decodeValues(bytes, at, length, count);
  } else {
    values = codec.decode(bytes.subarray(at, at + length), count);
    if (!Array.isArray(values) || values.length < count) {
      const got = Array.isArray(values) ? `${values.length} values` : "no array";
      throw new ValueError("codec_broken", "$", 0, `the stage's codec returned ${got} for a batch of ${count} records`);
    }
  }
  return { exchange, pipeline, count, watermark, arrivalMs, times, hashes, keys, values };
}
