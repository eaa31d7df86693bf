/**
 * The seam between Tammar and the machine it runs on: interfaces only.
 *
 * Three adapters keep these promises: `bun.ts`, `deno.ts` and `virtual/` (the simulator). One suite,
 * `test/runtime/contract.ts`, holds for all of them. The runtime is an argument, never a global: forty workers,
 * each with a runtime of its own, fit in one process.
 *
 * Who may call what: protocol machines see none of this. The driver and the pumps of `src/worker/` hold the promises;
 * everything behind them is plain calls.
 */

/** A duration or a point in time, in milliseconds; fractions are allowed. */
export type Millis = number;

export interface Runtime {
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  readonly disk: Disk;
  readonly host: Host;
}

export interface Clock {
  /** Never steps back. For elapsed time and deadlines. */
  monotonicMs(): Millis;
  /** Since the Unix epoch. For people and event time only, never for a deadline. */
  wallMs(): Millis;
  /** Calls `fire` once, not before `delayMs` have passed. Returns a function that cancels; calling that late is harmless. */
  startTimer(delayMs: Millis, fire: () => void): () => void;
  /** Calls `run` in the next turn of the event loop, after pending I/O got its chance. Calls keep their order. */
  soon(run: () => void): void;
}

export interface Random {
  /** Uniform in [0, 1). For jitter and sampling. */
  next(): number;
  /** Unpredictable bytes (predictable from the seed in the virtual runtime). For ids. */
  bytes(length: number): Uint8Array;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Net {
  /**
   * Listens for TCP connections. Port 0 takes a free one.
   *
   * @throws {NetError} `address_in_use`, `address_not_available`, `permission`, `unresolvable`.
   */
  listen(options: ListenOptions): Promise<Listener>;
  /**
   * Opens a TCP connection, without delay (Nagle off).
   *
   * @throws {NetError} `refused`, `unreachable`, `timeout`, `unresolvable`, `closed`.
   */
  connect(address: Address, options: ConnectOptions): Promise<Conn>;
}

export interface ListenOptions extends Address {
  /** Called for every connection, in order of arrival. A throw here closes that connection, not the listener. */
  readonly accept: (conn: Conn) => void;
  /** Accepting failed for a moment (descriptors exhausted, a client gone before accept). The listener goes on. */
  readonly failed: (error: NetError) => void;
}

export interface ConnectOptions {
  /** Until the connection is there; afterwards it has no meaning. */
  readonly timeoutMs: Millis;
}

export interface Listener {
  /** What is really bound: the port is never 0. */
  readonly address: Address;
  /** Stops accepting. Connections already accepted live on. */
  close(): void;
}

/** One TCP connection. At most one `read` and one `write` may be outstanding. */
export interface Conn {
  readonly peer: Address;
  readonly local: Address;
  /**
   * The next bytes, at most 64 KiB a call. The bytes are valid until the next `read`; whoever keeps them copies them
   * (`new Uint8Array(chunk)`). `null`: the peer ended its direction. Not reading is back-pressure.
   *
   * @throws {NetError} `reset` when the connection was cut, `closed` after `abort`.
   */
  read(): Promise<Uint8Array | null>;
  /**
   * Resolves when the kernel has every byte. Until then the caller must not touch `bytes`.
   *
   * @throws {NetError} `reset`, `closed`. How much of `bytes` was taken is in `error.bytesTaken`.
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Half-close: FIN after what was written; reads go on. */
  end(): void;
  /** Both directions, now. A pending read or write rejects with `closed`. */
  abort(): void;
}

export type NetErrorCode =
  | "address_in_use"
  | "address_not_available"
  | "closed"
  | "other"
  | "permission"
  | "refused"
  | "reset"
  | "timeout"
  | "unreachable"
  | "unresolvable";

export class NetError extends Error {
  override readonly name = "NetError";
  readonly code: NetErrorCode;
  /** Of a failed write: how many of its bytes the kernel had taken. */
  readonly bytesTaken: number;
  constructor(code: NetErrorCode, message: string, options: { cause?: unknown; bytesTaken?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.bytesTaken = options.bytesTaken ?? 0;
  }
}

/** Paths are absolute, separated by `/`. What a crash may take away is said at each call. */
export interface Disk {
  /** The whole file. @throws {DiskError} `not_found`, `too_large` (over `lengthMax`), and the general ones. */
  readFile(path: string, lengthMax: number): Promise<Uint8Array>;
  /** Opens for appending and reading; `create`: made anew with mode 0600, fails with `exists`. */
  open(path: string, mode: "create" | "append" | "read"): Promise<DiskFile>;
  /** Names in a folder, sorted by code units. */
  list(path: string): Promise<DirEntry[]>;
  stat(path: string): Promise<FileStat | null>;
  /** Atomic replace. Durable only after `syncDir` of the folder. */
  rename(from: string, to: string): Promise<void>;
  /** Durable only after `syncDir`. A missing file is `not_found`. */
  remove(path: string): Promise<void>;
  /** Mode 0700, whatever the umask; missing parents are made too. An existing folder is fine. */
  makeDir(path: string): Promise<void>;
  /** An empty folder. `not_empty` otherwise. */
  removeDir(path: string): Promise<void>;
  syncDir(path: string): Promise<void>;
  /**
   * Takes the exclusive lock on `path`, making the file if it is missing; `null` when another process holds it. A killed
   * process gives it up. The locker compares the inode of path and descriptor after locking and tries again when they
   * differ, so that the holder may unlink the file while it holds it.
   */
  lock(path: string): Promise<Lock | null>;
}

export interface DirEntry {
  readonly name: string;
  readonly kind: "file" | "folder" | "other";
}

export interface FileStat {
  readonly kind: "file" | "folder" | "other";
  readonly length: number;
  readonly modifiedMs: Millis;
  /** Permission bits, such as 0o700. */
  readonly mode: number;
  readonly ownedByUs: boolean;
}

export interface DiskFile {
  /** In order. May vanish in a crash until `sync` resolves. */
  append(bytes: Uint8Array): Promise<void>;
  sync(): Promise<void>;
  /** May return less at the end of the file. */
  readAt(offset: number, length: number): Promise<Uint8Array>;
  length(): Promise<number>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

export interface Lock {
  /** Unlinks the lock file while it is held, then gives it up. */
  removeAndRelease(): Promise<void>;
  /** Gives it up; the file stays. */
  release(): Promise<void>;
}

export type DiskErrorCode =
  | "exists"
  | "full"
  | "io"
  | "not_empty"
  | "not_found"
  | "not_folder"
  | "other"
  | "permission"
  | "read_only"
  | "too_large"
  | "too_many_files";

export class DiskError extends Error {
  override readonly name = "DiskError";
  readonly code: DiskErrorCode;
  readonly path: string;
  constructor(code: DiskErrorCode, path: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
    this.path = path;
  }
}

export type SignalName = "SIGTERM" | "SIGINT" | "SIGHUP";

export interface Host {
  readonly name: "bun" | "deno" | "virtual";
  readonly os: "linux" | "darwin" | "other";
  readonly pid: number;
  /** How the program was called, without folders: `tammar`, `machida3`, ... */
  readonly calledAs: string;
  /** What follows the program's name. */
  readonly args: readonly string[];
  /** Absolute. */
  readonly workingDir: string;
  /** Is this a compiled executable (rather than a runtime running source files)? */
  readonly compiled: boolean;
  env(name: string): string | undefined;
  /** Standard output and error. Never blocks; resolves when the bytes are out; rejects when the reader is gone. */
  writeOut(bytes: Uint8Array): Promise<void>;
  writeErr(bytes: Uint8Array): Promise<void>;
  /** Last words before `exit`: blocking, best effort, at most 64 KiB. */
  writeErrNow(bytes: Uint8Array): void;
  /** Is standard error a terminal (for colours)? */
  readonly terminal: boolean;
  /** Is standard output one (for what redraws itself)? */
  readonly terminalOut: boolean;
  /** Returns a function that stops listening. */
  onSignal(signal: SignalName, handle: () => void): () => void;
  /** An exception nobody caught, or a rejection nobody handled: a bug of ours. One handler. */
  onUncaught(handle: (error: unknown) => void): void;
  exit(status: number): never;
  /** Imports an ECMAScript or TypeScript module by absolute path; `tammar` inside it is this library's own instance. */
  importModule(path: string): Promise<Record<string, unknown>>;
  /** Resident set size in bytes. */
  residentBytes(): number;
  /** How many files and sockets this process may have open at once; `null`: not known. */
  readonly descriptorsMax: number | null;
  /** User plus system time of this process, in microseconds. */
  cpuMicros(): number;
  /** SHA-256, for fingerprints. */
  digest(bytes: Uint8Array): Promise<Uint8Array>;
}
