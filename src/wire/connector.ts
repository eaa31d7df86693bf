// The connector protocol, version 3, as Wallaroo speaks it, byte for byte: a connector program to a worker's source, and a
// worker to a sink program. "Client" is the side that opens the connection. This file is the protocol's table of contents;
// `docs/protocol/connector.md` says who may say what when.
//
//   u32 length | u8 tag | fields
//
// Integers are big-endian. What is longer than its fields is taken, what ends within them is refused.

import { unreachable } from "../base/assert.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteReader, shortAscii } from "./byte_reader.ts";
import type { ByteWriter } from "./byte_writer.ts";

/** In the HELLO of a connector program. */
export const SOURCE_VERSION = "0.0.1";
/** In the HELLO of a worker to a sink. */
export const SINK_VERSION = "v0.0.1";
/** What sinks of old expect unless told otherwise. */
export const DEFAULT_COOKIE = "Dragons-Love-Tacos";
/** Point of reference of a stream of which nothing is covered yet. */
export const NOTHING_COVERED = 0xffff_ffff_ffff_ffffn;
/** Of a sink's connection: the two-phase commit. */
export const COMMIT_STREAM = 0n;
/** Of a sink's connection: the output. */
export const OUTPUT_STREAM = 1n;

export type ConnectorFrame =
  /** Client: the first frame. A source wants `SOURCE_VERSION`, a sink gets `SINK_VERSION`. The cookie is opaque. */
  | {
      readonly kind: "hello";
      readonly version: string;
      readonly cookie: Uint8Array;
      readonly program: string;
      readonly instance: string;
    }
  /** Server: welcome; so many credits to begin with. */
  | { readonly kind: "ok"; readonly credits: number }
  /** Either: the last frame of its sender. */
  | { readonly kind: "error"; readonly text: string }
  /** Client: opens a stream; `point` is its own idea of what is covered. The name is opaque and for people. */
  | { readonly kind: "notify"; readonly stream: bigint; readonly name: Uint8Array; readonly point: bigint }
  /** Server: messages behind `point` may follow; not successful: try again later. */
  | { readonly kind: "notify_ack"; readonly success: boolean; readonly stream: bigint; readonly point: bigint }
  /** Client: one record. Both, on stream 0 of a sink: one `TransactionMessage`. */
  | {
      readonly kind: "message";
      readonly stream: bigint;
      /** Its place in the stream, ascending. */
      readonly id: bigint;
      /** Signed, free of unit; 0: none. */
      readonly eventTime: bigint;
      /** Opaque; empty: none. */
      readonly key: Uint8Array;
      readonly body: Uint8Array;
    }
  /** Server: so many credits more, and what is covered in each of these streams. */
  | { readonly kind: "ack"; readonly credits: number; readonly points: readonly StreamPoint[] }
  /** Server: connect anew, to `host:port`; empty: to the same address. */
  | { readonly kind: "restart"; readonly address: string }
  /** Client: no more messages of this stream. */
  | { readonly kind: "end_of_stream"; readonly stream: bigint }
  /** Nobody: an old form of the message of the same name below. */
  | { readonly kind: "workers_left"; readonly request: bigint; readonly workers: readonly string[] };

export interface StreamPoint {
  readonly stream: bigint;
  readonly point: bigint;
}

/** Body of a MESSAGE on stream 0 of a sink's connection. */
export type TransactionMessage =
  /** Worker: which transactions have a vote and no decision? */
  | { readonly kind: "list_uncommitted"; readonly request: bigint }
  /** Sink. */
  | { readonly kind: "uncommitted"; readonly request: bigint; readonly ids: readonly string[] }
  /** Worker: vote on these ranges of output. */
  | { readonly kind: "phase1"; readonly id: string; readonly ranges: readonly OutputRange[] }
  /** Sink: its vote; everything that it promises is on stable storage. */
  | { readonly kind: "vote"; readonly id: string; readonly commit: boolean }
  /** Worker: the decision; nothing answers it. */
  | { readonly kind: "phase2"; readonly id: string; readonly commit: boolean }
  /** Worker: these have left the cluster for good. */
  | { readonly kind: "workers_left"; readonly request: bigint; readonly workers: readonly string[] };

/** Of a stream: from byte `start` up to, not including, byte `end`. */
export interface OutputRange {
  readonly stream: bigint;
  readonly start: bigint;
  readonly end: bigint;
}

