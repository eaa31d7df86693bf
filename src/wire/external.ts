// The external channel: tools ask a worker, one frame each way, no handshake. Ids 1 to 26 and their bodies are those of
// Wallaroo, byte for byte; from 1001 on they are ours. This file is the channel's table of contents.
//
//   u32 length | u16 message id | body: UTF-8 text or JSON

import { ProtocolError } from "../base/errors.ts";
import { ByteReader } from "./byte_reader.ts";
import { ByteWriter } from "./byte_writer.ts";
import { parsePlainJson } from "./plain_json.ts";
import { RESEND_BYTES_MAX, type ResendOutcome } from "./resend.ts";

/** Largest frame a worker takes: id and body. */
export const EXTERNAL_REQUEST_LENGTH_MAX = 16_384;
/** Values of a request to shrink: a cluster has at most 256 workers. */
const SHRINK_PARTS_MAX = 1_024;
/** Largest frame a tool takes. */
export const EXTERNAL_ANSWER_LENGTH_MAX = 64 * 1024 * 1024;

/** Sent to a worker. */
const REQUESTS = {
  print: 1,
  rotate_log: 2,
  clean_shutdown: 3,
  shrink_request: 4,
  partition_query: 7,
  cluster_status_query: 9,
  partition_count_query: 12,
  source_ids_query: 14,
  report_status: 16,
  state_entity_query: 17,
  stateless_partition_query: 19,
  state_entity_count_query: 21,
  stateless_partition_count_query: 23,
  cluster_state_entity_count_query: 25,
  /** Ours: stop the cluster, and tell how it goes on this connection. Body: text for the log. */
  shutdown_and_report: 1001,
  /** Ours: the same, and the files stay with a last checkpoint, for the next start. */
  suspend_and_report: 1007,
  /** Ours: the rich status. Empty. */
  status_query: 1003,
  /** Ours: take a checkpoint now. Empty. */
  checkpoint_request: 1005,
  /** Ours: a piece of a batch of dead letters, to be let in again. Body: `resend.ts`. */
  letters_resend: 1009,
} as const;

/** Sent by a worker. */
const ANSWERS = {
  shrink_query_response: 5,
  shrink_error_response: 6,
  partition_query_response: 8,
  cluster_status_query_response: 10,
  cluster_status_query_response_not_initialized: 11,
  partition_count_query_response: 13,
  source_ids_query_response: 15,
  state_entity_query_response: 18,
  stateless_partition_query_response: 20,
  state_entity_count_query_response: 22,
  stateless_partition_count_query_response: 24,
  cluster_state_entity_count_query_response: 26,
  /** Ours: one frame for each event of a worker, and a last one. */
  shutdown_report: 1002,
  status_query_response: 1004,
  checkpoint_response: 1006,
  /** Ours: behind the last piece of a batch. */
  letters_response: 1010,
} as const;

export type ExternalRequestKind = keyof typeof REQUESTS;
export type ExternalAnswerKind = keyof typeof ANSWERS;

/** Ids of instances (step, step group, partition, source), always as decimal text. */
type Id = string;

export interface ShrinkRequest {
  readonly kind: "shrink_request";
  /** Only ask who could leave. */
  readonly query: boolean;
  /** Names win over the count. */
  readonly nodeNames: readonly string[];
  /** `Infinity`: all that can leave (a negative number on the wire). */
  readonly nodeCount: number;
}

/** Requests whose body is text. */
export interface TextRequest {
  readonly kind:
    | "print"
    | "rotate_log"
    | "clean_shutdown"
    | "report_status"
    | "shutdown_and_report"
    | "suspend_and_report";
  readonly text: string;
}

/** Requests without a body. One that is there is ignored. */
export interface EmptyRequest {
  readonly kind: Exclude<ExternalRequestKind, TextRequest["kind"] | "shrink_request" | "letters_resend">;
}

/** A piece of a batch of dead letters, in order; the answer comes behind the last one. */
export interface LettersPiece {
  readonly kind: "letters_resend";
  /** Bytes of the whole batch. */
  readonly total: number;
  /** Where this piece begins in it. */
  readonly at: number;
  readonly piece: Uint8Array;
}

export type ExternalRequest = ShrinkRequest | TextRequest | LettersPiece | EmptyRequest;

/** What a worker says while the cluster stops. */
export type ShutdownReport =
  | {
      readonly worker: string;
      /** What became of it: `draining`, `stopped`, `absent`, ... */
      readonly status: string;
      /** In words; may be empty. */
      readonly detail: string;
    }
  /** The last frame. */
  | { readonly done: true; readonly ok: boolean };

