/**
 * The event queue of a virtual world, and its time.
 *
 * Events run in the order of (virtual time, tie rank, sequence). The tie rank is drawn for each event from a stream of
 * its own: events of equal time run in an order that is arbitrary, but the same again for the same seed.
 */

import type { Prng } from "../../base/prng.ts";
import type { Millis } from "../runtime.ts";

/** Whose code an event runs; `null` in an event means the machinery between processes (network, kernel). */
export interface Owner {
  readonly id: number;
  readonly name: string;
  /** Events of the dead are dropped. */
  readonly alive: boolean;
  /** Events before this time wait for it: the process is stopped. */
  readonly pausedUntilMs: Millis;
  /** How many events ran for it. */
  steps: number;
  /** Runs its code, and takes what it throws. */
  enter(code: () => void): void;
}

export interface ScheduledEvent {
  timeMs: Millis;
  readonly rank: number;
  readonly sequence: number;
  readonly owner: Owner | null;
  readonly kind: string;
  /** `null`: cancelled. */
  run: (() => void) | null;
}

/** One event as it happens, for a transcript. */
export interface TraceLine {
  readonly timeMs: Millis;
  readonly step: number;
  readonly owner: string;
  readonly kind: string;
}

/** Cancelled events stay in the heap until they are due, or until they are this many and the majority. */
const CANCELLED_MIN = 1024;

export class Scheduler {
  nowMs: Millis = 0;
  /** Events executed so far. */
  steps = 0;
  onStep: ((line: TraceLine) => void) | null = null;
  readonly #ranks: Prng;
  #heap: ScheduledEvent[] = [];
  #sequence = 0;
  #cancelled = 0;
  readonly #kinds = new Map<string, number>();
  readonly #timeBits = new Float64Array(1);
  readonly #timeWords = new Uint32Array(this.#timeBits.buffer);
  #hashA = 0x811c_9dc5 | 0;
  #hashB = 0x9e37_79b9 | 0;

  constructor(ranks: Prng) {
    this.#ranks = ranks;
  }

  /** Schedules `run` for `timeMs`, or for now if that has passed. */
  at(timeMs: Millis, owner: Owner | null, kind: string, run: () => void): ScheduledEvent {
    const event: ScheduledEvent = {
      timeMs: timeMs > this.nowMs ? timeMs : this.nowMs,
      rank: this.#ranks.u32(),
      sequence: this.#sequence++,
      owner,
      kind,
      run,
    };
    this.#push(event);
    return event;
  }

  cancel(event: ScheduledEvent): void {
    if (event.run === null) return;
    event.run = null;
    this.#cancelled++;
    if (this.#cancelled < CANCELLED_MIN || this.#cancelled * 2 < this.#heap.length) return;
    const kept = this.#heap.filter((entry) => entry.run !== null);
    this.#heap = [];
    this.#cancelled = 0;
    for (const entry of kept) this.#push(entry);
  }

  /**
   * Executes the next event that is due at `untilMs` or before.
   *
   * @returns `code`: code of a process ran, so microtasks may wait; `machinery`: none did; `none`: nothing is due.
   */
  step(untilMs: Millis): "code" | "machinery" | "none" {
    for (;;) {
      const event = this.#heap[0];
      if (event === undefined || event.timeMs > untilMs) return "none";
      this.#pop();
      const { run, owner } = event;
      if (run === null) {
        this.#cancelled--;
        continue;
      }
      if (owner !== null) {
        if (!owner.alive) continue;
        if (owner.pausedUntilMs > event.timeMs) {
          event.timeMs = owner.pausedUntilMs;
          this.#push(event);
          continue;
        }
      }
      event.run = null;
      this.nowMs = event.timeMs;
      this.steps++;
      this.#trace(event);
      if (owner === null) {
        run();
        return "machinery";
      }
      owner.steps++;
      owner.enter(run);
      return "code";
    }
  }

  /** Adds a fact to the trace hash: a length, a code, bytes that were read. */
  note(value: number): void {
    this.#hashA = Math.imul(this.#hashA ^ value, 0x0100_0193);
    this.#hashB = Math.imul(((this.#hashB << 13) | (this.#hashB >>> 19)) ^ value, 0x85eb_ca6b);
  }

  /** Adds the length and sixteen bytes spread over the content. */
  noteBytes(bytes: Uint8Array): void {
    this.note(bytes.length);
    const stride = bytes.length < 16 ? 1 : Math.floor(bytes.length / 16);
    for (let at = 0; at < bytes.length; at += stride) this.note(bytes[at]!);
  }

  /** Of everything that happened so far: equal for equal seeds and equal code. Sixteen hexadecimal digits. */
  traceHash(): string {
    return (this.#hashA >>> 0).toString(16).padStart(8, "0") + (this.#hashB >>> 0).toString(16).padStart(8, "0");
  }

  #trace(event: ScheduledEvent): void {
    let kind = this.#kinds.get(event.kind);
    if (kind === undefined) {
      kind = 17;
      for (let at = 0; at < event.kind.length; at++) kind = Math.imul(kind ^ event.kind.charCodeAt(at), 0x0100_0193);
      this.#kinds.set(event.kind, kind);
    }
    this.#timeBits[0] = event.timeMs;
    this.note(this.#timeWords[0]! ^ kind);
    this.note(this.#timeWords[1]!);
    this.note(event.owner === null ? -1 : event.owner.id);
    if (this.onStep === null) return;
    this.onStep({
      timeMs: event.timeMs,
      step: this.steps,
      owner: event.owner === null ? "" : event.owner.name,
      kind: event.kind,
    });
  }

  #push(event: ScheduledEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt]!;
      if (!before(event, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const length = heap.length;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= length) break;
      if (childAt + 1 < length && before(heap[childAt + 1]!, heap[childAt]!)) childAt++;
      const child = heap[childAt]!;
      if (!before(child, last)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
  }
}

function before(a: ScheduledEvent, b: ScheduledEvent): boolean {
  if (a.timeMs !== b.timeMs) return a.timeMs < b.timeMs;
  if (a.rank !== b.rank) return a.rank < b.rank;
  return a.sequence < b.sequence;
}
