/**
 * `scripts/sim slice`: what every run of the tests does with the simulator, and the figures that come out. A figure below its
 * goal is a failed test.
 *
 *   scripts/sim slice [--quick] [--seeds N] [--pairs N] [--jobs N] [--junit FILE]
 *
 * Quick is a short slice of fresh seeds and the regressions, and nothing that is judged over many runs.
 */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { applicablePoints, CRASH_VARIANTS } from "../../../src/simulation/crash_cases.ts";
import { checkReached, REACHED_MIN } from "../../../src/simulation/oracles/o_reach.ts";
import { applicableStates } from "../../../src/simulation/rare_states.ts";
import { parseScenario } from "../../../src/simulation/scenario.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import {
  type Context,
  checkWritable,
  failuresFolder,
  saveShrunk,
  seedOfCommit,
  shortPath,
  writeGiven,
} from "../context.ts";
import { execute } from "../execute.ts";
import { type Case, junitOf } from "../junit.ts";
import { addUp, showViolation, type Totals } from "../report.ts";
import { runCrashes } from "./crash_points.ts";
import { runTwice } from "./determinism.ts";
import { runDirected } from "./directed.ts";
import { runLoops } from "./n_loop.ts";
import { runSeeds } from "./run.ts";

const FULL = { seeds: 1_000, pairs: 250 };
const QUICK = { seeds: 50, pairs: 0 };
const SEEDS_TWICE = 50;
const REGRESSIONS = fileURLToPath(new URL("../regressions/", import.meta.url));
/** What comes behind this line is for the end of everything. */
const FIGURES = "the simulator's figures:";

/** One figure, and whether it is as it must be. */
interface Figure {
  readonly title: string;
  readonly is: string;
  readonly goal: string;
  readonly ok: boolean;
}

interface Plan {
  readonly quick: boolean;
  readonly seeds: number;
  readonly pairs: number;
  readonly jobs: number;
  readonly failures: string;
}

export async function slice(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seeds", "pairs", "jobs", "junit", "failures"], ["quick"]);
  if (given.words.length > 0) throw new UsageError(`slice takes no "${given.words[0]}"`);
  const quick = given.options.has("quick");
  const usual = quick ? QUICK : FULL;
  const plan: Plan = {
    quick,
    seeds: countOption(given, "seeds", usual.seeds),
    pairs: countOption(given, "pairs", usual.pairs),
    jobs: countOption(given, "jobs", 2),
    failures: failuresFolder(context, given),
  };
  const junit = given.options.get("junit");
  checkWritable(context, junit);
  const { figures, hash } = await new Slice(plan).run();
  if (junit !== undefined) writeGiven(context, junit, junitOf("simulator", figures.map(caseOf)));
  console.log(FIGURES);
  const width = Math.max(...figures.map(({ title }) => title.length));
  for (const { title, is, goal, ok } of figures) {
    console.log(`  ${ok ? "ok " : "RED"} ${title.padEnd(width)}  ${is}${goal === "" ? "" : ` (goal ${goal})`}`);
  }
  const red = figures.filter(({ ok }) => !ok).length;
  console.log(`${plan.seeds} seeds, ${figures.length - red} figures as they must be, ${red} not, trace ${hash}`);
  return red === 0 ? 0 : 1;
}

