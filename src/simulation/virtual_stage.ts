/** The stage of the simulator: every worker is the real worker code in a process of one virtual world. */
import { EXIT, TammarError } from "../base/errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { TraceLine } from "../runtime/virtual/scheduler.ts";
import { VirtualWorld } from "../runtime/virtual/world.ts";
import type { WorkerConfig } from "../worker/config.ts";
import { runWorker } from "../worker/worker.ts";
import { parseSeed, type Scenario } from "./scenario.ts";
import type { Failure, Stage, WorkerWatch } from "./stage.ts";

export function virtualStage(scenario: Scenario, onStep: ((line: TraceLine) => void) | undefined): Stage {
  return {
    world: new VirtualWorld({
      seed: parseSeed(scenario.seed),
      network: scenario.network ?? {},
      ...(onStep === undefined ? {} : { onStep }),
    }),
    isReal: false,
    startWorker: (machine, config, watch) => machine.startProcess((runtime) => runOne(config, runtime, watch)),
  };
}

async function runOne(config: WorkerConfig, runtime: Runtime, watch: WorkerWatch): Promise<void> {
  let status: number;
  let failure: Failure | null = null;
  try {
    status = await runWorker(config, runtime, watch.log, watch.hooks);
  } catch (error) {
    status = error instanceof TammarError ? error.exitStatus : EXIT.bug;
    failure = {
      code: error instanceof TammarError ? error.code : "bug",
      text: error instanceof Error ? error.message : String(error),
      uncaught:
        error instanceof TammarError ? null : error instanceof Error ? (error.stack ?? error.message) : String(error),
    };
  }
  watch.left(status, failure);
  runtime.host.exit(status);
}
