/** The driver behind scripts/sim. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { TammarError } from "../../src/base/errors.ts";
import {
  applicablePoints,
  CRASH_VARIANTS,
  type CrashCase,
  crashCases,
  crashPairs,
  crashStories,
  type Passage,
  passages,
} from "../../src/simulation/crash_cases.ts";
import { generateScenario } from "../../src/simulation/generate.ts";
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import { parseScenario, parseSeed, type Scenario, showScenario, showSeed } from "../../src/simulation/scenario.ts";
import { type Shrunk, shrinkScenario } from "../../src/simulation/shrink.ts";
import { drawSvg, drawText, layOut } from "../../src/simulation/timeline.ts";
import { type TraceEvent, Tracer } from "../../src/simulation/trace.ts";
import { type Arguments, countOption, parseArguments, UsageError } from "./arguments.ts";
import { doShare, HashOfHashes, runSeed, type SeedReport, seedsFrom, share } from "./batch.ts";
import { execute } from "./execute.ts";
import { Progress, showFailure, showViolation } from "./report.ts";

/** Failing seeds that are made small by themselves; a mistake that hits everything needs no more. */
const SHRUNK_MAX = 3;
const SHRINK_MS = 120_000;
/** Of the same seeds on each runtime. */
const RUNS_TWICE = 2;

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
    case "shrink":
      return shrink(rest);
    case "crashpoints":
      return crashPoints(rest);
    case "determinism":
      return determinism(rest);
    case "show":
      return show(rest);
    default:
      throw new UsageError(`"${command ?? ""}" is no command; scripts/sim --help lists them`);
  }
}

/** `--child seeds FIRST COUNT JOB JOBS`, `--child crash SEED PAIRS JOB JOBS`. */
async function runChild([kind, seed, count, job, jobs]: readonly string[]): Promise<number> {
  if (kind === "seeds") {
    await doShare(seedsFrom(parseSeed(seed!), Number(count)), Number(job), Number(jobs), runSeed);
    return 0;
  }
  const { cases } = await crashPlan(parseSeed(seed!), Number(count));
  await doShare(cases, Number(job), Number(jobs), runCase);
  return 0;
}

// run