class Slice {
  readonly #plan: Plan;
  readonly #figures: Figure[] = [];
  readonly #reached = new Map<string, number>();
  #virtualMs = 0;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  async run(): Promise<{ figures: readonly Figure[]; hash: string }> {
    const { quick } = this.#plan;
    const { seed, origin } = seedOfCommit();
    let hash = "";
    await this.#part("fresh seeds", async () => {
      hash = await this.#seeds(seed, origin);
    });
    await this.#part("regressions", () => this.#regressions());
    if (quick) return { figures: this.#figures, hash };
    await this.#part("crash points", () => this.#crashes(seed));
    await this.#part("failing calls", () => this.#loops());
    await this.#part("directed scenarios", () => this.#directed());
    await this.#part("rare states", () => this.#rareStates());
    await this.#part("determinism", () => this.#determinism(seed));
    return { figures: this.#figures, hash };
  }

  /** A part that breaks is a figure too, and the others go on. */
  async #part(title: string, run: () => Promise<void>): Promise<void> {
    const before = performance.now();
    console.log(`== ${title}`);
    try {
      await run();
    } catch (error) {
      console.log(error instanceof Error ? error.stack : String(error));
      this.#figure(title, error instanceof Error ? error.message.split("\n")[0]! : String(error), "to run", false);
    }
    console.log(`== ${title}: ${((performance.now() - before) / 1000).toFixed(1)} s`);
  }

  #figure(title: string, is: string, goal: string, ok: boolean): void {
    this.#figures.push({ title, is, goal, ok });
  }

  async #seeds(seed: bigint, origin: string): Promise<string> {
    const { seeds, jobs, quick, failures } = this.#plan;
    const { totals, failed, hash } = await runSeeds(seed, seeds, jobs, origin);
    totals.tell();
    this.#count(totals);
    await saveShrunk(failed, failures);
    const minutes = totals.cpuMinutes / 2;
    this.#figure(`violations of ${seeds} fresh seeds`, `${totals.violations}`, "0", totals.violations === 0);
    if (quick) return hash;
    const { ratio, faultsMedian, kindsMedian, crashedPercent } = totals;
    // How fast a machine is and how busy is told, and never a reason to fail: 8 minutes and 60x are what is aimed at.
    this.#figure("time for them", `${minutes.toFixed(1)} min of two cores`, "", true);
    this.#figure("virtual to real time, per core", `${Math.round(ratio)}x`, "", true);
    this.#figure("faults a run, median", `${faultsMedian}`, ">= 8", faultsMedian >= 8);
    this.#figure("kinds of faults a run, median", `${kindsMedian}`, ">= 3", kindsMedian >= 3);
    this.#figure("runs with a crash", `${Math.round(crashedPercent)} %`, ">= 70 %", crashedPercent >= 70);
    return hash;
  }

  async #regressions(): Promise<void> {
    const files = readdirSync(REGRESSIONS).filter((name) => name.endsWith(".json"));
    let violations = 0;
    for (const file of files.sort()) {
      const path = `${REGRESSIONS}${file}`;
      const result = await execute(parseScenario(readFileSync(path, "utf8")));
      violations += result.violations.length;
      const replay = `scripts/sim replay ${shortPath(path)}`;
      for (const violation of result.violations) console.log(showViolation(violation, replay));
    }
    this.#figure(`violations of ${files.length} regressions`, `${violations}`, "0", violations === 0);
  }

  async #crashes(seed: bigint): Promise<void> {
    const { jobs, failures, pairs } = this.#plan;
    const single = await runCrashes(seed, 0, jobs, failures);
    const cells = applicablePoints().length * CRASH_VARIANTS.length;
    const percent = (100 * (cells - single.missing)) / cells;
    const what = `${applicablePoints().length} crash points x ${CRASH_VARIANTS.length} variants`;
    this.#figure(what, `${percent.toFixed(percent === 100 ? 0 : 1)} %`, "100 %", single.missing === 0);
    this.#figure("crash points", `${applicablePoints().length}`, ">= 40", applicablePoints().length >= 40);
    this.#figure(`violations of ${single.runs} crashes`, `${single.violations}`, "0", single.violations === 0);
    const two = await runCrashes(seed, pairs, jobs, failures);
    this.#count(single.totals);
    this.#count(two.totals);
    this.#figure(`violations of ${two.runs} pairs of crashes`, `${two.violations}`, "0", two.violations === 0);
  }

  async #loops(): Promise<void> {
    const { jobs, failures } = this.#plan;
    const { totals, runs, violations, perLoop } = await runLoops(1, jobs, failures);
    this.#count(totals);
    this.#figure(`violations of ${runs} failing calls`, `${violations}`, "0", violations === 0);
    // Each has calls, and each of them failed; only the one beyond the last did not.
    const counts = [...perLoop.values()];
    const complete = counts.filter((loop) => loop.failed > 5 && loop.failed >= loop.runs - 1).length;
    const is = `${complete} of ${perLoop.size}, ${counts.reduce((sum, loop) => sum + loop.failed, 0)} calls`;
    this.#figure("starts, restarts and stops with each call failing once", is, "all", complete === perLoop.size);
  }

  async #directed(): Promise<void> {
    const { jobs, failures } = this.#plan;
    const { totals, runs } = await runDirected(jobs, failures);
    this.#count(totals);
    this.#figure(`violations of ${runs} directed runs`, `${totals.violations}`, "0", totals.violations === 0);
  }

  /** Over everything that was run before. */
  async #rareStates(): Promise<void> {
    const states = applicableStates();
    for (const state of states) console.log(`${String(this.#reached.get(`rare.${state}`) ?? 0).padStart(9)}  ${state}`);
    const missed = checkReached(this.#reached, this.#virtualMs);
    for (const { oracle, text } of missed) console.log(`FAIL oracle=${oracle} ${text}`);
    const counts = states.map((state) => `${state} ${this.#reached.get(`rare.${state}`) ?? 0}`).join(", ");
    const is = `${states.length - missed.length} of ${states.length}: ${counts}`;
    this.#figure("rare states reached", is, `each >= ${REACHED_MIN} times`, missed.length === 0);
  }

  #count(totals: Totals): void {
    addUp(this.#reached, totals.reached);
    this.#virtualMs += totals.virtualHours * 3_600_000;
  }

  async #determinism(seed: bigint): Promise<void> {
    const { differences } = await runTwice(seed, SEEDS_TWICE, this.#plan.jobs);
    const what = `differences of ${SEEDS_TWICE} seeds run twice on Bun and on Deno`;
    this.#figure(what, `${differences}`, "0", differences === 0);
  }
}

function caseOf({ title, is, goal, ok }: Figure): Case {
  return { title, ok, message: `${is}, goal ${goal}` };
}
