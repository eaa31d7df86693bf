/** `scripts/sim crashpoints`: every named point with every kind of crash, or pairs of them. */
import { applicablePoints, CRASH_VARIANTS } from "../../../src/simulation/crash_cases.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import { HashOfHashes, share } from "../batch.ts";
import { type Context, failuresFolder, givenSeed, saveScenario, shellWord } from "../context.ts";
import { showFailure, showViolation, Totals } from "../report.ts";
import { crashPlan } from "../work.ts";

export async function crashPoints(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["pairs", "jobs", "seed", "failures"], ["list"]);
  if (given.words.length > 0) throw new UsageError(`crashpoints takes no "${given.words[0]}"`);
  const points = applicablePoints();
  if (given.options.has("list")) {
    for (const point of points) console.log(point);
    console.log(`${points.length} crash points`);
    return 0;
  }
  const seed = givenSeed("seed", given.options.get("seed") ?? "1");
  const pairs = given.options.has("pairs") ? countOption(given, "pairs", 1) : 0;
  const jobs = countOption(given, "jobs", 2);
  const result = await runCrashes(seed, pairs, jobs, failuresFolder(context, given));
  const { runs, violations, hash } = result;
  if (pairs > 0) {
    console.log(`${runs} pairs, ${violations} violations, trace ${hash}`);
    return violations === 0 ? 0 : 1;
  }
  for (const point of points) {
    const counts = CRASH_VARIANTS.map((variant) => result.took.get(`${point} ${variant}`) ?? 0);
    const times = CRASH_VARIANTS.map((variant, i) => `${variant} ${counts[i]}`).join(", ");
    console.log(`${counts.every((count) => count > 0) ? "reached" : "NEVER  "}  ${point.padEnd(34)} ${times}`);
  }
  console.log(
    `${points.length} points x ${CRASH_VARIANTS.length} variants, ${runs} runs, ${result.missing} never reached, ` +
      `${violations} violations, trace ${hash}`,
  );
  return violations === 0 && result.missing === 0 ? 0 : 1;
}

export interface CrashRun {
  readonly runs: number;
  readonly violations: number;
  /** How often each crash took place, as `point variant`. */
  readonly took: ReadonlyMap<string, number>;
  /** Of all points with all variants. */
  readonly missing: number;
  readonly totals: Totals;
  readonly hash: string;
}

/** @param pairs 0: each point with each variant. Says each failure, and saves its scenario in `folder`. */
export async function runCrashes(seed: bigint, pairs: number, jobs: number, folder: string): Promise<CrashRun> {
  const { cases, failed } = await crashPlan(seed, pairs);
  for (const violation of failed) console.log(showViolation(violation, "an undisturbed story"));
  const totals = new Totals(pairs > 0 ? "pairs" : "crashes", cases.length);
  const hash = new HashOfHashes();
  const took = new Map<string, number>();
  await share({ kind: "crash", seed, pairs }, cases.length, jobs, (report, index) => {
    const { point, variant, scenario } = cases[index]!;
    hash.add(report.traceHash);
    totals.add(report);
    if (report.took) took.set(`${point} ${variant}`, (took.get(`${point} ${variant}`) ?? 0) + 1);
    if (report.violations.length === 0) return;
    const file = saveScenario(folder, `${pairs > 0 ? "pair" : "crash"}-${index}`, scenario);
    console.log(showFailure(`crash="${scenario.name}"`, report, `scripts/sim replay ${shellWord(file)}`));
  });
  const cells = applicablePoints().flatMap((point) => CRASH_VARIANTS.map((variant) => `${point} ${variant}`));
  return {
    runs: cases.length,
    violations: failed.length + totals.violations,
    took,
    missing: cells.filter((cell) => !took.has(cell)).length,
    totals,
    hash: hash.hex,
  };
}
