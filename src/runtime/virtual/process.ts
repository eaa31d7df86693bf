/**
 * A virtual process: a `Runtime` of its own on a virtual machine, until it exits or is killed.
 *
 * D1. After its death no call into its runtime acts, and no promise it gave out settles.
 * D2. What it held (sockets, listeners, locks, timers) goes with it; what it wrote to files stays.
 */

import { createHash } from "node:crypto";
import type { Prng } from "../../base/prng.ts";
import type { Random, Runtime, SignalName } from "../runtime.ts";
import { type Clock, type Disk, type Host, type Millis, type Net, NetError } from "../runtime.ts";
import type { Owner, Scheduler } from "./scheduler.ts";

/** 1 January 2026, when every virtual world begins. */
const WALL_START_MS = Date.UTC(2026, 0, 1);
const SIGNAL_STATUS: Readonly<Record<SignalName, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };
const KILLED_STATUS = 137;
/** A timer costs at least this much, so that one that sets itself again cannot stop time. */
const TIMER_MS_MIN = 0.01;

/** What a namespace is, or what makes it anew for each process that imports it. */
export type VirtualModules = Readonly<Record<string, Record<string, unknown> | (() => Record<string, unknown>)>>;

export interface ProcessOptions {
  /** Default: none. */
  readonly args?: readonly string[];
  /** Added to the machine's. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: `tammar`. */
  readonly calledAs?: string;
  /** What `Host.importModule` finds, by absolute path. Added to the machine's. */
  readonly modules?: VirtualModules;
}

/** Something a process holds that has to be given back when it dies. */
export interface Held {
  processDied(): void;
}

/** Unwinds the code that called `Host.exit` in a callback. */
class ExitSignal extends Error {
  override readonly name = "ExitSignal";
}

/** What a process needs to know about the machine it runs on. */
export interface ProcessMachine {
  readonly name: string;
  readonly wallOffsetMs: Millis;
}

export class VirtualProcess implements Owner {
  readonly id: number;
  readonly name: string;
  readonly pid: number;
  readonly runtime: Runtime;
  steps = 0;
  pausedUntilMs: Millis = 0;
  /** The reader of standard output and error takes nothing while this is set. */
  outputStalled = false;
  /** The reader of standard output and error is gone: writing to them fails. */
  outputGone = false;
  readonly held = new Set<Held>();
  /** Started, and neither fired nor cancelled. */
  timers = 0;
  readonly #scheduler: Scheduler;
  /** How long calls take; apart from what the process draws itself, so that one does not shift the other. */
  readonly #prng: Prng;
  readonly #ownPrng: Prng;
  readonly #soon: (() => void)[] = [];
  #soonMs: Millis = 0;
  #exited: { readonly status: number } | null = null;
  readonly #signals = new Map<SignalName, Set<() => void>>();
  #uncaught: ((error: unknown) => void) | null = null;
  readonly #stdout = new OutputText();
  readonly #stderr = new OutputText();
  readonly #stalledOutput: (() => void)[] = [];
  /** Is the code of this process on the stack right now (rather than one of its microtasks)? */
  #running = false;

  constructor(parts: {
    id: number;
    machine: ProcessMachine;
    scheduler: Scheduler;
    stream: (name: string) => Prng;
    options: ProcessOptions;
    net: (process: VirtualProcess) => Net;
    disk: (process: VirtualProcess) => Disk;
  }) {
    this.id = parts.id;
    this.pid = 1000 + parts.id;
    this.name = `${parts.machine.name}/${this.pid}`;
    this.#scheduler = parts.scheduler;
    this.#prng = parts.stream("calls");
    this.#ownPrng = parts.stream("random");
    this.runtime = {
      clock: this.#clock(parts.machine),
      random: this.#random(),
      net: parts.net(this),
      disk: parts.disk(this),
      host: this.#host(parts.machine, parts.options),
    };
  }

  get alive(): boolean {
    return this.#exited === null;
  }

  /** `null` while it lives. A killed process has 137, as a shell would say. */
  get exited(): { readonly status: number } | null {
    return this.#exited;
  }

  /** What it has written to standard output so far. */
  get stdout(): string {
    return this.#stdout.text;
  }

  get stderr(): string {
    return this.#stderr.text;
  }

  /** `kill -9`: no code of it runs any more; the kernel closes what it held. */
  kill(): void {
    this.die(KILLED_STATUS);
  }

  /** Delivers a signal. Without a handler the process ends with 128 and the signal's number. */
  signal(name: SignalName): void {
    if (!this.alive) return;
    const handlers = this.#signals.get(name);
    if (handlers === undefined || handlers.size === 0) {
      this.die(SIGNAL_STATUS[name]);
      return;
    }
    for (const handler of handlers) this.later("signal", handler);
  }

