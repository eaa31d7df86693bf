/**
 * Stops the whole cluster in order: sources stop, what was taken in comes out, sinks are flushed, everybody leaves.
 *
 *   running ──asked──▶ asking ──stop──▶ draining ──exit, or nobody left to wait for──▶ finished
 *      └──────────────── (the coordinator begins at once) ─────▲
 *
 * S1. The initializer coordinates; while it is away, or does not answer, the worker that was asked does.
 * S2. Every state but `running` and `finished` has a deadline: a stop ends, whoever is absent or silent.
 * S3. Asking twice, or on two workers, is one stop. It may get two coordinators: each worker reports to both, themselves
 *     included. Whoever was told leaves at the initializer's `exit`, or at the other one's if the initializer did not tell
 *     it; the other one dismisses those that it told behind the initializer.
 * S4. A coordinator tells everybody who is connected, also who comes (back) during the stop.
 * S5. Everybody finds the cluster again at the next start, or nobody does. Only the initializer decides that the files go,
 *     once every member has reported to it; its decision is durable before anyone hears of it. A worker saves that it is
 *     `prepared` for that before it reports to the initializer. One that does not hear the decision keeps its files, and
 *     gives way later if the initializer has another cluster. As long as a member is away, all files stay.
 * S6. With checkpoints, the files go only behind a last one that covers all that was taken in, and when every worker has made
 *     visible what that decides. Otherwise they stay, and nothing is lost.
 *
 * It owns who is waited for, and what becomes of the files. How a worker drains is the worker's
 * (`worker/drain.ts`); the second signal is too.
 */
import { unreachable } from "../../base/assert.ts";
import { type Epoch, INITIALIZER, type WorkerName } from "../../base/ids.ts";
import type { Millis } from "../../runtime/runtime.ts";
import type { ControlMessage, DrainReport } from "../../wire/control.ts";

export type StopEvent =
  /** Somebody at this worker (a signal, the external channel) wants the cluster to stop. */
  | { readonly kind: "requested"; readonly reason: string; readonly keep: boolean; readonly peers: StopPeers }
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
  /** `prepare` is durable. */
  | { readonly kind: "prepared" }
  /** `decide` is over. False: the decision could not be made durable, so the files stay. */
  | { readonly kind: "decided"; readonly durable: boolean }
  /** The last checkpoint exists; `epoch` 0: it does not, and why; null: there is nothing that one could cover. */
  | { readonly kind: "checkpointed"; readonly epoch: Epoch | null; readonly reason: string }
  /** All that this checkpoint decides is visible at this worker. */
  | { readonly kind: "settled"; readonly epoch: Epoch }
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
  /** Save that from now on the initializer may decide that the cluster is gone, then say `prepared`. Once. */
  | { readonly kind: "prepare" }
  /** The initializer's: take a last checkpoint, then say `checkpointed`. */
  | { readonly kind: "last_checkpoint" }
  /** The initializer's: make it durable that the files go, then say `decided`. Once. */
  | { readonly kind: "decide" }
  /** Leave. Once; nothing comes after it. */
  | { readonly kind: "finish"; readonly reports: readonly DrainReport[]; readonly files: FilesAfterStop };

/**
 * What becomes of this worker's files. `suspend`: they stay, as was asked, with the last checkpoint. `keep`: they stay since
 * not all is as it should be; the initializer says so. `undecided`: they stay, but the initializer may have
 * decided that they go.
 */
export type FilesAfterStop = "remove" | "suspend" | "keep" | "undecided";

interface Asking {
  readonly kind: "asking";
  readonly reason: string;
  readonly keep: boolean;
  readonly until: Millis;
  readonly connected: Set<WorkerName>;
  readonly absent: Set<WorkerName>;
}

interface Draining {
  readonly kind: "draining";
  readonly reason: string;
  /** Somebody wants the files to stay. */
  keep: boolean;
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
  /** Members that did not report themselves. */
  readonly away: Set<WorkerName>;
  /** Is it durable that the initializer may decide? */
  prepared: "no" | "saving" | "yes";
  /** The initializer's: a last checkpoint is being taken. */
  checkpointing: boolean;
  /** The initializer's: the last checkpoint; 0: there is none yet; null: none is needed. */
  lastEpoch: Epoch | null;
  /** The initializer's: the highest epoch of which each worker has made all visible. */
  readonly settled: Map<WorkerName, Epoch>;
  /** The initializer's decision on its way to the disk. */
  deciding: boolean;
  /** What the initializer said; null: nothing yet. */
  verdict: "remove" | "suspend" | "keep" | null;
}

type State = { readonly kind: "running" } | Asking | Draining | { readonly kind: "finished" };

