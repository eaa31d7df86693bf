/**
 * The connector of a connector source: listens on `--in`, brings the bytes of clients to their machines
 * (`protocol/connector/`), hands accepted records to the dataflow and writes what the machines say.
 *
 *   B1. Nothing is read before `open`, nor while something behind it is blocked: TCP pushes back on the clients.
 *   B2. One read and one write are outstanding on a connection. What waits to be written is bounded: who does not read what
 *       it is told loses its connection.
 *   B3. Who has not said HELLO is a stranger: it has 5 seconds and 16 KiB for it, and when all connections are in use, the
 *       one that is here longest goes.
 *   B4. A connection that is closed for a reason gets to read it: its direction is ended, what it still sends is read and
 *       dropped for a second, of the 64 newest. (A close with unread bytes would be a reset, which can overtake the reason.)
 *   B5. A client that is gone without a word (a machine without power, a cable) would keep its streams for ever. When
 *       somebody else asks for one of them and the client has said nothing for 15 seconds, its connection is closed. Nothing
 *       is lost by it, also if the client was only idle: it connects again.
 *   B6. After `close` nothing is taken in any more; with checkpoints the clients stay until the second `close`, since the
 *       last checkpoint is still to be acknowledged.
 */
import { showAddress } from "../base/address.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { type MessagePlaces, SourceConnection } from "../protocol/connector/source_connection.ts";
import { readSourcePosition, type SourcePosition, SourceStreams } from "../protocol/connector/source_streams.ts";
import type { RegistryAnswer, RegistryRequest } from "../protocol/connector/stream_registry.ts";
import type { Address, Conn, Listener, Millis, NetError, Runtime } from "../runtime/runtime.ts";
import { FrameSplitter } from "../wire/frame.ts";
import type { ConnectorStatus, SourceCheckpoints, SourceConnector } from "./connector.ts";
import { type ReadConnection, ReadTurns } from "./read_turns.ts";

const HELLO_MS: Millis = 5_000;
const HELLO_BYTES_MAX = 16_384;
/** From a refused NOTIFY to the ACK that makes the client try again. */
const REMIND_MS: Millis = 1_000;
const LINGER_MS: Millis = 1_000;
const LINGERING_MAX = 64;
/** B5. */
const SILENCE_MS: Millis = 15_000;
const UNREAD_BYTES_MAX = 4 << 20;

export interface ConnectorSourceOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  readonly name: string;
  readonly cookie: string;
  readonly maxCredits: number;
  readonly refillCredits: number;
  readonly frameBytesMax: number;
  readonly connectionsMax: number;
  /** Are checkpoints taken? Without them only an end of stream is acknowledged. */
  readonly checkpoints: boolean;
  readonly turn: (run: () => void) => void;
  /** Is anything behind this source unable to take more? Then nothing is read until `resume`. */
  readonly blocked: () => boolean;
  /** Records to hand on: body `i` from `starts[i]` to `ends[i]` of `bytes`, its message from `frames[i]`. Valid during the call. */
  readonly records: (bytes: Uint8Array, places: MessagePlaces) => void;
  /** To the registry of this source's streams; its answers come back through `answered`, at once or later. */
  readonly toRegistry: (request: RegistryRequest) => void;
}

interface Connection extends ReadConnection {
  readonly conn: Conn;
  readonly machine: SourceConnection;
  readonly splitter: FrameSplitter;
  /** When it began to read what has not come yet. */
  readingSinceMs: Millis;
  /** A chunk that was read and not taken in yet. */
  held: Uint8Array | null;
  writing: boolean;
  /** What is read is dropped. */
  deaf: boolean;
  /** Set: closed when all is written. */
  leaving: boolean;
  /** Of the HELLO that is awaited, or of the end of a connection that lingers. */
  cancelTimer: (() => void) | null;
}

