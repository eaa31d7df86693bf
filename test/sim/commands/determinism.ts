/** `scripts/sim determinism`: the same seeds twice on each runtime. */
import { showSeed } from "../../../src/simulation/scenario.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import { HashOfHashes, share } from "../batch.ts";
import { type Context, firstSeed } from "../context.ts";

const RUNS_TWICE = 2;

export async function determinism(_context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seeds", "first", "jobs"], ["from-commit"]);
  if (given.words.length > 0) throw new UsageError(`determinism takes no "${given.words[0]}"`);
  const count = countOption(given, "seeds", 50);
  const { differences, hash } = await runTwice(firstSeed(given).seed, count, countOption(given, "jobs", 2));
  console.log(`${count} seeds twice on Bun and on Deno, ${differences} differences, trace ${hash}`);
  return differences === 0 ? 0 : 1;
}

/** Says each difference. */
export async function runTwice(
  first: bigint,
  count: number,
  jobs: number,
): Promise<{ readonly differences: number; readonly hash: string }> {
  const seen = Array.from({ length: count }, () => new Map<string, string>());
  for (const runtime of ["bun", "deno"] as const) {
    for (let time = 1; time <= RUNS_TWICE; time++) {
      await share(
        { kind: "seeds", first, count },
        count,
        jobs,
        ({ traceHash, steps, virtualMs }, index) => {
          seen[index]!.set(`${runtime} ${time}`, `${traceHash} after ${steps} steps and ${virtualMs} ms`);
        },
        runtime,
      );
    }
  }
  const hash = new HashOfHashes();
  let differences = 0;
  for (const [i, runs] of seen.entries()) {
    const values = [...runs.values()];
    hash.add(values[0]!.slice(0, 16));
    if (values.every((value) => value === values[0])) continue;
    differences++;
    const seed = showSeed(BigInt.asUintN(64, first + BigInt(i)));
    const all = [...runs].map(([where, value]) => `${where}: ${value}`).join("; ");
    console.log(`FAIL seed=${seed} oracle=O-DET ${all} | replay: scripts/sim determinism --seeds 1 --first ${seed}`);
  }
  return { differences, hash: hash.hex };
}
