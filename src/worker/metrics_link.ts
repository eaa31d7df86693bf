/**
 * The connection to a metrics hub. It disturbs nothing: a hub that is absent, slow, stuck or chatty costs reports, which are
 * dropped and never queued, and one line in the log now and then.
 *
 *   away ──connected──▶ greeting ──connect and join written──▶ idle ◀──▶ writing
 *     ▲                                                             │
 *     └───────────── 250 ms after a failure, for ever ◀─────────────┘
 */
import { showAddress } from "../base/address.ts";
import type { Log } from "../base/log.ts";
import { type Address, type Conn, type Millis, NetError, type Runtime } from "../runtime/runtime.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { encodeConnect, encodeJoin, metricsTopic } from "../wire/metrics.ts";

export interface MetricsLinkOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** `--metrics`. */
  readonly address: Address;
  /** Its name as its author gave it. */
  readonly application: string;
  readonly worker: string;
}

const RECONNECT_MS: Millis = 250;
const CONNECT_MS: Millis = 5_000;
/** A hub that takes nothing of a report for so long is given up, and dialled anew. */
const STALL_MS: Millis = 30_000;
/** Between two reads of what a hub has no reason to send. */
const READ_PAUSE_MS: Millis = 100;

export class MetricsLink {
  readonly #options: MetricsLinkOptions;
  #conn: Conn | null = null;
  /** Something is being written: the greeting or a report. */
  #busy = false;
  #closed = false;
  /** Ends a pause between two tries or two reads. */
  #cutPause: () => void = () => {};
  #sent = 0;
  #dropped = 0;

  constructor(options: MetricsLinkOptions) {
    this.#options = options;
  }

  /** Dials until `close`. */
  start(): void {
    void this.#run();
  }

  /** Reports that were written, and those for which there was no connection or no room. */
  get counts(): { readonly sent: number; readonly dropped: number } {
    return { sent: this.#sent, dropped: this.#dropped };
  }

  /** Whole frames. Returns whether they are on their way; if not, they are dropped. The bytes must not change any more. */
  send(bytes: Uint8Array): boolean {
    if (this.#conn === null || this.#busy || this.#closed) {
      this.#dropped++;
      return false;
    }
    this.#sent++;
    void this.#write(this.#conn, bytes);
    return true;
  }

  /** Without a last report. */
  close(): void {
    this.#closed = true;
    this.#cutPause();
    this.#conn?.abort();
  }

  async #run(): Promise<void> {
    const { runtime, address, log, worker } = this.#options;
    while (!this.#closed) {
      try {
        const conn = await runtime.net.connect(address, { timeoutMs: CONNECT_MS });
        log.info("metrics_connected", `${worker}: metrics outgoing connected to ${showAddress(address)}`);
        await this.#serve(conn);
        log.info("metrics_closed", `${worker}: metrics connection closed`);
      } catch (error) {
        // A hub that is not there is nothing to speak of.
        if (!(error instanceof NetError)) throw error;
      }
      if (!this.#closed) await this.#pause(RECONNECT_MS);
    }
  }

  /** Until the connection is gone. */
  async #serve(conn: Conn): Promise<void> {
    if (this.#closed) return conn.abort();
    this.#conn = conn;
    this.#busy = false;
    const { application, worker } = this.#options;
    const greeting = new ByteWriter();
    encodeConnect(greeting);
    encodeJoin(greeting, metricsTopic(application), worker);
    void this.#write(conn, greeting.take());
    try {
      // Reading is how we learn that it is gone. What a hub sends means nothing, and is read slowly on purpose.
      while ((await conn.read()) !== null) {
        if (!this.#closed) await this.#pause(READ_PAUSE_MS);
      }
    } catch (error) {
      if (!(error instanceof NetError)) throw error;
    } finally {
      this.#conn = null;
      conn.abort();
    }
  }

  async #write(conn: Conn, bytes: Uint8Array): Promise<void> {
    this.#busy = true;
    const cancel = this.#options.runtime.clock.startTimer(STALL_MS, () => conn.abort());
    try {
      await conn.write(bytes);
    } catch (error) {
      if (!(error instanceof NetError)) throw error;
      conn.abort();
    }
    cancel();
    if (this.#conn === conn) this.#busy = false;
  }

  #pause(ms: Millis): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.runtime.clock.startTimer(ms, resolve);
      this.#cutPause = () => {
        cancel();
        resolve();
      };
    });
  }
}
