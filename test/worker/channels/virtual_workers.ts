import type { Runtime } from "../../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../../src/runtime/virtual/host.ts";
import type { VirtualProcess } from "../../../src/runtime/virtual/process.ts";
import { VirtualWorld, type WorldOptions } from "../../../src/runtime/virtual/world.ts";
import { at, ChannelWorker, CONTROL_PORT, DATA_PORT, type WorkerSetup } from "./channel_world.ts";

/** Channel workers on virtual machines, each machine named as its worker. */
export class VirtualWorkers {
  readonly world: VirtualWorld;
  readonly workers = new Map<string, ChannelWorker>();
  readonly processes = new Map<string, VirtualProcess>();
  readonly #hosts = new Map<string, VirtualHost>();

  constructor(options: WorldOptions) {
    this.world = new VirtualWorld(options);
  }

  host(name: string): VirtualHost {
    let host = this.#hosts.get(name);
    if (host === undefined) {
      host = this.world.host(name);
      this.#hosts.set(name, host);
    }
    return host;
  }

  get(name: string): ChannelWorker {
    return this.workers.get(name)!;
  }

  /** Starts a worker, then lets it do something; a second start of the name has the next start number. */
  async start(name: string, setup: WorkerSetup = {}, then: (worker: ChannelWorker) => void = () => {}): Promise<void> {
    const before = this.workers.get(name);
    const startNumber = setup.startNumber ?? (before === undefined ? 1 : before.identityNow.startNumber + 1);
    let started = false;
    const process = this.host(setup.listenHost ?? name).startProcess(async (runtime: Runtime) => {
      const worker = new ChannelWorker(name, runtime, { ...setup, startNumber });
      this.workers.set(name, worker);
      await worker.listen();
      started = true;
      worker.turn(() => then(worker));
    });
    this.processes.set(name, process);
    if (!(await this.world.runUntil(() => started || !process.alive, 1_000)) || !started) {
      throw new Error(`worker ${name} did not start: ${process.stderr}`);
    }
  }

  kill(name: string): void {
    this.processes.get(name)!.kill();
  }

  /** Does something in the process of that worker, as one of its turns. */
  act(name: string, act: (worker: ChannelWorker) => void): void {
    const process = this.processes.get(name)!;
    const worker = this.get(name);
    if (process.alive) process.later("test", () => worker.turn(() => act(worker)), 0.001);
  }

  /** Every worker dials every other on both channels. */
  async startMesh(names: readonly string[], setup: WorkerSetup = {}): Promise<void> {
    for (const name of names) await this.start(name, setup);
    for (const name of names) this.act(name, (worker) => this.dialAll(worker, names));
  }

  dialAll(worker: ChannelWorker, names: readonly string[]): void {
    for (const other of names) {
      if (other === worker.name) continue;
      worker.control_.dial(other, at(other, CONTROL_PORT));
      worker.data.connectTo(other, at(other, DATA_PORT));
    }
  }

  /** Are all pairs of these connected on both channels, both ways? */
  meshed(names: readonly string[]): boolean {
    return names.every((name) =>
      names.every(
        (other) =>
          name === other || (this.get(name).control_.connectedTo(other) && this.get(name).data.connectedTo(other)),
      ),
    );
  }

  /** Until they are, and a moment longer: both ends of each link know of it by then. */
  async mesh(names: readonly string[], limitMs = 5_000): Promise<boolean> {
    const meshed = await this.world.runUntil(() => this.meshed(names), limitMs);
    await this.world.runFor(100);
    return meshed && this.meshed(names);
  }

  /** No process ended by an error of its own. */
  assertAlive(names: readonly string[]): void {
    for (const name of names) {
      const process = this.processes.get(name)!;
      if (!process.alive) throw new Error(`worker ${name} is dead: ${process.stderr}`);
    }
  }
}
