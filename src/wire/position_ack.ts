/**
 * What a TCP source with `acks` tells a client: a frame of a u32 length (17), a u8 kind (1), a u64 count of records and a u64
 * count of bytes, big-endian, both from the beginning of the connection and cumulative. `docs/protocol/tcp.md` has the rest.
 */
import { FrameSplitter } from "./frame.ts";

const KIND = 1;
const PAYLOAD_BYTES = 17;
/** A later version may say more in the same frame, and this one skips what it does not know. */
const PAYLOAD_BYTES_MAX = 1_024;

export interface PositionAck {
  readonly records: number;
  /** Of these records, with their headers. */
  readonly bytes: number;
}

export function encodePositionAck(records: number, bytes: number): Uint8Array {
  const frame = new Uint8Array(4 + PAYLOAD_BYTES);
  const view = new DataView(frame.buffer);
  view.setUint32(0, PAYLOAD_BYTES);
  view.setUint8(4, KIND);
  view.setBigUint64(5, BigInt(records));
  view.setBigUint64(13, BigInt(bytes));
  return frame;
}

/** What a client keeps of what it is told. */
export class PositionAckReader {
  readonly #splitter = new FrameSplitter({ lengthMax: PAYLOAD_BYTES_MAX });
  /** The newest; null: the source has said nothing yet. */
  position: PositionAck | null = null;

  /** @returns Why what came is nothing that a source says; null: it is well. */
  push(bytes: Uint8Array): string | null {
    const splitter = this.#splitter;
    const outcome = splitter.push(bytes);
    for (let i = 0; i < splitter.count; i++) {
      const start = splitter.starts[i]!;
      const length = splitter.ends[i]! - start;
      const view = new DataView(splitter.bytes.buffer, splitter.bytes.byteOffset + start, length);
      if (length === 0) return "an empty frame";
      if (view.getUint8(0) !== KIND) continue;
      if (length < PAYLOAD_BYTES) return `a position of ${length} bytes`;
      const records = Number(view.getBigUint64(1));
      if (records < (this.position?.records ?? 0)) return "a position before the last one";
      this.position = { records, bytes: Number(view.getBigUint64(9)) };
    }
    return outcome === "ok" ? null : `a frame of ${outcome.length} bytes`;
  }
}
