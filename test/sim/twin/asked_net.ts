/**
 * A network that asks about each call whether it is to fail. The calls are those of the virtual network, and what a failure
 * does is the same: an accept that fails aborts the connection, a read or a write leaves one that both ends find cut.
 *
 * Which call is the n-th is not always the same in both worlds. A write counts here once; there once for each part that the
 * kernel takes, which differs only above `sendBufferBytes`. A read counts once for each piece in both, and how bytes become
 * pieces is the kernel's affair here. And what two connections do at once comes in an order of its own.
 */
import { addressText, netError, netErrorOf } from "../../../src/runtime/_net_error.ts";
import {
  type Address,
  type Conn,
  type Listener,
  type Net,
  NetError,
  type NetErrorCode,
} from "../../../src/runtime/runtime.ts";
import type { NetCall } from "../../../src/runtime/virtual/network.ts";
import { WANTED } from "./failpoints.ts";

/** Answers come in the order of the questions. */
export type AskNet = (call: NetCall) => Promise<NetErrorCode | null>;

export function askedNet(net: Net, ask: AskNet): Net {
  return {
    listen: async (options): Promise<Listener> => {
      await allowed(ask, "listen", `Cannot listen on ${addressText(options)}`);
      let isOpen = true;
      const accept = async (conn: Conn): Promise<void> => {
        const attempt = `Cannot accept a connection from ${addressText(conn.peer)}`;
        try {
          await allowed(ask, "accept", attempt);
          if (isOpen) options.accept(new AskedConn(conn, ask));
          else conn.abort();
        } catch (cause) {
          conn.abort();
          options.failed(netErrorOf(attempt, cause));
        }
      };
      const listener = await net.listen({ ...options, accept: (conn) => void accept(conn) });
      return {
        address: listener.address,
        close: () => {
          isOpen = false;
          listener.close();
        },
      };
    },
    connect: async (address, options) => {
      await allowed(ask, "connect", `Cannot connect to ${addressText(address)}`);
      return new AskedConn(await net.connect(address, options), ask);
    },
  };
}

async function allowed(ask: AskNet, call: NetCall, attempt: string): Promise<void> {
  const code = await ask(call);
  if (code !== null) throw new NetError(code, `${attempt}: ${WANTED}`);
}

class AskedConn implements Conn {
  readonly peer: Address;
  readonly local: Address;
  readonly #conn: Conn;
  readonly #ask: AskNet;
  /** A call of it failed. */
  #isCut = false;
  #isClosed = false;
  /** A write waits for its answer. */
  #isAsking = false;
  #endAsked = false;

  constructor(conn: Conn, ask: AskNet) {
    this.#conn = conn;
    this.#ask = ask;
    this.peer = conn.peer;
    this.local = conn.local;
  }

  async read(): Promise<Uint8Array | null> {
    const attempt = `Cannot read from ${addressText(this.peer)}`;
    const bytes = await this.#translated(attempt, () => this.#conn.read());
    if (bytes !== null) await this.#allowed("read", attempt);
    return bytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const attempt = `Cannot write to ${addressText(this.peer)}`;
    this.#isAsking = true;
    try {
      await this.#allowed("write", attempt);
    } finally {
      this.#isAsking = false;
    }
    const written = this.#translated(attempt, () => this.#conn.write(bytes));
    // It was asked for behind these bytes.
    if (this.#endAsked) this.#conn.end();
    return written;
  }

  end(): void {
    this.#endAsked = true;
    if (!this.#isAsking) this.#conn.end();
  }

  abort(): void {
    this.#isClosed = true;
    this.#conn.abort();
  }

  async #allowed(call: NetCall, attempt: string): Promise<void> {
    if ((await this.#ask(call)) !== null && !this.#isClosed) {
      this.#isCut = true;
      this.#conn.abort();
    }
    if (this.#isClosed) throw netError("closed", attempt);
    if (this.#isCut) throw netError("reset", attempt);
  }

  /** What the connection says once it is cut: that the other end did it. */
  async #translated<T>(attempt: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (cause) {
      throw this.#isCut && !this.#isClosed ? netError("reset", attempt) : cause;
    }
  }
}
