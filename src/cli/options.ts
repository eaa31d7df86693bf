/**
 * Arguments to values, by a table and without guessing: nothing is dropped, nothing is taken for something else.
 *
 * The spellings are the original's: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`; a repeated option's
 * last value counts; a value that starts with `-` is only taken with `=`; numbers may have underscores.
 */
import { ConfigError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { Address, Millis } from "../runtime/runtime.ts";
import { nearest } from "./nearest.ts";

export interface OptionSpec {
  /** The long name, without dashes. */
  readonly name: string;
  /** The short name, one character. */
  readonly letter?: string;
  /** What stands for the value in help texts, such as `HOST:PORT`; `null`: a flag, which takes none. */
  readonly value: string | null;
  /** One line, with the unit. */
  readonly help: string;
  /** As help texts show it. */
  readonly default?: string;
  /** A flag that may also be written `--name=true` and `--name=false`. */
  readonly isSwitch?: boolean;
  /** Not shown in help texts. */
  readonly hidden?: boolean;
}

/** What was given for an option. */
export interface Given {
  /** As it was written: `--worker-count` or `-w`. */
  readonly spelling: string;
  /** `null`: a flag without a value. */
  readonly value: string | null;
}

export interface ParsedArguments {
  /** By long name; of a repeated option the last one. */
  readonly given: ReadonlyMap<string, Given>;
  /** Arguments that belong to no option, in order. */
  readonly words: readonly string[];
  /** Options the table doesn't have, as they were written, without a value. */
  readonly unknown: readonly string[];
}

/**
 * Sorts arguments by the table. What the table doesn't know is listed, not refused: the caller may have another table.
 *
 * @throws {ConfigError} `option_value_missing`, `option_takes_no_value`.
 */
export function parseArguments(args: readonly string[], specs: readonly OptionSpec[]): ParsedArguments {
  const byName = new Map(specs.map((spec) => [spec.name, spec]));
  const byLetter = new Map(specs.flatMap((spec) => (spec.letter === undefined ? [] : [[spec.letter, spec] as const])));
  const given = new Map<string, Given>();
  const words: string[] = [];
  const unknown: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    if (argument === "--") {
      words.push(...args.slice(index + 1));
      break;
    }
    if (!argument.startsWith("-") || argument === "-") {
      words.push(argument);
      continue;
    }
    const { spelling, attached } = splitArgument(argument);
    const spec = spelling.startsWith("--") ? byName.get(spelling.slice(2)) : byLetter.get(spelling.slice(1));
    if (spec === undefined) {
      unknown.push(argument.startsWith("--") ? spelling : argument);
    } else if (spec.value === null) {
      if (attached !== null && spec.isSwitch !== true) {
        throw new ConfigError(
          "option_takes_no_value",
          `${spelling} takes no value, but "${printable(argument)}" gives one: leave the value out`,
        );
      }
      given.set(spec.name, { spelling, value: attached });
    } else if (attached !== null) {
      given.set(spec.name, { spelling, value: attached });
    } else {
      const next = args[index + 1];
      if (next === undefined || next.startsWith("-")) throw valueMissing(spec, spelling, next);
      given.set(spec.name, { spelling, value: next });
      index++;
    }
  }
  return { given, words, unknown };
}

function splitArgument(argument: string): { spelling: string; attached: string | null } {
  if (argument.startsWith("--")) {
    const equals = argument.indexOf("=");
    if (equals === -1) return { spelling: argument, attached: null };
    return { spelling: argument.slice(0, equals), attached: argument.slice(equals + 1) };
  }
  const rest = argument.slice(2);
  if (rest === "") return { spelling: argument, attached: null };
  return { spelling: argument.slice(0, 2), attached: rest.startsWith("=") ? rest.slice(1) : rest };
}

function valueMissing(spec: OptionSpec, spelling: string, next: string | undefined): ConfigError {
  const example = spelling.startsWith("--") ? `${spelling}=` : `${spelling} `;
  const hint =
    next === undefined
      ? `give it ${spec.value}, for example ${example}${spec.value}`
      : `what follows is ${printable(next)}, which looks like an option; a value that starts with - is written with =, ${spelling}=${printable(next)}`;
  return new ConfigError("option_value_missing", `${spelling} needs a value: ${hint}`);
}

/**
 * Refuses what no table knows, with the nearest known name.
 *
 * @throws {ConfigError} `option_unknown`, `argument_unexpected`.
 */
export function refuseUnknown(parsed: ParsedArguments, specs: readonly OptionSpec[]): void {
  const [unknown] = parsed.unknown;
  if (unknown !== undefined) throw unknownOption(unknown, specs);
  const [word] = parsed.words;
  if (word !== undefined) {
    throw new ConfigError(
      "argument_unexpected",
      `Unexpected argument "${printable(word)}": it belongs to no option; quote values with blanks, and see --help`,
    );
  }
}

export function unknownOption(spelling: string, specs: readonly OptionSpec[]): ConfigError {
  const known = specs.filter((spec) => spec.hidden !== true).map((spec) => `--${spec.name}`);
  const near = nearest(spelling, known);
  const hint = near === null ? "see --help for those there are" : `did you mean ${near}?`;
  return new ConfigError("option_unknown", `Unknown option ${printable(spelling)}: ${hint}`);
}

