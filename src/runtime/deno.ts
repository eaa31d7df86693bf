/**
 * The runtime over Deno: sockets by `Deno.listen` and `Deno.connect`, files and process by `node:`.
 *
 * Deno has no abrupt close: `abort` closes, and what the kernel already had still reaches the peer, which then sees an
 * end, or a reset if it writes or if we had bytes unread. Whoever reads must know from its own framing whether it got
 * everything.
 */

import { pathToFileURL } from "node:url";
import { addressText, netError, netErrorOf, plainHost } from "./_net_error.ts";
import { createNodeDisk, type FileLocker, type LockedFile } from "./_node_disk.ts";
import { createNodeClock, createNodeHost, createNodeRandom } from "./_node_host.ts";
import type { Net, Runtime } from "./runtime.ts";
import {
  type Address,
  type Conn,
  type ConnectOptions,
  type Listener,
  type ListenOptions,
  NetError,
} from "./runtime.ts";

/** The part of Deno's interface used here, as far as it is used. */
interface DenoAddr {
  readonly hostname: string;
  readonly port: number;
}
interface DenoTcpConn {
  readonly remoteAddr: DenoAddr;
  readonly localAddr: DenoAddr;
  read(target: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
  setNoDelay(on: boolean): void;
}
interface DenoTcpListener {
  readonly addr: DenoAddr;
  accept(): Promise<DenoTcpConn>;
  close(): void;
}
interface DenoFile {
  tryLock(exclusive: boolean): Promise<boolean>;
  stat(): Promise<{ dev: number; ino: number | null }>;
  close(): void;
}
declare const Deno: {
  readonly build: { readonly standalone?: boolean };
  readonly stdout: { write(bytes: Uint8Array): Promise<number> };
  readonly stderr: { write(bytes: Uint8Array): Promise<number> };
  listen(options: { hostname: string; port: number }): DenoTcpListener;
  connect(options: { hostname: string; port: number; signal: AbortSignal }): Promise<DenoTcpConn>;
  open(path: string, options: { read: true; write: true; create: true; mode: number }): Promise<DenoFile>;
};

const PIECE_BYTES_MAX = 64 * 1024;
/** For the first reads: a connection on which little comes, or nothing, costs no more. */
const FIRST_BYTES_MAX = 1024;
/** After a failed accept (no descriptors left) the next one is tried this much later. */
const ACCEPT_RETRY_MS = 20;

export function createDenoRuntime(): Runtime {
  return {
    clock: createNodeClock(),
    random: createNodeRandom(),
    net: { listen, connect } satisfies Net,
    disk: createNodeDisk(lockWithDeno),
    host: createNodeHost({
      name: "deno",
      compiled: Deno.build.standalone === true,
      calledAs: "tammar",
      // `process.stdout.write` and `fs.write` stop the event loop while the reader of a pipe stalls; this does not.
      writeSome: (stream, bytes) => (stream === 1 ? Deno.stdout : Deno.stderr).write(bytes),
      importModule: (path) => import(pathToFileURL(path).href),
    }),
  };
}

async function listen(options: ListenOptions): Promise<Listener> {
  let listener: DenoTcpListener;
  try {
    listener = Deno.listen({ hostname: options.host, port: options.port });
  } catch (cause) {
    throw netErrorOf(`Cannot listen on ${addressText(options)}`, cause);
  }
  const address = addressOf(listener.addr);
  let open = true;
  const acceptAll = async () => {
    while (open) {
      try {
        acceptOne(options, await listener.accept());
      } catch (cause) {
        if (!open) return;
        options.failed(netErrorOf(`Cannot accept a connection on ${addressText(address)}`, cause));
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_RETRY_MS));
      }
    }
  };
  // A throw of `failed` itself ends up as an unhandled rejection, which is what `Host.onUncaught` hears.
  void acceptAll();
  return {
    address,
    close() {
      if (!open) return;
      open = false;
      listener.close();
    },
  };
}

function acceptOne(options: ListenOptions, accepted: DenoTcpConn): void {
  let conn: DenoConn | null = null;
  try {
    // Throws for a client that is gone already.
    conn = new DenoConn(accepted);
    options.accept(conn);
  } catch (cause) {
    if (conn === null) closeQuietly(accepted);
    else conn.abort();
    const from = conn === null ? "" : ` from ${addressText(conn.peer)}`;
    options.failed(netErrorOf(`Cannot accept a connection${from}`, cause));
  }
}

async function connect(address: Address, options: ConnectOptions): Promise<Conn> {
  const attempt = `Cannot connect to ${addressText(address)}`;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), Math.ceil(options.timeoutMs));
  try {
    const socket = await Deno.connect({ hostname: address.host, port: address.port, signal: abort.signal });
    if (!abort.signal.aborted) return new DenoConn(socket);
    closeQuietly(socket);
    throw netError("timeout", attempt);
  } catch (cause) {
    if (cause instanceof NetError) throw cause;
    throw abort.signal.aborted ? netError("timeout", attempt, 0, cause) : netErrorOf(attempt, cause);
  } finally {
    clearTimeout(timer);
  }
}

