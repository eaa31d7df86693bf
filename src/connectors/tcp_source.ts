/**
 * The connector of a TCP source: listens on `--in`, cuts frames, hands chunks of whole frames to the dataflow, and stops
 * reading while something behind it is blocked, so that TCP pushes back on the clients.
 *
 *   T1. Nothing is read before `open`, though clients may connect: their bytes wait in the system.
 *   T2. One read is outstanding on a connection; a chunk that can't be taken now is kept, not read past.
 *   T3. A frame that is too long costs its connection, a frame that ends with the connection is dropped: never the worker.
 *   T4. It is not read for longer than `TURN_MS` without letting timers and other sockets have their turn.
 *   T5. Who has not sent a frame yet is a stranger: one that is too slow with the first goes, and when all connections are
 *       in use, the one that is here longest goes. Behind the first frame a client may be as slow as it likes.
 *   T6. The protocol has no way to ask for a frame again: a rollback says which frames are not in the state any more, and the
 *       senders have to send them again.
 */

import type { Framing } from "../api/framing.ts";
import { showAddress } from "../base/address.ts";
import { ResilienceError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Address, Conn, Listener, Millis, NetError, Runtime } from "../runtime/runtime.ts";
import { FrameSplitter } from "../wire/frame.ts";
import type { ConnectorStatus, SourceCheckpoints, SourceConnector } from "./connector.ts";

/** How long may be read before timers, acknowledgements and other sockets get their turn. */
const TURN_MS: Millis = 1;
/** A first frame that is longer on its way than this must have made some progress, on average. */
const PROGRESS_MS: Millis = 10_000;
const PROGRESS_BYTES_PER_SECOND = 1_024;

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
  /** `yielding`: a chunk was read, and is taken in at the next turn of the event loop. */
  phase: "idle" | "reading" | "yielding";
  /** A chunk that was read and not taken in yet. */
  held: Uint8Array | null;
  /** A whole frame has come. */
  known: boolean;
  /** Of the first frame: since when it is on its way, not counting while nothing was read. Null: it has not begun. */
  firstSinceMs: Millis | null;
}

/** In a checkpoint. */
interface TcpPosition {
  readonly version: 1;
  /** Frames that were taken in since the cluster was formed, and are in the state. */
  readonly frames: number;
}

export class TcpSourceConnector implements SourceConnector {
  readonly checkpoints: SourceCheckpoints;
  readonly #options: TcpSourceOptions;
  /** The oldest first. */
  readonly #connections = new Set<Connection>();
  #listener: Listener | null = null;
  #open = false;
  #closed = false;
  /** When the event loop had its turn last. */
  #turnSinceMs: Millis = 0;
  accepted = 0;
  /** Connections that were turned away, or closed for another one. */
  refused = 0;
  bytesRead = 0;
  /** Taken in since the cluster was formed, without what rollbacks have taken back. */
  frames = 0;
  /** Frames that rollbacks have taken back, of those that this process took in. */
  framesTakenBack = 0;
  /** Frames that the last checkpoint covers. */
  #covered = 0;
  readonly #cuts = new Map<Epoch, number>();
  /** Taken in by this process; for the rollback. */
  #framesHere = 0;

  constructor(options: TcpSourceOptions) {
    this.#options = options;
    this.checkpoints = {
      snapshot: (epoch) => this.#snapshot(epoch),
      seek: (position) => this.#seek(position),
      acknowledge: (epoch) => this.#acknowledge(epoch),
    };
  }

  get connections(): number {
    return this.#connections.size;
  }

  get address(): Address | null {
    return this.#listener?.address ?? null;
  }

  status(): ConnectorStatus {
    return {
      kind: "tcp",
      address: this.address === null ? "" : showAddress(this.address),
      connections: this.connections,
      accepted: this.accepted,
      refused: this.refused,
      bytes: this.bytesRead,
      frames: this.frames,
      frames_covered: this.#covered,
      frames_taken_back: this.framesTakenBack,
    };
  }

