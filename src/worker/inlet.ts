/**
 * What one exchange brings into a worker, peer by peer, in the order in which it came. How much waits here is bounded by
 * the credit that each peer has.
 */
import type { Epoch, WorkerName } from "../base/ids.ts";

export type Arrival =
  | { readonly kind: "batch"; readonly bytes: Uint8Array }
  | { readonly kind: "barrier"; readonly epoch: Epoch };

export class Inlet {
  /** Peers that will send no more. */
  readonly ended = new Set<WorkerName>();
  /** This worker will send no more. */
  endSent = false;
  /** The peers that it has told so. */
  readonly endSentTo = new Set<WorkerName>();
  readonly #queues = new Map<WorkerName, Arrival[]>();
  /** Batches that wait, of all peers. */
  waitingBatches = 0;

  push(from: WorkerName, arrival: Arrival): void {
    const queue = this.#queues.get(from);
    if (queue === undefined) this.#queues.set(from, [arrival]);
    else queue.push(arrival);
    if (arrival.kind === "batch") this.waitingBatches++;
  }

  /** Does anything of this peer wait, so that what comes has to wait behind it? */
  waitsFor(from: WorkerName): boolean {
    const queue = this.#queues.get(from);
    return queue !== undefined && queue.length > 0;
  }

  /**
   * Hands what waits to `take`, for each peer in order, as long as `mayTake` says so before each. `take` may push more,
   * which is handed on in the same call.
   */
  drain(
    mayTake: (from: WorkerName, next: Arrival) => boolean,
    take: (from: WorkerName, arrival: Arrival) => void,
  ): void {
    for (const [from, queue] of this.#queues) {
      let taken = 0;
      while (taken < queue.length && mayTake(from, queue[taken]!)) {
        const arrival = queue[taken++]!;
        if (arrival.kind === "batch") this.waitingBatches--;
        take(from, arrival);
      }
      if (taken === queue.length) queue.length = 0;
      else if (taken > 0) queue.splice(0, taken);
    }
  }

  /** Forgets everything: `drop` is told of each batch. */
  reset(drop: (from: WorkerName, byteCount: number) => void): void {
    for (const [from, queue] of this.#queues) {
      for (const arrival of queue) if (arrival.kind === "batch") drop(from, arrival.bytes.length);
      queue.length = 0;
    }
    this.waitingBatches = 0;
    this.ended.clear();
    this.endSent = false;
    this.endSentTo.clear();
  }
}
