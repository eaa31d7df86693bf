/**
 * The connector of a sink program that commits in two phases: keeps one connection to it, brings its frames to the machine
 * (`protocol/connector/sink_commit.ts`), and writes what the machine says and the output that may go.
 *
 *   idle ──start, and the place to begin is known──▶ connecting ──▶ connected ──lost, or closed──▶ breaking ──▶ waiting
 *                                                        ▲                                                        │
 *                                                        └────────────────────────────────────────────────────────┘
 *   any ──close──▶ closed
 *
 *   Y1. One read and one write are outstanding on a connection. The next one is made when the outcome of the write is known.
 *   Y2. Above `queueBytesMax` of output that waits it is blocked, at half of it free again. Absent counts as slow: it is
 *       ready from the start, and takes what fits.
 *   Y3. An introduction that takes more than 10 seconds is given up. A vote may take as long as the checkpoint; meanwhile it is
 *       tried each second whether the connection is still there.
 *   Y4. At a stop the sink has to show that it has heard of the last commit: asked once more, it lists nothing. If it does not
 *       answer within 2 seconds, the connection is made anew for it.
 *   Y5. Without checkpoints nothing is ever committed: what the system had taken when a connection is lost may be missing.
 */
import { showAddress } from "../base/address.ts";
import { ResilienceError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { SinkCommit, type SinkStep } from "../protocol/connector/sink_commit.ts";
import { type Address, type Conn, type Millis, NetError, type Runtime } from "../runtime/runtime.ts";
import { FrameSplitter } from "../wire/frame.ts";
import type { ConnectorStatus, SinkConnector, SinkTransactions, Vote } from "./connector.ts";
import { HeldOutput, wholeOutput } from "./held_output.ts";
import type { OutputRecords } from "./output_queue.ts";

const RECONNECT_FIRST_MS: Millis = 250;
/** As the original: for ever. */
const RECONNECT_MS: Millis = 1_000;
const CONNECT_TIMEOUT_MS: Millis = 5_000;
const INTRODUCTION_MS: Millis = 10_000;
/** What a sink has to say is short: votes, and names of transactions. */
const FRAME_BYTES_MAX = 1 << 20;
/** Output since the last checkpoint that is kept to be sent again. More costs a rollback when the connection is lost. */
const KEEP_BYTES_MAX = 64 << 20;
/** Batches of a few bytes take more room than their bytes: so many of them are kept at most. */
const KEEP_PIECES_MAX = 1 << 18;
/** What the two kernels may hold of a connection that is lost. */
const KERNEL_BYTES_MAX = 40 << 20;
const LINGER_MS: Millis = 1_000;
const PROBE_MS: Millis = 1_000;
const CONFIRM_MS: Millis = 2_000;

export interface ConnectorSinkOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** For people: the operator id of the sink. */
  readonly name: string;
  readonly address: Address;
  readonly cookie: string;
  readonly application: string;
  readonly worker: string;
  /** Name of this worker's output; asked for at the start. */
  readonly output: () => string;
  readonly queueBytesMax: number;
  /** Default: 64 MiB. */
  readonly keepBytesMax?: number;
  readonly checkpoints: boolean;
  /** Wraps every completion. */
  readonly turn: (run: () => void) => void;
  /** Its `blocked` changed, or it finished, or it came or went. */
  readonly changed: () => void;
  readonly voted: (epoch: Epoch, vote: Vote) => void;
  /** For whoever watches. */
  readonly reached: (step: SinkStep) => void;
}

