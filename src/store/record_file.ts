// A small file that is read and replaced as a whole.
//
//   | bytes     | what                                                          |
//   |-----------|---------------------------------------------------------------|
//   | 0 to 3    | "TMRS"                                                        |
//   | 4, 5      | format version                                                |
//   | 6, 7      | what the file holds: 1 cluster, 2 decision                    |
//   | 8 to 11   | length of the body                                            |
//   | 12 to 15  | CRC-32C of bytes 0 to 11 and of the body                      |
//   | 16 to end | body                                                          |
//
// Integers are big-endian. This header and its checksum are the same in every format version, so that a file of another
// version is told from a damaged one.

import { ByteWriter } from "../wire/byte_writer.ts";
import { crc32c } from "./crc32c.ts";

export const FORMAT_VERSION = 1;
export const HEADER_BYTES = 16;

/** What a file holds. */
export const CONTENT = { cluster: 1, decision: 2 } as const;
export type Content = (typeof CONTENT)[keyof typeof CONTENT];

const MAGIC = 0x544d5253; // "TMRS"
const CHECKSUM_AT = 12;

export type RecordOutcome =
  | { readonly kind: "ok"; readonly body: Uint8Array }
  /** Of a later or earlier release; the file is whole. */
  | { readonly kind: "other_version"; readonly version: number }
  | Damage;

/** `offset`: where in the file what is wrong begins, as far as that can be told. `why` continues "the file is damaged: ". */
export interface Damage {
  readonly kind: "damaged";
  readonly offset: number;
  readonly why: string;
}

/** Does this begin like a file of ours? */
export function hasMagic(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && viewOf(bytes).getUint32(0) === MAGIC;
}

export function encodeRecord(content: Content, body: Uint8Array, version: number = FORMAT_VERSION): Uint8Array {
  const out = new ByteWriter(HEADER_BYTES + body.length);
  out.u32(MAGIC);
  out.u16(version);
  out.u16(content);
  out.u32(body.length);
  const checksum = crc32c(body, crc32c(out.written()));
  out.u32(checksum);
  out.bytes(body);
  return out.take();
}

export function decodeRecord(content: Content, bytes: Uint8Array): RecordOutcome {
  if (bytes.length < HEADER_BYTES) {
    return damaged(bytes.length, `it is cut short: ${bytes.length} bytes, and the header alone has ${HEADER_BYTES}`);
  }
  const view = viewOf(bytes);
  if (view.getUint32(0) !== MAGIC) return damaged(0, "it does not begin with the mark of a Tammar file");
  const length = view.getUint32(8);
  const present = bytes.length - HEADER_BYTES;
  if (length > present) {
    return damaged(
      bytes.length,
      `it is cut short, or its length was changed: ${length} bytes announced, ${present} there`,
    );
  }
  if (length < present) {
    return damaged(HEADER_BYTES + length, `it has more bytes than announced: ${present} instead of ${length}`);
  }
  const body = bytes.subarray(HEADER_BYTES);
  const written = view.getUint32(CHECKSUM_AT);
  const actual = crc32c(body, crc32c(bytes.subarray(0, CHECKSUM_AT)));
  if (written !== actual) {
    return damaged(CHECKSUM_AT, `its checksum is ${hex32(actual)}, and ${hex32(written)} was written`);
  }
  const version = view.getUint16(4);
  if (version !== FORMAT_VERSION) return { kind: "other_version", version };
  const found = view.getUint16(6);
  if (found !== content) return damaged(6, `it holds content ${found} where ${content} belongs`);
  return { kind: "ok", body };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function damaged(offset: number, why: string): Damage {
  return { kind: "damaged", offset, why };
}
