/**
 * Says what kept a worker from everything else for long: user code, by name where that is known, and otherwise that a turn
 * took long. No timer can interrupt either, so it is said afterwards.
 */
import { type Log, printable } from "../base/log.ts";
import type { SlowCode } from "../operators/slow_code.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";

/** One turn that takes so long is told: it keeps everything else waiting. */
const SLOW_TURN_MS: Millis = 1_000;

export interface SlowTurnsOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** After which other workers give up a connection. */
  readonly silenceMs: Millis;
  /** Are there other workers? */
  readonly hasPeers: () => boolean;
}

export class SlowTurns {
  readonly #options: SlowTurnsOptions;
  #sinceMs: Millis = 0;
  /** Is it said already which user code it was? */
  #isSaid = false;
  /** How often user code kept the worker from everything else for a second or more. */
  slowCode = 0;

  constructor(options: SlowTurnsOptions) {
    this.#options = options;
  }

  begin(): void {
    this.#sinceMs = this.#options.clock.monotonicMs();
    this.#isSaid = false;
  }

  end(): void {
    const ms = this.#options.clock.monotonicMs() - this.#sinceMs;
    if (ms < SLOW_TURN_MS || this.#isSaid) return;
    this.#options.log.warn(
      "turn_slow",
      `This worker did one thing for ${seconds(ms)}, and nothing else meanwhile: a function of the application that ` +
        "takes long, a collection of a large heap, a disk that makes a write wait, or a machine without time for it",
    );
  }

  /** Within a turn. */
  code({ stage, during, records, ms, slowest }: SlowCode): void {
    this.slowCode++;
    this.#isSaid = true;
    const { log, silenceMs, hasPeers } = this.#options;
    const key = slowest === null || slowest.key === null ? "" : ` with key "${printable(slowest.key, 64)}"`;
    const longest = slowest === null || records === 1 ? "" : `; the one${key} took ${seconds(slowest.ms)}`;
    const what = records === 1 ? `one record${key}` : `${records} records${longest}`;
    const peers =
      ms < silenceMs || !hasPeers()
        ? ""
        : `. Other workers give up connections that are silent for ${seconds(silenceMs)}, and make them again: nothing is lost`;
    log.warn(
      "user_code_slow",
      `${stage}: user code took ${seconds(ms)} in ${during} of ${what}; nothing else happened in this worker meanwhile${peers}`,
    );
  }
}

function seconds(ms: Millis): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