interface Connection {
  readonly conn: Conn;
  readonly splitter: FrameSplitter;
  /** A write that is outstanding; of frames of output, the offset where they begin. */
  writing: { readonly bytes: Uint8Array; readonly from: number; readonly isOutput: boolean } | null;
  /** Our direction is. */
  ended: boolean;
  /** Given up; the outcome of a write may still be awaited. */
  over: boolean;
  /** Of the introduction, or of what it may still take to read our last words. */
  cancelDeadline: () => void;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting" }
  | { readonly kind: "connected"; readonly connection: Connection }
  /** Nothing more is taken from it. The outcome of a write is not known yet, or its last words are being written. */
  | { readonly kind: "breaking"; readonly connection: Connection }
  | { readonly kind: "waiting"; readonly cancel: () => void }
  /** Without checkpoints: all was sent. */
  | { readonly kind: "ended" }
  | { readonly kind: "closed" };

/** Plain data, as it is in checkpoints. */
interface SinkPosition {
  readonly version: 1;
  /** Bytes of output up to the cut. */
  readonly offset: number;
}

export class ConnectorSinkConnector implements SinkConnector {
  readonly name: string;
  readonly transactions?: SinkTransactions;
  readonly #options: ConnectorSinkOptions;
  readonly #held = new HeldOutput();
  #commit: SinkCommit | null = null;
  #state: State = { kind: "idle" };
  #started = false;
  /** It is known where output begins: with checkpoints, from the first `rollBack` on. */
  #placed = false;
  #blocked = false;
  #blockedSinceMs: Millis | null = null;
  #ending = false;
  /** Tries in a row that did not come to the end of an introduction. */
  #failures = 0;
  #closing: (() => void) | null = null;
  /** Y3. */
  #probing = false;
  /** Y4: there was a commit since the end. */
  #confirming = false;
  #cancelConfirm: (() => void) | null = null;
  everConnected = false;
  finished = false;
  bytesSent = 0;
  connectionsLost = 0;
  /** Without checkpoints: upper bound of what was taken by the system and may not have arrived. */
  bytesAtRisk = 0;
  votesAgainst = 0;
  /** Without checkpoints: what the system had taken before the present connection. */
  #takenBefore = 0;

  constructor(options: ConnectorSinkOptions) {
    this.#options = options;
    this.name = options.name;
    if (!options.checkpoints) {
      this.#placed = true;
      return;
    }
    const isQuiet = () => this.#isQuiet();
    this.transactions = {
      get settled() {
        return isQuiet();
      },
      prepare: (epoch) => this.#with((commit) => commit.prepare(epoch)),
      snapshot: (): SinkPosition => ({ version: 1, offset: this.#commit?.written ?? 0 }),
      commit: (epoch) => {
        this.#confirming ||= this.#ending;
        this.#with((commit) => commit.commit(epoch));
      },
      abort: (epoch) => this.#with((commit) => commit.abort(epoch)),
      rollBack: (epoch, position) => this.#rollBack(epoch, position === null ? 0 : readOffset(this.name, position)),
    };
  }

  get target(): string {
    return showAddress(this.#options.address);
  }
  get connected(): boolean {
    return this.#state.kind === "connected" && this.#commit!.introduced;
  }
  get blocked(): boolean {
    return this.#blocked;
  }
  get blockedSinceMs(): Millis | null {
    return this.#blockedSinceMs;
  }
  get queuedBytes(): number {
    return this.#commit?.unsent ?? 0;
  }
  countQueuedRecords(): number {
    return this.#held.countRecords();
  }

  status(): ConnectorStatus {
    const commit = this.#commit;
    return {
      kind: "connector",
      phase: this.#state.kind === "connected" ? commit!.phase : this.#state.kind,
      sent_bytes: this.bytesSent,
      output_offset: commit?.written ?? 0,
      committed_offset: commit?.committed ?? 0,
      undecided: commit?.undecided ?? false,
      votes_against: this.votesAgainst,
      connections_lost: this.connectionsLost,
      at_risk_bytes: this.bytesAtRisk,
    };
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    // As the original: nobody waits for it before the cluster works.
    this.everConnected = true;
    this.#begin();
    this.#options.changed();
  }

  /** Made when it is first needed, as the cluster is known then: a recovery may come to a worker before its sinks are started. */
  get #machine(): SinkCommit {
    const { cookie, application, worker, output, checkpoints, keepBytesMax } = this.#options;
    this.#commit ??= new SinkCommit({
      cookie: new TextEncoder().encode(cookie),
      program: application,
      instance: worker,
      output: output(),
      checkpoints,
      keepBytesMax: keepBytesMax ?? KEEP_BYTES_MAX,
    });
    return this.#commit;
  }

  write(records: OutputRecords): void {
    const commit = this.#machine;
    commit.wrote(records.bytes.length);
    if (commit.spoiled) return;
    this.#held.push(records);
    this.#judge();
  }

  /** At the end of a turn. */
  flush(): void {
    this.#advance();
  }

  end(): void {
    this.#ending = true;
    this.#advance();
  }

