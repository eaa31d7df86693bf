/**
 * The runtime over Bun: sockets by `Bun.listen` and `Bun.connect`, files and process by `node:`.
 *
 * Bun calls handlers where the seam has promises. A connection keeps what was not read yet, pauses the socket above
 * `UNREAD_BYTES_MAX`, and hands out one piece a turn, so that half a megabyte from the kernel does not become one long
 * turn of its consumer.
 */

import { dlopen, FFIType } from "bun:ffi";
import { lookup } from "node:dns/promises";
import * as fs from "node:fs";
import { isIP } from "node:net";
import { basename } from "node:path";
import process from "node:process";
import { addressText, netError, netErrorOf, plainHost } from "./_net_error.ts";
import { createNodeDisk, type FileLocker, type LockedFile } from "./_node_disk.ts";
import { createNodeClock, createNodeHost, createNodeRandom } from "./_node_host.ts";
import type { Address, Conn, ConnectOptions, Listener, ListenOptions, Net, NetError, Runtime } from "./runtime.ts";

const PIECE_BYTES_MAX = 64 * 1024;
/** The socket is paused above either. Bun may hand over another 512 KiB before that. */
const UNREAD_BYTES_MAX = 256 * 1024;
const UNREAD_CHUNKS_MAX = 64;

export interface BunRuntimeOptions {
  /** The library's own namespaces: what `tammar` and `tammar/run` are inside an imported module. */
  readonly library?: Record<string, unknown>;
  readonly run?: Record<string, unknown>;
}

export function createBunRuntime(options: BunRuntimeOptions = {}): Runtime {
  if (options.library !== undefined) provideModule("tammar", options.library);
  if (options.run !== undefined) provideModule("tammar/run", options.run);
  const compiled = /^(\/\$bunfs\/|[A-Z]:[\\/]~BUN[\\/])/.test(Bun.main);
  return {
    clock: createNodeClock(),
    random: createNodeRandom(),
    net: { listen, connect } satisfies Net,
    disk: createNodeDisk(createLocker()),
    host: createNodeHost({
      name: "bun",
      compiled,
      calledAs: compiled ? basename(process.argv0) : "tammar",
      writeSome: (stream, bytes) =>
        new Promise((resolve, reject) => {
          fs.write(stream, bytes, 0, bytes.length, null, (error, written) =>
            error ? reject(error) : resolve(written),
          );
        }),
      importModule: (path) => import(path),
    }),
  };
}

/** What Bun keeps for the whole process: a module name can be given once. */
const PROVIDED = Symbol.for("tammar.provided");

function provideModule(name: string, exports: Record<string, unknown>): void {
  const holder = globalThis as { [PROVIDED]?: Map<string, Record<string, unknown>> };
  holder[PROVIDED] ??= new Map();
  if (holder[PROVIDED].has(name)) return;
  holder[PROVIDED].set(name, exports);
  // Exactly `module`: Bun never asks `onResolve` about a bare name.
  Bun.plugin({ name, setup: (build) => void build.module(name, () => ({ exports, loader: "object" })) });
}

type BunSocket = Bun.Socket<BunConn | null>;

/** One set of handlers for every socket; the connection is the socket's `data`. */
function handlers(opened: (conn: BunConn) => void): Bun.SocketHandler<BunConn | null> {
  return {
    // Plain arrays: `slice` of a Buffer would be a view.
    binaryType: "uint8array",
    open(socket) {
      const conn = new BunConn(socket);
      socket.data = conn;
      opened(conn);
    },
    data: (socket, chunk) => socket.data?.received(chunk),
    drain: (socket) => socket.data?.drained(),
    end: (socket) => socket.data?.peerEnded(),
    close: (socket, error) => socket.data?.closed(error),
    error: (socket, error) => {
      // Bun swallows what a handler throws unless it is passed on here. Nothing in ours should throw.
      socket.data?.abort();
      raise(error);
    },
  };
}

/** Makes an error nobody waits for an unhandled rejection, which is what `Host.onUncaught` hears. */
function raise(error: unknown): void {
  void Promise.reject(error);
}

async function listen(options: ListenOptions): Promise<Listener> {
  const attempt = `Cannot listen on ${addressText(options)}`;
  try {
    const listener = Bun.listen<BunConn | null>({
      hostname: await resolveHost(options.host),
      port: options.port,
      allowHalfOpen: true,
      data: null,
      socket: handlers((conn) => {
        try {
          options.accept(conn);
        } catch (cause) {
          conn.abort();
          report(options, netErrorOf(`Cannot accept a connection from ${addressText(conn.peer)}`, cause));
        }
      }),
    });
    return {
      address: { host: listener.hostname, port: listener.port },
      close: () => listener.stop(false),
    };
  } catch (cause) {
    throw netErrorOf(attempt, cause);
  }
}

