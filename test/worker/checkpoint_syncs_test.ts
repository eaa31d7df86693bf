/**
 * What a checkpoint makes durable one by one, in whole clusters: a sync is what it waits for. Counted for each checkpoint by itself,
 * on the virtual disk, and on a real one with the runtime that runs this test.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import { application, generatorSource, source, tcpSink } from "../../mod.ts";
import { INITIALIZER } from "../../src/base/ids.ts";
import type { Disk, Runtime } from "../../src/runtime/runtime.ts";
import { baseOf, isDecisionName } from "../../src/store/folders.ts";
import { DEFAULT_LIMITS, DEFAULT_TIMING, NO_CHECKPOINTS, type WorkerConfig } from "../../src/worker/config.ts";
import type { CrashPoint } from "../../src/worker/crash_points.ts";
import { runWorker } from "../../src/worker/worker.ts";
import { freePorts } from "../cluster/lib/ports.ts";
import { waitFor } from "../cluster/lib/wait.ts";
import { realRuntime, withFolder } from "../lib/real_runtime.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

const CHECKPOINTS = { ...NO_CHECKPOINTS, intervalMs: 100 };
/** Segments of a checkpoint or two, and rounds of bases all the time. */
const SMALL = { logSegmentBytes: 6_000, logSlackBytes: 10_000 };

/** Counts what each worker syncs for each checkpoint. */
class Counter {
  /** By epoch, then by worker. Of the epoch that is under way: all that is synced since the last was decided. */
  readonly #syncs = new Map<number, Map<string, string[]>>();
  /** The last that was decided. */
  #decided = 0;
  #decisions = 0;
  /** The folder of its decision is not synced yet: that sync is still its own. */
  #deciding = false;
  #isCounting = false;
  readonly #segments = new Set<string>();
  readonly #late: string | null;

  /** @param late A worker whose start may not be over when the first checkpoint begins: what a start syncs is not counted of it. */
  constructor(late: string | null = null) {
    this.#late = late;
  }

