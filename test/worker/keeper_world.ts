// A state keeper over states that a test touches itself.
import assert from "node:assert/strict";
import type { StateCodec } from "../../src/api/graph.ts";
import type { Dataflow } from "../../src/operators/dataflow.ts";
import { hashKey } from "../../src/plan/key_groups.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { KeyedState } from "../../src/state/keyed_state.ts";
import { StateKeeper, type StateKeeperOptions } from "../../src/worker/state_keeper.ts";

export interface Counter {
  n: number;
}

export const FOLDER = "/var/lib/tammar/app/worker1";
export const CLUSTER_ID = "0123456789abcdef0123456789abcdef";

export interface StageOptions {
  readonly id: string;
  readonly version?: number;
  readonly migrate?: (state: object, fromVersion: number) => object;
  readonly codec?: StateCodec<Counter>;
}

/** What a keeper sees of a dataflow. */
export class TestFlow {
  readonly states: KeyedState<Counter>[];
  readonly dataflow: Dataflow;

  constructor(stages: readonly StageOptions[] = [{ id: "p/count" }], keyGroupCount = 8) {
    this.states = stages.map(() => new KeyedState<Counter>(keyGroupCount));
    const made = stages.map(({ id, version, migrate, codec }, index) => ({
      id,
      stateVersion: version ?? 1,
      migrate: migrate ?? null,
      codec: codec ?? null,
      state: this.states[index],
    }));
    this.dataflow = { statefulStages: () => made } as unknown as Dataflow;
  }

  /** A new state. */
  make = (n: number): Counter => ({ n });

  /** Sets the count of a key as a record would; `null` removes it. */
  set(key: string, n: number | null, stage = 0): void {
    const state = this.states[stage]!;
    const hash = hashKey(key);
    if (n === null) {
      state.remove(hash, key);
      return;
    }
    const held = state.get(hash, key);
    if (held === undefined) state.add(hash, key, this.make(n));
    else held.n = n;
  }

  /** All keys with their counts; of the first stage unless said otherwise. */
  all(stage = 0): Map<string, number> {
    const state = this.states[stage]!;
    const all = new Map<string, number>();
    for (let group = 0; group < state.keyGroupCount; group++) {
      for (const [key, { n }] of state.entries(group)) all.set(key, n);
    }
    assert.equal(all.size, state.keyCount);
    return all;
  }
}

export function openKeeper(runtime: Runtime, changes: Partial<StateKeeperOptions> = {}): Promise<StateKeeper> {
  return StateKeeper.open({
    disk: runtime.disk,
    clock: runtime.clock,
    folder: FOLDER,
    clusterId: CLUSTER_ID,
    application: "Alerts (stateful)",
    worker: "worker1",
    ...changes,
  });
}

/** Writes everything of the epoch that was frozen, giving the loop back in between. */
export async function writeAll(keeper: StateKeeper, runtime: Runtime): Promise<void> {
  while (!keeper.slice(1)) await new Promise<void>((resolve) => runtime.clock.soon(resolve));
}

export async function checkpoint(
  keeper: StateKeeper,
  runtime: Runtime,
  epoch: number,
  body: unknown = { epoch },
): Promise<{ stateBytes: number; writtenBytes: number }> {
  keeper.freeze(epoch);
  await writeAll(keeper, runtime);
  return keeper.end(epoch, 1, body);
}
