// The file of dead letters: records that user code refused, as they were. One for each worker and cluster, in the worker's
// folder; it stays when the cluster is shut down.
//
//   file   = header letter*
//   header | 0 to 3 "TMDL" | 4, 5 format version | 6, 7 zero |
//   letter | u32 length of the body | u32 CRC-32C of the body | body: one `DeadLetter` as a block of values |
//
// Integers are big-endian. Version 2 has `time`, `place` and `head`, which are null in a letter of version 1; a file that was
// begun as version 1 goes on with letters of version 2, which readers of version 1 read as well.

import type { ByteWriter } from "../wire/byte_writer.ts";
import { type RecordPlace, readPlace } from "../wire/record_place.ts";
import { decodeValues, encodeValues, ValueError } from "../wire/values.ts";
import { crc32c } from "./crc32c.ts";

export interface DeadLetter {
  /** Milliseconds since the Unix epoch. */
  readonly atMs: number;
  readonly worker: string;
  /** Whose record it was; null: not known, as behind an exchange between several workers. */
  readonly source: string | null;
  /** Where it was in its source; null: not known. */
  readonly place: RecordPlace | null;
  /** How the source's records are framed on a TCP connection; null: not known, or not framed. */
  readonly framing: { readonly headerBytes: number; readonly littleEndian: boolean } | null;
  /** Operator id. */
  readonly stage: string;
  /** `decode`, `apply`, `encode`, ... */
  readonly during: string;
  readonly key: string | null;
  /** Event time in microseconds, or, of a record that was not decoded, when it arrived; null: not known. */
  readonly time: number | null;
  /** What was thrown, in words. */
  readonly error: string;
  /** The record as it came; null: it was decoded already. */
  readonly bytes: Uint8Array | null;
  /** What stood before it in the message of a connector program: tag, stream, ids, key; null: there was none. */
  readonly head: Uint8Array | null;
  /** The record as the stage got it; undefined: it was not decoded yet, or can't be kept (`unfit`). */
  readonly value: unknown;
  /** Why the value is not here; null: it is, or there is none. */
  readonly unfit: string | null;
}

const MARK = 0x544d444c; // "TMDL"
const VERSION = 2;
export const DEAD_LETTERS_HEADER_BYTES = 8;
const LETTER_HEADER_BYTES = 8;
/** Larger records are kept without what they hold. */
const LETTER_BYTES_MAX = 16 * 1024 * 1024;

const NAME = /^dead-letters-([0-9a-f]{32})$/;

export function deadLettersName(clusterId: string): string {
  return `dead-letters-${clusterId}`;
}

/** @returns Of the cluster whose letters these are; null: it is no such name. */
export function clusterOfDeadLetters(name: string): string | null {
  return NAME.exec(name)?.[1] ?? null;
}

export function isDeadLettersName(name: string): boolean {
  return NAME.test(name);
}

export function encodeDeadLettersHeader(out: ByteWriter): void {
  out.u32(MARK);
  out.u16(VERSION);
  out.u16(0);
}

/** Appends one letter. What can't be kept of it is left out, and said in it. */
export function encodeDeadLetter(out: ByteWriter, letter: DeadLetter): void {
  const start = out.length;
  const bare = { ...letter, value: undefined, bytes: null, head: null };
  for (const attempt of [letter, { ...letter, value: undefined }, bare]) {
    out.length = start;
    out.u32(0);
    out.u32(0);
    try {
      encodeValues([attempt === letter ? letter : { ...attempt, unfit: letter.unfit ?? "it is too large" }], 1, out);
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      return encodeDeadLetter(restarted(out, start), { ...letter, value: undefined, unfit: error.message });
    }
    if (out.length - start <= LETTER_BYTES_MAX) break;
  }
  const body = out.data.subarray(start + LETTER_HEADER_BYTES, out.length);
  out.view.setUint32(start, body.length);
  out.view.setUint32(start + 4, crc32c(body));
}

function restarted(out: ByteWriter, length: number): ByteWriter {
  out.length = length;
  return out;
}

export type ReadLetter =
  | { readonly kind: "letter"; readonly letter: DeadLetter; readonly end: number; readonly checksum: number }
  /** `bytes` more are needed, from the same offset on. */
  | { readonly kind: "more"; readonly bytes: number }
  | { readonly kind: "bad"; readonly why: string };

/** @returns `null`: it begins as it should. */
export function checkDeadLettersHeader(bytes: Uint8Array): string | null {
  if (bytes.length < DEAD_LETTERS_HEADER_BYTES) return `it has ${bytes.length} bytes, and its header alone has 8`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0) !== MARK) return "it does not begin like a file of dead letters";
  const version = view.getUint16(4);
  return version === 1 || version === VERSION
    ? null
    : `it has format version ${version}, and this tammar reads versions 1 and ${VERSION}`;
}

/** Reads the letter at the beginning of `bytes`. */
export function decodeDeadLetter(bytes: Uint8Array): ReadLetter {
  if (bytes.length < LETTER_HEADER_BYTES) return { kind: "more", bytes: LETTER_HEADER_BYTES };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getUint32(0);
  if (length > LETTER_BYTES_MAX + 64 * 1024) return { kind: "bad", why: `a letter of ${length} bytes is announced` };
  const end = LETTER_HEADER_BYTES + length;
  if (bytes.length < end) return { kind: "more", bytes: end };
  const body = bytes.subarray(LETTER_HEADER_BYTES, end);
  if (crc32c(body) !== view.getUint32(4)) return { kind: "bad", why: "the checksum of a letter is wrong" };
  try {
    const [value] = decodeValues(body, 0, body.length, 1);
    return { kind: "letter", letter: readLetter(value), end, checksum: view.getUint32(4) };
  } catch (error) {
    return { kind: "bad", why: `a letter makes no sense: ${(error as Error).message}` };
  }
}

function readLetter(value: unknown): DeadLetter {
  const fields = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const { atMs, worker, source, framing, stage, during, key, error, bytes, unfit } = fields;
  const { time = null, place = null, head = null } = fields;
  const isText = (field: unknown) => typeof field === "string";
  const isTextOrNull = (field: unknown) => field === null || isText(field);
  const isWhole =
    typeof atMs === "number" &&
    [worker, stage, during, error].every(isText) &&
    [source, key, unfit].every(isTextOrNull) &&
    [bytes, head].every((field) => field === null || field instanceof Uint8Array) &&
    (time === null || typeof time === "number") &&
    (place === null || readPlace(place) !== null) &&
    (framing === null || isFraming(framing));
  if (!isWhole) throw new Error("a field is missing, or of another type");
  return { ...fields, time, place, head } as unknown as DeadLetter;
}

function isFraming(value: unknown): boolean {
  const { headerBytes, littleEndian } = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const isSize = Number.isInteger(headerBytes) && (headerBytes as number) >= 1 && (headerBytes as number) <= 8;
  return isSize && typeof littleEndian === "boolean";
}
