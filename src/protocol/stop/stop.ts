/**
 * Stops the whole cluster in order: sources stop, what was taken in comes out, sinks are flushed, everybody leaves.
 *
 *   running ──asked──▶ asking ──stop──▶ draining ──exit, or nobody left to wait for──▶ finished
 *      └──────────────── (the coordinator begins at once) ─────▲
 *
 * S1. The initializer coordinates; while it is away, or does not answer, the worker that was asked does.
 * S2. Every state but `running` and `finished` has a deadline: a stop ends, whoever is absent or silent.
 * S3. Asking twice, or on two workers, is one stop. It may get two coordinators: each worker reports to both, themselves
 *     included, and leaves at the first `exit`; a coordinator leaves when it has dismissed those that it told.
 * S4. A coordinator tells everybody who is connected, also who comes (back) during the stop.
 *
 * It owns who is waited for. How a worker drains is the worker's (`worker/dataflow_shell.ts`); the second signal is too.
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
  /** The control connection to this worker is there, for the first time or again. */
  | { readonly kind: "peer_connected"; readonly peer: WorkerName }
  /** It is gone. */
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

interface Asking {
  readonly kind: "asking";
  readonly reason: string;
  readonly until: Millis;
  readonly connected: Set<WorkerName>;
  readonly absent: Set<WorkerName>;
}

interface Draining {
  readonly kind: "draining";
  readonly reason: string;
  readonly until: Millis;
  /** Did this worker tell others to stop, and will it dismiss them? */
  readonly coordinating: boolean;
  /** Who told this worker to stop and is still there: each gets its report. */
  readonly coordinators: Set<WorkerName>;
  /** The coordinator's: who was told to stop and is still there. */
  readonly told: Set<WorkerName>;
  /** Who has not reported yet, itself included. */
  readonly waiting: Set<WorkerName>;
  readonly reports: Map<WorkerName, DrainReport>;
}

