import type { GeneratorContext, GeneratorSource } from "../api/generator_source.ts";
import { ResilienceError } from "../base/errors.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { decodeValues, encodeValues, ValueError } from "../wire/values.ts";
import type { UserError } from "./dataflow_hooks.ts";
import { refusePromise } from "./operator.ts";

/** In a checkpoint. */
interface GeneratorPosition {
  readonly version: 1;
  readonly phase: "new" | "running" | "ended";
  /** Of the next record, as a block of one value. */
  readonly state: Uint8Array;
  /** Steps that were taken; left out by versions that did not count them. */
  readonly steps?: number;
}

/** Steps one generator of one worker. When to step is somebody else's business. */
export class GeneratorRunner {
  readonly #id: string;
  readonly #definition: GeneratorSource<unknown>;
  readonly #context: GeneratorContext;
  readonly #userError: (error: UserError) => void;
  #phase: "new" | "running" | "ended" = "new";
  /** Of the next record. */
  #state: unknown = undefined;
  /** Steps so far; null: not known, since the saved position didn't say. */
  #steps: number | null = 0;
  /** Of the last `take`: steps before it, and those of it that gave no value, ascending. */
  #before: number | null = 0;
  #skipped: number[] = [];

  /** @param source The source as planned. */
  constructor(
    source: { readonly name: string; readonly definition: GeneratorSource<unknown> },
    context: GeneratorContext,
    userError: (error: UserError) => void,
  ) {
    this.#id = `${source.name}/generate`;
    this.#definition = source.definition;
    this.#context = context;
    this.#userError = userError;
  }

  get ended(): boolean {
    return this.#phase === "ended";
  }

  /**
   * The values of the next `stepCount` states; fewer where the generator ends or has nothing to emit. A throw of `emit` costs
   * one record, a throw of `initial` or `next` ends the source, since there's nothing to go on from.
   */
  take(stepCount: number): unknown[] {
    const values: unknown[] = [];
    if (this.#phase === "new") this.#begin();
    const { emit } = this.#definition;
    this.#before = this.#steps;
    this.#skipped = [];
    let steps = 0;
    for (; steps < stepCount && this.#phase === "running"; steps++) {
      if (emit === undefined) values.push(this.#state);
      else if (!this.#emit(emit, values, steps)) this.#skipped.push(steps);
      this.#step();
    }
    if (this.#steps !== null) this.#steps += steps;
    return values;
  }

  /** The step, from 0, that gave this value of the last `take`; null: not known. */
  stepOf(value: number): number | null {
    if (this.#before === null) return null;
    let step = value;
    for (const index of this.#skipped) if (index <= step) step++;
    return this.#before + step;
  }

  /**
   * Where it stands, for `restore`.
   *
   * @throws {ValueError} The state is no plain data.
   */
  snapshot(): unknown {
    const out = new ByteWriter(64);
    try {
      encodeValues([this.#state], 1, out);
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      const message = `Cannot save where generator "${this.#id}" stands: ${error.message}`;
      throw new ValueError(error.code, error.path, 0, message);
    }
    const steps = this.#steps === null ? {} : { steps: this.#steps };
    const position: GeneratorPosition = { version: 1, phase: this.#phase, state: out.take(), ...steps };
    return position;
  }

  /** @throws {ResilienceError} `position_invalid`. */
  restore(position: unknown): void {
    const { version, phase, state, steps } = (position ?? {}) as Partial<GeneratorPosition>;
    const whole = version === 1 && (phase === "new" || phase === "running" || phase === "ended");
    if (!whole || !(state instanceof Uint8Array)) {
      throw new ResilienceError(
        "position_invalid",
        `Cannot go on with generator "${this.#id}": the saved position is not one of a generator of this version`,
      );
    }
    this.#phase = phase;
    this.#state = decodeValues(state, 0, state.length, 1)[0];
    this.#steps = Number.isSafeInteger(steps) ? (steps as number) : null;
  }

  #begin(): void {
    try {
      const state = this.#definition.initial(this.#context);
      if (state instanceof Promise) throw refusePromise("initial", state);
      this.#enter(state);
    } catch (error) {
      this.#fail("initial", error);
    }
  }

  /** @param step Of this `take`. @returns Was there a value? */
  #emit(emit: (state: unknown) => unknown, values: unknown[], step: number): boolean {
    try {
      const value = emit(this.#state);
      if (value instanceof Promise) throw refusePromise("emit", value);
      if (value === undefined) return false;
      values.push(value);
      return true;
    } catch (error) {
      this.#report("emit", error, this.#before === null ? null : this.#before + step);
      return false;
    }
  }

  #step(): void {
    const { next, emit } = this.#definition;
    try {
      const state = next(this.#state);
      if (state instanceof Promise) throw refusePromise("next", state);
      if (state === this.#state && typeof state === "object" && emit === undefined) {
        throw new TypeError(
          "next returned the object it was given, which is a record already: return a new one, or add emit",
        );
      }
      this.#enter(state);
    } catch (error) {
      this.#fail("next", error);
    }
  }

  #enter(state: unknown): void {
    this.#state = state;
    this.#phase = state === undefined ? "ended" : "running";
  }

  #fail(during: string, error: unknown): void {
    this.#enter(undefined);
    this.#report(during, error);
  }

  /** @param origin The step, where it is known and matters. */
  #report(during: string, error: unknown, origin: number | null = null): void {
    this.#userError({ stage: this.#id, during, key: null, keyGroup: null, error, record: null, time: null, origin });
  }
}
