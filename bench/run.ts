/**
 * The benchmarks (`scripts/bench`). Each compares Tammar with the bare loop in interleaved pairs on the same machine in the
 * same minute, and reports the median of the pairs' ratios: single runs on a shared machine are off by half.
 *
 * CPU time is the operating system's (user and system time of the worker processes), between two moments when every record
 * sent has come out again; a warm-up of every key goes before.
 */
import { statSync } from "node:fs";
import { checkpointsInside, recovery, recoveryOfManyKeys, throughputKept } from "./checkpoints.ts";
import { LineSink, Load, makeFrames } from "./lib/load.ts";
import { type Figure, median, percentile, printTable, writeResults } from "./lib/report.ts";
import { binary, killAll, type RuntimeName, type Subject, startBareLoops, startEngine } from "./lib/subject.ts";

interface Settings {
  readonly quick: boolean;
  readonly runtime: RuntimeName;
  readonly pairs: number;
}

interface Throughput {
  readonly cpuNanosPerRecord: number;
  readonly recordsPerSecond: number;
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** Every key once or more, then `records` more, split over all sources. */
async function throughput(
  make: (sinkPort: number) => Promise<Subject>,
  frames: Uint8Array,
  records: number,
  keyCount: number,
): Promise<Throughput> {
  const sink = new LineSink();
  let subject: Subject | null = null;
  try {
    subject = await make(sink.port);
    const loads = await Promise.all(subject.sourcePorts.map((port) => Load.connect(port, frames)));
    // A whole number of rounds, so that every key was seen by each source.
    const warm = Math.max(keyCount, 300_000);
    await Promise.all(loads.map((load) => load.send(warm)));
    await sink.reached(warm * loads.length, 120_000);
    await sleep(300);
    const cpuBefore = subject.cpuMicros();
    const began = performance.now();
    const each = Math.floor(records / loads.length);
    await Promise.all(loads.map((load) => load.send(each)));
    await sink.reached((warm + each) * loads.length, 120_000);
    const seconds = (sink.lastMs - began) / 1_000;
    // What the collector still does for these records belongs to them.
    await sleep(100);
    const total = each * loads.length;
    const cpuNanosPerRecord = ((subject.cpuMicros() - cpuBefore) * 1_000) / total;
    for (const load of loads) load.close();
    return { cpuNanosPerRecord, recordsPerSecond: total / seconds };
  } finally {
    await subject?.stop();
    sink.close();
  }
}

interface PairPlan {
  readonly measure: string;
  readonly goal?: string;
  readonly workers: number;
  readonly keyCount: number;
  readonly records: number;
}

async function comparePairs(settings: Settings, plan: PairPlan): Promise<Figure> {
  const { runtime, pairs } = settings;
  const frames = makeFrames(plan.keyCount);
  const bare: Throughput[] = [];
  const engine: Throughput[] = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    const runs = [
      async () => {
        bare.push(
          await throughput(
            (sinkPort) => startBareLoops(runtime, plan.workers, sinkPort),
            frames,
            plan.records,
            plan.keyCount,
          ),
        );
      },
      async () => {
        engine.push(
          await throughput(
            (sinkPort) =>
              startEngine({
                runtime,
                workers: plan.workers,
                sinkPort,
                application: "keyed_count.ts",
                source: "events",
              }),
            frames,
            plan.records,
            plan.keyCount,
          ),
        );
      },
    ];
    // Who goes first changes, so that a slow drift of the machine favours nobody.
    if (pair % 2 === 1) runs.reverse();
    for (const run of runs) await run();
    const ratio = (bare[pair]?.cpuNanosPerRecord ?? 0) / (engine[pair]?.cpuNanosPerRecord ?? 0);
    console.log(
      `  ${plan.measure}, ${runtime}, pair ${pair + 1} of ${pairs}: ratio ${ratio.toFixed(2)}; bare ` +
        `${Math.round(bare[pair]?.cpuNanosPerRecord ?? 0)} ns, Tammar ${Math.round(engine[pair]?.cpuNanosPerRecord ?? 0)} ns`,
    );
  }
  const samples = bare.map((run, pair) => run.cpuNanosPerRecord / (engine[pair]?.cpuNanosPerRecord ?? Number.NaN));
  return {
    measure: plan.measure,
    runtime,
    value: median(samples),
    unit: "",
    samples,
    ...(plan.goal === undefined ? {} : { goal: plan.goal }),
    details: {
      "bare ns/record": median(bare.map((run) => run.cpuNanosPerRecord)),
      "Tammar ns/record": median(engine.map((run) => run.cpuNanosPerRecord)),
      "bare records/s": median(bare.map((run) => run.recordsPerSecond)),
      "Tammar records/s": median(engine.map((run) => run.recordsPerSecond)),
    },
  };
}