  /** Stops it for a while (`kill -STOP`, a long collection of garbage): the kernel goes on, its code does not. */
  pause(durationMs: Millis): void {
    this.pausedUntilMs = Math.max(this.pausedUntilMs, this.#scheduler.nowMs + durationMs);
  }

  /** Lets output go on after `outputStalled`. */
  resumeOutput(): void {
    this.outputStalled = false;
    for (const resume of this.#stalledOutput.splice(0)) this.later("output", resume);
  }

  /** Runs code of this process: what it throws is its own uncaught error. */
  enter(code: () => void): void {
    this.#running = true;
    try {
      code();
    } catch (error) {
      if (!(error instanceof ExitSignal)) this.uncaught(error);
    } finally {
      this.#running = false;
    }
  }

  /** An event of this process: a system call's completion, a few microseconds from now, sometimes more. */
  later(kind: string, code: () => void, delayMs: Millis = this.callMs()): void {
    this.#scheduler.at(this.#scheduler.nowMs + delayMs, this, kind, code);
  }

  /** How long a system call takes this time. */
  callMs(): Millis {
    return this.#prng.chance(64) ? this.#prng.between(0.02, 2) : this.#prng.between(0.001, 0.02);
  }

  uncaught(error: unknown): void {
    if (!this.alive) return;
    if (this.#uncaught !== null) {
      this.#uncaught(error);
      return;
    }
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#stderr.add(new TextEncoder().encode(`${text}\n`));
    this.die(1);
  }

  die(status: number): void {
    if (!this.alive) return;
    this.#exited = { status };
    this.#scheduler.note(status);
    for (const held of [...this.held]) held.processDied();
    this.held.clear();
    this.#soon.length = 0;
    this.#stalledOutput.length = 0;
    this.#signals.clear();
  }

  #clock(machine: ProcessMachine): Clock {
    // Each process counts from somewhere else, so that comparing two of them shows.
    const startMs = this.#prng.between(0, 1_000_000);
    return {
      monotonicMs: () => startMs + this.#scheduler.nowMs,
      wallMs: () => WALL_START_MS + this.#scheduler.nowMs + machine.wallOffsetMs,
      startTimer: (delayMs, fire) => {
        if (!this.alive) return () => {};
        const dueMs = this.#scheduler.nowMs + Math.max(delayMs, TIMER_MS_MIN);
        this.timers++;
        const event = this.#scheduler.at(dueMs, this, "timer", () => {
          this.timers--;
          fire();
        });
        return () => {
          if (event.run === null) return;
          this.timers--;
          this.#scheduler.cancel(event);
        };
      },
      soon: (run) => {
        if (!this.alive) return;
        this.#soon.push(run);
        this.#soonMs = Math.max(this.#soonMs, this.#scheduler.nowMs + this.#prng.between(0.001, 0.01));
        this.#scheduler.at(this.#soonMs, this, "soon", this.#runSoon);
      },
    };
  }

  readonly #runSoon = (): void => this.#soon.shift()!();

  #random(): Random {
    return { next: () => this.#ownPrng.next(), bytes: (length) => this.#ownPrng.bytes(length) };
  }

  #host(machine: ProcessMachine, options: ProcessOptions): Host {
    const process = this;
    return {
      name: "virtual",
      os: "linux",
      pid: this.pid,
      calledAs: options.calledAs ?? "tammar",
      args: options.args ?? [],
      workingDir: "/",
      compiled: true,
      terminal: false,
      terminalOut: false,
      env: (name) => options.env?.[name],
      writeOut: (bytes) => this.#write(this.#stdout, bytes),
      writeErr: (bytes) => this.#write(this.#stderr, bytes),
      writeErrNow: (bytes) => {
        if (this.alive && !this.outputGone) this.#stderr.add(bytes);
      },
      onSignal(signal, handle) {
        const handlers = process.#signals.get(signal) ?? new Set();
        process.#signals.set(signal, handlers);
        const handler = () => handle();
        handlers.add(handler);
        return () => void handlers.delete(handler);
      },
      onUncaught: (handle) => {
        this.#uncaught = handle;
      },
      exit: (status) => this.#exit(status),
      importModule: (path) => this.#importModule(machine, path, options.modules ?? {}),
      residentBytes: () => 50_000_000,
      descriptorsMax: null,
      cpuMicros: () => this.steps * 20,
      digest: (bytes) => {
        // The bytes are read when the work is done, so that whoever changes them in between finds out.
        return this.completion("digest", () => new Uint8Array(createHash("sha256").update(bytes).digest()));
      },
    };
  }

  /** The promise of a system call whose result is made in an event of its own. Never settles for the dead. */
  completion<T>(kind: string, result: () => T, delayMs?: Millis): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.alive) return;
      const settle = () => {
        let value: T;
        try {
          value = result();
        } catch (error) {
          reject(error);
          return;
        }
        resolve(value);
      };
      this.later(kind, settle, delayMs);
    });
  }

  #write(stream: OutputText, bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.alive) return;
      const write = () => {
        if (this.outputStalled) {
          this.#stalledOutput.push(write);
        } else if (this.outputGone) {
          reject(new NetError("closed", "Cannot write to standard output: its reader is gone"));
        } else {
          stream.add(bytes);
          resolve();
        }
      };
      this.later("output", write);
    });
  }

  #exit(status: number): never {
    this.die(status);
    // A callback is unwound. In a microtask the throw would become an unhandled rejection of the test around the world,
    // so there the code runs on to its next await: whatever it does, its runtime is dead.
    if (this.#running) throw new ExitSignal(`exit ${status}`);
    return undefined as never;
  }

  #importModule(machine: ProcessMachine, path: string, modules: VirtualModules): Promise<Record<string, unknown>> {
    return this.completion("import", () => {
      const found = Object.hasOwn(modules, path) ? modules[path] : undefined;
      if (found === undefined) throw new Error(`Cannot find module ${path} on the virtual machine ${machine.name}`);
      return typeof found === "function" ? found() : found;
    });
  }
}

/** Bytes of a stream as text; characters may be split between writes. */
class OutputText {
  text = "";
  readonly #decoder = new TextDecoder();

  add(bytes: Uint8Array): void {
    this.text += this.#decoder.decode(bytes, { stream: true });
  }
}
