/**
 * The end of one worker's dataflow: at a stop its sources are closed, and what was taken in comes out.
 *
 *   working ──begin──▶ draining ──all is out, or the deadline──▶ done
 *
 *   R1. An exchange ends towards the peers when all that feeds it here has ended; a sink ends when all exchanges have. A peer
 *       that is gone has ended.
 *   R2. A peer that is away is waited for a while: it may not have heard of the stop yet, and send what it takes in. Whoever
 *       comes back as another process has nothing more to send of what was before.
 *   R3. `drained` is said once, with what stayed behind.
 */
import type { WorkerName } from "../base/ids.ts";
import type { SinkConnector } from "../connectors/connector.ts";
import type { Plan } from "../plan/plan.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";
import type { DrainReport } from "../wire/control.ts";
import type { BatchLinks } from "./batch_links.ts";
import type { Inlet } from "./inlet.ts";

/** R2. */
const AWAY_MS: Millis = 2_000;

export interface DrainOptions {
  readonly worker: WorkerName;
  readonly plan: Plan;
  readonly clock: Clock;
  readonly turn: (run: () => void) => void;
  /** By exchange. */
  readonly inlets: readonly Inlet[];
  readonly sinks: readonly SinkConnector[];
  readonly closeSources: () => void;
  /** Is this worker between a barrier and its cut? */
  readonly cutting: () => boolean;
  /** `advance` is to be called at the end of this turn. */
  readonly wake: () => void;
  readonly drained: (report: DrainReport) => void;
}

/** Who sends to this worker, and takes from it. */
interface Around {
  readonly links: Pick<BatchLinks, "sendEnd" | "unacked">;
  readonly peers: readonly WorkerName[];
}

interface Draining {
  readonly kind: "draining";
  /** Whose ends are waited for. */
  readonly peers: Set<WorkerName>;
  /** Those of them that are away, and how to wait no longer. */
  readonly away: Map<WorkerName, () => void>;
  /** Those that did not come back in time. */
  readonly missed: WorkerName[];
  readonly withinMs: Millis;
  readonly cancelDeadline: () => void;
  sourcesClosed: boolean;
  sinksEnded: boolean;
}

export class Drain {
  readonly #options: DrainOptions;
  #phase: { readonly kind: "working" } | Draining | { readonly kind: "done" } = { kind: "working" };
  /** Null: the cluster is not known yet. */
  #around: Around | null = null;

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  install(links: Around["links"], peers: readonly WorkerName[]): void {
    this.#around = { links, peers };
  }

  /** A stop has begun. */
  get begun(): boolean {
    return this.#phase.kind !== "working";
  }

  get underWay(): boolean {
    return this.#phase.kind === "draining";
  }

  /** Is a stop under way that does not wait for this peer, or no longer? */
  leavesOut(peer: WorkerName): boolean {
    return this.#phase.kind === "draining" && !this.#phase.peers.has(peer);
  }

