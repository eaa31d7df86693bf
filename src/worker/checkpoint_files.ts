/**
 * The files that one worker's checkpoints need: what an earlier start has left is read, and refused where it does not do, before
 * anything is changed; what is not there yet is made.
 */
import { ResilienceError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { DecisionFile, NOTHING_DECIDED } from "../store/decision_file.ts";
import { DECISION_FILE, shellWord } from "../store/folders.ts";
import type { WorkerConfig } from "./config.ts";
import type { WorkerHooks } from "./crash_points.ts";
import { StateKeeper } from "./state_keeper.ts";

export interface CheckpointFilesOptions {
  readonly config: WorkerConfig;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly hooks: WorkerHooks;
}

export class CheckpointFiles {
  readonly #options: CheckpointFilesOptions;
  /** What an earlier start has left; null: none has. */
  #state: StateKeeper | null = null;
  #decisions: DecisionFile | null = null;

  constructor(options: CheckpointFilesOptions) {
    this.#options = options;
  }

  /** The initializer's, with checkpoints; null on others. */
  get decisions(): DecisionFile | null {
    return this.#decisions;
  }

  /** @throws {ResilienceError} If what an earlier start has left does not do. */
  async read(clusterId: string, folder: string): Promise<void> {
    const { config, log, runtime } = this.#options;
    const { acceptStateLoss, intervalMs } = config.checkpoints;
    if (config.role === "initializer") {
      this.#decisions = await DecisionFile.open(runtime.disk, folder, clusterId);
      const { decision } = this.#decisions;
      const { epoch } = decision ?? NOTHING_DECIDED;
      if (intervalMs === null && epoch > 0 && !acceptStateLoss) throw checkpointsThere(folder, epoch);
      if (intervalMs !== null && decision === null && !acceptStateLoss) throw decisionMissing(folder);
    }
    if (intervalMs === null) return;
    this.#state = await this.#open(clusterId, folder);
    const { torn } = this.#state.facts();
    if (torn === null) return;
    log.warn(
      "state_torn",
      `The last ${torn.bytes} bytes of ${torn.path} cannot be read (offset ${torn.offset}: ${torn.why}). So it is when this ` +
        `worker died while a checkpoint was written: they are left out. If that checkpoint exists, the recovery refuses the file`,
    );
  }

  /** Once a cluster with checkpoints is formed, its initializer has a decision: a missing one is a lost one. */
  async beforeFormed(clusterId: string, folder: string): Promise<void> {
    const { config, runtime } = this.#options;
    if (config.checkpoints.intervalMs === null || config.role !== "initializer") return;
    this.#decisions = new DecisionFile(runtime.disk, folder, clusterId, null);
    await this.#decisions.write(NOTHING_DECIDED);
  }

  /** What `read` has opened, or, where there was nothing, made now. */
  state(clusterId: string, folder: string): Promise<StateKeeper> {
    return this.#state === null ? this.#open(clusterId, folder) : Promise.resolve(this.#state);
  }

  async close(): Promise<void> {
    await this.#state?.close();
  }

  #open(clusterId: string, folder: string): Promise<StateKeeper> {
    const { config, runtime } = this.#options;
    const { disk, clock } = runtime;
    const { name: worker, limits } = config;
    const { acceptStateLoss, rotation } = config.checkpoints;
    const application = config.application.name;
    const { logSegmentBytes, logSlackBytes: slackBytes, sliceKeys } = limits;
    const segmentBytes = rotation === null ? logSegmentBytes : (rotation.fileBytes ?? Number.MAX_SAFE_INTEGER);
    return StateKeeper.open({
      ...{ disk, clock, folder, clusterId, application, worker, acceptStateLoss },
      ...{ segmentBytes, slackBytes, sliceKeys },
      rotates: rotation !== null,
      onRotation: (step, path) => this.#rotated(step, path),
    });
  }

  #rotated(step: "begun" | "durable", path: string): void {
    const { hooks, log } = this.#options;
    if (step === "begun") return hooks.reached("rotation.file_made");
    log.info("rotated", `The event log goes on in ${path}`);
    hooks.reached("rotation.durable");
  }
}

function decisionMissing(folder: string): ResilienceError {
  return new ResilienceError(
    "resilience_incomplete",
    `Cannot use ${folder}: the file ${DECISION_FILE}-*, which says which checkpoint exists, is missing: the cluster was formed ` +
      `with --checkpoint-interval off, or the file is lost. Nothing was changed. Give the folder back what it had; or start ` +
      `with --checkpoint-interval off again; or go on with empty state: --accept-state-loss. To look at it: ` +
      `tammar store verify ${shellWord(folder)}`,
  );
}

function checkpointsThere(folder: string, epoch: Epoch): ResilienceError {
  return new ResilienceError(
    "resilience_has_checkpoints",
    `Cannot use ${folder} with --checkpoint-interval off: the cluster is at checkpoint ${epoch}, and would start with empty ` +
      `state beside it. Nothing was changed. Leave the option out; or go on with empty state: --accept-state-loss`,
  );
}
