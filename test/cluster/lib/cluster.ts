/**
 * A cluster of real processes on this machine, with the operator's own command lines.
 *
 * `withCluster` makes it and always clears up: processes it started are ended by their id, its folder is removed. When the
 * test fails, the last lines of every worker are printed.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Status, status } from "./external.ts";
import { freePorts, host } from "./ports.ts";
import { type Ended, Program, type Result, root, runTammar, type SpawnOptions } from "./process.ts";
import { Sink, type SinkOptions } from "./sink.ts";
import { PATIENCE_MS, waitFor } from "./wait.ts";

export const PHASE_IV = "|~~ INIT PHASE IV: Cluster is ready to work! ~~|";
export const PHASE_III = "|~~ INIT PHASE III: Application is ready to work! ~~|";

export const examples = {
  alerts: join(root, "examples/alerts.ts"),
  celsius: join(root, "examples/celsius.ts"),
  wordCount: join(root, "examples/word_count.ts"),
  ledger: join(root, "examples/ledger.ts"),
} as const;

export interface ClusterOptions {
  /** As given to `--application-module`. */
  readonly application: string;
  readonly workers: number;
  /** Names of its TCP sources: each worker listens on a port of its own for each. */
  readonly sources?: readonly string[];
  /** The sink that `--out` names; `null`: a port where nobody listens. */
  readonly sink?: SinkOptions | null;
  /** Further arguments of every worker, or of each. */
  readonly extra?: readonly string[] | ((index: number) => readonly string[]);
  readonly metricsPort?: number;
  readonly spawn?: SpawnOptions;
  /** Instead of `worker --application-module …`, for a binary that is an application. */
  readonly lead?: readonly string[];
}

export interface WorkerPlace {
  readonly name: string;
  readonly control: number;
  readonly data: number;
  readonly external: number;
  /** By the name of the source. */
  readonly sources: ReadonlyMap<string, number>;
}

export class Cluster {
  readonly options: ClusterOptions;
  readonly dir: string;
  readonly places: readonly WorkerPlace[];
  readonly sink: Sink | null;
  readonly outPort: number;
  /** The running or last process of each worker. */
  readonly programs: (Program | undefined)[] = [];
  readonly #all: Program[] = [];

  private constructor(
    options: ClusterOptions,
    dir: string,
    places: readonly WorkerPlace[],
    sink: Sink | null,
    outPort: number,
  ) {
    this.options = options;
    this.dir = dir;
    this.places = places;
    this.sink = sink;
    this.outPort = outPort;
  }

  static async make(options: ClusterOptions): Promise<Cluster> {
    const sources = options.sources ?? [];
    const each = 3 + sources.length;
    const ports = await freePorts(options.workers * each + 1);
    const places = Array.from({ length: options.workers }, (_, index): WorkerPlace => {
      const own = ports.slice(index * each, (index + 1) * each);
      return {
        name: index === 0 ? "initializer" : `worker${index}`,
        control: own[0] as number,
        data: own[1] as number,
        external: own[2] as number,
        sources: new Map(sources.map((name, at) => [name, own[3 + at] as number])),
      };
    });
    const outPort = ports.at(-1) as number;
    const sink = options.sink === null ? null : await Sink.open({ ...options.sink, port: outPort });
    return new Cluster(options, mkdtempSync(join(tmpdir(), "tammar-cluster-")), places, sink, outPort);
  }

  place(index: number): WorkerPlace {
    return this.places[index] as WorkerPlace;
  }

  program(index: number): Program {
    const program = this.programs[index];
    if (program === undefined) throw new Error(`worker ${index} was never started`);
    return program;
  }

  sourcePort(index: number, name: string): number {
    return this.place(index).sources.get(name) as number;
  }

