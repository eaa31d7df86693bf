/** Runs a generator: batches of at most so many records, never ahead of its rate. */
import type { GeneratorContext, GeneratorSource } from "../api/generator_source.ts";
import type { Batch } from "./batch.ts";
import { NO_HASHES } from "./columns.ts";
import type { UserError } from "./dataflow_hooks.ts";
import { refusePromise } from "./operator.ts";

/**
 * One generator of one worker. Paced, it owes `floor(elapsed × rate)` records minus those it has made: a pause is made up
 * for, rounding never adds up.
 */
export class GeneratorRunner {
  readonly #id: string;
  readonly #pipeline: number;
  readonly #definition: GeneratorSource<unknown>;
  readonly #context: GeneratorContext;
  readonly #userError: (error: UserError) => void;
  #begun = false;
  /** Of the next record. `undefined` after the beginning: it has ended. */
  #state: unknown = undefined;
  #made = 0;
  #watermark = Number.NEGATIVE_INFINITY;

  /** @param source The source as planned: its index is that of its pipeline. */
  constructor(
    source: { readonly index: number; readonly name: string; readonly definition: GeneratorSource<unknown> },
    context: GeneratorContext,
    userError: (error: UserError) => void,
  ) {
    this.#id = `${source.name}/generate`;
    this.#pipeline = source.index;
    this.#definition = source.definition;
    this.#context = context;
    this.#userError = userError;
  }

  get ended(): boolean {
    return this.#begun && this.#state === undefined;
  }

  /** How many records are due, `elapsedMs` after the start; infinite without a rate. */
  due(elapsedMs: number): number {
    const { rate } = this.#definition;
    return rate === 0 ? Number.POSITIVE_INFINITY : Math.max(0, Math.floor((elapsedMs * rate) / 1000) - this.#made);
  }

  /** Milliseconds after the start at which the next record is due; 0 without a rate. */
  nextDueMs(): number {
    const { rate } = this.#definition;
    return rate === 0 ? 0 : ((this.#made + 1) * 1000) / rate;
  }

  /**
   * The next records, at most `countMax`; fewer where the generator ends or skips some. A throw of `emit` costs one record, a
   * throw of `initial` or `next` ends the source, since there's nothing to go on from.
   */
  take(countMax: number, arrivalMs: number): Batch {
    if (!this.#begun) this.#begin();
    const { emit } = this.#definition;
    const values: unknown[] = [];
    for (let steps = 0; steps < countMax && this.#state !== undefined; steps++) {
      if (emit === undefined) values.push(this.#state);
      else this.#emit(emit, values);
      this.#step();
      this.#made++;
    }
    const arrival = Math.trunc(arrivalMs * 1000);
    if (values.length > 0) this.#watermark = Math.max(this.#watermark, arrival);
    return {
      count: values.length,
      values,
      times: new Float64Array(values.length).fill(arrival),
      keys: [],
      hashes: NO_HASHES,
      watermark: this.#watermark,
      arrivalMs,
      pipeline: this.#pipeline,
    };
  }

  #begin(): void {
    this.#begun = true;
    try {
      const state = this.#definition.initial(this.#context);
      if (state instanceof Promise) throw refusePromise("initial", state);
      this.#state = state;
    } catch (error) {
      this.#report("initial", error);
    }
  }

  #emit(emit: (state: unknown) => unknown, values: unknown[]): void {
    try {
      const value = emit(this.#state);
      if (value instanceof Promise) throw refusePromise("emit", value);
      if (value !== undefined) values.push(value);
    } catch (error) {
      this.#report("emit", error);
    }
  }

  #step(): void {
    const before = this.#state;
    this.#state = undefined;
    try {
      const after = this.#definition.next(before);
      if (after instanceof Promise) throw refusePromise("next", after);
      if (after === before && typeof after === "object" && this.#definition.emit === undefined) {
        throw new TypeError(
          "next returned the object it was given, which is a record already: return a new one, or add emit",
        );
      }
      this.#state = after;
    } catch (error) {
      this.#report("next", error);
    }
  }

  #report(during: string, error: unknown): void {
    this.#userError({ stage: this.#id, during, key: null, keyGroup: null, error });
  }
}
