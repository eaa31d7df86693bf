/** From the frames of one read to a batch. */

import type { ConnectorSource } from "../api/connector_source.ts";
import type { FileSource } from "../api/file_source.ts";
import { Payload } from "../api/payload.ts";
import type { Frames, TcpSource } from "../api/tcp_source.ts";
import type { Batch } from "./batch.ts";
import type { UserError } from "./dataflow_hooks.ts";
import { refusePromise } from "./operator.ts";
import { SourceBatches } from "./source_batch.ts";

/** What the decoder needs of a source's definition. */
export type Decoding = Pick<
  TcpSource<unknown> | ConnectorSource<unknown> | FileSource<unknown>,
  "decode" | "decodeBatch" | "eventTime"
>;

/**
 * Decodes what one source of one worker reads, from all of its connections or files. A record whose decoder throws is
 * reported and dropped; framing isn't touched by it.
 */
export class SourceDecoder {
  readonly #id: string;
  readonly #definition: Decoding;
  readonly #userError: (error: UserError) => void;
  readonly #payload = new Payload();
  readonly #batches: SourceBatches;
  /** Of the last call: frames that became no value, and values that have no event time; ascending. */
  #skippedFrames: number[] = [];
  #skippedValues: number[] = [];

  /** @param source The source as planned. */
  constructor(
    source: { readonly index: number; readonly name: string; readonly definition: Decoding },
    userError: (error: UserError) => void,
  ) {
    this.#id = `${source.name}/decode`;
    this.#definition = source.definition;
    this.#userError = userError;
    this.#batches = new SourceBatches(source.index);
  }

  /**
   * @param bytes Needed during the call only.
   * @param frames Where the payloads lie in `bytes`.
   * @param arrivalMs Wall clock: the event time of records that have none of their own.
   */
  decode(bytes: Uint8Array, frames: Frames, arrivalMs: number): Batch {
    this.#skippedFrames = [];
    const values = this.#decodeBatch(bytes, frames) ?? this.#decodeEach(bytes, frames, arrivalMs);
    return this.toBatch(values, arrivalMs);
  }

  /** A batch of values that are decoded already. */
  toBatch(values: unknown[], arrivalMs: number): Batch {
    this.#skippedValues = [];
    const { eventTime } = this.#definition;
    if (eventTime === undefined) return this.#batches.byArrival(values, arrivalMs);
    return this.#batches.byEventTime(values, this.#takeTimes(eventTime, values, arrivalMs), arrivalMs);
  }

  /** Which frame of the last `decode` this record of its batch was. */
  frameOf(record: number): number {
    return behind(this.#skippedFrames, behind(this.#skippedValues, record));
  }

  #decodeEach(bytes: Uint8Array, { count, starts, ends }: Frames, arrivalMs: number): unknown[] {
    const { decode } = this.#definition;
    const payload = this.#payload;
    payload.openChunk(bytes);
    const values: unknown[] = [];
    let i = 0;
    while (i < count) {
      try {
        for (; i < count; i++) {
          payload.openRecord(starts[i]!, ends[i]!);
          const value = decode(payload);
          if (value === undefined) {
            this.#skippedFrames.push(i);
            continue;
          }
          if (value instanceof Promise) throw refusePromise("decode", value);
          values.push(value);
        }
      } catch (error) {
        this.#skippedFrames.push(i);
        this.#report("decode", error, { bytes: bytes.slice(starts[i]!, ends[i]!) }, arrivalMs, i);
        i++;
      }
    }
    return values;
  }

  /** `null`: one by one, please; also when it threw, since `decode` will find the culprit. */
  #decodeBatch(bytes: Uint8Array, frames: Frames): unknown[] | null {
    const { decodeBatch } = this.#definition;
    if (decodeBatch === undefined) return null;
    try {
      const values: unknown = decodeBatch(bytes, frames);
      if (values instanceof Promise) throw refusePromise("decodeBatch", values);
      if (!Array.isArray(values)) return null;
      if (values.length !== frames.count) return null;
      const decoded = values.filter((value) => value !== undefined);
      if (decoded.length < values.length) {
        for (let i = 0; i < values.length; i++) if (values[i] === undefined) this.#skippedFrames.push(i);
      }
      return decoded;
    } catch {
      return null;
    }
  }

  /** The event time of each value; takes those out whose event time can't be had. */
  #takeTimes(eventTime: (value: unknown) => number, values: unknown[], arrivalMs: number): Float64Array {
    const times = new Float64Array(values.length);
    let at = 0;
    let i = 0;
    while (i < values.length) {
      try {
        for (; i < values.length; i++) {
          const time = Math.trunc(eventTime(values[i]));
          if (!Number.isSafeInteger(time)) throw new RangeError(`eventTime returned ${time}: return microseconds`);
          values[at] = values[i];
          times[at] = time;
          at++;
        }
      } catch (error) {
        this.#report("event_time", error, { value: values[i] }, arrivalMs, behind(this.#skippedFrames, i));
        this.#skippedValues.push(i);
        i++;
      }
    }
    values.length = at;
    return times;
  }

  /** Of a record that has no event time yet, it's when it arrived. */
  #report(during: string, error: unknown, record: UserError["record"], arrivalMs: number, origin: number): void {
    const time = Math.trunc(arrivalMs * 1000);
    this.#userError({ stage: this.#id, during, key: null, keyGroup: null, error, record, time, origin });
  }
}

/** Where number `at` was before those at `skipped` (ascending) were taken out. */
function behind(skipped: readonly number[], at: number): number {
  let origin = at;
  for (const index of skipped) {
    if (index > origin) break;
    origin++;
  }
  return origin;
}
