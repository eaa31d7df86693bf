/** The command line of scripts/sim: `--name value` and `--name`, and everything else in order. */

export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface Arguments {
  readonly words: readonly string[];
  readonly options: ReadonlyMap<string, string>;
}

/** @param flags Options without a value. */
export function parseArguments(args: readonly string[], known: readonly string[], flags: readonly string[]): Arguments {
  const words: string[] = [];
  const options = new Map<string, string>();
  for (let i = 0; i < args.length; i++) {
    const word = args[i]!;
    if (!word.startsWith("--")) {
      words.push(word);
      continue;
    }
    const [name, inline] = splitAt(word.slice(2), "=");
    if (flags.includes(name)) {
      options.set(name, "");
      continue;
    }
    if (!known.includes(name)) {
      const all = [...known, ...flags].map((option) => `--${option}`).join(", ");
      throw new UsageError(`--${name} is not known here; there is ${all}`);
    }
    const value = inline ?? args[++i];
    if (value === undefined) throw new UsageError(`--${name} needs a value`);
    options.set(name, value);
  }
  return { words, options };
}

export function countOption({ options }: Arguments, name: string, ifMissing: number): number {
  const text = options.get(name);
  if (text === undefined) return ifMissing;
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new UsageError(`--${name} is ${text}: it is a number from 1`);
  return Number(text);
}

function splitAt(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
