/** The connector of a generator source: asks for records in batches, paced (`pacer.ts`) or as fast as they are taken. */
import type { Log } from "../base/log.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";
import type { LocateRecord } from "../wire/record_place.ts";
import type { ConnectorStatus, SourceCheckpoints, SourceConnector } from "./connector.ts";
import { Pacer } from "./pacer.ts";

const BATCH_RECORDS_MAX = 1_024;
/**
 * Of one turn, if it is not over sooner: what goes to other workers leaves at its end, so that more batches a turn are fewer and
 * larger writes.
 */
const TURN_BATCHES_MAX = 4;
const TURN_MS: Millis = 1;
/** Between two batches of a paced source, at least. */
const PACE_MS: Millis = 5;

/** Makes the records of one generator on one worker. What its user code throws is its own business. */
export interface RecordMaker {
  /** The records of the next `stepCount` steps; fewer where a step emits none, or when it has ended. */
  take(stepCount: number): unknown[];
  /** The step, from 0, that gave this value of the last `take`; null: not known. */
  stepOf(value: number): number | null;
  readonly ended: boolean;
  /** Plain data for `restore` of another maker. */
  snapshot(): unknown;
  restore(position: unknown): void;
}

export interface GeneratorSourceOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly name: string;
  /** Steps a second; 0: unpaced. */
  readonly rate: number;
  /** Asked for when the source opens, and at each rollback: before that the members of the cluster aren't known. */
  readonly maker: () => RecordMaker;
  readonly turn: (run: () => void) => void;
  readonly blocked: () => boolean;
  /** One or more records; the array is the callee's. */
  readonly values: (values: unknown[], locate: LocateRecord) => void;
}

type State = "new" | "running" | "ended" | "closed";

export class GeneratorSourceConnector implements SourceConnector {
  readonly checkpoints: SourceCheckpoints;
  readonly #options: GeneratorSourceOptions;
  #state: State = "new";
  /** Null: it was never opened. */
  #maker: RecordMaker | null = null;
  /** Where to begin; null: at the beginning. */
  #position: unknown | null = null;
  /** A turn or a timer is under way. */
  #scheduled = false;
  #cancelTimer: () => void = () => {};
  #pacer: Pacer;
  /** Records so far. */
  emitted = 0;

  constructor(options: GeneratorSourceOptions) {
    this.#options = options;
    this.#pacer = new Pacer(options.clock, options.rate);
    this.checkpoints = {
      snapshot: () => (this.#maker === null ? this.#position : this.#maker.snapshot()),
      seek: (position) => this.#seek(position),
      // Nobody upstream waits for it.
      acknowledge: () => {},
    };
  }

  get ended(): boolean {
    return this.#state === "ended";
  }

  status(): ConnectorStatus {
    return { kind: "generator", records: this.emitted, ended: this.ended };
  }

  open(): void {
    if (this.#state !== "new") return;
    this.#begin();
    this.resume();
  }

  #begin(): void {
    this.#pacer = new Pacer(this.#options.clock, this.#options.rate);
    const maker = this.#options.maker();
    if (this.#position !== null) maker.restore(this.#position);
    this.#maker = maker;
    this.#state = "running";
  }

  #seek(position: unknown | null): void {
    this.#position = position;
    if (this.#state === "running" || this.#state === "ended") this.#begin();
    // It makes nothing more, and the last checkpoint of a stop asks where it stands.
    else this.#maker = null;
  }

  /** What was blocked may be free again. */
  resume(): void {
    if (this.#state !== "running" || this.#scheduled || this.#options.blocked()) return;
    this.#scheduled = true;
    const { clock, turn, rate } = this.#options;
    const step = (): void => turn(() => this.#step());
    if (rate === 0 || this.#pacer.due() >= BATCH_RECORDS_MAX) clock.soon(step);
    else this.#cancelTimer = clock.startTimer(Math.max(PACE_MS, this.#pacer.waitMs()), step);
  }

  close(): void {
    this.#state = "closed";
    this.#cancelTimer();
  }

  #step(): void {
    this.#scheduled = false;
    const maker = this.#maker;
    if (this.#state !== "running" || maker === null || this.#options.blocked()) return;
    const { clock, blocked, values } = this.#options;
    const began = clock.monotonicMs();
    for (let batches = 0; batches < TURN_BATCHES_MAX; batches++) {
      const steps = Math.min(this.#pacer.due(), BATCH_RECORDS_MAX);
      if (steps === 0) break;
      const records = maker.take(steps);
      this.#pacer.took(steps);
      this.emitted += records.length;
      if (records.length > 0) {
        values(records, (value) => {
          const step = maker.stepOf(value);
          return step === null ? null : { kind: "generator", step };
        });
      }
      if (!this.#isRunning() || maker !== this.#maker || maker.ended || blocked()) break;
      if (clock.monotonicMs() - began >= TURN_MS) break;
    }
    // Whatever took the records may have closed this source.
    if (this.#isRunning() && maker.ended) this.#end();
    else this.resume();
  }

  #isRunning(): boolean {
    return this.#state === "running";
  }

  #end(): void {
    this.#state = "ended";
    this.#options.log.info(
      "generator_ended",
      `GenSource produced a None. Stopping GenSource. It is ${this.#options.name}`,
    );
  }
}
