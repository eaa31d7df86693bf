/**
 * The virtual network: machines with addresses, listeners, connections, and what can go wrong between them.
 *
 * N1. Inside a connection each direction is an ordered pipe: nothing is lost, doubled or reordered while it lives.
 * N2. Bytes are counted as sent until the receiving kernel has them and says so: a peer that never reads, or whose
 *     answers do not arrive, fills the send buffer and the write stays pending.
 * N3. A blocked way (partition, blackhole, machine without power) gives no event at all. What was sent is sent again
 *     when the way is open; a reset is not, so the other end may stay half-open for ever.
 */

import type { Prng } from "../../base/prng.ts";
import { addressText, netError } from "../_net_error.ts";
import type { Address, Conn, Listener, ListenOptions, Millis, Net, NetErrorCode } from "../runtime.ts";
import { Endpoint } from "./endpoint.ts";
import type { Held, VirtualProcess } from "./process.ts";
import type { Scheduler } from "./scheduler.ts";
import { segmentLatencyMs } from "./segment.ts";

export interface NetworkOptions {
  /** One way, between two machines. Default 0.1 to 0.6. */
  readonly latencyMinMs: Millis;
  readonly latencyMaxMs: Millis;
  /** One segment in so many takes up to twenty times as long. Default 64. */
  readonly slowOneIn: number;
  /** One segment in so many is cut at a random place. Default 4. */
  readonly cutOneIn: number;
  /** What a kernel takes from a writer before the peer's kernel has it. Default 128 KiB. */
  readonly sendBufferBytes: number;
  /** What a kernel takes from the network before the process reads. Default 128 KiB. */
  readonly receiveBufferBytes: number;
}

export const NETWORK_DEFAULTS: NetworkOptions = {
  latencyMinMs: 0.1,
  latencyMaxMs: 0.6,
  slowOneIn: 64,
  cutOneIn: 4,
  sendBufferBytes: 128 * 1024,
  receiveBufferBytes: 128 * 1024,
};

/** `forward` blocks what `a` sends to `b`, `back` what `b` sends to `a`. */
export type Way = "both" | "forward" | "back";

/** A connection as seen from outside, for choosing which to harm. */
export interface ConnectionView {
  readonly id: number;
  /** Name of the machine that dialled. */
  readonly client: string;
  /** Name of the machine that listened. */
  readonly server: string;
  /** The listener's port. */
  readonly port: number;
}

export type NetCall = "accept" | "connect" | "listen" | "read" | "write";

/** Bytes, the answer to a connection attempt, a FIN, or a reset. */
export type Arrival = Uint8Array | "open" | "end" | "reset";

/** A machine's place in the network. */
export interface NetMachine {
  readonly name: string;
  readonly ip: string;
  /** Without power nothing arrives and nothing answers. */
  readonly powered: boolean;
}

interface Site {
  readonly machine: NetMachine;
  readonly listeners: VirtualListener[];
  nextPort: number;
}

interface Connection extends ConnectionView {
  readonly ends: readonly [Endpoint, Endpoint];
}

const LOOPBACK = new Set(["127.0.0.1", "::1"]);
const WILDCARD = new Set(["0.0.0.0", "::"]);
const LOOPBACK_MIN_MS = 0.01;
const LOOPBACK_MAX_MS = 0.05;
const PORT_FIRST = 32_768;
const SYN_RETRY_MS = 1000;
/** After a way opened again, until TCP tries again. */
const RESEND_MS_MAX = 200;