const count = (n: number): string => n.toLocaleString("en-US");

async function oneWorker(settings: Settings): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const keyCount of settings.quick ? [10_000] : [10_000, 1_000_000]) {
    figures.push(
      await comparePairs(settings, {
        measure: `keyed count, one worker, ${count(keyCount)} keys: ratio to the bare loop by CPU time`,
        goal: ">= 0.75",
        workers: 1,
        keyCount,
        records: settings.quick ? 500_000 : 3_000_000,
      }),
    );
  }
  return figures;
}

async function twoWorkers(settings: Settings): Promise<Figure[]> {
  return [
    await comparePairs(settings, {
      measure: "keyed count, two workers, half remote, 10,000 keys: ratio to two bare loops by CPU time",
      goal: ">= 0.55",
      workers: 2,
      keyCount: 10_000,
      records: settings.quick ? 500_000 : 4_000_000,
    }),
  ];
}

async function keyCounts(settings: Settings): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const keyCount of settings.quick ? [1_000] : [1_000, 100_000, 1_000_000]) {
    figures.push(
      await comparePairs(settings, {
        measure: `keyed count, one worker, ${count(keyCount)} keys: ratio to the bare loop by CPU time`,
        workers: 1,
        keyCount,
        records: settings.quick ? 500_000 : 3_000_000,
      }),
    );
  }
  if (settings.quick) return figures;
  const values = figures.map(({ value }) => value);
  figures.push({
    measure: "the same: largest minus smallest ratio over 1,000 to 1,000,000 keys",
    runtime: settings.runtime,
    value: Math.max(...values) - Math.min(...values),
    unit: "",
    goal: "<= 0.1",
  });
  return figures;
}

/** Seconds from every key warm to every key done. */
async function generated(
  runtime: RuntimeName,
  workers: number,
  work: "json" | "none",
  spread: "own" | "all",
  target: number,
): Promise<{ seconds: number; cpuNanosPerRecord: number }> {
  const keys = 10_000;
  const warm = target / 4;
  const sink = new LineSink();
  let subject: Subject | null = null;
  try {
    subject = await startEngine({
      runtime,
      workers,
      sinkPort: sink.port,
      application: "generator_count.ts",
      extra: ["--keys", `${keys}`, "--target", `${target}`, "--warm", `${warm}`, "--work", work, "--spread", spread],
    });
    await sink.reached(keys, 120_000);
    const began = sink.lastMs;
    const cpuBefore = subject.cpuMicros();
    await sink.reached(keys * 2, 120_000);
    const seconds = (sink.lastMs - began) / 1_000;
    const records = keys * (target - warm);
    return { seconds, cpuNanosPerRecord: ((subject.cpuMicros() - cpuBefore) * 1_000) / records };
  } finally {
    await subject?.stop();
    sink.close();
  }
}