function report(options: ListenOptions, error: NetError): void {
  try {
    options.failed(error);
  } catch (cause) {
    raise(cause);
  }
}

/** Bun would give a name that cannot be resolved the same error as a dozen other reasons, and never says what it bound. */
async function resolveHost(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  const found = await lookup(host, { all: true });
  const first = found.find((entry) => entry.family === 4) ?? found[0];
  if (first === undefined) throw netError("unresolvable", `Cannot resolve ${host}`);
  return first.address;
}

function connect(address: Address, options: ConnectOptions): Promise<Conn> {
  const attempt = `Cannot connect to ${addressText(address)}`;
  return new Promise((resolve, reject) => {
    let late = false;
    const timer = setTimeout(() => {
      // An attempt cannot be cancelled in Bun. Should it succeed after all, the connection is closed at once.
      late = true;
      reject(netError("timeout", attempt));
    }, Math.ceil(options.timeoutMs));
    const failed = (cause: unknown) => {
      clearTimeout(timer);
      reject(netErrorOf(attempt, cause));
    };
    try {
      Bun.connect<BunConn | null>({
        hostname: address.host,
        port: address.port,
        allowHalfOpen: true,
        data: null,
        socket: handlers((conn) => {
          clearTimeout(timer);
          if (late) conn.abort();
          else resolve(conn);
        }),
      }).catch(failed);
    } catch (cause) {
      failed(cause);
    }
  });
}

const WRITTEN = Promise.resolve();

interface Reader {
  readonly resolve: (bytes: Uint8Array | null) => void;
  readonly reject: (error: NetError) => void;
}

interface Writer {
  readonly bytes: Uint8Array;
  taken: number;
  readonly resolve: () => void;
  readonly reject: (error: NetError) => void;
}

class BunConn implements Conn {
  readonly peer: Address;
  readonly local: Address;
  readonly #socket: BunSocket;
  readonly #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #paused = false;
  #reader: Reader | null = null;
  #writer: Writer | null = null;
  /** The peer has ended its direction, cleanly. */
  #peerDone = false;
  /** `end` was called: the FIN is sent, or follows the pending write. */
  #endAsked = false;
  /** Why nothing goes any more: cut by the peer (`reset`) or aborted by us (`closed`). */
  #over: "reset" | "closed" | null = null;

  constructor(socket: BunSocket) {
    this.#socket = socket;
    // A connection that was cut before it was accepted has no addresses any more.
    this.peer = { host: plainHost(socket.remoteAddress ?? "0.0.0.0"), port: socket.remotePort ?? 0 };
    this.local = { host: plainHost(socket.localAddress ?? "0.0.0.0"), port: socket.localPort ?? 0 };
    socket.setNoDelay(true);
  }

