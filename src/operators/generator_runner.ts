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
    for (let steps = 0; steps < stepCount && this.#phase === "running"; steps++) {
      if (emit === undefined) values.push(this.#state);
      else this.#emit(emit, values);
      this.#step();
    }
    return values;
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
    const position: GeneratorPosition = { version: 1, phase: this.#phase, state: out.take() };
    return position;
  }

  /** @throws {ResilienceError} `position_invalid`. */
  restore(position: unknown): void {
    const { version, phase, state } = (position ?? {}) as Partial<GeneratorPosition>;
    const whole = version === 1 && (phase === "new" || phase === "running" || phase === "ended");
    if (!whole || !(state instanceof Uint8Array)) {
      throw new ResilienceError(
        "position_invalid",
        `Cannot go on with generator "${this.#id}": the saved position is not one of a generator of this version`,
      );
    }
    this.#phase = phase;
    this.#state = decodeValues(state, 0, state.length, 1)[0];
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

  #report(during: string, error: unknown): void {
    this.#userError({ stage: this.#id, during, key: null, keyGroup: null, error, record: null });
  }
}
