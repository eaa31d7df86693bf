/**
 * The connector of a TCP source: listens on `--in`, cuts frames, hands chunks of whole frames to the dataflow, and stops
 * reading while something behind it is blocked, so that TCP pushes back on the clients.
 *
 *   T1. Nothing is read before `open`, though clients may connect: their bytes wait in the system.
 *   T2. One read is outstanding on a connection; a chunk that can't be taken now is kept, not read past.
 *   T3. A frame that is too long costs its connection, a frame that ends with the connection is dropped: never the worker.
 *   T4. No connection is read for longer than `TURN_MS` without letting others have their turn.
 */

import type { Framing } from "../api/framing.ts";
import { showAddress } from "../base/address.ts";
import type { Log } from "../base/log.ts";
import type { Address, Conn, Listener, Millis, NetError, Runtime } from "../runtime/runtime.ts";
import { FrameSplitter } from "../wire/frame.ts";

/** How long one connection may be read before timers, acknowledgements and other connections get their turn. */
const TURN_MS: Millis = 1;

export interface TcpSourceOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  readonly name: string;
  readonly framing: Framing;
  readonly frameBytesMax: number;
  readonly connectionsMax: number;
  readonly turn: (run: () => void) => void;
  /** Is anything behind this source unable to take more? Then nothing is read until `resume`. */
  readonly blocked: () => boolean;
  /** `count` frames, frame `i` from `starts[i]` to `ends[i]` of `bytes`; valid during the call. */
  readonly frames: (bytes: Uint8Array, starts: Uint32Array, ends: Uint32Array, count: number) => void;
}

interface Connection {
  readonly conn: Conn;
  readonly splitter: FrameSplitter;
  /** A chunk that arrived while blocked. */
  held: Uint8Array | null;
  reading: boolean;
  lastSoonMs: Millis;
}

export class TcpSourceConnector {
  readonly #options: TcpSourceOptions;
  readonly #connections = new Set<Connection>();
  #listener: Listener | null = null;
  #open = false;
  #closed = false;
  accepted = 0;
  refused = 0;
  bytesRead = 0;

  constructor(options: TcpSourceOptions) {
    this.#options = options;
  }

  get connections(): number {
    return this.#connections.size;
  }

  get address(): Address | null {
    return this.#listener?.address ?? null;
  }

  /** @throws {NetError} As `Net.listen`. */
  async listen(address: Address): Promise<void> {
    this.#listener = await this.#options.runtime.net.listen({
      ...address,
      accept: (conn) => this.#options.turn(() => this.#accept(conn)),
      failed: (error: NetError) =>
        this.#options.log.warn("accept_failed", `${this.#options.name} source: ${error.message}`),
    });
  }

  /** Phase IV: begins to read. */
  open(): void {
    this.#open = true;
    this.resume();
  }

  /** What was blocked may be free again. */
  resume(): void {
    if (!this.#open || this.#closed) return;
    for (const connection of this.#connections) this.#go(connection);
  }

  /** No more input: what was read whole has been handed on, pieces of frames are dropped. */
  close(): void {
    this.#closed = true;
    this.#listener?.close();
    for (const connection of this.#connections) {
      // What was held is taken in: it was read, so the client believes it arrived.
      if (connection.held !== null) this.#deliver(connection, connection.held);
      connection.held = null;
      connection.conn.abort();
    }
    this.#connections.clear();
  }

  #accept(conn: Conn): void {
    const { log, name, connectionsMax, framing, frameBytesMax } = this.#options;
    const peer = showAddress(conn.peer);
    if (this.#closed || this.#connections.size >= connectionsMax) {
      this.refused++;
      conn.abort();
      if (!this.#closed) {
        log.warn(
          "source_connection_limit",
          `${name} source: refused ${peer}: all ${connectionsMax} connections are in use`,
        );
      }
      return;
    }
    this.accepted++;
    log.info("source_accepted", `${name} source: accepted a connection from ${peer}`);
    const header = { bytes: framing.headerBytes, littleEndian: framing.littleEndian };
    const connection: Connection = {
      conn,
      splitter: new FrameSplitter({ header, lengthMax: frameBytesMax }),
      held: null,
      reading: false,
      lastSoonMs: 0,
    };
    this.#connections.add(connection);
    if (this.#open) this.#go(connection);
  }

  #go(connection: Connection): void {
    if (connection.reading || this.#closed || this.#options.blocked()) return;
    if (connection.held !== null) {
      const held = connection.held;
      connection.held = null;
      if (!this.#deliver(connection, held)) return;
      if (this.#options.blocked()) return;
    }
    connection.reading = true;
    connection.conn.read().then(
      (bytes) => this.#arrived(connection, bytes),
      (error: unknown) =>
        this.#options.turn(() => this.#gone(connection, error instanceof Error ? error.message : String(error))),
    );
  }

  #arrived(connection: Connection, bytes: Uint8Array | null): void {
    if (bytes !== null) {
      const now = this.#options.runtime.clock.monotonicMs();
      if (now - connection.lastSoonMs > TURN_MS) {
        // T4: reads may complete at once for as long as the client keeps up, so the loop is given back in between.
        this.#options.runtime.clock.soon(() => {
          connection.lastSoonMs = this.#options.runtime.clock.monotonicMs();
          this.#options.turn(() => this.#take(connection, bytes));
        });
        return;
      }
    }
    this.#options.turn(() => this.#take(connection, bytes));
  }

  #take(connection: Connection, bytes: Uint8Array | null): void {
    connection.reading = false;
    if (this.#closed || !this.#connections.has(connection)) return;
    if (bytes === null) return this.#gone(connection, null);
    this.bytesRead += bytes.length;
    if (this.#options.blocked()) {
      connection.held = bytes;
      return;
    }
    if (this.#deliver(connection, bytes)) this.#go(connection);
  }

  /** Returns whether the connection lives on. */
  #deliver(connection: Connection, bytes: Uint8Array): boolean {
    const { splitter } = connection;
    const outcome = splitter.push(bytes);
    if (splitter.count > 0) this.#options.frames(splitter.bytes, splitter.starts, splitter.ends, splitter.count);
    if (outcome === "ok") return true;
    this.#options.log.error(
      "source_frame_too_large",
      `${this.#options.name} source: SourceTCPHandler: Received unexpected expect of size: ${outcome.length}, exceeds max: ` +
        `${outcome.lengthMax}. Closed connection. It came from ${showAddress(connection.conn.peer)}`,
    );
    this.#connections.delete(connection);
    connection.conn.abort();
    return false;
  }

  #gone(connection: Connection, why: string | null): void {
    if (!this.#connections.delete(connection)) return;
    const { log, name } = this.#options;
    const cut = connection.splitter.pending;
    connection.conn.end();
    if (why !== null) connection.conn.abort();
    log.info(
      "source_connection_closed",
      `${name} source: connection closed: ${showAddress(connection.conn.peer)}` +
        `${why === null ? "" : `: ${why}`}${cut > 0 ? `; ${cut} bytes of a frame that never became whole were dropped` : ""}`,
    );
  }
}
