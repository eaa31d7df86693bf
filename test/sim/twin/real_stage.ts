/**
 * The stage of real processes: workers are processes of the test build, their network is the proxy, their disks are folders,
 * and time is real. The environment around them is the simulator's own code, over the Bun runtime.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBunRuntime } from "../../../src/runtime/bun.ts";
import type { Address, Millis, Runtime } from "../../../src/runtime/runtime.ts";
import { NETWORK_DEFAULTS } from "../../../src/runtime/virtual/network.ts";
import { FOLLOWED_POINTS, PORTS, SUITE_CODE } from "../../../src/simulation/cluster.ts";
import { type Fault, type FaultKind, type Scenario, workerNames } from "../../../src/simulation/scenario.ts";
import type { Stage, StageMachine, StageProcess, StageWorld, WorkerWatch } from "../../../src/simulation/stage.ts";
import { SUITE } from "../../../src/simulation/suite.ts";
import type { WorkerConfig } from "../../../src/worker/config.ts";
import type { CrashPoint } from "../../../src/worker/crash_points.ts";
import { freePorts } from "../../cluster/lib/ports.ts";
import { root } from "../../cluster/lib/process.ts";
import { EnvironmentProcess } from "./environment.ts";
import { FAILPOINT_VARIABLE, type Failpoint, showFailpoints, TWIN_VARIABLE, type TwinSettings } from "./failpoints.ts";
import { type Target, TwinProxy } from "./proxy.ts";
import { RealDisk, whyNoSmallDisk } from "./real_disk.ts";
import { bundleSuite } from "./suite_bundle.ts";
import { type WorkerCommand, WorkerProcess } from "./worker_process.ts";

export const TEST_BUILD = join(root, "dist/tammar-failpoints");
const STATUS_MS: Millis = 200;
const LOOK_MS: Millis = 10;

/** What only the simulator can do: a real machine cannot be cut off its power, and `kill -9` loses nothing that was written. */
const VIRTUAL_ONLY: readonly FaultKind[] = ["power_loss", "power_loss_all"];
/** For which a worker asks before each operation. */
const DISK_OPERATION_FAULTS: readonly FaultKind[] = ["disk_stall", "fail_sync", "fail_operation"];