async function run(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seeds", "first", "jobs", "failures"], ["from-commit", "no-shrink"]);
  if (given.words.length > 0) return runFiles(given.words);
  const count = countOption(given, "seeds", 100);
  const first = firstSeed(given);
  const jobs = countOption(given, "jobs", count < 20 ? 1 : 2);
  const progress = new Progress(count);
  const hash = new HashOfHashes();
  const failed: string[] = [];
  let violations = 0;
  console.log(`seeds ${showSeed(first)} to ${showSeed(first + BigInt(count - 1))}, ${jobs} processes`);
  await share<SeedReport>(["--child", "seeds", showSeed(first), String(count)], count, jobs, (report) => {
    hash.add(report.traceHash);
    violations += report.violations.length;
    if (report.violations.length > 0) failed.push(report.seed);
    for (const line of showFailure(report)) console.log(line);
    progress.add(report);
  });
  progress.end();
  if (!given.options.has("no-shrink")) {
    for (const seed of failed.slice(0, SHRUNK_MAX)) await saveShrunk(seed, failuresFolder(given));
  }
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

function failuresFolder({ options }: Arguments): string {
  const given = options.get("failures");
  return given === undefined ? join(tmpdir(), "tammar-sim") : resolve(calledFrom, given);
}

/** Saves the whole scenario of a failing seed, then a small one that fails by the same oracle. */
async function saveShrunk(seed: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const scenario = generateScenario(parseSeed(seed));
  const whole = join(folder, `${seed}.json`);
  writeFileSync(whole, showScenario(scenario));
  console.log(`${whole}: the whole scenario of seed ${seed}`);
  const shrunk = await shrinkWithin(scenario, SHRINK_MS);
  if (shrunk === null) return console.log(`seed ${seed} does not fail when it is run again`);
  tellShrunk(shrunk, join(folder, `${seed}.small.json`));
}

function shrinkWithin(scenario: Scenario, limitMs: number, progress?: (text: string) => void): Promise<Shrunk | null> {
  const untilMs = performance.now() + limitMs;
  return shrinkScenario(scenario, {
    run: (candidate) => execute(candidate),
    expired: () => performance.now() > untilMs,
    ...(progress === undefined ? {} : { progress }),
  });
}

function tellShrunk({ scenario, result, runs }: Shrunk, file: string): void {
  writeFileSync(file, showScenario(scenario));
  console.log(
    `${file}: ${scenario.faults.length} faults, ${scenario.workers} workers, ${scenario.senders.length} senders, ` +
      `found in ${runs} runs`,
  );
  console.log(showScenario(scenario).trimEnd());
  console.log(showViolation(result.violations[0]!, `scripts/sim replay ${file}`));
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
function scenarioOf({ options, words }: Arguments): { readonly scenario: Scenario; readonly name: string } {
  const seed = options.get("seed");
  const [file] = words;
  if (seed !== undefined && file === undefined) {
    return { scenario: generateScenario(parseSeed(seed)), name: `--seed ${seed}` };
  }
  if (seed === undefined && file !== undefined && words.length === 1)
    return { scenario: readScenario(file), name: file };
  throw new UsageError("give --seed S or one scenario file");
}

// replay, shrink, show

async function replay(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seed", "until", "trace"], ["log"]);
  const { scenario, name } = scenarioOf(given);
  const { options } = given;
  const trace = options.get("trace");
  const events: TraceEvent[] = [];
  const result = await execute(scenario, {
    ...(options.has("until") ? { untilStep: countOption(given, "until", 1) } : {}),
    ...(trace === undefined ? {} : { tracer: new Tracer((event) => void events.push(event)) }),
    onLog: ({ timeMs, worker, process: number, code, text }) => {
      if (options.has("log")) console.log(`${showMs(timeMs)} ${worker}/${number} ${code}: ${text}`);
    },
  });
  for (const { timeMs, kind, effect } of result.observation.faults) {
    console.log(`${showMs(timeMs)} ${kind} ${effect === "" ? "(no effect)" : effect}`);
  }
  if (trace !== undefined) {
    writeFileSync(resolve(calledFrom, trace), events.map((event) => `${JSON.stringify(event)}\n`).join(""));
    console.log(`${events.length} events in ${trace}; scripts/sim show ${trace} draws them`);
  }
  for (const violation of result.violations) console.log(showViolation(violation, `scripts/sim replay ${name}`));
  console.log(`${result.steps} steps, ${(result.virtualMs / 1000).toFixed(3)} virtual s, trace ${result.traceHash}`);
  return result.violations.length === 0 ? 0 : 1;
}

function showMs(timeMs: number): string {
  return timeMs.toFixed(3).padStart(12);
}

async function shrink(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seed", "out"], []);
  const { scenario, name } = scenarioOf(given);
  const shrunk = await shrinkWithin(scenario, SHRINK_MS, (text) => console.log(text));
  if (shrunk === null) {
    console.log(`${name} does not fail`);
    return 1;
  }
  const seed = given.options.get("seed");
  const out = given.options.get("out") ?? `${seed ?? given.words[0]!.replace(/\.json$/, "")}.small.json`;
  tellShrunk(shrunk, resolve(calledFrom, out));
  return 0;
}

function show(args: readonly string[]): number {
  const given = parseArguments(args, ["around", "rows", "svg"], []);
  const [file] = given.words;
  if (file === undefined || given.words.length > 1)
    throw new UsageError("give one trace file, as replay --trace writes it");
  const lines = readFileSync(resolve(calledFrom, file), "utf8").split("\n");
  const events = lines.filter((line) => line !== "").map((line) => JSON.parse(line) as TraceEvent);
  const around = given.options.get("around");
  if (around !== undefined && !/^[0-9]+(\.[0-9]+)?$/.test(around)) {
    throw new UsageError(`--around is ${around}: it is a virtual time in milliseconds`);
  }
  const timeline = layOut(events, {
    rows: countOption(given, "rows", 120),
    ...(around === undefined ? {} : { aroundMs: Number(around) }),
  });
  process.stdout.write(drawText(timeline));
  const svg = given.options.get("svg");
  if (svg !== undefined) writeFileSync(resolve(calledFrom, svg), drawSvg(timeline));
  return 0;
}

// crashpoints

interface CaseReport {
  readonly name: string;
  readonly point: string;
  readonly variant: string;
  /** The worker got there, and what was to happen happened. */
  readonly injected: boolean;
  readonly traceHash: string;
  readonly violations: readonly Violation[];
}

/** The undisturbed stories are run to learn what they pass, so each process knows the same cases. */
async function crashPlan(
  seed: bigint,
  pairs: number,
): Promise<{ all: Passage[]; cases: CrashCase[]; failed: Violation[] }> {
  const all: Passage[] = [];
  const failed: Violation[] = [];
  for (const story of crashStories(showSeed(seed))) {
    const result = await execute(story);
    failed.push(...result.violations);
    all.push(...passages(result));
  }
  const cases = pairs > 0 ? crashPairs(all, pairs, seed) : crashCases(all);
  return { all, cases, failed };
}

async function runCase({ point, variant, scenario }: CrashCase): Promise<CaseReport> {
  const { observation, traceHash, violations } = await execute(scenario);
  const injected = observation.faults.some(({ index, effect }) => {
    const { at } = scenario.faults[index]!;
    return "point" in at && at.point === point && (effect !== "" || variant === "connections_cut");
  });
  return { name: scenario.name, point, variant, injected, traceHash, violations };
}

async function crashPoints(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["pairs", "jobs", "seed", "failures"], ["list"]);
  const points = applicablePoints();
  if (given.options.has("list")) {
    for (const point of points) console.log(point);
    console.log(`${points.length} crash points`);
    return 0;
  }
  const seed = parseSeed(given.options.get("seed") ?? "1");
  const pairs = given.options.has("pairs") ? countOption(given, "pairs", 1) : 0;
  const { cases, failed } = await crashPlan(seed, pairs);
  for (const violation of failed) console.log(showViolation(violation, "an undisturbed story"));
  let violations = failed.length;
  const hash = new HashOfHashes();
  const injected = new Map<string, number>();
  const folder = failuresFolder(given);
  let next = 0;
  const childArgs = ["--child", "crash", showSeed(seed), String(pairs)];
  await share<CaseReport>(childArgs, cases.length, countOption(given, "jobs", 2), (report) => {
    const { scenario } = cases[next++]!;
    hash.add(report.traceHash);
    const cell = `${report.point} ${report.variant}`;
    if (report.injected) injected.set(cell, (injected.get(cell) ?? 0) + 1);
    if (report.violations.length === 0) return;
    violations += report.violations.length;
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `crash-${next}.json`);
    writeFileSync(file, showScenario(scenario));
    console.log(`${report.name}`);
    console.log(showViolation(report.violations[0]!, `scripts/sim replay ${file}`));
  });
  if (pairs > 0) {
    console.log(`${pairs} pairs, ${violations} violations, trace ${hash.hex}`);
    return violations === 0 ? 0 : 1;
  }
  let missing = 0;
  for (const point of points) {
    const never = CRASH_VARIANTS.filter((variant) => !injected.has(`${point} ${variant}`));
    missing += never.length;
    const times = CRASH_VARIANTS.map((variant) => `${variant} ${injected.get(`${point} ${variant}`) ?? 0}`).join(", ");
    console.log(`${never.length === 0 ? "reached" : "NEVER  "}  ${point.padEnd(34)} ${times}`);
  }
  console.log(
    `${points.length} points x ${CRASH_VARIANTS.length} variants, ${cases.length} runs, ${missing} never reached, ` +
      `${violations} violations, trace ${hash.hex}`,
  );
  return violations === 0 && missing === 0 ? 0 : 1;
}

