/**
 * Reads decoded plain data field by field: every field is asked for by name, with its type and bounds, and a field nobody
 * asked for is an error. The decoded object itself never gets any further.
 */
export class FieldReader {
  readonly #what: string;
  readonly #fields: ReadonlyMap<string, unknown>;
  readonly #asked = new Set<string>();

  /** `what` names the object in errors: `member 2`. */
  constructor(what: string, value: unknown) {
    this.#what = what;
    const isMap =
      typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
    if (!isMap) throw new Error(`${what} is no map of fields`);
    this.#fields = new Map(Object.entries(value));
  }

  text(name: string, legal: RegExp | ((text: string) => boolean)): string {
    const value = this.#take(name);
    const fits = typeof value === "string" && (legal instanceof RegExp ? legal.test(value) : legal(value));
    if (!fits) throw new Error(`${name} of ${this.#what} is not what it should be`);
    return value as string;
  }

  oneOf<T extends string>(name: string, choices: readonly T[]): T {
    return this.text(name, (text) => (choices as readonly string[]).includes(text)) as T;
  }

  whole(name: string, from: number, to: number): number {
    const value = this.#take(name);
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < from || value > to) {
      throw new Error(`${name} of ${this.#what} is not a whole number from ${from} to ${to}`);
    }
    return value;
  }

  list(name: string, lengthMax: number): readonly unknown[] {
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length > lengthMax) {
      throw new Error(`${name} of ${this.#what} is not a list of at most ${lengthMax}`);
    }
    return value;
  }

  fields(name: string): FieldReader {
    return new FieldReader(`${name} of ${this.#what}`, this.#take(name));
  }

  /** Whatever it is; the caller looks at it. */
  any(name: string): unknown {
    return this.#take(name);
  }

  /** To be called last. */
  end(): void {
    for (const name of this.#fields.keys()) {
      if (!this.#asked.has(name)) throw new Error(`${this.#what} has an unknown field`);
    }
  }

  #take(name: string): unknown {
    this.#asked.add(name);
    return this.#fields.get(name);
  }
}