  read(): Promise<Uint8Array | null> {
    return new Promise((resolve, reject) => {
      if (this.#reader !== null) throw new Error(`Cannot read from ${addressText(this.peer)}: another read is pending`);
      if (this.#unread.length > 0) {
        this.#reader = { resolve, reject };
        setImmediate(this.#handOut);
      } else if (this.#over !== null) reject(this.#error("read from"));
      else if (this.#peerDone) resolve(null);
      else this.#reader = { resolve, reject };
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#over !== null) return Promise.reject(this.#error("write to"));
    if (this.#endAsked) return Promise.reject(netError("closed", `Cannot write to ${addressText(this.peer)}`));
    if (this.#writer !== null) {
      return Promise.reject(new Error(`Cannot write to ${addressText(this.peer)}: another write is pending`));
    }
    if (bytes.length === 0) return WRITTEN;
    const taken = this.#socket.write(bytes);
    if (taken === bytes.length) return WRITTEN;
    if (taken < 0) {
      this.#cut();
      return Promise.reject(this.#error("write to"));
    }
    return new Promise((resolve, reject) => {
      this.#writer = { bytes, taken, resolve, reject };
    });
  }

  end(): void {
    if (this.#endAsked || this.#over !== null) return;
    this.#endAsked = true;
    if (this.#writer === null) this.#socket.shutdown();
  }

  abort(): void {
    if (this.#over === "closed") return;
    this.#over = "closed";
    this.#unread.length = 0;
    this.#unreadBytes = 0;
    this.#socket.terminate();
    this.#failPending();
  }

  received(chunk: Uint8Array): void {
    if (this.#over === "closed") return;
    const reader = this.#reader;
    if (reader !== null && this.#unread.length === 0) {
      this.#reader = null;
      if (chunk.length <= PIECE_BYTES_MAX) {
        reader.resolve(chunk);
        return;
      }
      reader.resolve(chunk.subarray(0, PIECE_BYTES_MAX));
      chunk = chunk.subarray(PIECE_BYTES_MAX);
    }
    this.#unread.push(chunk);
    this.#unreadBytes += chunk.length;
    if (this.#paused) return;
    if (this.#unreadBytes < UNREAD_BYTES_MAX && this.#unread.length < UNREAD_CHUNKS_MAX) return;
    this.#paused = true;
    this.#socket.pause();
  }

  /** Gives the waiting reader the next piece of what was not read. An arrow function, made once: it is passed on. */
  readonly #handOut = (): void => {
    const reader = this.#reader;
    const first = this.#unread[0];
    if (reader === null || first === undefined) return;
    this.#reader = null;
    let piece = first;
    if (first.length <= PIECE_BYTES_MAX) this.#unread.shift();
    else {
      piece = first.subarray(0, PIECE_BYTES_MAX);
      this.#unread[0] = first.subarray(PIECE_BYTES_MAX);
    }
    this.#unreadBytes -= piece.length;
    if (this.#paused && this.#unreadBytes < UNREAD_BYTES_MAX && this.#unread.length < UNREAD_CHUNKS_MAX) {
      this.#paused = false;
      this.#socket.resume();
    }
    reader.resolve(piece);
  };

  drained(): void {
    const writer = this.#writer;
    if (writer === null) return;
    const taken = this.#socket.write(writer.bytes, writer.taken, writer.bytes.length - writer.taken);
    if (taken < 0) {
      this.#cut();
      this.#failWriter();
      return;
    }
    writer.taken += taken;
    if (writer.taken < writer.bytes.length) return;
    this.#writer = null;
    if (this.#endAsked) this.#socket.shutdown();
    writer.resolve();
  }

  peerEnded(): void {
    // A write that failed has taken the error off the socket; what then looks like an orderly end is none.
    if (this.#over !== null) {
      this.#failPending();
      return;
    }
    this.#peerDone = true;
    if (this.#unread.length > 0) return;
    const reader = this.#reader;
    this.#reader = null;
    reader?.resolve(null);
  }

  /** Nothing comes from this socket any more. Without an error, both directions were ended. */
  closed(error: Error | undefined): void {
    if (error !== undefined || this.#writer !== null) this.#cut();
    else if (this.#over === null) this.peerEnded();
    this.#failPending();
  }

  #cut(): void {
    this.#over ??= "reset";
  }

  #failPending(): void {
    if (this.#over === null) return;
    this.#failWriter();
    // What arrived before the cut is still handed out.
    if (this.#unread.length > 0) return;
    const reader = this.#reader;
    this.#reader = null;
    reader?.reject(this.#error("read from"));
  }

  #failWriter(): void {
    const writer = this.#writer;
    this.#writer = null;
    writer?.reject(this.#error("write to", writer.taken));
  }

  #error(attempt: string, bytesTaken = 0): NetError {
    return netError(this.#over ?? "closed", `Cannot ${attempt} ${addressText(this.peer)}`, bytesTaken);
  }
}

/** flock(2) by way of the C library, looked up when the first lock is asked for. */
function createLocker(): FileLocker {
  const LOCK_EX = 2;
  const LOCK_NB = 4;
  let flock: ((descriptor: number, operation: number) => number) | null = null;
  return async (path: string): Promise<LockedFile | null> => {
    flock ??= loadFlock();
    const descriptor = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    if (flock(descriptor, LOCK_EX | LOCK_NB) !== 0) {
      fs.closeSync(descriptor);
      return null;
    }
    const { dev, ino } = fs.fstatSync(descriptor);
    return { device: dev, inode: ino, close: () => fs.closeSync(descriptor) };
  };
}

function loadFlock(): (descriptor: number, operation: number) => number {
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  const names =
    process.platform === "darwin" ? ["libSystem.B.dylib"] : ["libc.so.6", `libc.musl-${machine}.so.1`, "libc.so"];
  let failure: unknown;
  for (const name of names) {
    try {
      return dlopen(name, { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } }).symbols.flock;
    } catch (cause) {
      failure = cause;
    }
  }
  throw failure;
}
