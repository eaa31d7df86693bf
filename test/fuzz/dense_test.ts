/**
 * The most that can be packed into a MiB: every byte or two of it a value, a frame, a record of its own. `fuzz.ts` asks for
 * 10 ms a MiB of what comes in usual density; to make a million objects takes longer than that whoever makes them. So this
 * compares: processor time with that of a bare loop in the same process, which makes as much of as many bytes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
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

const MIB = 1 << 20;

interface Dense {
  readonly name: string;
  /** About 1 MiB, or as much as the decoder takes. */
  readonly bytes: Uint8Array;
  readonly decode: (bytes: Uint8Array) => unknown;
  readonly bare: Bare;
  /** How many times as long as the bare loop over as many bytes. */
  readonly times: number;
}

/** Work over 1 MiB that nobody can save, to compare with. */
type Bare = "json" | "views" | "buffers";

const utf8 = (text: string) => new TextEncoder().encode(text);

/** `unit` as often as it fits. */
function filled(...unit: number[]): Uint8Array {
  const bytes = new Uint8Array(Math.floor(MIB / unit.length) * unit.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = unit[i % unit.length]!;
  return bytes;
}

function listOf(item: string, length = MIB): string {
  return `[${`${item},`.repeat(Math.floor(length / (item.length + 1)) - 1)}${item}]`;
}

const JSON_TEXT = utf8(listOf("{}"));
const BARE: Readonly<Record<Bare, () => unknown>> = {
  // An empty object for every three bytes.
  json: () => JSON.parse(new TextDecoder().decode(JSON_TEXT)),
  // A view for every five bytes: the smallest frame.
  views: () => {
    const views: Uint8Array[] = [];
    for (let at = 0; at + 5 <= JSON_TEXT.length; at += 5) views.push(JSON_TEXT.subarray(at, at + 5));
    return views;
  },
  // An empty buffer of its own for every two bytes.
  buffers: () => {
    const buffers: ArrayBuffer[] = [];
    for (let at = 0; at < MIB; at += 2) buffers.push(JSON_TEXT.slice(at, at).buffer);
    return buffers;
  },
};

/** Milliseconds of processor time for each MiB; the best of some, as others take the machine away and garbage is collected. */
function cost(run: () => unknown, length: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 4; i++) {
    const began = performance.now();
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, performance.now() - began, (user + system) / 1000);
  }
  return (best * MIB) / length;
}

function fraction(ms: number): string {
  return ms.toFixed(1).padStart(6);
}

function judge(cases: readonly Dense[]): void {
  const slow: string[] = [];
  const loops = new Map<Bare, number>();
  for (const { name, bytes, decode, bare, times } of cases) {
    const run = () => {
      try {
        return decode(bytes);
      } catch (error) {
        // Refused is fine, and the sooner the better.
        return error;
      }
    };
    let ratio = 0;
    let told = "";
    // If it looks slow both again in turn: the machine belongs to others too.
    for (let round = 0; round < 4 && (round === 0 || ratio > times); round++) {
      const known = round === 0 ? loops.get(bare) : undefined;
      const loop = known ?? cost(BARE[bare], MIB);
      loops.set(bare, loop);
      const taken = cost(run, bytes.length);
      ratio = taken / loop;
      told = `${name}: ${fraction(taken)} ms/MiB, ${bare} ${fraction(loop)}: ${ratio.toFixed(1)} times (of ${times})`;
    }
    console.log(`dense ${told}`);
    if (ratio > times) slow.push(told);
  }
  assert.deepEqual(slow, []);
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

/** A list of CBOR with as many items as are taken. */
function cborList(count: number, ...item: number[]): Uint8Array {
  const bytes = new Uint8Array(3 + count * item.length);
  bytes[0] = 0x99;
  new DataView(bytes.buffer).setUint16(1, count);
  for (let i = 3; i < bytes.length; i++) bytes[i] = item[(i - 3) % item.length]!;
  return bytes;
}

test("what strangers can send costs no more than the frames it is cut into, however it is packed", {
  timeout: 120_000,
}, () => {
  const request = framesTo(decodeExternalRequest);
  const shrink = (names: string) => requests(`{"query":true,"node_count":1,"node_names":${names}}`);
  const external = { decode: request, bare: "views", times: 4 } as const;
  const heads = { decode: framesTo(decodeMetrics), bare: "views", times: 4 } as const;
  judge([
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
      times: 5,
    },
  ]);
});

