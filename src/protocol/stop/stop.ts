/**
 * Stops the whole cluster in order: sources stop, what was taken in comes out, sinks are flushed, everybody leaves.
 *
 *   running ──asked──▶ asking ──stop──▶ draining ──exit, or nobody left to wait for──▶ finished
 *      └──────────────── (the coordinator begins at once) ─────▲
 *
 * S1. The initializer coordinates; while it is away, the worker that was asked does.
 * S2. Every state but `running` and `finished` has a deadline: a stop ends, whoever is absent or silent.
 * S3. Asking twice, or on two workers, is one stop.
 *
 * It owns who is waited for. How a worker drains is the worker's (`worker/drain.ts`); the second signal is too.
 */
import { unreachable } from "../../base/assert.ts";
import { INITIALIZER, type WorkerName } from "../../base/ids.ts";
import type { Millis } from "../../runtime/runtime.ts";
import type { ControlMessage, DrainReport } from "../../wire/control.ts";

export type StopEvent =
  /** Somebody at this worker (a signal, the external channel) wants the cluster to stop. */
  | { readonly kind: "requested"; readonly reason: string; readonly peers: StopPeers }
  | {
      readonly kind: "received";
      readonly from: WorkerName;
      readonly message: ControlMessage;
      readonly peers: StopPeers;
    }
  /** The control connection to this worker is gone. */
  | { readonly kind: "peer_gone"; readonly peer: WorkerName; readonly left: boolean }
  /** This worker has drained, or gave up at its deadline. */
  | { readonly kind: "drained"; readonly report: DrainReport }
  | { readonly kind: "tick" };

/** Who is there when the stop begins. */
export interface StopPeers {
  readonly connected: readonly WorkerName[];
  /** Members without a connection. */
  readonly absent: readonly WorkerName[];
}

export type StopEffect =
  | { readonly kind: "send"; readonly to: WorkerName; readonly message: ControlMessage }
  /** Stop the sources, drain, and say `drained` within `withinMs`. Once. */
  | { readonly kind: "begin_drain"; readonly reason: string; readonly withinMs: Millis }
  /** Remove the files and leave. Once; nothing comes after it. */
  | { readonly kind: "finish"; readonly reports: readonly DrainReport[] };

type State =
  | { readonly kind: "running" }
  | { readonly kind: "asking"; readonly reason: string; readonly until: Millis; readonly peers: StopPeers }
  | {
      readonly kind: "draining";
      /** Whose `exit` ends it; null: this worker coordinates. */
      coordinator: WorkerName | null;
      readonly until: Millis;
      /** The coordinator's: who has not reported yet, itself included. */
      readonly waiting: Set<WorkerName>;
      readonly reports: Map<WorkerName, DrainReport>;
    }
  | { readonly kind: "finished" };

/** How long the initializer may take to answer a request before the worker asked coordinates by itself. */
const ASKING_MS = 1_500;
/** The part of the time to stop that is left for telling each other about it. */
const TELLING_MS = 1_000;

export class Stop {
  readonly #name: WorkerName;
  readonly #stopMs: Millis;
  #state: State = { kind: "running" };

  constructor(name: WorkerName, stopMs: Millis) {
    this.#name = name;
    this.#stopMs = stopMs;
  }

  /** Has anybody asked for a stop? */
  get stopping(): boolean {
    return this.#state.kind !== "running";
  }

  /** The reports known so far, for whoever watches. */
  get reports(): readonly DrainReport[] {
    return this.#state.kind === "draining" ? [...this.#state.reports.values()] : [];
  }

  handle(event: StopEvent, now: Millis): StopEffect[] {
    switch (event.kind) {
      case "requested":
        return this.#requested(event.reason, event.peers, now);
      case "received":
        return this.#received(event.from, event.message, event.peers, now);
      case "peer_gone":
        return this.#peerGone(event.peer, event.left, now);
      case "drained":
        return this.#drained(this.#name, event.report);
      case "tick":
        return this.#tick(now);
      default:
        return unreachable(event);
    }
  }

