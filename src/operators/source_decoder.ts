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
    const values = this.#decodeBatch(bytes, frames) ?? this.#decodeEach(bytes, frames);
    const { eventTime } = this.#definition;
    if (eventTime === undefined) return this.#batches.byArrival(values, arrivalMs);
    return this.#batches.byEventTime(values, this.#takeTimes(eventTime, values), arrivalMs);
  }

  #decodeEach(bytes: Uint8Array, { count, starts, ends }: Frames): unknown[] {
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
          if (value === undefined) continue;
          if (value instanceof Promise) throw refusePromise("decode", value);
          values.push(value);
        }
      } catch (error) {
        this.#report("decode", error, { bytes: bytes.slice(starts[i]!, ends[i]!) });
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
      return values.length === frames.count ? values.filter((value) => value !== undefined) : null;
    } catch {
      return null;
    }
  }

  /** The event time of each value; takes those out whose event time can't be had. */
  #takeTimes(eventTime: (value: unknown) => number, values: unknown[]): Float64Array {
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
        this.#report("event_time", error, { value: values[i] });
        i++;
      }
    }
    values.length = at;
    return times;
  }

  #report(during: string, error: unknown, record: UserError["record"]): void {
    this.#userError({ stage: this.#id, during, key: null, keyGroup: null, error, record });
  }
}
