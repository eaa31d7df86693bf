// The bytes of a segment of the state log.
//
//   segment = header record*
//
//   header                                          record
//   | 0 to 3    | "TMSL"                         |  | 0 to 3    | "TMSR"                                    |
//   | 4, 5      | format version                 |  | 4 to 7    | length of the body                        |
//   | 6, 7      | zero                           |  | 8 to 11   | what it is: `RECORD`                      |
//   | 8 to 11   | length of the body             |  | 12 to 19  | sequence number, from 1, without gaps     |
//   | 12 to 15  | CRC-32C of the other bytes     |  | 20 to 27  | epoch                                     |
//   | 16 to ... | body: CBOR, `SegmentHeader`    |  | 28 to 35  | sequence number of the last end known to  |
//                                                   |           | be durable when this was written; 0: none |
//                                                   | 36 to 39  | CRC-32C of the other bytes                |
//                                                   | 40 to ... | body                                      |
//
// Bodies of records:
//
//   stage     u16 number | u1 codec, u31 state version | operator id (u16 length, UTF-8)    a number for the rest of the segment
//   entries   u16 stage | u32 count | hashes | keys | values                      these keys have these states
//   removed   u16 stage | u32 count | hashes | keys                               these keys have no state any more
//   end       u32 length | CBOR, `EndFields` | CBOR of the caller                 the epoch is complete
//
// Integers are big-endian, but hashes (u32 each) little-endian as all columns; keys are a string column and values a block
// of values (`docs/wire.md`).

import { assert } from "../../base/assert.ts";
import type { Epoch, Generation } from "../../base/ids.ts";
import { ByteReader } from "../../wire/byte_reader.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import { decodeCbor, encodeCbor } from "../../wire/cbor.ts";
import { decodeStrings, encodeStrings } from "../../wire/string_column.ts";
import { decodeValues, encodeValues, VALUE_BYTES_MAX } from "../../wire/values.ts";
import { crc32c } from "../crc32c.ts";
import { FieldReader } from "../read_fields.ts";

export const SEGMENT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 16;
export const RECORD_HEADER_BYTES = 40;
export const RECORD = { stage: 1, entries: 2, removed: 3, end: 4 } as const;
export type RecordKind = (typeof RECORD)[keyof typeof RECORD];

export const RECORD_MARK = 0x544d5352; // "TMSR"
const SEGMENT_MARK = 0x544d534c; // "TMSL"
const HEADER_BODY_BYTES_MAX = 64 * 1024;
/** A block of values, and keys and hashes with it. */
export const RECORD_BODY_BYTES_MAX = VALUE_BYTES_MAX + 16 * 1024 * 1024;
const END_LIMITS = { itemsMax: 1_000_000, depthMax: 32 };
const ID_BYTES_MAX = 4096;

/** What a segment belongs to, and what comes before it. */
export interface SegmentHeader {
  /** 32 lower-case hex digits. */
  readonly clusterId: string;
  readonly application: string;
  readonly worker: string;
  /** From 1; in the name of the file as well. */
  readonly number: number;
  /** The first segment that may have been needed for anything when this one was begun. */
  readonly base: number;
  /** Sequence number and checksum of the last record before this segment; zeros: there is none. */
  readonly previousSequence: number;
  readonly previousChecksum: number;
}

/** What the log itself says at the end of an epoch. */
export interface EndFields {
  readonly generation: Generation;
  /** The first segment that is needed to restore this epoch. */
  readonly base: number;
  /** Milliseconds since the Unix epoch. For people only. */
  readonly wallMs: number;
  /** What the log's user keeps about the log: stages, where rewriting stands. */
  readonly about: unknown;
}

export interface RecordHeader {
  readonly kind: number;
  readonly bodyBytes: number;
  readonly sequence: number;
  readonly epoch: Epoch;
  readonly securedSequence: number;
  readonly checksum: number;
}

export function encodeSegmentHeader(header: SegmentHeader): Uint8Array<ArrayBuffer> {
  const body = encodeCbor({ ...header });
  const out = new ByteWriter(SEGMENT_HEADER_BYTES + body.length);
  out.u32(SEGMENT_MARK);
  out.u16(SEGMENT_VERSION);
  out.u16(0);
  out.u32(body.length);
  out.u32(crc32c(body, crc32c(out.written())));
  out.bytes(body);
  return out.take();
}