  /** The sink is told what it has to commit first, if that takes no longer than `graceMs`. */
  async close(graceMs: Millis): Promise<void> {
    if (this.#state.kind === "closed") return;
    this.#advance();
    if (!this.#isQuiet()) {
      await new Promise<void>((resolve) => {
        const { runtime, turn } = this.#options;
        const cancel = runtime.clock.startTimer(graceMs, () => turn(() => this.#closing?.()));
        this.#closing = () => {
          this.#closing = null;
          cancel();
          resolve();
        };
      });
    }
    this.#sayWhatIsOpen(graceMs);
    const state = this.#state;
    this.#state = { kind: "closed" };
    if (state.kind === "waiting") state.cancel();
    if (state.kind !== "connected" && state.kind !== "breaking") return;
    state.connection.cancelDeadline();
    if (state.connection.writing === null) state.connection.conn.end();
    else state.connection.conn.abort();
  }

  #sayWhatIsOpen(graceMs: Millis): void {
    const commit = this.#commit;
    if (commit === null || !this.#placed || !this.#options.checkpoints || !commit.undecided) return;
    this.#options.log.warn(
      "sink_undecided",
      `${this.name} could not tell the sink at ${this.target} within ${graceMs} ms what to do with its open transaction, ` +
        `if it has one: ${commit.committed} bytes of output are committed`,
    );
  }

  #isQuiet(): boolean {
    const commit = this.#commit;
    const state = this.#state;
    if (commit === null || !this.#placed || state.kind === "ended") return true;
    if (state.kind === "connected" && state.connection.writing !== null) return false;
    if (!this.#options.checkpoints) return true;
    return commit.out.length === 0 && !(this.#confirming ? commit.unconfirmed : commit.undecided);
  }

  // Epochs.

  #with(run: (commit: SinkCommit) => void): void {
    const commit = this.#machine;
    run(commit);
    this.#settle(commit, true);
    this.#advance();
  }

  #rollBack(epoch: Epoch, offset: number): void {
    this.#placed = true;
    this.#held.reset(offset);
    this.#ending = false;
    this.#confirming = false;
    this.finished = false;
    const commit = this.#machine;
    commit.rollBack(epoch, offset);
    this.#settle(commit, true);
    this.#begin();
    this.#advance();
  }

  /** The first connection is made when it is known where output begins. */
  #begin(): void {
    if (this.#started && this.#placed && this.#state.kind === "idle") this.#connect();
  }

  /** What the machine wants. `called`: by somebody who is not through with it, and can't take a vote now. */
  #settle(commit: SinkCommit, called: boolean): void {
    const { runtime, log, turn, voted } = this.#options;
    if (commit.spoiled) this.#held.reset(commit.written);
    else {
      this.#held.release(commit.keptFrom);
      this.#held.seek(commit.sent);
    }
    for (const effect of commit.takeEffects()) {
      switch (effect.kind) {
        case "reached":
          this.#options.reached(effect.point);
          break;
        case "warn":
          log.warn(effect.code, `${this.name}, sink ${this.target}: ${effect.text}`);
          break;
        case "close":
          log[effect.fault ? "error" : "info"](
            effect.code,
            `${this.name} closes its connection to the sink at ${this.target}: ${effect.text}`,
          );
          this.#leave(effect.fault);
          break;
        case "vote": {
          const { epoch } = effect;
          if (!effect.commit) this.votesAgainst++;
          const vote: Vote = effect.commit
            ? { kind: "commit" }
            : { kind: "abort", reason: `${this.target}: ${effect.reason}`, rollBack: effect.rollBack };
          if (!called) voted(epoch, vote);
          else runtime.clock.soon(() => turn(() => voted(epoch, vote)));
          break;
        }
      }
    }
  }

  // The connection.