test("what programs beside a worker send costs no more than the frames it is cut into", { timeout: 120_000 }, () => {
  const frames = { decode: framesTo(decodeConnectorFrame), bare: "views", times: 4 } as const;
  const list = [0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 0];
  judge([
    { name: "connector: ends of streams", bytes: filled(0, 0, 0, 9, 8, 0, 0, 0, 0, 0, 0, 0, 1), ...frames },
    { name: "connector: credits", bytes: filled(0, 0, 0, 5, 1, 0, 0, 0, 1), ...frames },
    { name: "connector: messages", bytes: filled(0, 0, 0, 27, 5, ...new Uint8Array(26)), ...frames },
    {
      name: "connector: names",
      bytes: joined(Uint8Array.of(9, ...list), new Uint8Array(MIB)),
      decode: decodeConnectorFrame,
      bare: "json",
      times: 4,
    },
    {
      name: "two-phase commit: ids",
      bytes: joined(Uint8Array.of(202, ...list), new Uint8Array(MIB)),
      decode: decodeTransactionMessage,
      bare: "json",
      times: 4,
    },
  ]);
});

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

test("what workers send each other, and find in their files, costs what it costs to make so many values", {
  timeout: 120_000,
}, () => {
  const link = { decode: (bytes: Uint8Array) => new LinkReader(MIB).push(bytes, NOBODY), bare: "views" } as const;
  const cbor = { decode: (bytes: Uint8Array) => decodeCbor(bytes), bare: "json", times: 12 } as const;
  const values = (name: string, unit: readonly number[], bare: Bare, times: number): Dense => {
    const count = Math.floor(MIB / unit.length);
    const decode = (bytes: Uint8Array) => decodeValues(bytes, 0, bytes.length, count);
    return { name: `values: ${name}`, bytes: tagged(...unit), decode, bare, times };
  };
  judge([
    { name: "link: heartbeats", bytes: filled(0, 0, 0, 1, 4), ...link, times: 2 },
    { name: "link: goodbyes", bytes: filled(0, 0, 0, 1, 5), ...link, times: 4 },
    { name: "link: empty payloads", bytes: filled(0, 0, 0, 16, 1, 2, ...new Uint8Array(14)), ...link, times: 2 },
    {
      name: "stream claims",
      bytes: joined(Uint8Array.of(4), new Uint8Array(MIB)),
      decode: decodeRegistryRequest,
      bare: "json",
      times: 2,
    },
    // As many as are taken; refused before anything is made is what has one more.
    { name: "cbor: lists", bytes: cborList(16_383, 0x80), ...cbor },
    { name: "cbor: maps", bytes: cborList(16_383, 0xa0), ...cbor },
    { name: "cbor: maps of one", bytes: cborList(5_461, 0xa1, 0x61, 0x61, 0), ...cbor },
    { name: "cbor: byte strings", bytes: cborList(16_383, 0x40), ...cbor, bare: "buffers" },
    { name: "cbor: a million announced", bytes: cborList(65_535, 0xa0), ...cbor, times: 0.1 },
    values("nulls", [1], "json", 3),
    values("integers", [4, 0], "json", 2),
    values("strings", [6, 0], "json", 3),
    values("lists", [10, 0], "json", 4),
    values("lists of one", [10, 1, 1], "json", 8),
    values("objects", [11, 0], "json", 6),
    values("maps", [12, 0], "json", 14),
    values("sets", [13, 0], "json", 14),
    values("dates", [9, 0, 0, 0, 0, 0, 0, 0, 0], "json", 2),
    values("bigints", [7, 1, 9], "json", 4),
    values("buffers", [14, 0], "buffers", 3),
    values("byte arrays", [16, 0], "buffers", 3),
    values("arrays of numbers", [24, 0], "buffers", 2),
    {
      name: "batch: four lists a record",
      bytes: batchOf(80_000, [[[[null]]]]),
      decode: decodeDataBatch,
      bare: "json",
      times: 7,
    },
    {
      name: "batch: an object a record",
      bytes: batchOf(110_000, { a: null }),
      decode: decodeDataBatch,
      bare: "json",
      times: 4,
    },
  ]);
});

test("what tools and scenarios read as JSON costs what the platform's parser takes, and a look at it", {
  timeout: 120_000,
}, () => {
  const answer = (text: string) => joined(Uint8Array.of(3, 0xec), utf8(text));
  const json = { decode: decodeExternalAnswer, bare: "json", times: 3 } as const;
  const keys = Array.from({ length: 100_000 }, (_, i) => `"${i.toString(36)}":1`).join(",");
  judge([
    { name: "JSON: lists", bytes: answer(listOf("[]")), ...json },
    { name: "JSON: objects", bytes: answer(listOf("{}")), ...json },
    { name: "JSON: numbers", bytes: answer(listOf("1")), ...json },
    { name: "JSON: names", bytes: answer(listOf('"a"')), ...json },
    { name: "JSON: keys", bytes: answer(`{${keys}}`), ...json, times: 6 },
    { name: "JSON: depth", bytes: answer("[".repeat(MIB)), ...json, times: 1 },
  ]);
});
