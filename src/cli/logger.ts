/**
 * The worker's log: consola sorts by level, this file's reporter formats, one writer with a bounded queue writes.
 *
 *   L1. Logging never waits: a line is queued or dropped. What was dropped is counted and told once there is room again.
 *   L2. Lines of one code are bounded: so many in ten seconds, then one line that says how often it went on.
 *   L3. A reader of standard output that stalls, or goes away, changes nothing for the worker.
 *   L4. A text appears in a line exactly as it was given (but for control characters): scripts look for markers in it.
 */
import { createConsola, LogLevels, type LogObject } from "consola/core";
import { type Log, printable } from "../base/log.ts";
import type { Clock, Host, Millis } from "../runtime/runtime.ts";

export type LogLevel = "error" | "warn" | "info" | "debug";
export type LogFormat = "text" | "json";

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Stands in every line. */
  readonly worker: string;
}

export interface Logger extends Log {
  /** Resolves when everything is written, or after `timeoutMs`: the last thing before a worker leaves. */
  flush(timeoutMs: Millis): Promise<void>;
}

/** Lines waiting for a slow reader, in bytes. */
const QUEUE_BYTES_MAX = 1 << 20;
/** Given to one write. */
const WRITE_BYTES_MAX = 64 << 10;
const REPEAT_WINDOW_MS = 10_000;
/** How many lines of one code come through in a window. Information is what markers and greetings of peers are. */
const LINES_PER_WINDOW: Readonly<Record<LogLevel, number>> = { error: 10, warn: 10, info: 100, debug: 1_000 };
/** Codes that are watched at once; a code is one of ours, so there are never that many. */
const CODES_MAX = 1_000;
const TEXT_LENGTH_MAX = 8_192;

export function createLogger(host: Host, clock: Clock, options: LoggerOptions): Logger {
  const writer = new LogWriter(host);
  const formatLine = options.format === "json" ? jsonLine : textLine;
  const consola = createConsola({
    level: LogLevels[options.level],
    // consola's own limit compares with the line before only, and keeps a timer: ours goes by code.
    throttle: Number.NEGATIVE_INFINITY,
    reporters: [
      {
        log({ type, tag, args }: LogObject) {
          const level = LEVELS[type] ?? "info";
          writer.write(formatLine(clock.wallMs(), level, options.worker, tag, String(args[0])));
        },
      },
    ],
  });
  const tell = (level: LogLevel, code: string, text: string) =>
    consola[level]({ args: [printable(text, TEXT_LENGTH_MAX)], tag: code });
  writer.onDropped = (count) =>
    tell("warn", "log_dropped", `${count} lines of this log were dropped: nobody read standard output fast enough`);
  const repeats = new RepeatLimit(clock, tell);
  const wanted = (level: LogLevel) => LogLevels[level] <= LogLevels[options.level];
  const log = (level: LogLevel) => (code: string, text: string) => {
    if (wanted(level)) repeats.tell(level, code, text);
  };
  return {
    debug: log("debug"),
    info: log("info"),
    warn: log("warn"),
    error: log("error"),
    flush(timeoutMs) {
      repeats.finish();
      return writer.flush(clock, timeoutMs);
    },
  };
}

const LEVELS: Readonly<Record<string, LogLevel>> = { error: "error", warn: "warn", info: "info", debug: "debug" };

function textLine(timeMs: Millis, level: LogLevel, worker: string, code: string, text: string): string {
  const reference = level === "warn" || level === "error" ? ` (${code})` : "";
  return `${new Date(timeMs).toISOString()} ${level.toUpperCase().padEnd(5)} ${worker}: ${text}${reference}\n`;
}

function jsonLine(timeMs: Millis, level: LogLevel, worker: string, code: string, text: string): string {
  return `${JSON.stringify({ time: new Date(timeMs).toISOString(), level, worker, code, text })}\n`;
}

/** Lets the first lines of a code through, counts the others, and tells at the end of the window how many there were. */
class RepeatLimit {
  readonly #clock: Clock;
  readonly #tell: (level: LogLevel, code: string, text: string) => void;
  readonly #windows = new Map<
    string,
    { level: LogLevel; told: number; held: number; last: string; cancel: () => void }
  >();

  constructor(clock: Clock, tell: (level: LogLevel, code: string, text: string) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  tell(level: LogLevel, code: string, text: string): void {
    const name = `${level} ${code}`;
    let window = this.#windows.get(name);
    if (window === undefined) {
      if (this.#windows.size >= CODES_MAX) this.finish();
      const cancel = this.#clock.startTimer(REPEAT_WINDOW_MS, () => this.#close(name));
      window = { level, told: 0, held: 0, last: text, cancel };
      this.#windows.set(name, window);
    }
    window.last = text;
    if (window.told < LINES_PER_WINDOW[level]) {
      window.told++;
      this.#tell(level, code, text);
    } else {
      window.held++;
    }
  }

  /** Closes all windows. */
  finish(): void {
    for (const name of [...this.#windows.keys()]) this.#close(name);
  }

  #close(name: string): void {
    const window = this.#windows.get(name)!;
    window.cancel();
    this.#windows.delete(name);
    if (window.held === 0) return;
    const code = name.slice(window.level.length + 1);
    this.#tell(window.level, code, `repeated ${window.held} times: ${window.last}`);
  }
}

class LogWriter {
  /** Called when there is room again after lines were dropped. */
  onDropped: (count: number) => void = () => {};
  readonly #host: Host;
  readonly #encoder = new TextEncoder();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #writing = false;
  #readerGone = false;
  #whenEmpty: (() => void)[] = [];

  constructor(host: Host) {
    this.#host = host;
  }

  write(line: string): void {
    if (this.#readerGone) return;
    const bytes = this.#encoder.encode(line);
    if (this.#waitingBytes + bytes.length > QUEUE_BYTES_MAX) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#writing) this.#writeNext();
  }

  flush(clock: Clock, timeoutMs: Millis): Promise<void> {
    if (!this.#writing) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = clock.startTimer(timeoutMs, resolve);
      this.#whenEmpty.push(() => {
        cancel();
        resolve();
      });
    });
  }

  #writeNext(): void {
    if (this.#waiting.length === 0 || this.#readerGone) {
      this.#writing = false;
      for (const empty of this.#whenEmpty.splice(0)) empty();
      return;
    }
    this.#writing = true;
    let count = 0;
    let length = 0;
    while (count < this.#waiting.length && (count === 0 || length + this.#waiting[count]!.length <= WRITE_BYTES_MAX)) {
      length += this.#waiting[count]!.length;
      count++;
    }
    const chunk = new Uint8Array(length);
    let at = 0;
    for (const line of this.#waiting.splice(0, count)) {
      chunk.set(line, at);
      at += line.length;
    }
    this.#waitingBytes -= length;
    this.#host.writeOut(chunk).then(
      () => {
        if (this.#dropped > 0) {
          const count = this.#dropped;
          this.#dropped = 0;
          this.onDropped(count);
        }
        this.#writeNext();
      },
      () => {
        this.#readerGone = true;
        this.#waiting = [];
        this.#waitingBytes = 0;
        this.#writeNext();
      },
    );
  }
}
