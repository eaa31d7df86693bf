/** A disk, and connections, that are there as soon as they are asked for. */
import {
  type Address,
  type Clock,
  type Conn,
  type Disk,
  DiskError,
  type DiskFile,
  type Host,
  type Net,
  NetError,
  type Runtime,
} from "../../src/runtime/runtime.ts";

const PATIENCE_MS = 60_000;
const ADDRESS: Address = { host: "10.0.0.9", port: 9 };

/** Nothing but these files, to be read. */
export function diskOf(files: Readonly<Record<string, Uint8Array>>): Disk {
  const find = (path: string): Uint8Array => {
    const bytes = files[path];
    if (bytes === undefined) throw new DiskError("not_found", path, `${path}: there is no such file`);
    return bytes;
  };
  const disk: Partial<Disk> = {
    async readFile(path, lengthMax) {
      const bytes = find(path);
      if (bytes.length > lengthMax) throw new DiskError("too_large", path, `${path} is too large`);
      return bytes.slice();
    },
    async open(path) {
      return fileOf(find(path));
    },
    async stat(path) {
      const bytes = files[path];
      const kind = "file" as const;
      return bytes === undefined ? null : { kind, length: bytes.length, modifiedMs: 0, mode: 0o600, ownedByUs: true };
    },
  };
  return disk as Disk;
}

function fileOf(bytes: Uint8Array): DiskFile {
  const file: Partial<DiskFile> = {
    // In pages of its own, as from a disk: nobody may count on more.
    readAt: async (offset, length) => bytes.slice(offset, offset + length),
    length: async () => bytes.length,
    close: async () => {},
  };
  return file as DiskFile;
}

/** What a peer sends, then its end. What is written to it is gone. `over`: nothing more is read of it. */
export function connOf(pieces: readonly Uint8Array[], over: () => void = () => {}): Conn {
  let next = 0;
  return {
    peer: ADDRESS,
    local: ADDRESS,
    read: async () => {
      const piece = pieces[next++];
      if (piece === undefined) over();
      return piece ?? null;
    },
    write: async () => {},
    end: () => {},
    abort: over,
  };
}

export function emptyDisk(): Disk {
  const missing = (path: string) => new DiskError("not_found", path, `${path}: there is no such file`);
  const disk: Partial<Disk> = {
    ...diskOf({}),
    list: async (path) => {
      throw missing(path);
    },
  };
  return disk as Disk;
}

export interface ToolWorld {
  /** Whoever is connected to; `null`: nobody answers. */
  readonly connect: (() => Conn) | null;
  /** What somebody sends who connects to a tool that listens, before it is told to end; without: nothing can be listened on. */
  readonly client?: readonly Uint8Array[];
  readonly disk?: Disk;
}

/** The machine of a tool that asks, listens and prints. */
export class ToolRuntime {
  printed = "";
  complained = "";
  readonly #decoder = new TextDecoder();
  readonly runtime: Runtime;

  constructor({ connect, client, disk }: ToolWorld) {
    const signals: (() => void)[] = [];
    const host: Partial<Host> = {
      workingDir: "/work",
      args: [],
      writeOut: async (bytes) => {
        this.printed += this.#decoder.decode(bytes);
      },
      terminalOut: false,
      writeErrNow: (bytes) => {
        this.complained += this.#decoder.decode(bytes);
      },
      onSignal: (_, handle) => {
        signals.push(handle);
        return () => {};
      },
    };
    const refuse = (what: string) => new NetError("refused", `Cannot ${what}: there is nobody`);
    const net: Net = {
      connect: async () => {
        if (connect === null) throw refuse("connect");
        return connect();
      },
      listen: async ({ accept }) => {
        if (client === undefined) throw refuse("listen");
        const over = () => {
          for (const handle of signals) handle();
        };
        accept(connOf(client, () => later(over)));
        return { address: ADDRESS, close: () => {} };
      },
    };
    let now = 0;
    const clock: Clock = {
      monotonicMs: () => now,
      wallMs: () => 1_700_000_000_000 + now,
      // Time passes as soon as somebody waits for it, but after what is under way.
      startTimer: (delayMs, fire) => {
        let isOff = false;
        later(() => {
          if (isOff) return;
          now += delayMs;
          // What would go on for ever is told to end by then.
          if (now > PATIENCE_MS) for (const handle of signals) handle();
          fire();
        });
        return () => {
          isOff = true;
        };
      },
      soon: (run) => queueMicrotask(run),
    };
    const random = { next: () => 0.5, bytes: (length: number) => new Uint8Array(length) };
    this.runtime = { clock, random, net, disk: disk ?? emptyDisk(), host: host as Host };
  }
}

export function toolRuntime(world: ToolWorld): Runtime {
  return new ToolRuntime(world).runtime;
}

/** Behind what is under way. */
function later(run: () => void, turns = 8): void {
  queueMicrotask(turns === 0 ? run : () => later(run, turns - 1));
}