  /**
   * Stops the sources and lets everything come out. Says `drained` once: when done, or after `withinMs`.
   *
   * @param away Peers without a connection: they are waited for a while.
   */
  begin(withinMs: Millis, peers: readonly WorkerName[], away: readonly WorkerName[] = []): void {
    if (this.#phase.kind !== "working") return;
    const { clock, turn, wake } = this.#options;
    const cancelDeadline = clock.startTimer(withinMs, () =>
      turn(() => {
        if (this.#phase === draining) this.#report(draining);
      }),
    );
    const draining: Draining = {
      kind: "draining",
      peers: new Set(this.#around === null ? [] : [...peers, ...away]),
      away: new Map(),
      missed: [],
      withinMs,
      cancelDeadline,
      sourcesClosed: false,
      sinksEnded: false,
    };
    this.#phase = draining;
    for (const peer of away) if (draining.peers.has(peer)) this.#awaitPeer(draining, peer);
    wake();
  }

  /** A peer has told that it sends no more on this exchange. */
  ended(from: WorkerName, exchange: number): void {
    const inlet = this.#options.inlets[exchange]!;
    inlet.ended.add(from);
    // A peer that came, or came back, during the stop waits for our end as well.
    if (inlet.endSent) this.#sendEnd(from, exchange);
    this.#options.wake();
  }

  /** A peer will send no more, and take no more, as far as a stop is concerned. */
  peerGone(peer: WorkerName): void {
    this.#forgetEnds(peer);
    const phase = this.#phase;
    if (phase.kind !== "draining") return;
    isBack(phase, peer);
    if (phase.peers.delete(peer)) this.#options.wake();
  }

  /** The connection to a peer is lost; it may be there all the same. */
  peerAway(peer: WorkerName): void {
    this.#forgetEnds(peer);
    const phase = this.#phase;
    if (phase.kind === "draining" && phase.peers.has(peer)) this.#awaitPeer(phase, peer);
  }

  /** The connection to a peer is there, for the first time or again. */
  peerBack(peer: WorkerName, isSameProcess: boolean): void {
    const phase = this.#phase;
    if (phase.kind !== "draining" || !phase.peers.has(peer)) return;
    if (!isSameProcess) return this.peerGone(peer);
    isBack(phase, peer);
    const { inlets, wake } = this.#options;
    for (const [exchange, { endSent }] of inlets.entries()) if (endSent) this.#sendEnd(peer, exchange);
    wake();
  }

  /** At the end of every turn in which something may have changed. */
  advance(): void {
    const phase = this.#phase;
    if (phase.kind !== "draining") return;
    const { cutting, plan, sinks } = this.#options;
    if (!phase.sourcesClosed) {
      // The cut is a matter of moments, and what was read goes on behind it.
      if (cutting()) return;
      this.#closeSources(phase);
    }
    if (this.#around !== null) {
      this.#endExchanges(phase);
      if (!plan.exchanges.every(({ index }) => this.#isDone(index, phase))) return;
      if (!phase.sinksEnded) {
        phase.sinksEnded = true;
        for (const sink of sinks) sink.end();
      }
      // A sink that is away is not waited for: what it has not taken is counted.
      if (!sinks.every((sink) => sink.finished || !sink.connected)) return;
      for (const peer of phase.peers) if (this.#around.links.unacked(peer).frames > 0) return;
    }
    this.#report(phase);
  }

  /** Now, and without a word. */
  close(): void {
    if (this.#phase.kind === "draining") cancel(this.#phase);
    this.#phase = { kind: "done" };
    this.#options.closeSources();
  }

  /** If it comes back, it is told again what it may have forgotten. */
  #forgetEnds(peer: WorkerName): void {
    for (const { endSentTo } of this.#options.inlets) endSentTo.delete(peer);
  }

  /** R2. */
  #awaitPeer(draining: Draining, peer: WorkerName): void {
    if (draining.away.has(peer)) return;
    const { clock, inlets, turn } = this.#options;
    const giveUp = (): void => {
      if (this.#phase !== draining) return;
      if (inlets.some((inlet) => !inlet.ended.has(peer))) draining.missed.push(peer);
      this.peerGone(peer);
    };
    const cancelWait = clock.startTimer(Math.min(AWAY_MS, draining.withinMs / 2), () => turn(giveUp));
    draining.away.set(peer, cancelWait);
  }

  #closeSources(draining: Draining): void {
    draining.sourcesClosed = true;
    this.#options.closeSources();
  }

  /** R1. One end may be what the next one waits for. */
  #endExchanges(draining: Draining): void {
    const { inlets, plan } = this.#options;
    let changed = true;
    while (changed) {
      changed = false;
      for (const { index, fromExchanges } of plan.exchanges) {
        const inlet = inlets[index]!;
        if (inlet.endSent || !fromExchanges.every((before) => this.#isDone(before, draining))) continue;
        inlet.endSent = true;
        changed = true;
        for (const peer of draining.peers) if (!draining.away.has(peer)) this.#sendEnd(peer, index);
      }
    }
  }

  #sendEnd(to: WorkerName, exchange: number): void {
    const { endSentTo } = this.#options.inlets[exchange]!;
    if (endSentTo.has(to)) return;
    endSentTo.add(to);
    this.#around!.links.sendEnd(to, exchange);
  }

  /** Has everything of this exchange that comes from peers been taken in, and what feeds it here been sent? */
  #isDone(exchange: number, { peers }: Draining): boolean {
    const inlet = this.#options.inlets[exchange]!;
    if (!inlet.endSent || inlet.waitingBatches > 0) return false;
    for (const peer of peers) if (!inlet.ended.has(peer)) return false;
    return true;
  }

  /** R3. */
  #report(draining: Draining): void {
    if (!draining.sourcesClosed) this.#closeSources(draining);
    cancel(draining);
    this.#phase = { kind: "done" };
    const { drained, sinks, worker } = this.#options;
    for (const sink of sinks) sink.giveUp?.();
    const left = this.#leftBehind(draining);
    drained({ worker, complete: left.length === 0, leftBehind: left.join("; ") });
  }

  #leftBehind({ missed }: Draining): string[] {
    const { inlets, plan, sinks } = this.#options;
    const left: string[] = [];
    for (const sink of sinks) {
      if (sink.queuedBytes === 0) continue;
      const state = sink.connected ? "which does not read" : "which is not connected";
      left.push(`${sink.countQueuedRecords()} records (${sink.queuedBytes} bytes) for ${sink.target}, ${state}`);
    }
    for (const { id, index } of plan.exchanges) {
      const waiting = inlets[index]!.waitingBatches;
      if (waiting > 0) left.push(`${waiting} batches received and not processed before "${id}"`);
    }
    const { links, peers } = this.#around ?? { links: null, peers: [] };
    for (const peer of peers) {
      const { frames, bytes } = links!.unacked(peer);
      if (frames > 0) left.push(`${frames} batches (${bytes} bytes) for worker ${peer}`);
    }
    for (const peer of missed) left.push(`what worker ${peer}, which is away, may still have had to send`);
    return left;
  }
}

function isBack({ away }: Draining, peer: WorkerName): void {
  away.get(peer)?.();
  away.delete(peer);
}

function cancel({ away, cancelDeadline }: Draining): void {
  cancelDeadline();
  for (const cancelWait of away.values()) cancelWait();
}
