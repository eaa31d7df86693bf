/** Starts of a worker that must be refused, as people make them: each with what is wrong, and how it is mended. */
import { INITIALIZER, type WorkerName } from "../base/ids.ts";
import { CLUSTER_FILE } from "../store/folders.ts";
import { decodeSavedCluster, encodeSavedCluster } from "../store/saved_cluster.ts";
import { NO_CHECKPOINTS, type WorkerConfig } from "../worker/config.ts";
import { PORTS, type SimulatedCluster } from "./cluster.ts";
import type { BadStart } from "./observation.ts";

/** What is wrong with a start. */
export interface BadStartPlan {
  readonly how: BadStart;
  readonly config: Partial<WorkerConfig>;
  /** Its process has ended, whichever way: the file that was put in its place goes back. */
  readonly over: () => void;
}

const ANOTHER_CLUSTER = "0123456789abcdef".repeat(2);

/** @returns How to end it; null: it could not be done at this moment. */
export function badStart(cluster: SimulatedCluster, worker: WorkerName, how: BadStart): (() => void) | null {
  if (how === "folder_in_use") return cluster.intrude(worker);
  if (cluster.running(worker)) return null;
  const end = (): void => void cluster.endBadStart(worker);
  const start = (config: Partial<WorkerConfig>, over: () => void): (() => void) | null =>
    cluster.start(worker, { how, config, over }) ? end : null;
  switch (how) {
    case "other_application":
      // A newcomer that could form a cluster of its own would keep the others out.
      return cluster.savedClusterId(worker) === null ? null : start({ applicationCodeDigest: "other code" }, () => {});
    case "other_checkpoints": {
      // Who was never in the cluster would be refused as well, but may have to wait until the cluster has its first members.
      if (worker === INITIALIZER || cluster.savedClusterId(worker) === null) return null;
      const intervalMs = cluster.scenario.checkpointMs === undefined ? 1_000 : null;
      return start({ checkpoints: { ...NO_CHECKPOINTS, intervalMs } }, () => {});
    }
    case "other_cluster":
      return worker === INITIALIZER ? null : withFile(cluster, worker, anotherCluster, start);
    case "other_worker": {
      const other = cluster.names.find((name) => name !== worker && cluster.savedClusterId(name) !== null);
      if (other === undefined) return null;
      return withFile(
        cluster,
        worker,
        () => cluster.machines.get(other)!.disk.peek(clusterFile(cluster, other)!),
        start,
      );
    }
    case "port_in_use": {
      cluster.machines.get(worker)!.powerOn();
      const squatter = cluster.machines.get(worker)!.startProcess(async ({ net }) => {
        const listening = { host: "0.0.0.0", port: PORTS.external, accept: () => {}, failed: () => {} };
        try {
          await net.listen(listening);
        } catch {
          return;
        }
        if (start({}, () => squatter.kill()) === null) squatter.kill();
      });
      return () => {
        end();
        squatter.kill();
      };
    }
  }
}

/** Starts with another content of the saved cluster information, which goes back as soon as the process has ended. */
function withFile(
  cluster: SimulatedCluster,
  worker: WorkerName,
  change: (bytes: Uint8Array) => Uint8Array | null,
  start: (config: Partial<WorkerConfig>, over: () => void) => (() => void) | null,
): (() => void) | null {
  const path = clusterFile(cluster, worker);
  if (path === undefined || cluster.savedClusterId(worker) === null) return null;
  const { disk } = cluster.machines.get(worker)!;
  const original = disk.peek(path)!;
  const changed = change(original);
  if (changed === null) return null;
  disk.put(path, changed);
  return start({}, () => disk.put(path, original));
}

function clusterFile(cluster: SimulatedCluster, worker: WorkerName): string | undefined {
  return cluster.filesOf(worker).find((file) => file.endsWith(`/${CLUSTER_FILE}`));
}

function anotherCluster(bytes: Uint8Array): Uint8Array | null {
  const outcome = decodeSavedCluster(bytes);
  return outcome.kind === "ok" ? encodeSavedCluster({ ...outcome.saved, clusterId: ANOTHER_CLUSTER }) : null;
}
