/**
 * Control messages to and from bytes. What comes in is checked field by field and built anew, so that nothing of a peer's
 * making is trusted inside: unknown kinds, missing fields and wrong types are refused, fields nobody knows are left out.
 */
import { ProtocolError } from "../base/errors.ts";
import { type Epoch, type Generation, WORKER_NAME, type WorkerName } from "../base/ids.ts";
import type { Address } from "../runtime/runtime.ts";
import { type CborLimits, decodeCbor, encodeCbor } from "./cbor.ts";
import type { ControlMessage, DrainReport, MemberAddress, Phase, RefusedLetter } from "./control.ts";
import { RESEND_LETTERS_MAX } from "./resend.ts";
import {
  decodeRegistryAnswer,
  decodeRegistryRequest,
  encodeRegistryAnswer,
  encodeRegistryRequest,
} from "./stream_claims.ts";

const CBOR_LIMITS: CborLimits = { itemsMax: 65_536, depthMax: 16 };
/** Workers of a cluster. */
const MEMBERS_MAX = 256;
/** Of one worker: ten days, one a second. */
const EPOCHS_MAX = 1_000_000;
const EPOCH_RUNS_MAX = 4_096;
const SOURCES_MAX = 65_535;
const TEXT_LENGTH_MAX = 4_096;
const HOST = /^[\x21-\x7e]{1,255}$/;
const CODE = /^[a-z_]{1,64}$/;
const ID = /^[0-9a-f]{32}$/;

export function encodeControlMessage(message: ControlMessage): Uint8Array {
  return encodeCbor(packed(message), CBOR_LIMITS);
}

/** What has integers of 64 bits, and lists that are longer than any other, goes as bytes of its own. */
function packed(message: ControlMessage): unknown {
  switch (message.kind) {
    case "stream_request":
      return { ...message, request: encodeRegistryRequest(message.request) };
    case "stream_answer":
      return { ...message, answer: encodeRegistryAnswer(message.answer) };
    case "recovery_facts":
      return { ...message, epochs: runsOf(message.epochs) };
    default:
      return message;
  }
}

/** @throws {ProtocolError} `bad_control_message`, and what `decodeCbor` throws. */
export function decodeControlMessage(bytes: Uint8Array): ControlMessage {
  const fields = asMap(decodeCbor(bytes, CBOR_LIMITS), "the message");
  const kind = fields["kind"] as ControlMessage["kind"];
  switch (kind) {
    case "form":
      return {
        kind,
        clusterId: text(fields, "clusterId", ID),
        generation: whole(fields, "generation", 1, 0xffff_ffff),
        routingVersion: whole(fields, "routingVersion", 1, Number.MAX_SAFE_INTEGER),
        keyGroupCount: whole(fields, "keyGroupCount", 1, 65_536),
        members: list(fields, "members", member),
      };
    case "form_saved":
    case "formed":
    case "work":
    case "rotate_log":
      return { kind };
    case "phase_reached":
      return { kind, phase: whole(fields, "phase", 1, 4) as Phase };
    case "stop_requested":
      return { kind, reason: text(fields, "reason"), keep: flag(fields, "keep") };
    case "stop":
      return {
        kind,
        reason: text(fields, "reason"),
        keep: flag(fields, "keep"),
        deadlineMs: real(fields, "deadlineMs"),
      };
    case "drained":
      return { kind, ...report(fields) };
    case "settled":
      return { kind, epoch: whole(fields, "epoch", 0, Number.MAX_SAFE_INTEGER) };
    case "exit":
      return {
        kind,
        reports: list(fields, "reports", report),
        remove: flag(fields, "remove"),
        suspended: flag(fields, "suspended"),
      };
    case "moved":
      return { kind, members: list(fields, "members", member) };
    case "query": {
      const query = text(fields, "query");
      if (query !== "state_entity_count" && query !== "status") throw bad("query", query);
      return { kind, query, request: whole(fields, "request", 0, Number.MAX_SAFE_INTEGER) };
    }
    case "answer":
      // The body is plain data within the limits above; who asked knows its shape and checks it.
      return { kind, request: whole(fields, "request", 0, Number.MAX_SAFE_INTEGER), body: fields["body"] };
    case "checkpoint_begin":
    case "checkpoint_complete":
      return { kind, generation: generation(fields), epoch: count(fields, "epoch") };
    case "checkpoint_stored":
      return {
        kind,
        generation: generation(fields),
        epoch: count(fields, "epoch"),
        stateBytes: count(fields, "stateBytes"),
        writtenBytes: count(fields, "writtenBytes"),
      };
    case "checkpoint_failed":
      return {
        kind,
        generation: generation(fields),
        epoch: count(fields, "epoch"),
        reason: text(fields, "reason"),
        rollBack: flag(fields, "rollBack"),
      };
    case "checkpoint_abort":
      return {
        kind,
        generation: generation(fields),
        epoch: count(fields, "epoch"),
        reason: text(fields, "reason"),
        failures: count(fields, "failures"),
      };
    case "checkpoint_asked":
      return { kind, request: count(fields, "request") };
    case "checkpoint_answered":
      return { kind, request: count(fields, "request"), epoch: count(fields, "epoch"), reason: text(fields, "reason") };
    case "roll_back_wanted":
    case "recover":
      return { kind, generation: generation(fields), reason: text(fields, "reason") };
    case "recovery_facts":
      return {
        kind,
        generation: generation(fields),
        epochs: epochs(fields),
        written: count(fields, "written"),
        unreadable: text(fields, "unreadable"),
      };
    case "restore":
      return { kind, generation: generation(fields), epoch: count(fields, "epoch"), empty: flag(fields, "empty") };
    case "restored":
      return { kind, generation: generation(fields), entries: count(fields, "entries") };
    case "recovered":
      return { kind, generation: generation(fields), epoch: count(fields, "epoch") };
    case "recovery_refused":
      return {
        kind,
        generation: generation(fields),
        code: text(fields, "code", CODE),
        sentence: text(fields, "sentence"),
      };
    case "stream_request":
      return {
        kind,
        generation: generation(fields),
        source: whole(fields, "source", 0, SOURCES_MAX),
        request: decodeRegistryRequest(bytesOf(fields, "request")),
      };
    case "stream_answer":
      return {
        kind,
        generation: generation(fields),
        source: whole(fields, "source", 0, SOURCES_MAX),
        answer: decodeRegistryAnswer(bytesOf(fields, "answer")),
      };
    case "letters": {
      const letters = bytesOf(fields, "letters");
      return { kind, generation: generation(fields), request: count(fields, "request"), letters };
    }
    case "letters_taken":
      return {
        kind,
        generation: generation(fields),
        request: count(fields, "request"),
        count: whole(fields, "count", 1, RESEND_LETTERS_MAX),
        cut: count(fields, "cut"),
        refused: list(fields, "refused", refusedLetter),
      };
    default:
      // The compiler lists here what is missing above; a peer may have sent anything.
      throw bad("kind", kind satisfies never);
  }
}

