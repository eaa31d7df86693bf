/** Stands where the sink of a test cluster is: takes lines, and can stop reading, go away and come back. */
import { createServer, type Server, type Socket } from "node:net";
import { freePorts, host } from "./ports.ts";
import { PATIENCE_MS, waitFor } from "./wait.ts";

interface SinkConnection {
  readonly socket: Socket;
  rest: Buffer;
}

export interface SinkOptions {
  readonly port?: number;
  /** Called with every whole line instead of keeping it. */
  readonly onLine?: (line: string) => void;
  /** Starts without reading. */
  readonly paused?: boolean;
}

export class Sink {
  readonly port: number;
  readonly lines: string[] = [];
  /** What was left without a line feed at the end of a connection: records cut in two. */
  readonly cut: string[] = [];
  lineCount = 0;
  byteCount = 0;
  /** Since the beginning. */
  connectionCount = 0;
  readonly #onLine: ((line: string) => void) | undefined;
  readonly #open = new Set<SinkConnection>();
  #server: Server | null = null;
  #paused: boolean;

  private constructor(port: number, options: SinkOptions) {
    this.port = port;
    this.#onLine = options.onLine;
    this.#paused = options.paused ?? false;
  }

  static async open(options: SinkOptions = {}): Promise<Sink> {
    const sink = new Sink(options.port ?? ((await freePorts(1))[0] as number), options);
    await sink.reopen();
    return sink;
  }

  get address(): string {
    return `${host}:${this.port}`;
  }

  get openConnections(): number {
    return this.#open.size;
  }

  /** Listens again on the same port. */
  async reopen(): Promise<void> {
    const server = createServer({ allowHalfOpen: false }, (socket) => this.#accept(socket));
    await new Promise<void>((done, failed) => {
      server.once("error", failed);
      server.listen({ host, port: this.port }, () => done());
    });
    this.#server = server;
  }

  /** Reads nothing more, on open connections and new ones. */
  pause(): void {
    this.#paused = true;
    for (const { socket } of this.#open) socket.pause();
  }

  resume(): void {
    this.#paused = false;
    for (const { socket } of this.#open) socket.resume();
  }

  /** Goes away at once: the listener and every connection. What the kernel holds unread is lost, as with a crash. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    for (const connection of [...this.#open]) {
      connection.socket.destroy();
      this.#ended(connection);
    }
    if (server !== null) await new Promise((done) => server.close(done));
  }

  async waitForLines(count: number, deadlineMs = PATIENCE_MS): Promise<void> {
    await waitFor(() => this.lineCount >= count, {
      what: `${count} lines at the sink`,
      deadlineMs,
      seen: () => `    it has ${this.lineCount}, the last ones: ${JSON.stringify(this.lines.slice(-3))}`,
    });
  }

  /** Until every connection has ended: what the kernel still held has been read. */
  async waitForEnds(deadlineMs = PATIENCE_MS): Promise<void> {
    await waitFor(() => this.#open.size === 0, { what: "all connections at the sink to end", deadlineMs });
  }

  #accept(socket: Socket): void {
    this.connectionCount += 1;
    const connection: SinkConnection = { socket, rest: Buffer.alloc(0) };
    this.#open.add(connection);
    if (this.#paused) socket.pause();
    socket.on("data", (bytes: Buffer) => this.#take(connection, bytes));
    socket.on("error", () => {});
    socket.on("close", () => this.#ended(connection));
  }

  #take(connection: SinkConnection, bytes: Buffer): void {
    if (!this.#open.has(connection)) return;
    this.byteCount += bytes.length;
    const end = bytes.lastIndexOf(10);
    if (end < 0) {
      connection.rest = Buffer.concat([connection.rest, bytes]);
      return;
    }
    const text = Buffer.concat([connection.rest, bytes.subarray(0, end)]).toString("utf8");
    connection.rest = Buffer.from(bytes.subarray(end + 1));
    for (const line of text.split("\n")) {
      this.lineCount += 1;
      if (this.#onLine !== undefined) this.#onLine(line);
      else this.lines.push(line);
    }
  }

  #ended(connection: SinkConnection): void {
    if (!this.#open.delete(connection)) return;
    if (connection.rest.length > 0) this.cut.push(connection.rest.toString("utf8"));
  }
}