export class VirtualNetwork {
  readonly options: NetworkOptions;
  /** Asked for every attempt to connect: `refuse` answers it with a reset, `drop` not at all. */
  connectFault: ((client: string, server: string, port: number) => "refuse" | "drop" | null) | null = null;
  /** Told what arrives at a kernel, for a transcript. */
  onArrival: ((connection: ConnectionView, from: "client" | "server", what: Arrival) => void) | null = null;
  /** Told what a process reads, in pieces as it gets them. The piece is overwritten afterwards. */
  onRead: ((connection: ConnectionView, reader: "client" | "server", piece: Uint8Array) => void) | null = null;
  /** Asked before every call of a process; an answer makes it fail. A read or a write that fails ends its connection. */
  callFault: ((machine: string, call: NetCall) => NetErrorCode | null) | null = null;
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  readonly #sites = new Map<string, Site>();
  readonly #connections = new Set<Connection>();
  /** Blocked ways as `from>to`. */
  readonly #blocked = new Set<string>();
  readonly #latencies = new Map<string, { minMs: Millis; maxMs: Millis }>();
  #connectionId = 0;

  constructor(scheduler: Scheduler, prng: Prng, options: Partial<NetworkOptions> = {}) {
    this.scheduler = scheduler;
    this.prng = prng;
    this.options = { ...NETWORK_DEFAULTS, ...options };
  }

  // What a scenario does to it.

  /** Blocks the way between two machines, by name. No connection notices. */
  partition(a: string, b: string, { way = "both" }: { way?: Way } = {}): void {
    if (way !== "back") this.#blocked.add(`${a}>${b}`);
    if (way !== "forward") this.#blocked.add(`${b}>${a}`);
  }