function addressOf(address: DenoAddr): Address {
  return { host: plainHost(address.hostname), port: address.port };
}

class DenoConn implements Conn {
  readonly peer: Address;
  readonly local: Address;
  readonly #socket: DenoTcpConn;
  /** Used again by every read; made by the first. */
  #buffer: Uint8Array | null = null;
  #reading = false;
  #writing = false;
  #endAsked = false;
  #endSent = false;
  #peerDone = false;
  #over: "reset" | "closed" | null = null;

  constructor(socket: DenoTcpConn) {
    this.#socket = socket;
    this.peer = addressOf(socket.remoteAddr);
    this.local = addressOf(socket.localAddr);
    socket.setNoDelay(true);
  }

  async read(): Promise<Uint8Array | null> {
    if (this.#reading) throw new Error(`Cannot read from ${addressText(this.peer)}: another read is pending`);
    if (this.#over === "closed") throw this.#error("read from");
    if (this.#peerDone) return null;
    this.#buffer ??= new Uint8Array(FIRST_BYTES_MAX);
    this.#reading = true;
    try {
      for (;;) {
        const length = await this.#socket.read(this.#buffer);
        // A write that failed has taken the error off the socket; what then looks like an orderly end is none.
        if (length === null && this.#over !== null) throw this.#error("read from");
        if (length === null) {
          this.#peerDone = true;
          this.#closeWhenDone();
          return null;
        }
        if (length === 0) continue;
        const bytes = this.#buffer.subarray(0, length);
        if (length === this.#buffer.length && length < PIECE_BYTES_MAX) this.#buffer = new Uint8Array(PIECE_BYTES_MAX);
        return bytes;
      }
    } catch (cause) {
      throw this.#failed("read from", cause, 0);
    } finally {
      this.#reading = false;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#writing) throw new Error(`Cannot write to ${addressText(this.peer)}: another write is pending`);
    if (this.#over !== null) throw this.#error("write to");
    if (this.#endAsked) throw netError("closed", `Cannot write to ${addressText(this.peer)}`);
    this.#writing = true;
    let taken = 0;
    try {
      while (taken < bytes.length) {
        taken += await this.#socket.write(taken === 0 ? bytes : bytes.subarray(taken));
      }
    } catch (cause) {
      throw this.#failed("write to", cause, taken);
    } finally {
      this.#writing = false;
      if (this.#endAsked) this.#shutDown();
    }
  }

  end(): void {
    if (this.#endAsked || this.#over !== null) return;
    this.#endAsked = true;
    if (!this.#writing) this.#shutDown();
  }

  abort(): void {
    if (this.#over === "closed") return;
    this.#over = "closed";
    closeQuietly(this.#socket);
  }

  #shutDown(): void {
    // When it fails the connection is gone, which the next read tells.
    const sent = () => {
      this.#endSent = true;
      this.#closeWhenDone();
    };
    this.#socket.closeWrite().then(sent, sent);
  }

  /** Both directions are ended: nobody has to remember to give the descriptor back. */
  #closeWhenDone(): void {
    if (this.#peerDone && this.#endSent) closeQuietly(this.#socket);
  }

  #failed(attempt: string, cause: unknown, bytesTaken: number): NetError {
    if (cause instanceof NetError) return cause;
    const { code } = netErrorOf("", cause);
    // After an abort anything may come; without one there is no `closed`.
    this.#over ??= "reset";
    if (attempt === "read from") closeQuietly(this.#socket);
    const shown = this.#over === "closed" ? "closed" : code === "closed" ? "reset" : code;
    return netError(shown, `Cannot ${attempt} ${addressText(this.peer)}`, bytesTaken, cause);
  }

  #error(attempt: string): NetError {
    return netError(this.#over ?? "closed", `Cannot ${attempt} ${addressText(this.peer)}`);
  }
}

function closeQuietly(socket: DenoTcpConn): void {
  try {
    socket.close();
  } catch {
    // It was closed before.
  }
}

/** Deno's own flock(2). The lock lives as long as the open file. */
const lockWithDeno: FileLocker = async (path): Promise<LockedFile | null> => {
  const file = await Deno.open(path, { read: true, write: true, create: true, mode: 0o600 });
  let locked = false;
  try {
    locked = await file.tryLock(true);
    const { dev, ino } = await file.stat();
    return locked ? { device: dev, inode: ino ?? -1, close: () => file.close() } : null;
  } catch (cause) {
    locked = false;
    throw cause;
  } finally {
    if (!locked) file.close();
  }
};