export class ConnectorSourceConnector implements SourceConnector {
  readonly #options: ConnectorSourceOptions;
  readonly #streams: SourceStreams;
  readonly #cookie: Uint8Array;
  /** The oldest first. Those that linger are not among them. */
  readonly #connections = new Set<Connection>();
  readonly #lingering = new Set<Connection>();
  readonly #turns: ReadTurns<Connection>;
  #listener: Listener | null = null;
  /** What was asked for. */
  #host = "";
  #open = false;
  #announced = false;
  #closed = false;
  #reminding = false;
  /** How many there were when somebody was reminded last. */
  #refusals = 0;
  accepted = 0;
  /** Connections that were turned away, or closed for another one. */
  refused = 0;
  bytesRead = 0;
  readonly checkpoints: SourceCheckpoints = {
    snapshot: (epoch) => this.#streams.snapshot(epoch),
    seek: (position) => this.#seek(readSourcePosition(position)),
    acknowledge: (epoch) => this.#acknowledge(epoch),
  };

  constructor(options: ConnectorSourceOptions) {
    this.#options = options;
    const { runtime, turn } = options;
    this.#turns = new ReadTurns(runtime.clock, (connection) => turn(() => this.#go(connection)));
    this.#streams = new SourceStreams({ checkpoints: options.checkpoints });
    this.#cookie = new TextEncoder().encode(options.cookie);
  }

  get connections(): number {
    return this.#connections.size;
  }

  get address(): Address | null {
    return this.#listener?.address ?? null;
  }

  status(): ConnectorStatus {
    return {
      kind: "connector",
      address: this.address === null ? "" : showAddress(this.address),
      connections: this.connections,
      accepted: this.accepted,
      refused: this.refused,
      streams: this.#streams.size,
      streams_refused: this.#streams.refusals,
      streams_open: this.#streams.countActive(),
      duplicates: this.#streams.duplicates,
      bytes: this.bytesRead,
    };
  }

