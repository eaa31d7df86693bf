/** `scripts/sim twin`: scenario files, or plans drawn from seeds, in both worlds: simulated and with real processes. */
import { generateScenario } from "../../../src/simulation/generate.ts";
import type { RunOptions } from "../../../src/simulation/run.ts";
import { type Fault, type Scenario, showSeed } from "../../../src/simulation/scenario.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import { type Context, firstSeed, readScenario, shellWord } from "../context.ts";
import { execute } from "../execute.ts";
import { showViolation } from "../report.ts";

export async function twin(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seeds", "first"], ["from-commit", "log"]);
  const count = given.options.has("seeds") ? countOption(given, "seeds", 1) : 0;
  const first = count > 0 ? firstSeed(given).seed : 0n;
  const seeds = Array.from({ length: count }, (_, i) => first + BigInt(i));
  const scenarios: [name: string, scenario: Scenario, powerLosses: number][] = [
    ...given.words.map((file): [string, Scenario, number] => [shellWord(file), readScenario(context, file), 0]),
    ...seeds.map((seed): [string, Scenario, number] => {
      const drawn = generateScenario(seed);
      const scenario = asReal(drawn);
      const changed = drawn.faults.filter((fault, i) => fault !== scenario.faults[i]).length;
      return [`--seeds 1 --first ${showSeed(seed)}`, scenario, changed];
    }),
  ];
  if (scenarios.length === 0) throw new UsageError("give --seeds, or scenario files such as those in test/sim/parity");
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
  for (const [file, scenario, powerLosses] of scenarios) {
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
    for (const violation of real.violations) console.log(showViolation(violation, `scripts/sim twin ${file}`));
    for (const difference of parity.differences) console.log(`DIFFERENT ${file}: ${difference}`);
    const same = parity.differences.length === 0 ? "the same in both worlds" : "DIFFERENT";
    console.log(`${file}: ${same}, output of ${parity.keysCompared} of ${parity.keys} keys compared (${seconds} s)`);
    if (powerLosses > 0) {
      console.log(`${file}: ${powerLosses} power losses were kills in both worlds: real machines cannot be cut off`);
    }
  }
  console.log(`${played} scenarios, ${violations} violations, ${differences} differences`);
  return violations === 0 && differences === 0 ? 0 : 1;
}

/** Drawn for virtual machines: here power is lost by killing, which loses less. */
function asReal(scenario: Scenario): Scenario {
  const faults = scenario.faults.map((fault): Fault => {
    switch (fault.do) {
      case "power_loss":
        return { at: fault.at, do: "kill", worker: fault.worker };
      case "power_loss_all":
        return { at: fault.at, do: "kill_all" };
      default:
        return fault;
    }
  });
  return { ...scenario, faults };
}
