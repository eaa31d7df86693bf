/** `Clock`, `Random` and `Host` over `node:` and web globals, for Bun and Deno alike. */

import { readFileSync, writeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { diskError } from "./_node_disk.ts";
import { type Clock, type Host, NetError, type Random } from "./runtime.ts";

/** Timers of both runtimes count in a signed 32-bit integer and fire at once beyond it. */
const TIMER_MS_MAX = 2 ** 31 - 1;
/** How long a full pipe that is set to non-blocking gets before the next try. */
const OUTPUT_RETRY_MS = 5;
const LAST_WORDS_BYTES_MAX = 64 * 1024;
const RANDOM_BYTES_MAX = 65_536;

export function createNodeClock(): Clock {
  return {
    monotonicMs: () => performance.now(),
    wallMs: () => Date.now(),
    startTimer,
    soon: (run) => void setImmediate(run),
  };
}

function startTimer(delayMs: number, fire: () => void): () => void {
  const dueMs = performance.now() + delayMs;
  let timer: ReturnType<typeof setTimeout>;
  // Both runtimes count in whole milliseconds, so a timer may come a fraction early; and one of 25 days or more has to
  // be set again on the way.
  const arm = (restMs: number) => {
    timer = setTimeout(
      () => {
        const leftMs = dueMs - performance.now();
        if (leftMs > 0) arm(leftMs);
        else fire();
      },
      Math.min(Math.max(Math.ceil(restMs), 0), TIMER_MS_MAX),
    );
  };
  arm(delayMs);
  return () => clearTimeout(timer);
}

export function createNodeRandom(): Random {
  return {
    next: () => Math.random(),
    bytes(length) {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at += RANDOM_BYTES_MAX) {
        crypto.getRandomValues(bytes.subarray(at, at + RANDOM_BYTES_MAX));
      }
      return bytes;
    },
  };
}

export interface HostParts {
  readonly name: "bun" | "deno";
  readonly compiled: boolean;
  readonly calledAs: string;
  /** Writes some of the bytes to standard output (1) or error (2) without blocking the event loop. */
  readonly writeSome: (stream: 1 | 2, bytes: Uint8Array) => Promise<number>;
  readonly importModule: (path: string) => Promise<Record<string, unknown>>;
}

export function createNodeHost(parts: HostParts): Host {
  const out = new OutputStream(1, parts.writeSome);
  const err = new OutputStream(2, parts.writeSome);
  let uncaught: ((error: unknown) => void) | null = null;
  return {
    name: parts.name,
    os: process.platform === "linux" || process.platform === "darwin" ? process.platform : "other",
    pid: process.pid,
    calledAs: parts.calledAs,
    args: process.argv.slice(2),
    workingDir: process.cwd(),
    compiled: parts.compiled,
    env: (name) => process.env[name],
    writeOut: (bytes) => out.write(bytes),
    writeErr: (bytes) => err.write(bytes),
    writeErrNow,
    terminal: isatty(2),
    terminalOut: isatty(1),
    onSignal(signal, handle) {
      // A function of its own, so that the same handler may be registered twice and taken away once.
      const listener = () => handle();
      process.on(signal, listener);
      return () => void process.off(signal, listener);
    },
    onUncaught(handle) {
      if (uncaught === null) {
        const report = (error: unknown) => uncaught?.(error);
        process.on("uncaughtException", report);
        process.on("unhandledRejection", report);
      }
      uncaught = handle;
    },
    exit: (status) => process.exit(status),
    importModule: parts.importModule,
    residentBytes: () => process.memoryUsage.rss(),
    descriptorsMax: readDescriptorsMax(),
    cpuMicros() {
      const { user, system } = process.cpuUsage();
      return user + system;
    },
    digest: async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)),
  };
}

/** Both runtimes have raised the soft limit to the hard one by now. Told by Linux alone. */
function readDescriptorsMax(): number | null {
  try {
    const found = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    return found === null ? null : Number(found[1]);
  } catch {
    return null;
  }
}

/** One write at a time, in order. `process.stdout` is left alone: it buffers without bound, and under Deno it blocks. */
class OutputStream {
  #last: Promise<void> = Promise.resolve();
  readonly #stream: 1 | 2;
  readonly #writeSome: HostParts["writeSome"];

  constructor(stream: 1 | 2, writeSome: HostParts["writeSome"]) {
    this.#stream = stream;
    this.#writeSome = writeSome;
  }

  write(bytes: Uint8Array): Promise<void> {
    const written = this.#last.then(() => this.#writeAll(bytes));
    this.#last = written.catch(() => {});
    return written;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length) {
      try {
        offset += await this.#writeSome(this.#stream, bytes.subarray(offset));
      } catch (cause) {
        const { code } = cause as { code?: unknown };
        const streamName = this.#stream === 1 ? "standard output" : "standard error";
        if (code === "EPIPE")
          throw new NetError("closed", `Cannot write to ${streamName}: its reader is gone`, { cause });
        if (code !== "EAGAIN") throw diskError("Cannot write to", streamName, cause);
        await new Promise((resolve) => setTimeout(resolve, OUTPUT_RETRY_MS));
      }
    }
  }
}

function writeErrNow(bytes: Uint8Array): void {
  const words = bytes.subarray(0, LAST_WORDS_BYTES_MAX);
  try {
    for (let offset = 0; offset < words.length; ) offset += writeSync(2, words, offset, words.length - offset);
  } catch {
    // Nobody can read it, and there is no other place to say so.
  }
}