async function scaling(settings: Settings): Promise<Figure[]> {
  const { runtime, pairs, quick } = settings;
  const figures: Figure[] = [];
  for (const [work, what, target] of [
    ["json", "generators of JSON", quick ? 200 : 1_600],
    ["none", "generators of objects (no work a record)", quick ? 400 : 4_000],
  ] as const) {
    const one: number[] = [];
    const local: number[] = [];
    const remote: number[] = [];
    for (let pair = 0; pair < pairs; pair += 1) {
      one.push((await generated(runtime, 1, work, "all", target)).seconds);
      local.push((await generated(runtime, 2, work, "own", target)).seconds);
      remote.push((await generated(runtime, 2, work, "all", target)).seconds);
      console.log(
        `  ${what}, ${runtime}, round ${pair + 1} of ${pairs}: one worker ${one[pair]?.toFixed(2)} s, two, all local ` +
          `${local[pair]?.toFixed(2)} s, two, half remote ${remote[pair]?.toFixed(2)} s`,
      );
    }
    const records = 10_000 * (target - target / 4);
    const figure = (measure: string, goal: string, times: readonly number[]): Figure => {
      const samples = one.map((seconds, pair) => seconds / (times[pair] ?? Number.NaN));
      return {
        measure,
        runtime,
        value: median(samples),
        unit: "times",
        samples,
        goal,
        details: { "one worker records/s": records / median(one), "two records/s": records / median(times) },
      };
    };
    figures.push(
      figure(`two workers against one, wall clock, ${what}, 10,000 keys, all local`, ">= 1.7", local),
      figure(`two workers against one, wall clock, ${what}, 10,000 keys, half remote`, ">= 1.3", remote),
    );
  }
  return figures;
}

async function latencyOf(
  make: (sinkPort: number) => Promise<Subject>,
  ms: number,
): Promise<{ p50: number; p99: number; cpuMicrosPerRecord: number }> {
  const perSecond = 50_000;
  const sink = new LineSink();
  let subject: Subject | null = null;
  try {
    subject = await make(sink.port);
    const load = await Load.connect(subject.sourcePorts[0] as number, makeFrames(10_000));
    const warm = await load.pace(perSecond, 2_000);
    await sink.reached(warm, 120_000);
    sink.latencies = new Float64Array(Math.ceil((perSecond * ms) / 1_000) + perSecond);
    const cpuBefore = subject.cpuMicros();
    const sent = await load.pace(perSecond, ms);
    await sink.reached(warm + sent, 120_000);
    const cpuMicrosPerRecord = (subject.cpuMicros() - cpuBefore) / sent;
    load.close();
    const sorted = sink.latencies.subarray(0, sink.latencyCount).slice().sort();
    return { p50: percentile(sorted, 0.5) / 1_000, p99: percentile(sorted, 0.99) / 1_000, cpuMicrosPerRecord };
  } finally {
    await subject?.stop();
    sink.close();
  }
}

async function latency(settings: Settings): Promise<Figure[]> {
  const { runtime, quick } = settings;
  const ms = quick ? 2_000 : 8_000;
  const bare: Awaited<ReturnType<typeof latencyOf>>[] = [];
  const engine: Awaited<ReturnType<typeof latencyOf>>[] = [];
  for (let pair = 0; pair < settings.pairs; pair += 1) {
    bare.push(await latencyOf((sinkPort) => startBareLoops(runtime, 1, sinkPort), ms));
    engine.push(
      await latencyOf(
        (sinkPort) => startEngine({ runtime, workers: 1, sinkPort, application: "keyed_count.ts", source: "events" }),
        ms,
      ),
    );
    console.log(
      `  latency at 50,000 records/s, ${runtime}, run ${pair + 1}: p50 ${engine[pair]?.p50.toFixed(2)} ms, ` +
        `p99 ${engine[pair]?.p99.toFixed(2)} ms; bare loop ${bare[pair]?.p50.toFixed(2)} and ${bare[pair]?.p99.toFixed(2)} ms`,
    );
  }
  const figure = (what: "p50" | "p99", goal: string): Figure => ({
    measure: `socket to socket at 50,000 records/s, one worker, 10,000 keys: ${what}`,
    runtime,
    value: median(engine.map((run) => run[what])),
    unit: "ms",
    samples: engine.map((run) => run[what]),
    goal,
    details: {
      "bare loop ms": median(bare.map((run) => run[what])),
      "Tammar CPU µs/record": median(engine.map((run) => run.cpuMicrosPerRecord)),
    },
  });
  return [figure("p50", "< 0.5"), figure("p99", "< 5")];
}