type Fields = Readonly<Record<string, unknown>>;

function asMap(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw new ProtocolError("bad_control_message", `a control message is refused: ${what} is no map`);
  }
  return value as Fields;
}

function text(fields: Fields, name: string, pattern?: RegExp): string {
  const value = fields[name];
  if (typeof value !== "string" || value.length > TEXT_LENGTH_MAX) throw bad(name, value);
  if (pattern !== undefined && !pattern.test(value)) throw bad(name, value);
  return value;
}

function whole(fields: Fields, name: string, min: number, max: number): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) throw bad(name, value);
  return value;
}

/** A number of something, or an epoch. */
function count(fields: Fields, name: string): number {
  return whole(fields, name, 0, Number.MAX_SAFE_INTEGER);
}

function generation(fields: Fields): Generation {
  return whole(fields, "generation", 1, 0xffff_ffff);
}

/**
 * Epochs, ascending, as runs: first and last of each. A segment of the log that little is written to has those of days, one
 * behind the other. Beyond the bounds the oldest are left out.
 */
function runsOf(epochs: readonly Epoch[]): number[] {
  const runs: number[] = [];
  for (const epoch of epochs.slice(-EPOCHS_MAX)) {
    if (runs.at(-1) === epoch - 1) runs[runs.length - 1] = epoch;
    else runs.push(epoch, epoch);
  }
  return runs.slice(-2 * EPOCH_RUNS_MAX);
}

function epochs(fields: Fields): Epoch[] {
  const value = fields["epochs"];
  if (!Array.isArray(value) || value.length > 2 * EPOCH_RUNS_MAX || value.length % 2 !== 0) throw bad("epochs", value);
  const read: Epoch[] = [];
  for (let i = 0; i < value.length; i += 2) {
    const [first, last] = [value[i], value[i + 1]];
    const isRun = Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 1 && last >= first;
    if (!isRun || first <= (read.at(-1) ?? 0) || read.length + last - first >= EPOCHS_MAX) throw bad("epochs", value);
    for (let epoch = first; epoch <= last; epoch++) read.push(epoch);
  }
  return read;
}

/** A duration or another quantity that is not negative. */
function real(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) throw bad(name, value);
  return value;
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name];
  if (typeof value !== "boolean") throw bad(name, value);
  return value;
}

function bytesOf(fields: Fields, name: string): Uint8Array {
  const value = fields[name];
  if (!(value instanceof Uint8Array)) throw bad(name, value);
  return value;
}

function list<Item>(fields: Fields, name: string, item: (fields: Fields) => Item): Item[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length > MEMBERS_MAX) throw bad(name, value);
  return value.map((each) => item(asMap(each, `an entry of ${name}`)));
}

function workerName(fields: Fields, name: string): WorkerName {
  return text(fields, name, WORKER_NAME);
}

function address(fields: Fields, name: string): Address {
  const inner = asMap(fields[name], name);
  return { host: text(inner, "host", HOST), port: whole(inner, "port", 1, 65_535) };
}

function member(fields: Fields): MemberAddress {
  return { name: workerName(fields, "name"), control: address(fields, "control"), data: address(fields, "data") };
}

function report(fields: Fields): DrainReport {
  return {
    worker: workerName(fields, "worker"),
    complete: flag(fields, "complete"),
    leftBehind: text(fields, "leftBehind"),
  };
}

function refusedLetter(fields: Fields): RefusedLetter {
  return { index: whole(fields, "index", 0, RESEND_LETTERS_MAX - 1), why: text(fields, "why") };
}

function bad(name: string, value: unknown): ProtocolError {
  const shown = typeof value === "string" ? JSON.stringify(value.slice(0, 64)) : describe(value);
  return new ProtocolError("bad_control_message", `a control message is refused: its ${name} is ${shown}`);
}

function describe(value: unknown): string {
  if (value === undefined) return "missing";
  return typeof value === "object" && value !== null ? "of another type" : String(value);
}
