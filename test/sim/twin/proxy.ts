/**
 * The network of a twin: every connection goes through here (`dial.ts`), so that what happens between real processes can be
 * what happens in the virtual network. It holds back, delays, resets and refuses by the names of machines.
 *
 * P1. Inside a connection each direction is an ordered pipe; backpressure goes through.
 * P2. A blocked way gives no event at all; what was sent comes when it opens. A reset is not sent again: the other end stays
 *     half-open until it sends something itself.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Address, Millis } from "../../../src/runtime/runtime.ts";
import type { Arrival, ConnectionView, Way } from "../../../src/runtime/virtual/network.ts";
import type { StageNetwork } from "../../../src/simulation/stage.ts";
import { DIAL_LINE_MAX } from "./dial.ts";

/** What a pipe holds before it stops reading. */
const HELD_BYTES_MAX = 128 * 1024;
/** So that the kernel does not join them again. */
const BETWEEN_PIECES_MS: Millis = 1;
/** How often a blocked attempt to connect is tried again, as SYN is. */
const SYN_RETRY_MS: Millis = 200;

export interface Target {
  readonly server: string;
  /** As scenarios know it. */
  readonly port: number;
  /** Where it really listens. */
  readonly real: Address;
}

export interface ProxyOptions {
  /** Null: nobody listens there. */
  readonly resolve: (address: Address) => Target | null;
  /** Loopback address that a machine's connections come from. */
  readonly ipOf: (machine: string) => string;
  /** One way, from everybody to everybody. */
  readonly latency: { readonly minMs: Millis; readonly maxMs: Millis };
  /** One piece in so many arrives in two, cut at a random place. */
  readonly cutOneIn: number;
}

/** One direction of one link. */
interface Pipe {
  readonly from: Socket;
  readonly to: Socket;
  readonly fromName: string;
  readonly toName: string;
  blackholed: boolean;
  readonly queue: { readonly dueMs: Millis; readonly what: Uint8Array | "end" }[];
  heldBytes: number;
  full: boolean;
  timer: ReturnType<typeof setTimeout> | null;
  lastDueMs: Millis;
}

interface Link extends ConnectionView {
  readonly pipes: readonly [Pipe, Pipe];
}

