/**
 * Dead letters on their way back into a cluster: what a tool sends over the external channel, in pieces, since a frame there is
 * small; and what one worker hands to another, whose keys they are.
 *
 *   piece of a batch | u32 size of the whole batch | u32 where this piece begins in it | bytes |
 *   batch            | one map as a block of values: clusterId, another, letters |
 *   list of letters  | one array as a block of values |
 */
import { ProtocolError } from "../base/errors.ts";
import { ByteWriter } from "./byte_writer.ts";
import { type RecordPlace, readPlace } from "./record_place.ts";
import { decodeValues, encodeValues } from "./values.ts";

/** Of one batch, on the wire. It goes to another worker in one control frame (4 MiB). */
export const RESEND_BYTES_MAX = 3 * 1024 * 1024;
export const RESEND_LETTERS_MAX = 256;
/** Of a batch in one external frame (16 KiB, with ids and sizes). */
export const RESEND_PIECE_BYTES_MAX = 16_000;
/** Ids of stages, keys, names: nothing of an application is longer. */
const TEXT_LENGTH_MAX = 8_192;

/** What is needed to let a record in where it was refused. */
export interface ResentLetter {
  /** Operator id. */
  readonly stage: string;
  /** `decode`, `apply`, `encode`, ... */
  readonly during: string;
  readonly source: string | null;
  readonly place: RecordPlace | null;
  readonly key: string | null;
  /** Event time in microseconds, of a record that was not decoded when it arrived; null: not known. */
  readonly time: number | null;
  /** The record as it came, and what stood before it in its message; null: it was decoded. */
  readonly bytes: Uint8Array | null;
  readonly head: Uint8Array | null;
  /** The decoded record as a block of one value; null: it was not decoded. */
  readonly value: Uint8Array | null;
}

export interface ResendBatch {
  /** Of the cluster whose letters they are: 32 hex digits. */
  readonly clusterId: string;
  /** Let them into another cluster of the same application. */
  readonly another: boolean;
  readonly letters: readonly ResentLetter[];
}

/** What became of a batch. Every letter is in one of the lists, by its index. */
export interface ResendOutcome {
  /** They are in, and a checkpoint has them; without checkpoints: they are in. */
  readonly taken: readonly number[];
  /** They are not in, and why: they may be sent again. */
  readonly left: readonly LeftLetters[];
  /** It is not known whether they are in, and why. */
  readonly unsure: readonly LeftLetters[];
  /** The checkpoint that has the last of them; 0: without checkpoints. */
  readonly epoch: number;
}

export interface LeftLetters {
  readonly letters: readonly number[];
  readonly why: string;
}

export function encodeResendBatch(batch: ResendBatch): Uint8Array {
  return block(batch);
}

export function encodeResentLetters(letters: readonly ResentLetter[]): Uint8Array {
  return block(letters);
}

/** @throws {ProtocolError} `bad_letters`. */
export function decodeResendBatch(bytes: Uint8Array): ResendBatch {
  const { clusterId, another, letters } = fieldsOf(unblock(bytes));
  if (typeof clusterId !== "string" || !/^[0-9a-f]{32}$/.test(clusterId)) throw bad("its cluster id is none");
  if (typeof another !== "boolean") throw bad("it does not say whether another cluster may take it");
  return { clusterId, another, letters: readLetters(letters) };
}

/** @throws {ProtocolError} `bad_letters`. */
export function decodeResentLetters(bytes: Uint8Array): readonly ResentLetter[] {
  return readLetters(unblock(bytes));
}

function block(value: unknown): Uint8Array {
  const out = new ByteWriter();
  encodeValues([value], 1, out);
  return out.take();
}

function unblock(bytes: Uint8Array): unknown {
  if (bytes.length > RESEND_BYTES_MAX) throw bad(`it has ${bytes.length} bytes, more than ${RESEND_BYTES_MAX}`);
  try {
    return decodeValues(bytes, 0, bytes.length, 1)[0];
  } catch (error) {
    throw bad((error as Error).message);
  }
}

function readLetters(value: unknown): readonly ResentLetter[] {
  if (!Array.isArray(value)) throw bad("it has no list of letters");
  if (value.length > RESEND_LETTERS_MAX) throw bad(`it has ${value.length} letters, more than ${RESEND_LETTERS_MAX}`);
  return value.map(readLetter);
}

/** Built anew: nothing of a stranger's making goes further. */
function readLetter(value: unknown): ResentLetter {
  const { stage, during, source, place, key, time, bytes, head, value: block } = fieldsOf(value);
  const isText = (field: unknown): field is string => typeof field === "string" && field.length <= TEXT_LENGTH_MAX;
  const isTextOrNull = (field: unknown): field is string | null => field === null || isText(field);
  const isBytesOrNull = (field: unknown): field is Uint8Array | null => field === null || field instanceof Uint8Array;
  if (!isText(stage) || !isText(during)) throw bad("a letter says no stage");
  if (!isTextOrNull(source) || !isTextOrNull(key)) throw bad("a letter's source or key is no text");
  if (time !== null && !(typeof time === "number" && Number.isFinite(time))) throw bad("a letter's time is no number");
  if (!isBytesOrNull(bytes) || !isBytesOrNull(head) || !isBytesOrNull(block))
    throw bad("a letter's record is no bytes");
  return { stage, during, source, place: readPlace(place), key, time, bytes, head, value: block };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw bad("it is no map");
  return value as Record<string, unknown>;
}

function bad(why: string): ProtocolError {
  return new ProtocolError("bad_letters", `what was sent as dead letters is refused: ${why}`);
}

/** What a worker has said became of a batch; null: it is no such thing. */
export function readResendOutcome(body: unknown, count: number): ResendOutcome | null {
  const { taken, left, unsure, epoch } = (typeof body === "object" && body !== null ? body : {}) as Record<
    string,
    unknown
  >;
  if (!Number.isSafeInteger(epoch) || !isIndexes(taken, count)) return null;
  const [notIn, notKnown] = [readLeft(left, count), readLeft(unsure, count)];
  return notIn === null || notKnown === null ? null : { taken, left: notIn, unsure: notKnown, epoch: epoch as number };
}

function isIndexes(value: unknown, count: number): value is number[] {
  return Array.isArray(value) && value.every((index) => Number.isInteger(index) && index >= 0 && index < count);
}

function readLeft(value: unknown, count: number): LeftLetters[] | null {
  if (!Array.isArray(value)) return null;
  const read: LeftLetters[] = [];
  for (const each of value) {
    const { letters, why } = (typeof each === "object" && each !== null ? each : {}) as Record<string, unknown>;
    if (!isIndexes(letters, count) || typeof why !== "string") return null;
    read.push({ letters, why });
  }
  return read;
}
