/** One scenario, run with all oracles, in this process. What nobody caught meanwhile is the run's. */
import process from "node:process";
import { type RunOptions, type RunResult, runScenario } from "../../src/simulation/run.ts";
import type { Scenario } from "../../src/simulation/scenario.ts";
import { ORACLES } from "./oracles.ts";

export function execute(scenario: Scenario, options: Partial<RunOptions> = {}): Promise<RunResult> {
  return runScenario(scenario, { oracles: ORACLES, watchUncaught, ...options });
}

function watchUncaught(report: (error: unknown) => void): () => void {
  process.on("unhandledRejection", report);
  process.on("uncaughtException", report);
  return () => {
    process.off("unhandledRejection", report);
    process.off("uncaughtException", report);
  };
}
