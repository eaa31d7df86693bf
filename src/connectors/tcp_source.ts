/**
 * The connector of a TCP source: listens on `--in`, cuts frames, hands chunks of whole frames to the dataflow, and stops
 * reading while something behind it is blocked, so that TCP pushes back on the clients.
 *
 *   T1. Nothing is read before `open`, though clients may connect: their bytes wait in the system.
 *   T2. One read is outstanding on a connection; a chunk that can't be taken now is kept, not read past.
 *   T3. A frame that is too long costs its connection, a frame that ends with the connection is dropped: never the worker.
 *   T4. It is not read for longer than a millisecond without letting timers and other sockets have their turn.
 *   T5. Who has not sent a frame yet is a stranger: one that is too slow with the first goes, and when all connections are
 *       in use, the one that is here longest goes. Behind the first frame a client may be as slow as it likes.
 *   T6. The protocol has no way to ask for a frame again: a rollback says which frames are not in the state any more, of the
 *       source and of each connection, and the senders have to send them again.
 *   T7. Where the application asks for it, a connection is told which of its records are safe, behind each checkpoint
 *       (`wire/position_ack.ts`). Only the newest position is kept to be told, so a client that does not read costs nothing.
 *       A rollback closes the connections that it took records from: nothing may be acknowledged behind what is lost.
 */

import type { Framing } from "../api/framing.ts";
import { showAddress } from "../base/address.ts";
import { ResilienceError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Address, Conn, Listener, Millis, NetError, Runtime } from "../runtime/runtime.ts";
import { FrameSplitter } from "../wire/frame.ts";
import { encodePositionAck } from "../wire/position_ack.ts";
import type { ConnectorStatus, HandOver, SourceCheckpoints, SourceConnector } from "./connector.ts";
import { type ReadConnection, ReadTurns } from "./read_turns.ts";

/** A first frame that is longer on its way than this must have made some progress, on average. */
const PROGRESS_MS: Millis = 10_000;
const PROGRESS_BYTES_PER_SECOND = 1_024;
/** Connections that are gone and not covered, of which is known what a rollback takes from them; the newest. */
const GONE_MAX = 64;
/** Connections in a checkpoint, and in what is logged of a rollback. */
const SAVED_MAX = 256;
const LOGGED_MAX = 16;
/** Cuts that may still become checkpoints. One is in flight; news of it may be late. */
const CUTS_MAX = 16;

export interface TcpSourceOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  readonly name: string;
  readonly framing: Framing;
  readonly frameBytesMax: number;
  readonly connectionsMax: number;
  readonly turn: (run: () => void) => void;
  /** Are clients told what is safe? */
  readonly acks: boolean;
  /** Are checkpoints taken? */
  readonly checkpoints: boolean;
  /** Is anything behind this source unable to take more? Then nothing is read until `resume`. */
  readonly blocked: () => boolean;
  readonly frames: HandOver;
}

/** What was taken in: whole frames, and their bytes with headers. */
interface Count {
  readonly frames: number;
  readonly bytes: number;
}

/** What was taken in from one connection. */
interface Taken {
  readonly peer: string;
  frames: number;
  bytes: number;
  /** Of these, in the last checkpoint. */
  covered: Count;
  /** At the last rollback: what came before was told then. */
  since: Count;
  isGone: boolean;
}

interface Cut extends Count {
  readonly connections: ReadonlyMap<Taken, Count>;
}

interface Connection extends ReadConnection {
  readonly conn: Conn;
  readonly splitter: FrameSplitter;
  /** A chunk that was read and not taken in yet. */
  held: Uint8Array | null;
  /** A whole frame has come. */
  known: boolean;
  /** Of the first frame: since when it is on its way, not counting while nothing was read. Null: it has not begun. */
  firstSinceMs: Millis | null;
  readonly taken: Taken;
  /** Bytes that came. */
  bytes: number;
  /** Records that it was told to be safe; -1: nothing yet. */
  told: number;
  telling: boolean;
  /** It has ended its direction, and waits for the rest to be acknowledged. */
  hasEnded: boolean;
}

/** In a checkpoint: what was taken in since the cluster was formed, and is in the state. */
interface TcpPosition extends Count {
  readonly version: 2;
  readonly epoch: Epoch;
  /** Those that something was taken in from, the newest; counted from the beginning of each. */
  readonly connections: readonly (Count & { readonly peer: string })[];
}

const NOTHING: Count = { frames: 0, bytes: 0 };