/** Why this scenario cannot be played by real processes (here); null: it can. */
export function whyNotReal(scenario: Scenario): string | null {
  const virtual = scenario.faults.find((fault) => VIRTUAL_ONLY.includes(fault.do));
  if (virtual !== undefined) {
    return `${virtual.do} is done to virtual machines only: a real one cannot be cut off its power`;
  }
  if (SUITE[scenario.application].refuses === true) {
    return `${scenario.application} is simulated only: its user code is corrected while it runs, as no real process can be`;
  }
  if (!scenario.faults.some((fault) => fault.do === "disk_full")) return null;
  const folder = mkdtempSync(join(tmpdir(), "tammar-twin-"));
  try {
    return whyNoSmallDisk(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export class RealStage implements Stage {
  readonly isReal = true;
  readonly world: StageWorld;
  readonly #scenario: Scenario;
  readonly #folder = mkdtempSync(join(tmpdir(), "tammar-twin-"));
  readonly #runtime: Runtime = createBunRuntime();
  readonly #startedMs = performance.now();
  readonly #machines = new Map<string, RealMachine>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #workers = new Map<string, WorkerProcess[]>();
  /** Where `server port`, as scenarios know it, really is. */
  readonly #real = new Map<string, Address>();
  /** The same the other way round, by real port. */
  readonly #known = new Map<number, Target>();
  /** Crash points that scenarios wait for, and how often each was passed by earlier processes: by worker. */
  readonly #passed = new Map<string, number>();
  #proxy!: TwinProxy;
  #application = "";
  /** The same with other code; made when somebody is to start with it. */
  #otherApplication: string | null = null;
  readonly #disksAsked: ReadonlySet<string>;
  readonly #netsAsked: ReadonlySet<string>;
  #closed = false;

  private constructor(scenario: Scenario) {
    this.#scenario = scenario;
    const hit = (kinds: readonly FaultKind[]): Set<string> =>
      new Set(
        scenario.faults.flatMap((fault) => (kinds.includes(fault.do) && "worker" in fault ? [fault.worker] : [])),
      );
    this.#disksAsked = hit(DISK_OPERATION_FAULTS);
    this.#netsAsked = hit(["fail_call"]);
    this.world = {
      network: null as never,
      steps: 0,
      now: () => performance.now() - this.#startedMs,
      traceHash: () => "0000000000000000",
      host: (name) => this.#machine(name),
      at: (timeMs, run) => this.#at(timeMs, run),
      runUntilOrFor: (condition, limitMs) => this.#runUntilOrFor(condition, limitMs),
    };
  }

  static async open(scenario: Scenario): Promise<RealStage> {
    const stage = new RealStage(scenario);
    const { latencyMinMs = 0, latencyMaxMs = 0 } = scenario.network ?? {};
    stage.#proxy = await TwinProxy.listen({
      resolve: (address) => stage.#resolve(address),
      ipOf: (machine) => stage.#machine(machine).ip,
      latency: { minMs: latencyMinMs, maxMs: latencyMaxMs },
      network: { ...NETWORK_DEFAULTS, ...scenario.network },
      seed: BigInt(Date.now()),
    });
    Object.assign(stage.world, { network: stage.#proxy });
    stage.#application = await bundleSuite(stage.#folder, scenario.application);
    await stage.#choosePorts();
    return stage;
  }

  /** Ends everything that is left, and removes all files. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    const workers = [...this.#workers.values()].flat();
    for (const worker of workers) worker.kill();
    await Promise.all(workers.map((worker) => worker.gone));
    for (const machine of this.#machines.values()) machine.close();
    this.#proxy.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  startWorker(machine: StageMachine, config: WorkerConfig, watch: WorkerWatch): StageProcess {
    const { name } = machine;
    const earlier = this.#workers.get(name) ?? [];
    // Of two processes at once the second is the wrong one: it is to find the first, and nothing is asked of it.
    const isSecond = earlier.some(({ alive }) => alive);
    const counting: WorkerWatch = {
      ...watch,
      hooks: {
        ...watch.hooks,
        reached: (point) => {
          this.#passed.set(`${name} ${point}`, this.#passedBy(name, point) + 1);
          watch.hooks.reached(point);
        },
      },
    };
    const ready = Promise.all(earlier.filter(({ alive }) => !alive).map(({ gone }) => gone)).then(() => {});
    const process = new WorkerProcess(
      ready,
      () => this.#command(name, config, isSecond ? [] : this.#failpoints(name)),
      isSecond ? watch : counting,
      {
        disk: this.#machine(name).disk.answer,
        net: async (call) => this.world.network.callFault?.(name, call) ?? null,
      },
    );
    this.#workers.set(name, [...earlier, process]);
    return process;
  }

  // Time.

  #at(timeMs: Millis, run: () => void): void {
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        if (!this.#closed) run();
      },
      Math.max(0, timeMs - this.world.now()),
    );
    this.#timers.add(timer);
  }

  async #runUntilOrFor(condition: () => boolean, limitMs: Millis): Promise<boolean> {
    const untilMs = performance.now() + limitMs;
    for (;;) {
      if (condition()) return true;
      const restMs = untilMs - performance.now();
      if (restMs <= 0) return false;
      await new Promise((resolve) => setTimeout(resolve, Math.min(LOOK_MS, restMs)));
    }
  }

  // Machines and addresses.

  #machine(name: string): RealMachine {
    let machine = this.#machines.get(name);
    if (machine !== undefined) return machine;
    const number = this.#machines.size + 1;
    const disk = this.#disk(name);
    machine = new RealMachine({
      name,
      ip: `127.1.0.${number}`,
      disk,
      start: (main) =>
        new EnvironmentProcess(main, {
          machine: name,
          proxy: this.#proxy.address,
          runtime: { ...this.#runtime, disk: disk.rooted(this.#runtime.disk) },
          placeOf: (port) => this.#placeOf(name, port),
          bound: (port, real) => this.#bound(name, port, real),
          failed: (error) => void Promise.reject(error),
        }),
      clockSet: (offsetMs) => {
        for (const process of this.#workers.get(name) ?? []) process.order({ kind: "wall", offsetMs });
      },
    });
    this.#machines.set(name, machine);
    return machine;
  }

  #disk(name: string): RealDisk {
    const small = this.#scenario.faults.some((fault) => fault.do === "disk_full" && fault.worker === name);
    return new RealDisk(join(this.#folder, name), small);
  }

  #bound(server: string, port: number, real: Address | null): void {
    if (real === null) this.#real.delete(`${server} ${port}`);
    else this.#real.set(`${server} ${port}`, real);
  }

  /** By the name of a machine, as the environment dials, or by a real address, as workers learn it from each other. */
  #resolve({ host, port }: Address): Target | null {
    if (!host.startsWith("127.")) {
      const real = this.#real.get(`${host} ${port}`);
      return real === undefined ? null : { server: host, port, real };
    }
    const known = this.#known.get(port);
    if (known === undefined) return null;
    // Whoever listens under a name now.
    const real = this.#real.get(`${known.server} ${known.port}`);
    return real === undefined ? null : { ...known, real };
  }

  async #choosePorts(): Promise<void> {
    const wanted: [server: string, port: number][] = [["sink", PORTS.sink]];
    const names = workerNames(this.#scenario.workers);
    for (const [i, name] of names.entries()) {
      if (i === 0) wanted.push([name, PORTS.control], [name, PORTS.data]);
      wanted.push([name, PORTS.external]);
      for (let source = 0; source < 4; source++) wanted.push([name, PORTS.source + source]);
    }
    const ports = await freePorts(wanted.length);
    for (const [i, [server, port]] of wanted.entries()) this.#give(server, port, ports[i]!, server !== "sink");
  }

  #give(server: string, port: number, realPort: number, listens: boolean): void {
    const real = { host: "127.0.0.1", port: realPort };
    this.#known.set(realPort, { server, port, real });
    if (listens) this.#real.set(`${server} ${port}`, real);
  }

  /** What stands in a command line for this port of this machine. */
  #addressOf(server: string, port: number): string {
    const chosen = this.#chosen(server, port);
    if (chosen === null) throw new Error(`No port was chosen for ${server}:${port}`);
    return `${chosen.host}:${chosen.port}`;
  }

  #chosen(server: string, port: number): Address | null {
    for (const { server: other, port: known, real } of this.#known.values()) {
      if (other === server && known === port) return real;
    }
    return null;
  }

  /** Whoever takes a port of a worker's machine takes the one that the worker would. */
  #placeOf(machine: string, port: number): Address | null {
    return workerNames(this.#scenario.workers).includes(machine) ? this.#chosen(machine, port) : null;
  }

  // Workers.

  /** `machine` has the worker's name, but for one that is not of the cluster. */
  async #command(machine: string, config: WorkerConfig, failpoints: readonly Failpoint[]): Promise<WorkerCommand> {
    const { keys, messages, limits } = this.#scenario;
    const { disk, wallOffsetMs } = this.#machine(machine);
    const { externalListen, checkpoints } = config;
    const inputs: string[] = [];
    for (const [source, { port }] of config.inputs)
      inputs.push(`${source}@${await this.#listenAddress(machine, port)}`);
    const args = [
      ...["--application-module", await this.#moduleFor(config)],
      ...["--keys", `${keys}`, "--messages", `${messages}`],
      ...(inputs.length === 0 ? [] : ["--in", inputs.join(",")]),
      ...["--out", config.outputs.map(({ host, port }) => this.#addressOf(host, port)).join(",")],
      ...(externalListen === null ? [] : ["--external", await this.#listenAddress(machine, externalListen.port)]),
      ...(await this.#places(machine, config)),
      ...["--resilience-dir", disk.real(config.resilienceDir)],
      ...["--checkpoint-interval", checkpoints.intervalMs === null ? "off" : `${checkpoints.intervalMs}ms`],
      ...(checkpoints.rotation === null ? [] : ["--log-rotation"]),
      ...(checkpoints.rotation?.fileBytes == null
        ? []
        : ["--event-log-file-size", `${checkpoints.rotation.fileBytes}`]),
      ...["--log-format", "json", "--log-level", "debug"],
    ];
    const settings: TwinSettings = {
      machine,
      proxy: this.#proxy.address,
      limits: limits ?? {},
      tellsOf: FOLLOWED_POINTS,
      statusMs: STATUS_MS,
      wallOffsetMs,
      asksDiskOf: this.#disksAsked.has(machine) ? disk.root : null,
      asksNet: this.#netsAsked.has(machine),
    };
    const env = {
      [TWIN_VARIABLE]: JSON.stringify(settings),
      [FAILPOINT_VARIABLE]: showFailpoints(failpoints),
    };
    return { file: TEST_BUILD, args, env, workingDir: disk.root };
  }

  /** The digest of the code is what workers compare: another one here is another module. */
  async #moduleFor({ applicationCodeDigest }: WorkerConfig): Promise<string> {
    if (applicationCodeDigest === SUITE_CODE) return this.#application;
    this.#otherApplication ??= await bundleSuite(this.#folder, this.#scenario.application, applicationCodeDigest);
    return this.#otherApplication;
  }

  /** Workers other than the initializer listen on fresh ports at each start, as they do when none are given. */
  async #places(machine: string, { role, name, workerCount }: WorkerConfig): Promise<string[]> {
    const control = this.#addressOf("initializer", PORTS.control);
    if (role === "initializer") {
      const data = this.#addressOf("initializer", PORTS.data);
      return ["--cluster-initializer", "--worker-count", `${workerCount}`, "--control", control, "--data", data];
    }
    const mine = ["--my-control", await this.#listenAddress(machine, 0), "--my-data"];
    return ["--name", name, "--control", control, ...mine, await this.#listenAddress(machine, 0)];
  }

  /** @param port As scenarios know it; 0: any. */
  async #listenAddress(machine: string, port: number): Promise<string> {
    if (port !== 0) return this.#addressOf(machine, port);
    const [free] = await freePorts(1);
    this.#give(machine, free!, free!, true);
    return `127.0.0.1:${free}`;
  }

  #passedBy(worker: string, point: CrashPoint): number {
    return this.#passed.get(`${worker} ${point}`) ?? 0;
  }

  /** Scenarios count passages over all processes of a worker, a process its own. */
  #failpoints(name: string): Failpoint[] {
    return this.#scenario.faults.flatMap(({ at }: Fault): Failpoint[] => {
      if (!("point" in at) || at.worker !== name) return [];
      const n = at.n - this.#passedBy(name, at.point);
      return n < 1 ? [] : [{ point: at.point, n, action: "stop" }];
    });
  }
}