// determinism

/** The same seeds twice on each runtime. */
async function determinism(args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seeds", "first"], []);
  const count = countOption(given, "seeds", 50);
  const first = firstSeed(given);
  const childArgs = ["--child", "seeds", showSeed(first), String(count)];
  const seen = seedsFrom(first, count).map(() => new Map<string, string>());
  for (const runtime of ["bun", "deno"] as const) {
    for (let time = 1; time <= RUNS_TWICE; time++) {
      let next = 0;
      const add = ({ traceHash, steps, virtualMs }: SeedReport): void => {
        seen[next++]!.set(`${runtime} ${time}`, `${traceHash} after ${steps} steps and ${virtualMs} ms`);
      };
      await share<SeedReport>(childArgs, count, 1, add, runtime);
    }
  }
  const hash = new HashOfHashes();
  let differences = 0;
  for (const [i, runs] of seen.entries()) {
    const values = [...runs.values()];
    hash.add(values[0]!.slice(0, 16));
    if (values.every((value) => value === values[0])) continue;
    differences++;
    const all = [...runs].map(([where, value]) => `${where}: ${value}`).join("; ");
    console.log(`FAIL seed=${showSeed(first + BigInt(i))} oracle=O-DET ${all}`);
  }
  console.log(`${count} seeds twice on Bun and on Deno, ${differences} differences, trace ${hash.hex}`);
  return differences === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError || error instanceof TammarError;
  console.error(`scripts/sim: ${isUsage ? error.message : error instanceof Error ? error.stack : String(error)}`);
  process.exitCode = isUsage ? 2 : 1;
}
