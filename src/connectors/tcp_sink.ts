/**
 * The connector of a TCP sink: keeps one connection to `--out`, writes what the dataflow gives it, and holds its sources
 * back while it can't.
 *
 *   idle ──start──▶ connecting ──▶ connected ──lost──▶ waiting ──250 ms──▶ connecting
 *   any ──close──▶ closed
 *
 *   K1. At most one write is outstanding; what comes meanwhile is queued and joined.
 *   K2. Above `queueBytesMax` it is blocked, below half of it free again. Absent counts as slow.
 *   K3. A peer that ends its direction is taken as gone: bytes written after that would vanish without a word.
 *
 * Bytes that come in are read and ignored.
 */
import { showAddress } from "../base/address.ts";
import type { Log } from "../base/log.ts";
import { type Address, type Conn, type Millis, NetError, type Runtime } from "../runtime/runtime.ts";
import { OutputQueue, type OutputRecords } from "./output_queue.ts";

/** As the original: a sink is tried again four times a second, for ever. */
const RECONNECT_MS: Millis = 250;
const CONNECT_TIMEOUT_MS: Millis = 5_000;
/** What the two kernels may hold of a connection that is lost: the bound of what can go missing with it. */
const KERNEL_BYTES_MAX = 8 << 20;

export interface TcpSinkOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** For people: the operator id of the sink. */
  readonly name: string;
  readonly address: Address;
  readonly queueBytesMax: number;
  /** Wraps every completion, so that the worker flushes once behind it. */
  readonly turn: (run: () => void) => void;
  /** Its `blocked` changed, or it connected for the first time, or it finished. */
  readonly changed: () => void;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting" }
  | { readonly kind: "connected"; readonly conn: Conn; bytesTaken: number }
  | { readonly kind: "waiting"; readonly cancel: () => void }
  | { readonly kind: "closed" };

export class TcpSinkConnector {
  readonly name: string;
  readonly address: Address;
  readonly #options: TcpSinkOptions;
  readonly #queue = new OutputQueue();
  #state: State = { kind: "idle" };
  #blocked = false;
  #blockedSinceMs: Millis | null = null;
  #ending = false;
  /** A write is outstanding, be it on a connection that is lost meanwhile: its outcome comes before any other write. */
  #writing = false;
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
    this.#judge();
  }

  /** At the end of a turn: hands the next bytes to the system, unless a write is under way. */
  flush(): void {
    const state = this.#state;
    if (state.kind !== "connected" || this.#writing) return;
    const bytes = this.#queue.next();
    if (bytes === null) {
      if (this.#ending) this.#finish(state.conn);
      return;
    }
    this.#writing = true;
    state.conn.write(bytes).then(
      () => this.#options.turn(() => this.#wrote(state, bytes.length)),
      (error: unknown) => this.#options.turn(() => this.#writeFailed(state, error)),
    );
  }

  /** No more will be written: finishes once all is sent. A sink that is not connected does not get there. */
  end(): void {
    this.#ending = true;
    this.flush();
  }

  /**
   * Now. If a record is cut in half at that moment, its rest is tried for `graceMs` first.
   */
  async close(graceMs: Millis): Promise<void> {
    const state = this.#state;
    if (state.kind === "waiting") state.cancel();
    if (state.kind === "connected") {
      const until = this.#options.runtime.clock.monotonicMs() + graceMs;
      // A write under way settles by itself when the peer reads; whoever does not read until then has a cut record.
      while ((this.#writing || this.#queue.cut) && this.#state === state) {
        const left = until - this.#options.runtime.clock.monotonicMs();
        if (left <= 0) break;
        if (!this.#writing) {
          const rest = this.#queue.next()!.subarray(0, this.#queue.restOfRecord);
          this.#writing = true;
          state.conn.write(rest).then(
            () => this.#wrote(state, rest.length),
            (error: unknown) => this.#writeFailed(state, error),
          );
        }
        await new Promise<void>((resolve) => this.#options.runtime.clock.startTimer(Math.min(left, 5), resolve));
      }
    }
    if (this.#state === state) {
      this.#state = { kind: "closed" };
      if (state.kind === "connected") {
        if (this.#writing) state.conn.abort();
        else state.conn.end();
      }
    }
  }

  #connect(how: string): void {
    const { runtime, log, address, turn } = this.#options;
    const connecting: State = { kind: "connecting" };
    this.#state = connecting;
    log.info("sink_connecting", `${how} ${showAddress(address)}`);
    runtime.net.connect(address, { timeoutMs: CONNECT_TIMEOUT_MS }).then(
      (conn) =>
        turn(() => {
          if (this.#state !== connecting) return conn.abort();
          const connected: State = { kind: "connected", conn, bytesTaken: 0 };
          this.#state = connected;
          this.everConnected = true;
          log.info("sink_connected", `TCPSink connected to ${showAddress(address)}`);
          this.#watch(connected);
          this.#options.changed();
          this.flush();
        }),
      (error: unknown) =>
        turn(() => {
          if (this.#state !== connecting) return;
          log.warn("sink_connection_failed", `TCPSink connection failed: ${showAddress(address)}: ${reason(error)}`);
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
  #watch(state: State & { kind: "connected" }): void {
    const next = (): void => {
      state.conn.read().then(
        (bytes) => {
          if (this.#state !== state) return;
          if (bytes !== null) next();
          else this.#options.turn(() => this.#lost(state, "the peer closed the connection"));
        },
        (error: unknown) => this.#options.turn(() => this.#lost(state, reason(error))),
      );
    };
    next();
  }

  #wrote(state: State & { kind: "connected" }, count: number): void {
    this.#writing = false;
    // The connection may be gone by now; what the system took of it stays taken.
    this.#take(state, count);
    if (this.#state !== state) this.#queue.rewind();
    this.#judge();
    this.flush();
  }

  #writeFailed(state: State & { kind: "connected" }, error: unknown): void {
    this.#writing = false;
    this.#take(state, error instanceof NetError ? error.bytesTaken : 0);
    if (this.#state === state) return this.#lost(state, reason(error));
    this.#queue.rewind();
    this.flush();
  }

  #take(state: State & { kind: "connected" }, count: number): void {
    this.#queue.taken(count);
    state.bytesTaken += count;
    this.bytesSent += count;
  }

  #lost(state: State & { kind: "connected" }, why: string): void {
    if (this.#state !== state) return;
    state.conn.abort();
    // With a write outstanding its outcome comes first; it rewinds by itself.
    const again = this.#writing ? 0 : this.#queue.rewind();
    const atRisk = Math.min(state.bytesTaken, KERNEL_BYTES_MAX);
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

  #finish(conn: Conn): void {
    if (this.finished) return;
    this.finished = true;
    conn.end();
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
