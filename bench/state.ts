/**
 * What incremental snapshots cost, in one process and on this machine's disk: for how long they keep the loop, what they
 * write, how large the folder gets, how long it takes to read it all back.
 *
 *   bun bench/state.ts [keys] [--quick] [--touch] [--json]
 *   deno run -A --no-check bench/state.ts [keys] [--quick] [--touch] [--json]
 *
 * A state is `{ count, total, last }`, a key has 16 characters. Keys are touched between the slices, as records do it in a worker,
 * so that copies are part of it. `--touch` also measures what noting a change costs a record. `--json`: the last line is JSON.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Dataflow } from "../src/operators/dataflow.ts";
import { hashKey } from "../src/plan/key_groups.ts";
import type { Disk, Runtime } from "../src/runtime/runtime.ts";
import { EntryColumns } from "../src/state/entry_columns.ts";
import { KeyedState } from "../src/state/keyed_state.ts";
import { StateKeeper } from "../src/worker/state_keeper.ts";

const args = process.argv.slice(2);
const quick = args.includes("--quick");
const keyCount = Number(args.find((arg) => /^\d+$/.test(arg)) ?? (quick ? 100_000 : 1_000_000));
const GROUPS = 1_024;
const SLICE_MS = 1;
/** Keys that are touched after each slice. */
const TOUCHES_A_TURN = 200;

interface Total {
  count: number;
  total: number;
  last: number;
}

const runtime: Runtime =
  "Bun" in globalThis
    ? (await import("../src/runtime/bun.ts")).createBunRuntime()
    : (await import("../src/runtime/deno.ts")).createDenoRuntime();

const keys = Array.from({ length: keyCount }, (_, i) => `user-${String(i).padStart(11, "0")}`);
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

const random = (below: number): number => Math.floor(Math.random() * below);
const soon = () => new Promise<void>((resolve) => runtime.clock.soon(resolve));

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

function say(what: string, value: string): void {
  console.log(`${what.padEnd(58)} ${value}`);
}

/** How long this thread has waited for a core since it began, ms: what other programs took from it. Linux. */
function waitedMs(): number {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "latin1").split(" ")[1]) / 1e6;
  } catch {
    return 0;
  }
}

/** One stretch for which the loop did nothing else. */
interface Stretch {
  readonly kind: "freeze" | "slice" | "between";
  readonly ms: number;
  /** Of it: waiting for a core that another program had. */
  readonly waitedMs: number;
  readonly what: string;
}

function dataflowOf(state: KeyedState<Total>): Dataflow {
  const stage = { id: "bench/total", stateVersion: 1, migrate: null, codec: null, state };
  return { statefulStages: () => [stage] } as unknown as Dataflow;
}

/** Counts what is made durable one by one. */
class CountingDisk {
  syncs = 0;
  readonly disk: Disk;

  constructor(disk: Disk) {
    const counted = Object.create(disk) as Disk;
    counted.syncDir = (path) => {
      this.syncs++;
      return disk.syncDir(path);
    };
    counted.open = async (path, mode) => {
      const file = await disk.open(path, mode);
      return {
        append: (bytes) => file.append(bytes),
        readAt: (offset, length) => file.readAt(offset, length),
        length: () => file.length(),
        truncate: (length) => file.truncate(length),
        close: () => file.close(),
        sync: () => {
          this.syncs++;
          return file.sync();
        },
      };
    };
    // Methods of the disk itself keep their own `this`.
    for (const name of ["readFile", "list", "stat", "rename", "remove", "makeDir", "removeDir", "lock"] as const) {
      (counted[name] as unknown) = (disk[name] as (...given: unknown[]) => unknown).bind(disk);
    }
    this.disk = counted;
  }
}

/** What noting a change costs a record. */
async function touchCosts(): Promise<void> {
  const filled = (): KeyedState<Total> => {
    const state = new KeyedState<Total>(GROUPS);
    for (let i = 0; i < keyCount; i++) touch(state, i);
    return state;
  };
  for (const among of [10_000, keyCount]) {
    const plain = filled();
    const tracked = filled();
    const tracker = tracked.track();
    const again: number[] = [];
    const first: number[] = [];
    const run = (state: KeyedState<Total>, order: Uint32Array): number => {
      const started = performance.now();
      for (const i of order) touch(state, i);
      return ((performance.now() - started) * 1e6) / order.length;
    };
    let plainNs = 0;
    for (let pair = 0; pair < 15; pair++) {
      const order = Uint32Array.from({ length: 300_000 }, () => random(among));
      tracker.freeze([]);
      const columns = new EntryColumns();
      while (tracker.take(4096, columns)) columns.clear();
      const runs = [() => run(plain, order), () => run(tracked, order)];
      const [a, b] = (pair % 2 === 0 ? runs : runs.reverse()).map((one) => one()) as [number, number];
      plainNs = pair % 2 === 0 ? a : b;
      first.push(pair % 2 === 0 ? b / a : a / b);
      const plainAgain = run(plain, order);
      again.push(run(tracked, order) / plainAgain);
    }
    say(`touch, ${among} keys: noted before, ratio to without`, quantile(again, 0.5).toFixed(3));
    say(
      `touch, ${among} keys: 300,000 random ones from a freeze on`,
      `${quantile(first, 0.5).toFixed(3)} (${plainNs.toFixed(0)} ns without)`,
    );
  }
}

