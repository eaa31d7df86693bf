/** A clock, a connection and a log in the hands of a test. */
import type { Log } from "../../src/base/log.ts";
import { type Address, type Clock, type Conn, type Millis, NetError, type Runtime } from "../../src/runtime/runtime.ts";

/** Time passes when told. */
export class ManualClock implements Clock {
  now: Millis = 5_000;
  #timers: { at: Millis; fire: () => void; isTurn?: boolean }[] = [];

  monotonicMs(): Millis {
    return this.now;
  }
  wallMs(): Millis {
    return 1_700_000_000_000 + this.now;
  }
  startTimer(delayMs: Millis, fire: () => void): () => void {
    const timer = { at: this.now + delayMs, fire };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
  /** A turn of the event loop takes a hundredth of a millisecond. */
  soon(run: () => void): void {
    this.#timers.push({ at: this.now + 0.01, fire: run, isTurn: true });
  }

  get timerCount(): number {
    return this.#timers.length;
  }

  /** Fires what is due on the way, with time for promises after each. `lateMs`: timers fire so much too late. */
  async advance(durationMs: Millis, lateMs: Millis = 0): Promise<void> {
    const until = this.now + durationMs;
    await settled();
    for (;;) {
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > until) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.now = Math.max(this.now, next.isTurn === true ? next.at : next.at + lateMs);
      next.fire();
      await settled();
    }
    this.now = Math.max(this.now, until);
  }
}

interface Pending<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** Reads and writes stay pending until the test says how they end. */
export class FakeConn implements Conn {
  readonly peer: Address = { host: "10.0.0.9", port: 9 };
  readonly local: Address = { host: "10.0.0.1", port: 1 };
  /** What the system took. */
  readonly sent: number[] = [];
  ended = false;
  aborted = false;
  writes = 0;
  #read: Pending<Uint8Array | null> | null = null;
  #write: (Pending<void> & { readonly bytes: Uint8Array }) | null = null;

  read(): Promise<Uint8Array | null> {
    if (this.#read !== null) throw new Error("a second read");
    return new Promise((resolve, reject) => {
      this.#read = { resolve, reject };
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#write !== null) throw new Error("a second write");
    if (this.ended || this.aborted) throw new Error("a write after the end");
    this.writes++;
    return new Promise((resolve, reject) => {
      this.#write = { bytes, resolve, reject };
    });
  }

  end(): void {
    this.ended = true;
  }

  abort(): void {
    if (this.aborted) return;
    this.aborted = true;
    this.failWrite("closed", 0);
    this.failRead("closed");
  }

  /** Of the pending write; 0: there is none. */
  get offered(): number {
    return this.#write?.bytes.length ?? 0;
  }

  /** The system takes all of the pending write. */
  async take(): Promise<void> {
    const write = this.#write;
    if (write === null) throw new Error("no write is pending");
    this.#write = null;
    for (const byte of write.bytes) this.sent.push(byte);
    write.resolve();
    await settled();
  }

  /** The pending write fails when so many bytes were taken. */
  failWrite(code: "closed" | "reset", bytesTaken: number): void {
    const write = this.#write;
    this.#write = null;
    if (write === null) return;
    for (const byte of write.bytes.subarray(0, bytesTaken)) this.sent.push(byte);
    write.reject(new NetError(code, `a write that was ${code}`, { bytesTaken }));
  }

  failRead(code: "closed" | "reset"): void {
    const read = this.#read;
    this.#read = null;
    read?.reject(new NetError(code, `a read that was ${code}`));
  }

  async deliver(bytes: Uint8Array | null): Promise<void> {
    const read = this.#read;
    if (read === null) throw new Error("no read is pending");
    this.#read = null;
    read.resolve(bytes);
    await settled();
  }

  get text(): string {
    return new TextDecoder().decode(Uint8Array.from(this.sent));
  }
}

/** A runtime that has a clock and a network and nothing else. */
export function fakeRuntime(clock: Clock, net: Partial<Runtime["net"]>): Runtime {
  return { clock, net } as Runtime;
}

export class CollectedLog implements Log {
  readonly lines: string[] = [];
  debug(code: string, text: string): void {
    this.lines.push(`${code}: ${text}`);
  }
  info(code: string, text: string): void {
    this.lines.push(`${code}: ${text}`);
  }
  warn(code: string, text: string): void {
    this.lines.push(`${code}: ${text}`);
  }
  error(code: string, text: string): void {
    this.lines.push(`${code}: ${text}`);
  }
  count(code: string): number {
    return this.lines.filter((line) => line.startsWith(`${code}: `)).length;
  }
  last(code: string): string {
    return this.lines.findLast((line) => line.startsWith(`${code}: `)) ?? "";
  }
}

/** What waits in microtasks is over. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 8; i++) await null;
}

/** Records as a sink gets them: their text joined, and where each ends. */
export function recordsOf(texts: readonly string[]): { bytes: Uint8Array; ends: Uint32Array } {
  const encoder = new TextEncoder();
  const ends = new Uint32Array(texts.length);
  let length = 0;
  texts.forEach((text, i) => {
    length += encoder.encode(text).length;
    ends[i] = length;
  });
  return { bytes: encoder.encode(texts.join("")), ends };
}
