/**
 * The driver of the cluster's machines: `Membership` and `Stop` decide, this performs. Every event from a connection, the
 * disk or the clock becomes one call of a machine; every effect becomes one call here; every completion the next event.
 *
 * It owns the control channel's conversations and the saved cluster information. Records are none of its business
 * (`dataflow_shell.ts`).
 */
import { showAddress } from "../base/address.ts";
import { unreachable } from "../base/assert.ts";
import { ConfigError, IdentityError, ResilienceError, StorageError, type TammarError } from "../base/errors.ts";
import { type Epoch, type Generation, INITIALIZER, type WorkerName } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { DEFAULT_KEY_GROUP_COUNT } from "../plan/key_groups.ts";
import {
  type Admission,
  type ClusterInformation,
  Membership,
  type MembershipEffect,
  type MembershipEvent,
} from "../protocol/membership/membership.ts";
import { type FilesAfterStop, Stop, type StopEffect, type StopEvent, type StopPeers } from "../protocol/stop/stop.ts";
import type { Address, Millis, Runtime } from "../runtime/runtime.ts";
import { type SavedCluster, wellFormed } from "../store/saved_cluster.ts";
import { otherClusterError, type Store } from "../store/store.ts";
import type {
  CheckpointMessage,
  ControlMessage,
  DrainReport,
  LettersMessage,
  MemberAddress,
  Phase,
  StreamMessage,
} from "../wire/control.ts";
import { bytesToHex, type Hello, UNKNOWN_ID, type Welcome } from "../wire/hello.ts";
import type { ControlChannel } from "./channels/control_channel.ts";
import type { DataChannel } from "./channels/data_channel.ts";
import type { AdmissionFacts, ConnectedInfo, LinkKind, LocalIdentity } from "./channels/link_owner.ts";
import type { WorkerConfig } from "./config.ts";
import type { WorkerHooks } from "./crash_points.ts";

/** What the cluster tells the worker around it. */
export interface ClusterOwner {
  /** The cluster is known for good, and this worker's place in it: build the dataflow. */
  install(cluster: ClusterInformation): void;
  /** To be durable before the cluster counts as formed; the first time only. */
  beforeFormed(clusterId: string): Promise<void>;
  reached(phase: Phase): void;
  beginDrain(withinMs: Millis): void;
  /** The initializer's: takes one that covers all that was taken in. */
  lastCheckpoint(answer: (epoch: Epoch | null, reason: string) => void): void;
  /** Leave: the cluster has been stopped. */
  finish(reports: readonly DrainReport[], files: FilesAfterStop): void;
  /** The cluster whose information this worker has saved has been stopped without it: remove the files, begin anew. */
  giveWay(): void;
  /** This worker cannot be part of the cluster, or can't go on. */
  fail(error: TammarError): void;
  query(from: WorkerName, message: ControlMessage & { kind: "query" }): void;
  /** Another worker passes on that a tool wants a new file of this worker's event log. */
  rotateLog(): void;
  answer(from: WorkerName, message: ControlMessage & { kind: "answer" }): void;
  checkpoint(from: WorkerName, message: CheckpointMessage): void;
  streams(from: WorkerName, message: StreamMessage): void;
  letters(from: WorkerName, message: LettersMessage): void;
  /** The initializer's: these wait to be released. */
  ready(workers: readonly WorkerName[]): void;
  /** The control connection to this worker is gone. */
  peerLost(worker: WorkerName): void;
  /** Four times a second. */
  ticked(): void;
  /** What the worker itself waits for, beside other workers; in words. */
  waitingFor(): string | null;
}

export interface ClusterOptions {
  readonly config: WorkerConfig;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly store: Store;
  readonly owner: ClusterOwner;
  readonly turn: (run: () => void) => void;
  /** Of code and plan. */
  readonly fingerprint: string;
  readonly hooks: WorkerHooks;
}

/** What is known of a peer, for status and for addresses. */
export interface PeerStatus {
  control: boolean;
  data_out: boolean;
  data_in: boolean;
  /** It said goodbye. */
  left: boolean;
  /** Wall clock. */
  sinceMs: Millis;
  /** Why the last connection ended; empty while it never did. */
  lastLoss: string;
  incarnation: string;
  /** The peer's end of a connection, and ours: what each can reach the other at. */
  observed: Address | null;
  local: Address | null;
}

