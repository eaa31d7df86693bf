/** The checkpoints of clusters, as far as the folders that are looked at tell. */
import type { Epoch, Generation } from "../base/ids.ts";
import type { StoreReport, WorkerFolder } from "./inspect.ts";

export interface ClusterCheckpoints {
  readonly application: string;
  readonly clusterId: string;
  /** Of the whole cluster. */
  readonly workerCount: number;
  /** Those whose folders are here. */
  readonly here: readonly string[];
  /** The one that exists; `null`: the initializer's folder is not here. */
  readonly decided: Epoch | null;
  /** Ascending. */
  readonly checkpoints: readonly ListedCheckpoint[];
}

export interface ListedCheckpoint {
  readonly epoch: Epoch;
  readonly generation: Generation;
  /** When the last of these workers wrote its part, in milliseconds since the Unix epoch. */
  readonly wallMs: number;
  readonly workers: readonly string[];
  /** Of these workers together. */
  readonly keys: number;
  /** About. */
  readonly bytes: number;
}

/** By application and cluster. Folders in which nothing readable is saved are left out. */
export function listCheckpoints({ workers }: StoreReport): ClusterCheckpoints[] {
  const clusters = new Map<string, WorkerFolder[]>();
  for (const worker of workers) {
    if (worker.saved === null) continue;
    const { clusterId } = worker.saved;
    clusters.set(clusterId, [...(clusters.get(clusterId) ?? []), worker]);
  }
  return [...clusters].map(([clusterId, folders]) => {
    const { application, workerCount } = folders[0]!.saved!;
    const decided = folders.find(({ decision }) => decision !== null)?.decision?.epoch ?? null;
    return { application, clusterId, workerCount, here: folders.map(nameOf), decided, checkpoints: merged(folders) };
  });
}

function merged(folders: readonly WorkerFolder[]): ListedCheckpoint[] {
  const byEpoch = new Map<Epoch, ListedCheckpoint>();
  for (const folder of folders) {
    for (const { epoch, generation, wallMs, stages } of folder.checkpoints ?? []) {
      const before = byEpoch.get(epoch);
      byEpoch.set(epoch, {
        epoch,
        generation: Math.max(generation, before?.generation ?? 0),
        wallMs: Math.max(wallMs, before?.wallMs ?? 0),
        workers: [...(before?.workers ?? []), nameOf(folder)],
        keys: stages.reduce((sum, stage) => sum + stage.keys, before?.keys ?? 0),
        bytes: stages.reduce((sum, { keys, entryBytes }) => sum + keys * entryBytes, before?.bytes ?? 0),
      });
    }
  }
  return [...byEpoch.values()].sort((a, b) => a.epoch - b.epoch);
}

function nameOf(folder: WorkerFolder): string {
  return folder.saved?.worker ?? folder.worker;
}
