/**
 * The connector of a generator source: asks for records in batches, paced or as fast as they are taken.
 *
 * Pacing emits `floor(elapsed x rate) - emitted`, so that late timers lose nothing; time while blocked is not made up for
 * beyond one second, or the end of a long pause would be a flood.
 */
import type { Log } from "../base/log.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";
import type { ConnectorStatus, SourceConnector } from "./connector.ts";

const BATCH_RECORDS_MAX = 1_024;
/** Between two batches of a paced source, at least. */
const PACE_MS: Millis = 5;
const CATCH_UP_MS: Millis = 1_000;

/** Makes the records of one generator on one worker. What its user code throws is its own business. */
export interface RecordMaker {
  /** The records of the next `stepCount` steps; fewer where a step emits none, or when it has ended. */
  take(stepCount: number): unknown[];
  readonly ended: boolean;
}

export interface GeneratorSourceOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly name: string;
  /** Steps a second; 0: unpaced. */
  readonly rate: number;
  /** Asked for once, when the source opens: before that the members of the cluster aren't known. */
  readonly maker: () => RecordMaker;
  readonly turn: (run: () => void) => void;
  readonly blocked: () => boolean;
  /** One or more records; the array is the callee's. */
  readonly values: (values: unknown[]) => void;
}

type State =
  | { readonly kind: "new" }
  | { readonly kind: "running"; readonly maker: RecordMaker }
  | { readonly kind: "ended" }
  | { readonly kind: "closed" };

export class GeneratorSourceConnector implements SourceConnector {
  readonly #options: GeneratorSourceOptions;
  #state: State = { kind: "new" };
  /** A turn or a timer is under way. */
  #scheduled = false;
  #cancelTimer: () => void = () => {};
  /** When the first step was due; moved on when time is forgotten. */
  #startedMs: Millis = 0;
  #steps = 0;
  /** Records so far. */
  emitted = 0;

  constructor(options: GeneratorSourceOptions) {
    this.#options = options;
  }

  get ended(): boolean {
    return this.#state.kind === "ended";
  }

  status(): ConnectorStatus {
    return { kind: "generator", records: this.emitted, ended: this.ended };
  }

  open(): void {
    if (this.#state.kind !== "new") return;
    this.#startedMs = this.#options.clock.monotonicMs();
    this.#state = { kind: "running", maker: this.#options.maker() };
    this.resume();
  }

  /** What was blocked may be free again. */
  resume(): void {
    if (this.#state.kind !== "running" || this.#scheduled || this.#options.blocked()) return;
    this.#scheduled = true;
    const { clock, turn, rate } = this.#options;
    const step = (): void => turn(() => this.#step());
    if (rate === 0 || this.#due() >= BATCH_RECORDS_MAX) clock.soon(step);
    else this.#cancelTimer = clock.startTimer(Math.max(PACE_MS, this.#nextDueMs()), step);
  }

  close(): void {
    this.#state = { kind: "closed" };
    this.#cancelTimer();
  }

  #step(): void {
    this.#scheduled = false;
    if (this.#state.kind !== "running" || this.#options.blocked()) return;
    const { maker } = this.#state;
    const steps = this.#options.rate === 0 ? BATCH_RECORDS_MAX : Math.min(this.#due(), BATCH_RECORDS_MAX);
    if (steps > 0) {
      const values = maker.take(steps);
      this.#steps += steps;
      this.emitted += values.length;
      if (values.length > 0) this.#options.values(values);
    }
    // Whatever took the records may have closed this source.
    if (this.#isRunning() && maker.ended) this.#end();
    else this.resume();
  }

  #isRunning(): boolean {
    return this.#state.kind === "running";
  }

  /** Steps that should have been taken by now and were not. */
  #due(): number {
    const { clock, rate } = this.#options;
    const now = clock.monotonicMs();
    const due = Math.floor(((now - this.#startedMs) / 1000) * rate) - this.#steps;
    const dueMax = Math.max(1, Math.ceil((CATCH_UP_MS / 1000) * rate));
    if (due <= dueMax) return due;
    this.#startedMs = now - ((this.#steps + dueMax) / rate) * 1000;
    return dueMax;
  }

  /** How long until the next step is due. */
  #nextDueMs(): Millis {
    const { clock, rate } = this.#options;
    return this.#startedMs + ((this.#steps + 1) / rate) * 1000 - clock.monotonicMs();
  }

  #end(): void {
    this.#state = { kind: "ended" };
    this.#options.log.info(
      "generator_ended",
      `GenSource produced a None. Stopping GenSource. It is ${this.#options.name}`,
    );
  }
}
