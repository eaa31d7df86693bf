/**
 * Forms the cluster, brings it to work, and takes returning workers back in. One machine for both roles: every worker has
 * one; the initializer's also gathers and releases.
 *
 *   initializer   gathering ──enough workers──▶ saving ──all saved──▶ formed
 *   worker        asking ──form──▶ saving ──formed──▶ formed
 *   both          (restart with saved information) ──────────────▶ formed
 *
 *   formed:  phase I ──connected to all──▶ II ──sinks connected──▶ III ──initializer: work──▶ IV
 *
 * M1. Nobody is `formed` before everybody's copy of the cluster information is durable.
 * M2. `form` and `formed` may come again (an initializer that restarted repeats them); a second time changes nothing.
 * M3. A worker says its phase again to every new incarnation of the initializer, so that a restarted one learns that the
 *     cluster is at work.
 * M4. Once one worker works, whoever reaches phase III later is released at once.
 * M5. Addresses are only ever taken from the worker they belong to or from the initializer.
 *
 * It owns who is in the cluster and how far it has come. It does not own connections (`worker/channels/`), the end of the
 * cluster (`protocol/stop/`), or files.
 */
import { showAddress } from "../../base/address.ts";
import { assert, unreachable } from "../../base/assert.ts";
import { type Generation, INITIALIZER, type RoutingVersion, type WorkerName } from "../../base/ids.ts";
import type { Address } from "../../runtime/runtime.ts";
import type { ControlMessage, MemberAddress, Phase } from "../../wire/control.ts";

export interface ClusterInformation {
  /** 32 hex digits. */
  readonly clusterId: string;
  readonly generation: Generation;
  readonly routingVersion: RoutingVersion;
  readonly keyGroupCount: number;
  /** Initializer first, the others sorted by name. */
  readonly members: readonly MemberAddress[];
}

export type MembershipEvent =
  /** `cluster`: what was saved as formed, or null for a first start. `self`: where this worker really listens. */
  | { readonly kind: "started"; readonly cluster: ClusterInformation | null; readonly self: MemberAddress }
  /** A control or outgoing data connection to `peer.name` is up. `peer`: where it says it can be reached, seen from here. */
  | {
      readonly kind: "connected";
      readonly channel: "control" | "data";
      readonly peer: MemberAddress;
      readonly newIncarnation: boolean;
    }
  | { readonly kind: "lost"; readonly channel: "control" | "data"; readonly peer: WorkerName }
  | { readonly kind: "received"; readonly from: WorkerName; readonly message: ControlMessage }
  /** The `save` effect is durable. */
  | { readonly kind: "saved"; readonly state: "forming" | "formed" }
  /** The initializer's: whoever waits in phase III may work. */
  | { readonly kind: "released" }
  /** The generation of the cluster is this one now. */
  | { readonly kind: "generation"; readonly generation: Generation }
  /** Every sink of this worker has connected once. */
  | { readonly kind: "sinks_connected" }
  /** The initializer we saved `forming` with is gone; there is another cluster now. Ask it again, as a newcomer. */
  | { readonly kind: "forming_abandoned" };

export type MembershipEffect =
  | { readonly kind: "send"; readonly to: WorkerName; readonly message: ControlMessage }
  | { readonly kind: "save"; readonly state: "forming" | "formed"; readonly cluster: ClusterInformation }
  /** Keep a control link to this worker, here. */
  | { readonly kind: "dial"; readonly peer: MemberAddress }
  /** Keep an outgoing data link to this worker, here. */
  | { readonly kind: "connect_data"; readonly peer: MemberAddress }
  /** The cluster is known for good: build the dataflow. Once in a worker's life. */
  | { readonly kind: "install"; readonly cluster: ClusterInformation }
  | { readonly kind: "reached"; readonly phase: Phase }
  /** For the log: a marker of the original, or a line of ours. */
  | { readonly kind: "announce"; readonly text: string }
  /** This worker was started with other settings than the initializer, and can't be part of the cluster. */
  /** These have reached phase III and wait: once they may work, `released` is to be said. */
  | { readonly kind: "ready"; readonly workers: readonly WorkerName[] }
  /** Lets a worker of an abandoned cluster forget its id. */
  | { readonly kind: "forget_cluster" };

