import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger, type LogFormat, type Logger, type LogLevel } from "../../src/cli/logger.ts";
import type { Clock, Host } from "../../src/runtime/runtime.ts";

/** A clock that moves by hand, and a standard output that takes bytes when it is told to. */
class Desk {
  nowMs = 0;
  readonly written: string[] = [];
  /** `null`: every write is taken at once. */
  waiting: { take: () => void; refuse: () => void }[] | null = null;
  #timers: { at: number; fire: () => void }[] = [];

  readonly clock = {
    wallMs: () => Date.UTC(2026, 0, 1) + this.nowMs,
    monotonicMs: () => this.nowMs,
    startTimer: (delayMs: number, fire: () => void) => {
      const timer = { at: this.nowMs + delayMs, fire };
      this.#timers.push(timer);
      return () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      };
    },
    soon: (run: () => void) => queueMicrotask(run),
  } satisfies Clock;

  readonly host = {
    writeOut: (bytes: Uint8Array) => {
      const text = new TextDecoder().decode(bytes);
      if (this.waiting === null) {
        this.written.push(text);
        return Promise.resolve();
      }
      return new Promise<void>((resolve, reject) => {
        this.waiting?.push({
          take: () => {
            this.written.push(text);
            resolve();
          },
          refuse: () => reject(new Error("EPIPE")),
        });
      });
    },
  } as unknown as Host;

  logger(level: LogLevel = "info", format: LogFormat = "text"): Logger {
    return createLogger(this.host, this.clock, { level, format, worker: "worker1" });
  }

  advance(ms: number): void {
    this.nowMs += ms;
    for (const timer of this.#timers.filter(({ at }) => at <= this.nowMs)) {
      this.#timers = this.#timers.filter((other) => other !== timer);
      timer.fire();
    }
  }

  get timerCount(): number {
    return this.#timers.length;
  }

  get lines(): string[] {
    return this.written.join("").split("\n").slice(0, -1);
  }

  /** Takes pending writes until nothing is written any more. */
  async drain(): Promise<void> {
    while (this.waiting !== null && this.waiting.length > 0) {
      this.waiting.shift()?.take();
      await settled();
    }
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a text line has time, level, worker and the text exactly as it was given", async () => {
  const desk = new Desk();
  const log = desk.logger();
  log.info("phase", "|~~ INIT PHASE IV: Cluster is ready to work! ~~|");
  log.warn("sink_lost", "TCPSink connection closed");
  await settled();
  assert.deepEqual(desk.lines, [
    "2026-01-01T00:00:00.000Z INFO  worker1: |~~ INIT PHASE IV: Cluster is ready to work! ~~|",
    "2026-01-01T00:00:00.000Z WARN  worker1: TCPSink connection closed (sink_lost)",
  ]);
});

test("an empty text is an empty text", async () => {
  const desk = new Desk();
  desk.logger().info("empty", "");
  await settled();
  assert.deepEqual(desk.lines, ["2026-01-01T00:00:00.000Z INFO  worker1: "]);
});

test("a JSON line is one object with time, level, worker, code and text", async () => {
  const desk = new Desk();
  desk.logger("info", "json").error("port_in_use", 'port "7000" in use');
  await settled();
  assert.deepEqual(
    desk.lines.map((line) => JSON.parse(line)),
    [
      {
        time: "2026-01-01T00:00:00.000Z",
        level: "error",
        worker: "worker1",
        code: "port_in_use",
        text: 'port "7000" in use',
      },
    ],
  );
});

test("the level decides what is written", async () => {
  const expected: Record<LogLevel, string[]> = {
    error: ["e"],
    warn: ["e", "w"],
    info: ["e", "w", "i"],
    debug: ["e", "w", "i", "d"],
  };
  for (const level of ["error", "warn", "info", "debug"] as const) {
    const desk = new Desk();
    const log = desk.logger(level, "json");
    log.error("a", "e");
    log.warn("a", "w");
    log.info("a", "i");
    log.debug("a", "d");
    await settled();
    assert.deepEqual(
      desk.lines.map((line) => JSON.parse(line).text),
      expected[level],
      level,
    );
  }
});