  #requested(reason: string, peers: StopPeers, now: Millis): StopEffect[] {
    if (this.#state.kind !== "running") return [];
    if (this.#name === INITIALIZER || !peers.connected.includes(INITIALIZER))
      return this.#coordinate(reason, peers, now);
    this.#state = { kind: "asking", reason, until: now + ASKING_MS, peers };
    return [{ kind: "send", to: INITIALIZER, message: { kind: "stop_requested", reason } }];
  }

  #received(from: WorkerName, message: ControlMessage, peers: StopPeers, now: Millis): StopEffect[] {
    switch (message.kind) {
      case "stop_requested":
        return this.#state.kind === "running" || this.#state.kind === "asking"
          ? this.#coordinate(message.reason, peers, now)
          : [];
      case "stop": {
        if (this.#state.kind === "finished") return [];
        if (this.#state.kind === "draining") {
          // Two coordinators (S3): the other one gets our report too, and the first `exit` counts.
          const own = this.#state.reports.get(this.#name);
          return own === undefined ? [] : [{ kind: "send", to: from, message: { kind: "drained", ...own } }];
        }
        const until = now + message.deadlineMs + TELLING_MS;
        this.#state = {
          kind: "draining",
          coordinator: from,
          until,
          waiting: new Set([this.#name]),
          reports: new Map(),
        };
        return [
          { kind: "begin_drain", reason: message.reason, withinMs: Math.max(0, message.deadlineMs - TELLING_MS) },
        ];
      }
      case "drained": {
        const { kind: _, ...report } = message;
        return this.#drained(from, { ...report, worker: from });
      }
      case "exit":
        return this.#state.kind === "draining" ? this.#finish(message.reports) : [];
      default:
        return [];
    }
  }

  #coordinate(reason: string, peers: StopPeers, now: Millis): StopEffect[] {
    const reports = new Map<WorkerName, DrainReport>();
    for (const worker of peers.absent) {
      reports.set(worker, { worker, complete: false, leftBehind: "not reachable; it keeps its files" });
    }
    const waiting = new Set([this.#name, ...peers.connected]);
    this.#state = { kind: "draining", coordinator: null, until: now + this.#stopMs, waiting, reports };
    const stop: ControlMessage = { kind: "stop", reason, deadlineMs: this.#stopMs };
    return [
      ...peers.connected.map((to): StopEffect => ({ kind: "send", to, message: stop })),
      { kind: "begin_drain", reason, withinMs: Math.max(0, this.#stopMs - TELLING_MS) },
    ];
  }

  #drained(worker: WorkerName, report: DrainReport): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining" || !state.waiting.delete(worker)) return [];
    state.reports.set(worker, report);
    if (state.coordinator !== null) {
      return [{ kind: "send", to: state.coordinator, message: { kind: "drained", ...report } }];
    }
    return state.waiting.size === 0 ? this.#dismiss(state) : [];
  }

  #peerGone(peer: WorkerName, left: boolean, now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking" && peer === INITIALIZER)
      return this.#coordinate(state.reason, without(state.peers, peer), now);
    if (state.kind !== "draining") return [];
    if (state.coordinator === peer) {
      // Nobody will say `exit` any more: leave as soon as this worker has drained.
      state.coordinator = null;
      return state.waiting.size === 0 ? this.#finish([...state.reports.values()]) : [];
    }
    if (state.coordinator !== null || !state.waiting.has(peer)) return [];
    const leftBehind = left ? "left before it had reported" : "lost during the stop; it keeps its files";
    return this.#drained(peer, { worker: peer, complete: false, leftBehind });
  }

  #tick(now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking" && now >= state.until) return this.#coordinate(state.reason, state.peers, now);
    if (state.kind !== "draining" || now < state.until) return [];
    for (const worker of state.waiting) {
      state.reports.set(worker, { worker, complete: false, leftBehind: `no answer within ${this.#stopMs} ms` });
    }
    return state.coordinator === null ? this.#dismiss(state) : this.#finish([...state.reports.values()]);
  }

  #dismiss(state: State & { kind: "draining" }): StopEffect[] {
    const reports = [...state.reports.values()].sort((a, b) => (a.worker < b.worker ? -1 : 1));
    const exit: ControlMessage = { kind: "exit", reports };
    const told = reports.filter(
      (report) => report.worker !== this.#name && report.leftBehind !== "not reachable; it keeps its files",
    );
    return [
      ...told.map(({ worker }): StopEffect => ({ kind: "send", to: worker, message: exit })),
      ...this.#finish(reports),
    ];
  }

  #finish(reports: readonly DrainReport[]): StopEffect[] {
    this.#state = { kind: "finished" };
    return [{ kind: "finish", reports }];
  }
}

function without(peers: StopPeers, gone: WorkerName): StopPeers {
  return { connected: peers.connected.filter((peer) => peer !== gone), absent: [...peers.absent, gone] };
}
