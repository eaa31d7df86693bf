/** `scripts/sim run`: seeds, or scenario files. */
import { showSeed } from "../../../src/simulation/scenario.ts";
import { type Arguments, countOption, parseArguments, UsageError } from "../arguments.ts";
import { HashOfHashes, share } from "../batch.ts";
import { type Context, failuresFolder, firstSeed, readScenario, saveShrunk, shellWord } from "../context.ts";
import { execute } from "../execute.ts";
import { showFailure, showViolation, Totals } from "../report.ts";

const OPTIONS = ["seeds", "first", "jobs", "failures"];
const FLAGS = ["from-commit", "no-shrink"];

export async function run(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, OPTIONS, FLAGS);
  if (given.words.length > 0) return runFiles(context, given);
  const count = countOption(given, "seeds", 100);
  const { seed, origin } = firstSeed(given);
  const jobs = countOption(given, "jobs", count < 20 ? 1 : 2);
  const { totals, failed, hash } = await runSeeds(seed, count, jobs, origin);
  totals.tell();
  if (!given.options.has("no-shrink")) await saveShrunk(failed, failuresFolder(context, given));
  console.log(`${count} seeds, ${totals.violations} violations, trace ${hash}`);
  return totals.violations === 0 ? 0 : 1;
}

export interface SeedsRun {
  readonly totals: Totals;
  /** Seeds. */
  readonly failed: readonly string[];
  readonly hash: string;
}

/** Says each failure, and now and then how far it is. */
export async function runSeeds(first: bigint, count: number, jobs: number, origin: string): Promise<SeedsRun> {
  const totals = new Totals("seeds", count);
  const hash = new HashOfHashes();
  const failed: string[] = [];
  console.log(
    `seeds ${showSeed(first)} to ${showSeed(BigInt.asUintN(64, first + BigInt(count - 1)))} (${origin}), ` +
      `${jobs} ${jobs === 1 ? "process" : "processes"}`,
  );
  await share({ kind: "seeds", first, count }, count, jobs, (report, index) => {
    hash.add(report.traceHash);
    if (report.violations.length > 0) {
      const seed = showSeed(BigInt.asUintN(64, first + BigInt(index)));
      failed.push(seed);
      console.log(showFailure(`seed=${seed}`, report, `scripts/sim replay --seed ${seed}`));
    }
    totals.add(report);
  });
  return { totals, failed, hash: hash.hex };
}

async function runFiles(context: Context, { words: files, options }: Arguments): Promise<number> {
  const [unused] = options.keys();
  if (unused !== undefined) throw new UsageError(`--${unused} is about seeds, and scenario files were given`);
  const hash = new HashOfHashes();
  let violations = 0;
  // All of them first: a mistake in the last one is better told before the first has run.
  const scenarios = files.map((file) => ({ file, scenario: readScenario(context, file) }));
  for (const { file, scenario } of scenarios) {
    const result = await execute(scenario);
    hash.add(result.traceHash);
    violations += result.violations.length;
    console.log(`${result.violations.length === 0 ? "ok    " : "failed"}  ${file}: ${result.scenario.name}`);
    const [first, ...others] = result.violations;
    if (first === undefined) continue;
    console.log(showViolation(first, `scripts/sim replay ${shellWord(file)}`, others.length));
  }
  console.log(`${files.length} scenarios, ${violations} violations, trace ${hash.hex}`);
  return violations === 0 ? 0 : 1;
}