const NOWHERE: Address = { host: "", port: 0 };

const CHANNEL_NAMES: Readonly<Record<LinkKind, string>> = { control: "control", data_out: "data", data_in: "data" };

/** Refusals that no waiting mends. */
const FINAL_REFUSALS: ReadonlySet<string> = new Set([
  "application_differs",
  "build_differs",
  "cluster_differs",
  "cluster_full",
  "fingerprint_differs",
  "name_taken",
  "protocol_version_differs",
  "superseded",
]);

const START_THE_SAME = "start all workers with the same tammar and the same application";

/** What to do about a refusal that no waiting mends. */
const ADVICE: Readonly<Record<string, string | undefined>> = {
  cluster_differs: "give this worker the address of its own cluster, or another --resilience-dir",
  cluster_full: "leave this worker out, or form a new cluster with a larger --worker-count",
  name_taken: "give this worker another --name, or stop the one that has it",
  superseded: "leave it to the other process, or stop that one and start again",
};

export class Cluster {
  readonly #options: ClusterOptions;
  readonly #membership: Membership;
  readonly #stop: Stop;
  readonly #peers = new Map<WorkerName, PeerStatus>();
  readonly #incarnation: string;
  readonly #startNumber: number;
  readonly #control: ControlChannel;
  readonly #data: DataChannel;
  /** Where this worker really listens; nowhere until `start`. */
  #bound: { readonly control: Address; readonly data: Address } = { control: NOWHERE, data: NOWHERE };
  /** What hellos say; UNKNOWN_ID until a cluster is known. */
  #clusterId: string;
  #everWelcomed = false;
  #saving: Promise<void> = Promise.resolve();
  #saveFailed = false;
  #formedSaved: boolean;
  /** Saved as `stopping` from now on: the initializer may have decided that the cluster is gone. */
  #inDoubt: boolean;
  /**
   * The cluster was suspended, or is to go on as another version, and is not at work again: until then another build may take its turn, since this one may yet
   * be refused, as one whose states have another version is.
   */
  #isSuspended: boolean;
  #lastWaiting: string | null = null;
  #waitingToldMs: Millis = 0;
  #waitingSinceMs: Millis = 0;
  #closed = false;

