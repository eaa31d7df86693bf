/**
 * Aligns the barriers of one worker: decides when everything that was sent before a checkpoint's barriers has been taken in
 * here, and nothing that was sent after them (Carbone et al., "Lightweight Asynchronous Snapshots for Distributed
 * Dataflows", 2015).
 *
 *   idle ──begin, or the first barrier──▶ aligning ──all barriers of all exchanges──▶ idle (aligned)
 *                                            └──abort, or a barrier of a later epoch──▶ idle, or aligning the later one
 *
 * A1. All sources of the worker inject in one turn, and stand still until the worker is aligned: then its state, positions
 *     and outputs are one cut, taken at one instant.
 * A2. A barrier leaves on an exchange when all that feeds the exchange here is before its own barrier: sources have injected,
 *     and each exchange before it has the barriers of all peers.
 * A3. What a peer sends behind its barrier is held until the whole worker is aligned. What is held is bounded by the peer's
 *     credit, and nothing that the alignment waits for stands behind it: exchanges have an order.
 * A4. A barrier of an epoch that was left behind is a straggler: dropped, never an error.
 *
 * It does not know how records are held, or what a snapshot is (`worker/checkpointing.ts`).
 */
import { assert } from "../../base/assert.ts";
import type { Epoch, WorkerName } from "../../base/ids.ts";

export interface AlignerExchange {
  /** Exchanges that feed this one inside of a worker, by index; all lower than its own. */
  readonly fromExchanges: readonly number[];
}

export type AlignerEffect =
  /** Sources stand still from now on. */
  | { readonly kind: "inject"; readonly epoch: Epoch }
  /** Behind everything that was sent on this exchange so far. */
  | { readonly kind: "send_barrier"; readonly to: WorkerName; readonly exchange: number; readonly epoch: Epoch }
  /** Take the snapshot now, then let everything go on. */
  | { readonly kind: "aligned"; readonly epoch: Epoch }
  /** Given up: let everything go on. */
  | { readonly kind: "released"; readonly epoch: Epoch };

interface Inlet {
  readonly arrived: Set<WorkerName>;
  sent: boolean;
}

export class Aligner {
  readonly #exchanges: readonly AlignerExchange[];
  readonly #peers: readonly WorkerName[];
  /** Zero: idle. */
  #aligning: Epoch = 0;
  /** The highest epoch that was aligned or given up. */
  #behind: Epoch;
  #inlets: Inlet[] = [];

  /** @param behind The epoch that this worker starts from: barriers up to it are stragglers. */
  constructor(exchanges: readonly AlignerExchange[], peers: readonly WorkerName[], behind: Epoch) {
    exchanges.forEach((exchange, index) => {
      assert(
        exchange.fromExchanges.every((before) => before < index),
        "exchanges have an order",
      );
    });
    this.#exchanges = exchanges;
    this.#peers = peers;
    this.#behind = behind;
  }

  /** Which epoch is being aligned; 0: none. */
  get aligning(): Epoch {
    return this.#aligning;
  }

  /** Must what this peer sends on this exchange be held back (A3)? */
  holds(from: WorkerName, exchange: number): boolean {
    return this.#aligning !== 0 && this.#inlets[exchange]!.arrived.has(from);
  }

  /** Whose barriers are missing, for people. */
  waitingFor(): WorkerName[] {
    if (this.#aligning === 0) return [];
    return this.#peers.filter((peer) => this.#inlets.some((inlet) => !inlet.arrived.has(peer)));
  }

  /** The coordinator began a checkpoint. */
  begin(epoch: Epoch): AlignerEffect[] {
    if (epoch <= this.#behind || epoch <= this.#aligning) return [];
    const effects = this.#enter(epoch);
    return [...effects, ...this.#advance()];
  }

  barrier(from: WorkerName, exchange: number, epoch: Epoch): AlignerEffect[] {
    if (epoch <= this.#behind || epoch < this.#aligning) return [];
    // It may overtake the coordinator's word, which comes on another connection.
    const effects = epoch > this.#aligning ? this.#enter(epoch) : [];
    this.#inlets[exchange]!.arrived.add(from);
    return [...effects, ...this.#advance()];
  }

  abort(epoch: Epoch): AlignerEffect[] {
    if (epoch <= this.#behind) return [];
    this.#behind = epoch;
    if (this.#aligning === 0 || this.#aligning > epoch) return [];
    const given = this.#aligning;
    this.#aligning = 0;
    return [{ kind: "released", epoch: given }];
  }

  #enter(epoch: Epoch): AlignerEffect[] {
    const effects: AlignerEffect[] = [];
    if (this.#aligning !== 0) {
      // A later epoch means that this one was aborted; the word of it is still on its way.
      effects.push({ kind: "released", epoch: this.#aligning });
      this.#behind = this.#aligning;
    }
    this.#aligning = epoch;
    this.#inlets = this.#exchanges.map(() => ({ arrived: new Set(), sent: false }));
    effects.push({ kind: "inject", epoch });
    return effects;
  }

  #advance(): AlignerEffect[] {
    const effects: AlignerEffect[] = [];
    const epoch = this.#aligning;
    // In the order of exchanges, so that one pass sees what the pass itself made possible.
    for (let index = 0; index < this.#exchanges.length; index++) {
      const inlet = this.#inlets[index]!;
      if (inlet.sent || !this.#exchanges[index]!.fromExchanges.every((before) => this.#complete(before))) continue;
      inlet.sent = true;
      for (const to of this.#peers) effects.push({ kind: "send_barrier", to, exchange: index, epoch });
    }
    for (let index = 0; index < this.#exchanges.length; index++) if (!this.#complete(index)) return effects;
    this.#aligning = 0;
    this.#behind = epoch;
    effects.push({ kind: "aligned", epoch });
    return effects;
  }

  #complete(exchange: number): boolean {
    const inlet = this.#inlets[exchange]!;
    return inlet.sent && inlet.arrived.size === this.#peers.length;
  }
}
