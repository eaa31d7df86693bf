/** `scripts/sim nloop`: every call to disk and network during a start, a restart and a stop fails once. */
import { LOOPS } from "../../../src/simulation/n_loop.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import { HashOfHashes, share } from "../batch.ts";
import { type Context, failuresFolder, saveScenario, shellWord } from "../context.ts";
import { showFailure, showViolation, Totals } from "../report.ts";
import { loopPlan } from "../work.ts";

export async function nLoop(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["every", "jobs", "failures"], []);
  if (given.words.length > 0) throw new UsageError(`nloop takes no "${given.words[0]}"`);
  const folder = failuresFolder(context, given);
  const result = await runLoops(countOption(given, "every", 1), countOption(given, "jobs", 2), folder);
  for (const [loop, { runs, failed }] of result.perLoop) console.log(`${loop}: ${failed} calls failed, ${runs} runs`);
  const { runs, violations, hash } = result;
  console.log(`${runs} runs with a failing call, ${violations} violations, trace ${hash}`);
  return violations === 0 ? 0 : 1;
}

export interface LoopRun {
  readonly runs: number;
  readonly violations: number;
  readonly perLoop: ReadonlyMap<string, { runs: number; failed: number }>;
  readonly totals: Totals;
  readonly hash: string;
}

/** Says each failure, and saves its scenario. */
export async function runLoops(every: number, jobs: number, folder: string): Promise<LoopRun> {
  const { cases, failed } = await loopPlan(every);
  for (const violation of failed) console.log(showViolation(violation, "an undisturbed loop"));
  const totals = new Totals("failing calls", cases.length);
  const hash = new HashOfHashes();
  const name = ({ stage, call, worker, checkpoints }: (typeof LOOPS)[number]) =>
    `${stage} of ${worker}${checkpoints ? " with checkpoints" : ""}, ${call}`;
  const perLoop = new Map(LOOPS.map((loop) => [name(loop), { runs: 0, failed: 0 }]));
  await share({ kind: "nloop", every }, cases.length, jobs, (report, index) => {
    const loop = cases[index]!;
    hash.add(report.traceHash);
    totals.add(report);
    const counts = perLoop.get(name(loop))!;
    counts.runs++;
    if (report.took) counts.failed++;
    if (report.violations.length === 0) return;
    const file = saveScenario(folder, `nloop-${index}`, loop.scenario);
    console.log(showFailure(`nloop="${loop.scenario.name}"`, report, `scripts/sim replay ${shellWord(file)}`));
  });
  return { runs: cases.length, violations: failed.length + totals.violations, perLoop, totals, hash: hash.hex };
}
