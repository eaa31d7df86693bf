/** For telling whether what a worker has saved is still the same, without keeping a copy of it. */
import { baseOf, CLUSTER_FILE, LOCK_FILE, NEW_SUFFIX } from "../store/folders.ts";
import { isResentName } from "../store/resent_file.ts";
import { decodeSavedCluster } from "../store/saved_cluster.ts";
import type { SavedDigest } from "./observation.ts";
import type { StageDisk } from "./stage.ts";

/** Of what is saved under this folder of a machine. */
export function digestSaved(disk: StageDisk, folder: string): SavedDigest {
  const parts: string[] = [];
  let cluster: string | null = null;
  for (const path of disk.paths().sort()) {
    // Who holds the lock says so in it, and what never took its place counts for nothing.
    if (!path.startsWith(`${folder}/`) || path.endsWith(`/${LOCK_FILE}`) || path.endsWith(NEW_SUFFIX)) continue;
    // What was sent again is remembered by whoever sends it, not by the worker.
    if (path.endsWith("/") || isResentName(baseOf(path))) continue;
    const bytes = disk.peek(path)!;
    parts.push(`${path} ${digestBytes(bytes)}`);
    if (path.endsWith(`/${CLUSTER_FILE}`)) cluster = meaningOf(bytes);
  }
  return { exact: parts.join(" "), cluster };
}

/** What matters of saved cluster information, whoever was started how often since, and whereever members listen now. */
function meaningOf(bytes: Uint8Array): string | null {
  const outcome = decodeSavedCluster(bytes);
  if (outcome.kind !== "ok") return "damaged";
  const { state, clusterId, application, fingerprint, worker, role, routingVersion, keyGroupCount, members } =
    outcome.saved;
  if (state === "forming") return null;
  const names = members.map(({ name }) => name).join(" ");
  return [clusterId, application, fingerprint, worker, role, routingVersion, keyGroupCount, names].join(" ");
}

export function digestBytes(bytes: Uint8Array): string {
  let a = 0x811c_9dc5 | 0;
  let b = 0x9e37_79b9 | 0;
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 0x0100_0193);
    b = Math.imul(((b << 13) | (b >>> 19)) ^ byte, 0x85eb_ca6b);
  }
  return `${bytes.length}.${(a >>> 0).toString(16)}.${(b >>> 0).toString(16)}`;
}
