// Which process speaks for a worker's name, and which of two connections between the same two workers stays.
//
//   P1. A process is an incarnation (random, of the member) and a start number, which grows with every start of that
//       worker. The one with the higher start number speaks for the name; a lower one is refused for ever.
//   P2. Between two workers there is one control link. The one that comes later in the order of workers is its designated
//       dialler; its connections replace what is there. The other's is taken only where there is none.

import { INITIALIZER, type WorkerName } from "../../base/ids.ts";

export interface PeerProcess {
  /** 32 hex digits. */
  readonly incarnation: string;
  readonly startNumber: number;
}

/** How a process that turns up stands to the one known under the same name. */
export type Standing = "first" | "same" | "newer" | "older";

export function standingOf(known: PeerProcess | null, coming: PeerProcess): Standing {
  if (known === null) return "first";
  if (coming.startNumber !== known.startNumber) return coming.startNumber > known.startNumber ? "newer" : "older";
  return coming.incarnation === known.incarnation ? "same" : "newer";
}

/** The order of workers: the initializer first, then by name, compared by code units. */
export function comesBefore(a: WorkerName, b: WorkerName): boolean {
  if (a === INITIALIZER || b === INITIALIZER) return a === INITIALIZER && b !== INITIALIZER;
  return a < b;
}

/** Of a pair, the worker whose control connections count. */
export function designatedDialler(a: WorkerName, b: WorkerName): WorkerName {
  return comesBefore(a, b) ? b : a;
}
