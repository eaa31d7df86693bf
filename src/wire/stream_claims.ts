// What workers and the registry of a connector source's streams say to each other, as bytes: CBOR as the control channel has it
// carries no integers of 64 bits. Lists are packed, so that all streams of a worker fit one control frame.
//
//   u8 tag | fields; points as on the wire of the connector protocol, 2^64-1 for "nothing"

import { unreachable } from "../base/assert.ts";
import { ByteReader } from "./byte_reader.ts";
import { ByteWriter } from "./byte_writer.ts";
import { type Point, pointFromWire, pointToWire } from "./point.ts";

/** Worker to registry. */
export type RegistryRequest =
  /** A connection wants to open the stream. `claim` is new for each try of this worker. It is answered. */
  | { readonly kind: "claim"; readonly claim: number; readonly stream: bigint }
  /** That claim is over, whether it was granted, refused or not answered yet. */
  | {
      readonly kind: "release";
      readonly claim: number;
      readonly stream: bigint;
      readonly covered: Point;
      /** What this worker has taken in; beyond `covered` only with checkpoints. */
      readonly seen: Point;
    }
  /** A checkpoint covers more of streams that were released before. */
  | { readonly kind: "covered"; readonly streams: readonly CoveredStream[] }
  /** All that this worker knows: after a rollback, at its start, and when the registry has begun anew. Replaces what was known. */
  | { readonly kind: "restored"; readonly streams: readonly RestoredStream[] };

export interface CoveredStream {
  readonly stream: bigint;
  readonly covered: Point;
}

export interface RestoredStream extends CoveredStream {
  readonly seen: Point;
  /** It is active by this claim; 0: it is not. */
  readonly claim: number;
}

/** Registry to a worker. */
export type RegistryAnswer =
  /** To the one that has the stream by this claim: somebody else asks for it. Does anybody still speak on its connection? */
  | { readonly kind: "wanted"; readonly claim: number; readonly stream: bigint }
  /** To the one that claimed. */
  | { readonly kind: "granted"; readonly claim: number; readonly stream: bigint; readonly covered: Point }
  | { readonly kind: "refused"; readonly claim: number; readonly stream: bigint; readonly reason: RefusalReason };

export type RefusalReason =
  /** A connection has it, perhaps on another worker. */
  | "active"
  /** Its last worker has records that no checkpoint covers yet. */
  | "uncovered"
  /** After a rollback, not all workers have said what they restored. */
  | "restoring"
  | "too_many_streams";

const REQUEST_TAG = { claim: 1, release: 2, covered: 3, restored: 4 } as const;
const ANSWER_TAG = { granted: 1, refused: 2, wanted: 3 } as const;
const REASONS: readonly RefusalReason[] = ["active", "uncovered", "restoring", "too_many_streams"];

export function encodeRegistryRequest(request: RegistryRequest): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  out.u8(REQUEST_TAG[request.kind]);
  switch (request.kind) {
    case "claim":
      out.u64(request.claim);
      out.u64(request.stream);
      break;
    case "release":
      out.u64(request.claim);
      out.u64(request.stream);
      out.u64(pointToWire(request.covered));
      out.u64(pointToWire(request.seen));
      break;
    case "covered":
      for (const { stream, covered } of request.streams) {
        out.u64(stream);
        out.u64(pointToWire(covered));
      }
      break;
    case "restored":
      for (const { stream, covered, seen, claim } of request.streams) {
        out.u64(stream);
        out.u64(pointToWire(covered));
        out.u64(pointToWire(seen));
        out.u64(claim);
      }
      break;
    default:
      unreachable(request);
  }
  return out.take();
}

/** @throws {ProtocolError} `truncated`, `bad_stream_claim`. */
export function decodeRegistryRequest(bytes: Uint8Array): RegistryRequest {
  const fields = new ByteReader("the request about a stream", bytes);
  switch (fields.u8()) {
    case REQUEST_TAG.claim:
      return { kind: "claim", claim: number(fields), stream: fields.u64() };
    case REQUEST_TAG.release:
      return {
        kind: "release",
        claim: number(fields),
        stream: fields.u64(),
        covered: point(fields),
        seen: point(fields),
      };
    case REQUEST_TAG.covered: {
      const streams = list(fields, 16, () => ({ stream: fields.u64(), covered: point(fields) }));
      return { kind: "covered", streams };
    }
    case REQUEST_TAG.restored: {
      const streams = list(fields, 32, () => ({
        stream: fields.u64(),
        covered: point(fields),
        seen: point(fields),
        claim: number(fields),
      }));
      return { kind: "restored", streams };
    }
    default:
      throw fields.error("bad_stream_claim", `has the tag ${bytes[0]}, which is unknown`);
  }
}

export function encodeRegistryAnswer(answer: RegistryAnswer): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  out.u8(ANSWER_TAG[answer.kind]);
  out.u64(answer.claim);
  out.u64(answer.stream);
  if (answer.kind === "granted") out.u64(pointToWire(answer.covered));
  else if (answer.kind === "refused") out.u8(REASONS.indexOf(answer.reason));
  return out.take();
}

/** @throws {ProtocolError} `truncated`, `bad_stream_claim`. */
export function decodeRegistryAnswer(bytes: Uint8Array): RegistryAnswer {
  const fields = new ByteReader("the answer about a stream", bytes);
  const tag = fields.u8();
  const claim = number(fields);
  const stream = fields.u64();
  if (tag === ANSWER_TAG.granted) return { kind: "granted", claim, stream, covered: point(fields) };
  if (tag === ANSWER_TAG.wanted) return { kind: "wanted", claim, stream };
  const reason = REASONS[fields.u8()];
  if (tag === ANSWER_TAG.refused && reason !== undefined) return { kind: "refused", claim, stream, reason };
  throw fields.error("bad_stream_claim", "is no answer that is known");
}

function number(fields: ByteReader): number {
  const value = Number(fields.u64());
  if (Number.isSafeInteger(value)) return value;
  throw fields.error("bad_stream_claim", `has the claim ${value}, which is too large`);
}

function point(fields: ByteReader): Point {
  return pointFromWire(fields.u64());
}

function list<T>(fields: ByteReader, entryBytes: number, entry: () => T): T[] {
  if (fields.remaining % entryBytes !== 0) throw fields.error("truncated", "ends within an entry of its list");
  return Array.from({ length: fields.remaining / entryBytes }, entry);
}