/** JSON bodies of answers by kind. */
export interface AnswerBodies {
  shrink_query_response: { node_names: readonly string[]; node_count: number };
  partition_query_response: Partitions<readonly Id[]>;
  cluster_status_query_response: {
    worker_count: number;
    worker_names: readonly string[];
    processing_messages: boolean;
  };
  partition_count_query_response: Partitions<number>;
  source_ids_query_response: { source_ids: readonly Id[] };
  /** Step group to keys held by this worker. */
  state_entity_query_response: Readonly<Record<Id, readonly string[]>>;
  /** Partition to worker to steps. */
  stateless_partition_query_response: Readonly<Record<Id, Readonly<Record<string, readonly Id[]>>>>;
  /** Step group to number of keys. */
  state_entity_count_query_response: Readonly<Record<Id, number>>;
  /** Partition to worker to number of steps. */
  stateless_partition_count_query_response: Readonly<Record<Id, Readonly<Record<string, number>>>>;
  /** Worker to step group to step to number of keys. */
  cluster_state_entity_count_query_response: Readonly<
    Record<string, Readonly<Record<Id, Readonly<Record<Id, number>>>>>
  >;
  shutdown_report: ShutdownReport;
  status_query_response: unknown;
  /** `epoch` 0: none was taken, and why. */
  checkpoint_response: { readonly epoch: number; readonly reason: string };
  letters_response: ResendOutcome;
}

export interface Partitions<Steps> {
  /** Step group to worker to steps. */
  readonly state_partitions: Readonly<Record<Id, Readonly<Record<string, Steps>>>>;
  /** Partition to worker to steps. */
  readonly stateless_partitions: Readonly<Record<Id, Readonly<Record<string, Steps>>>>;
}

export type ExternalAnswer =
  | { [Kind in keyof AnswerBodies]: { readonly kind: Kind; readonly body: AnswerBodies[Kind] } }[keyof AnswerBodies]
  | { readonly kind: "shrink_error_response"; readonly text: string }
  | { readonly kind: "cluster_status_query_response_not_initialized" };

/** An answer as a tool reads it: the shape of its body is not checked. */
export type ReceivedAnswer =
  | { readonly kind: keyof AnswerBodies; readonly body: unknown }
  | { readonly kind: "shrink_error_response"; readonly text: string }
  | { readonly kind: "cluster_status_query_response_not_initialized" };

/** A frame that means nothing here: log it, answer nothing, keep the connection. */
export interface ExternalFault {
  readonly kind: "fault";
  readonly code:
    | "bad_json"
    | "bad_piece"
    | "bad_text"
    | "empty_frame"
    | "truncated_id"
    | "unexpected_message"
    | "unknown_id";
  /** For the log. */
  readonly sentence: string;
}

/** The texts of `shrink_error_response`, success included: scripts of old compare them. */
export const SHRINK_TEXTS = {
  accepted: (count: number): string => `Shrinking by ${count} workers!`,
  badNames: "Invalid shrink targets!",
  nobody: "Cannot shrink 0 workers!",
  busy: "Autoscale event currently underway, cannot shrink at this time",
} as const;

/** Why no checkpoint was taken, where none ever is: tools that can do without go on. */
export const CHECKPOINTS_OFF = "checkpoints are off, or the cluster is not formed yet";

/** The whole frame. */
export function encodeExternal(message: ExternalRequest | ExternalAnswer): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  const frame = out.beginFrame();
  out.u16(
    message.kind in REQUESTS
      ? REQUESTS[message.kind as ExternalRequestKind]
      : ANSWERS[message.kind as ExternalAnswerKind],
  );
  if (message.kind === "shrink_request") {
    const { query, nodeNames, nodeCount } = message;
    const count = Number.isFinite(nodeCount) ? nodeCount : Number.MAX_SAFE_INTEGER;
    out.utf8(JSON.stringify({ query, node_names: nodeNames, node_count: count }));
  } else if (message.kind === "letters_resend") {
    out.u32(message.total);
    out.u32(message.at);
    out.bytes(message.piece);
  } else if ("text" in message) {
    out.utf8(message.text);
  } else if ("body" in message) {
    out.utf8(JSON.stringify(message.body));
  }
  out.endFrame(frame);
  return out.take();
}

const REQUEST_KINDS = new Map(
  Object.entries(REQUESTS).map(([kind, id]) => [id as number, kind as ExternalRequestKind]),
);
const ANSWER_KINDS = new Map(Object.entries(ANSWERS).map(([kind, id]) => [id as number, kind as ExternalAnswerKind]));

/** Decodes what came to a worker: the payload of one frame, without its length. Never throws. */
export function decodeExternalRequest(bytes: Uint8Array): ExternalRequest | ExternalFault {
  const read = readMessage(bytes);
  if ("code" in read) return read;
  const { id, body } = read;
  const kind = REQUEST_KINDS.get(id);
  if (kind === undefined) {
    const answer = ANSWER_KINDS.get(id);
    if (answer !== undefined)
      return fault("unexpected_message", `message ${id} (${answer}) is an answer, not handled here`);
    return fault("unknown_id", `message id ${id} is unknown`);
  }
  switch (kind) {
    case "shrink_request":
      return decodeShrinkRequest(body);
    case "print":
    case "rotate_log":
    case "clean_shutdown":
    case "report_status":
    case "shutdown_and_report":
    case "suspend_and_report": {
      const text = readText(kind, body);
      return typeof text === "string" ? { kind, text } : text;
    }
    case "letters_resend":
      return decodeLettersPiece(body);
    default:
      return { kind };
  }
}

