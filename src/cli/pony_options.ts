export interface WithoutPony {
  readonly kept: readonly string[];
  /** The value of the last `--ponythreads`; `null`: not given. */
  readonly threads: string | null;
}

/**
 * Takes out what the original's language runtime took out of every program's arguments: all options that begin with `--pony`,
 * with their values. They say how its threads are scheduled.
 */
export function withoutPonyOptions(args: readonly string[]): WithoutPony {
  const kept: string[] = [];
  let threads: string | null = null;
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    if (!argument.startsWith("--pony")) {
      kept.push(argument);
      continue;
    }
    const equals = argument.indexOf("=");
    const name = equals === -1 ? argument : argument.slice(0, equals);
    let value = equals === -1 ? "" : argument.slice(equals + 1);
    const next = args[index + 1];
    if (equals === -1 && next !== undefined && /^[0-9][0-9._]*$/.test(next)) {
      value = next;
      index++;
    }
    if (name === "--ponythreads") threads = value;
  }
  return { kept, threads };
}
