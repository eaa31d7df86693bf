/** `scripts/sim twin`: scenario files in both worlds, simulated and with real processes. */
import type { RunOptions } from "../../../src/simulation/run.ts";
import { parseArguments, UsageError } from "../arguments.ts";
import { type Context, readScenario, shellWord } from "../context.ts";
import { execute } from "../execute.ts";
import { showViolation } from "../report.ts";

export async function twin(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, [], ["log"]);
  if (given.words.length === 0) throw new UsageError("give scenario files, such as those in test/sim/parity");
  if (!("Bun" in globalThis)) throw new UsageError("the real world is built with Bun: leave out --runtime deno");
  // Only here, since it needs Bun.
  const { compareWorlds } = await import("../twin/parity.ts");
  const { runTwin } = await import("../twin/run_twin.ts");
  const { whyNotReal } = await import("../twin/real_stage.ts");
  const onLog: RunOptions["onLog"] = ({ timeMs, worker, process, level, code, text }) => {
    if (given.options.has("log"))
      console.log(`${Math.round(timeMs)} ms ${worker}/${process} ${level} ${code}: ${text}`);
  };
  let violations = 0;
  let differences = 0;
  let played = 0;
  for (const file of given.words) {
    const scenario = readScenario(context, file);
    const why = whyNotReal(scenario);
    if (why !== null) {
      console.log(`not run here: ${file}: ${why}`);
      continue;
    }
    played++;
    const startedMs = performance.now();
    const simulated = await execute(scenario);
    const real = await runTwin(scenario, { onLog: onLog! });
    const parity = compareWorlds(scenario, simulated, real);
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    violations += real.violations.length;
    differences += parity.differences.length;
    for (const violation of real.violations)
      console.log(showViolation(violation, `scripts/sim twin ${shellWord(file)}`));
    for (const difference of parity.differences) console.log(`DIFFERENT ${file}: ${difference}`);
    const same = parity.differences.length === 0 ? "the same in both worlds" : "DIFFERENT";
    console.log(`${file}: ${same}, output of ${parity.keysCompared} of ${parity.keys} keys compared (${seconds} s)`);
  }
  console.log(`${played} scenarios, ${violations} violations, ${differences} differences`);
  return violations === 0 && differences === 0 ? 0 : 1;
}
