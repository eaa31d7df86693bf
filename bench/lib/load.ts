/** The load generator and the sink of the benchmarks: one process, Bun's own sockets, so that they are not the limit. */

export const FRAME_BYTES = 64;
const host = "127.0.0.1";
/** What one write takes at most: 1,024 frames. */
const WRITE_BYTES = 65_536;
/** Where the 16 digits of `t` are in a frame, and how it ends. */
const TIME_AT = FRAME_BYTES - 17;

/** Microseconds since the Unix epoch, exact in a double. */
export function nowMicros(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1_000);
}

/**
 * Frames of 64 bytes: u32 length, then `{"key":"user-…","value":n,"t":n}`. Every key occurs equally often, in an order that
 * is shuffled but always the same.
 */
export function makeFrames(keyCount: number): Uint8Array {
  const count = Math.ceil(Math.max(keyCount, 131_072) / 1_024) * 1_024;
  const order = new Uint32Array(keyCount).map((_, index) => index);
  let state = 12_345;
  for (let index = keyCount - 1; index > 0; index -= 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const other = state % (index + 1);
    const kept = order[index] as number;
    order[index] = order[other] as number;
    order[other] = kept;
  }
  const frames = Buffer.alloc(count * FRAME_BYTES);
  for (let index = 0; index < count; index += 1) {
    const at = index * FRAME_BYTES;
    const key = String(order[index % keyCount]).padStart(11, "0");
    frames.writeUInt32BE(FRAME_BYTES - 4, at);
    frames.write(`{"key":"user-${key}","value":${1_000 + (index % 9_000)},"t":1700000000000000}`, at + 4, "latin1");
  }
  return frames;
}

/** Sends frames over one connection, as fast as they are taken or at a rate. */
export class Load {
  isClosed = false;
  readonly #frames: Uint8Array;
  readonly #socket: Bun.Socket;
  #at = 0;
  #left = 0;
  #done: (() => void) | null = null;
  #burst: Uint8Array | null = null;
  /** For `roam`: which bytes are sent again and again, and when it is time for others. */
  #roaming: { from: number; to: number; readonly bytes: number; readonly everyMs: number; sinceMs: number } | null =
    null;
  #rested: (() => void) | null = null;

  private constructor(frames: Uint8Array, socket: Bun.Socket) {
    this.#frames = frames;
    this.#socket = socket;
  }

  static async connect(port: number, frames: Uint8Array): Promise<Load> {
    let load: Load | null = null;
    const socket = await Bun.connect({
      hostname: host,
      port,
      socket: {
        data() {},
        drain() {
          load?.drained();
        },
        close() {
          if (load !== null) load.isClosed = true;
        },
      },
    });
    load = new Load(frames, socket);
    return load;
  }

  /** Resolves when the kernel has all of `count` frames. */
  send(count: number): Promise<void> {
    return new Promise((done) => {
      this.#left = count * FRAME_BYTES;
      this.#done = done;
      this.#push();
    });
  }

