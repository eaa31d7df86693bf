/** Applies the faults of a scenario to a simulated cluster, each at its trigger, and mends them again. */
import { unreachable } from "../base/assert.ts";
import type { WorkerName } from "../base/ids.ts";
import type { DiskErrorCode, Millis, NetErrorCode } from "../runtime/runtime.ts";
import type { DiskOperation } from "../runtime/virtual/disk.ts";
import type { ConnectionView, NetCall } from "../runtime/virtual/network.ts";
import { STATE_FOLDER } from "../store/folders.ts";
import { isRotated } from "../store/state_log/state_folder.ts";
import type { CrashPoint } from "../worker/crash_points.ts";
import { PORTS, type SimulatedCluster } from "./cluster.ts";
import type { FaultRecord } from "./observation.ts";
import type { ChannelName, Fault } from "./scenario.ts";

/** A disk operation that is to fail. */
interface ArmedFailure {
  readonly operation: DiskOperation | null;
  readonly code: DiskErrorCode;
  /** What the path must have in it; empty: any. */
  readonly path: string;
  left: number;
}

interface Rotten {
  readonly path: string;
  readonly original: Uint8Array;
  readonly rotten: Uint8Array;
}

/** State that is away, and may be put back. */
interface Lost {
  readonly atMs: Millis;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export interface FaultHooks {
  readonly applied: (fault: FaultRecord) => void;
  readonly called: (worker: WorkerName, call: "disk" | "net") => void;
}

export class FaultPlan {
  readonly #cluster: SimulatedCluster;
  readonly #hooks: FaultHooks;
  readonly #faults: readonly Fault[];
  readonly #fired: boolean[];
  readonly #pointCounts = new Map<string, number>();
  /** Faults that wait for a point or for lines, so that most steps cost nothing. */
  #pointsWaiting: number;
  #receivedNext = Number.POSITIVE_INFINITY;
  readonly #refusing = new Map<WorkerName, "refuse" | "drop">();
  readonly #failures = new Map<WorkerName, ArmedFailure[]>();
  /** How many calls to the network until one fails. */
  readonly #calls = new Map<WorkerName, number>();
  readonly #rotten = new Map<WorkerName, Rotten[]>();
  /** Contents of the files that are gone, by path. */
  readonly #lost = new Map<WorkerName, Lost>();
  /** Until when what was done lasts. */
  #lastsUntilMs: Millis = 0;
  #mended = false;

  constructor(cluster: SimulatedCluster, hooks: FaultHooks) {
    this.#cluster = cluster;
    this.#hooks = hooks;
    this.#faults = cluster.scenario.faults;
    this.#fired = this.#faults.map(() => false);
    this.#pointsWaiting = this.#faults.filter((fault) => "point" in fault.at).length;
  }

  /** Arms all triggers. */
  begin(): void {
    const { world, machines, observation } = this.#cluster;
    const { network } = world;
    network.callFault = (machine, call) => this.#callFault(machine, call);
    network.connectFault = (client, server) => {
      // Strangers and tools do what they like.
      if (machines.has(client)) observation.tried(client, server, world.now());
      return this.#refusing.get(server) ?? null;
    };
    for (const [name, machine] of machines) {
      machine.disk.fault = (operation, path) => this.#diskFault(name, operation, path);
    }
    for (const [index, fault] of this.#faults.entries()) {
      if ("after" in fault.at) {
        if (index === 0) this.#at(fault.at.ms, index);
      } else if ("ms" in fault.at) this.#at(fault.at.ms, index);
    }
    this.#judgeReceived();
  }

  /** All were applied, and what they did for a time is over. */
  get over(): boolean {
    return this.#fired.every((fired) => fired) && this.#cluster.world.now() >= this.#lastsUntilMs;
  }

  get waiting(): readonly Fault[] {
    return this.#faults.filter((_, index) => !this.#fired[index]);
  }