/** First byte of a frame. */
export const TAG = {
  hello: 0,
  ok: 1,
  error: 2,
  notify: 3,
  notify_ack: 4,
  message: 5,
  ack: 6,
  restart: 7,
  end_of_stream: 8,
  workers_left: 9,
} as const;

const TRANSACTION_TAG = {
  list_uncommitted: 201,
  uncommitted: 202,
  phase1: 203,
  vote: 204,
  phase2: 205,
  workers_left: 206,
} as const;

/** Where the fields of a MESSAGE lie, counted from its tag. Behind them: key, then body. */
export const MESSAGE_AT = { stream: 1, id: 9, eventTime: 17, keyLength: 25, key: 27 } as const;
/** A MESSAGE without key and body, its length field included. */
export const MESSAGE_OVERHEAD_BYTES = 4 + MESSAGE_AT.key;

const NO_BYTES = new Uint8Array(0);
/** Text of the protocol is bytes to the original: what is not UTF-8 becomes U+FFFD. */
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Appends the whole frame, its length included. */
export function encodeConnectorFrame(frame: ConnectorFrame, out: ByteWriter): void {
  const at = out.beginFrame();
  out.u8(TAG[frame.kind]);
  switch (frame.kind) {
    case "hello":
      out.str16(frame.version);
      bytes16(out, frame.cookie);
      out.str16(frame.program);
      out.str16(frame.instance);
      break;
    case "ok":
      out.u32(frame.credits);
      break;
    case "error":
      out.str16(frame.text);
      break;
    case "notify":
      out.u64(frame.stream);
      bytes16(out, frame.name);
      out.u64(frame.point);
      break;
    case "notify_ack":
      out.u8(frame.success ? 1 : 0);
      out.u64(frame.stream);
      out.u64(frame.point);
      break;
    case "message":
      messageHead(out, frame.stream, frame.id, frame.eventTime, frame.key);
      out.bytes(frame.body);
      break;
    case "ack":
      out.u32(frame.credits);
      out.u32(frame.points.length);
      for (const { stream, point } of frame.points) {
        out.u64(stream);
        out.u64(point);
      }
      break;
    case "restart":
      out.str32(frame.address);
      break;
    case "end_of_stream":
      out.u64(frame.stream);
      break;
    case "workers_left":
      out.u64(frame.request);
      texts(out, frame.workers);
      break;
    default:
      unreachable(frame);
  }
  out.endFrame(at);
}

/** Appends the whole frame: a MESSAGE on stream 0. */
export function encodeTransactionMessage(message: TransactionMessage, out: ByteWriter): void {
  const at = out.beginFrame();
  out.u8(TAG.message);
  messageHead(out, COMMIT_STREAM, 0n, 0n, NO_BYTES);
  out.u8(TRANSACTION_TAG[message.kind]);
  switch (message.kind) {
    case "list_uncommitted":
      out.u64(message.request);
      break;
    case "uncommitted":
      out.u64(message.request);
      texts(out, message.ids);
      break;
    case "phase1":
      out.str16(message.id);
      out.u32(message.ranges.length);
      for (const { stream, start, end } of message.ranges) {
        out.u64(stream);
        out.u64(start);
        out.u64(end);
      }
      break;
    case "vote":
    case "phase2":
      out.str16(message.id);
      out.u8(message.commit ? 1 : 0);
      break;
    case "workers_left":
      out.u64(message.request);
      texts(out, message.workers);
      break;
    default:
      unreachable(message);
  }
  out.endFrame(at);
}

/**
 * Decodes one frame, without its length. Byte fields are views into it.
 *
 * @throws {ProtocolError} `empty_frame`, `unknown_tag`, `truncated`.
 */
