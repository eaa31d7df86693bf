/**
 * Whole clusters of the real worker on the virtual runtime: workers, each on a machine of its own, a sink that keeps the
 * lines it gets, and senders. No port, no file, no waiting.
 */
import { application, framed, source, tcpSink, tcpSource } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import { TammarError } from "../../src/base/errors.ts";
import { INITIALIZER } from "../../src/base/ids.ts";
import type { Conn, Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { VirtualWorld, type WorldOptions } from "../../src/runtime/virtual/world.ts";
import {
  DEFAULT_LIMITS,
  DEFAULT_TIMING,
  type Limits,
  NO_CHECKPOINTS,
  type WorkerConfig,
} from "../../src/worker/config.ts";
import { runWorker } from "../../src/worker/worker.ts";

export const PORTS = { control: 7000, data: 7001, external: 7002, source: 7010, sink: 7100 } as const;
export const SINK = "sink";

/** Framed text `key value`; state: the last four values of the key; output: `key v v v v`. */
export function lastFour(): Application {
  return application("Last four", () =>
    source(
      "numbers",
      tcpSource({
        framing: framed.u32,
        decode: (payload) => {
          const [key, value] = payload.text().split(" ");
          if (key === undefined || value === undefined) throw new Error(`not "key value"`);
          return { key, value: Number(value) };
        },
      }),
    )
      .keyBy((record) => record.key)
      .toStateful("last four", {
        initial: () => ({ window: [0, 0, 0, 0] }),
        apply(record, state) {
          state.window = [...state.window.slice(1), record.value];
          return `${record.key} ${state.window.join(" ")}`;
        },
      })
      .toSink(tcpSink({ encode: (line) => `${line}\n` })),
  );
}

export interface ClusterOptions extends WorldOptions {
  readonly workers: number;
  readonly application?: () => Application;
  readonly limits?: Partial<Limits>;
  readonly config?: Partial<WorkerConfig>;
  /** What a worker sees in place of its runtime. */
  readonly runtime?: (runtime: Runtime, name: string) => Runtime;
}

export class VirtualCluster {
  readonly world: VirtualWorld;
  readonly names: readonly string[];
  readonly machines: ReadonlyMap<string, VirtualHost>;
  readonly sink: VirtualSink;
  #senders = 0;
  readonly #options: ClusterOptions;
  /** The latest process of each worker. */
  readonly processes = new Map<string, WorkerProcess>();

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.world = new VirtualWorld(options);
    this.names = [INITIALIZER, ...Array.from({ length: options.workers - 1 }, (_, i) => `w${i + 1}`)];
    this.machines = new Map(this.names.map((name) => [name, this.world.host(name)]));
    this.sink = new VirtualSink(this.world.host(SINK));
  }

  /** Starts the worker, or starts it again, with the same command line. */
  start(name: string, change: Partial<WorkerConfig> = {}): WorkerProcess {
    const config = { ...this.configOf(name), ...change };
    const worker = new WorkerProcess(name);
    worker.process = this.machines
      .get(name)!
      .startProcess((runtime) => worker.run(config, this.#options.runtime?.(runtime, name) ?? runtime));
    this.processes.set(name, worker);
    return worker;
  }

  startAll(): void {
    for (const name of this.names) this.start(name);
  }

  configOf(name: string): WorkerConfig {
    const isInitializer = name === INITIALIZER;
    const own = { host: name, port: 0 };
    return {
      role: isInitializer ? "initializer" : "worker",
      name,
      workerCount: isInitializer ? this.names.length : 1,
      controlListen: isInitializer ? { host: "0.0.0.0", port: PORTS.control } : own,
      dataListen: isInitializer ? { host: "0.0.0.0", port: PORTS.data } : own,
      initializerControl: isInitializer ? null : { host: INITIALIZER, port: PORTS.control },
      externalListen: { host: "0.0.0.0", port: PORTS.external },
      metrics: null,
      inputs: new Map([["numbers", { host: "0.0.0.0", port: PORTS.source, frameBytesMax: null }]]),
      outputs: [{ host: SINK, port: PORTS.sink }],
      resilienceDir: "/tmp",
      application: (this.#options.application ?? lastFour)(),
      applicationOptions: {},
      rawArguments: [],
      buildId: "build",
      applicationCodeDigest: "code",
      checkpoints: NO_CHECKPOINTS,
      timing: DEFAULT_TIMING,
      limits: { ...DEFAULT_LIMITS, ...this.#options.limits },
      ...this.#options.config,
    };
  }

  /** Until every worker has said `INIT PHASE IV` in its present life. */
  working(limitMs = 30_000): Promise<boolean> {
    return this.world.runUntil(
      () => this.names.every((name) => this.processes.get(name)?.said("INIT PHASE IV") === true),
      limitMs,
    );
  }

  /** Sends records to a worker's source, in order, from a machine of its own. */
  send(to: string, records: readonly string[], options: { readonly perMs?: number } = {}): VirtualSender {
    this.#senders++;
    return new VirtualSender(this.world.host(`sender${this.#senders}`), to, records, options.perMs ?? 50);
  }

  async exited(limitMs = 15_000): Promise<boolean> {
    return this.world.runUntil(() => [...this.processes.values()].every((worker) => worker.status !== null), limitMs);
  }
}

export class WorkerProcess {
  readonly name: string;
  readonly lines: string[] = [];
  process!: VirtualProcess;
  status: number | null = null;
  error: unknown = null;

  constructor(name: string) {
    this.name = name;
  }

  async run(config: WorkerConfig, runtime: Runtime): Promise<void> {
    const say = (level: string) => (code: string, text: string) => {
      this.lines.push(`${runtime.clock.wallMs() % 1e8} ${level} ${code}: ${text}`);
    };
    const log = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") };
    try {
      this.status = await runWorker(config, runtime, log);
    } catch (error) {
      this.error = error;
      this.status = error instanceof TammarError ? error.exitStatus : 70;
    }
    runtime.host.exit(this.status);
  }

  said(text: string): boolean {
    return this.lines.some((line) => line.includes(text));
  }
}

/** Listens, reads as long as it is asked to, keeps whole lines and what was cut at the end of a connection. */
export class VirtualSink {
  readonly lines: string[] = [];
  readonly cutLines: string[] = [];
  reading = true;
  #process: VirtualProcess | null = null;
  readonly #machine: VirtualHost;
  #resume: (() => void)[] = [];

  constructor(machine: VirtualHost) {
    this.#machine = machine;
    this.open();
  }

  open(): void {
    this.#process = this.#machine.startProcess(async (runtime) => {
      await runtime.net.listen({
        host: "0.0.0.0",
        port: PORTS.sink,
        accept: (conn) => void this.#read(conn),
        failed: () => {},
      });
    });
  }

  close(): void {
    this.#process?.kill();
    this.#process = null;
  }

  pause(): void {
    this.reading = false;
  }

  resume(): void {
    this.reading = true;
    for (const resume of this.#resume.splice(0)) resume();
  }

  async #read(conn: Conn): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    try {
      for (;;) {
        if (!this.reading) await new Promise<void>((resolve) => this.#resume.push(resolve));
        const bytes = await conn.read();
        if (bytes === null) break;
        const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
        rest = parts.pop()!;
        this.lines.push(...parts);
      }
      conn.end();
    } catch {
      // Cut: what came whole counts.
    }
    if (rest !== "") this.cutLines.push(rest);
  }
}

/** Connects to a worker's source and writes its records; a lost connection is the end of it. */
export class VirtualSender {
  sent = 0;
  done = false;
  failed: unknown = null;

  constructor(machine: VirtualHost, to: string, records: readonly string[], perMs: number) {
    machine.startProcess(async (runtime) => {
      const encoder = new TextEncoder();
      try {
        const conn = await runtime.net.connect({ host: to, port: PORTS.source }, { timeoutMs: 10_000 });
        for (let at = 0; at < records.length; ) {
          const frames: number[] = [];
          const until = Math.min(records.length, at + Math.max(1, Math.round(perMs)));
          for (; at < until; at++) {
            const bytes = encoder.encode(records[at]!);
            frames.push(
              bytes.length >>> 24,
              (bytes.length >>> 16) & 255,
              (bytes.length >>> 8) & 255,
              bytes.length & 255,
              ...bytes,
            );
          }
          await conn.write(new Uint8Array(frames));
          this.sent = at;
          await new Promise<void>((resolve) => runtime.clock.startTimer(1, resolve));
        }
        conn.end();
      } catch (error) {
        this.failed = error;
      }
      this.done = true;
    });
  }
}

/** Records 1 to `count` of each of `keys` keys, in turn. */
export function sequences(keys: number, count: number, prefix = "key"): string[] {
  const records: string[] = [];
  for (let value = 1; value <= count; value++) {
    for (let key = 0; key < keys; key++) records.push(`${prefix}${key} ${value}`);
  }
  return records;
}

/** What `lastFour` puts out for `sequences`, key by key. */
export function expectedLines(keys: number, count: number, prefix = "key"): Map<string, string[]> {
  const lines = new Map<string, string[]>();
  for (let key = 0; key < keys; key++) {
    const name = `${prefix}${key}`;
    lines.set(
      name,
      Array.from({ length: count }, (_, i) => [i - 2, i - 1, i, i + 1].map((v) => Math.max(0, v)).join(" ")).map(
        (window) => `${name} ${window}`,
      ),
    );
  }
  return lines;
}

export function byKey(lines: readonly string[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of lines) {
    const key = line.slice(0, line.indexOf(" "));
    const list = found.get(key);
    if (list === undefined) found.set(key, [line]);
    else list.push(line);
  }
  return found;
}
