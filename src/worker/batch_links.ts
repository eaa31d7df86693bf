import type { WorkerName } from "../base/ids.ts";

/** What the dataflow needs of the data channel. */
export interface BatchLinks {
  /** `bytes` are valid during the call. */
  sendBatch(to: WorkerName, exchange: number, bytes: Uint8Array): void;
  sendEnd(to: WorkerName, exchange: number): void;
  hasCredit(to: WorkerName, exchange: number): boolean;
  /** These bytes of a batch have been taken in: the peer may send as many again. */
  release(from: WorkerName, exchange: number, byteCount: number): void;
  unacked(to: WorkerName): { readonly frames: number; readonly bytes: number };
}