type State = { readonly kind: "running" } | Asking | Draining | { readonly kind: "finished" };

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
      case "peer_connected":
        return this.#peerConnected(event.peer, now);
      case "peer_gone":
        return this.#peerGone(event.peer, event.left, now);
      case "drained":
        return this.#drained(event.report);
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
    const { connected, absent } = peers;
    const until = now + ASKING_MS;
    this.#state = { kind: "asking", reason, until, connected: new Set(connected), absent: new Set(absent) };
    return [{ kind: "send", to: INITIALIZER, message: { kind: "stop_requested", reason } }];
  }

  #received(from: WorkerName, message: ControlMessage, peers: StopPeers, now: Millis): StopEffect[] {
    const state = this.#state;
    switch (message.kind) {
      case "stop_requested":
        // Later than that, who asks was told already (S4), or becomes a coordinator itself (S3).
        return state.kind === "running" || state.kind === "asking" ? this.#coordinate(message.reason, peers, now) : [];
      case "stop":
        return this.#told(from, message.reason, Math.min(message.deadlineMs, this.#stopMs), now);
      case "drained": {
        const { complete, leftBehind } = message;
        return this.#reported(from, { worker: from, complete, leftBehind });
      }
      case "exit":
        return state.kind === "draining" && !state.coordinating ? this.#finish(message.reports) : [];
      default:
        return [];
    }
  }

  #coordinate(reason: string, peers: StopPeers, now: Millis): StopEffect[] {
    const reports = new Map<WorkerName, DrainReport>();
    for (const worker of peers.absent) reports.set(worker, incomplete(worker, "not reachable; it keeps its files"));
    this.#state = {
      kind: "draining",
      reason,
      until: now + this.#stopMs,
      coordinating: true,
      coordinators: new Set(),
      told: new Set(peers.connected),
      waiting: new Set([this.#name, ...peers.connected]),
      reports,
    };
    const message: ControlMessage = { kind: "stop", reason, deadlineMs: this.#stopMs };
    return [
      ...peers.connected.map((to): StopEffect => ({ kind: "send", to, message })),
      beginDrain(reason, this.#stopMs),
    ];
  }

  /** A coordinator says that all stop. */
  #told(from: WorkerName, reason: string, deadlineMs: Millis, now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "finished") return [];
    if (state.kind === "draining") {
      state.coordinators.add(from);
      const own = state.reports.get(this.#name);
      return own === undefined ? [] : [report(from, own)];
    }
    // A little longer than the coordinator, whose `exit` has the reports of all; but whoever asked does not wait longer
    // for that than if nobody had answered.
    const untilMax = state.kind === "asking" ? state.until + this.#stopMs : Number.POSITIVE_INFINITY;
    this.#state = {
      kind: "draining",
      reason,
      until: Math.min(now + deadlineMs + TELLING_MS, untilMax),
      coordinating: false,
      coordinators: new Set([from]),
      told: new Set(),
      waiting: new Set([this.#name]),
      reports: new Map(),
    };
    return [beginDrain(reason, deadlineMs)];
  }

  /** This worker has drained. */
  #drained(own: DrainReport): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining" || !state.waiting.has(this.#name)) return [];
    const told = [...state.coordinators].map((to) => report(to, own));
    return [...told, ...this.#reported(this.#name, own)];
  }

  #reported(worker: WorkerName, report: DrainReport): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining" || !state.waiting.delete(worker)) return [];
    state.reports.set(worker, report);
    return this.#finishIfDone(state);
  }

  #peerConnected(peer: WorkerName, now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking") {
      state.absent.delete(peer);
      state.connected.add(peer);
    }
    if (state.kind !== "draining" || !state.coordinating) return [];
    state.told.add(peer);
    // What it had reported it reports again, unless it is a new process.
    state.waiting.add(peer);
    state.reports.delete(peer);
    const message: ControlMessage = {
      kind: "stop",
      reason: state.reason,
      deadlineMs: Math.max(0, state.until - now),
    };
    return [{ kind: "send", to: peer, message }];
  }

  #peerGone(peer: WorkerName, left: boolean, now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking") {
      if (state.connected.delete(peer)) state.absent.add(peer);
      return peer === INITIALIZER ? this.#coordinateInstead(state, now) : [];
    }
    if (state.kind !== "draining") return [];
    state.told.delete(peer);
    const wasCoordinator = state.coordinators.delete(peer);
    if (state.waiting.has(peer)) {
      const why = left ? "left before it had reported" : "lost during the stop; it keeps its files";
      return this.#reported(peer, incomplete(peer, why));
    }
    // Nobody will say `exit` any more: leave as soon as this worker has drained.
    return wasCoordinator ? this.#finishIfDone(state) : [];
  }

  #tick(now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking" && now >= state.until) return this.#coordinateInstead(state, now);
    if (state.kind !== "draining" || now < state.until) return [];
    for (const worker of state.waiting) {
      state.reports.set(worker, incomplete(worker, `no answer within ${this.#stopMs} ms`));
    }
    return this.#dismiss(state);
  }

  /** In place of the initializer, which is away or silent. */
  #coordinateInstead({ reason, connected, absent }: Asking, now: Millis): StopEffect[] {
    return this.#coordinate(reason, { connected: [...connected], absent: [...absent] }, now);
  }

  #finishIfDone(state: Draining): StopEffect[] {
    if (state.waiting.size > 0) return [];
    if (!state.coordinating && state.coordinators.size > 0) return [];
    return this.#dismiss(state);
  }

  #dismiss(state: Draining): StopEffect[] {
    const reports = [...state.reports.values()].sort((a, b) => (a.worker < b.worker ? -1 : 1));
    const exit: ControlMessage = { kind: "exit", reports };
    return [
      ...[...state.told].map((to): StopEffect => ({ kind: "send", to, message: exit })),
      ...this.#finish(reports),
    ];
  }

  #finish(reports: readonly DrainReport[]): StopEffect[] {
    this.#state = { kind: "finished" };
    return [{ kind: "finish", reports }];
  }
}

function beginDrain(reason: string, deadlineMs: Millis): StopEffect {
  return { kind: "begin_drain", reason, withinMs: Math.max(0, deadlineMs - TELLING_MS) };
}

function report(to: WorkerName, own: DrainReport): StopEffect {
  return { kind: "send", to, message: { kind: "drained", ...own } };
}

function incomplete(worker: WorkerName, leftBehind: string): DrainReport {
  return { worker, complete: false, leftBehind };
}
