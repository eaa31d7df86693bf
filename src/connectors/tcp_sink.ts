/**
 * The connector of a TCP sink: keeps one connection to `--out`, writes what the dataflow gives it, and holds its sources
 * back while it can't.
 *
 *   idle ──start──▶ connecting ──▶ connected ──lost──▶ breaking ──▶ waiting ──250 ms──▶ connecting
 *                                     ├── end, and all is sent ──▶ ended
 *                                     └── close, in the middle of a record ──▶ closing
 *   any ──close──▶ closed
 *
 *   K1. At most one write is outstanding; what comes meanwhile is queued and joined. A connection that is lost during a
 *       write is left only when it is known how much of it was taken.
 *   K2. Above `queueBytesMax` it is blocked, at half of it free again. Absent counts as slow.
 *   K3. A peer that ends its direction is taken as gone: bytes written after that would vanish without a word.
 *
 *   K4. A checkpoint counts once all that was written before it is with the system; a rollback takes back what is not, but for
 *       the record that has been begun. So nothing is missing after a recovery but what a lost connection has lost (K3), and
 *       what comes twice is what was sent since the checkpoint.
 *
 * Bytes that come in are read and ignored.
 */
import { showAddress } from "../base/address.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { type Address, type Conn, type Millis, NetError, type Runtime } from "../runtime/runtime.ts";
import type { ConnectorStatus, SinkConnector, SinkTransactions, Vote } from "./connector.ts";
import { OutputQueue, type OutputRecords } from "./output_queue.ts";

/** As the original: a sink is tried again four times a second, for ever. */
const RECONNECT_MS: Millis = 250;
const CONNECT_TIMEOUT_MS: Millis = 5_000;
/**
 * What the two kernels may hold of a connection that is lost, and so the bound of what can go missing with it. Linux lets
 * buffers grow to 4 MiB at the sender and 6 MiB at the receiver, newer ones to 32 MiB there.
 */
const KERNEL_BYTES_MAX = 40 << 20;

export interface TcpSinkOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** For people: the operator id of the sink. */
  readonly name: string;
  readonly address: Address;
  readonly queueBytesMax: number;
  readonly checkpoints: boolean;
  readonly voted: (epoch: Epoch, vote: Vote) => void;
  /** Wraps every completion, so that the worker flushes once behind it. */
  readonly turn: (run: () => void) => void;
  /** Its `blocked` changed, or it connected for the first time, or it finished. */
  readonly changed: () => void;
}

interface Connection {
  readonly conn: Conn;
  /** Bytes of the write that is outstanding; 0: none is. */
  writing: number;
  /** By the system, of what was written on this connection. */
  bytesTaken: number;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting" }
  | { readonly kind: "connected"; readonly connection: Connection }
  /** Lost, and the outcome of the outstanding write is not known yet. */
  | { readonly kind: "breaking"; readonly connection: Connection; readonly why: string }
  | { readonly kind: "waiting"; readonly cancel: () => void }
  /** All was sent. The peer may still be reading it. */
  | { readonly kind: "ended" }
  /** A record is cut; its rest is being written. */
  | { readonly kind: "closing"; readonly connection: Connection; readonly done: () => void }
  | { readonly kind: "closed" };

export class TcpSinkConnector implements SinkConnector {
  readonly name: string;
  readonly address: Address;
  readonly transactions?: SinkTransactions;
  readonly #options: TcpSinkOptions;
  readonly #queue = new OutputQueue();
  #state: State = { kind: "idle" };
  #blocked = false;
  #blockedSinceMs: Millis | null = null;
  #ending = false;
  /** All that was ever written to it, in bytes. */
  #written = 0;
  #givenUp = false;
  /** The checkpoint that waits until so much of it is with the system. */
  #preparing: { readonly epoch: Epoch; readonly through: number } | null = null;
  /** Tries to connect that failed since it was last connected. */
  #failures = 0;
  /** Has it ever been connected? Phase III waits for that. */
  everConnected = false;
  /** All that was given to it is with the system, and the connection was ended in order. */
  finished = false;
  bytesSent = 0;
  connectionsLost = 0;
  /** Upper bound of what was taken by the system and may not have arrived, over all lost connections. */
  bytesAtRisk = 0;