  /** @throws {NetError} As `Net.listen`. */
  async listen(address: Address): Promise<void> {
    const { runtime, turn, log, name } = this.#options;
    this.#host = address.host;
    const listener = await runtime.net.listen({
      ...address,
      accept: (conn) => turn(() => this.#accept(conn)),
      failed: (error: NetError) => log.warn("accept_failed", `${name} source: ${error.message}`),
    });
    this.#listener = listener;
    if (this.#closed) listener.close();
  }

  open(): void {
    this.#open = true;
    if (!this.#announced) this.registryBegan();
    this.resume();
  }

  resume(): void {
    if (!this.#open) return;
    for (const connection of this.#connections) this.#go(connection);
  }

  close(takeHeld: boolean): void {
    if (this.#closed) {
      for (const { conn, cancelTimer } of [...this.#connections, ...this.#lingering]) {
        cancelTimer?.();
        conn.end();
      }
      this.#connections.clear();
      this.#lingering.clear();
      return;
    }
    this.#listener?.close();
    for (const connection of [...this.#connections]) {
      // What was held is taken in: it was read, so the client believes it arrived.
      if (takeHeld && this.#open && connection.held !== null) this.#deliver(connection, connection.held);
      connection.held = null;
    }
    this.#closed = true;
    for (const connection of [...this.#connections]) {
      connection.deaf = true;
      if (!this.#options.checkpoints || !connection.machine.greeted) this.#leave(connection);
      else this.#go(connection);
    }
    this.#settle();
  }

  /** The registry's word on a claim. In a turn. */
  answered(answer: RegistryAnswer): void {
    this.#streams.answered(answer);
    this.#settle();
  }

  /** The registry knows nothing of this worker: it has begun anew, without a rollback. In a turn. */
  registryBegan(): void {
    this.#announced = true;
    this.#streams.announce();
    this.#settle();
  }

  #seek(position: SourcePosition | null): void {
    for (const connection of [...this.#connections]) {
      connection.machine.restart(this.#restartAddress(connection.conn));
      if (connection.machine.closing !== null) this.#leave(connection);
    }
    this.#announced = true;
    this.#streams.seek(position);
    this.#settle();
  }

  #acknowledge(epoch: Epoch): void {
    if (!this.#streams.cover(epoch)) return;
    for (const { machine } of this.#connections) machine.acknowledge();
    this.#settle();
  }

  #accept(conn: Conn): void {
    if (this.#closed) return conn.abort();
    const { log, name, connectionsMax, frameBytesMax, maxCredits, refillCredits } = this.#options;
    const peer = showAddress(conn.peer);
    if (this.#connections.size >= connectionsMax && !this.#makeRoom()) {
      this.refused++;
      conn.abort();
      log.warn(
        "source_connection_limit",
        `${name} source: refused ${peer}: all ${connectionsMax} connections are in use`,
      );
      return;
    }
    this.accepted++;
    log.info("source_accepted", `${name} source: accepted a connection from ${peer}`);
    const connection: Connection = {
      conn,
      machine: new SourceConnection({ cookie: this.#cookie, maxCredits, refillCredits }, this.#streams),
      splitter: new FrameSplitter({ lengthMax: frameBytesMax }),
      phase: "idle",
      readingSinceMs: 0,
      held: null,
      writing: false,
      deaf: false,
      leaving: false,
      cancelTimer: null,
    };
    this.#connections.add(connection);
    if (this.#open) this.#go(connection);
  }

  /** B3. */
  #makeRoom(): boolean {
    for (const connection of this.#connections) {
      if (connection.machine.greeted) continue;
      this.refused++;
      this.#drop(
        connection,
        "source_connection_limit",
        `all ${this.#options.connectionsMax} connections are in use, and it had not said hello yet`,
      );
      return true;
    }
    return false;
  }

  /** Reads on, if it may. */
  #go(connection: Connection): void {
    if (connection.phase !== "idle") return;
    if (!connection.deaf) {
      if (!this.#connections.has(connection) || this.#options.blocked()) return;
      if (connection.held !== null) {
        const { held } = connection;
        connection.held = null;
        this.#deliver(connection, held);
        // It may have been closed meanwhile, and is being read already.
        if (connection.phase !== "idle") return;
        if (!connection.deaf && (!this.#connections.has(connection) || this.#options.blocked())) return;
      }
      if (!connection.machine.greeted) this.#watchHello(connection);
    }
    connection.phase = "reading";
    connection.readingSinceMs = this.#options.runtime.clock.monotonicMs();
    connection.conn.read().then(
      (bytes) => this.#arrived(connection, bytes),
      (error: unknown) =>
        this.#options.turn(() => this.#gone(connection, error instanceof Error ? error.message : String(error))),
    );
  }

  #arrived(connection: Connection, bytes: Uint8Array | null): void {
    if (bytes === null) return this.#options.turn(() => this.#gone(connection, null));
    if (!connection.deaf) {
      this.bytesRead += bytes.length;
      connection.held = bytes;
    }
    this.#turns.arrived(connection);
  }

  #deliver(connection: Connection, bytes: Uint8Array): void {
    const { splitter, machine } = connection;
    const outcome = splitter.push(bytes);
    const places = machine.receive(splitter.bytes, splitter.starts, splitter.ends, splitter.count);
    if (places.count > 0) this.#options.records(splitter.bytes, places);
    machine.topUp();
    if (machine.greeted) {
      connection.cancelTimer?.();
      connection.cancelTimer = null;
    }
    this.#collect();
    // What handed the records on may have closed this source.
    if (!this.#connections.has(connection)) return;
    if (machine.closing !== null) this.#leave(connection);
    else if (outcome !== "ok") {
      const { length, lengthMax } = outcome;
      this.#drop(connection, "source_frame_too_large", `a frame of ${length} bytes came, at most ${lengthMax} may`);
    } else if (!machine.greeted && splitter.pending > HELLO_BYTES_MAX) {
      this.#drop(connection, "source_frame_too_large", `its hello has more than ${HELLO_BYTES_MAX} bytes`);
    } else this.#write(connection);
  }

  /** B3: time while nothing is read does not count. */
  #watchHello(connection: Connection): void {
    if (connection.cancelTimer !== null) return;
    const { runtime, turn, blocked } = this.#options;
    connection.cancelTimer = runtime.clock.startTimer(HELLO_MS, () =>
      turn(() => {
        connection.cancelTimer = null;
        if (connection.machine.greeted || !this.#connections.has(connection)) return;
        if (blocked()) this.#watchHello(connection);
        else this.#drop(connection, "source_too_slow", `it had not said hello within ${HELLO_MS} ms`);
      }),
    );
  }

  /** What machines ask of the registry goes out; what they say to clients is written. */
  #settle(): void {
    this.#collect();
    for (const connection of this.#connections) this.#write(connection);
  }

  #collect(): void {
    for (const request of this.#streams.takeRequests()) this.#options.toRegistry(request);
    this.#remindLater();
    for (const machine of this.#streams.takeWanted()) this.#wanted(machine);
  }

  /** B5. */
  #wanted(machine: SourceConnection): void {
    const now = this.#options.runtime.clock.monotonicMs();
    for (const connection of this.#connections) {
      if (connection.machine !== machine) continue;
      if (connection.phase !== "reading" || now - connection.readingSinceMs < SILENCE_MS) return;
      const why = `it has said nothing for ${Math.round((now - connection.readingSinceMs) / 1_000)} s`;
      return this.#drop(connection, "source_client_silent", `${why}, and somebody else asks for its stream`);
    }
  }

  #remindLater(): void {
    if (this.#reminding || this.#closed || this.#streams.refusals === this.#refusals) return;
    this.#reminding = true;
    this.#refusals = this.#streams.refusals;
    const { runtime, turn } = this.#options;
    runtime.clock.startTimer(REMIND_MS, () =>
      turn(() => {
        this.#reminding = false;
        this.#refusals = this.#streams.refusals;
        for (const { machine } of this.#connections) machine.remind();
        this.#settle();
      }),
    );
  }

  #write(connection: Connection): void {
    const { conn, machine, writing } = connection;
    if (writing) {
      if (machine.out.length > UNREAD_BYTES_MAX && !connection.leaving) {
        this.#drop(connection, "source_client_stuck", "it does not read what it is told");
      }
      return;
    }
    if (machine.out.length === 0) {
      if (connection.leaving) conn.end();
      return;
    }
    connection.writing = true;
    const { turn } = this.#options;
    conn.write(machine.out.take()).then(
      () =>
        turn(() => {
          connection.writing = false;
          if (this.#connections.has(connection) || this.#lingering.has(connection)) this.#write(connection);
        }),
      // The read fails as well, and tells.
      () => {},
    );
  }

  /** B4: the client gets to read what was said, and its streams are free at once. */
  #leave(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    const { log, name, runtime, turn, connectionsMax } = this.#options;
    const { conn, machine } = connection;
    for (const oldest of this.#lingering) {
      if (this.#lingering.size < Math.min(LINGERING_MAX, connectionsMax)) break;
      this.#lingering.delete(oldest);
      oldest.cancelTimer?.();
      oldest.conn.abort();
    }
    this.#lingering.add(connection);
    connection.deaf = true;
    connection.leaving = true;
    connection.held = null;
    connection.cancelTimer?.();
    connection.cancelTimer = runtime.clock.startTimer(LINGER_MS, () =>
      turn(() => {
        if (this.#lingering.delete(connection)) conn.abort();
      }),
    );
    if (machine.closing !== null) {
      const { code, text } = machine.closing;
      const line = `${name} source: closed the connection from ${showAddress(conn.peer)}: ${text}`;
      if (code === "rolled_back") log.info("source_client_restarted", line);
      else log.warn(`source_${code}`, line);
    }
    machine.disconnected();
    this.#collect();
    this.#write(connection);
    this.#go(connection);
  }

  #drop(connection: Connection, code: string, why: string): void {
    if (!this.#connections.delete(connection)) return;
    const { log, name } = this.#options;
    connection.cancelTimer?.();
    connection.conn.abort();
    connection.machine.disconnected();
    log.warn(code, `${name} source: ${why}. Closed the connection from ${showAddress(connection.conn.peer)}`);
    this.#collect();
  }

  #gone(connection: Connection, why: string | null): void {
    const { conn, machine, splitter } = connection;
    connection.cancelTimer?.();
    if (this.#lingering.delete(connection)) return conn.abort();
    if (!this.#connections.delete(connection)) return;
    const { log, name } = this.#options;
    if (why === null) conn.end();
    else conn.abort();
    machine.disconnected();
    log.info(
      "source_connection_closed",
      `${name} source: connection closed: ${showAddress(conn.peer)}${why === null ? "" : `: ${why}`}` +
        `${splitter.pending > 0 ? `; ${splitter.pending} bytes of a frame that never became whole were dropped` : ""}`,
    );
    this.#collect();
  }

  /** Where the client reaches this source, as `host:port`. */
  #restartAddress({ local }: Conn): string {
    const isWildcard = this.#host === "" || this.#host === "0.0.0.0" || this.#host === "::";
    return showAddress({ host: isWildcard ? local.host : this.#host, port: this.address?.port ?? local.port });
  }
}