export class TwinProxy implements StageNetwork {
  connectFault: StageNetwork["connectFault"] = null;
  onArrival: ((connection: ConnectionView, from: "client" | "server", what: Arrival) => void) | null = null;
  /** What a process reads, and calls that fail, are its own affair here. */
  onRead: StageNetwork["onRead"] = null;
  callFault: StageNetwork["callFault"] = null;
  readonly #options: ProxyOptions;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #waiting = new Set<Socket>();
  readonly #blocked = new Set<string>();
  readonly #latencies = new Map<string, { minMs: Millis; maxMs: Millis }>();
  #linkId = 0;
  #closed = false;

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accepted(socket));
  }

  static async listen(options: ProxyOptions): Promise<TwinProxy> {
    const proxy = new TwinProxy(options);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once("error", reject);
      proxy.#server.listen({ host: "127.0.0.1", port: 0, backlog: 512 }, resolve);
    });
    return proxy;
  }

  get address(): Address {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("The proxy does not listen");
    return { host: address.address, port: address.port };
  }

  close(): void {
    this.#closed = true;
    this.#server.close();
    for (const socket of this.#waiting) socket.destroy();
    for (const link of [...this.#links]) this.#drop(link);
  }

  // What a scenario does to it.

  partition(a: string, b: string, { way = "both" }: { way?: Way } = {}): void {
    if (way !== "back") this.#blocked.add(`${a}>${b}`);
    if (way !== "forward") this.#blocked.add(`${b}>${a}`);
  }

  heal(a?: string, b?: string): void {
    if (a === undefined || b === undefined) {
      this.#blocked.clear();
      for (const { pipes } of this.#links) for (const pipe of pipes) pipe.blackholed = false;
    } else {
      this.#blocked.delete(`${a}>${b}`);
      this.#blocked.delete(`${b}>${a}`);
    }
    this.#pumpAll();
  }

  cut(choose: (connection: ConnectionView) => boolean): number {
    const chosen = [...this.#links].filter(choose);
    for (const link of chosen) this.#drop(link);
    return chosen.length;
  }

  blackhole(choose: (connection: ConnectionView) => boolean, { way = "both" }: { way?: Way } = {}): number {
    const chosen = [...this.#links].filter(choose);
    for (const { pipes } of chosen) {
      if (way !== "back") pipes[0].blackholed = true;
      if (way !== "forward") pipes[1].blackholed = true;
    }
    return chosen.length;
  }

  openAgain(choose: (connection: ConnectionView) => boolean): void {
    for (const { pipes } of [...this.#links].filter(choose)) for (const pipe of pipes) pipe.blackholed = false;
    this.#pumpAll();
  }

  setLatency(a: string, b: string, latency: { minMs: Millis; maxMs: Millis }): void {
    this.#latencies.set(`${a}>${b}`, latency);
    this.#latencies.set(`${b}>${a}`, latency);
  }

  resetLatency(a: string, b: string): void {
    this.#latencies.delete(`${a}>${b}`);
    this.#latencies.delete(`${b}>${a}`);
  }

  resetLatencies(): void {
    this.#latencies.clear();
  }

  // Connections.

  #accepted(socket: Socket): void {
    this.#waiting.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#waiting.delete(socket));
    let line = "";
    const read = (bytes: Buffer): void => {
      line += bytes.toString("latin1");
      if (!line.includes("\n")) {
        if (line.length > DIAL_LINE_MAX) socket.destroy();
        return;
      }
      socket.off("data", read);
      socket.pause();
      const [, client, host, port] = /^(\S+) (\S+):(\d+)\n$/.exec(line) ?? [];
      if (client === undefined) socket.destroy();
      else this.#dial(socket, client, { host: host!, port: Number(port) });
    };
    socket.on("data", read);
  }

  /** Until the way is open both ways, the target is known, and nobody wants it otherwise. */
  #dial(socket: Socket, client: string, address: Address): void {
    if (socket.destroyed || this.#closed) return;
    const target = this.#options.resolve(address);
    if (target === null) return this.#refuse(socket);
    const fault = this.connectFault?.(client, target.server, target.port) ?? null;
    if (fault === "refuse") return this.#refuse(socket);
    if (fault === "drop" || this.#isBlocked(client, target.server) || this.#isBlocked(target.server, client)) {
      setTimeout(() => this.#dial(socket, client, address), SYN_RETRY_MS);
      return;
    }
    const roundTripMs = this.#latencyMs(client, target.server) + this.#latencyMs(target.server, client);
    setTimeout(() => this.#connect(socket, client, target), roundTripMs);
  }

  #refuse(socket: Socket): void {
    socket.end("-");
    socket.resume();
  }

  #connect(socket: Socket, client: string, target: Target): void {
    if (socket.destroyed || this.#closed) return;
    const upstream = connect({
      ...target.real,
      localAddress: this.#options.ipOf(client),
      allowHalfOpen: true,
      noDelay: true,
    });
    const failed = (): void => {
      upstream.destroy();
      this.#refuse(socket);
    };
    upstream.once("error", failed);
    upstream.once("connect", () => {
      upstream.off("error", failed);
      upstream.on("error", () => upstream.destroy());
      if (socket.destroyed || this.#closed) return reset(upstream);
      this.#waiting.delete(socket);
      socket.write("+");
      this.#join(socket, client, upstream, target);
    });
  }

  #join(socket: Socket, client: string, upstream: Socket, { server, port }: Target): void {
    const pipe = (from: Socket, to: Socket, fromName: string, toName: string): Pipe => ({
      from,
      to,
      fromName,
      toName,
      blackholed: false,
      queue: [],
      heldBytes: 0,
      full: false,
      timer: null,
      lastDueMs: 0,
    });
    const link: Link = {
      id: ++this.#linkId,
      client,
      server,
      port,
      pipes: [pipe(socket, upstream, client, server), pipe(upstream, socket, server, client)],
    };
    this.#links.add(link);
    this.#read(link, 0);
    this.#read(link, 1);
  }

  #read(link: Link, side: 0 | 1): void {
    const pipe = link.pipes[side];
    const { from, to } = pipe;
    let ended = false;
    const push = (what: Uint8Array | "end", behindMs: Millis = 0): void => {
      const latencyMs = this.#latencyMs(pipe.fromName, pipe.toName);
      pipe.lastDueMs = Math.max(pipe.lastDueMs + behindMs, performance.now() + latencyMs);
      pipe.queue.push({ dueMs: pipe.lastDueMs, what });
      this.#pump(link, pipe);
    };
    from.on("data", (bytes: Buffer) => {
      pipe.heldBytes += bytes.length;
      if (pipe.heldBytes > HELD_BYTES_MAX) from.pause();
      const piece = new Uint8Array(bytes);
      if (piece.length < 2 || Math.random() * this.#options.cutOneIn >= 1) return push(piece);
      const at = 1 + Math.floor(Math.random() * (piece.length - 1));
      push(piece.subarray(0, at));
      push(piece.subarray(at), BETWEEN_PIECES_MS);
    });
    from.on("end", () => {
      ended = true;
      push("end");
    });
    from.on("close", () => {
      // Cut: what is on its way vanishes, and the other end hears of it if the way is open.
      if (!ended && !this.#isHeld(pipe)) {
        const latencyMs = this.#latencyMs(pipe.fromName, pipe.toName);
        setTimeout(() => {
          if (!this.#isHeld(pipe)) this.#drop(link);
        }, latencyMs);
      }
      if (from.destroyed && to.destroyed) this.#links.delete(link);
    });
    to.on("drain", () => {
      pipe.full = false;
      this.#pump(link, pipe);
    });
    from.resume();
  }

  #pump(link: Link, pipe: Pipe): void {
    if (pipe.timer !== null) {
      clearTimeout(pipe.timer);
      pipe.timer = null;
    }
    while (pipe.queue.length > 0 && !pipe.full && !this.#isHeld(pipe)) {
      const { dueMs, what } = pipe.queue[0]!;
      const restMs = dueMs - performance.now();
      if (restMs > 0) {
        pipe.timer = setTimeout(() => {
          pipe.timer = null;
          this.#pump(link, pipe);
        }, Math.ceil(restMs));
        return;
      }
      // Nobody is there any more: who sends to it is told.
      if (pipe.to.destroyed) return this.#drop(link);
      pipe.queue.shift();
      if (what === "end") {
        pipe.to.end();
        continue;
      }
      pipe.heldBytes -= what.length;
      pipe.full = !pipe.to.write(what);
    }
    if (pipe.heldBytes <= HELD_BYTES_MAX / 2 && !pipe.from.destroyed) pipe.from.resume();
  }

  #pumpAll(): void {
    for (const link of [...this.#links]) for (const pipe of link.pipes) this.#pump(link, pipe);
  }

  #drop(link: Link): void {
    this.#links.delete(link);
    for (const pipe of link.pipes) {
      if (pipe.timer !== null) clearTimeout(pipe.timer);
      pipe.queue.length = 0;
      reset(pipe.from);
    }
  }

  #isBlocked(from: string, to: string): boolean {
    return from !== to && this.#blocked.has(`${from}>${to}`);
  }

  #isHeld(pipe: Pipe): boolean {
    return pipe.blackholed || this.#isBlocked(pipe.fromName, pipe.toName);
  }

  #latencyMs(from: string, to: string): Millis {
    const { minMs, maxMs } = this.#latencies.get(`${from}>${to}`) ?? this.#options.latency;
    return minMs + Math.random() * (maxMs - minMs);
  }
}

function reset(socket: Socket): void {
  if (!socket.destroyed) socket.resetAndDestroy();
}