  constructor(options: TcpSinkOptions) {
    this.#options = options;
    this.name = options.name;
    this.address = options.address;
    if (!options.checkpoints) return;
    this.transactions = {
      settled: true,
      prepare: (epoch) => {
        this.#preparing = { epoch, through: this.#written };
        this.#voteIfSent();
      },
      snapshot: () => null,
      commit: () => {},
      abort: (epoch) => {
        if (this.#preparing?.epoch === epoch) this.#preparing = null;
      },
      rollBack: () => this.#rollBack(),
    };
  }

  get target(): string {
    return showAddress(this.address);
  }

  status(): ConnectorStatus {
    return {
      kind: "tcp",
      sent_bytes: this.bytesSent,
      connections_lost: this.connectionsLost,
      at_risk_bytes: this.bytesAtRisk,
    };
  }

  get connected(): boolean {
    return this.#state.kind === "connected";
  }

  get blocked(): boolean {
    return this.#blocked;
  }

  /** Monotonic; null while free. */
  get blockedSinceMs(): Millis | null {
    return this.#blockedSinceMs;
  }

  get queuedBytes(): number {
    return this.#queue.bytes;
  }

  countQueuedRecords(): number {
    return this.#queue.countRecords();
  }

  start(): void {
    if (this.#state.kind === "idle") this.#connect("TCPSink initializing connection to");
  }

  write(records: OutputRecords): void {
    this.#queue.push(records);
    this.#written += records.bytes.length;
    this.#judge();
  }

  /** At the end of a turn: hands the next bytes to the system, unless a write is under way. */
  flush(): void {
    if (this.#state.kind !== "connected" || this.#state.connection.writing > 0) return;
    const { connection } = this.#state;
    const bytes = this.#queue.next();
    if (bytes !== null) this.#send(connection, bytes);
    else if (this.#ending) this.#finish(connection);
  }

  /** No more will be written: finishes once all is sent. A sink that is not connected does not get there. */
  end(): void {
    this.#ending = true;
    this.flush();
  }

  /**
   * Now. If a record is cut in half at that moment, its rest is tried for `graceMs` first. What else is queued stays where
   * it is.
   */
  close(graceMs: Millis): Promise<void> {
    const state = this.#state;
    if (state.kind === "waiting") state.cancel();
    if (state.kind === "connected") {
      const { connection } = state;
      if (connection.writing > 0 || this.#queue.cut) return this.#closeWhenWhole(connection, graceMs);
      connection.conn.end();
    }
    if (state.kind !== "closing") this.#state = { kind: "closed" };
    return Promise.resolve();
  }

  #closeWhenWhole(connection: Connection, graceMs: Millis): Promise<void> {
    const { runtime, log, turn } = this.#options;
    return new Promise((resolve) => {
      const cancel = runtime.clock.startTimer(graceMs, () =>
        turn(() => {
          log.warn(
            "sink_record_cut",
            `TCPSink left ${showAddress(this.address)} in the middle of a record: the peer did not read within ${graceMs} ms`,
          );
          this.#closed(closing, false);
        }),
      );
      const done = () => {
        cancel();
        resolve();
      };
      const closing: State & { kind: "closing" } = { kind: "closing", connection, done };
      this.#state = closing;
      if (connection.writing === 0) this.#sendRestOfRecord(connection);
    });
  }

  #closed({ connection, done }: State & { kind: "closing" }, inOrder: boolean): void {
    this.#state = { kind: "closed" };
    if (inOrder) connection.conn.end();
    else connection.conn.abort();
    done();
  }

  #connect(how: string): void {
    const { runtime, log, address, turn } = this.#options;
    const connecting: State = { kind: "connecting" };
    this.#state = connecting;
    // Four tries a second would bury everything else: the worker says every few seconds whom it waits for.
    const say = this.#failures === 0 ? "info" : "debug";
    log[say]("sink_connecting", `${how} ${showAddress(address)}`);
    runtime.net.connect(address, { timeoutMs: CONNECT_TIMEOUT_MS }).then(
      (conn) =>
        turn(() => {
          if (this.#state !== connecting) return conn.abort();
          const connection: Connection = { conn, writing: 0, bytesTaken: 0 };
          this.#state = { kind: "connected", connection };
          this.everConnected = true;
          this.#failures = 0;
          log.info("sink_connected", `TCPSink connected to ${showAddress(address)}`);
          this.#watch(connection);
          this.#options.changed();
          this.flush();
        }),
      (error: unknown) =>
        turn(() => {
          if (this.#state !== connecting) return;
          log[this.#failures++ === 0 ? "warn" : "debug"](
            "sink_connection_failed",
            `TCPSink connection failed: ${showAddress(address)}: ${reason(error)}`,
          );
          this.#wait();
        }),
    );
  }

  #wait(): void {
    const cancel = this.#options.runtime.clock.startTimer(RECONNECT_MS, () =>
      this.#options.turn(() => {
        if (this.#state.kind === "waiting") this.#connect("RE-Connecting TCPSink to");
      }),
    );
    this.#state = { kind: "waiting", cancel };
  }

  /** Reads what comes, to learn when the peer goes. */
  #watch(connection: Connection): void {
    const gone = (why: string) => this.#options.turn(() => this.#peerGone(connection, why));
    const next = (): void => {
      connection.conn.read().then(
        (bytes) => {
          if (bytes === null) gone("the peer closed the connection");
          else next();
        },
        (error: unknown) => gone(reason(error)),
      );
    };
    next();
  }

