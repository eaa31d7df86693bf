/**
 * The most that can be packed into a MiB, for every decoder: every byte or two of it a value, a frame, a record of its own.
 * `dense_test.ts` judges what becomes of it, `bench/micro/dense.ts` prints how long it takes.
 */
import { lines } from "../../mod.ts";
import { makeRecordSplitter } from "../../src/connectors/record_splitter.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { decodeCbor } from "../../src/wire/cbor.ts";
import { decodeConnectorFrame, decodeTransactionMessage } from "../../src/wire/connector.ts";
import { decodeDataBatch, encodeDataBatch } from "../../src/wire/data_batch.ts";
import { decodeExternalAnswer, decodeExternalRequest, EXTERNAL_REQUEST_LENGTH_MAX } from "../../src/wire/external.ts";
import { FrameSplitter } from "../../src/wire/frame.ts";
import { type LinkFrames, LinkReader } from "../../src/wire/link.ts";
import { decodeMetrics } from "../../src/wire/metrics.ts";
import { decodeRegistryRequest } from "../../src/wire/stream_claims.ts";
import { decodeValues } from "../../src/wire/values.ts";
import { joined } from "./damage.ts";

export const MIB = 1 << 20;

export interface Dense {
  readonly name: string;
  /** About 1 MiB, or as much as the decoder takes. */
  readonly bytes: Uint8Array;
  readonly decode: (bytes: Uint8Array) => unknown;
  /** Work over 1 MiB that nobody can save, for the benchmark to compare with. */
  readonly bare: Bare;
}

/** Parsing a MiB of empty objects as JSON; a view for each five bytes of a MiB; an empty buffer for each two. */
export type Bare = "json" | "views" | "buffers";

export const utf8 = (text: string) => new TextEncoder().encode(text);

