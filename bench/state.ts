/**
 * What incremental snapshots cost, on this machine's disk: noting what changed, freezing, writing in slices, restoring.
 *
 *   bun bench/state.ts [keys]
 *   deno run -A --no-check bench/state.ts [keys]
 *
 * A state is `{ count, total, last }`, a key has 16 characters. The loop's longest turns are what a slice takes; records are
 * touched between slices, as they are in a worker, so that copies are part of it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Dataflow } from "../src/operators/dataflow.ts";
import { hashKey } from "../src/plan/key_groups.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { KeyedState } from "../src/state/keyed_state.ts";
import { StateKeeper } from "../src/worker/state_keeper.ts";

const KEYS = Number(process.argv[2] ?? 1_000_000);
const GROUPS = 1024;

interface Total {
  count: number;
  total: number;
  last: number;
}

const runtime: Runtime =
  "Bun" in globalThis
    ? (await import("../src/runtime/bun.ts")).createBunRuntime()
    : (await import("../src/runtime/deno.ts")).createDenoRuntime();

function keyOf(i: number): string {
  return `user-${String(i).padStart(11, "0")}`;
}

const keys = Array.from({ length: KEYS }, (_, i) => keyOf(i));
const hashes = Uint32Array.from(keys, hashKey);

function touch(state: KeyedState<Total>, i: number): void {
  const held = state.get(hashes[i]!, keys[i]!);
  if (held === undefined) state.add(hashes[i]!, keys[i]!, { count: 1, total: i, last: i });
  else {
    held.count++;
    held.total += i;
    held.last = i;
  }
}

function filled(): KeyedState<Total> {
  const state = new KeyedState<Total>(GROUPS);
  for (let i = 0; i < KEYS; i++) touch(state, i);
  return state;
}

function dataflowOf(state: KeyedState<Total>): Dataflow {
  const stage = { id: "bench/total", stateVersion: 1, migrate: null, state };
  return { statefulStages: () => [stage] } as unknown as Dataflow;
}

function random(below: number): number {
  return Math.floor(Math.random() * below);
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

function say(what: string, value: string): void {
  console.log(`${what.padEnd(58)} ${value}`);
}

say("runtime, keys", `${runtime.host.name}, ${KEYS}`);

// Noting what changed.
for (const keyCount of [10_000, KEYS]) {
  const plain = filled();
  const tracked = filled();
  const tracker = tracked.track();
  const ratios: number[] = [];
  const firsts: number[] = [];
  const run = (state: KeyedState<Total>, order: Uint32Array): number => {
    const started = performance.now();
    for (const i of order) touch(state, i);
    return ((performance.now() - started) * 1e6) / order.length;
  };
  let plainNs = 0;
  for (let pair = 0; pair < 15; pair++) {
    const order = Uint32Array.from({ length: 300_000 }, () => random(keyCount));
    tracker.freeze([]);
    const columns = await drained();
    while (tracker.take(4096, columns)) columns.clear();
    columns.clear();
    // The first time, keys are noted; the second time nearly all of them are noted already.
    let first = 0;
    let plainFirst = 0;
    let second = 0;
    if (pair % 2 === 0) {
      plainFirst = run(plain, order);
      first = run(tracked, order);
    } else {
      first = run(tracked, order);
      plainFirst = run(plain, order);
    }
    const plainSecond = run(plain, order);
    second = run(tracked, order);
    plainNs = plainFirst;
    firsts.push(first / plainFirst);
    ratios.push(second / plainSecond);
  }
  say(`touch, ${keyCount} keys: noted before, ratio to without`, quantile(ratios, 0.5).toFixed(3));
  say(
    `touch, ${keyCount} keys: 300,000 random ones from a freeze on`,
    `${quantile(firsts, 0.5).toFixed(3)} (${plainNs.toFixed(0)} ns without)`,
  );
}

async function drained() {
  const { EntryColumns } = await import("../src/state/entry_columns.ts");
  return new EntryColumns();
}

const folder = mkdtempSync(join(tmpdir(), "tammar-bench-"));
const options = {
  disk: runtime.disk,
  clock: runtime.clock,
  folder,
  clusterId: "0".repeat(32),
  application: "bench",
  worker: "worker1",
};
const soon = () => new Promise<void>((resolve) => runtime.clock.soon(resolve));

try {
  const keeper = await StateKeeper.open(options);
  const state = new KeyedState<Total>(GROUPS);
  keeper.attach(dataflowOf(state));
  for (let i = 0; i < KEYS; i++) touch(state, i);
  let epoch = 0;
  const one = async (what: string, changed: number, repeat: number): Promise<void> => {
    const slices: number[] = [];
    const freezes: number[] = [];
    const totals: number[] = [];
    const syncs: number[] = [];
    let written = 0;
    for (let round = 0; round < repeat; round++) {
      for (let i = 0; i < changed; i++) touch(state, random(KEYS));
      epoch++;
      let started = performance.now();
      keeper.freeze(epoch);
      freezes.push(performance.now() - started);
      let busy = 0;
      for (let done = false; !done; ) {
        started = performance.now();
        done = keeper.slice(1);
        slices.push(performance.now() - started);
        busy += slices.at(-1)!;
        for (let i = 0; i < 200; i++) touch(state, random(KEYS));
        await soon();
      }
      totals.push(busy);
      started = performance.now();
      const ended = await keeper.end(epoch, 1, { positions: epoch });
      syncs.push(performance.now() - started);
      written += ended.writtenBytes;
      keeper.completed(epoch);
      await soon();
    }
    say(
      `${what}: freeze ms, median and longest`,
      `${quantile(freezes, 0.5).toFixed(3)}, ${quantile(freezes, 1).toFixed(3)}`,
    );
    say(
      `${what}: ms a slice, p50, p99, longest`,
      `${quantile(slices, 0.5).toFixed(2)}, ${quantile(slices, 0.99).toFixed(2)}, ${quantile(slices, 1).toFixed(2)} (${slices.length} slices)`,
    );
    say(
      `${what}: ms in slices, ms to be durable, medians`,
      `${quantile(totals, 0.5).toFixed(1)}, ${quantile(syncs, 0.5).toFixed(1)}`,
    );
    say(`${what}: bytes written a checkpoint`, `${Math.round(written / repeat)}`);
  };
  await one("all new", 0, 1);
  await one("nothing changed (200 keys a slice)", 0, 10);
  await one("10,000 touches", 10_000, 20);
  await one("100,000 touches", 100_000, 20);
  say("folder bytes", `${keeper.bytes}`);
  const bytes = keeper.bytes;
  epoch++;
  keeper.freeze(epoch);
  while (!keeper.slice(1)) await soon();
  await keeper.end(epoch, 1, {});
  epoch++;
  keeper.freeze(epoch);
  while (!keeper.slice(1)) await soon();
  say("unchanged: bytes written", `${(await keeper.end(epoch, 1, {})).writtenBytes}`);
  await keeper.close();

  for (let again = 0; again < 3; again++) {
    let started = performance.now();
    const next = await StateKeeper.open(options);
    const opened = performance.now() - started;
    started = performance.now();
    const restored = new KeyedState<Total>(GROUPS);
    const { entries } = await next.restore(epoch, dataflowOf(restored));
    const took = performance.now() - started;
    say(
      `restore ${entries} keys of ${bytes} bytes: ms to open, to restore`,
      `${opened.toFixed(0)}, ${took.toFixed(0)}`,
    );
    await next.close();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
