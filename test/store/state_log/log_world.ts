// A state log on the virtual disk, fed by hand.
import type { Runtime } from "../../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../../src/runtime/virtual/host.ts";
import { VirtualWorld } from "../../../src/runtime/virtual/world.ts";
import { openStateLog, type StateLog, type StateLogOptions } from "../../../src/store/state_log/state_log.ts";

export const FOLDER = "/r/app/worker1/state";
export const CLUSTER_ID = "0123456789abcdef0123456789abcdef";
export const STAGE = { id: "p/count", version: 1, codec: false };

export function machine(seed: number): { world: VirtualWorld; host: VirtualHost; runtime: Runtime } {
  const world = new VirtualWorld({ seed });
  const host = world.host("machine");
  host.disk.put("/r/app/worker1/LOCK", "");
  return { world, host, runtime: host.startProcess(() => {}).runtime };
}

export function openLog(runtime: Runtime, changes: Partial<StateLogOptions> = {}): Promise<StateLog> {
  return openStateLog({
    disk: runtime.disk,
    clock: runtime.clock,
    folder: FOLDER,
    clusterId: CLUSTER_ID,
    application: "Alerts (stateful)",
    worker: "worker1",
    segmentBytes: 1500,
    ...changes,
  });
}

/** Entries `key 0` to `key count - 1`, each with `n`. */
export function put(log: StateLog, n: number, count = 10, stage = STAGE): void {
  const keys = Array.from({ length: count }, (_, i) => `key ${i}`);
  const hashes = keys.map((_, i) => i);
  const values = keys.map(() => ({ n }));
  log.append(stage, count, hashes, keys, values);
}

export function remove(log: StateLog, keys: readonly string[], stage = STAGE): void {
  log.appendRemoved(
    stage,
    keys.length,
    keys.map(() => 0),
    keys,
  );
}

/** An epoch of one change. */
export async function epoch(log: StateLog, number: number, base = 1, count = 10): Promise<void> {
  log.begin(number);
  put(log, number, count);
  await log.end(1, base, { of: number }, { epoch: number });
}

/** What a restore gives, the last value of each key. */
export async function contentOf(log: StateLog, number: number): Promise<Record<string, unknown>> {
  const content: Record<string, unknown> = {};
  await log.restore(number, {
    about: () => {},
    entries: (stage, { keys, values, count }) => {
      for (let i = 0; i < count; i++) content[`${stage.id} ${keys[i]}`] = (values[i] as { n: number }).n;
    },
    removed: (stage, { keys, count }) => {
      for (let i = 0; i < count; i++) delete content[`${stage.id} ${keys[i]}`];
    },
  });
  return content;
}

export function expected(n: number, count = 10): Record<string, unknown> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`p/count key ${i}`, n]));
}