export type SegmentHeaderOutcome =
  | { readonly kind: "ok"; readonly header: SegmentHeader; readonly bytes: number }
  | { readonly kind: "other_version"; readonly version: number }
  | { readonly kind: "damaged"; readonly offset: number; readonly why: string };

/** How many bytes to have for `decodeSegmentHeader`, at most. */
export const SEGMENT_HEADER_BYTES_MAX = SEGMENT_HEADER_BYTES + HEADER_BODY_BYTES_MAX;

/** @param bytes The beginning of the file, at least the header if it is whole. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeaderOutcome {
  if (bytes.length < SEGMENT_HEADER_BYTES) {
    return damaged(bytes.length, `it has ${bytes.length} bytes, and the header alone has ${SEGMENT_HEADER_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== SEGMENT_MARK) return damaged(0, "it does not begin with the mark of a segment");
  const length = view.getUint32(8);
  if (length > HEADER_BODY_BYTES_MAX || length > bytes.length - SEGMENT_HEADER_BYTES) {
    return damaged(8, `its header is cut short, or the length of it was changed: ${length} bytes`);
  }
  const end = SEGMENT_HEADER_BYTES + length;
  const body = bytes.subarray(SEGMENT_HEADER_BYTES, end);
  if (view.getUint32(12) !== crc32c(body, crc32c(bytes.subarray(0, 12)))) {
    return damaged(12, "the checksum of its header is wrong");
  }
  const version = view.getUint16(4);
  if (version !== SEGMENT_VERSION) return { kind: "other_version", version };
  try {
    const fields = new FieldReader("the header", decodeCbor(body));
    const whole = (name: string, from: number, to = Number.MAX_SAFE_INTEGER) => fields.whole(name, from, to);
    const header: SegmentHeader = {
      clusterId: fields.text("clusterId", /^[0-9a-f]{32}$/),
      application: fields.text("application", () => true),
      worker: fields.text("worker", () => true),
      number: whole("number", 1),
      base: whole("base", 1),
      previousSequence: whole("previousSequence", 0),
      previousChecksum: whole("previousChecksum", 0, 0xffff_ffff),
    };
    fields.end();
    return { kind: "ok", header, bytes: end };
  } catch (error) {
    return damaged(SEGMENT_HEADER_BYTES, `its header makes no sense: ${(error as Error).message}`);
  }
}

function damaged(offset: number, why: string): SegmentHeaderOutcome {
  return { kind: "damaged", offset, why };
}

/** Appends a record whose body `write` appends; what `write` throws leaves `out` as it was. Returns its checksum. */
export function encodeRecord(
  out: ByteWriter,
  fields: { kind: RecordKind; sequence: number; epoch: Epoch; securedSequence: number },
  write: (out: ByteWriter) => void,
): number {
  const start = out.length;
  try {
    out.u32(RECORD_MARK);
    out.u32(0);
    out.u32(fields.kind);
    out.u64(fields.sequence);
    out.u64(fields.epoch);
    out.u64(fields.securedSequence);
    out.u32(0);
    write(out);
  } catch (error) {
    out.length = start;
    throw error;
  }
  const bodyBytes = out.length - start - RECORD_HEADER_BYTES;
  assert(bodyBytes <= RECORD_BODY_BYTES_MAX, "a record that nobody would read");
  out.view.setUint32(start + 4, bodyBytes);
  const checksum = crc32c(
    out.data.subarray(start + RECORD_HEADER_BYTES, out.length),
    crc32c(out.data.subarray(start, start + RECORD_HEADER_BYTES - 4)),
  );
  out.view.setUint32(start + RECORD_HEADER_BYTES - 4, checksum);
  return checksum;
}

/** `null`: no record begins like this. Its checksum is not looked at. */
export function decodeRecordHeader(view: DataView, at: number): RecordHeader | null {
  if (view.getUint32(at) !== RECORD_MARK) return null;
  const header: RecordHeader = {
    kind: view.getUint32(at + 8),
    bodyBytes: view.getUint32(at + 4),
    sequence: whole(view, at + 12),
    epoch: whole(view, at + 20),
    securedSequence: whole(view, at + 28),
    checksum: view.getUint32(at + 36),
  };
  const makesSense =
    header.bodyBytes <= RECORD_BODY_BYTES_MAX &&
    header.kind >= RECORD.stage &&
    header.kind <= RECORD.end &&
    header.securedSequence < header.sequence &&
    header.sequence <= Number.MAX_SAFE_INTEGER &&
    header.epoch <= Number.MAX_SAFE_INTEGER;
  return makesSense ? header : null;
}