  #connect(): void {
    const { runtime, log, address, turn } = this.#options;
    const connecting: State = { kind: "connecting" };
    this.#state = connecting;
    const say = this.#failures === 0 ? "info" : "debug";
    log[say]("sink_connecting", `ConnectorSink connecting to ${this.target}`);
    runtime.net.connect(address, { timeoutMs: CONNECT_TIMEOUT_MS }).then(
      (conn) =>
        turn(() => {
          if (this.#state !== connecting) return conn.abort();
          this.#connected(conn);
        }),
      (error: unknown) =>
        turn(() => {
          if (this.#state !== connecting) return;
          log[this.#failures++ === 0 ? "warn" : "debug"](
            "sink_connection_failed",
            `ConnectorSink connection failed: ${this.target}: ${reason(error)}`,
          );
          this.#wait();
        }),
    );
  }

  #connected(conn: Conn): void {
    const { runtime, log, turn } = this.#options;
    const commit = this.#machine;
    const connection: Connection = {
      conn,
      splitter: new FrameSplitter({ lengthMax: FRAME_BYTES_MAX }),
      writing: null,
      ended: false,
      over: false,
      // Y3.
      cancelDeadline: runtime.clock.startTimer(INTRODUCTION_MS, () =>
        turn(() => {
          if (this.#state.kind !== "connected" || this.#state.connection !== connection) return;
          commit.giveUp("sink_too_slow", `its introduction was not over within ${INTRODUCTION_MS} ms`);
          this.#settle(commit, false);
          this.#advance();
        }),
      ),
    };
    this.#state = { kind: "connected", connection };
    log.info("sink_connected", `ConnectorSink connected to ${this.target}`);
    commit.connected();
    this.#read(connection);
    this.#advance();
  }

  #wait(): void {
    const delayMs = this.#failures > 0 ? RECONNECT_MS : RECONNECT_FIRST_MS;
    const cancel = this.#options.runtime.clock.startTimer(delayMs, () =>
      this.#options.turn(() => {
        if (this.#state.kind === "waiting") this.#connect();
      }),
    );
    this.#state = { kind: "waiting", cancel };
  }

  #read(connection: Connection): void {
    connection.conn.read().then(
      (bytes) =>
        this.#options.turn(() => {
          if (bytes === null) return this.#gone(connection, "the sink closed the connection");
          this.#received(connection, bytes);
          this.#read(connection);
        }),
      (error: unknown) => this.#options.turn(() => this.#gone(connection, reason(error))),
    );
  }

  #received(connection: Connection, chunk: Uint8Array): void {
    if (this.#state.kind !== "connected" || this.#state.connection !== connection) return;
    const commit = this.#commit!;
    const wasIntroduced = commit.introduced;
    const { splitter } = connection;
    const outcome = splitter.push(chunk);
    for (let i = 0; i < splitter.count; i++) {
      commit.received(splitter.bytes.subarray(splitter.starts[i]!, splitter.ends[i]!));
      this.#settle(commit, false);
    }
    if (this.#state.kind !== "connected" || this.#state.connection !== connection) return;
    if (outcome !== "ok") {
      commit.giveUp("sink_protocol_error", `a frame of ${outcome.length} bytes came, at most ${outcome.lengthMax} may`);
      this.#settle(commit, false);
    } else if (!wasIntroduced && commit.introduced) {
      connection.cancelDeadline();
      this.#failures = 0;
      this.#options.changed();
    }
    this.#advance();
  }

  #gone(connection: Connection, why: string): void {
    const state = this.#state;
    const { log } = this.#options;
    if (state.kind === "ended") {
      this.#state = { kind: "closed" };
      log.info("sink_ended", `ConnectorSink connection to ${this.target} ended: ${why}`);
      return;
    }
    if (state.kind === "breaking" && state.connection === connection) return this.#cut(connection);
    if (state.kind !== "connected" || state.connection !== connection) return;
    const commit = this.#commit!;
    log.warn("sink_connection_closed", `ConnectorSink connection closed: ${this.target}: ${why}`);
    this.connectionsLost++;
    this.#failures = commit.introduced ? 0 : this.#failures + 1;
    this.#state = { kind: "breaking", connection };
    commit.lost();
    this.#settle(commit, false);
    this.#cut(connection);
    this.#options.changed();
  }

  /** The machine is through with this connection; what it has said last still goes, and the sink gets a second to read it. */
  #leave(fault: boolean): void {
    if (this.#state.kind !== "connected") return;
    const { connection } = this.#state;
    const { runtime, turn, changed } = this.#options;
    this.#failures = fault ? this.#failures + 1 : 0;
    this.#state = { kind: "breaking", connection };
    connection.cancelDeadline();
    connection.cancelDeadline = runtime.clock.startTimer(LINGER_MS, () => turn(() => this.#gone(connection, "")));
    changed();
  }

  /** Now. A write that is outstanding fails, and its outcome is awaited (Y1). */
  #cut(connection: Connection): void {
    connection.over = true;
    connection.cancelDeadline();
    connection.conn.abort();
    if (connection.writing !== null) return;
    const commit = this.#commit!;
    if (!this.#options.checkpoints) {
      this.bytesAtRisk += Math.min(commit.committed - this.#takenBefore, KERNEL_BYTES_MAX);
      this.#takenBefore = commit.committed;
    }
    commit.lost();
    this.#settle(commit, false);
    if (this.#state.kind === "closed") return;
    this.#wait();
    this.#judge();
  }

  /** Writes what may go, one piece at a time. */
  #advance(): void {
    const commit = this.#commit;
    const state = this.#state;
    if (commit === null) return;
    if (state.kind === "connected" || state.kind === "breaking") {
      const { connection } = state;
      if (connection.writing === null && !connection.ended && !connection.over) {
        this.#writeNext(commit, connection, state.kind === "breaking");
      }
    }
    if (this.#cancelConfirm !== null && !commit.unconfirmed) {
      this.#cancelConfirm();
      this.#cancelConfirm = null;
    }
    if (!this.#probing && commit.awaited !== 0) this.#probe(commit.awaited);
    this.#judge();
    if (this.#closing !== null && this.#isQuiet()) this.#closing();
  }

  #writeNext(commit: SinkCommit, connection: Connection, isBreaking: boolean): void {
    const from = commit.sent;
    if (commit.out.length > 0) {
      return this.#write(connection, { bytes: commit.out.take(), from, isOutput: false });
    }
    if (isBreaking) {
      // A close with unread bytes would be a reset, which can overtake the last words.
      connection.ended = true;
      return connection.conn.end();
    }
    // What is not committed by now is of no use.
    const mayGo = this.#closing === null && from < commit.sendable;
    const frames = mayGo ? this.#held.frames(commit.sendable) : null;
    if (frames !== null) {
      commit.gaveOut(frames.through);
      if (this.#held.pieces > KEEP_PIECES_MAX && this.#options.checkpoints) commit.keepNothing();
      this.#held.release(commit.keptFrom);
      return this.#write(connection, { bytes: frames.bytes, from, isOutput: true });
    }
    if (this.#ending && !this.#options.checkpoints && commit.introduced) this.#finish(connection);
    if (!this.#confirming || commit.phase !== "ready" || !commit.unconfirmed || commit.undecided) return;
    if (this.#cancelConfirm !== null) return;
    commit.confirm();
    const { runtime, turn } = this.#options;
    this.#cancelConfirm = runtime.clock.startTimer(CONFIRM_MS, () =>
      turn(() => {
        this.#cancelConfirm = null;
        commit.confirmAnew();
        this.#settle(commit, false);
        this.#advance();
      }),
    );
    this.#advance();
  }

  #write(connection: Connection, writing: NonNullable<Connection["writing"]>): void {
    connection.writing = writing;
    connection.conn.write(writing.bytes).then(
      () => this.#options.turn(() => this.#sent(connection, writing.bytes.length, null)),
      (error: unknown) =>
        this.#options.turn(() =>
          this.#sent(connection, error instanceof NetError ? error.bytesTaken : 0, reason(error)),
        ),
    );
  }

  /** The outcome of a write: how much the system took of it, and why not all. */
  #sent(connection: Connection, count: number, failure: string | null): void {
    const { bytes, from, isOutput } = connection.writing!;
    const commit = this.#commit!;
    connection.writing = null;
    this.bytesSent += count;
    if (this.#state.kind === "closed") return;
    if (isOutput && !this.#options.checkpoints) {
      commit.taken(from + wholeOutput(bytes, count));
      this.#settle(commit, false);
    }
    if (failure !== null || connection.over) this.#gone(connection, failure ?? "");
    this.#advance();
  }

  /** Y3. */
  #probe(epoch: Epoch): void {
    this.#probing = true;
    const { runtime, turn } = this.#options;
    runtime.clock.startTimer(PROBE_MS, () =>
      turn(() => {
        this.#probing = false;
        const commit = this.#commit!;
        if (this.#state.kind === "connected" && commit.awaited === epoch) commit.probe();
        this.#advance();
      }),
    );
  }

  #finish(connection: Connection): void {
    this.#state = { kind: "ended" };
    this.finished = true;
    connection.conn.end();
    this.#options.changed();
  }

  #judge(): void {
    const queued = this.queuedBytes;
    const { queueBytesMax: max, checkpoints, changed, log, runtime } = this.#options;
    const isIdle = this.#state.kind === "connected" && this.#state.connection.writing === null;
    if (this.#ending && !this.finished && checkpoints && queued === 0 && isIdle && this.connected) {
      // The last checkpoint commits it.
      this.finished = true;
      changed();
    }
    const blocked = this.#blocked ? queued > max / 2 : queued > max;
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    this.#blockedSinceMs = blocked ? runtime.clock.monotonicMs() : null;
    if (blocked) log.info("sink_blocked", `ConnectorSink is experiencing back pressure: ${this.target}`);
    else log.info("sink_free", `ConnectorSink is no longer experiencing back pressure: ${this.target}`);
    changed();
  }
}

function readOffset(name: string, position: unknown): number {
  const { version, offset } = position as Partial<SinkPosition>;
  if (version === 1 && Number.isSafeInteger(offset) && offset! >= 0) return offset!;
  throw new ResilienceError(
    "state_unreadable",
    `${name}: its position in the checkpoint is none that this release writes`,
  );
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