  pointReached(point: CrashPoint, worker: WorkerName): void {
    if (this.#pointsWaiting === 0) return;
    const name = `${worker} ${point}`;
    const count = (this.#pointCounts.get(name) ?? 0) + 1;
    this.#pointCounts.set(name, count);
    for (const [index, fault] of this.#faults.entries()) {
      const { at } = fault;
      if (!("point" in at) || this.#fired[index]) continue;
      if (at.point === point && at.worker === worker && at.n === count) this.#fire(index);
    }
  }

  received(count: number): void {
    if (count < this.#receivedNext) return;
    for (const [index, fault] of this.#faults.entries()) {
      if (!this.#fired[index] && "received" in fault.at && fault.at.received <= count) this.#fire(index);
    }
    this.#judgeReceived();
  }

  /** Everything is undone; nothing more is done. */
  mend(): void {
    const { world, machines } = this.#cluster;
    this.#mended = true;
    world.network.heal();
    world.network.resetLatencies();
    this.#refusing.clear();
    this.#failures.clear();
    this.#calls.clear();
    this.#cluster.endNewcomers();
    this.#cluster.endBadStarts();
    this.#cluster.letters.end();
    this.#cluster.letters.corrected = true;
    for (const [name, machine] of machines) {
      machine.disk.spaceBytes = Number.POSITIVE_INFINITY;
      machine.powerOn();
      this.restore(name);
    }
    this.#cluster.openSink();
    this.#cluster.pauseSink(false);
  }

  #judgeReceived(): void {
    this.#receivedNext = Number.POSITIVE_INFINITY;
    for (const [index, { at }] of this.#faults.entries()) {
      if (!this.#fired[index] && "received" in at) this.#receivedNext = Math.min(this.#receivedNext, at.received);
    }
  }

  #at(timeMs: Millis, index: number): void {
    this.#cluster.world.at(timeMs, () => this.#fire(index));
  }

  #fire(index: number): void {
    if (this.#fired[index] || this.#mended) return;
    this.#fired[index] = true;
    const fault = this.#faults[index]!;
    if ("point" in fault.at) this.#pointsWaiting--;
    const timeMs = this.#cluster.world.now();
    const effect = this.#apply(fault);
    const untilMs = "ms" in fault ? timeMs + fault.ms : timeMs;
    const record: FaultRecord = { timeMs, untilMs, index, kind: fault.do, effect };
    this.#cluster.observation.faults.push(record);
    this.#hooks.applied(record);
    this.#lastsUntilMs = Math.max(this.#lastsUntilMs, untilMs);
    const next = this.#faults[index + 1];
    if (next !== undefined && "after" in next.at) this.#at(timeMs + next.at.ms, index + 1);
  }

  /** Undoes after `ms`, unless everything was mended meanwhile. */
  #later(ms: Millis, undo: () => void): void {
    const { world } = this.#cluster;
    world.at(world.now() + ms, () => {
      if (!this.#mended) undo();
    });
  }

  /** @returns What was hit, in words; empty: it had no effect. */
  #apply(fault: Fault): string {
    const cluster = this.#cluster;
    const { world, machines, names } = cluster;
    const { network } = world;
    switch (fault.do) {
      case "kill":
        return cluster.end(fault.worker, "kill") ? fault.worker : "";
      case "kill_all":
        return names.filter((name) => cluster.end(name, "kill")).join(" ");
      case "start":
        return cluster.start(fault.worker) ? fault.worker : "";
      case "start_all":
        return names.filter((name) => cluster.start(name)).join(" ");
      case "power_loss":
        return this.#powerLoss(fault.worker) ? fault.worker : "";
      case "power_loss_all":
        return names.filter((name) => this.#powerLoss(name)).join(" ");
      case "pause": {
        const process = cluster.processOf(fault.worker);
        process?.pause(fault.ms);
        return process === null ? "" : fault.worker;
      }
      case "partition":
        network.partition(fault.a, fault.b, { way: fault.way });
        this.#later(fault.ms, () => network.heal(fault.a, fault.b));
        return `${fault.a} ${fault.b}`;
      case "isolate": {
        const others = names.filter((name) => name !== fault.worker);
        for (const other of others) network.partition(fault.worker, other);
        this.#later(fault.ms, () => {
          for (const other of others) network.heal(fault.worker, other);
        });
        return others.length > 0 ? fault.worker : "";
      }
      case "heal":
        network.heal();
        return "all";
      case "cut":
        return counted(network.cut(this.#choose(fault.worker, fault.peer, fault.channel)));
      case "blackhole": {
        const chosen = new Set<number>();
        const choose = this.#choose(fault.worker, fault.peer, fault.channel);
        const count = network.blackhole(
          (connection) => {
            if (!choose(connection)) return false;
            chosen.add(connection.id);
            return true;
          },
          { way: fault.way },
        );
        this.#later(fault.ms, () => network.openAgain((connection) => chosen.has(connection.id)));
        return counted(count);
      }
      case "latency":
        network.setLatency(fault.a, fault.b, { minMs: fault.minMs, maxMs: Math.max(fault.minMs, fault.maxMs) });
        this.#later(fault.ms, () => network.resetLatency(fault.a, fault.b));
        return `${fault.a} ${fault.b}`;
      case "refuse_connects":
        this.#refusing.set(fault.worker, fault.how);
        this.#later(fault.ms, () => this.#refusing.delete(fault.worker));
        return fault.worker;
      case "disk_stall":
        machines.get(fault.worker)!.disk.stall(fault.ms);
        return fault.worker;
      case "disk_full": {
        const { disk } = machines.get(fault.worker)!;
        disk.spaceBytes = disk.usedBytes() + fault.bytes;
        this.#later(fault.ms, () => {
          disk.spaceBytes = Number.POSITIVE_INFINITY;
        });
        return fault.worker;
      }
      case "fail_sync":
        return this.#arm(fault.worker, { operation: "sync", code: "io", path: fault.path ?? "", left: fault.n });
      case "fail_operation":
        return this.#arm(fault.worker, {
          operation: fault.operation ?? null,
          code: fault.code,
          path: "",
          left: fault.n,
        });
      case "rot":
        return this.#rot(fault.worker, fault.file, fault.bit);
      case "lose_state":
        return this.#loseState(fault.worker);
      case "restore":
        return this.restore(fault.worker);
      case "fail_call":
        this.#calls.set(fault.worker, fault.n);
        return fault.worker;
      case "bad_start": {
        const end = cluster.badStart(fault.worker, fault.how);
        if (end !== null) this.#later(fault.ms, end);
        return end === null ? "" : fault.worker;
      }
      case "newcomer":
        return cluster.newcomer(fault.name) ? fault.name : "";
      case "clock_jump":
        machines.get(fault.worker)!.wallOffsetMs += fault.byMs;
        return fault.worker;
      case "sink_pause":
        cluster.pauseSink(true);
        this.#later(fault.ms, () => cluster.pauseSink(false));
        return "sink";
      case "sink_close": {
        const closed = cluster.closeSink();
        this.#later(fault.ms, () => cluster.openSink());
        return closed ? "sink" : "";
      }
      case "stranger":
        return cluster.stranger(fault.worker, fault.port, fault.what) ? fault.worker : "";
      case "command":
        cluster.command(fault.worker, fault.what, fault.times);
        return fault.worker;
      case "resend": {
        const end = cluster.letters.send(fault.worker, fault.through);
        if (end !== null) this.#later(fault.ms, end);
        return end === null ? "" : `${fault.worker} through ${fault.through}`;
      }
      case "correct":
        cluster.letters.corrected = true;
        return "all";
      case "signal":
        return cluster.signal(fault.worker, fault.signal) ? fault.worker : "";
      default:
        return unreachable(fault);
    }
  }