const folder = mkdtempSync(join(tmpdir(), "tammar-bench-"));
const counting = new CountingDisk(runtime.disk);
const options = {
  disk: counting.disk,
  clock: runtime.clock,
  folder,
  clusterId: "0".repeat(32),
  application: "bench",
  worker: "worker1",
};

/** What lies on the disk at this moment. */
function folderBytes(): number {
  let bytes = 0;
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    try {
      const stat = statSync(join(folder, name));
      if (stat.isFile()) bytes += stat.size;
    } catch {
      // It has just been removed.
    }
  }
  return bytes;
}

let keeper = await StateKeeper.open(options);
let state = new KeyedState<Total>(GROUPS);
let epoch = 0;
let largestFolder = 0;
let stateBytes = 0;
const stretches: Stretch[] = [];

interface Taken {
  readonly writtenBytes: number;
  readonly sliceMs: number;
  readonly syncs: number;
}

/** One checkpoint; `turns` turns of the loop go by afterwards. */
async function checkpoint(what: string, touchesATurn: number, turns: number): Promise<Taken> {
  epoch++;
  const syncsBefore = counting.syncs;
  let sliceMs = 0;
  let endedAt = performance.now();
  let endedWaited = waitedMs();
  const stretch = <T>(kind: Stretch["kind"], run: () => T): T => {
    const waited = waitedMs();
    const started = performance.now();
    const result = run();
    endedAt = performance.now();
    endedWaited = waitedMs();
    stretches.push({ kind, ms: endedAt - started, waitedMs: endedWaited - waited, what });
    return result;
  };
  /** Everything else that the loop does: reading back what is to be the new base, answers of the disk, the collector. */
  const others = async (): Promise<void> => {
    endedAt = performance.now();
    endedWaited = waitedMs();
    await soon();
    const waited = waitedMs() - endedWaited;
    stretches.push({ kind: "between", ms: performance.now() - endedAt, waitedMs: waited, what });
  };
  stretch("freeze", () => keeper.freeze(epoch));
  for (let done = false, turn = 0; !done; turn++) {
    done = stretch("slice", () => keeper.slice(SLICE_MS));
    sliceMs += stretches.at(-1)!.ms;
    for (let i = 0; i < touchesATurn; i++) touch(state, random(keyCount));
    if (turn % 50 === 0) largestFolder = Math.max(largestFolder, folderBytes());
    await others();
  }
  const ended = await keeper.end(epoch, 1, { positions: epoch });
  stateBytes = ended.stateBytes;
  largestFolder = Math.max(largestFolder, folderBytes());
  keeper.completed(epoch);
  for (let turn = 0; turn < turns; turn++) await others();
  return { writtenBytes: ended.writtenBytes, sliceMs, syncs: counting.syncs - syncsBefore };
}

const result: Record<string, unknown> = { runtime: runtime.host.name, keys: keyCount };

function sayStretches(name: string, kinds: readonly Stretch["kind"][]): void {
  const chosen = stretches.filter(({ kind }) => kinds.includes(kind));
  const ms = chosen.map((one) => one.ms);
  const own = chosen.map((one) => one.ms - one.waitedMs);
  const worst = chosen.reduce((a, b) => (b.ms > a.ms ? b : a));
  const worstOwn = chosen.reduce((a, b) => (b.ms - b.waitedMs > a.ms - a.waitedMs ? b : a));
  const shown = ({ kind, ms: took, waitedMs: waited, what }: Stretch): string =>
    `${took.toFixed(2)} ms (${kind}, ${what}; ${waited.toFixed(2)} ms of it waiting for a core)`;
  say(
    `${name}: p50, p99, longest ms (n=${chosen.length})`,
    [0.5, 0.99, 1].map((q) => quantile(ms, q).toFixed(2)).join(", "),
  );
  say(
    `${name}: the same without waiting for a core`,
    [0.5, 0.99, 1].map((q) => quantile(own, q).toFixed(2)).join(", "),
  );
  say(`${name}: the worst`, shown(worst));
  result[name] = {
    n: chosen.length,
    p50Ms: quantile(ms, 0.5),
    p99Ms: quantile(ms, 0.99),
    maxMs: worst.ms,
    ownP99Ms: quantile(own, 0.99),
    ownMaxMs: worstOwn.ms - worstOwn.waitedMs,
    worst: shown(worst),
    worstOwn: shown(worstOwn),
  };
}