  /** @throws {NetError} As `Net.listen`. */
  async listen(address: Address): Promise<void> {
    const { runtime, turn, log, name } = this.#options;
    const listener = await runtime.net.listen({
      ...address,
      accept: (conn) => turn(() => this.#accept(conn)),
      failed: (error: NetError) => log.warn("accept_failed", `${name} source: ${error.message}`),
    });
    this.#listener = listener;
    if (this.#closed) listener.close();
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

  /** No more input: pieces of frames are dropped. */
  close(takeHeld: boolean): void {
    this.#closed = true;
    this.#listener?.close();
    for (const connection of this.#connections) {
      // What was held is taken in: it was read, so the client believes it arrived.
      if (takeHeld && connection.held !== null) this.#deliver(connection, connection.held);
      connection.held = null;
      connection.conn.abort();
    }
    this.#connections.clear();
  }

  #snapshot(epoch: Epoch): TcpPosition {
    this.#cuts.set(epoch, this.frames);
    return { version: 1, frames: this.frames };
  }

  #acknowledge(epoch: Epoch): void {
    this.#covered = this.#cuts.get(epoch) ?? this.#covered;
    for (const cut of this.#cuts.keys()) if (cut <= epoch) this.#cuts.delete(cut);
  }

  /** T6. */
  #seek(position: unknown | null): void {
    const { log, name } = this.#options;
    const { frames } = readPosition(position, name);
    const lost = Math.min(this.frames - frames, this.#framesHere);
    if (lost > 0) {
      this.framesTakenBack += lost;
      log.warn(
        "source_rolled_back",
        `${name} source: the last ${lost} frames that it took in are not in the state any more: send again what came behind ` +
          `frame ${frames}, counted since the cluster was formed`,
      );
    } else if (frames > 0) {
      log.info("source_position", `${name} source: the state covers the first ${frames} frames that it took in`);
    }
    this.frames = frames;
    this.#covered = frames;
    this.#framesHere = 0;
    this.#cuts.clear();
  }

  #accept(conn: Conn): void {
    if (this.#closed) return conn.abort();
    const { log, name, connectionsMax, framing, frameBytesMax } = this.#options;
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
    const header = { bytes: framing.headerBytes, littleEndian: framing.littleEndian };
    const connection: Connection = {
      conn,
      splitter: new FrameSplitter({ header, lengthMax: frameBytesMax }),
      phase: "idle",
      held: null,
      known: false,
      firstSinceMs: null,
    };
    this.#connections.add(connection);
    if (this.#open) this.#go(connection);
  }

  /** Closes the oldest connection that has not sent a frame yet, if there is one. */
  #makeRoom(): boolean {
    for (const connection of this.#connections) {
      if (connection.known) continue;
      this.refused++;
      this.#drop(
        connection,
        "source_connection_limit",
        `all ${this.#options.connectionsMax} connections are in use, and it had not sent a frame yet`,
      );
      return true;
    }
    return false;
  }

  #go(connection: Connection): void {
    if (connection.phase !== "idle" || this.#closed || !this.#connections.has(connection)) return;
    if (this.#options.blocked()) {
      connection.firstSinceMs = null;
      return;
    }
    if (connection.held !== null) {
      const { held } = connection;
      connection.held = null;
      if (!this.#deliver(connection, held)) return;
      if (this.#options.blocked()) return;
    }
    connection.phase = "reading";
    connection.conn.read().then(
      (bytes) => this.#arrived(connection, bytes),
      (error: unknown) =>
        this.#options.turn(() => this.#gone(connection, error instanceof Error ? error.message : String(error))),
    );
  }

  #arrived(connection: Connection, bytes: Uint8Array | null): void {
    const { turn, runtime } = this.#options;
    if (bytes === null) return turn(() => this.#gone(connection, null));
    // A chunk that comes while this source closes was not taken in.
    if (!this.#connections.has(connection)) return;
    this.bytesRead += bytes.length;
    connection.held = bytes;
    if (runtime.clock.monotonicMs() - this.#turnSinceMs <= TURN_MS) {
      connection.phase = "idle";
      return turn(() => this.#go(connection));
    }
    // T4: reads may complete at once for as long as the client keeps up, so the loop is given back in between.
    connection.phase = "yielding";
    runtime.clock.soon(() => {
      connection.phase = "idle";
      this.#turnSinceMs = runtime.clock.monotonicMs();
      turn(() => this.#go(connection));
    });
  }

  /** Returns whether the connection lives on. */
  #deliver(connection: Connection, bytes: Uint8Array): boolean {
    const { splitter } = connection;
    const outcome = splitter.push(bytes);
    if (splitter.count > 0) {
      connection.known = true;
      this.frames += splitter.count;
      this.#framesHere += splitter.count;
      this.#options.frames(splitter.bytes, splitter.starts, splitter.ends, splitter.count);
    }
    if (outcome !== "ok") {
      const what = `SourceTCPHandler: Received unexpected expect of size: ${outcome.length}, exceeds max: ${outcome.lengthMax}`;
      this.#drop(connection, "source_frame_too_large", `${what}. Closed connection`);
      return false;
    }
    if (connection.known || this.#makesProgress(connection)) return true;
    this.#drop(connection, "source_too_slow", "its first frame makes too little progress. Closed connection");
    return false;
  }

  #makesProgress(connection: Connection): boolean {
    const now = this.#options.runtime.clock.monotonicMs();
    connection.firstSinceMs ??= now;
    const elapsedMs = now - connection.firstSinceMs;
    return elapsedMs <= PROGRESS_MS || connection.splitter.pending * 1000 >= elapsedMs * PROGRESS_BYTES_PER_SECOND;
  }

  #drop(connection: Connection, code: string, why: string): void {
    if (!this.#connections.delete(connection)) return;
    connection.conn.abort();
    const { log, name } = this.#options;
    log.warn(code, `${name} source: ${why}. It came from ${showAddress(connection.conn.peer)}`);
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

function readPosition(position: unknown | null, name: string): TcpPosition {
  if (position === null) return { version: 1, frames: 0 };
  const { version, frames } = position as Partial<TcpPosition>;
  if (version === 1 && Number.isSafeInteger(frames) && frames! >= 0) return { version, frames: frames! };
  throw new ResilienceError(
    "position_invalid",
    `Cannot go on with source "${name}": the saved position is not one of a TCP source of this version`,
  );
}