  #send(connection: Connection, bytes: Uint8Array): void {
    connection.writing = bytes.length;
    connection.conn.write(bytes).then(
      () => this.#options.turn(() => this.#sent(connection, bytes.length, null)),
      (error: unknown) =>
        this.#options.turn(() =>
          this.#sent(connection, error instanceof NetError ? error.bytesTaken : 0, reason(error)),
        ),
    );
  }

  #sendRestOfRecord(connection: Connection): void {
    this.#send(connection, this.#queue.next()!.subarray(0, this.#queue.restOfRecord));
  }

  /** The outcome of a write: how much the system took of it, and why not all. */
  #sent(connection: Connection, count: number, failure: string | null): void {
    connection.writing = 0;
    connection.bytesTaken += count;
    this.bytesSent += count;
    this.#queue.taken(count);
    this.#voteIfSent();
    const state = this.#state;
    if (state.kind === "breaking") this.#broken(connection, state.why);
    else if (state.kind === "connected" && failure !== null) this.#lost(connection, failure);
    else if (state.kind === "connected") this.flush();
    else if (state.kind === "closing" && failure === null && this.#queue.cut) this.#sendRestOfRecord(connection);
    else if (state.kind === "closing") this.#closed(state, failure === null);
    this.#judge();
  }

  #peerGone(connection: Connection, why: string): void {
    const state = this.#state;
    if (state.kind === "connected" && state.connection === connection) this.#lost(connection, why);
    if (state.kind !== "ended") return;
    this.#state = { kind: "closed" };
    this.#options.log.info("sink_ended", `TCPSink connection to ${showAddress(this.address)} ended: ${why}`);
  }

  #lost(connection: Connection, why: string): void {
    connection.conn.abort();
    if (connection.writing === 0) return this.#broken(connection, why);
    this.#state = { kind: "breaking", connection, why };
    this.#options.changed();
  }

  #broken(connection: Connection, why: string): void {
    const again = this.#queue.rewind();
    const atRisk = Math.min(connection.bytesTaken, KERNEL_BYTES_MAX);
    this.connectionsLost++;
    this.bytesAtRisk += atRisk;
    this.#options.log.warn(
      "sink_connection_closed",
      `TCPSink connection closed: ${showAddress(this.address)}: ${why}; ${this.#queue.bytes} bytes wait for its return` +
        `${again > 0 ? `, ${again} of them of a record that was cut and is sent again whole` : ""}; ` +
        `of what the system had taken on this connection at most ${atRisk} bytes may not have arrived`,
    );
    this.#wait();
    this.#options.changed();
  }

  giveUp(): void {
    this.#givenUp = true;
    this.#voteIfSent();
  }

  /** K4. */
  #voteIfSent(): void {
    const preparing = this.#preparing;
    if (preparing === null) return;
    if (!this.#givenUp && this.#written - this.#queue.bytes < preparing.through) return;
    this.#preparing = null;
    this.#options.voted(preparing.epoch, { kind: "commit" });
  }

  #rollBack(): void {
    const state = this.#state;
    const offered = state.kind === "connected" || state.kind === "breaking" ? state.connection.writing : 0;
    const before = this.#queue.bytes;
    this.#queue.dropBehind(offered);
    this.#written -= before - this.#queue.bytes;
    this.#preparing = null;
    this.#judge();
  }

  #finish(connection: Connection): void {
    this.#state = { kind: "ended" };
    this.finished = true;
    connection.conn.end();
    this.#options.changed();
  }

  #judge(): void {
    const max = this.#options.queueBytesMax;
    const blocked = this.#blocked ? this.#queue.bytes > max / 2 : this.#queue.bytes > max;
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    const { log, runtime } = this.#options;
    this.#blockedSinceMs = blocked ? runtime.clock.monotonicMs() : null;
    if (blocked) log.info("sink_blocked", `TCPSink is experiencing back pressure: ${showAddress(this.address)}`);
    else log.info("sink_free", `TCPSink is no longer experiencing back pressure: ${showAddress(this.address)}`);
    this.#options.changed();
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
