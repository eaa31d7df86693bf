/**
 * A virtual world: machines, their disks, the network between them and one clock, in one real process.
 *
 * W1. A run is a function of seed and code: one event queue, every draw from a named stream of the seed.
 * W2. Each step runs code of one process, for one completion; then microtasks are drained before the next step.
 * W3. Time passes only between steps. Nothing here sleeps.
 */

import { Prng } from "../../base/prng.ts";
import type { Millis } from "../runtime.ts";
import { type HostOptions, VirtualHost } from "./host.ts";
import { type NetworkOptions, VirtualNetwork } from "./network.ts";
import { Scheduler, type TraceLine } from "./scheduler.ts";

/** Taken when this module is loaded, before a simulator replaces the globals that would break W1. */
const macrotask: (run: () => void) => void = setImmediate;

/** So many steps of the machinery in a row at most, before the real event loop gets its turn. */
const MACHINERY_STEPS_MAX = 256;

export interface WorldOptions {
  readonly seed: number | bigint;
  readonly network?: Partial<NetworkOptions>;
  /** Called for every step: a transcript. Default: none. */
  readonly onStep?: (line: TraceLine) => void;
}

export class VirtualWorld {
  readonly seed: number | bigint;
  readonly network: VirtualNetwork;
  readonly #scheduler: Scheduler;
  readonly #hosts = new Map<string, VirtualHost>();
  #processId = 0;
  #running = false;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.#scheduler = new Scheduler(this.stream("ties"));
    this.#scheduler.onStep = options.onStep ?? null;
    this.network = new VirtualNetwork(this.#scheduler, this.stream("net"), options.network);
  }

  /** Virtual time since the world began. */
  now(): Millis {
    return this.#scheduler.nowMs;
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.#scheduler.steps;
  }

  /** Of everything that happened so far; the same for the same seed and code. */
  traceHash(): string {
    return this.#scheduler.traceHash();
  }

  /** A generator of this world's seed, for workloads and faults. The same name gives the same draws. */
  stream(name: string): Prng {
    return new Prng(this.seed, name);
  }

  /**
   * A machine, switched on. Its address is `10.0.0.1` for the first, and so on; its name resolves to it everywhere.
   *
   * @param name Unique; it is what faults are told.
   */
  host(name: string, options: HostOptions = {}): VirtualHost {
    if (this.#hosts.has(name)) throw new Error(`Cannot add the machine ${name}: there is one of that name`);
    const number = this.#hosts.size + 1;
    const host = new VirtualHost({
      name,
      ip: `10.0.${number >> 8}.${number & 255}`,
      options,
      network: this.network,
      scheduler: this.#scheduler,
      stream: (stream) => this.stream(`${stream}.${name}`),
      nextProcessId: () => ++this.#processId,
    });
    this.#hosts.set(name, host);
    return host;
  }

  /** Calls `run` at a virtual time: a fault, a step of a scenario. */
  at(timeMs: Millis, run: () => void): void {
    this.#scheduler.at(timeMs, null, "scenario", run);
  }

  /**
   * Runs until the condition holds. It is looked at before the first step and after each that ran code of a process.
   *
   * @param limitMs Virtual time from now.
   * @returns `false` when the time is over, or when nothing is left to happen.
   */
  runUntil(condition: () => boolean, limitMs: Millis): Promise<boolean> {
    return this.#run(condition, this.#scheduler.nowMs + limitMs);
  }

  /** Lets so much virtual time pass. */
  async runFor(durationMs: Millis): Promise<void> {
    const untilMs = this.#scheduler.nowMs + durationMs;
    await this.#run(() => false, untilMs);
    this.#scheduler.nowMs = untilMs;
  }

  /** As `runUntil`; when the condition does not come to hold, all of the time has passed. */
  async runUntilOrFor(condition: () => boolean, limitMs: Millis): Promise<boolean> {
    const untilMs = this.#scheduler.nowMs + limitMs;
    if (await this.#run(condition, untilMs)) return true;
    this.#scheduler.nowMs = untilMs;
    return false;
  }

  /**
   * Runs until a promise settles, and gives its result: for tests whose body awaits calls of virtual runtimes.
   *
   * @throws {Error} When it has not settled after `limitMs` of virtual time (default 10 minutes), or nothing is left to
   *   happen.
   */
  async drive<T>(promise: Promise<T>, limitMs: Millis = 600_000): Promise<T> {
    let settled = false;
    const settle = () => {
      settled = true;
    };
    promise.then(settle, settle);
    if (await this.runUntil(() => settled, limitMs)) return promise;
    throw new Error(`The world stands still: at ${this.now().toFixed(3)} ms of at most ${limitMs}, seed ${this.seed}`);
  }

  #run(condition: () => boolean, untilMs: Millis): Promise<boolean> {
    if (this.#running) throw new Error("Cannot run the world: it is running");
    this.#running = true;
    return new Promise<boolean>((resolve, reject) => {
      const turn = () => {
        try {
          if (condition()) return resolve(true);
          for (let count = 0; count < MACHINERY_STEPS_MAX; count++) {
            const stepped = this.#scheduler.step(untilMs);
            if (stepped === "none") return resolve(condition());
            if (stepped === "code") break;
          }
        } catch (error) {
          return reject(error);
        }
        macrotask(turn);
      };
      // What the caller did before may have left microtasks behind.
      macrotask(turn);
    }).finally(() => {
      this.#running = false;
    });
  }
}