export class TcpSourceConnector implements SourceConnector {
  readonly checkpoints: SourceCheckpoints;
  readonly #options: TcpSourceOptions;
  /** The oldest first. */
  readonly #connections = new Set<Connection>();
  readonly #turns: ReadTurns<Connection>;
  #listener: Listener | null = null;
  #open = false;
  #closed = false;
  accepted = 0;
  /** Connections that were turned away, or closed for another one. */
  refused = 0;
  bytesRead = 0;
  /** Taken in since the cluster was formed, without what rollbacks have taken back. */
  frames = 0;
  #bytes = 0;
  /** What rollbacks have taken back, of what this process took in. */
  #takenBack: Count = NOTHING;
  /** What the last rollback took back, and whether that is all: not of what an earlier process took in. */
  #lastTakenBack: Count = NOTHING;
  #lastIsCounted = true;
  /** In words. */
  #lastConnections = "";
  /** What the last checkpoint covers. */
  #covered: Count = NOTHING;
  readonly #cuts = new Map<Epoch, Cut>();
  /** Taken in by this process since the last rollback. */
  #framesHere = 0;
  #bytesHere = 0;
  #wasOpen = false;
  /** The oldest first: of all connections, and of those that are gone and not covered. */
  readonly #taken = new Set<Taken>();