  /** Opens the ways between two machines, or all; connections that were blackholed too. */
  heal(a?: string, b?: string): void {
    if (a === undefined || b === undefined) {
      this.#blocked.clear();
      for (const { ends } of this.#connections) for (const end of ends) end.blackholed = false;
    } else {
      this.#blocked.delete(`${a}>${b}`);
      this.#blocked.delete(`${b}>${a}`);
    }
    this.resend();
  }

  /** Resets connections at both ends at once, in flight bytes and all. @returns How many. */
  cut(choose: (connection: ConnectionView) => boolean): number {
    const chosen = [...this.#connections].filter(choose);
    for (const { ends } of chosen) for (const end of ends) end.resetArrived();
    return chosen.length;
  }

  /** Half-open: what these connections send is held back without any event, until `heal()`. @returns How many. */
  blackhole(choose: (connection: ConnectionView) => boolean, { way = "both" }: { way?: Way } = {}): number {
    const chosen = [...this.#connections].filter(choose);
    for (const { ends } of chosen) {
      if (way !== "back") ends[0].blackholed = true;
      if (way !== "forward") ends[1].blackholed = true;
    }
    return chosen.length;
  }

  /** Ends the blackhole of these connections. */
  openAgain(choose: (connection: ConnectionView) => boolean): void {
    for (const connection of [...this.#connections].filter(choose)) {
      for (const end of connection.ends) end.blackholed = false;
    }
    this.resend();
  }

  /** Latency between two machines from now on, one way. */
  setLatency(a: string, b: string, latency: { minMs: Millis; maxMs: Millis }): void {
    this.#latencies.set(`${a}>${b}`, latency);
    this.#latencies.set(`${b}>${a}`, latency);
  }

  /** Back to that of all others. */
  resetLatency(a: string, b: string): void {
    this.#latencies.delete(`${a}>${b}`);
    this.#latencies.delete(`${b}>${a}`);
  }

  resetLatencies(): void {
    this.#latencies.clear();
  }

  /** Connections that are not closed at both ends, the oldest first. */
  connections(): ConnectionView[] {
    return [...this.#connections];
  }

  // What machines and endpoints ask of it.

  addMachine(machine: NetMachine): void {
    this.#sites.set(machine.name, { machine, listeners: [], nextPort: PORT_FIRST });
  }

  isBlocked(from: NetMachine, to: NetMachine): boolean {
    if (!from.powered || !to.powered) return true;
    return this.#blocked.size > 0 && from !== to && this.#blocked.has(`${from.name}>${to.name}`);
  }

  latencyMs(from: NetMachine, to: NetMachine): Millis {
    if (from === to) return this.prng.between(LOOPBACK_MIN_MS, LOOPBACK_MAX_MS);
    const own = this.#latencies.size > 0 ? this.#latencies.get(`${from.name}>${to.name}`) : undefined;
    const minMs = own?.minMs ?? this.options.latencyMinMs;
    const maxMs = own?.maxMs ?? this.options.latencyMaxMs;
    return segmentLatencyMs(this.prng, { minMs, maxMs }, this.options.slowOneIn);
  }

  /** Ways may have opened: TCP sends again what it holds. */
  resend(): void {
    for (const { ends } of this.#connections) {
      for (const end of ends) end.resend(this.prng.between(0, RESEND_MS_MAX));
    }
  }

  forget(connection: ConnectionView): void {
    this.#connections.delete(connection as Connection);
  }

  dropListener(listener: VirtualListener): void {
    const listeners = this.#sites.get(listener.machine.name)!.listeners;
    const at = listeners.indexOf(listener);
    if (at >= 0) listeners.splice(at, 1);
  }

  /** The seam as one process sees it. */
  netOf(machine: NetMachine, process: VirtualProcess): Net {
    return {
      listen: (options) => process.completion("listen", () => this.#listen(machine, process, options)),
      connect: (address, { timeoutMs }) => {
        return new Promise((resolve, reject) => {
          if (process.alive) this.#dial(machine, process, address, timeoutMs, resolve, reject);
        });
      },
    };
  }

  #listen(machine: NetMachine, process: VirtualProcess, options: ListenOptions): Listener {
    const attempt = `Cannot listen on ${addressText(options)}`;
    const failed = this.callFault?.(machine.name, "listen") ?? null;
    if (failed !== null) throw netError(failed, attempt);
    const host = this.#resolve(machine, options.host);
    if (host === null) throw netError("unresolvable", attempt);
    if (host !== machine.ip && !LOOPBACK.has(host) && !WILDCARD.has(host)) {
      throw netError("address_not_available", attempt);
    }
    const site = this.#sites.get(machine.name)!;
    if (options.port !== 0 && site.listeners.some((other) => overlaps(other.address, host, options.port))) {
      throw netError("address_in_use", attempt);
    }
    const port = options.port === 0 ? this.#freePort(site) : options.port;
    const listener = new VirtualListener(this, machine, process, { host, port }, options);
    site.listeners.push(listener);
    return { address: listener.address, close: () => listener.close() };
  }

  #freePort(site: Site): number {
    do {
      site.nextPort = site.nextPort === 65_535 ? PORT_FIRST : site.nextPort + 1;
    } while (site.listeners.some((listener) => listener.address.port === site.nextPort));
    return site.nextPort;
  }

  /** A name or an address as an address; `null` for a name nobody has. */
  #resolve(from: NetMachine, host: string): string | null {
    if (LOOPBACK.has(host) || WILDCARD.has(host)) return host;
    if (host === "localhost") return "127.0.0.1";
    if (host === from.name) return from.ip;
    const site = this.#sites.get(host);
    if (site !== undefined) return site.machine.ip;
    return /^[0-9.]+$/.test(host) || host.includes(":") ? host : null;
  }

  #dial(
    machine: NetMachine,
    process: VirtualProcess,
    address: Address,
    timeoutMs: Millis,
    resolve: (conn: Conn) => void,
    reject: (error: Error) => void,
  ): void {
    const attempt = `Cannot connect to ${addressText(address)}`;
    // The client's end of the connection that came out of it; the attempt itself while there is none.
    let settled = false;
    let client: Endpoint | null = null;
    const timer = this.scheduler.at(this.scheduler.nowMs + timeoutMs, process, "connect_timeout", () => {
      if (settled) return;
      settled = true;
      client?.abandon();
      reject(netError("timeout", attempt));
    });
    const fail = (code: NetErrorCode) => {
      process.later("connect_failed", () => {
        if (settled) return;
        settled = true;
        this.scheduler.cancel(timer);
        reject(netError(code, attempt));
      });
    };
    const failed = this.callFault?.(machine.name, "connect") ?? null;
    if (failed !== null) return fail(failed);
    const resolved = this.#resolve(machine, address.host);
    if (resolved === null) return fail("unresolvable");
    const onThisMachine = LOOPBACK.has(resolved) || WILDCARD.has(resolved) || resolved === machine.ip;
    const site = onThisMachine
      ? this.#sites.get(machine.name)
      : [...this.#sites.values()].find((other) => other.machine.ip === resolved);
    if (site === undefined) return fail("unreachable");
    const server = site.machine;

    const again = () => this.scheduler.at(this.scheduler.nowMs + SYN_RETRY_MS, null, "syn", arrive);
    const arrive = () => {
      if (settled || !process.alive) return;
      const fault = this.connectFault?.(machine.name, server.name, address.port) ?? null;
      // Without an answer the client does not know, and asks again.
      if (fault === "drop" || this.isBlocked(machine, server)) return void again();
      const listener = site.listeners.find((other) => overlaps(other.address, resolved, address.port));
      if (fault === "refuse" || listener === undefined) {
        return this.isBlocked(server, machine) ? void again() : fail("refused");
      }
      const local: Address = {
        host: onThisMachine && resolved !== machine.ip ? (resolved === "::1" ? "::1" : "127.0.0.1") : machine.ip,
        port: this.#freePort(this.#sites.get(machine.name)!),
      };
      const peer: Address = {
        host: onThisMachine && WILDCARD.has(resolved) ? local.host : resolved,
        port: address.port,
      };
      client = new Endpoint(this, machine, process, local, peer, () => {
        process.later("connected", () => {
          if (settled) return;
          settled = true;
          this.scheduler.cancel(timer);
          resolve(client!);
        });
      });
      const accepted = new Endpoint(this, server, listener.process, peer, local, null);
      const connection: Connection = {
        id: this.#connectionId++,
        client: machine.name,
        server: server.name,
        port: address.port,
        ends: [client, accepted],
      };
      this.#connections.add(connection);
      client.join(accepted, connection);
      accepted.join(client, connection);
      accepted.sendOpen();
      listener.arrived(accepted);
    };
    this.scheduler.at(this.scheduler.nowMs + this.latencyMs(machine, server), null, "syn", arrive);
  }
}

function overlaps(bound: Address, host: string, port: number): boolean {
  return bound.port === port && (bound.host === host || WILDCARD.has(bound.host) || WILDCARD.has(host));
}

export class VirtualListener implements Held {
  readonly machine: NetMachine;
  readonly process: VirtualProcess;
  readonly address: Address;
  readonly #network: VirtualNetwork;
  readonly #options: ListenOptions;
  readonly #waiting: Endpoint[] = [];
  #open = true;

  constructor(
    network: VirtualNetwork,
    machine: NetMachine,
    process: VirtualProcess,
    address: Address,
    options: ListenOptions,
  ) {
    this.#network = network;
    this.machine = machine;
    this.process = process;
    this.address = address;
    this.#options = options;
    process.held.add(this);
  }

  /** Accepting keeps the order of arrival, whatever the order of the events. */
  arrived(conn: Endpoint): void {
    this.#waiting.push(conn);
    this.process.later("accept", () => {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const failed = this.#network.callFault?.(this.machine.name, "accept") ?? null;
      if (failed !== null) {
        next.abort();
        this.#options.failed(netError(failed, `Cannot accept a connection from ${addressText(next.peer)}`));
        return;
      }
      try {
        this.#options.accept(next);
      } catch (cause) {
        next.abort();
        this.#options.failed(netError("other", `Cannot accept a connection from ${addressText(next.peer)}`, 0, cause));
      }
    });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#network.dropListener(this);
    this.process.held.delete(this);
    for (const conn of this.#waiting.splice(0)) conn.abandon();
  }

  processDied(): void {
    this.close();
  }
}
