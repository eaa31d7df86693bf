/**
 * The kinds of work that several processes share: each makes the same list of pieces from the same few words, so that a
 * child need only be told the words and its number.
 */
import process from "node:process";
import {
  type CrashCase,
  crashCases,
  crashPairs,
  crashStories,
  type Passage,
  passages,
} from "../../src/simulation/crash_cases.ts";
import { generateScenario } from "../../src/simulation/generate.ts";
import { countCalls, judgeLoop, LOOPS, type LoopCase, loopCase } from "../../src/simulation/n_loop.ts";
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import type { RunResult } from "../../src/simulation/run.ts";
import { type FaultKind, parseSeed, type Scenario, showSeed } from "../../src/simulation/scenario.ts";
import { directedRuns } from "./directed.ts";
import { execute } from "./execute.ts";

export type Work =
  | { readonly kind: "seeds"; readonly first: bigint; readonly count: number }
  | { readonly kind: "crash"; readonly seed: bigint; readonly pairs: number }
  /** To these states only; empty: to all. */
  | { readonly kind: "directed"; readonly states: readonly string[] }
  /** Every `every`-th. */
  | { readonly kind: "nloop"; readonly every: number };

/** One run. */
export interface Piece {
  /** For people. */
  readonly name: string;
  readonly scenario: Scenario;
  /** What else must hold, and whether what the run is for took place. */
  readonly judge?: (result: RunResult) => { readonly violations: readonly Violation[]; readonly took: boolean };
}

/** What a child says of one run. */
export interface RunReport {
  readonly traceHash: string;
  readonly steps: number;
  readonly virtualMs: number;
  readonly cpuMs: number;
  readonly crashed: boolean;
  readonly faults: Readonly<Record<string, number>>;
  readonly reached: Readonly<Record<string, number>>;
  readonly violations: readonly Violation[];
  /** What the run is for took place. */
  readonly took: boolean;
}

/** What mends something is no fault. */
const MENDING: readonly FaultKind[] = ["start", "start_all", "restore", "heal"];

export function wordsOf(work: Work): string[] {
  switch (work.kind) {
    case "seeds":
      return [work.kind, showSeed(work.first), String(work.count)];
    case "crash":
      return [work.kind, showSeed(work.seed), String(work.pairs)];
    case "directed":
      return [work.kind, work.states.join(",")];
    case "nloop":
      return [work.kind, String(work.every)];
  }
}

export function workOf([kind, first, second]: readonly string[]): Work {
  if (kind === "seeds") return { kind, first: parseSeed(first!), count: Number(second) };
  if (kind === "crash") return { kind, seed: parseSeed(first!), pairs: Number(second) };
  if (kind === "directed") return { kind, states: first === "" ? [] : first!.split(",") };
  if (kind === "nloop") return { kind, every: Number(first) };
  throw new Error(`${kind} is no kind of work`);
}

/** Made when it is asked for: a thousand scenarios at once are large. */
export interface Pieces {
  readonly count: number;
  readonly at: (index: number) => Piece;
}

export async function piecesOf(work: Work): Promise<Pieces> {
  switch (work.kind) {
    case "seeds":
      return { count: work.count, at: (index) => seedPiece(BigInt.asUintN(64, work.first + BigInt(index))) };
    case "crash": {
      const { cases } = await crashPlan(work.seed, work.pairs);
      return { count: cases.length, at: (index) => crashPiece(cases[index]!) };
    }
    case "nloop": {
      const { cases } = await loopPlan(work.every);
      return { count: cases.length, at: (index) => loopPiece(cases[index]!) };
    }
    case "directed": {
      const all = directedRuns(work.states);
      return {
        count: all.length,
        at: (index) => ({ name: all[index]!.scenario.name, scenario: all[index]!.scenario }),
      };
    }
  }
}

function seedPiece(seed: bigint): Piece {
  return { name: showSeed(seed), scenario: generateScenario(seed) };
}

function loopPiece(loop: LoopCase): Piece {
  return { name: loop.scenario.name, scenario: loop.scenario, judge: (result) => judgeLoop(loop, result) };
}

function crashPiece({ point, variant, scenario }: CrashCase): Piece {
  return {
    name: scenario.name,
    scenario,
    judge: ({ observation }) => ({
      violations: [],
      took: observation.faults.some(({ index, effect }) => {
        const { at } = scenario.faults[index]!;
        return "point" in at && at.point === point && (effect !== "" || variant === "connections_cut");
      }),
    }),
  };
}

export interface LoopPlan {
  readonly cases: readonly LoopCase[];
  /** Of the loops, undisturbed. */
  readonly failed: readonly Violation[];
}

/** How many calls there are is learnt from an undisturbed run of each loop. */
export async function loopPlan(every: number): Promise<LoopPlan> {
  const cases: LoopCase[] = [];
  const failed: Violation[] = [];
  for (const loop of LOOPS) {
    const { calls, violations } = await countCalls(loop, execute);
    failed.push(...violations);
    // Beyond the last one too, where nothing fails: that is the end of the loop.
    for (let n = 1; n <= calls + 1; n++) cases.push(loopCase(loop, n));
  }
  return { cases: cases.filter((_, i) => i % every === 0), failed };
}

export interface CrashPlan {
  readonly cases: readonly CrashCase[];
  /** Of the stories, undisturbed. */
  readonly failed: readonly Violation[];
}

/** The undisturbed stories are run to learn what they pass, so each process knows the same cases. */
export async function crashPlan(seed: bigint, pairs: number): Promise<CrashPlan> {
  const all: Passage[] = [];
  const failed: Violation[] = [];
  for (const story of crashStories(showSeed(seed))) {
    const result = await execute(story);
    failed.push(...result.violations);
    all.push(...passages(result));
  }
  return { cases: pairs > 0 ? crashPairs(all, pairs, seed) : crashCases(all), failed };
}

export async function runPiece({ scenario, judge }: Piece): Promise<RunReport> {
  const before = process.cpuUsage();
  const result = await execute(scenario);
  const { user, system } = process.cpuUsage(before);
  const judged = judge?.(result) ?? { violations: [], took: true };
  return {
    traceHash: result.traceHash,
    steps: result.steps,
    virtualMs: result.virtualMs,
    cpuMs: (user + system) / 1000,
    crashed: result.crashed,
    faults: Object.fromEntries([...result.faults].filter(([kind]) => !MENDING.includes(kind))),
    reached: Object.fromEntries(result.reached),
    violations: [...result.violations, ...judged.violations],
    took: judged.took,
  };
}
