/** The driver behind scripts/sim. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { TammarError } from "../../src/base/errors.ts";
import { generateScenario } from "../../src/simulation/generate.ts";
import type { RunResult } from "../../src/simulation/run.ts";
import { parseScenario, parseSeed, type Scenario, showSeed } from "../../src/simulation/scenario.ts";
import { type Arguments, countOption, parseArguments, UsageError } from "./arguments.ts";
import { HashOfHashes, runSeeds, type SeedReport, sayEvery, seedsFrom } from "./batch.ts";
import { execute } from "./execute.ts";
import { Progress, showFailure, showViolation } from "./report.ts";

let calledFrom = process.cwd();

async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case "--called-from":
      calledFrom = rest[0]!;
      return main(rest.slice(1));
    case "--child":
      return runChild(rest);
    case "run":
      return run(rest);
    case "replay":
      return replay(rest);
    default:
      throw new UsageError(`"${command ?? ""}" is no command; scripts/sim --help lists them`);
  }
}

async function runChild([first, count, job, jobs]: readonly string[]): Promise<number> {
  const seeds = seedsFrom(parseSeed(first!), Number(count)).filter((_, i) => i % Number(jobs) === Number(job));
  await sayEvery(seeds);
  return 0;
}

async function run(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seeds", "first", "jobs"], ["from-commit"]);
  if (given.words.length > 0) return runFiles(given.words);
  const count = countOption(given, "seeds", 100);
  const first = firstSeed(given);
  const jobs = countOption(given, "jobs", count < 20 ? 1 : 2);
  const progress = new Progress(count);
  const hash = new HashOfHashes();
  let violations = 0;
  console.log(`seeds ${showSeed(first)} to ${showSeed(first + BigInt(count - 1))}, ${jobs} processes`);
  await runSeeds(first, count, jobs, (report: SeedReport) => {
    hash.add(report.traceHash);
    violations += report.violations.length;
    for (const line of showFailure(report)) console.log(line);
    progress.add(report);
  });
  progress.end();
  console.log(`${count} seeds, ${violations} violations, trace ${hash.hex}`);
  return violations === 0 ? 0 : 1;
}

function firstSeed({ options }: Arguments): bigint {
  const first = options.get("first");
  if (first !== undefined) return parseSeed(first);
  if (!options.has("from-commit")) return 1n;
  // The commit's, so that each commit explores seeds of its own and everybody explores the same ones for it.
  const hash = execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim();
  return BigInt(`0x${hash.slice(0, 12)}`) << 12n;
}

async function runFiles(files: readonly string[]): Promise<number> {
  const hash = new HashOfHashes();
  let violations = 0;
  for (const file of files) {
    const result = await execute(readScenario(file));
    hash.add(result.traceHash);
    violations += result.violations.length;
    console.log(`${result.violations.length === 0 ? "ok    " : "failed"}  ${file}: ${result.scenario.name}`);
    for (const violation of result.violations) console.log(showViolation(violation, `scripts/sim replay ${file}`));
  }
  console.log(`${files.length} scenarios, ${violations} violations, trace ${hash.hex}`);
  return violations === 0 ? 0 : 1;
}

function readScenario(file: string): Scenario {
  return parseScenario(readFileSync(resolve(calledFrom, file), "utf8"));
}

/** The scenario of `--seed S` or of the one file named. */
function scenarioOf(given: Arguments): { readonly scenario: Scenario; readonly name: string } {
  const seed = given.options.get("seed");
  if (seed !== undefined && given.words.length === 0) {
    return { scenario: generateScenario(parseSeed(seed)), name: `--seed ${seed}` };
  }
  if (seed === undefined && given.words.length === 1)
    return { scenario: readScenario(given.words[0]!), name: given.words[0]! };
  throw new UsageError("give --seed S or one scenario file");
}

async function replay(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seed", "until", "trace"], ["log"]);
  const { scenario, name } = scenarioOf(given);
  const until = given.options.get("until");
  const show = given.options.has("log");
  const result: RunResult = await execute(scenario, {
    ...(until === undefined ? {} : { untilStep: countOption(given, "until", 1) }),
    ...(show
      ? {
          onLog: ({ timeMs, worker, process: number, code, text }) =>
            console.log(`${timeMs.toFixed(3).padStart(12)} ${worker}/${number} ${code}: ${text}`),
        }
      : {}),
  });
  for (const violation of result.violations) console.log(showViolation(violation, `scripts/sim replay ${name}`));
  for (const { timeMs, kind, effect } of result.observation.faults) {
    console.log(`${timeMs.toFixed(3).padStart(12)} ${kind} ${effect === "" ? "(no effect)" : effect}`);
  }
  console.log(`${result.steps} steps, ${(result.virtualMs / 1000).toFixed(3)} virtual s, trace ${result.traceHash}`);
  return result.violations.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError || error instanceof TammarError;
  console.error(`scripts/sim: ${isUsage ? error.message : error instanceof Error ? error.stack : String(error)}`);
  process.exitCode = isUsage ? 2 : 1;
}
