/**
 * The network of a twin: every connection goes through here (`dial.ts`), so that what happens between real processes can be
 * what happens in the virtual network. It holds back, delays, resets and refuses by the names of machines.
 *
 * P0. A direction holds `sendBufferBytes`, and has no more than `receiveBufferBytes` on its way at once: with a latency that is
 *     its bandwidth, as in the virtual network (`segment.ts` is common to both). The kernels between add what they hold.
 * P1. Inside a connection each direction is an ordered pipe; backpressure goes through.
 * P2. A blocked way gives no event at all; what was sent comes when it opens. A reset is not sent again: the other end stays
 *     half-open until it sends something itself.
 */

import { connect, createServer, type Server, type Socket } from "node:net";
import { Prng } from "../../../src/base/prng.ts";
import type { Address, Millis } from "../../../src/runtime/runtime.ts";
import type { Arrival, ConnectionView, NetworkOptions, Way } from "../../../src/runtime/virtual/network.ts";
import { segmentLatencyMs, segmentLength } from "../../../src/runtime/virtual/segment.ts";
import type { StageNetwork } from "../../../src/simulation/stage.ts";
import { DIAL_LINE_MAX } from "./dial.ts";

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
  /** As in a scenario. */
  readonly network: Pick<NetworkOptions, "cutOneIn" | "slowOneIn" | "sendBufferBytes" | "receiveBufferBytes">;
  readonly seed: bigint;
}

/** One direction of one link. */
interface Pipe {
  readonly from: Socket;
  readonly to: Socket;
  readonly fromName: string;
  readonly toName: string;
  blackholed: boolean;
  /** Read, not on its way yet. */
  readonly waiting: (Uint8Array | "end")[];
  /** On its way. */
  readonly queue: { readonly dueMs: Millis; readonly what: Uint8Array | "end" }[];
  /** Of `queue`. */
  onWayBytes: number;
  /** Of both. */
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
  readonly #prng: Prng;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #waiting = new Set<Socket>();
  readonly #blocked = new Set<string>();
  readonly #latencies = new Map<string, { minMs: Millis; maxMs: Millis }>();
  #linkId = 0;
  #closed = false;

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#prng = new Prng(options.seed, "twin proxy");
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
      waiting: [],
      queue: [],
      onWayBytes: 0,
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
    from.on("data", (bytes: Buffer) => {
      pipe.heldBytes += bytes.length;
      if (pipe.heldBytes > this.#options.network.sendBufferBytes) from.pause();
      pipe.waiting.push(new Uint8Array(bytes));
      this.#pump(link, pipe);
    });
    from.on("end", () => {
      ended = true;
      pipe.waiting.push("end");
      this.#pump(link, pipe);
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

  /** Puts on its way what there is room for. */
  #launch(pipe: Pipe): void {
    const { cutOneIn, receiveBufferBytes } = this.#options.network;
    let behindMs: Millis = 0;
    while (pipe.waiting.length > 0) {
      const first = pipe.waiting[0]!;
      const room = receiveBufferBytes - pipe.onWayBytes;
      if (first !== "end" && room <= 0) return;
      let what = first;
      if (first !== "end") {
        const length = segmentLength(this.#prng, Math.min(first.length, room), cutOneIn);
        what = first.subarray(0, length);
        pipe.onWayBytes += length;
        if (length < first.length) pipe.waiting[0] = first.subarray(length);
        else pipe.waiting.shift();
      } else pipe.waiting.shift();
      const latencyMs = this.#latencyMs(pipe.fromName, pipe.toName);
      pipe.lastDueMs = Math.max(pipe.lastDueMs + behindMs, performance.now() + latencyMs);
      pipe.queue.push({ dueMs: pipe.lastDueMs, what });
      behindMs = what === first ? 0 : BETWEEN_PIECES_MS;
    }
  }

  #pump(link: Link, pipe: Pipe): void {
    this.#launch(pipe);
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
      pipe.onWayBytes -= what.length;
      this.#launch(pipe);
      pipe.full = !pipe.to.write(what);
    }
    if (pipe.heldBytes <= this.#options.network.sendBufferBytes / 2 && !pipe.from.destroyed) pipe.from.resume();
  }

  #pumpAll(): void {
    for (const link of [...this.#links]) for (const pipe of link.pipes) this.#pump(link, pipe);
  }

  #drop(link: Link): void {
    this.#links.delete(link);
    for (const pipe of link.pipes) {
      if (pipe.timer !== null) clearTimeout(pipe.timer);
      pipe.waiting.length = 0;
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
    const latency = this.#latencies.get(`${from}>${to}`) ?? this.#options.latency;
    return segmentLatencyMs(this.#prng, latency, this.#options.network.slowOneIn);
  }
}

function reset(socket: Socket): void {
  if (!socket.destroyed) socket.resetAndDestroy();
}