function whole(view: DataView, at: number): number {
  return view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
}

/** @param bytes Header and body of one record. */
export function recordChecksum(bytes: Uint8Array): number {
  return crc32c(bytes.subarray(RECORD_HEADER_BYTES), crc32c(bytes.subarray(0, RECORD_HEADER_BYTES - 4)));
}

// --- Bodies --------------------------------------------------------------------------------------------------------

export interface StageNumber {
  readonly number: number;
  readonly id: string;
  readonly version: number;
  readonly codec: boolean;
}

/** Set in the version: values are bytes of the stage's own codec. */
const CODEC_BIT = 0x8000_0000;

export function encodeStage(out: ByteWriter, stage: StageNumber): void {
  out.u16(stage.number);
  assert(stage.version < CODEC_BIT, "state versions are smaller");
  out.u32(stage.codec ? stage.version + CODEC_BIT : stage.version);
  out.str16(stage.id);
}

/** @throws {ProtocolError} */
export function decodeStage(body: Uint8Array): StageNumber {
  const reader = new ByteReader("the stage record", body);
  const number = reader.u16();
  const version = reader.u32();
  const codec = version >= CODEC_BIT;
  const stage = { number, version: codec ? version - CODEC_BIT : version, codec, id: reader.str16() };
  if (reader.remaining > 0 || stage.id.length > ID_BYTES_MAX) throw reader.error("bad_record", "makes no sense");
  return stage;
}

/** The first `count` of each column. @throws {ValueError} */
export function encodeEntries(
  out: ByteWriter,
  stage: number,
  count: number,
  hashes: readonly number[],
  keys: readonly string[],
  values: readonly unknown[] | null,
): void {
  out.u16(stage);
  out.u32(count);
  const at = out.reserve(count * 4);
  for (let i = 0; i < count; i++) out.view.setUint32(at + i * 4, hashes[i]!, true);
  const fits = encodeStrings(keys, count, out);
  assert(fits, "keys are strings, and not too long together");
  if (values !== null) encodeValues(values, count, out);
}

export interface Entries {
  readonly stage: number;
  readonly count: number;
  readonly hashes: Uint32Array;
  readonly keys: string[];
  readonly values: unknown[];
}

/** The keys of a record of entries or removals. @throws {ProtocolError} */
export function decodeEntries(kind: number, body: Uint8Array): Entries {
  const reader = new ByteReader("the record", body);
  const stage = reader.u16();
  const count = reader.u32();
  const at = reader.skip(count * 4);
  const hashes = new Uint32Array(count);
  for (let i = 0; i < count; i++) hashes[i] = reader.view.getUint32(at + i * 4, true);
  const keys = decodeStrings(reader, count);
  if (kind === RECORD.removed) {
    if (reader.remaining > 0) throw reader.error("bad_record", `has ${reader.remaining} bytes too many`);
    return { stage, count, hashes, keys, values: [] };
  }
  return { stage, count, hashes, keys, values: decodeValues(body, reader.offset, reader.remaining, count) };
}

export function encodeEnd(out: ByteWriter, end: EndFields, body: unknown): void {
  const fields = encodeCbor({ ...end }, END_LIMITS);
  out.u32(fields.length);
  out.bytes(fields);
  out.bytes(encodeCbor(body, END_LIMITS));
}

/** @throws {Error} It makes no sense. */
export function decodeEnd(record: Uint8Array): { readonly fields: EndFields; readonly body: unknown } {
  const reader = new ByteReader("the end record", record);
  const reading = new FieldReader("the end record", decodeCbor(reader.bytes(reader.u32()), END_LIMITS));
  const fields: EndFields = {
    generation: reading.whole("generation", 0, Number.MAX_SAFE_INTEGER),
    base: reading.whole("base", 1, Number.MAX_SAFE_INTEGER),
    wallMs: reading.whole("wallMs", 0, Number.MAX_SAFE_INTEGER),
    about: reading.any("about"),
  };
  reading.end();
  return { fields, body: decodeCbor(reader.bytes(reader.remaining), END_LIMITS) };
}