  /** Without a process too: what it had left unsynced may go. */
  #powerLoss(worker: WorkerName): boolean {
    if (this.#cluster.end(worker, "power_loss")) return true;
    const machine = this.#cluster.machines.get(worker)!;
    if (!machine.powered) return false;
    machine.powerLoss();
    return true;
  }

  #choose(worker: WorkerName, peer: string | undefined, channel: ChannelName | "any") {
    return (connection: ConnectionView): boolean => {
      const ends = [connection.client, connection.server];
      if (!ends.includes(worker)) return false;
      if (peer !== undefined && !ends.includes(peer)) return false;
      return channel === "any" || channelOf(this.#cluster, connection) === channel;
    };
  }

  #arm(worker: WorkerName, failure: ArmedFailure): string {
    const list = this.#failures.get(worker) ?? [];
    list.push(failure);
    this.#failures.set(worker, list);
    return worker;
  }

  #diskFault(worker: WorkerName, operation: DiskOperation, path: string): DiskErrorCode | null {
    this.#hooks.called(worker, "disk");
    const list = this.#failures.get(worker);
    if (list === undefined) return null;
    for (const [i, failure] of list.entries()) {
      if (failure.operation !== null && failure.operation !== operation) continue;
      if (!path.includes(failure.path)) continue;
      if (--failure.left > 0) continue;
      list.splice(i, 1);
      this.#cluster.observation.reach(`disk.${operation}_failed`);
      return failure.code;
    }
    return null;
  }

  #callFault(worker: WorkerName, call: NetCall): NetErrorCode | null {
    this.#hooks.called(worker, "net");
    const left = this.#calls.get(worker);
    if (left === undefined) return null;
    if (left > 1) {
      this.#calls.set(worker, left - 1);
      return null;
    }
    this.#calls.delete(worker);
    this.#cluster.observation.reach(`net.${call}_failed`);
    return "other";
  }

  #rot(worker: WorkerName, file: number, bit: number): string {
    if (this.#cluster.running(worker)) return "";
    const paths = this.#cluster.filesOf(worker);
    const path = paths[file % Math.max(1, paths.length)];
    if (path === undefined) return "";
    const { disk } = this.#cluster.machines.get(worker)!;
    const original = disk.peek(path)!;
    if (original.length === 0) return "";
    const rotten = new Uint8Array(original);
    const at = bit % (original.length * 8);
    rotten[at >>> 3]! ^= 1 << (at & 7);
    disk.put(path, rotten);
    const list = this.#rotten.get(worker) ?? [];
    list.push({ path, original, rotten });
    this.#rotten.set(worker, list);
    return `${worker} ${path} bit ${at}`;
  }

  /** Puts back what has rotted and was not written since, or was only appended to. Not while the worker runs. */
  restore(worker: WorkerName): string {
    if (this.#cluster.running(worker)) return "";
    const { disk } = this.#cluster.machines.get(worker)!;
    const restored: string[] = [];
    const lost = this.#lost.get(worker);
    // Who works without it has a later state: what is lost then is an old copy.
    if (lost !== undefined && !this.#hasWorkedSince(worker, lost.atMs)) {
      // First, since it may have rotted before it was lost: all of what it had, and nothing of what came since.
      for (const path of this.#stateFiles(worker)) disk.take(path);
      for (const [path, content] of lost.files) disk.put(path, content);
      restored.push(...lost.files.keys());
    }
    this.#lost.delete(worker);
    for (const { path, original, rotten } of (this.#rotten.get(worker) ?? []).reverse()) {
      const now = disk.peek(path);
      if (now === null || now.length < rotten.length || rotten.some((byte, i) => byte !== now[i])) continue;
      const whole = new Uint8Array(now);
      whole.set(original);
      disk.put(path, whole);
      restored.push(path);
    }
    this.#rotten.delete(worker);
    return restored.join(" ");
  }

  #hasWorkedSince(worker: WorkerName, atMs: Millis): boolean {
    const { processes } = this.#cluster.observation;
    return processes.some((process) => process.worker === worker && process.startedMs >= atMs && process.phase === 4);
  }

  #stateFiles(worker: WorkerName): string[] {
    return this.#cluster.filesOf(worker).filter((path) => path.includes(`/${STATE_FOLDER}/`) || isRotated(path));
  }

  #loseState(worker: WorkerName): string {
    const files = this.#stateFiles(worker);
    if (this.#cluster.running(worker) || files.length === 0 || this.#lost.has(worker)) return "";
    const { disk } = this.#cluster.machines.get(worker)!;
    const content = new Map(files.map((path) => [path, disk.peek(path)!]));
    this.#lost.set(worker, { atMs: this.#cluster.world.now(), files: content });
    for (const path of files) disk.take(path);
    return worker;
  }
}

function counted(count: number): string {
  return count === 0 ? "" : `${count} connections`;
}

/** What a connection is for. Workers other than the initializer listen for each other on ports of their own. */
export function channelOf(cluster: SimulatedCluster, { port, server }: ConnectionView): ChannelName | null {
  if (port === PORTS.sink) return "sink";
  if (port === PORTS.external) return "external";
  if (port >= PORTS.source && port < PORTS.source + 8) return "source";
  if (port === cluster.portOf(server, "control")) return "control";
  if (port === cluster.portOf(server, "data")) return "data";
  return null;
}