  constructor(options: ClusterOptions, control: ControlChannel, data: DataChannel) {
    this.#options = options;
    this.#control = control;
    this.#data = data;
    const { config, runtime, store } = options;
    const newClusterId = bytesToHex(runtime.random.bytes(16));
    this.#incarnation = bytesToHex(runtime.random.bytes(16));
    this.#startNumber = (store.saved?.startNumber ?? 0) + 1;
    this.#formedSaved = store.saved !== null;
    this.#inDoubt = store.saved?.state === "stopping";
    const isOtherVersion = store.saved !== null && store.saved.fingerprint !== options.fingerprint;
    this.#isSuspended = store.saved?.state === "suspended" || isOtherVersion;
    this.#clusterId = store.saved?.clusterId ?? (config.role === "initializer" ? newClusterId : UNKNOWN_ID);
    this.#membership = new Membership({
      role: config.role,
      name: config.name,
      workerCount: store.saved?.workerCount ?? config.workerCount,
      keyGroupCount: DEFAULT_KEY_GROUP_COUNT,
      newClusterId,
    });
    this.#stop = new Stop(config.name, config.timing.shutdownMs, config.checkpoints.intervalMs !== null);
  }

  get membership(): Membership {
    return this.#membership;
  }

  get stopping(): boolean {
    return this.#stop.stopping;
  }

  get peers(): ReadonlyMap<WorkerName, PeerStatus> {
    return this.#peers;
  }

  get clusterId(): string {
    return this.#clusterId;
  }

  get incarnation(): string {
    return this.#incarnation;
  }

  get startNumber(): number {
    return this.#startNumber;
  }

  /**
   * After the channels listen; who comes earlier is told to come again. On a restart this start's number is made durable
   * before anyone hears of it.
   */
  start(control: Address, data: Address): void {
    this.#bound = { control, data };
    const { store, config, log } = this.#options;
    const saved = store.saved;
    const begin = (): void => {
      this.#drive({ kind: "started", cluster: saved === null ? null : clusterOf(saved), self: this.#selfAddress() });
      if (config.initializerControl !== null) this.#control.dial(INITIALIZER, config.initializerControl);
      this.#tick();
    };
    if (saved === null) return begin();
    log.info("recovering", "Recovering from recovery files!");
    log.info("recover_worker_names", `recover_worker_names: ${saved.members.map((member) => member.name).join(",")}`);
    // A cluster that was suspended may go on as another build, with another plan.
    const { fingerprint } = this.#options;
    const state = this.#isSuspended ? "suspended" : saved.state;
    const { startNumber, incarnation } = { startNumber: this.#startNumber, incarnation: this.#incarnation };
    this.#save({ ...saved, state, fingerprint, startNumber, incarnation }, () => {
      this.#options.hooks.reached("start.number_saved");
      begin();
    });
  }

  identity(): LocalIdentity {
    const { config, fingerprint } = this.#options;
    const { control, data } = this.#selfAddress();
    return {
      clusterId: this.#clusterId,
      buildId: config.buildId,
      fingerprint,
      application: config.application.name,
      worker: config.name,
      generation: this.#membership.cluster?.generation ?? 0,
      incarnation: this.#incarnation,
      startNumber: this.#startNumber,
      checkpoints: config.checkpoints.intervalMs !== null,
      control,
      data,
      workerCount: config.workerCount,
    };
  }

  admit(hello: Hello, facts: AdmissionFacts): Admission {
    // The same process coming again holds nothing against itself, and a name is taken on the control channel alone.
    const isHeld = facts.channel === "control" && facts.connected && facts.standing !== "same";
    const holder = isHeld ? (this.#peers.get(hello.worker)?.observed ?? facts.from) : null;
    return this.#membership.admit(hello.worker, hello.clusterId !== UNKNOWN_ID, holder);
  }

  peerConnected(name: WorkerName, link: LinkKind, info: ConnectedInfo): void {
    this.#everWelcomed = true;
    const status = this.#peerStatus(name);
    status.incarnation = info.hello.incarnation;
    status.sinceMs = this.#options.runtime.clock.wallMs();
    status.left = false;
    status[link] = true;
    this.#options.hooks.reached(`link.${link}_connected`);
    if (link === "data_in") return;
    if (link === "control") {
      status.observed = info.observed;
      status.local = info.local;
      // What was meant for an earlier process of that name is no news to this one: the machines say again what matters.
      if (info.newIncarnation) this.#control.discardUnacked(name);
    }
    this.#options.log.info(
      "peer_connected",
      `${CHANNEL_NAMES[link]} connection to ${name} at ${showAddress(info.observed)}` +
        `${info.newIncarnation ? "" : ": reconnected"}`,
    );
    this.#drive({
      kind: "connected",
      channel: link === "control" ? "control" : "data",
      peer: this.#reachable(name, info.hello, info.observed),
      newIncarnation: info.newIncarnation,
    });
    // Whoever comes back during a stop is told of it.
    if (link === "control") this.#driveStop({ kind: "peer_connected", peer: name });
  }

  peerLost(name: WorkerName, link: LinkKind, why: string): void {
    const status = this.#peerStatus(name);
    if (!status[link]) return;
    status.lastLoss = why;
    status.sinceMs = this.#options.runtime.clock.wallMs();
    status[link] = false;
    if (link === "data_in") return;
    if (link === "control") this.#options.hooks.reached("link.control_lost");
    const { log } = this.#options;
    if (!this.stopping) log.warn("peer_lost", `${CHANNEL_NAMES[link]} connection to ${name} lost: ${why}`);
    this.#drive({ kind: "lost", channel: link === "control" ? "control" : "data", peer: name });
    if (link === "control") this.#options.owner.peerLost(name);
    if (link === "control") this.#driveStop({ kind: "peer_gone", peer: name, left: status.left });
  }

  /** Did it say goodbye? */
  hasLeft(name: WorkerName): boolean {
    return this.#peerStatus(name).left;
  }

  peerLeft(name: WorkerName, link: LinkKind, reason: string): void {
    const status = this.#peerStatus(name);
    status.left = true;
    if (link === "control" && !this.stopping) this.#options.log.warn("peer_left", `worker ${name} left: ${reason}`);
  }

  refused(peer: WorkerName | null, by: "them" | "us", code: string, sentence: string): void {
    const { log, owner, config, store } = this.#options;
    if (code === "duplicate") return;
    const whom = peer ?? "a stranger";
    // The channel has said it already, at a bounded rate.
    if (by === "us") return;
    // It is starting, and is asked again in a moment.
    if (code === "not_ready") return log.debug(code, `refused by ${whom}: ${sentence}`);
    log.warn(code, `refused by ${whom}: ${sentence}`);
    const ours = config.role === "worker" && (peer === INITIALIZER || peer === null);
    if (code === "cluster_differs" && ours && !this.#membership.formed && this.#clusterId !== UNKNOWN_ID) {
      this.#drive({ kind: "forming_abandoned" });
      return;
    }
    const doubts = code === "cluster_differs" && ours && this.#inDoubt && this.#membership.formed;
    // Where the initializer was, there is another cluster now: the saved one is gone. One elsewhere tells nothing about it.
    if (doubts && this.#initializerAt() === (store.saved?.initializerAt ?? this.#initializerAt()))
      return owner.giveWay();
    if (code === "checkpoints_differ" && !this.#everWelcomed) {
      // Among the others, one that is wrong itself may be the first to say it.
      if (ours) owner.fail(checkpointsDiffer(config.checkpoints.intervalMs !== null));
      return;
    }
    if (!FINAL_REFUSALS.has(code) || this.#everWelcomed) return;
    // An address of an old cluster may be somebody else's by now; only who lets us in decides about the cluster.
    if (code === "cluster_differs" && !ours) return;
    if (code === "cluster_differs" && store.saved !== null) {
      const theirs = /theirs ([0-9a-f]+)/.exec(sentence)?.[1] ?? "another one";
      owner.fail(otherClusterError(store.folder, store.saved, theirs, this.#initializerAt()));
      return;
    }
    // Some sentences say themselves what to do.
    const advice = /\bstart it\b/.test(sentence) ? "" : `; ${ADVICE[code] ?? START_THE_SAME}`;
    owner.fail(new IdentityError(code, `Cannot join the cluster: refused by ${whom}: ${sentence}${advice}`));
  }

  received(from: WorkerName, message: ControlMessage): void {
    switch (message.kind) {
      case "form":
      case "form_saved":
      case "formed":
      case "phase_reached":
      case "work":
      case "moved":
        return this.#drive({ kind: "received", from, message });
      case "stop_requested":
      case "stop":
      case "drained":
      case "settled":
      case "exit":
        return this.#driveStop({ kind: "received", from, message, peers: this.stopPeers() });
      case "query":
        return this.#options.owner.query(from, message);
      case "answer":
        return this.#options.owner.answer(from, message);
      case "rotate_log":
        this.#options.log.info("rotation_received", "Control Ch: Received Rotate Log Files request");
        return this.#options.owner.rotateLog();
      case "stream_request":
      case "stream_answer":
        return this.#options.owner.streams(from, message);
      case "letters":
      case "letters_taken":
        return this.#options.owner.letters(from, message);
      default:
        return this.#options.owner.checkpoint(from, message);
    }
  }

  sinksConnected(): void {
    this.#drive({ kind: "sinks_connected" });
  }

  /** The generation is this worker's from now on; `durable` is called when a restart would know it too. */
  enterGeneration(generation: Generation, durable: () => void): void {
    this.#drive({ kind: "generation", generation });
    this.#afterSaves(durable);
  }

  get generation(): Generation {
    return this.#membership.cluster?.generation ?? 0;
  }

  /** Whoever waits in phase III may work. Not during a stop: who came back then may have been ready to go before. */
  release(): void {
    if (!this.stopping) this.#drive({ kind: "released" });
  }

  /** @param keep The files stay with a last checkpoint. */
  requestStop(reason: string, keep = false): void {
    this.#options.hooks.reached("stop.requested");
    this.#driveStop({ kind: "requested", reason, keep, peers: this.stopPeers() });
  }

  drained(report: DrainReport): void {
    this.#options.hooks.reached("stop.drained");
    this.#driveStop({ kind: "drained", report });
  }

  /** All that a checkpoint decides is visible here. */
  settled(epoch: Epoch): void {
    if (this.stopping) this.#driveStop({ kind: "settled", epoch });
  }

  send(to: WorkerName, message: ControlMessage): void {
    if (this.#control.send(to, message)) return;
    this.#options.log.error(
      "control_queue_full",
      `A message to worker ${to} was dropped (${message.kind}): too many wait for it`,
    );
  }

  /** Members other than this one with a control connection now. */
  connectedPeers(): WorkerName[] {
    return [...this.#peers].filter(([, status]) => status.control).map(([name]) => name);
  }

  /** The last save is over, whichever way. */
  async settle(): Promise<void> {
    this.#closed = true;
    await this.#saving;
  }

  #drive(event: MembershipEvent): void {
    const { reached } = this.#options.hooks;
    for (const effect of this.#membership.handle(event)) {
      reached(`membership.${effect.kind}.before`);
      this.#perform(effect);
      reached(`membership.${effect.kind}.after`);
    }
  }

  #perform(effect: MembershipEffect): void {
    const { owner, log } = this.#options;
    switch (effect.kind) {
      case "send":
        return this.send(effect.to, this.#localized(effect.to, effect.message));
      case "save":
        this.#clusterId = effect.cluster.clusterId;
        return this.#save(this.#record(effect.state, effect.cluster), () => {
          this.#options.hooks.reached(`cluster.${effect.state}_durable`);
          this.#drive({ kind: "saved", state: effect.state });
        });
      case "dial":
        return this.#control.dial(effect.peer.name, effect.peer.control);
      case "connect_data":
        return this.#data.connectTo(effect.peer.name, effect.peer.data);
      case "install":
        this.#clusterId = effect.cluster.clusterId;
        return owner.install(effect.cluster);
      case "reached":
        if (effect.phase === 4 && !this.stopping) this.#isAtWork();
        return owner.reached(effect.phase);
      case "announce":
        return log.info("membership", effect.text);
      case "ready":
        return owner.ready(effect.workers);
      case "forget_cluster":
        this.#clusterId = UNKNOWN_ID;
        return;
      default:
        return unreachable(effect);
    }
  }

  #driveStop(event: StopEvent): void {
    const now = this.#options.runtime.clock.monotonicMs();
    const { reached } = this.#options.hooks;
    for (const effect of this.#stop.handle(event, now)) {
      reached(`stop.${effect.kind}.before`);
      this.#performStop(effect);
      reached(`stop.${effect.kind}.after`);
    }
  }

  #performStop(effect: StopEffect): void {
    const { owner, log } = this.#options;
    switch (effect.kind) {
      case "send":
        return this.send(effect.to, effect.message);
      case "begin_drain":
        log.info("stopping", `Shutting down the cluster: ${effect.reason}`);
        return owner.beginDrain(effect.withinMs);
      case "prepare":
        return this.#prepare();
      case "last_checkpoint":
        return owner.lastCheckpoint((epoch, reason) => this.#driveStop({ kind: "checkpointed", epoch, reason }));
      case "decide":
        return this.#decide();
      case "finish":
        if (effect.files === "keep") this.#leaveDoubt();
        if (effect.files === "suspend") this.#suspend();
        return owner.finish(effect.reports, effect.files);
      default:
        return unreachable(effect);
    }
  }

  #prepare(): void {
    this.#inDoubt = true;
    const prepared = (): void => {
      this.#options.hooks.reached("stop.prepared");
      this.#driveStop({ kind: "prepared" });
    };
    // What is on its way to the disk was not in doubt yet; what is not formed counts for nothing at the next start.
    this.#afterSaves(() => {
      const { formed, cluster } = this.#membership;
      if (!formed || cluster === null) return prepared();
      this.#save(this.#record("formed", cluster), prepared);
    });
  }

  #suspend(): void {
    const { cluster } = this.#membership;
    if (cluster === null) return;
    this.#inDoubt = false;
    this.#save({ ...this.#record("formed", cluster), state: "suspended" }, () => {});
  }

  /** Everybody has gone back to the checkpoint: the cluster exists, and belongs to this build. */
  #isAtWork(): void {
    const { cluster, formed } = this.#membership;
    if (!this.#isSuspended) return this.#leaveDoubt();
    this.#isSuspended = false;
    this.#inDoubt = false;
    if (formed) this.#save(this.#record("formed", cluster!), () => {});
  }

  /** The initializer is at work with this worker, or keeps its files: the cluster exists. */
  #leaveDoubt(): void {
    const { cluster, formed } = this.#membership;
    if (!this.#inDoubt) return;
    this.#inDoubt = false;
    if (formed) this.#save(this.#record("formed", cluster!), () => {});
  }

  #decide(): void {
    const { store, turn, owner, hooks } = this.#options;
    this.#saving = this.#saving.then(async () => {
      if (this.#closed || this.#saveFailed) return;
      try {
        const durable = await store.decideRemoval();
        turn(() => {
          hooks.reached("stop.decided");
          this.#driveStop({ kind: "decided", durable });
        });
      } catch (error) {
        this.#saveFailed = true;
        turn(() => owner.fail(asStorageError(error)));
      }
    });
  }

  #afterSaves(run: () => void): void {
    this.#saving = this.#saving.then(() => {
      if (!this.#closed && !this.#saveFailed) this.#options.turn(run);
    });
  }

  /** One save at a time, in order: the newest is the one that is wanted, and each tells when it is durable. */
  #save(record: SavedCluster, durable: () => void): void {
    const { store, turn, owner } = this.#options;
    this.#saving = this.#saving.then(async () => {
      if (this.#closed || this.#saveFailed) return;
      try {
        const isFormed = record.state !== "forming";
        if (isFormed && !this.#formedSaved) await owner.beforeFormed(record.clusterId);
        await store.save(record);
        this.#formedSaved ||= isFormed;
        turn(durable);
      } catch (error) {
        this.#saveFailed = true;
        turn(() => owner.fail(asStorageError(error)));
      }
    });
  }

  #initializerAt(): string {
    const { initializerControl } = this.#options.config;
    return initializerControl === null ? "" : wellFormed(showAddress(initializerControl));
  }

  #record(state: "forming" | "formed", cluster: ClusterInformation): SavedCluster {
    const { config, fingerprint, runtime } = this.#options;
    const { control, data } = this.#bound;
    return {
      state: state !== "formed" ? state : this.#inDoubt ? "stopping" : this.#isSuspended ? "suspended" : "formed",
      clusterId: cluster.clusterId,
      application: config.application.name,
      fingerprint,
      worker: config.name,
      role: config.role,
      generation: cluster.generation,
      routingVersion: cluster.routingVersion,
      keyGroupCount: cluster.keyGroupCount,
      members: cluster.members,
      control,
      data,
      initializerAt: this.#initializerAt(),
      incarnation: this.#incarnation,
      startNumber: this.#startNumber,
      workerCount: cluster.members.length,
      // For people. A clock that is set before 1970 is no reason not to save.
      savedAtMs: Math.max(0, runtime.clock.wallMs()),
    };
  }

  /** Twice a second: deadlines of a stop, and who waits says for whom. */
  #tick(): void {
    if (this.#closed) return;
    this.#options.runtime.clock.startTimer(250, () => {
      this.#options.turn(() => {
        if (this.#closed) return;
        this.#driveStop({ kind: "tick" });
        this.#options.owner.ticked();
        this.#tellWaiting();
      });
      this.#tick();
    });
  }

  #tellWaiting(): void {
    const { runtime, log, config } = this.#options;
    const waiting = this.stopping ? null : this.waitingFor();
    const now = runtime.clock.monotonicMs();
    if (waiting !== this.#lastWaiting) {
      this.#lastWaiting = waiting;
      this.#waitingSinceMs = now;
      this.#waitingToldMs = now;
      return;
    }
    if (waiting === null || now - this.#waitingToldMs < config.timing.waitingMs) return;
    this.#waitingToldMs = now;
    log.info("waiting", `${waiting} (${Math.round((now - this.#waitingSinceMs) / 1000)} s)`);
  }

  /** In words; null while this worker waits for no other one. */
  waitingFor(): string | null {
    const { initializerControl } = this.#options.config;
    const waiting = this.#membership.waitingFor();
    if (waiting === "waiting for the initializer" && initializerControl !== null) {
      return `waiting for the initializer at ${showAddress(initializerControl)}`;
    }
    return waiting ?? this.#options.owner.waitingFor();
  }

  /** Who is there, and who is not, for a stop. */
  stopPeers(): StopPeers {
    const connected = this.connectedPeers();
    const members = this.#membership.memberNames.filter((name) => name !== this.#options.config.name);
    return { connected, absent: members.filter((name) => !connected.includes(name)) };
  }

  #peerStatus(name: WorkerName): PeerStatus {
    let status = this.#peers.get(name);
    if (status === undefined) {
      status = {
        control: false,
        data_out: false,
        data_in: false,
        left: false,
        sinceMs: 0,
        lastLoss: "",
        incarnation: UNKNOWN_ID,
        observed: null,
        local: null,
      };
      this.#peers.set(name, status);
    }
    return status;
  }

  #selfAddress(): MemberAddress {
    const { config } = this.#options;
    const { control, data } = this.#bound;
    return {
      name: config.name,
      control: { host: advertisedHost(config.controlListen), port: control.port },
      data: { host: advertisedHost(config.dataListen), port: data.port },
    };
  }

  /** Where a peer can be reached from here: what it says, with the address we see it at in place of a wildcard. */
  #reachable(name: WorkerName, peer: Hello | Welcome, observed: Address): MemberAddress {
    const known = this.#membership.cluster?.members.find((member) => member.name === name);
    if (peer.kind === "welcome") {
      // We dialled it: the control address is the one that worked, the rest is as known.
      return {
        name,
        control: known === undefined ? observed : { ...known.control, host: known.control.host || observed.host },
        data:
          known === undefined
            ? { host: observed.host, port: 0 }
            : { ...known.data, host: known.data.host || observed.host },
      };
    }
    return {
      name,
      control: { host: peer.controlHost || observed.host, port: peer.controlPort },
      data: { host: peer.dataHost || observed.host, port: peer.dataPort },
    };
  }

  /**
   * Addresses as the receiver can use them: this worker's own wildcard becomes our end of the connection to it, and so does
   * a loopback address of another worker on this machine when the receiver is on a different one.
   */
  #localized(to: WorkerName, message: ControlMessage): ControlMessage {
    if (message.kind !== "form" && message.kind !== "moved") return message;
    const status = this.#peers.get(to);
    const ourEnd = status?.local?.host;
    if (ourEnd === undefined) return message;
    const far = !isLoopback(ourEnd);
    const fix = (address: Address): Address =>
      address.host === "" || (far && isLoopback(address.host)) ? { host: ourEnd, port: address.port } : address;
    const members = message.members.map((member) => ({
      name: member.name,
      control: fix(member.control),
      data: fix(member.data),
    }));
    return { ...message, members };
  }
}

function clusterOf(saved: SavedCluster): ClusterInformation {
  const { clusterId, generation, routingVersion, keyGroupCount, members } = saved;
  return { clusterId, generation, routingVersion, keyGroupCount, members };
}

/** @param ours Does this worker take checkpoints? The initializer is the one that decides. */
function checkpointsDiffer(ours: boolean): ConfigError {
  return new ConfigError(
    "checkpoints_differ",
    ours
      ? "The initializer was started with --checkpoint-interval off: start this worker with the same option"
      : "This worker was started with --checkpoint-interval off, and the initializer takes checkpoints: leave the option out here",
  );
}

function asStorageError(error: unknown): TammarError {
  if (error instanceof StorageError || error instanceof ResilienceError) return error;
  return new StorageError(
    "save_failed",
    `Cannot save the cluster information: ${String(error)}; see to that disk, then start again`,
    { cause: error },
  );
}

/** Empty for a wildcard: peers use the address they see. */
function advertisedHost(listen: Address): string {
  return listen.host === "0.0.0.0" || listen.host === "::" || listen.host === "" ? "" : listen.host;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.") || host.startsWith("::ffff:127.");
}