test("text from outside can't begin a line of its own or colour a terminal", async () => {
  const desk = new Desk();
  desk.logger().info("hello", "a\nb\u001b[31m\r\u2028");
  await settled();
  assert.equal(desk.lines.length, 1);
  assert.match(desk.lines[0]!, /a\\u000ab\\u001b\[31m\\u000d\\u2028$/);
});

test("lines of one code are bounded, and the rest is counted with the last one", async () => {
  const desk = new Desk();
  const log = desk.logger();
  for (let i = 1; i <= 25; i++) log.warn("bad_frame", `bad frame ${i}`);
  log.warn("other", "something else");
  await settled();
  assert.equal(desk.lines.length, 11);
  desk.advance(10_000);
  await settled();
  assert.match(desk.lines.at(-1)!, /repeated 15 times: bad frame 25 \(bad_frame\)$/);
  log.warn("bad_frame", "bad frame 26");
  await settled();
  assert.match(desk.lines.at(-1)!, /: bad frame 26/, "a new window lets lines through again");
});

test("the same code at another level has a bound of its own", async () => {
  const desk = new Desk();
  const log = desk.logger();
  for (let i = 0; i < 30; i++) log.warn("peer", `lost ${i}`);
  for (let i = 0; i < 30; i++) log.info("peer", `worker${i} identified`);
  await settled();
  assert.equal(desk.lines.filter((line) => line.includes("identified")).length, 30);
});

test("a window without repetitions closes without a word", async () => {
  const desk = new Desk();
  desk.logger().warn("once", "once");
  desk.advance(10_000);
  await settled();
  assert.equal(desk.lines.length, 1);
  assert.equal(desk.timerCount, 0);
});

test("a reader that stalls costs lines, not memory: they are counted and told when it reads on", async () => {
  const desk = new Desk();
  desk.waiting = [];
  const log = desk.logger("debug");
  const text = "x".repeat(4_000);
  for (let code = 0; code < 5_000; code++) log.info(`code${code % 900}`, `${code} ${text}`);
  await desk.drain();
  const bytes = desk.written.join("").length;
  assert.ok(bytes < 2 << 20, `${bytes} bytes were kept`);
  const told = desk.lines.find((line) => line.includes("lines of this log were dropped"));
  assert.ok(told !== undefined);
  const kept = desk.lines.filter((line) => line.includes(text)).length;
  const dropped = Number(/(\d+) lines of this log were dropped/.exec(told)![1]);
  assert.equal(kept + dropped, 5_000);
});

test("a write is never larger than 64 KiB, and there is one at a time", async () => {
  const desk = new Desk();
  desk.waiting = [];
  const log = desk.logger();
  for (let code = 0; code < 500; code++) log.info(`code${code}`, "y".repeat(1_000));
  assert.equal(desk.waiting.length, 1);
  await desk.drain();
  assert.equal(desk.lines.length, 500);
  assert.ok(Math.max(...desk.written.map((chunk) => chunk.length)) <= 64 << 10);
});

test("a reader that goes away changes nothing for the worker", async () => {
  const desk = new Desk();
  desk.waiting = [];
  const log = desk.logger();
  log.info("a", "one");
  log.info("b", "two");
  desk.waiting.shift()!.refuse();
  await settled();
  log.info("c", "three");
  await log.flush(1_000);
  assert.equal(desk.waiting.length, 0, "nothing more is written");
});

test("flush() writes everything, repetitions too", async () => {
  const desk = new Desk();
  const log = desk.logger();
  for (let i = 0; i < 12; i++) log.error("again", `again ${i}`);
  await log.flush(1_000);
  assert.match(desk.lines.at(-1)!, /repeated 2 times: again 11/);
  assert.equal(desk.timerCount, 0);
});

test("flush() gives up at its deadline", async () => {
  const desk = new Desk();
  desk.waiting = [];
  const log = desk.logger();
  log.info("a", "one");
  let flushed = false;
  const flush = log.flush(1_000).then(() => {
    flushed = true;
  });
  desk.advance(999);
  await settled();
  assert.equal(flushed, false);
  desk.advance(1);
  await flush;
});