/** Decodes what came to a tool: the payload of one frame, without its length. Never throws. */
export function decodeExternalAnswer(bytes: Uint8Array): ReceivedAnswer | ExternalFault {
  const read = readMessage(bytes);
  if ("code" in read) return read;
  const { id, body } = read;
  const kind = ANSWER_KINDS.get(id);
  if (kind === undefined) {
    const request = REQUEST_KINDS.get(id);
    if (request !== undefined)
      return fault("unexpected_message", `message ${id} (${request}) is a request, not an answer`);
    return fault("unknown_id", `message id ${id} is unknown`);
  }
  if (kind === "cluster_status_query_response_not_initialized") return { kind };
  const text = readText(kind, body);
  if (typeof text !== "string") return text;
  if (kind === "shrink_error_response") return { kind, text };
  try {
    return { kind, body: parsePlainJson(text) };
  } catch (error) {
    return fault("bad_json", `${kind} is not JSON: ${(error as Error).message}`);
  }
}

function fault(code: ExternalFault["code"], sentence: string): ExternalFault {
  return { kind: "fault", code, sentence };
}

function readMessage(bytes: Uint8Array): { id: number; body: ByteReader } | ExternalFault {
  if (bytes.length === 0) return fault("empty_frame", "an empty frame");
  if (bytes.length < 2) return fault("truncated_id", "a frame of one byte, too short for a message id");
  const body = new ByteReader("the external message", bytes);
  return { id: body.u16(), body };
}

function readText(kind: string, body: ByteReader): string | ExternalFault {
  try {
    return body.restText();
  } catch (error) {
    if (error instanceof ProtocolError) return fault("bad_text", `${kind}: the text is not UTF-8`);
    throw error;
  }
}

function decodeLettersPiece(body: ByteReader): LettersPiece | ExternalFault {
  const kind = "letters_resend";
  if (body.remaining < 9)
    return fault("bad_piece", `${kind} has ${body.remaining} bytes: at least 9 belong to a piece`);
  const total = body.u32();
  const at = body.u32();
  const piece = body.bytes(body.remaining);
  if (total > RESEND_BYTES_MAX)
    return fault("bad_piece", `${kind} announces ${total} bytes: ${RESEND_BYTES_MAX} may come`);
  if (at + piece.length > total)
    return fault("bad_piece", `${kind} goes on beyond the ${total} bytes that it announces`);
  return { kind, total, at, piece };
}

function decodeShrinkRequest(body: ByteReader): ShrinkRequest | ExternalFault {
  const text = readText("shrink_request", body);
  if (typeof text !== "string") return text;
  // Anybody may send this, and as often as he likes: what can be no request is refused before it costs anything. To parse
  // a list of thousands of values takes a hundred times as long as to look at it, and so does what the parser throws.
  if (!mayBeShrinkRequest(text)) return fault("bad_json", "shrink_request is no JSON object of a few names");
  let json: unknown;
  try {
    json = JSON.parse(text, refuseFractions);
  } catch (error) {
    return fault("bad_json", `shrink_request is not as it should be: ${(error as Error).message}`);
  }
  if (typeof json !== "object" || json === null) return fault("bad_json", "shrink_request is no JSON object");
  const { query, node_names: names, node_count: count } = json as Record<string, unknown>;
  if (typeof query !== "boolean") return fault("bad_json", "shrink_request lacks a boolean `query`");
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
    return fault("bad_json", "shrink_request lacks a list of strings `node_names`");
  }
  if (typeof count !== "number") return fault("bad_json", "shrink_request lacks an integer `node_count`");
  // A count above 2^63 was written as a negative number by the original: nobody has so many workers.
  return { kind: "shrink_request", query, nodeNames: names, nodeCount: count < 0 ? Number.POSITIVE_INFINITY : count };
}

/** It looks like an object with the three fields, and has no more parts than a request for all workers there can be. */
function mayBeShrinkRequest(text: string): boolean {
  if (!text.includes('"query"') || !text.includes('"node_names"') || !text.includes('"node_count"')) return false;
  let parts = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    // A comma or a bracket that opens; those within names count too.
    if ((code === 0x2c || code === 0x5b || code === 0x7b) && ++parts > SHRINK_PARTS_MAX) return false;
  }
  return true;
}

/** `2.0` and `2` are one value to JavaScript; the original takes the second only. */
function refuseFractions(this: unknown, key: string, value: unknown, context?: { source?: string }): unknown {
  if (key === "node_count" && typeof value === "number") {
    const written = context?.source ?? String(value);
    if (!/^-?\d+$/.test(written)) throw new Error(`node_count is ${written}, which is no integer`);
  }
  return value;
}
