/** `scripts/sim directed`: the scenarios that lead to one rare state each. */
import {
  applicableStates,
  describeRareState,
  RARE_STATES,
  type RareState,
} from "../../../src/simulation/rare_states.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import { HashOfHashes, share } from "../batch.ts";
import { type Context, failuresFolder, saveScenario, shellWord } from "../context.ts";
import { DIRECTED, directedRuns } from "../directed.ts";
import { showFailure, Totals } from "../report.ts";

export async function directed(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["jobs", "failures"], ["list"]);
  const states = given.words;
  const unknown = states.find((word) => !DIRECTED.some(({ state }) => state === word));
  if (unknown !== undefined)
    throw new UsageError(`no scenario leads to "${unknown}"; --list says what states there are`);
  if (given.options.has("list")) {
    const width = Math.max(...RARE_STATES.map((state) => state.length));
    for (const state of RARE_STATES) {
      const { applies, what } = describeRareState(state);
      console.log(`${state.padEnd(width)}  ${applies === "now" ? "" : `(${applies}) `}${what}`);
    }
    console.log(`${applicableStates().length} rare states apply now, of ${RARE_STATES.length}`);
    return 0;
  }
  const { totals, perState, runs, hash } = await runDirected(
    countOption(given, "jobs", 2),
    failuresFolder(context, given),
    states,
  );
  for (const [state, times] of perState) console.log(`${String(times).padStart(7)}  ${state}`);
  console.log(`${runs} directed runs, ${totals.violations} violations, trace ${hash}`);
  return totals.violations === 0 ? 0 : 1;
}

export interface DirectedRun {
  readonly totals: Totals;
  readonly runs: number;
  /** How often each was reached by its own scenarios. */
  readonly perState: ReadonlyMap<RareState, number>;
  readonly hash: string;
}

/** Says each failure, and saves its scenario. */
export async function runDirected(jobs: number, folder: string, states: readonly string[] = []): Promise<DirectedRun> {
  const all = directedRuns(states);
  const totals = new Totals("directed runs", all.length);
  const hash = new HashOfHashes();
  const perState = new Map<RareState, number>(all.map(({ state }) => [state, 0]));
  await share({ kind: "directed", states }, all.length, jobs, (report, index) => {
    const { state, scenario } = all[index]!;
    hash.add(report.traceHash);
    totals.add(report);
    perState.set(state, perState.get(state)! + (report.reached[`rare.${state}`] ?? 0));
    if (report.violations.length === 0) return;
    const file = saveScenario(folder, `directed-${state}-${index}`, scenario);
    console.log(
      showFailure(`directed=${state} seed=${scenario.seed}`, report, `scripts/sim replay ${shellWord(file)}`),
    );
  });
  return { totals, runs: all.length, perState, hash: hash.hex };
}