export type Admission =
  | { readonly kind: "welcome" }
  | { readonly kind: "refuse"; readonly code: string; readonly sentence: string };

export interface MembershipConfig {
  readonly role: "initializer" | "worker";
  readonly name: WorkerName;
  readonly workerCount: number;
  readonly keyGroupCount: number;
  /** Of the cluster the initializer forms, if it has to form one. */
  readonly newClusterId: string;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "gathering"; readonly met: Map<WorkerName, MemberAddress> }
  | { readonly kind: "asking" }
  | {
      readonly kind: "saving";
      cluster: ClusterInformation;
      /** The initializer's: whose copy is not durable yet, its own included. */
      readonly waiting: Set<WorkerName>;
      /** The initializer's: its own `formed` is on its way to the disk, and may be there. */
      deciding: boolean;
      /** A worker was elsewhere when it was too late to have that saved before. */
      moved: boolean;
    }
  | { readonly kind: "formed"; cluster: ClusterInformation; phase: Phase; sinksConnected: boolean };

interface PeerState {
  control: boolean;
  data: boolean;
}

export class Membership {
  readonly #config: MembershipConfig;
  #state: State = { kind: "idle" };
  #self: MemberAddress | null = null;
  readonly #peers = new Map<WorkerName, PeerState>();
  /** The initializer's: how far each worker says it has come. */
  readonly #phases = new Map<WorkerName, Phase>();
  /**
   * The initializer's: who has said since this start that it is formed. Another one may have died before its copy was
   * `formed`; it comes back as if it knew nothing, and is let in.
   */
  readonly #confirmed = new Set<WorkerName>();
  /** The initializer's: some worker has been released. */
  #working = false;

  constructor(config: MembershipConfig) {
    this.#config = config;
  }

