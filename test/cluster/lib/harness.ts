/**
 * Drives a cluster as the harness of the original's suites does: the old program names, the same arguments in the same
 * order, 50 ms between two starts, status queries by the old tool until all process messages, SIGTERM at the end.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePorts, host } from "./ports.ts";
import { Program, root, runTammar } from "./process.ts";
import { sleep, waitFor } from "./wait.ts";

export interface HarnessOptions {
  /** The command with the application's own options: `machida3 --application-module alphabet`. */
  readonly command: string;
  readonly workers: number;
  /** As they stand in `--in` before the `@`. */
  readonly sources?: readonly string[];
  /** Behind each address in `--in`. */
  readonly inputTail?: string;
  /** Nothing goes to an address of `--out`, so it is left out. */
  readonly withoutOut?: boolean;
  /** What `--name` of the initializer says, which counts for nothing. */
  readonly initializerName?: string;
}

/** Keeps all bytes, connection by connection. */
export class ByteSink {
  readonly #server: Server;
  readonly #parts: Buffer[][] = [];
  byteCount = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open(port: number): Promise<ByteSink> {
    const server = createServer();
    const sink = new ByteSink(server);
    server.on("connection", (socket) => {
      const parts: Buffer[] = [];
      sink.#parts.push(parts);
      socket.on("error", () => {});
      socket.on("data", (bytes: Buffer) => {
        parts.push(bytes);
        sink.byteCount += bytes.length;
      });
    });
    await new Promise<void>((done, failed) => {
      server.once("error", failed);
      server.listen({ host, port }, () => done());
    });
    return sink;
  }

  /** What came on each connection. */
  bytes(): Buffer[] {
    return this.#parts.map((parts) => Buffer.concat(parts));
  }

  /** Frames of each connection. A piece at the end, or a frame of length 0, is an error. */
  frames(whole = true): Buffer[][] {
    return this.bytes().map((bytes) => {
      const frames: Buffer[] = [];
      let at = 0;
      while (at + 4 <= bytes.length) {
        const end = at + 4 + bytes.readUInt32BE(at);
        if (end === at + 4) throw new Error("a frame of length 0");
        if (end > bytes.length) break;
        frames.push(bytes.subarray(at + 4, end));
        at = end;
      }
      if (whole && at < bytes.length) throw new Error(`${bytes.length - at} bytes of a record that was cut`);
      return frames;
    });
  }

  /** Lines of all connections, one after the other. */
  lines(): string[] {
    return this.bytes()
      .flatMap((bytes) => bytes.toString("utf8").split("\n"))
      .filter((line) => line !== "");
  }

  close(): Promise<void> {
    return new Promise((done) => {
      this.#server.close(() => done());
    });
  }
}

interface Place {
  readonly name: string;
  readonly control: string;
  readonly data: string;
  readonly external: string;
  readonly sources: readonly number[];
}

export class Harness {
  readonly options: HarnessOptions;
  readonly sink: ByteSink;
  readonly folder: string;
  readonly places: readonly Place[];
  readonly programs: Program[] = [];
  readonly #out: string;
  readonly #metrics: string;

  private constructor(options: HarnessOptions, ports: readonly number[], folder: string, sink: ByteSink) {
    this.options = options;
    this.folder = folder;
    this.sink = sink;
    const [out, metrics, ...rest] = ports;
    this.#out = `${host}:${out}`;
    this.#metrics = `${host}:${metrics}`;
    const each = 3 + (options.sources?.length ?? 0);
    this.places = Array.from({ length: options.workers }, (_, at) => {
      const [control, data, external, ...sources] = rest.slice(at * each, (at + 1) * each);
      const address = (port: number | undefined) => `${host}:${port}`;
      return {
        name: at === 0 ? "initializer" : `worker${at}`,
        control: address(control),
        data: address(data),
        external: address(external),
        sources,
      };
    });
  }