  /** What `index` is started with: the same at every start. */
  commandLine(index: number): string[] {
    const place = this.place(index);
    const { application, extra, lead, metricsPort, workers } = this.options;
    const inputs = [...place.sources].map(([name, port]) => `${name}@${host}:${port}`);
    return [
      ...(lead ?? ["worker", "--application-module", application]),
      ...(inputs.length === 0 ? [] : ["--in", inputs.join(",")]),
      ...["--out", `${host}:${this.outPort}`],
      ...(metricsPort === undefined ? [] : ["--metrics", `${host}:${metricsPort}`]),
      ...["--resilience-dir", this.dir, "--name", place.name],
      ...(index === 0
        ? [
            ...["--worker-count", `${workers}`, "--data", `${host}:${place.data}`, "--external"],
            ...[`${host}:${place.external}`, "--cluster-initializer", "--control", `${host}:${place.control}`],
          ]
        : [
            ...["--my-control", `${host}:${place.control}`, "--my-data", `${host}:${place.data}`],
            ...["--external", `${host}:${place.external}`, "--control", `${host}:${this.place(0).control}`],
          ]),
      ...["--ponythreads=1", "--ponypinasio", "--ponynoblock"],
      ...(typeof extra === "function" ? extra(index) : (extra ?? [])),
    ];
  }

  start(index: number): Program {
    const program = this.run(this.place(index).name, this.commandLine(index));
    this.programs[index] = program;
    return program;
  }

  /** Some other process that belongs to this test. */
  run(label: string, args: readonly string[], options: SpawnOptions = {}): Program {
    const program = new Program(label, args, { ...this.options.spawn, ...options });
    this.#all.push(program);
    return program;
  }

  /** Starts all, in the order given, and waits for Phase IV everywhere. */
  async startAll(order: readonly number[] = this.places.map((_, index) => index)): Promise<void> {
    for (const index of order) this.start(index);
    await this.waitReady();
  }

  /** Until every worker says that it processes messages and knows all the others. */
  async waitReady(deadlineMs = PATIENCE_MS): Promise<void> {
    for (const index of this.places.keys()) await this.waitWorkerReady(index, deadlineMs);
  }

  async waitWorkerReady(index: number, deadlineMs = PATIENCE_MS): Promise<void> {
    const place = this.place(index);
    let last: Status | null = null;
    await waitFor(
      async () => {
        const program = this.program(index);
        if (program.end !== null) {
          throw new Error(`${place.name} ended with ${JSON.stringify(program.end)}\n${program.tail()}`);
        }
        last = await status(place.external);
        return last?.processing_messages === true && last.worker_count === this.places.length;
      },
      {
        what: `${place.name} to process messages in a cluster of ${this.places.length}`,
        deadlineMs,
        everyMs: 50,
        seen: () => `    last status: ${JSON.stringify(last)}\n${this.program(index).tail()}`,
      },
    );
  }

  status(index: number): Promise<Status | null> {
    return status(this.place(index).external);
  }

  /** `tammar shutdown` through the worker's external channel. */
  shutdownThrough(index: number): Promise<Result> {
    return runTammar(["shutdown", `${host}:${this.place(index).external}`]);
  }

  /** The exit status of every worker that was started; their last processes. */
  async exits(deadlineMs = PATIENCE_MS): Promise<(number | string)[]> {
    const ended = await Promise.all(this.programs.map((program) => (program as Program).exit(deadlineMs)));
    return ended.map(({ status: code, signal }: Ended) => code ?? signal ?? "unknown");
  }

  /** Every file and folder in the resilience directory. */
  files(): string[] {
    return existsSync(this.dir) ? readdirSync(this.dir, { recursive: true, encoding: "utf8" }).sort() : [];
  }

  tails(): string {
    return this.#all.map((program) => program.tail()).join("\n");
  }

  async close(): Promise<void> {
    for (const program of this.#all) if (program.end === null) await program.kill();
    await this.sink?.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Makes a cluster, starts nothing, hands it to `body`, and clears up whatever happens. */
export async function withCluster(options: ClusterOptions, body: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.make(options);
  try {
    await body(cluster);
  } catch (error) {
    console.log(cluster.tails());
    throw error;
  } finally {
    await cluster.close();
  }
}

/** A new folder, removed afterwards. */
export async function withFolder(body: (path: string) => Promise<void>): Promise<void> {
  const path = mkdtempSync(join(tmpdir(), "tammar-folder-"));
  try {
    await body(path);
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

/** With a sink of the test's own beside the cluster; see `ClusterOptions.sink`. */
export function sinkOf(cluster: Cluster): Sink {
  if (cluster.sink === null) throw new Error("this cluster was made without a sink");
  return cluster.sink;
}

/** Says on one line why something can't be tried on this machine (`test/run.ts` repeats it at the end). */
export function notRunHere(what: string, why: string): void {
  console.log(`not run here: ${what}: ${why}`);
}
