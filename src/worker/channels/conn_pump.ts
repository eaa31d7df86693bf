// The only place of the channels that holds promises: one read and one write outstanding on one connection. Each
// completion becomes one turn of the worker. Bytes to send are pulled, not pushed: when the connection can take more, the
// handler fills one buffer with everything that is there, so that many small frames become one write and nothing queues
// here.

import { assert } from "../../base/assert.ts";
import { type Conn, NetError } from "../../runtime/runtime.ts";

/** Largest write. */
export const WRITE_BYTES_MAX = 256 * 1024;
const WRITE_BYTES_FIRST = 4 * 1024;

export interface PumpHandler {
  /** About how many bytes are there to send; 0: none. */
  sendableBytes(): number;
  /** Writes the next bytes to the front of `target` (4 KiB or more). Returns how many; 0: none. */
  fill(target: Uint8Array, view: DataView): number;
  /** Bytes came; they are valid during the call. */
  received(chunk: Uint8Array): void;
  /** The peer closed its direction. */
  ended(): void;
  /** The connection broke, in either direction. Called once, and not after `abort`. */
  failed(error: NetError): void;
}

export class ConnPump {
  readonly conn: Conn;
  readonly #handler: PumpHandler;
  readonly #turn: (run: () => void) => void;
  #buffer = new Uint8Array(0);
  #view = new DataView(this.#buffer.buffer);
  /** Of the write that is on its way; 0: none is. */
  #writing = 0;
  #open = true;
  #endWhenFlushed = false;
  #ended = false;
  #chunk: Uint8Array | null = null;
  #error: unknown;

  constructor(conn: Conn, handler: PumpHandler, turn: (run: () => void) => void) {
    this.conn = conn;
    this.#handler = handler;
    this.#turn = turn;
  }

  /** Bytes given to the connection and not yet taken by the kernel. */
  get writingBytes(): number {
    return this.#writing;
  }

  /** Begins to read. */
  start(): void {
    this.conn.read().then(this.#onRead, this.#onFailed);
  }

  /** Sends what the handler has. While a write is on its way this does nothing: its completion asks again. */
  flush(): void {
    if (!this.#open || this.#writing > 0 || this.#ended) return;
    const sendable = this.#handler.sendableBytes();
    if (sendable > 0) {
      if (this.#buffer.length < sendable && this.#buffer.length < WRITE_BYTES_MAX) this.#grow(sendable);
      this.#writing = this.#handler.fill(this.#buffer, this.#view);
    }
    if (this.#writing > 0) {
      this.conn.write(this.#buffer.subarray(0, this.#writing)).then(this.#onWritten, this.#onFailed);
    } else if (this.#endWhenFlushed) {
      this.#ended = true;
      this.conn.end();
    }
  }

  /** From now on a flush that finds nothing to send half-closes. */
  endWhenFlushed(): void {
    this.#endWhenFlushed = true;
  }

  /** Both directions, now. The handler hears nothing more. */
  abort(): void {
    if (!this.#open) return;
    this.#open = false;
    this.conn.abort();
  }

  #grow(wanted: number): void {
    let length = Math.max(this.#buffer.length, WRITE_BYTES_FIRST);
    while (length < wanted && length < WRITE_BYTES_MAX) length *= 2;
    this.#buffer = new Uint8Array(length);
    this.#view = new DataView(this.#buffer.buffer);
  }

  readonly #onRead = (chunk: Uint8Array | null): void => {
    if (!this.#open) return;
    this.#chunk = chunk;
    this.#turn(this.#takeRead);
    if (this.#open && chunk !== null) this.conn.read().then(this.#onRead, this.#onFailed);
  };

  readonly #takeRead = (): void => {
    const chunk = this.#chunk;
    this.#chunk = null;
    if (chunk === null) this.#handler.ended();
    else this.#handler.received(chunk);
  };

  readonly #onWritten = (): void => {
    if (!this.#open) return;
    assert(this.#writing > 0);
    this.#writing = 0;
    this.#turn(this.#takeWritten);
  };

  /** The flush at the end of the turn would do as well; this one does not depend on whether the owner still knows us. */
  readonly #takeWritten = (): void => this.flush();

  readonly #onFailed = (error: unknown): void => {
    if (!this.#open) return;
    this.#open = false;
    this.#error = error;
    this.conn.abort();
    this.#turn(this.#takeFailure);
  };

  readonly #takeFailure = (): void => {
    const error = this.#error;
    this.#handler.failed(error instanceof NetError ? error : new NetError("other", String(error), { cause: error }));
  };
}