/** `unit` as often as it fits. */
function filled(...unit: number[]): Uint8Array {
  const bytes = new Uint8Array(Math.floor(MIB / unit.length) * unit.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = unit[i % unit.length]!;
  return bytes;
}

export function listOf(item: string, length = MIB): string {
  return `[${`${item},`.repeat(Math.floor(length / (item.length + 1)) - 1)}${item}]`;
}

/** Cuts a stream into frames and hands each on. */
function framesTo(take: (frame: Uint8Array) => unknown): (bytes: Uint8Array) => void {
  return (bytes) => {
    const splitter = new FrameSplitter({ lengthMax: EXTERNAL_REQUEST_LENGTH_MAX });
    splitter.push(bytes);
    for (let i = 0; i < splitter.count; i++) take(splitter.bytes.subarray(splitter.starts[i], splitter.ends[i]));
  };
}

/** A MiB of the largest frames with this text. */
function requests(text: string): Uint8Array {
  const body = utf8(text.slice(0, EXTERNAL_REQUEST_LENGTH_MAX - 2));
  const frame = new Uint8Array(6 + body.length);
  new DataView(frame.buffer).setUint32(0, 2 + body.length);
  frame[5] = 4;
  frame.set(body, 6);
  return filled(...frame);
}

/** A list of CBOR. */
export function cborList(count: number, ...item: number[]): Uint8Array {
  const bytes = new Uint8Array(3 + count * item.length);
  bytes[0] = 0x99;
  new DataView(bytes.buffer).setUint16(1, count);
  for (let i = 3; i < bytes.length; i++) bytes[i] = item[(i - 3) % item.length]!;
  return bytes;
}

/** What strangers can send to the ports of a worker and a hub. */
export function strangersSend(): Dense[] {
  const request = framesTo(decodeExternalRequest);
  const shrink = (names: string) => requests(`{"query":true,"node_count":1,"node_names":${names}}`);
  const external = { decode: request, bare: "views" } as const;
  const heads = { decode: framesTo(decodeMetrics), bare: "views" } as const;
  return [
    { name: "external: lists in a request", bytes: shrink(listOf("[]", 16_300)), ...external },
    { name: "external: numbers in a request", bytes: shrink(listOf("1", 16_300)), ...external },
    { name: "external: names in a request", bytes: shrink(listOf('""', 16_300)), ...external },
    { name: "external: depth", bytes: requests("[".repeat(16_384)), ...external },
    { name: "external: empty frames", bytes: filled(0, 0, 0, 0), ...external },
    { name: "external: broken requests", bytes: filled(0, 0, 0, 3, 0, 4, 0x5b), ...external },
    { name: "metrics: connects", bytes: filled(0, 0, 0, 1, 1), ...heads },
    { name: "metrics: joins", bytes: filled(0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 0, 0, 0), ...heads },
    {
      name: "lines: nothing but ends",
      bytes: filled(10),
      decode: (bytes) => makeRecordSplitter(lines, 40).push(bytes),
      bare: "views",
    },
  ];
}

/** What programs beside a worker send. */
export function programsSend(): Dense[] {
  const frames = { decode: framesTo(decodeConnectorFrame), bare: "views" } as const;
  const list = [0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0];
  return [
    { name: "connector: ends of streams", bytes: filled(0, 0, 0, 9, 8, 0, 0, 0, 0, 0, 0, 0, 1), ...frames },
    { name: "connector: credits", bytes: filled(0, 0, 0, 5, 1, 0, 0, 0, 1), ...frames },
    { name: "connector: messages", bytes: filled(0, 0, 0, 27, 5, ...new Uint8Array(26)), ...frames },
    {
      name: "connector: names",
      bytes: joined(Uint8Array.of(9, ...list), new Uint8Array(MIB)),
      decode: decodeConnectorFrame,
      bare: "json",
    },
    {
      name: "two-phase commit: ids",
      bytes: joined(Uint8Array.of(202, ...list), new Uint8Array(MIB)),
      decode: decodeTransactionMessage,
      bare: "json",
    },
  ];
}

const NOBODY: LinkFrames = {
  open: true,
  payload: () => {},
  ack: () => {},
  credit: () => {},
  heartbeat: () => {},
  goodbye: () => {},
  resume: () => {},
};

/** A block of one column of tags. */
function tagged(...unit: number[]): Uint8Array {
  const tags = filled(...unit);
  const out = new ByteWriter();
  out.u8(0);
  out.u32(tags.length);
  out.bytes(tags);
  out.u8(0);
  out.u32(0);
  return out.take();
}

function batchOf(count: number, value: unknown): Uint8Array {
  const out = new ByteWriter();
  const columns = { times: new Float64Array(count), hashes: new Uint32Array(0), keys: [] };
  const values = new Array<unknown>(count).fill(value);
  encodeDataBatch({ exchange: 1, pipeline: 0, count, watermark: 0, arrivalMs: 0, ...columns, values }, out);
  return out.take();
}

/** What workers send each other, and find in their files. */
export function workersSend(): Dense[] {
  const link = { decode: (bytes: Uint8Array) => new LinkReader(MIB).push(bytes, NOBODY), bare: "views" } as const;
  const cbor = { decode: (bytes: Uint8Array) => decodeCbor(bytes), bare: "json" } as const;
  const values = (name: string, unit: readonly number[], bare: Bare): Dense => {
    const count = Math.floor(MIB / unit.length);
    const decode = (bytes: Uint8Array) => decodeValues(bytes, 0, bytes.length, count);
    return { name: `values: ${name}`, bytes: tagged(...unit), decode, bare };
  };
  return [
    { name: "link: heartbeats", bytes: filled(0, 0, 0, 1, 4), ...link },
    { name: "link: goodbyes", bytes: filled(0, 0, 0, 1, 5), ...link },
    { name: "link: empty payloads", bytes: filled(0, 0, 0, 16, 1, 2, ...new Uint8Array(14)), ...link },
    {
      name: "stream claims",
      bytes: joined(Uint8Array.of(4), new Uint8Array(MIB)),
      decode: decodeRegistryRequest,
      bare: "json",
    },
    // As many as are taken; refused before anything is made is what has one more.
    { name: "cbor: lists", bytes: cborList(16_383, 0x80), ...cbor },
    { name: "cbor: maps", bytes: cborList(16_383, 0xa0), ...cbor },
    { name: "cbor: maps of one", bytes: cborList(5_461, 0xa1, 0x61, 0x61, 0), ...cbor },
    { name: "cbor: byte strings", bytes: cborList(16_383, 0x40), ...cbor, bare: "buffers" },
    { name: "cbor: a million announced", bytes: cborList(65_535, 0xa0), ...cbor },
    values("nulls", [1], "json"),
    values("integers", [4, 0], "json"),
    values("strings", [6, 0], "json"),
    values("lists", [10, 0], "json"),
    values("lists of one", [10, 1, 1], "json"),
    values("objects", [11, 0], "json"),
    values("maps", [12, 0], "json"),
    values("sets", [13, 0], "json"),
    values("dates", [9, 0, 0, 0, 0, 0, 0, 0, 0], "json"),
    values("bigints", [7, 1, 9], "json"),
    values("buffers", [14, 0], "buffers"),
    values("byte arrays", [16, 0], "buffers"),
    values("arrays of numbers", [24, 0], "buffers"),
    {
      name: "batch: four lists a record",
      bytes: batchOf(80_000, [[[[null]]]]),
      decode: decodeDataBatch,
      bare: "json",
    },
    {
      name: "batch: an object a record",
      bytes: batchOf(110_000, { a: null }),
      decode: decodeDataBatch,
      bare: "json",
    },
  ];
}

/** What tools and scenarios read as JSON. */
export function toolsRead(): Dense[] {
  const answer = (text: string) => joined(Uint8Array.of(3, 0xec), utf8(text));
  const json = { decode: decodeExternalAnswer, bare: "json" } as const;
  const keys = Array.from({ length: 100_000 }, (_, i) => `"${i.toString(36)}":1`).join(",");
  return [
    { name: "JSON: lists", bytes: answer(listOf("[]")), ...json },
    { name: "JSON: objects", bytes: answer(listOf("{}")), ...json },
    { name: "JSON: numbers", bytes: answer(listOf("1")), ...json },
    { name: "JSON: names", bytes: answer(listOf('"a"')), ...json },
    { name: "JSON: keys", bytes: answer(`{${keys}}`), ...json },
    { name: "JSON: depth", bytes: answer("[".repeat(MIB)), ...json },
  ];
}
