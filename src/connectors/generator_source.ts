/**
 * The connector of a generator source: makes records out of the state before, in batches, paced or as fast as they are
 * taken.
 *
 * Pacing emits `floor(elapsed x rate) - emitted`, so that late timers lose nothing; time while blocked is not made up for
 * beyond one second, or the end of a long pause would be a flood.
 */
import type { GeneratorContext, GeneratorSource } from "../api/generator_source.ts";
import type { Log } from "../base/log.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";

const BATCH_RECORDS_MAX = 1_024;
const PACE_MS: Millis = 5;
const CATCH_UP_MS: Millis = 1_000;

export interface GeneratorSourceOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly name: string;
  readonly definition: GeneratorSource<unknown>;
  /** Known when the source opens, not before. */
  readonly context: () => GeneratorContext;
  readonly turn: (run: () => void) => void;
  readonly blocked: () => boolean;
  /** The array is the callee's; only the first `count` count. */
  readonly values: (values: unknown[], count: number) => void;
  /** User code threw: this generator ends. */
  readonly failed: (during: string, error: unknown) => void;
}

export class GeneratorSourceConnector {
  readonly #options: GeneratorSourceOptions;
  #state: unknown;
  #phase: "closed" | "ended" | "new" | "running" = "new";
  /** A turn or a timer is under way. */
  #scheduled = false;
  #startedMs: Millis = 0;
  #made = 0;
  emitted = 0;

  constructor(options: GeneratorSourceOptions) {
    this.#options = options;
  }

  get ended(): boolean {
    return this.#phase === "ended";
  }

  open(): void {
    const { clock, context, definition } = this.#options;
    this.#startedMs = clock.monotonicMs();
    try {
      this.#state = definition.initial(context());
    } catch (error) {
      this.#options.failed("initial", error);
      this.#state = undefined;
    }
    this.#phase = "running";
    if (this.#state === undefined) this.#end();
    this.resume();
  }

  resume(): void {
    if (this.#phase !== "running" || this.#scheduled || this.#options.blocked()) return;
    this.#scheduled = true;
    const { clock, turn, definition } = this.#options;
    const run = (): void =>
      turn(() => {
        this.#scheduled = false;
        if (this.#phase !== "running" || this.#options.blocked()) return;
        this.#emit(this.#allowed());
        this.resume();
      });
    if (definition.rate === 0 || this.#allowed() >= BATCH_RECORDS_MAX) clock.soon(run);
    else clock.startTimer(PACE_MS, run);
  }

  close(): void {
    this.#phase = "closed";
  }

  #allowed(): number {
    const { clock, definition } = this.#options;
    if (definition.rate === 0) return BATCH_RECORDS_MAX;
    const now = clock.monotonicMs();
    const due = Math.floor(((now - this.#startedMs) / 1000) * definition.rate) - this.#made;
    const dueMax = Math.max(1, Math.ceil((CATCH_UP_MS / 1000) * definition.rate));
    if (due > dueMax) {
      // Forget what a long pause would have made.
      this.#startedMs = now - ((this.#made + dueMax) / definition.rate) * 1000;
      return Math.min(dueMax, BATCH_RECORDS_MAX);
    }
    return Math.min(due, BATCH_RECORDS_MAX);
  }

  #emit(count: number): void {
    if (count <= 0) return;
    const { definition } = this.#options;
    const values: unknown[] = [];
    try {
      for (let i = 0; i < count; i++) {
        const value = definition.emit === undefined ? this.#state : definition.emit(this.#state);
        this.#made++;
        if (value !== undefined) values.push(value);
        this.#state = definition.next(this.#state);
        if (this.#state === undefined) {
          this.#end();
          break;
        }
      }
    } catch (error) {
      this.#options.failed("next", error);
      this.#end();
    }
    this.emitted += values.length;
    if (values.length > 0) this.#options.values(values, values.length);
  }

  #end(): void {
    this.#phase = "ended";
    this.#options.log.info(
      "generator_ended",
      `GenSource produced a None. Stopping GenSource. It is ${this.#options.name}`,
    );
  }
}
