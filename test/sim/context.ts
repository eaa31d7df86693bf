/** What the commands of scripts/sim share: where they were called from, seeds of a commit, and where failures are kept. */
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { generateScenario } from "../../src/simulation/generate.ts";
import { parseScenario, parseSeed, type Scenario, showScenario } from "../../src/simulation/scenario.ts";
import { type Shrunk, shrinkScenario } from "../../src/simulation/shrink.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { execute } from "./execute.ts";
import { showViolation } from "./report.ts";

/** Failing seeds that are made small by themselves; a mistake that hits everything needs no more. */
const SHRUNK_MAX = 3;
export const SHRINK_MS = 120_000;
/** Where there is no commit. */
const FIXED_SEED = 0x5eed_0000n;

const projectFolder = fileURLToPath(new URL("../..", import.meta.url));

/** Of one call of the command line. */
export interface Context {
  /** Paths that were given are relative to it. */
  readonly calledFrom: string;
}

/** As it was given, if it was given so; seen from where the command was called. */
export function pathFrom({ calledFrom }: Context, path: string): string {
  return resolve(calledFrom, path);
}

/** @throws {UsageError} It can't be read. */
export function readGiven(context: Context, path: string): string {
  try {
    return readFileSync(pathFrom(context, path), "utf8");
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${reasonOf(error)}`);
  }
}

/** Before a run that takes minutes. What is there stays as it is. @throws {UsageError} It can't be written. */
export function checkWritable(context: Context, path: string | undefined): void {
  if (path === undefined) return;
  const file = pathFrom(context, path);
  const wasThere = existsSync(file);
  try {
    closeSync(openSync(file, "a"));
  } catch (error) {
    throw new UsageError(`cannot write ${path}: ${reasonOf(error)}`);
  }
  if (!wasThere) rmSync(file);
}

/** @throws {UsageError} It can't be written. */
export function writeGiven(context: Context, path: string, content: string): void {
  try {
    writeFileSync(pathFrom(context, path), content);
  } catch (error) {
    throw new UsageError(`cannot write ${path}: ${reasonOf(error)}`);
  }
}

function reasonOf(error: unknown): string {
  const { code } = error as { code?: string };
  if (code === "ENOENT") return "there is no such file or folder";
  return error instanceof Error ? error.message : String(error);
}

/** The commit's, so that each commit explores seeds of its own and everybody explores the same ones for it. */
export function seedOfCommit(): { readonly seed: bigint; readonly origin: string } {
  try {
    const stdio = ["ignore", "pipe", "ignore"] as const;
    const hash = execFileSync("git", ["rev-parse", "HEAD"], {
      cwd: projectFolder,
      encoding: "utf8",
      stdio: [...stdio],
    });
    if (/^[0-9a-f]{40,64}\n?$/.test(hash)) {
      return { seed: BigInt(`0x${hash.slice(0, 12)}`) << 12n, origin: `of commit ${hash.slice(0, 12)}` };
    }
  } catch {
    // A copy without its history, or a machine without git.
  }
  return { seed: FIXED_SEED, origin: "fixed, since git knows no commit here" };
}

/** @throws {UsageError} It is none. */
export function givenSeed(option: string, text: string): bigint {
  try {
    return parseSeed(text);
  } catch {
    throw new UsageError(`--${option} is ${text}: a seed is 0x and up to 16 hexadecimal digits, or a decimal number`);
  }
}

/** `--first S`, `--from-commit`, or 1. */
export function firstSeed({ options }: Arguments): { readonly seed: bigint; readonly origin: string } {
  const first = options.get("first");
  if (first !== undefined) {
    if (options.has("from-commit")) throw new UsageError("give --first or --from-commit, not both");
    return { seed: givenSeed("first", first), origin: "as given" };
  }
  return options.has("from-commit") ? seedOfCommit() : { seed: 1n, origin: "the default" };
}

export function readScenario(context: Context, file: string): Scenario {
  const text = readGiven(context, file);
  try {
    return parseScenario(text);
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The scenario of `--seed S` or of the one file named, and how to name it to the same command again. */
export function scenarioOf(
  context: Context,
  { options, words }: Arguments,
): { readonly scenario: Scenario; readonly name: string } {
  const seed = options.get("seed");
  const [file] = words;
  if (seed !== undefined && file === undefined) {
    return { scenario: generateScenario(givenSeed("seed", seed)), name: `--seed ${seed}` };
  }
  if (seed === undefined && file !== undefined && words.length === 1)
    return { scenario: readScenario(context, file), name: file };
  throw new UsageError("give --seed S or one scenario file");
}

// Failures

export function failuresFolder(context: Context, { options }: Arguments): string {
  const given = options.get("failures");
  return given === undefined ? join(tmpdir(), "tammar-sim") : pathFrom(context, given);
}

/** Saves a failing scenario under a name of its own. @returns Its path. */
export function saveScenario(folder: string, name: string, scenario: Scenario): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.json`);
  writeFileSync(file, showScenario(scenario));
  return file;
}

/** Of the first few: saves the whole scenario, then a small one that fails by the same oracle. */
export async function saveShrunk(seeds: readonly string[], folder: string): Promise<void> {
  for (const seed of seeds.slice(0, SHRUNK_MAX)) {
    const scenario = generateScenario(parseSeed(seed));
    console.log(`${saveScenario(folder, seed, scenario)}: the whole scenario of seed ${seed}`);
    const shrunk = await shrinkWithin(scenario, SHRINK_MS);
    if (shrunk === null) console.log(`seed ${seed} does not fail when it is run again`);
    else tellShrunk(shrunk, join(folder, `${seed}.small.json`));
  }
}

export function shrinkWithin(
  scenario: Scenario,
  limitMs: number,
  progress?: (text: string) => void,
): Promise<Shrunk | null> {
  const untilMs = performance.now() + limitMs;
  return shrinkScenario(scenario, {
    run: (candidate) => execute(candidate),
    expired: () => performance.now() > untilMs,
    ...(progress === undefined ? {} : { progress }),
  });
}

export function tellShrunk({ scenario, result, runs }: Shrunk, file: string): void {
  writeFileSync(file, showScenario(scenario));
  console.log(
    `${file}: ${scenario.faults.length} faults, ${scenario.workers} workers, ${scenario.senders.length} senders, ` +
      `found in ${runs} runs`,
  );
  console.log(showScenario(scenario).trimEnd());
  console.log(showViolation(result.violations[0]!, `scripts/sim replay ${shellWord(file)}`));
}

/** A path that can be typed into a shell as it is, or in quotes. */
export function shellWord(path: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** For a message: as short as it can be said from where the command runs. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") ? path : short;
}