class RealMachine implements StageMachine {
  readonly name: string;
  readonly ip: string;
  readonly disk: RealDisk;
  #powered = true;
  #wallOffsetMs = 0;
  readonly #start: (main: (runtime: Runtime) => unknown) => EnvironmentProcess;
  readonly #clockSet: (offsetMs: Millis) => void;
  readonly #processes: EnvironmentProcess[] = [];

  constructor(parts: {
    name: string;
    ip: string;
    disk: RealDisk;
    start: (main: (runtime: Runtime) => unknown) => EnvironmentProcess;
    clockSet: (offsetMs: Millis) => void;
  }) {
    this.name = parts.name;
    this.ip = parts.ip;
    this.disk = parts.disk;
    this.#start = parts.start;
    this.#clockSet = parts.clockSet;
  }

  startProcess(main: (runtime: Runtime) => unknown): StageProcess {
    const process = this.#start(main);
    this.#processes.push(process);
    return process;
  }

  get powered(): boolean {
    return this.#powered;
  }

  get wallOffsetMs(): Millis {
    return this.#wallOffsetMs;
  }

  set wallOffsetMs(offsetMs: Millis) {
    this.#wallOffsetMs = offsetMs;
    this.#clockSet(offsetMs);
  }

  powerOn(): void {
    this.#powered = true;
  }

  /** Of the environment's machines; nothing is lost from a real disk. */
  powerLoss(): void {
    this.#powered = false;
    this.#killAll();
  }

  close(): void {
    this.#killAll();
    this.disk.close();
  }

  #killAll(): void {
    for (const process of this.#processes) if (process.alive) process.kill();
  }
}