/** How long the initializer may take to answer a request before the worker asked coordinates by itself. */
const ASKING_MS = 1_500;
/** The part of the time to stop that is left for telling each other about it. */
const TELLING_MS = 1_000;

export class Stop {
  readonly #name: WorkerName;
  readonly #stopMs: Millis;
  readonly #checkpoints: boolean;
  #state: State = { kind: "running" };

  /** @param checkpoints Are they taken? */
  constructor(name: WorkerName, stopMs: Millis, checkpoints: boolean) {
    this.#name = name;
    this.#stopMs = stopMs;
    this.#checkpoints = checkpoints;
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
        return this.#requested(event.reason, event.keep, event.peers, now);
      case "received":
        return this.#received(event.from, event.message, event.peers, now);
      case "peer_connected":
        return this.#peerConnected(event.peer, now);
      case "peer_gone":
        return this.#peerGone(event.peer, event.left, now);
      case "drained":
        return this.#drained(event.report);
      case "prepared":
        return this.#prepared();
      case "checkpointed":
        return this.#checkpointed(event.epoch, event.reason);
      case "settled":
        return this.#settled(event.epoch);
      case "decided":
        return this.#decided(event.durable);
      case "tick":
        return this.#tick(now);
      default:
        return unreachable(event);
    }
  }

  #requested(reason: string, keep: boolean, peers: StopPeers, now: Millis): StopEffect[] {
    if (this.#state.kind !== "running") {
      // One stop, but whoever wants to keep the files is heard until they are decided about.
      if (!keep || this.#state.kind === "finished") return [];
      if (this.#name !== INITIALIZER)
        return [{ kind: "send", to: INITIALIZER, message: { kind: "stop_requested", reason, keep } }];
      if (this.#state.kind === "draining") this.#state.keep = true;
      return [];
    }
    if (this.#name === INITIALIZER || !peers.connected.includes(INITIALIZER))
      return this.#coordinate(reason, keep, peers, now);
    const { connected, absent } = peers;
    const until = now + ASKING_MS;
    this.#state = { kind: "asking", reason, keep, until, connected: new Set(connected), absent: new Set(absent) };
    return [{ kind: "send", to: INITIALIZER, message: { kind: "stop_requested", reason, keep } }];
  }

  #received(from: WorkerName, message: ControlMessage, peers: StopPeers, now: Millis): StopEffect[] {
    const state = this.#state;
    switch (message.kind) {
      case "stop_requested":
        if (state.kind === "draining") state.keep ||= message.keep;
        // Later than that, who asks was told already (S4), or becomes a coordinator itself (S3).
        return state.kind === "running" || state.kind === "asking"
          ? this.#coordinate(message.reason, message.keep, peers, now)
          : [];
      case "stop":
        return this.#told(from, message, Math.min(message.deadlineMs, this.#stopMs), peers, now);
      case "drained": {
        const { complete, leftBehind } = message;
        return this.#reported(from, { worker: from, complete, leftBehind });
      }
      case "settled":
        return this.#settledAt(from, message.epoch);
      case "exit":
        return state.kind === "draining" ? this.#dismissed(state, from, message) : [];
      default:
        return [];
    }
  }

  #coordinate(reason: string, keep: boolean, peers: StopPeers, now: Millis): StopEffect[] {
    const reports = new Map<WorkerName, DrainReport>();
    for (const worker of peers.absent) reports.set(worker, incomplete(worker, `not reachable; ${FILES_STAY}`));
    this.#state = {
      kind: "draining",
      reason,
      keep,
      until: now + this.#stopMs,
      coordinating: true,
      coordinators: new Set(),
      told: new Set(peers.connected),
      waiting: new Set([this.#name, ...peers.connected]),
      reports,
      away: new Set(peers.absent),
      settled: new Map(),
      ...this.#undecided(),
    };
    const message: ControlMessage = { kind: "stop", reason, keep, deadlineMs: this.#stopMs };
    return [
      ...peers.connected.map((to): StopEffect => ({ kind: "send", to, message })),
      beginDrain(reason, this.#stopMs),
    ];
  }

  /** A coordinator says that all stop. */
  #told(
    from: WorkerName,
    message: { readonly reason: string; readonly keep: boolean },
    deadlineMs: Millis,
    peers: StopPeers,
    now: Millis,
  ): StopEffect[] {
    const { reason, keep } = message;
    const state = this.#state;
    if (state.kind === "finished") return [];
    if (state.kind === "draining") {
      state.coordinators.add(from);
      state.keep ||= keep;
      const own = state.reports.get(this.#name);
      return own === undefined ? [] : this.#report(state, from, own);
    }
    if (this.#name === INITIALIZER) {
      const effects = this.#coordinate(reason, keep, peers, now);
      return [...effects, ...this.#told(from, message, deadlineMs, peers, now)];
    }
    // A little longer than the coordinator, whose `exit` has the reports of all; but whoever asked does not wait longer
    // for that than if nobody had answered.
    const untilMax = state.kind === "asking" ? state.until + this.#stopMs : Number.POSITIVE_INFINITY;
    this.#state = {
      kind: "draining",
      reason,
      keep,
      until: Math.min(now + deadlineMs + TELLING_MS, untilMax),
      coordinating: false,
      coordinators: new Set([from]),
      told: new Set(),
      waiting: new Set([this.#name]),
      reports: new Map(),
      away: new Set(),
      settled: new Map(),
      ...this.#undecided(),
    };
    return [beginDrain(reason, deadlineMs)];
  }

  /** This worker has drained. */
  #drained(own: DrainReport): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining" || !state.waiting.has(this.#name)) return [];
    const told = [...state.coordinators].flatMap((to) => this.#report(state, to, own));
    return [...told, ...this.#reported(this.#name, own)];
  }

  #report(state: Draining, to: WorkerName, own: DrainReport): StopEffect[] {
    if (to !== INITIALIZER || state.prepared === "yes") return [report(to, own)];
    if (state.prepared === "saving") return [];
    state.prepared = "saving";
    return [{ kind: "prepare" }];
  }

  #prepared(): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining") return [];
    state.prepared = "yes";
    const own = state.reports.get(this.#name);
    return own !== undefined && state.coordinators.has(INITIALIZER) ? [report(INITIALIZER, own)] : [];
  }

  #reported(worker: WorkerName, report: DrainReport): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining" || !state.waiting.delete(worker)) return [];
    state.reports.set(worker, report);
    state.away.delete(worker);
    return this.#finishIfDone(state);
  }

  /** It did not report, and will not. */
  #missed(state: Draining, worker: WorkerName, why: string): void {
    state.waiting.delete(worker);
    state.reports.set(worker, incomplete(worker, why));
    state.away.add(worker);
  }

  #peerConnected(peer: WorkerName, now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking") {
      state.absent.delete(peer);
      state.connected.add(peer);
    }
    if (state.kind !== "draining" || !state.coordinating) return [];
    state.told.add(peer);
    // What it had reported it reports again, unless it is a new process. Behind a decision that counts for nothing.
    if (!state.deciding) {
      state.waiting.add(peer);
      state.reports.delete(peer);
    }
    const message: ControlMessage = {
      kind: "stop",
      reason: state.reason,
      keep: state.keep,
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
    const isUnsettled = state.checkpointing || (state.lastEpoch !== 0 && !this.#hasSettled(state, peer));
    if (state.waiting.has(peer) || (this.#name === INITIALIZER && !state.deciding && isUnsettled)) {
      this.#missed(state, peer, `${left ? "left before it had reported" : "lost during the stop"}; ${FILES_STAY}`);
      return this.#finishIfDone(state);
    }
    // Nobody will say `exit` any more: leave as soon as this worker has drained.
    return wasCoordinator ? this.#finishIfDone(state) : [];
  }

  #tick(now: Millis): StopEffect[] {
    const state = this.#state;
    if (state.kind === "asking" && now >= state.until) return this.#coordinateInstead(state, now);
    if (state.kind !== "draining" || now < state.until) return [];
    // A disk that does not answer: what it holds is the decision, and nobody has heard it.
    if (state.deciding) return now < state.until + TELLING_MS ? [] : this.#finish(this.#sorted(state), "undecided");
    for (const worker of [...state.waiting]) {
      this.#missed(state, worker, `no answer within ${this.#stopMs} ms; ${FILES_STAY}`);
    }
    if (state.checkpointing || (this.#name === INITIALIZER && state.lastEpoch !== 0 && !this.#allSettled(state))) {
      return this.#without(state, `it did not complete within ${this.#stopMs} ms`);
    }
    return this.#dismiss(state);
  }

  /** In place of the initializer, which is away or silent. */
  #coordinateInstead({ reason, keep, connected, absent }: Asking, now: Millis): StopEffect[] {
    return this.#coordinate(reason, keep, { connected: [...connected], absent: [...absent] }, now);
  }

  /** Another coordinator says that it is over. */
  #dismissed(state: Draining, from: WorkerName, exit: ControlMessage & { kind: "exit" }): StopEffect[] {
    const { reports, remove, suspended } = exit;
    if (this.#name === INITIALIZER) return [];
    state.coordinators.delete(from);
    if (remove) state.verdict = "remove";
    else if (from === INITIALIZER) state.verdict = suspended ? "suspend" : "keep";
    if (state.coordinating) return this.#finishIfDone(state);
    // The others know only what it has told them; it will say itself what it knows.
    if (state.coordinators.has(INITIALIZER)) return [];
    return this.#finish(reports, state.verdict ?? "undecided");
  }

  #finishIfDone(state: Draining): StopEffect[] {
    if (state.waiting.size > 0 || state.deciding || state.checkpointing) return [];
    if (this.#name === INITIALIZER) return this.#dismiss(state);
    if (!state.coordinating && state.coordinators.size > 0) return [];
    if (state.coordinators.has(INITIALIZER)) return [];
    return this.#dismiss(state);
  }

  #dismiss(state: Draining): StopEffect[] {
    if (this.#name !== INITIALIZER) return this.#tellExit(state, state.verdict ?? "undecided");
    if (state.away.size > 0) return this.#tellExit(state, "keep");
    if (state.lastEpoch === 0) {
      state.checkpointing = true;
      return [{ kind: "last_checkpoint" }];
    }
    if (!this.#allSettled(state)) return [];
    if (state.keep) return this.#tellExit(state, "suspend");
    if (state.reports.size === 1) return this.#tellExit(state, "remove");
    state.deciding = true;
    return [{ kind: "decide" }];
  }

  #checkpointed(epoch: Epoch | null, reason: string): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining" || !state.checkpointing) return [];
    state.checkpointing = false;
    // Who has come back meanwhile reports first: then another one is taken, which covers it too.
    if (state.waiting.size > 0) return [];
    if (epoch === 0) return this.#without(state, reason);
    state.lastEpoch = epoch;
    return this.#dismiss(state);
  }

  /** Without a last checkpoint. */
  #without(state: Draining, reason: string): StopEffect[] {
    const own = state.reports.get(this.#name);
    const left = own === undefined || own.leftBehind === "" ? "" : `${own.leftBehind}; `;
    state.reports.set(this.#name, incomplete(this.#name, `${left}${NO_LAST_CHECKPOINT}: ${reason}; ${FILES_STAY}`));
    return this.#tellExit(state, "keep");
  }

  #settled(epoch: Epoch): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining") return [];
    if (this.#name === INITIALIZER) return this.#settledAt(this.#name, epoch);
    return state.coordinators.has(INITIALIZER)
      ? [{ kind: "send", to: INITIALIZER, message: { kind: "settled", epoch } }]
      : [];
  }

  #settledAt(worker: WorkerName, epoch: Epoch): StopEffect[] {
    const state = this.#state;
    if (state.kind !== "draining") return [];
    state.settled.set(worker, epoch);
    return state.lastEpoch === 0 ? [] : this.#finishIfDone(state);
  }

  #allSettled(state: Draining): boolean {
    return [...state.reports.keys()].every((worker) => this.#hasSettled(state, worker));
  }

  #hasSettled(state: Draining, worker: WorkerName): boolean {
    return state.lastEpoch === null || (state.settled.get(worker) ?? 0) >= state.lastEpoch;
  }

  /** Of a stop that has just begun. */
  #undecided() {
    const lastEpoch = this.#checkpoints ? 0 : null;
    return { prepared: "no", checkpointing: false, lastEpoch, deciding: false, verdict: null } as const;
  }

  #decided(durable: boolean): StopEffect[] {
    const state = this.#state;
    return state.kind === "draining" ? this.#tellExit(state, durable ? "remove" : "keep") : [];
  }

  #tellExit(state: Draining, files: FilesAfterStop): StopEffect[] {
    const reports = this.#sorted(state);
    const exit: ControlMessage = { kind: "exit", reports, remove: files === "remove", suspended: files === "suspend" };
    return [
      ...[...state.told].map((to): StopEffect => ({ kind: "send", to, message: exit })),
      ...this.#finish(reports, files),
    ];
  }

  #sorted({ reports }: Draining): DrainReport[] {
    return [...reports.values()].sort((a, b) => (a.worker < b.worker ? -1 : 1));
  }

  #finish(reports: readonly DrainReport[], files: FilesAfterStop): StopEffect[] {
    this.#state = { kind: "finished" };
    return [{ kind: "finish", reports, files }];
  }
}

const FILES_STAY = "all files stay";
/** How the initializer's report says that all took part, and nothing else is missing. */
export const NO_LAST_CHECKPOINT = "no last checkpoint";

function beginDrain(reason: string, deadlineMs: Millis): StopEffect {
  return { kind: "begin_drain", reason, withinMs: Math.max(0, deadlineMs - TELLING_MS) };
}

function report(to: WorkerName, own: DrainReport): StopEffect {
  return { kind: "send", to, message: { kind: "drained", ...own } };
}

function incomplete(worker: WorkerName, leftBehind: string): DrainReport {
  return { worker, complete: false, leftBehind };
}