  constructor(options: TcpSourceOptions) {
    this.#options = options;
    const { runtime, turn } = options;
    this.#turns = new ReadTurns(runtime.clock, (connection) => turn(() => this.#go(connection)));
    this.checkpoints = {
      snapshot: (epoch) => this.#snapshot(epoch),
      seek: (position, restarted) => this.#seek(position, restarted),
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
      acks: this.#tells,
      frames: this.frames,
      frames_covered: this.#covered.frames,
      frames_taken_back: this.#takenBack.frames,
      // Of whole frames, with their headers, as a sender counts them.
      frame_bytes: this.#bytes,
      frame_bytes_covered: this.#covered.bytes,
      frame_bytes_taken_back: this.#takenBack.bytes,
      last_rollback_frames: this.#lastTakenBack.frames,
      last_rollback_bytes: this.#lastTakenBack.bytes,
      last_rollback_counted: this.#lastIsCounted,
      last_rollback_connections: this.#lastConnections,
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
    if (this.#options.acks && !this.#options.checkpoints) {
      log.warn(
        "source_acks_off",
        `${name} source: the application wants records acknowledged, and without checkpoints none can be: leave out ` +
          "--checkpoint-interval off",
      );
    }
    if (this.#closed) listener.close();
  }

  /** Phase IV: begins to read. */
  open(): void {
    this.#open = true;
    this.#wasOpen = true;
    this.resume();
  }

  /** What was blocked may be free again. */
  resume(): void {
    if (!this.#open || this.#closed) return;
    for (const connection of this.#connections) this.#go(connection);
  }

  /**
   * No more input: pieces of frames are dropped. Who is told what is safe stays until
   * the second `close`, since the last checkpoint is still to come.
   */
  close(takeHeld: boolean): void {
    const isSecond = this.#closed;
    this.#closed = true;
    this.#listener?.close();
    for (const connection of [...this.#connections]) {
      // What was held is taken in: it was read, so the client believes it arrived.
      if (takeHeld && connection.held !== null) this.#deliver(connection, connection.held);
      connection.held = null;
      if (this.#tells && !isSecond) continue;
      this.#forget(connection);
      if (isSecond) connection.conn.end();
      else connection.conn.abort();
    }
  }

  get #tells(): boolean {
    return this.#options.acks && this.#options.checkpoints;
  }

  #snapshot(epoch: Epoch): TcpPosition {
    const { frames } = this;
    const bytes = this.#bytes;
    const connections = new Map<Taken, Count>();
    const saved: (Count & { readonly peer: string })[] = [];
    for (const taken of this.#taken) {
      if (taken.frames === 0) continue;
      connections.set(taken, { frames: taken.frames, bytes: taken.bytes });
      saved.push({ peer: taken.peer, frames: taken.frames, bytes: taken.bytes });
    }
    this.#cuts.set(epoch, { frames, bytes, connections });
    for (const cut of this.#cuts.keys()) if (this.#cuts.size > CUTS_MAX) this.#cuts.delete(cut);
    return { version: 2, epoch, frames, bytes, connections: saved.slice(-SAVED_MAX) };
  }

  #acknowledge(epoch: Epoch): void {
    const cut = this.#cuts.get(epoch);
    // The cut itself stays: a rollback may go back to it, more than once.
    for (const older of this.#cuts.keys()) if (older < epoch) this.#cuts.delete(older);
    if (cut === undefined) return;
    this.#covered = { frames: cut.frames, bytes: cut.bytes };
    for (const [taken, count] of cut.connections) {
      taken.covered = count;
      if (taken.isGone && taken.frames === count.frames) this.#taken.delete(taken);
    }
    if (this.#tells) for (const connection of [...this.#connections]) this.#tell(connection);
  }

  /** T6. */
  #seek(position: unknown | null, restarted = false): void {
    const { log, name } = this.#options;
    const { epoch, frames, bytes, connections } = readPosition(position, name);
    const cut = this.#cuts.get(epoch);
    const lost: Count = {
      frames: Math.max(0, Math.min(this.frames - frames, this.#framesHere)),
      bytes: Math.max(0, Math.min(this.#bytes - bytes, this.#bytesHere)),
    };
    // A process that has not taken in anything yet can't know what the one before it did.
    this.#lastIsCounted = !restarted;
    this.#lastTakenBack = lost;
    this.#takenBack = { frames: this.#takenBack.frames + lost.frames, bytes: this.#takenBack.bytes + lost.bytes };
    const lines: string[] = [];
    for (const taken of this.#taken) {
      const covered = position === null ? NOTHING : (cut?.connections.get(taken) ?? (cut ? NOTHING : taken.covered));
      const from = covered.frames > taken.since.frames ? covered : taken.since;
      if (taken.frames > from.frames) {
        const count = showCount({ frames: taken.frames - from.frames, bytes: taken.bytes - from.bytes });
        lines.push(`from ${taken.peer}: the last ${count} are not in the state: ${again(from)} of that connection`);
      }
      taken.since = { frames: taken.frames, bytes: taken.bytes };
      if (taken.isGone) this.#taken.delete(taken);
    }
    if (lost.frames > 0) {
      log.warn(
        "source_rolled_back",
        `${name} source: the last ${showCount(lost)} that it took in are not in the state any more: ${again({ frames, bytes })}, ` +
          "counted since the cluster was formed",
      );
    } else if (!restarted && this.#wasOpen) {
      log.info(
        "source_position",
        `${name} source: the rollback took back 0 frames (0 bytes): the state covers all ${showCount({ frames, bytes })} ` +
          "that it took in since the cluster was formed",
      );
    } else if (restarted) {
      log.warn(
        "source_position",
        `${name} source: the state covers the first ${showCount({ frames, bytes })} that it took in since the cluster was ` +
          `formed; what the process before this one took in behind them is not known: ${again({ frames, bytes })}, if it did`,
      );
      for (const { peer, ...count } of connections) {
        lines.push(`from ${peer}, to the process before: the state covers the first ${showCount(count)}`);
      }
    }
    this.#lastConnections = lines.slice(-LOGGED_MAX).join("; ");
    for (const line of lines.slice(-LOGGED_MAX)) log.warn("source_connection_position", `${name} source: ${line}`);
    if (lines.length > LOGGED_MAX) {
      const others = lines.length - LOGGED_MAX;
      log.warn("source_connection_position", `${name} source: and ${others} connections before these`);
    }
    this.frames = frames;
    this.#bytes = bytes;
    this.#covered = { frames, bytes };
    this.#framesHere = 0;
    this.#bytesHere = 0;
    for (const other of this.#cuts.keys()) if (other !== epoch) this.#cuts.delete(other);
    if (this.#tells) this.#closeTakenBack(position === null ? null : cut);
  }

  /** T7: whom something was taken back from connects again, and sends what was not acknowledged. */
  #closeTakenBack(cut: Cut | null | undefined): void {
    for (const connection of [...this.#connections]) {
      const { taken, conn } = connection;
      const covered = cut?.connections.get(taken) ?? NOTHING;
      if (covered.frames === taken.frames) {
        // Its checkpoint exists, whether or not this worker had heard of it.
        taken.covered = covered;
        this.#tell(connection);
        continue;
      }
      this.#forget(connection);
      taken.isGone = true;
      this.#taken.delete(taken);
      conn.abort();
      const { log, name } = this.#options;
      log.info("source_client_restarted", `${name} source: closed the connection from ${taken.peer}: rolled back`);
    }
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
      taken: { peer, frames: 0, bytes: 0, covered: NOTHING, since: NOTHING, isGone: false },
      bytes: 0,
      told: -1,
      telling: false,
      hasEnded: false,
    };
    this.#connections.add(connection);
    this.#taken.add(connection.taken);
    this.#tell(connection);
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
    if (connection.phase !== "idle" || connection.hasEnded || this.#closed || !this.#connections.has(connection))
      return;
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
    if (bytes === null) return this.#options.turn(() => this.#gone(connection, null));
    // A chunk that comes while this source closes was not taken in.
    if (this.#closed || !this.#connections.has(connection)) return;
    this.bytesRead += bytes.length;
    connection.held = bytes;
    this.#turns.arrived(connection);
  }

  /** Returns whether the connection lives on. */
  #deliver(connection: Connection, bytes: Uint8Array): boolean {
    const { splitter, taken } = connection;
    const outcome = splitter.push(bytes);
    connection.bytes += bytes.length;
    if (splitter.count > 0) {
      connection.known = true;
      // Behind a frame that is too long nothing is whole.
      const whole = outcome === "ok" ? connection.bytes - splitter.pending : taken.bytes;
      this.frames += splitter.count;
      this.#framesHere += splitter.count;
      this.#bytes += whole - taken.bytes;
      this.#bytesHere += whole - taken.bytes;
      const { frames, bytes: before } = taken;
      taken.frames += splitter.count;
      taken.bytes = whole;
      const { starts } = splitter;
      this.#options.frames(splitter.bytes, starts, splitter.ends, splitter.count, (record) => {
        return {
          kind: "tcp",
          peer: taken.peer,
          frame: frames + record + 1,
          byte: before + starts[record]! - starts[0]!,
        };
      });
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

  /** Tells a client how much is safe, if it does not know yet: the newest, and one write at a time. */
  #tell(connection: Connection): void {
    if (!this.#tells || connection.telling || !this.#connections.has(connection)) return;
    const { taken, conn } = connection;
    if (connection.told >= taken.covered.frames) {
      if (connection.hasEnded && taken.covered.frames === taken.frames) this.#gone(connection, null);
      return;
    }
    connection.told = taken.covered.frames;
    connection.telling = true;
    conn.write(encodePositionAck(taken.covered.frames, taken.covered.bytes)).then(
      () =>
        this.#options.turn(() => {
          connection.telling = false;
          this.#tell(connection);
        }),
      (error: unknown) =>
        this.#options.turn(() => this.#gone(connection, error instanceof Error ? error.message : String(error))),
    );
  }

  /** Returns whether it was there. What was taken in from it is remembered until it is covered. */
  #forget(connection: Connection): boolean {
    if (!this.#connections.delete(connection)) return false;
    const { taken } = connection;
    taken.isGone = true;
    if (taken.frames === taken.covered.frames) this.#taken.delete(taken);
    let gone = this.#taken.size - this.#connections.size;
    for (const other of this.#taken) {
      if (gone <= GONE_MAX) break;
      if (other.isGone && this.#taken.delete(other)) gone--;
    }
    return true;
  }

  #drop(connection: Connection, code: string, why: string): void {
    if (!this.#forget(connection)) return;
    connection.conn.abort();
    const { log, name } = this.#options;
    log.warn(code, `${name} source: ${why}. It came from ${showAddress(connection.conn.peer)}`);
  }

  /** @param why Null: the client has ended its direction. */
  #gone(connection: Connection, why: string | null): void {
    const { taken, hasEnded } = connection;
    // Its records may be acknowledged yet.
    if (why === null && this.#tells && !hasEnded && taken.frames > taken.covered.frames) {
      connection.hasEnded = true;
      return;
    }
    if (!this.#forget(connection)) return;
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

function showCount({ frames, bytes }: Count): string {
  return `${frames} frames (${bytes} bytes)`;
}

function again({ frames, bytes }: Count): string {
  return `send again what came behind frame ${frames} (byte ${bytes})`;
}

function readPosition(position: unknown | null, name: string): TcpPosition {
  if (position === null) return { version: 2, epoch: 0, ...NOTHING, connections: [] };
  const { version, epoch, frames, bytes, connections } = position as Partial<TcpPosition>;
  const isValid = version === 2 && isCount(epoch) && isCount(frames) && isCount(bytes) && Array.isArray(connections);
  if (
    isValid &&
    connections.every((each) => typeof each?.peer === "string" && isCount(each.frames) && isCount(each.bytes))
  ) {
    return { version, epoch, frames, bytes, connections };
  }
  throw new ResilienceError(
    "position_invalid",
    `Cannot go on with source "${name}": the saved position is not one of a TCP source of this version`,
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