async function startUp(settings: Settings): Promise<Figure[]> {
  const { runtime, quick } = settings;
  const times: number[] = [];
  let idleBytes = 0;
  for (let run = 0; run < (quick ? 3 : 11); run += 1) {
    const sink = new LineSink();
    const subject = await startEngine({
      runtime,
      workers: 1,
      sinkPort: sink.port,
      application: "keyed_count.ts",
      source: "events",
    });
    try {
      times.push(subject.startMs);
      if (run === 0) {
        await sleep(quick ? 1_000 : 5_000);
        idleBytes = subject.residentBytes();
      }
    } finally {
      await subject.stop();
      sink.close();
    }
  }
  const figures: Figure[] = [
    {
      measure: runtime === "bun" ? "start of the binary to Phase IV, one worker" : "start to Phase IV, one worker",
      runtime,
      value: median(times),
      unit: "ms",
      samples: times,
      ...(runtime === "bun" ? { goal: "< 200" } : {}),
    },
    { measure: "resident memory of an idle worker", runtime, value: idleBytes / 1e6, unit: "MB" },
  ];
  if (runtime === "bun") {
    figures.push({ measure: "size of the binary", runtime, value: statSync(binary).size / 1e6, unit: "MB" });
  }
  return figures;
}

const benchmarks: Readonly<Record<string, (settings: Settings) => Promise<Figure[]>>> = {
  "one-worker": oneWorker,
  "two-workers": twoWorkers,
  scaling,
  latency,
  "key-counts": keyCounts,
  "start-up": startUp,
  recovery,
  "recovery-many-keys": recoveryOfManyKeys,
  "throughput-kept": throughputKept,
  "checkpoint-cost": checkpointsInside,
};

/** Names for several. */
const groups: Readonly<Record<string, readonly string[]>> = {
  checkpoints: ["recovery", "recovery-many-keys", "throughput-kept", "checkpoint-cost"],
};

function usage(problem: string): never {
  console.error(`scripts/bench: ${problem}`);
  console.error("Usage: scripts/bench [NAME...] [--quick] [--runtime bun|deno] [--pairs N]");
  console.error(`NAME is one of ${[...Object.keys(benchmarks), ...Object.keys(groups)].join(", ")}`);
  process.exit(2);
}

const args = process.argv.slice(2);
let quick = false;
const only: string[] = [];
let runtimes: RuntimeName[] = ["bun", "deno"];
let pairs: number | null = null;
for (let arg = args.shift(); arg !== undefined; arg = args.shift()) {
  if (arg === "--quick") quick = true;
  else if (arg === "--only" || !arg.startsWith("-")) {
    const name = arg === "--only" ? (args.shift() ?? usage("--only needs a name")) : arg;
    if (!(name in benchmarks) && !(name in groups)) usage(`there is no benchmark ${name}`);
    only.push(...(groups[name] ?? [name]));
  } else if (arg === "--runtime") {
    const name = args.shift();
    if (name !== "bun" && name !== "deno") usage("--runtime is bun or deno");
    else runtimes = [name];
  } else if (arg === "--pairs") {
    pairs = Number(args.shift());
    if (!Number.isInteger(pairs) || pairs < 1) usage("--pairs needs a number");
  } else usage(`unknown option ${arg}`);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    killAll();
    process.exit(130);
  });
}

let failed = 0;
const all: Figure[] = [];
for (const [name, run] of Object.entries(benchmarks)) {
  if (only.length > 0 && !only.includes(name)) continue;
  const figures: Figure[] = [];
  for (const runtime of runtimes) {
    console.log(`${name} on ${runtime === "bun" ? "Bun" : "Deno"} ...`);
    try {
      figures.push(...(await run({ quick, runtime, pairs: pairs ?? (quick ? 1 : 5) })));
    } catch (error) {
      failed += 1;
      console.log(`${name} on ${runtime} FAILED: ${(error as Error).message}`);
    }
  }
  if (figures.length > 0) {
    writeResults(name, `scripts/bench ${process.argv.slice(2).join(" ")}`.trim(), quick, figures);
  }
  all.push(...figures);
}
console.log("");
printTable(all);
if (quick) console.log("\nA smoke run: single short runs, whose figures mean nothing.");
process.exit(failed === 0 ? 0 : 1);
