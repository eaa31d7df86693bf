/** Which file of a source is read next: a decision over what the folder holds. */

export interface FileFacts {
  /** Names of the files that are there, sorted. */
  readonly names: readonly string[];
  readonly finished: ReadonlySet<string>;
  /** Does the source go on at the end? */
  readonly follow: boolean;
}

export type FileChoice =
  /** `whole`: nothing will be appended to it any more, so that its end is the end of its last record. */
  | { readonly kind: "read"; readonly name: string; readonly whole: boolean }
  /** Nothing is there, and something may come. */
  | { readonly kind: "wait" }
  | { readonly kind: "end" };

/**
 * The first file that is not finished. Of a folder that is followed, a file is whole once there is one of a later name; a
 * compressed file is whole as it is.
 */
export function chooseFile({ names, finished, follow }: FileFacts): FileChoice {
  const name = names.find((candidate) => !finished.has(candidate));
  if (name === undefined) return { kind: follow ? "wait" : "end" };
  const whole = !follow || name !== names.at(-1) || isCompressed(name);
  return { kind: "read", name, whole };
}

/** The highest name of files that were begun, if this one sorts before it: it came late. */
export function lastBefore(name: string, begun: readonly string[]): string | null {
  let highest = "";
  for (const other of begun) if (other > highest) highest = other;
  return name < highest ? highest : null;
}

export function isCompressed(name: string): boolean {
  return name.endsWith(".gz");
}
