/** A virtual machine: an address, a disk that survives its processes, a wall clock, power. */

import type { Prng } from "../../base/prng.ts";
import type { Millis, Runtime } from "../runtime.ts";
import { type DiskOptions, VirtualDisk } from "./disk.ts";
import type { NetMachine, VirtualNetwork } from "./network.ts";
import { type ProcessMachine, type ProcessOptions, VirtualProcess } from "./process.ts";
import type { Scheduler } from "./scheduler.ts";

/** `args`, `env`, `calledAs` and `modules` are what its processes get unless `startProcess` says otherwise. */
export interface HostOptions extends ProcessOptions {
  /** Durable files, by absolute path. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
  /** How far its wall clock is off. Default 0. */
  readonly wallOffsetMs?: Millis;
  readonly disk?: Partial<DiskOptions>;
}

export class VirtualHost implements NetMachine, ProcessMachine {
  readonly name: string;
  readonly ip: string;
  readonly disk: VirtualDisk;
  /** How far its wall clock is off; may be set at any time. */
  wallOffsetMs: Millis;
  #powered = true;
  readonly #options: HostOptions;
  readonly #network: VirtualNetwork;
  readonly #scheduler: Scheduler;
  readonly #stream: (name: string) => Prng;
  readonly #nextProcessId: () => number;
  #processes: VirtualProcess[] = [];

  constructor(parts: {
    name: string;
    ip: string;
    options: HostOptions;
    network: VirtualNetwork;
    scheduler: Scheduler;
    stream: (name: string) => Prng;
    nextProcessId: () => number;
  }) {
    this.name = parts.name;
    this.ip = parts.ip;
    this.wallOffsetMs = parts.options.wallOffsetMs ?? 0;
    this.#options = parts.options;
    this.#network = parts.network;
    this.#scheduler = parts.scheduler;
    this.#stream = parts.stream;
    this.#nextProcessId = parts.nextProcessId;
    this.disk = new VirtualDisk(parts.scheduler, parts.stream("disk"), parts.options.disk);
    for (const [path, content] of Object.entries(parts.options.files ?? {})) this.disk.put(path, content);
    this.#network.addMachine(this);
  }

  get powered(): boolean {
    return this.#powered;
  }

  /** Those that are alive, the oldest first. */
  get processes(): readonly VirtualProcess[] {
    return this.#processes.filter((process) => process.alive);
  }

  /**
   * Starts a process. Its `main` runs in a step of its own, a moment later; a throw there, or a rejection of what it
   * returns, is the process's uncaught error.
   */
  startProcess(main: (runtime: Runtime) => unknown, options: ProcessOptions = {}): VirtualProcess {
    if (!this.#powered) throw new Error(`Cannot start a process on ${this.name}: it has no power`);
    const id = this.#nextProcessId();
    const process = new VirtualProcess({
      id,
      machine: this,
      scheduler: this.#scheduler,
      stream: (name) => this.#stream(`${name}${id}`),
      options: {
        ...this.#options,
        ...options,
        env: { ...this.#options.env, ...options.env },
        modules: { ...this.#options.modules, ...options.modules },
      },
      net: (owner) => this.#network.netOf(this, owner),
      disk: (owner) => this.disk.diskOf(owner),
    });
    this.#processes = [...this.processes, process];
    process.later("main", () => {
      const result = main(process.runtime);
      if (result instanceof Promise) result.catch((error) => process.enter(() => process.uncaught(error)));
    });
    return process;
  }

  /** Every process dies, nobody is told, and what was not synced is lost, kept or torn. Off until `powerOn`. */
  powerLoss(): void {
    if (!this.#powered) return;
    this.#powered = false;
    for (const process of this.#processes) process.kill();
    this.disk.powerLoss();
  }

  /** Peers that still send to it are told now that their connections are gone. */
  powerOn(): void {
    if (this.#powered) return;
    this.#powered = true;
    this.#network.resend();
  }
}
