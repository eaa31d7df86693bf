/**
 * Where a scenario takes place: what a run needs of machines, processes, disks and the network between them. The virtual
 * world is one such stage; real processes behind a proxy are another, so that both play the same scenario files.
 */
import type { Log } from "../base/log.ts";
import type { DiskErrorCode, Millis, NetErrorCode, Runtime, SignalName } from "../runtime/runtime.ts";
import type { DiskOperation, DiskOptions } from "../runtime/virtual/disk.ts";
import type { Arrival, ConnectionView, NetCall, Way } from "../runtime/virtual/network.ts";
import type { WorkerConfig } from "../worker/config.ts";
import type { WorkerHooks, WorkerStatus } from "../worker/crash_points.ts";

/** One process of a worker, or of the environment. */
export interface StageProcess {
  readonly alive: boolean;
  /** How it ended by itself. */
  readonly exited: { readonly status: number } | null;
  /** What it holds of its system; left out where nobody can count. */
  readonly held?: { readonly size: number };
  /** How many timers it waits for. Left out where that cannot be counted. */
  readonly timers?: number;
  kill(): void;
  signal(name: SignalName): void;
  /** SIGSTOP, and SIGCONT so much later. */
  pause(durationMs: Millis): void;
}

export interface StageDisk {
  fault: ((operation: DiskOperation, path: string) => DiskErrorCode | null) | null;
  spaceBytes: number;
  /** Every file and folder, by absolute path of its machine; folders end in `/`. */
  paths(): string[];
  peek(path: string): Uint8Array | null;
  put(path: string, content: Uint8Array): void;
  take(path: string): void;
  stall(durationMs: Millis): void;
  usedBytes(): number;
}

export interface StageMachine {
  readonly name: string;
  /** Where its connections come from. */
  readonly ip: string;
  readonly disk: StageDisk;
  readonly powered: boolean;
  wallOffsetMs: Millis;
  powerOn(): void;
  powerLoss(): void;
  /** Starts code of the environment. */
  startProcess(main: (runtime: Runtime) => unknown): StageProcess;
}

export interface StageNetwork {
  /** Told what arrives at a kernel, for a transcript. */
  onArrival: ((connection: ConnectionView, from: "client" | "server", what: Arrival) => void) | null;
  /** Told what a worker reads, piece by piece. Where that cannot be seen, it is never called. */
  onRead: ((connection: ConnectionView, reader: "client" | "server", piece: Uint8Array) => void) | null;
  /** Asked before every call of a process; an answer makes it fail. */
  callFault: ((machine: string, call: NetCall) => NetErrorCode | null) | null;
  connectFault: ((client: string, server: string, port: number) => "refuse" | "drop" | null) | null;
  partition(a: string, b: string, options?: { way?: Way }): void;
  heal(a?: string, b?: string): void;
  cut(choose: (connection: ConnectionView) => boolean): number;
  blackhole(choose: (connection: ConnectionView) => boolean, options: { way?: Way }): number;
  openAgain(choose: (connection: ConnectionView) => boolean): void;
  setLatency(a: string, b: string, latency: { minMs: Millis; maxMs: Millis }): void;
  resetLatency(a: string, b: string): void;
  resetLatencies(): void;
}

export interface StageWorld {
  readonly network: StageNetwork;
  /** Steps taken; 0 where there are none. */
  readonly steps: number;
  now(): Millis;
  traceHash(): string;
  host(name: string, options?: { disk?: Partial<DiskOptions> }): StageMachine;
  at(timeMs: Millis, run: () => void): void;
  runUntilOrFor(condition: () => boolean, limitMs: Millis): Promise<boolean>;
}

/** Why a process of a worker left. */
export interface Failure {
  readonly code: string;
  readonly text: string;
  /** Of a mistake of ours: what nobody caught. */
  readonly uncaught: string | null;
}

/** Told of one process of a worker. */
export interface WorkerWatch {
  readonly log: Log;
  readonly hooks: {
    readonly reached: WorkerHooks["reached"];
    /** `read` gives null while nothing recent is known. */
    readonly observable: (read: () => WorkerStatus | null) => void;
  };
  /** It left by itself, or (null) by a signal that it did not handle: then `exited` of the process has the status. */
  readonly left: (status: number | null, failure: Failure | null) => void;
}

export interface Stage {
  readonly world: StageWorld;
  /** Real time passes, and globals are what it passes by. */
  readonly isReal: boolean;
  startWorker(machine: StageMachine, config: WorkerConfig, watch: WorkerWatch): StageProcess;
}