  seen(worker: string, operation: string, path: string): void {
    if (operation === "open" && /segment-|\.evlog$/.test(path) && worker === INITIALIZER) this.#segments.add(path);
    if (!operation.startsWith("sync") || !this.#isCounting) return;
    if (worker === this.#late && /\/(w1|cluster\.new)$/.test(path)) return;
    const isDecision = worker === INITIALIZER && this.#deciding && operation === "sync_dir" && path.endsWith(worker);
    const epoch = isDecision ? this.#decided : this.#decided + 1;
    if (isDecision) this.#deciding = false;
    const workers = this.#syncs.get(epoch) ?? new Map<string, string[]>();
    this.#syncs.set(epoch, workers);
    workers.set(worker, [...(workers.get(worker) ?? []), baseOf(path)]);
  }

  /** From now on: before that is the start. @param decision The name that it has. */
  begin(decision: string): void {
    this.#syncs.clear();
    this.#decided = Number(decision.split("-")[1]);
    this.#decisions = 0;
    this.#deciding = false;
    this.#isCounting = true;
  }

  /** Segments that the initializer has opened. */
  get begun(): number {
    return this.#segments.size;
  }

  /** Checkpoints that were decided since then. */
  get decisions(): number {
    return this.#isCounting ? this.#decisions : 0;
  }

  /** Of the decision, to this name. */
  renamed(to: string): void {
    const name = baseOf(to);
    if (!isDecisionName(name)) return;
    this.#decided = Number(name.split("-")[1]);
    this.#deciding = true;
    this.#decisions++;
  }

  /** All but the last, which may be under way. @returns For each worker, how many checkpoints cost how many syncs. */
  check(from: number, mostOf: (worker: string) => number): Map<string, Map<number, number>> {
    const found = new Map<string, Map<number, number>>();
    for (const [epoch, workers] of this.#syncs) {
      if (epoch < from || epoch > this.#decided) continue;
      for (const [worker, paths] of workers) {
        const what = `${worker}, checkpoint ${epoch}: ${paths.join(", ")}`;
        assert.ok(paths.length <= mostOf(worker), what);
        const counts = found.get(worker) ?? new Map<number, number>();
        found.set(worker, counts.set(paths.length, (counts.get(paths.length) ?? 0) + 1));
      }
    }
    for (const [worker, counts] of found) {
      const text = [...counts].sort().map(([syncs, times]) => `${times} with ${syncs}`);
      console.log(`${worker}: checkpoints ${text.join(", ")}; ${this.begun} segments begun by the initializer`);
    }
    return found;
  }
}

const MOST = (worker: string) => (worker === INITIALIZER ? 3 : 2);

for (const [what, rotation] of [
  ["", null],
  [" with log rotation", { fileBytes: 6_000 }],
] as const) {
  test(`no checkpoint costs a worker more than two syncs, and the initializer more than three${what}`, async () => {
    const cluster = new VirtualCluster({
      seed: 71,
      workers: 3,
      limits: SMALL,
      config: { checkpoints: { ...CHECKPOINTS, rotation } },
    });
    const counter = new Counter();
    for (const [name, { disk }] of cluster.machines) {
      disk.fault = (operation, path) => {
        counter.seen(name, operation, path);
        return null;
      };
    }
    const initializer = cluster.machines.get(INITIALIZER)!.disk;
    // The names that are there tell of a rename.
    let decision = "";
    const look = () => {
      const name = initializer.paths().find((path) => isDecisionName(baseOf(path))) ?? "";
      if (name === decision) return;
      decision = name;
      counter.renamed(name);
    };
    const runFor = async (ms: number) => {
      const until = cluster.world.now() + ms;
      await cluster.world.runUntil(() => {
        look();
        return cluster.world.now() >= until;
      }, ms + 1_000);
    };
    cluster.startAll();
    assert.ok(await cluster.working());
    // The first checkpoint comes after 100 ms.
    await runFor(50);
    counter.begin(baseOf(decision));
    cluster.send(
      "w1",
      Array.from({ length: 40_000 }, (_, i) => `k${(i * 7) % 400} ${i}`),
      { perMs: 5 },
    );
    await runFor(4_000);
    const found = counter.check(1, MOST);
    assert.ok(counter.begun >= 10, `${counter.begun} segments`);
    assert.deepEqual([...found.get(INITIALIZER)!.keys()].sort(), [2, 3]);
    assert.deepEqual([...found.get("w2")!.keys()].sort(), [1, 2]);
  });
}

test("so it is on a real disk, and in the first checkpoint of a process that was started again", {
  timeout: 300_000,
}, async () => {
  await withFolder(async (folder) => {
    for (const _ of ["first start", "second start"]) {
      const counter = new Counter("w1");
      await runReal(folder, counter);
      const found = counter.check(0, MOST);
      assert.ok(counter.begun >= 3, `${counter.begun} segments`);
      assert.ok((found.get(INITIALIZER)?.get(2) ?? 0) + (found.get(INITIALIZER)?.get(3) ?? 0) >= 5);
    }
  });
});

function numbers() {
  return application("Numbers", () =>
    source("numbers", generatorSource({ initial: () => 0, next: (n: number) => n + 1, rate: 5_000 }))
      .keyBy((n) => `k${n % 400}`)
      .toStateful("sum", {
        initial: () => ({ sum: 0 }),
        apply(n, state) {
          state.sum += n;
          return null;
        },
      })
      .toSink(tcpSink({ encode: (line: string) => line })),
  );
}

/** Two workers until there is enough to look at; they are left as by a second signal, and keep their files. */
async function runReal(folder: string, counter: Counter): Promise<void> {
  const runtime = await realRuntime();
  const [control, data, sink] = (await freePorts(3)) as [number, number, number];
  const listener = createServer((socket) => socket.on("error", () => {}).resume());
  await new Promise<void>((resolve) => listener.listen(sink, "127.0.0.1", resolve));
  const running: Promise<unknown>[] = [];
  const signals: (() => void)[] = [];
  for (const name of [INITIALIZER, "w1"]) {
    const isInitializer = name === INITIALIZER;
    const config: WorkerConfig = {
      role: isInitializer ? "initializer" : "worker",
      name,
      workerCount: isInitializer ? 2 : 1,
      controlListen: { host: "127.0.0.1", port: isInitializer ? control : 0 },
      dataListen: { host: "127.0.0.1", port: isInitializer ? data : 0 },
      initializerControl: isInitializer ? null : { host: "127.0.0.1", port: control },
      externalListen: null,
      metrics: null,
      inputs: new Map(),
      outputs: [{ host: "127.0.0.1", port: sink }],
      resilienceDir: folder,
      application: numbers(),
      applicationOptions: {},
      rawArguments: [],
      buildId: "build",
      applicationCodeDigest: "code",
      checkpoints: CHECKPOINTS,
      timing: DEFAULT_TIMING,
      limits: { ...DEFAULT_LIMITS, ...SMALL },
    };
    const host = changed(runtime.host, {
      onSignal: (_, handler) => {
        signals.push(handler);
        return () => {};
      },
      onUncaught: () => () => {},
    });
    const own: Runtime = { ...runtime, host, disk: counted(runtime.disk, name, counter) };
    const log = { debug() {}, info() {}, warn() {}, error() {} };
    let begun = false;
    const reached = (point: CrashPoint) => {
      if (begun || point !== "checkpoint.begin.before") return;
      begun = true;
      counter.begin(readdirSync(`${folder}/Numbers/${INITIALIZER}`).find(isDecisionName)!);
    };
    running.push(runWorker(config, own, log, { reached }));
  }
  await waitFor(() => counter.begun >= 5 && counter.decisions >= 12, {
    what: "five segments and twelve checkpoints",
    seen: () => `${counter.begun} segments, ${counter.decisions} checkpoints`,
  });
  // SIGTERM and SIGINT of each worker.
  for (const signal of signals) signal();
  await Promise.all(running);
  listener.close();
  assert.ok(existsSync(`${folder}/Numbers/${INITIALIZER}`), readdirSync(folder).join(" "));
}

function counted(disk: Disk, worker: string, counter: Counter): Disk {
  return changed(disk, {
    open: async (path, mode) => {
      const file = await disk.open(path, mode);
      counter.seen(worker, "open", path);
      const sync = async () => {
        counter.seen(worker, "sync", path);
        await file.sync();
      };
      return changed(file, { sync });
    },
    rename: async (from, to) => {
      await disk.rename(from, to);
      counter.renamed(to);
    },
    syncDir: async (path) => {
      counter.seen(worker, "sync_dir", path);
      await disk.syncDir(path);
    },
  });
}

/** The same, but for some of its methods. */
function changed<T extends object>(whole: T, methods: Partial<T>): T {
  return new Proxy(whole, {
    get(target, name) {
      const value = (methods as Record<string | symbol, unknown>)[name] ?? target[name as keyof T];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