export function decodeConnectorFrame(bytes: Uint8Array): ConnectorFrame {
  if (bytes.length === 0) throw new ProtocolError("empty_frame", "the connector frame is empty");
  const fields = new ByteReader("the connector frame", bytes);
  const tag = fields.u8();
  switch (tag) {
    case TAG.hello:
      return {
        kind: "hello",
        version: text16(fields),
        cookie: fields.bytes(fields.u16()),
        program: text16(fields),
        instance: text16(fields),
      };
    case TAG.ok:
      return { kind: "ok", credits: fields.u32() };
    case TAG.error:
      return { kind: "error", text: text16(fields) };
    case TAG.notify:
      return { kind: "notify", stream: fields.u64(), name: fields.bytes(fields.u16()), point: fields.u64() };
    case TAG.notify_ack:
      return { kind: "notify_ack", success: fields.u8() === 1, stream: fields.u64(), point: fields.u64() };
    case TAG.message: {
      const stream = fields.u64();
      const id = fields.u64();
      const eventTime = fields.view.getBigInt64(fields.skip(8));
      const key = fields.bytes(fields.u16());
      return { kind: "message", stream, id, eventTime, key, body: fields.bytes(fields.remaining) };
    }
    case TAG.ack: {
      const credits = fields.u32();
      const count = checkedCount(fields, 16);
      const points = Array.from({ length: count }, () => ({ stream: fields.u64(), point: fields.u64() }));
      return { kind: "ack", credits, points };
    }
    case TAG.restart:
      // An early text of the protocol has no field here, and clients that send none.
      return { kind: "restart", address: fields.remaining === 0 ? "" : UTF8.decode(fields.bytes(fields.u32())) };
    case TAG.end_of_stream:
      return { kind: "end_of_stream", stream: fields.u64() };
    case TAG.workers_left:
      return { kind: "workers_left", request: fields.u64(), workers: readTexts(fields) };
    default:
      throw fields.error("unknown_tag", `has the tag ${tag}, which is unknown`);
  }
}

/**
 * Decodes the body of a MESSAGE on stream 0.
 *
 * @throws {ProtocolError} `empty_frame`, `unknown_tag`, `truncated`, `bad_boolean`: nobody guesses a decision.
 */
export function decodeTransactionMessage(body: Uint8Array): TransactionMessage {
  if (body.length === 0) throw new ProtocolError("empty_frame", "the two-phase-commit message is empty");
  const fields = new ByteReader("the two-phase-commit message", body);
  const tag = fields.u8();
  switch (tag) {
    case TRANSACTION_TAG.list_uncommitted:
      return { kind: "list_uncommitted", request: fields.u64() };
    case TRANSACTION_TAG.uncommitted:
      return { kind: "uncommitted", request: fields.u64(), ids: readTexts(fields) };
    case TRANSACTION_TAG.phase1: {
      const id = text16(fields);
      const count = checkedCount(fields, 24);
      const range = () => ({ stream: fields.u64(), start: fields.u64(), end: fields.u64() });
      return { kind: "phase1", id, ranges: Array.from({ length: count }, range) };
    }
    case TRANSACTION_TAG.vote:
      return { kind: "vote", id: text16(fields), commit: decision(fields) };
    case TRANSACTION_TAG.phase2:
      return { kind: "phase2", id: text16(fields), commit: decision(fields) };
    case TRANSACTION_TAG.workers_left:
      return { kind: "workers_left", request: fields.u64(), workers: readTexts(fields) };
    default:
      throw fields.error("unknown_tag", `has the tag ${tag}, which is unknown`);
  }
}

function messageHead(out: ByteWriter, stream: bigint, id: bigint, eventTime: bigint, key: Uint8Array): void {
  out.u64(stream);
  out.u64(id);
  out.u64(BigInt.asUintN(64, eventTime));
  bytes16(out, key);
}

function bytes16(out: ByteWriter, bytes: Uint8Array): void {
  out.u16(bytes.length);
  out.bytes(bytes);
}

function texts(out: ByteWriter, list: readonly string[]): void {
  out.u32(list.length);
  for (const text of list) out.str16(text);
}

function text16(fields: ByteReader): string {
  const length = fields.u16();
  if (length === 0) return "";
  const bytes = fields.bytes(length);
  return shortAscii(bytes) ?? UTF8.decode(bytes);
}

function readTexts(fields: ByteReader): string[] {
  return Array.from({ length: checkedCount(fields, 2) }, () => text16(fields));
}

/** A count, checked against the bytes that so many entries take at least: before anything is allocated. */
function checkedCount(fields: ByteReader, entryBytesMin: number): number {
  const count = fields.u32();
  if (count * entryBytesMin <= fields.remaining) return count;
  throw fields.error("truncated", `ends too early: ${count} entries wanted, ${fields.remaining} bytes are there`);
}

function decision(fields: ByteReader): boolean {
  const byte = fields.u8();
  if (byte > 1) throw fields.error("bad_boolean", `has the decision ${byte}, which is neither 0 nor 1`);
  return byte === 1;
}
