/** Plays a scenario with real processes, and lets the same oracles look at what was observed. */
import type { RunOptions, RunResult } from "../../../src/simulation/run.ts";
import type { Scenario } from "../../../src/simulation/scenario.ts";
import { execute } from "../execute.ts";
import { RealStage } from "./real_stage.ts";

/** A kernel's buffers grow, and there are two connections in a row: what a lost one may take along. */
const KERNEL_BYTES = 16 << 20;

export async function runTwin(scenario: Scenario, options: Partial<RunOptions> = {}): Promise<RunResult> {
  const stage = await RealStage.open(scenario);
  const network = { ...scenario.network, sendBufferBytes: KERNEL_BYTES, receiveBufferBytes: KERNEL_BYTES };
  try {
    return await execute({ ...scenario, network }, { ...options, stage });
  } finally {
    await stage.close();
  }
}