  static async open(options: HarnessOptions): Promise<Harness> {
    const ports = await freePorts(2 + options.workers * (3 + (options.sources?.length ?? 0)));
    const folder = mkdtempSync(join(tmpdir(), "tammar-harness-"));
    mkdirSync(join(folder, "resilience"));
    const links = await runTammar(["links", join(folder, "bin")]);
    if (links.status !== 0) throw new Error(links.output);
    return new Harness(options, ports, folder, await ByteSink.open(ports[0] as number));
  }

  commandLine(at: number): string[] {
    const { command, sources = [], inputTail = "", workers, withoutOut, initializerName } = this.options;
    const place = this.places[at] as Place;
    const inputs = sources.map((name, index) => `${name}@${host}:${place.sources[index]}${inputTail}`);
    return [
      ...command.split(" ").slice(1),
      ...(inputs.length === 0 ? [] : ["--in", inputs.join(",")]),
      ...(withoutOut === true ? [] : ["--out", this.#out]),
      ...["--metrics", this.#metrics, "--resilience-dir", join(this.folder, "resilience")],
      ...["--name", at === 0 ? (initializerName ?? place.name) : place.name],
      ...(at === 0
        ? [
            ...["--worker-count", `${workers}`, "--data", place.data, "--external", place.external],
            ...["--cluster-initializer", "--control", place.control],
          ]
        : [
            ...["--my-control", place.control, "--my-data", place.data, "--external", place.external],
            ...["--control", this.places[0]!.control],
          ]),
      ...["--ponythreads=1", "--ponypinasio", "--ponynoblock"],
    ];
  }

  start(at: number): void {
    const name = this.options.command.split(" ")[0] as string;
    this.programs[at] = new Program(this.places[at]!.name, this.commandLine(at), {
      command: [join(this.folder, "bin", name)],
      cwd: join(root, "test/compat/apps"),
    });
  }

  async startAll(): Promise<void> {
    for (const at of this.places.keys()) {
      this.start(at);
      await sleep(50);
    }
    await this.waitReady();
    const { worker_count, worker_names } = await this.query<{ worker_count: number; worker_names: string[] }>(
      0,
      "cluster-status-query",
    );
    if (worker_count !== this.places.length || worker_names.length !== worker_count) throw new Error("other workers");
  }

  /** Until every worker answers that it processes messages. */
  async waitReady(): Promise<void> {
    for (const [at, { name }] of this.places.entries()) {
      await waitFor(
        async () => {
          const { end } = this.programs[at]!;
          if (end !== null) throw new Error(`${name} ended: ${JSON.stringify(end)}`);
          const { status, stdout } = await this.#ask(at, "cluster-status-query");
          return status === 0 && (JSON.parse(stdout) as { processing_messages: boolean }).processing_messages;
        },
        { what: `${name} to process messages`, everyMs: 200, seen: () => this.tails() },
      );
    }
  }

  async query<T>(at: number, type: string): Promise<T> {
    const { status, stdout, output } = await this.#ask(at, type);
    if (status !== 0) throw new Error(`${type}: ${output}`);
    return JSON.parse(stdout) as T;
  }

  #ask(at: number, type: string): ReturnType<typeof runTammar> {
    return runTammar(["--external", this.places[at]!.external, "--type", type, "--json"], {
      command: [join(this.folder, "bin", "external_sender")],
    });
  }

  /** SIGTERM to all; what each ended with. */
  async stop(): Promise<(number | string)[]> {
    for (const program of this.programs) program.signal("SIGTERM");
    const ended = [];
    for (const program of this.programs) ended.push(await program.exit(90_000));
    return ended.map(({ status, signal }) => status ?? signal ?? "?");
  }

  tails(): string {
    return this.programs.map((program) => program.tail()).join("\n");
  }

  async close(): Promise<void> {
    for (const program of this.programs) if (program.end === null) await program.kill();
    await this.sink.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function withHarness(options: HarnessOptions, body: (harness: Harness) => Promise<void>): Promise<void> {
  const harness = await Harness.open(options);
  try {
    await body(harness);
  } catch (error) {
    console.log(harness.tails());
    throw error;
  } finally {
    await harness.close();
  }
}