try {
  say("runtime, keys", `${runtime.host.name}, ${keyCount}`);
  if (args.includes("--touch")) await touchCosts();
  keeper.attach(dataflowOf(state));
  for (let i = 0; i < keyCount; i++) touch(state, i);
  const all = await checkpoint("all keys new", TOUCHES_A_TURN, 200);
  say("all keys new: bytes, ms in slices", `${all.writtenBytes}, ${all.sliceMs.toFixed(0)}`);
  sayStretches("all keys new", ["freeze", "slice"]);

  // What was touched between the slices is changed still.
  await checkpoint("the rest", 0, 50);
  stretches.length = 0;
  const unchanged: number[] = [];
  for (let round = 0; round < 5; round++) unchanged.push((await checkpoint("nothing changed", 0, 50)).writtenBytes);
  say("nothing changed: bytes written a checkpoint", `${unchanged.join(", ")}`);
  result["unchangedBytes"] = unchanged;

  stretches.length = 0;
  const syncs: number[] = [];
  for (const [changed, rounds] of quick
    ? [[10_000, 5]]
    : [
        [10_000, 30],
        [100_000, 60],
      ]) {
    const bytes: number[] = [];
    const ms: number[] = [];
    for (let round = 0; round < rounds!; round++) {
      for (let i = 0; i < changed!; i++) touch(state, random(keyCount));
      const taken = await checkpoint(`${changed} changed`, TOUCHES_A_TURN, 50);
      bytes.push(taken.writtenBytes);
      ms.push(taken.sliceMs);
      syncs.push(taken.syncs);
    }
    say(`${changed} changed: bytes, ms in slices, medians`, `${quantile(bytes, 0.5)}, ${quantile(ms, 0.5).toFixed(1)}`);
  }
  sayStretches("blocked", ["freeze", "slice"]);
  sayStretches("everything else", ["between"]);
  say("syncs of the log a checkpoint: median, most", `${quantile(syncs, 0.5)}, ${quantile(syncs, 1)}`);
  result["syncs"] = { median: quantile(syncs, 0.5), most: quantile(syncs, 1) };

  // As many changes as there can be: the log has to make room as fast as it is filled.
  for (let round = 0; round < (quick ? 5 : 40); round++) {
    for (let i = 0; i < keyCount * 0.3; i++) touch(state, random(keyCount));
    await checkpoint("a third changed", 0, 5);
  }
  const bound = 3 * stateBytes + 64 * 1024 * 1024;
  say("folder: largest, 3 x state + 64 MiB, bytes", `${largestFolder}, ${bound}`);
  result["folder"] = { largestBytes: largestFolder, boundBytes: bound, stateBytes };

  const touched = new Map<string, number>();
  for (let group = 0; group < GROUPS; group += 97)
    for (const [key, held] of state.entries(group)) touched.set(key, held.total);
  await keeper.close();
  const restores: { wallMs: number; cpuMs: number }[] = [];
  for (let again = 0; again < 3; again++) {
    const started = performance.now();
    const cpu = runtime.host.cpuMicros();
    keeper = await StateKeeper.open(options);
    state = new KeyedState<Total>(GROUPS);
    const { entries } = await keeper.restore(epoch, dataflowOf(state));
    restores.push({ wallMs: performance.now() - started, cpuMs: (runtime.host.cpuMicros() - cpu) / 1_000 });
    if (entries !== keyCount) throw new Error(`${entries} keys came back instead of ${keyCount}`);
    for (const [key, total] of touched) {
      if (state.peek(hashKey(key), key)?.total !== total) throw new Error(`${key} came back with another state`);
    }
    await keeper.close();
  }
  const { wallMs, cpuMs } = restores[1]!;
  say(`restore ${keyCount} keys of ${folderBytes()} bytes: ms, CPU ms`, `${wallMs.toFixed(0)}, ${cpuMs.toFixed(0)}`);
  result["restores"] = restores;
  if (args.includes("--json")) console.log(JSON.stringify(result));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