/** The text of an option, or `null` if it was not given. @throws {ConfigError} `option_value_empty`. */
export function textOf(parsed: ParsedArguments, name: string): string | null {
  const given = parsed.given.get(name);
  if (given === undefined) return null;
  if (given.value === null || given.value === "") {
    throw new ConfigError(
      "option_value_empty",
      `${given.spelling} has an empty value: give it one, or leave the option out`,
    );
  }
  return given.value;
}

export function isGiven(parsed: ParsedArguments, name: string): boolean {
  return parsed.given.has(name);
}

/**
 * A whole number; underscores between digits are allowed, as in `1_000_000`.
 *
 * @throws {ConfigError} `option_not_a_number`, `option_out_of_range`.
 */
export function integerOf(
  parsed: ParsedArguments,
  name: string,
  range: { readonly min: number; readonly max?: number },
): number | null {
  const text = textOf(parsed, name);
  if (text === null) return null;
  const { spelling } = parsed.given.get(name)!;
  const { min, max = Number.MAX_SAFE_INTEGER } = range;
  if (!/^[+-]?[0-9][0-9_]*$/.test(text)) {
    throw new ConfigError(
      "option_not_a_number",
      `${spelling} ${printable(text)}: not a whole number; write digits only, such as ${Math.max(min, 1)} or 1_000_000`,
    );
  }
  const value = Number(text.replaceAll("_", ""));
  if (value < min || value > max) {
    const bound = value < min ? `at least ${min}` : `at most ${max}`;
    throw new ConfigError("option_out_of_range", `${spelling} must be ${bound}, not ${printable(text)}.`);
  }
  return value;
}

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** `250ms`, `1.5s`, `5m`, `1h` in milliseconds; `null`: it is something else. */
export function readDuration(text: string): Millis | null {
  const [, count, unit] = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text) ?? [];
  return count === undefined ? null : Number(count) * UNITS_MS[unit!]!;
}

/** One of a few words. @throws {ConfigError} `option_not_one_of`. */
export function choiceOf<T extends string>(parsed: ParsedArguments, name: string, choices: readonly T[]): T | null {
  const text = textOf(parsed, name);
  if (text === null) return null;
  const choice = choices.find((candidate) => candidate === text);
  if (choice !== undefined) return choice;
  const { spelling } = parsed.given.get(name)!;
  throw new ConfigError("option_not_one_of", `${spelling} ${printable(text)}: expected ${choices.join(", ")}`);
}

/** For an option that a command can't do without. */
export function required(name: string, example: string): ConfigError {
  return new ConfigError("option_required", `--${name} is missing: give it, for example ${example}`);
}

/** Whether port 0 ("any free one") makes sense: for own listeners only. */
export type PortRule = "listen" | "connect";

/** An address, or `null` if the option was not given. @throws {ConfigError} `address_invalid`. */
export function addressOf(parsed: ParsedArguments, name: string, rule: PortRule): Address | null {
  const text = textOf(parsed, name);
  return text === null ? null : parseAddress(parsed.given.get(name)!.spelling, text, rule);
}

/**
 * `HOST:PORT`, `[IPV6]:PORT`.
 *
 * @param what Names the option in the message.
 * @throws {ConfigError} `address_invalid`.
 */
export function parseAddress(what: string, text: string, rule: PortRule): Address {
  const refuse = (reason: string) =>
    new ConfigError(
      "address_invalid",
      `${what} ${printable(text)}: ${reason}; expected HOST:PORT, such as 127.0.0.1:7000`,
    );
  const { host, rest } = splitHost(text, refuse);
  if (rest === "") throw refuse("the port is missing");
  return { host, port: parsePort(rest.slice(1), rule, refuse) };
}

/** Takes the host off the front of `HOST:...`. `rest` is empty or begins with a colon. */
export function splitHost(text: string, refuse: (reason: string) => ConfigError): { host: string; rest: string } {
  if (text.startsWith("[")) {
    const end = text.indexOf("]");
    const host = text.slice(1, end);
    if (end === -1 || !/^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?$/.test(host)) {
      throw refuse("this is no IPv6 address in brackets, such as [::1]:7000");
    }
    const rest = text.slice(end + 1);
    if (rest !== "" && !rest.startsWith(":")) throw refuse("a colon and the port must follow the bracket");
    return { host, rest };
  }
  const colon = text.indexOf(":");
  const host = colon === -1 ? text : text.slice(0, colon);
  const rest = colon === -1 ? "" : text.slice(colon);
  if (/^[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*$/.test(text)) {
    throw refuse("there is more than one colon, and an IPv6 address goes in brackets, such as [::1]:7000");
  }
  if (host === "") throw refuse("the host is missing (0.0.0.0 listens on all addresses)");
  if (!/^[A-Za-z0-9._-]{1,253}$/.test(host)) throw refuse("the host has characters that no host name has");
  return { host, rest };
}

export function parsePort(text: string, rule: PortRule, refuse: (reason: string) => ConfigError): number {
  if (text === "") throw refuse("the port is missing");
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw refuse(`${printable(text)} is no port, which is a number from 1 to 65535`);
  if (port === 0 && rule === "connect")
    throw refuse("nothing can be reached at port 0: give the port that is listened on");
  return port;
}

/** `HOST:PORT`, with brackets around an IPv6 address. */
export function addressText(address: Address): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
