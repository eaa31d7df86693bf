/**
 * Options of an application, beside the worker's own: declared with name, type, default and help, read from the same
 * command line, shown by `--help`.
 */
import { ConfigError } from "../base/errors.ts";
import { printable } from "../base/log.ts";

export interface OptionSpec<T extends OptionValue = OptionValue> {
  readonly kind: "number" | "string" | "boolean";
  /** `undefined`: the option is required. */
  readonly default: T | undefined;
  /** One line for `--help`. */
  readonly help: string;
  /** Of a number: the smallest that is taken. */
  readonly min?: number;
}

export type OptionValue = number | string | boolean;

/** By name in camel case: `windowSize` is `--window-size` on the command line. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

/** What `build` gets: a value for each option. */
export type OptionValues<O extends OptionSpecs> = {
  readonly [K in keyof O]: O[K] extends OptionSpec<infer T> ? T : never;
};

interface OptionSettings<T> {
  /** Left out: whoever starts the application must give the option. */
  readonly default?: T;
  /** One line for `--help`, with the unit and what 0 means. */
  readonly help?: string;
}

/** Declares an option of an application: `options: { rate: option.number({ default: 1000, help: "..." }) }`. */
export const option = {
  /** A decimal number, also negative or with a fraction. */
  number: (settings: OptionSettings<number> & { readonly min?: number } = {}): OptionSpec<number> => ({
    kind: "number",
    default: settings.default,
    help: settings.help ?? "",
    ...(settings.min === undefined ? {} : { min: settings.min }),
  }),
  string: (settings: OptionSettings<string> = {}): OptionSpec<string> => ({
    kind: "string",
    default: settings.default,
    help: settings.help ?? "",
  }),
  /** A switch: `--verbose`, `--verbose=false`. Off unless its default says otherwise; never required. */
  boolean: (settings: OptionSettings<boolean> = {}): OptionSpec<boolean> => ({
    kind: "boolean",
    default: settings.default ?? false,
    help: settings.help ?? "",
  }),
} as const;

/** The long option of a name: `windowSize` gives `window-size`. */
export function optionFlag(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/**
 * Turns texts from the command line (`true` for a switch without a value) into values, and fills in defaults.
 *
 * @param texts By name as in `specs`; names that `specs` doesn't have are not looked at.
 * @throws {ConfigError} `option_missing`, `option_not_a_number`, `option_out_of_range`, `option_not_a_boolean`.
 */
export function readOptionValues<O extends OptionSpecs>(
  specs: O,
  texts: Readonly<Record<string, string | true | undefined>>,
): OptionValues<O> {
  const values: Record<string, OptionValue> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const flag = `--${optionFlag(name)}`;
    const text = texts[name];
    if (text === undefined) {
      if (spec.default === undefined) {
        throw new ConfigError("option_missing", `${flag} is missing: the application asks for a ${spec.kind}`);
      }
      values[name] = spec.default;
    } else {
      values[name] = readOptionValue(flag, spec, text);
    }
  }
  return values as OptionValues<O>;
}

function readOptionValue(flag: string, spec: OptionSpec, text: string | true): OptionValue {
  switch (spec.kind) {
    case "boolean":
      if (text === true || text === "true") return true;
      if (text === "false") return false;
      throw new ConfigError("option_not_a_boolean", `${flag} ${printable(text)}: expected true or false`);
    case "number": {
      const value = text === true || text.trim() === "" ? Number.NaN : Number(text);
      if (Number.isFinite(value) && value >= (spec.min ?? -Infinity)) return value;
      if (Number.isFinite(value)) {
        throw new ConfigError(
          "option_out_of_range",
          `${flag} ${printable(String(text))}: must be at least ${spec.min}`,
        );
      }
      throw new ConfigError(
        "option_not_a_number",
        `${flag} ${text === true ? "" : printable(text)}: expected a number`,
      );
    }
    case "string":
      if (text !== true) return text;
      throw new ConfigError("option_missing", `${flag} has no value: expected a text`);
  }
}