  /** `perSecond` frames a second for `ms`, each stamped when it is written. Resolves with how many. */
  async pace(perSecond: number, ms: number): Promise<number> {
    const began = performance.now();
    const most = 8_192;
    const buffer = Buffer.alloc(most * FRAME_BYTES);
    let sent = 0;
    for (;;) {
      const elapsed = performance.now() - began;
      if (elapsed >= ms) return sent;
      const due = Math.min(Math.floor((elapsed / 1_000) * perSecond) - sent, most);
      if (due > 0 && this.#burst === null) {
        const stamp = String(nowMicros());
        for (let index = 0; index < due; index += 1) {
          const from = ((sent + index) * FRAME_BYTES) % this.#frames.length;
          const at = index * FRAME_BYTES;
          buffer.set(this.#frames.subarray(from, from + FRAME_BYTES), at);
          buffer.write(stamp, at + TIME_AT, "latin1");
        }
        const bytes = buffer.subarray(0, due * FRAME_BYTES);
        const taken = Math.max(0, this.#socket.write(bytes));
        // A full socket: the rest follows from `drained`, and the next burst waits for it.
        if (taken < bytes.length) this.#burst = Buffer.from(bytes.subarray(taken));
        sent += due;
      }
      await new Promise((done) => setTimeout(done, 1));
    }
  }

  /**
   * As fast as they are taken, until `rest`: the same `count` frames for `everyMs`, then those that follow, and so on.
   */
  roam(count: number, everyMs: number): void {
    const bytes = count * FRAME_BYTES;
    const from = this.#at + bytes <= this.#frames.length ? this.#at : 0;
    this.#at = from;
    this.#roaming = { from, to: from + bytes, bytes, everyMs, sinceMs: performance.now() };
    this.#push();
  }

  /** Ends `roam`, behind a whole frame. */
  rest(): Promise<void> {
    return new Promise((done) => {
      this.#rested = done;
    });
  }

  close(): void {
    this.#socket.terminate();
  }

  /** The socket has room again. */
  drained(): void {
    if (this.#burst !== null) {
      const taken = Math.max(0, this.#socket.write(this.#burst));
      this.#burst = taken < this.#burst.length ? this.#burst.subarray(taken) : null;
      return;
    }
    this.#push();
  }

  #push(): void {
    if (this.#roaming !== null) return this.#pushRoaming();
    while (this.#left > 0) {
      const size = Math.min(WRITE_BYTES, this.#left, this.#frames.length - this.#at);
      const taken = this.#socket.write(this.#frames.subarray(this.#at, this.#at + size));
      if (taken <= 0) return;
      this.#at = (this.#at + taken) % this.#frames.length;
      this.#left -= taken;
      if (taken < size) return;
    }
    const done = this.#done;
    this.#done = null;
    done?.();
  }

  #pushRoaming(): void {
    for (let roaming = this.#roaming; roaming !== null; roaming = this.#roaming) {
      if (this.#at === roaming.to) {
        if (this.#rested !== null) {
          this.#roaming = null;
          this.#at %= this.#frames.length;
          this.#rested();
          this.#rested = null;
          return;
        }
        if (performance.now() - roaming.sinceMs >= roaming.everyMs) {
          roaming.sinceMs = performance.now();
          roaming.from = roaming.to + roaming.bytes <= this.#frames.length ? roaming.to : 0;
          roaming.to = roaming.from + roaming.bytes;
        }
        this.#at = roaming.from;
      }
      const size = Math.min(WRITE_BYTES, roaming.to - this.#at);
      const taken = Math.max(0, this.#socket.write(this.#frames.subarray(this.#at, this.#at + size)));
      this.#at += taken;
      if (taken < size) return;
    }
  }
}

/** Counts lines; on demand it also notes how old each line's time is. */
export class LineSink {
  readonly port: number;
  lines = 0;
  /** When the last line came. */
  lastMs = 0;
  /** Microseconds from the time in the line until now; `null`: not noted. */
  latencies: Float64Array | null = null;
  latencyCount = 0;
  /** Sees every line; for slow loads. */
  onLine: ((line: string) => void) | null = null;
  readonly #listener: Bun.TCPSocketListener<{ rest: string }>;
  readonly #waiters: { count: number; done: () => void }[] = [];

  constructor() {
    this.#listener = Bun.listen<{ rest: string }>({
      hostname: host,
      port: 0,
      socket: {
        open(socket) {
          socket.data = { rest: "" };
        },
        data: (socket, chunk) => this.#take(socket, chunk),
      },
    });
    this.port = this.#listener.port;
  }

  /** Resolves when `count` lines have come since the beginning; rejects after `deadlineMs`. */
  reached(count: number, deadlineMs: number): Promise<void> {
    if (this.lines >= count) return Promise.resolve();
    return new Promise((done, failed) => {
      const timer = setTimeout(
        () => failed(new Error(`${this.lines} of ${count} lines after ${deadlineMs} ms`)),
        deadlineMs,
      );
      this.#waiters.push({
        count,
        done: () => {
          clearTimeout(timer);
          done();
        },
      });
    });
  }

  close(): void {
    this.#listener.stop(true);
  }

  #take(socket: Bun.Socket<{ rest: string }>, chunk: Buffer): void {
    if (this.latencies === null && this.onLine === null) {
      let count = 0;
      for (let index = 0; index < chunk.length; index += 1) if (chunk[index] === 10) count += 1;
      this.lines += count;
    } else {
      this.#note(socket, chunk);
    }
    this.lastMs = performance.now();
    for (let index = this.#waiters.length - 1; index >= 0; index -= 1) {
      if (this.lines >= (this.#waiters[index]?.count ?? 0)) this.#waiters.splice(index, 1)[0]?.done();
    }
  }

  #note(socket: Bun.Socket<{ rest: string }>, chunk: Buffer): void {
    const latencies = this.latencies ?? new Float64Array(0);
    const now = nowMicros();
    const lines = (socket.data.rest + chunk.toString("latin1")).split("\n");
    socket.data.rest = lines.pop() ?? "";
    for (const line of lines) {
      this.lines += 1;
      this.onLine?.(line);
      if (this.latencyCount < latencies.length) {
        latencies[this.latencyCount] = now - Number(line.slice(-16));
        this.latencyCount += 1;
      }
    }
  }
}
