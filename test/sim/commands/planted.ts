/** `scripts/sim planted`: plants each bug in a copy of the project and says what saw it. */
import { showSeed } from "../../../src/simulation/scenario.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import { type Context, checkWritable, seedOfCommit, writeGiven } from "../context.ts";
import { junitOf } from "../junit.ts";
import { hunt, type Outcome, type PlantedBug, readBugs } from "../planted.ts";

/** As many as every run of the tests tries. */
const SEEDS = 1_000;

export async function planted(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["jobs", "seeds", "junit"], []);
  const bugs = chosen(readBugs(), given.words);
  const jobs = countOption(given, "jobs", 2);
  const { seed, origin } = seedOfCommit();
  const seeds = countOption(given, "seeds", SEEDS);
  const junit = given.options.get("junit");
  checkWritable(context, junit);
  console.log(
    `${bugs.length} planted bugs, each looked for in up to ${seeds} seeds from ${showSeed(seed)} (${origin})`,
  );
  const width = Math.max(...bugs.map(({ name }) => name.length));
  const outcomes = new Map<PlantedBug, Outcome>();
  const waiting = [...bugs];
  const lane = async (): Promise<void> => {
    for (let bug = waiting.shift(); bug !== undefined; bug = waiting.shift()) {
      const before = performance.now();
      const outcome = await hunt(bug, showSeed(seed), seeds);
      outcomes.set(bug, outcome);
      console.log(row(bug, outcome, width, (performance.now() - before) / 1000));
    }
  };
  await Promise.all(Array.from({ length: jobs }, lane));
  const missed = bugs.filter((bug) => outcomes.get(bug)!.kind !== "caught");
  if (junit !== undefined) {
    const figures = bugs.map((bug) => {
      const outcome = outcomes.get(bug)!;
      return { title: `planted bug ${bug.name} is caught`, ok: outcome.kind === "caught", message: outcome.text };
    });
    writeGiven(context, junit, junitOf("planted bugs", figures));
  }
  console.log(`${bugs.length} planted bugs, ${bugs.length - missed.length} caught, ${missed.length} not`);
  return missed.length === 0 ? 0 : 1;
}

function chosen(bugs: readonly PlantedBug[], names: readonly string[]): readonly PlantedBug[] {
  if (names.length === 0) return bugs;
  return names.map((name) => {
    const bug = bugs.find((one) => one.name === name);
    if (bug === undefined) {
      throw new UsageError(`${name} is no planted bug; there is ${bugs.map((one) => one.name).join(", ")}`);
    }
    return bug;
  });
}

function row({ name, breaks }: PlantedBug, outcome: Outcome, width: number, seconds: number): string {
  const took = `${seconds.toFixed(1)} s`;
  if (outcome.kind !== "caught") return `RED ${name.padEnd(width)}  ${outcome.text} (${took}). It breaks: ${breaks}`;
  const after = outcome.where === "" ? "" : ` after ${outcome.where}`;
  return `ok  ${name.padEnd(width)}  ${outcome.by}${after} (${took}): ${outcome.text.slice(0, 140)}`;
}
