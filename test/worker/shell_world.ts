/**
 * Dataflow shells on virtual machines: real connectors on the virtual network, and links between the workers that keep what
 * the data channel promises (order, credit, acknowledgement) with nothing of how it does it.
 */
import assert from "node:assert/strict";
import type { Application } from "../../src/api/application.ts";
import { Prng } from "../../src/base/prng.ts";
import { planApplication } from "../../src/plan/plan.ts";
import type { Conn, Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import type { DrainReport } from "../../src/wire/control.ts";
import { encodeFrame } from "../../src/wire/frame.ts";
import type { BatchLinks } from "../../src/worker/batch_links.ts";
import { DEFAULT_LIMITS, type Limits, type WorkerConfig } from "../../src/worker/config.ts";
import { DataflowShell } from "../../src/worker/dataflow_shell.ts";
import { CollectedLog } from "../connectors/fakes.ts";

const SOURCE_PORT = 7010;
const SINK_PORT = 7100;

export interface ShellWorldOptions {
  readonly workers: number;
  readonly application: (prng: Prng) => Application;
  readonly limits?: Partial<Limits>;
  readonly sinks?: number;
  /** Default: all. */
  readonly sinksPresent?: boolean;
}

export class ShellWorld {
  readonly world: VirtualWorld;
  readonly prng: Prng;
  readonly workers: TestWorker[] = [];
  readonly sinks: TestSink[] = [];
  readonly limits: Limits;
  #clients = 0;

  constructor(seed: number, options: ShellWorldOptions) {
    this.world = new VirtualWorld({ seed });
    this.prng = new Prng(seed, "shells");
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    for (let sink = 0; sink < (options.sinks ?? 1); sink++) {
      this.sinks.push(new TestSink(this, sink));
      if (options.sinksPresent !== false) this.sinks[sink]!.start();
    }
    const names = Array.from({ length: options.workers }, (_, i) => (i === 0 ? "initializer" : `w${i}`));
    for (const name of names) this.workers.push(new TestWorker(this, name, names, options));
  }

  /** Until every worker reads its sources. */
  async started(): Promise<this> {
    await this.until(() => this.workers.every((worker) => worker.isOpen), "the workers start");
    return this;
  }

  async until(condition: () => boolean, what: string, limitMs = 120_000): Promise<void> {
    if (await this.world.runUntil(condition, limitMs)) return;
    const state = this.workers.map(({ name, shell, report, process }) => ({
      name,
      muted: shell?.muted(),
      report,
      stderr: process.stderr,
    }));
    assert.fail(`${what}: seed ${this.world.seed}, at ${this.world.now()}: ${JSON.stringify(state)}`);
  }

  /** A client of one source of one worker: sends framed texts, all of them so many times, and goes. */
  send(worker: number, source: number, texts: readonly string[], times = 1): { done: boolean } {
    const client = { done: false };
    const encoder = new TextEncoder();
    const once = Buffer.concat(texts.map((text) => encodeFrame(encoder.encode(text))));
    const bytes = new Uint8Array(once.length * times);
    for (let i = 0; i < times; i++) bytes.set(once, i * once.length);
    this.world.host(`client${++this.#clients}`).startProcess(async ({ net }) => {
      const address = { host: this.workers[worker]!.name, port: SOURCE_PORT + source };
      const conn = await net.connect(address, { timeoutMs: 60_000 });
      await conn.write(bytes);
      conn.end();
      client.done = true;
    });
    return client;
  }

  /** Everything that was read has gone through, as far as can be seen: nothing is queued or on its way. */
  get quiet(): boolean {
    return this.workers.every(
      ({ shell, links }) =>
        shell.sinks.every((sink) => sink.queuedBytes === 0) &&
        [...links.byPeer.values()].every((link) => link.frames === 0 && link.outstanding() === 0),
    );
  }

  get ingested(): number {
    return this.workers.reduce((sum, worker) => sum + worker.ingested, 0);
  }

  /** Stops all workers, as their driver would. */
  drain(withinMs = 7_000): void {
    for (const worker of this.workers) worker.drain(withinMs);
  }

  get drained(): boolean {
    return this.workers.every(({ report, process }) => report !== null || !process.alive);
  }
}

/** A worker's shell with what is around it. */
export class TestWorker {
  readonly name: string;
  readonly process: VirtualProcess;
  readonly log = new CollectedLog();
  readonly links: MemoryLinks;
  runtime!: Runtime;
  shell!: DataflowShell;
  isOpen = false;
  report: DrainReport | null = null;
  drainedAtMs = 0;
  ingested = 0;
  readonly #world: ShellWorld;
  #depth = 0;

  constructor(world: ShellWorld, name: string, names: readonly string[], options: ShellWorldOptions) {
    this.#world = world;
    this.name = name;
    this.links = new MemoryLinks(world, this);
    this.process = world.world.host(name).startProcess(async (runtime) => {
      this.runtime = runtime;
      const app = options.application(world.prng);
      const context = { args: [], options: {}, worker: name, workers: names.length, inputs: [] };
      const plan = planApplication(app, context);
      const config = {
        name,
        inputs: new Map(
          plan.sources.map((source, i) => [
            source.name,
            { host: "0.0.0.0", port: SOURCE_PORT + i, frameBytesMax: null },
          ]),
        ),
        outputs: world.sinks.map(({ port }) => ({ host: "out", port })),
        limits: world.limits,
        checkpoints: { intervalMs: null },
      } as unknown as WorkerConfig;
      this.shell = new DataflowShell({
        config,
        runtime,
        log: this.log,
        plan,
        meter: {
          decoded: () => {},
          ingested: (_pipeline, records) => {
            this.ingested += records;
          },
          stage: () => {},
          finished: () => {},
          left: () => {},
        },
        turn: (run) => this.turn(run),
        slowCode: () => {},
        letIn: () => {},
        toRegistry: () => {},
        reached: () => {},
        sinksConnected: () => {
          this.isOpen = true;
          this.shell.open();
        },
        voted: () => {},
        drained: (report) => {
          assert.equal(this.report, null, "drained is said once");
          this.report = report;
          this.drainedAtMs = world.world.now();
        },
      });
      await this.shell.sources.bind();
      const members = names.map((member) => ({
        name: member,
        control: { host: member, port: 1 },
        data: { host: member, port: 2 },
      }));
      const cluster = { clusterId: "c", generation: 1, routingVersion: 1, keyGroupCount: 64, members };
      this.turn(() => {
        this.shell.install(cluster as never, this.links, null);
        this.shell.startSinks();
      });
    });
  }

  turn(run: () => void): void {
    if (!this.process.alive) return;
    this.#depth++;
    try {
      run();
      if (this.#depth === 1) this.shell.flush();
    } finally {
      this.#depth--;
    }
  }

  drain(withinMs: number, peers?: readonly string[], away: readonly string[] = []): void {
    if (!this.process.alive) return;
    const all = this.#world.workers.filter((other) => other !== this && other.process.alive).map(({ name }) => name);
    this.turn(() => this.shell.drain.begin(withinMs, peers ?? all, away));
  }

  /** The others notice. */
  kill(): void {
    this.process.kill();
    for (const other of this.#world.workers) {
      if (other === this || !other.process.alive) continue;
      other.runtime.clock.startTimer(5, () => other.turn(() => other.shell.drain.peerGone(this.name)));
    }
  }
}

/** Of one worker: a link to each other one. */
class MemoryLinks implements BatchLinks {
  readonly byPeer = new Map<string, MemoryLink>();
  readonly #world: ShellWorld;
  readonly #owner: TestWorker;

  constructor(world: ShellWorld, owner: TestWorker) {
    this.#world = world;
    this.#owner = owner;
  }

  sendBatch(to: string, exchange: number, given: Uint8Array): void {
    const bytes = given.slice();
    const link = this.#linkTo(to);
    link.batch(exchange, bytes.length);
    link.deliver(bytes.length, (receiver) => receiver.shell.batch(this.#owner.name, exchange, bytes));
  }

  sendEnd(to: string, exchange: number): void {
    this.#linkTo(to).deliver(0, (receiver) => receiver.shell.endOfInput(this.#owner.name, exchange));
  }

  hasCredit(to: string, exchange: number): boolean {
    return this.#linkTo(to).hasCredit(exchange);
  }

  release(from: string, exchange: number, byteCount: number): void {
    const sender = this.#world.workers.find(({ name }) => name === from)!;
    sender.links.#linkTo(this.#owner.name).release(exchange, byteCount);
  }

  unacked(to: string): { readonly frames: number; readonly bytes: number } {
    const { frames, bytes } = this.#linkTo(to);
    return { frames, bytes };
  }

  #linkTo(to: string): MemoryLink {
    let link = this.byPeer.get(to);
    if (link === undefined) {
      link = new MemoryLink(this.#world, this.#owner, to);
      this.byPeer.set(to, link);
    }
    return link;
  }
}

class MemoryLink {
  /** Not acknowledged. */
  frames = 0;
  bytes = 0;
  /** The most that an exchange had sent and the receiver had not processed. */
  outstandingMax = 0;
  readonly #outstanding: number[] = [];
  readonly #world: ShellWorld;
  readonly #sender: TestWorker;
  readonly #to: string;
  #lastMs = 0;

  constructor(world: ShellWorld, sender: TestWorker, to: string) {
    this.#world = world;
    this.#sender = sender;
    this.#to = to;
  }

  outstanding(): number {
    return this.#outstanding.reduce((sum, bytes) => sum + (bytes ?? 0), 0);
  }

  hasCredit(exchange: number): boolean {
    return (this.#outstanding[exchange] ?? 0) < this.#world.limits.exchangeCreditBytes;
  }

  batch(exchange: number, byteCount: number): void {
    const outstanding = (this.#outstanding[exchange] ?? 0) + byteCount;
    this.#outstanding[exchange] = outstanding;
    this.outstandingMax = Math.max(this.outstandingMax, outstanding);
  }

  /** To a receiver that lives, in order, a moment later; then acknowledged. */
  deliver(byteCount: number, take: (receiver: TestWorker) => void): void {
    this.frames++;
    this.bytes += byteCount;
    const receiver = this.#world.workers.find(({ name }) => name === this.#to)!;
    if (!receiver.process.alive) return;
    const { world, prng } = this.#world;
    this.#lastMs = Math.max(this.#lastMs + 0.001, world.now() + prng.between(0.05, 3));
    world.at(this.#lastMs, () => {
      if (!receiver.process.alive) return;
      receiver.turn(() => take(receiver));
      this.#back(() => {
        this.frames--;
        this.bytes -= byteCount;
      });
    });
  }

  release(exchange: number, byteCount: number): void {
    this.#back(() => {
      const had = this.hasCredit(exchange);
      this.#outstanding[exchange]! -= byteCount;
      assert.ok(this.#outstanding[exchange]! >= 0, "no more is released than was sent");
      if (had !== this.hasCredit(exchange)) this.#sender.shell.creditChanged();
    });
  }

  #back(take: () => void): void {
    const { world, prng } = this.#world;
    world.at(world.now() + prng.between(0.05, 3), () => this.#sender.turn(take));
  }
}

/** Takes lines from any number of workers. */
export class TestSink {
  readonly port: number;
  /** By connection. */
  readonly connections: string[] = [];
  lineCount = 0;
  /** It stops reading while this is set. */
  stopped = false;
  readonly #world: ShellWorld;
  #process: VirtualProcess | null = null;

  constructor(world: ShellWorld, index: number) {
    this.#world = world;
    this.port = SINK_PORT + index;
  }

  get lines(): string[] {
    return this.connections.flatMap((text) => text.split("\n").slice(0, -1));
  }

  start(): void {
    const machine = this.#world.world;
    const host = machines.get(machine) ?? machine.host("out");
    machines.set(machine, host);
    this.#process = host.startProcess(async ({ net, clock }) => {
      await net.listen({
        host: "0.0.0.0",
        port: this.port,
        accept: (conn) => void this.#read(conn, clock),
        failed: () => {},
      });
    });
  }

  kill(): void {
    this.#process!.kill();
  }

  async #read(conn: Conn, clock: Runtime["clock"]): Promise<void> {
    const index = this.connections.push("") - 1;
    const decoder = new TextDecoder();
    try {
      for (;;) {
        while (this.stopped) await new Promise<void>((resolve) => clock.startTimer(1, resolve));
        const bytes = await conn.read();
        if (bytes === null) break;
        const text = decoder.decode(bytes, { stream: true });
        this.connections[index] += text;
        for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) this.lineCount++;
      }
      conn.end();
    } catch {
      // Cut.
    }
  }
}

/** All sinks listen on one machine. */
const machines = new WeakMap<VirtualWorld, ReturnType<VirtualWorld["host"]>>();
