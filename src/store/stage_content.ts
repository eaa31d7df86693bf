/** What one checkpoint has of one stage: its keys and their states. */
import { ConfigError, ResilienceError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import type { Disk } from "../runtime/runtime.ts";
import { listCheckpoints } from "./checkpoint_list.ts";
import { join, STATE_FOLDER } from "./folders.ts";
import type { StoreReport } from "./inspect.ts";
import { readCheckpoint } from "./state_log/read_checkpoint.ts";

export interface StageEntry {
  readonly worker: string;
  readonly epoch: Epoch;
  readonly key: string;
  readonly value: unknown;
}

export interface StageQuestion {
  /** Operator id: `pipeline/stage name`. */
  readonly stage: string;
  /** `null`: all. */
  readonly key: string | null;
  /** `null`: the one that exists, or the newest of each worker where that is not known. */
  readonly epoch: Epoch | null;
}

/**
 * Reads it from every worker's folder that is here, in the order of their paths, keys as they were written.
 *
 * @throws {ConfigError} `stage_unknown`, `checkpoint_unknown`: nobody here has it.
 * @throws {ResilienceError} Something is damaged.
 */
export async function readStage(disk: Disk, report: StoreReport, question: StageQuestion): Promise<StageEntry[]> {
  const found: StageEntry[] = [];
  const stages = new Set<string>();
  const epochs = new Set<Epoch>();
  let isThere = false;
  const decided = new Map(listCheckpoints(report).map((cluster) => [cluster.clusterId, cluster.decided]));
  for (const { path, worker, saved, checkpoints } of report.workers) {
    if (checkpoints === null) throw unreadable(path);
    if (checkpoints.length === 0) continue;
    for (const { epoch } of checkpoints) epochs.add(epoch);
    const known = saved === null ? null : (decided.get(saved.clusterId) ?? null);
    const wanted = question.epoch ?? (checkpoints.some(({ epoch }) => epoch === known) ? known : null);
    const entries = new Map<string, unknown>();
    let hasStage = false;
    const end = await readCheckpoint(disk, join(path, STATE_FOLDER), wanted, {
      entries: ({ id }, { count, keys, values }) => {
        stages.add(id);
        if (id !== question.stage) return;
        hasStage = true;
        for (let i = 0; i < count; i++) {
          if (question.key === null || keys[i] === question.key) entries.set(keys[i]!, values[i]);
        }
      },
      removed: ({ id }, { count, keys }) => {
        if (id === question.stage) for (let i = 0; i < count; i++) entries.delete(keys[i]!);
      },
    });
    if (end === null) continue;
    isThere = true;
    // A stage without any key has no record, but is known all the same.
    for (const { id } of checkpoints.find(({ epoch }) => epoch === end.epoch)?.stages ?? []) stages.add(id);
    if (!hasStage) continue;
    for (const [key, value] of entries) found.push({ worker: saved?.worker ?? worker, epoch: end.epoch, key, value });
  }
  if (!isThere) {
    const there = [...epochs].sort((a, b) => a - b).join(", ") || "none";
    const which = question.epoch === null ? "any checkpoint" : `checkpoint ${question.epoch}`;
    throw new ConfigError(
      "checkpoint_unknown",
      `Cannot show ${which} of ${report.directory}: those there are: ${there}; see list`,
    );
  }
  if (stages.has(question.stage)) return found;
  const known = [...stages].map((id) => `"${printable(id)}"`).join(", ") || "none with state";
  throw new ConfigError(
    "stage_unknown",
    `Cannot show stage "${printable(question.stage)}": the stages in ${report.directory} are ${known}`,
  );
}

function unreadable(path: string): ResilienceError {
  return new ResilienceError(
    "resilience_damaged",
    `Cannot read the checkpoints in ${path}: a file there is damaged or missing; see verify`,
  );
}
