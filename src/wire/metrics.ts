// The metrics channel, worker to hub, one way; byte for byte Wallaroo's.
//
//   u32 length | u8 type | fields
//
//   1 connect
//   2 join      topic str32 | worker name str32
//   3 payload   event str32 | topic str32 | u32 size | data: see `encodePayload`

import { assert } from "../base/assert.ts";
import { ProtocolError } from "../base/errors.ts";
import { BIN_COUNT } from "../metrics/histogram.ts";
import { ByteReader } from "./byte_reader.ts";
import type { ByteWriter } from "./byte_writer.ts";

const CONNECT = 1;
const JOIN = 2;
const PAYLOAD = 3;

/** The only event there is. */
const EVENT = "metrics";

/** Written in front of the data and read by nobody: the original computes it so, 152 more than what follows. */
const INNER_HEADER_BASE = 722;

/** The topic of an application, by its name. */
export function metricsTopic(application: string): string {
  return `metrics:${application}`;
}

export type MetricsCategory = "computation" | "node-ingress-egress" | "pipeline-ingestion" | "start-to-end";

/** One metric in one period. Numbers are whole; above 2^53 - 1 they may be bigint. */
export interface MetricsPayload<U64 = number | bigint, Category = MetricsCategory> {
  readonly name: string;
  readonly category: Category;
  readonly worker: string;
  readonly pipeline: string;
  /** Order within the pipeline, 0 to 65,535. */
  readonly id: number;
  /** 65 counts, by number of significant bits. */
  readonly bins: ArrayLike<U64>;
  /** Smallest and largest sample, nanoseconds. */
  readonly min: U64;
  readonly max: U64;
  readonly periodNs: U64;
  /** Since the Unix epoch. */
  readonly periodEndNs: U64;
}

export type MetricsMessage =
  | { readonly kind: "connect" }
  /** `null`: an older form without the worker's name. */
  | { readonly kind: "join"; readonly topic: string; readonly worker: string | null }
  | ({ readonly kind: "payload"; readonly topic: string } & MetricsPayload<bigint, string>);

/** A frame that a hub skips. */
export interface MetricsFault {
  readonly kind: "fault";
  readonly code: "bad_size" | "bad_text" | "empty_frame" | "truncated" | "unknown_event" | "unknown_type";
  readonly sentence: string;
}

/** Appends the first frame of a connection. */
export function encodeConnect(out: ByteWriter): void {
  const frame = out.beginFrame();
  out.u8(CONNECT);
  out.endFrame(frame);
}

/** Appends the second frame of a connection. */
export function encodeJoin(out: ByteWriter, topic: string, worker: string): void {
  const frame = out.beginFrame();
  out.u8(JOIN);
  out.str32(topic);
  out.str32(worker);
  out.endFrame(frame);
}

/** Appends one metric: inner header, four names, id, 65 bins, min, max, period, period end. */
export function encodePayload(out: ByteWriter, topic: string, payload: MetricsPayload<number | bigint, string>): void {
  assert(payload.bins.length === BIN_COUNT, "a histogram has 65 bins");
  const frame = out.beginFrame();
  out.u8(PAYLOAD);
  out.str32(EVENT);
  out.str32(topic);
  const data = out.beginFrame();
  const inner = out.reserve(4);
  const names = out.length;
  out.str32(payload.name);
  out.str32(payload.category);
  out.str32(payload.worker);
  out.str32(payload.pipeline);
  const nameBytes = out.length - names - 16;
  out.view.setUint32(inner, INNER_HEADER_BASE + nameBytes);
  out.u16(payload.id);
  for (let bin = 0; bin < BIN_COUNT; bin++) out.u64(payload.bins[bin]!);
  out.u64(payload.min);
  out.u64(payload.max);
  out.u64(payload.periodNs);
  out.u64(payload.periodEndNs);
  out.endFrame(data);
  out.endFrame(frame);
}

/** Decodes the payload of one frame, without its length. Bytes behind the last field are ignored. Never throws. */
export function decodeMetrics(bytes: Uint8Array): MetricsMessage | MetricsFault {
  if (bytes.length === 0) return fault("empty_frame", "an empty frame");
  try {
    return readMetrics(new ByteReader("the metrics message", bytes));
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return fault(error.code === "bad_text" ? "bad_text" : "truncated", error.message);
  }
}

function readMetrics(reader: ByteReader): MetricsMessage | MetricsFault {
  const type = reader.u8();
  switch (type) {
    case CONNECT:
      return { kind: "connect" };
    case JOIN: {
      const topic = reader.str32();
      return { kind: "join", topic, worker: reader.remaining === 0 ? null : reader.str32() };
    }
    case PAYLOAD: {
      const event = reader.str32();
      const topic = reader.str32();
      if (event !== EVENT) return fault("unknown_event", `a payload of event ${JSON.stringify(event)}`);
      const size = reader.u32();
      if (size > reader.remaining) {
        return fault("bad_size", `a payload of ${size} bytes in a frame that has ${reader.remaining} left`);
      }
      return { kind: "payload", topic, ...readPayload(new ByteReader("the metrics payload", reader.bytes(size))) };
    }
    default:
      return fault("unknown_type", `a message of type ${type}`);
  }
}

function readPayload(reader: ByteReader): MetricsPayload<bigint, string> {
  // The inner header is wrong by design: see above.
  reader.skip(4);
  const name = reader.str32();
  const category = reader.str32();
  const worker = reader.str32();
  const pipeline = reader.str32();
  const id = reader.u16();
  const bins: bigint[] = [];
  for (let bin = 0; bin < BIN_COUNT; bin++) bins.push(reader.u64());
  const min = reader.u64();
  const max = reader.u64();
  const periodNs = reader.u64();
  const periodEndNs = reader.u64();
  return { name, category, worker, pipeline, id, bins, min, max, periodNs, periodEndNs };
}

function fault(code: MetricsFault["code"], sentence: string): MetricsFault {
  return { kind: "fault", code, sentence };
}