  handle(event: MembershipEvent): MembershipEffect[] {
    switch (event.kind) {
      case "started":
        return this.#started(event.cluster, event.self);
      case "connected":
        return this.#connected(event.channel, event.peer, event.newIncarnation);
      case "lost":
        return this.#lost(event.channel, event.peer);
      case "received":
        return this.#received(event.from, event.message);
      case "saved":
        return this.#saved(event.state);
      case "sinks_connected":
        if (this.#state.kind !== "formed") return [];
        this.#state.sinksConnected = true;
        return this.#advance();
      case "released":
        return this.#release();
      case "generation":
        return this.#enterGeneration(event.generation);
      case "forming_abandoned":
        assert(this.#config.role === "worker");
        if (this.#state.kind !== "saving") return [];
        this.#state = { kind: "asking" };
        return [{ kind: "forget_cluster" }];
      default:
        return unreachable(event);
    }
  }

  /** May this worker have a connection? Identity was compared before; here it is about names and membership. */
  admit(name: WorkerName, knowsCluster: boolean, holder: Address | null): Admission {
    const state = this.#state;
    if (name === this.#config.name) {
      return refuse(
        "name_taken",
        `worker name "${name}" is taken: it is the name of the worker that was asked to let it in`,
      );
    }
    switch (state.kind) {
      case "idle":
        return refuse("not_ready", `worker "${this.#config.name}" is not ready for connections yet`);
      case "gathering":
        if (holder !== null) return nameTaken(name, holder);
        if (!state.met.has(name) && state.met.size + 1 >= this.#config.workerCount)
          return this.#full(name, [...state.met.keys()]);
        return WELCOME;
      case "asking":
        return refuse(
          "not_formed",
          `worker "${this.#config.name}" is not part of a cluster yet; only the initializer takes newcomers`,
        );
      case "saving":
      case "formed": {
        const members = state.cluster.members.map((member) => member.name);
        if (!members.includes(name)) return this.#full(name, members);
        if (knowsCluster) return WELCOME;
        if (holder !== null) return nameTaken(name, holder);
        if (state.kind === "saving") return WELCOME;
        if (this.#config.role === "initializer" && !this.#confirmed.has(name)) return WELCOME;
        return refuse(
          "name_taken",
          `worker name "${name}" is taken: it belongs to a worker of this cluster that is away at the moment, and the newcomer ` +
            `has none of its saved cluster information; start it with the --resilience-dir of that worker, or under another name in another cluster; if those files are lost for ` +
            `good, start the initializer again with --accept-state-loss, then this worker`,
        );
      }
      default:
        return unreachable(state);
    }
  }

  /** Null until the cluster is known. */
  get cluster(): ClusterInformation | null {
    return this.#state.kind === "saving" || this.#state.kind === "formed" ? this.#state.cluster : null;
  }

  get formed(): boolean {
    return this.#state.kind === "formed";
  }

  /** Zero before the cluster is formed. */
  get phase(): Phase | 0 {
    return this.#state.kind === "formed" ? this.#state.phase : 0;
  }

  /** Initializer first, others sorted; while gathering, those that are there. */
  get memberNames(): WorkerName[] {
    if (this.#state.kind === "gathering") return [this.#config.name, ...[...this.#state.met.keys()].sort()];
    return this.cluster?.members.map((member) => member.name) ?? [];
  }

  connectedTo(peer: WorkerName, channel: "control" | "data"): boolean {
    return this.#peers.get(peer)?.[channel] ?? false;
  }

  /** What this worker waits for, in words; null when it waits for nobody. Sinks are the worker's own to tell. */
  waitingFor(): string | null {
    const state = this.#state;
    switch (state.kind) {
      case "idle":
        return null;
      case "gathering": {
        const have = this.memberNames;
        const missing = this.#config.workerCount - have.length;
        return missing > 0
          ? `waiting for ${missing} of ${this.#config.workerCount} workers; have: ${have.join(", ")}`
          : null;
      }
      case "asking":
        return this.connectedTo(INITIALIZER, "control")
          ? "waiting for the initializer to form the cluster; it waits for other workers"
          : "waiting for the initializer";
      case "saving":
        return this.#config.role === "initializer"
          ? `waiting for the cluster information to be saved by: ${[...state.waiting].sort().join(", ")}`
          : "waiting for all workers to save the cluster information";
      case "formed": {
        if (state.phase === 1) {
          const missing = this.#others(state.cluster).filter((peer) => !this.#isLinked(peer.name));
          return missing.length > 0
            ? `waiting for connections to: ${missing.map((peer) => peer.name).join(", ")}`
            : null;
        }
        if (state.phase === 3) {
          if (this.#config.role === "worker") return "waiting for the initializer's word to start";
          const late = this.#others(state.cluster).filter((peer) => (this.#phases.get(peer.name) ?? 0) < 3);
          return `waiting to be ready: ${late.map((peer) => peer.name).join(", ")}`;
        }
        return null;
      }
      default:
        return unreachable(state);
    }
  }

  #started(cluster: ClusterInformation | null, self: MemberAddress): MembershipEffect[] {
    assert(this.#state.kind === "idle");
    this.#self = self;
    if (cluster !== null) return this.#enterFormed(cluster, "restart");
    if (this.#config.role === "worker") {
      this.#state = { kind: "asking" };
      return [];
    }
    this.#state = { kind: "gathering", met: new Map() };
    return this.#formIfComplete();
  }

  #connected(channel: "control" | "data", peer: MemberAddress, newIncarnation: boolean): MembershipEffect[] {
    const known = this.#peers.get(peer.name) ?? { control: false, data: false };
    known[channel] = true;
    this.#peers.set(peer.name, known);
    const state = this.#state;
    if (channel === "control" && state.kind === "gathering") {
      state.met.set(peer.name, peer);
      return [{ kind: "announce", text: `Worker ${peer.name} control channel identified` }, ...this.#formIfComplete()];
    }
    if (channel === "control" && state.kind === "saving" && this.#config.role === "initializer") {
      const known = state.cluster.members.find((member) => member.name === peer.name);
      if (known !== undefined && !sameAddress(known, peer)) return this.#formAgain(state, peer);
      // It may have lost what it was told: tell it again (M2).
      state.waiting.add(peer.name);
      return [this.#form(peer.name, state.cluster)];
    }
    if (state.kind !== "formed") return [];
    const effects: MembershipEffect[] = [];
    if (channel === "control") {
      effects.push(...this.#learnAddress(peer));
      if (this.#config.role === "initializer" && newIncarnation) {
        this.#phases.delete(peer.name);
        effects.push(this.#form(peer.name, state.cluster));
        effects.push({ kind: "send", to: peer.name, message: { kind: "formed" } });
      }
      if (peer.name === INITIALIZER && newIncarnation) {
        effects.push({ kind: "send", to: INITIALIZER, message: { kind: "phase_reached", phase: state.phase } });
      }
    }
    effects.push(...this.#advance());
    return effects;
  }

  #lost(channel: "control" | "data", peer: WorkerName): MembershipEffect[] {
    const known = this.#peers.get(peer);
    if (known !== undefined) known[channel] = false;
    if (channel === "control" && this.#state.kind === "gathering" && this.#state.met.delete(peer)) {
      return [{ kind: "announce", text: `worker ${peer} left before the cluster was formed` }];
    }
    return [];
  }

  #received(from: WorkerName, message: ControlMessage): MembershipEffect[] {
    switch (message.kind) {
      case "form": {
        const { kind: _, ...cluster } = message;
        if (this.#config.role === "initializer" || from !== INITIALIZER) return [straggler(from, message.kind)];
        if (this.#state.kind === "formed") return this.#learnAll(cluster.members);
        if (!cluster.members.some((member) => member.name === this.#config.name))
          return [straggler(from, message.kind)];
        this.#state = { kind: "saving", cluster, waiting: new Set(), deciding: false, moved: false };
        return [{ kind: "save", state: "forming", cluster }];
      }
      case "form_saved":
        if (this.#config.role !== "initializer" || this.#state.kind !== "saving") return [];
        this.#state.waiting.delete(from);
        return this.#saveIfAllHave();
      case "formed":
        if (this.#state.kind !== "saving" || from !== INITIALIZER) return [];
        return [{ kind: "save", state: "formed", cluster: this.#state.cluster }];
      case "phase_reached":
        if (this.#config.role !== "initializer") return [straggler(from, message.kind)];
        return this.#phaseReached(from, message.phase);
      case "work":
        if (from !== INITIALIZER || this.#state.kind !== "formed" || this.#state.phase !== 3) return [];
        return this.#enterPhase(this.#state, 4);
      case "moved":
        if (from !== INITIALIZER) return [straggler(from, message.kind)];
        if (this.#state.kind === "saving") {
          // The others are formed already, and nobody will say it again: it is saved behind `formed`.
          this.#state.cluster = { ...this.#state.cluster, members: message.members };
          this.#state.moved = true;
          return [];
        }
        return this.#learnAll(message.members);
      default:
        return [];
    }
  }

  #saved(saved: "forming" | "formed"): MembershipEffect[] {
    const state = this.#state;
    if (state.kind !== "saving") return [];
    if (saved === "formed") {
      const effects = this.#enterFormed(state.cluster, "first");
      if (!state.moved) return effects;
      const { members } = state.cluster;
      effects.push({ kind: "save", state: "formed", cluster: state.cluster });
      if (this.#config.role === "worker") return effects;
      for (const other of this.#others(state.cluster)) {
        effects.push({ kind: "send", to: other.name, message: { kind: "moved", members } });
      }
      return effects;
    }
    if (this.#config.role === "worker") return [{ kind: "send", to: INITIALIZER, message: { kind: "form_saved" } }];
    state.waiting.delete(this.#config.name);
    return this.#saveIfAllHave();
  }

  #formIfComplete(): MembershipEffect[] {
    assert(this.#state.kind === "gathering" && this.#self !== null);
    const { met } = this.#state;
    if (met.size + 1 < this.#config.workerCount) return [];
    const others = [...met.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    const cluster: ClusterInformation = {
      clusterId: this.#config.newClusterId,
      generation: 1,
      routingVersion: 1,
      keyGroupCount: this.#config.keyGroupCount,
      members: [this.#self, ...others],
    };
    this.#state = {
      kind: "saving",
      cluster,
      waiting: new Set(cluster.members.map((member) => member.name)),
      deciding: false,
      moved: false,
    };
    const effects: MembershipEffect[] = [{ kind: "announce", text: "All worker control channels identified" }];
    effects.push({ kind: "save", state: "forming", cluster });
    for (const peer of others) effects.push(this.#form(peer.name, cluster));
    return effects;
  }

  #saveIfAllHave(): MembershipEffect[] {
    assert(this.#state.kind === "saving");
    if (this.#state.waiting.size > 0) return [];
    this.#state.deciding = true;
    return [{ kind: "save", state: "formed", cluster: this.#state.cluster }];
  }

  #enterFormed(cluster: ClusterInformation, how: "first" | "restart"): MembershipEffect[] {
    assert(this.#self !== null);
    const self = this.#self;
    // The command line wins over what was saved: a worker may come back on other ports.
    const members = cluster.members.map((member) => (member.name === self.name ? self : member));
    const state: State = { kind: "formed", cluster: { ...cluster, members }, phase: 1, sinksConnected: false };
    this.#state = state;
    const effects: MembershipEffect[] = [
      { kind: "install", cluster: state.cluster },
      { kind: "reached", phase: 1 },
    ];
    for (const peer of this.#others(state.cluster)) {
      if (this.#config.role === "initializer" && how === "first") {
        effects.push({ kind: "send", to: peer.name, message: { kind: "formed" } });
      }
      effects.push({ kind: "dial", peer }, { kind: "connect_data", peer });
    }
    if (this.#config.role === "worker" && this.connectedTo(INITIALIZER, "control")) {
      effects.push({ kind: "send", to: INITIALIZER, message: { kind: "phase_reached", phase: 1 } });
    }
    effects.push(...this.#advance());
    return effects;
  }

  /** Goes through as many phases as facts allow. */
  #advance(): MembershipEffect[] {
    const state = this.#state;
    if (state.kind !== "formed") return [];
    const effects: MembershipEffect[] = [];
    if (state.phase === 1 && this.#others(state.cluster).every((peer) => this.#isLinked(peer.name))) {
      effects.push(...this.#enterPhase(state, 2));
    }
    if (state.phase === 2 && state.sinksConnected) effects.push(...this.#enterPhase(state, 3));
    return effects;
  }

  #enterPhase(state: State & { kind: "formed" }, phase: Phase): MembershipEffect[] {
    state.phase = phase;
    const effects: MembershipEffect[] = [{ kind: "reached", phase }];
    if (this.#config.role === "initializer") effects.push(...this.#phaseReached(this.#config.name, phase));
    else effects.push({ kind: "send", to: INITIALIZER, message: { kind: "phase_reached", phase } });
    return effects;
  }

  /** The initializer's: notes how far a worker has come and releases who may work. */
  #phaseReached(worker: WorkerName, phase: Phase): MembershipEffect[] {
    const state = this.#state;
    if (state.kind !== "formed") return [];
    this.#phases.set(worker, phase);
    this.#confirmed.add(worker);
    const effects: MembershipEffect[] = [];
    if (phase === 3 && worker !== this.#config.name)
      effects.push({ kind: "announce", text: `${worker} reported topology ready!` });
    if (phase === 4) this.#working = true;
    const all = state.cluster.members.every((member) => (this.#phases.get(member.name) ?? 0) >= 3);
    if (!this.#working && !all) return effects;
    if (!this.#working) {
      this.#working = true;
      effects.push({ kind: "announce", text: `All ${state.cluster.members.length} workers reporting Topology ready!` });
      effects.push({ kind: "announce", text: "Application has successfully initialized." });
    }
    const workers = [...this.#phases].filter(([, reached]) => reached === 3).map(([name]) => name);
    if (workers.length > 0) effects.push({ kind: "ready", workers });
    return effects;
  }

  #release(): MembershipEffect[] {
    const state = this.#state;
    if (state.kind !== "formed" || !this.#working) return [];
    const effects: MembershipEffect[] = [];
    for (const [name, reached] of this.#phases) {
      if (reached !== 3) continue;
      this.#phases.set(name, 4);
      if (name === this.#config.name) {
        state.phase = 4;
        effects.push({ kind: "reached", phase: 4 });
      } else effects.push({ kind: "send", to: name, message: { kind: "work" } });
    }
    return effects;
  }

  #enterGeneration(generation: Generation): MembershipEffect[] {
    const state = this.#state;
    if (state.kind !== "formed" || state.cluster.generation >= generation) return [];
    state.cluster = { ...state.cluster, generation };
    return [{ kind: "save", state: "formed", cluster: state.cluster }];
  }

  /** A worker died while the cluster formed, and is back elsewhere: everybody has to save where it is now. */
  #formAgain(state: State & { kind: "saving" }, peer: MemberAddress): MembershipEffect[] {
    const members = state.cluster.members.map((member) => (member.name === peer.name ? peer : member));
    state.cluster = { ...state.cluster, members };
    if (state.deciding) {
      // M1 holds with the old address as well; nothing may be saved behind `formed` that says less.
      state.moved = true;
      return [this.#form(peer.name, state.cluster)];
    }
    for (const member of members) state.waiting.add(member.name);
    return [
      { kind: "save", state: "forming", cluster: state.cluster },
      ...this.#others(state.cluster).map((other) => this.#form(other.name, state.cluster)),
    ];
  }

  #form(to: WorkerName, cluster: ClusterInformation): MembershipEffect {
    return { kind: "send", to, message: { kind: "form", ...cluster } };
  }

  #learnAddress(peer: MemberAddress): MembershipEffect[] {
    assert(this.#state.kind === "formed");
    const { cluster } = this.#state;
    const known = cluster.members.find((member) => member.name === peer.name);
    if (known === undefined || sameAddress(known, peer)) return [];
    const effects = this.#learnAll([peer]);
    if (this.#config.role === "initializer") {
      const members = this.#state.cluster.members;
      for (const other of this.#others(cluster)) {
        if (other.name !== peer.name)
          effects.push({ kind: "send", to: other.name, message: { kind: "moved", members } });
      }
    }
    return effects;
  }

  #learnAll(news: readonly MemberAddress[]): MembershipEffect[] {
    if (this.#state.kind !== "formed") return [];
    const effects: MembershipEffect[] = [];
    const members = this.#state.cluster.members.map((member) => {
      const told = news.find((candidate) => candidate.name === member.name);
      if (told === undefined || told.name === this.#config.name || sameAddress(told, member)) return member;
      effects.push({ kind: "dial", peer: told }, { kind: "connect_data", peer: told });
      effects.push({
        kind: "announce",
        text: `worker ${told.name} is now at ${showAddress(told.control)}`,
      });
      return told;
    });
    if (effects.length === 0) return [];
    this.#state.cluster = { ...this.#state.cluster, members };
    effects.push({ kind: "save", state: "formed", cluster: this.#state.cluster });
    return effects;
  }

  #others(cluster: ClusterInformation): MemberAddress[] {
    return cluster.members.filter((member) => member.name !== this.#config.name);
  }

  #isLinked(peer: WorkerName): boolean {
    const known = this.#peers.get(peer);
    return known?.control === true && known.data;
  }

  #full(name: WorkerName, members: readonly WorkerName[]): Admission {
    const names = members.includes(INITIALIZER) ? members : [this.#config.name, ...members];
    return refuse(
      "cluster_full",
      `the cluster has all of its ${names.length} workers (${[...names].join(", ")}); "${name}" is one too many`,
    );
  }
}

const WELCOME: Admission = { kind: "welcome" };

function refuse(code: string, sentence: string): Admission {
  return { kind: "refuse", code, sentence };
}

function nameTaken(name: WorkerName, holder: Address): Admission {
  return refuse("name_taken", `worker name "${name}" is taken: in use by the worker at ${showAddress(holder)}`);
}

function straggler(from: WorkerName, what: string): MembershipEffect {
  return { kind: "announce", text: `UNEXPECTED CALL to ${what} from ${from}. Ignoring!` };
}

function sameAddress(a: MemberAddress, b: MemberAddress): boolean {
  return (
    a.control.host === b.control.host &&
    a.control.port === b.control.port &&
    a.data.host === b.data.host &&
    a.data.port === b.data.port
  );
}
