/**
 * Benchmarks of checkpoints and recovery (`scripts/bench checkpoints`): real processes, except for what a checkpoint does to the
 * loop, which is looked at from inside (`state.ts`).
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { assignOwners, hashKey, keyGroupOf } from "../src/plan/key_groups.ts";
import { ask } from "../test/cluster/lib/external.ts";
import { sleep, waitFor } from "../test/cluster/lib/wait.ts";
import { LineSink, Load, makeFrames } from "./lib/load.ts";
import { type Figure, median, percentile } from "./lib/report.ts";
import { bun, deno, type Engine, type RuntimeName, root, running, startEngine } from "./lib/subject.ts";

export interface CheckpointSettings {
  readonly quick: boolean;
  readonly runtime: RuntimeName;
  readonly pairs: number;
}

const STATUS_REQUEST = 1003;
const CHECKPOINT_REQUEST = 1005;

interface CheckpointStatus {
  readonly epoch: number;
  readonly written_bytes: number;
  readonly total_state_bytes: number;
  readonly recovery_keys: number;
  readonly recovery_gather_ms: number;
  readonly recovery_restore_ms: number;
  readonly recovery_wait_ms: number;
}

/** By name of the worker; `null`: not now. */
async function statusOf(port: number): Promise<ReadonlyMap<string, CheckpointStatus> | null> {
  try {
    const { text } = await ask(port, STATUS_REQUEST);
    const { workers } = JSON.parse(text) as { workers: Record<string, { checkpoint: CheckpointStatus }> };
    return new Map(Object.entries(workers).map(([name, { checkpoint }]) => [name, checkpoint]));
  } catch {
    return null;
  }
}

const nameOf = (index: number): string => (index === 0 ? "initializer" : `worker${index}`);

/** Everything that was sent so far is in a checkpoint that exists. */
async function takeCheckpoint(engine: Engine): Promise<void> {
  const { text } = await ask(engine.externalPorts[0]!, CHECKPOINT_REQUEST, "", 40_000);
  const { epoch, reason } = JSON.parse(text) as { epoch: number; reason: string };
  if (epoch === 0) throw new Error(`no checkpoint: ${reason}`);
}

async function connected(port: number, frames: Uint8Array): Promise<Load> {
  return waitFor(() => Load.connect(port, frames).catch(() => null), {
    what: `a source at port ${port}`,
    deadlineMs: 60_000,
    everyMs: 5,
  });
}

/** Keeps a load going at a rate, until it is told to stop or the worker dies. */
function paced(port: number, frames: Uint8Array, perSecond: number): { stop(): Promise<void> } {
  let isWanted = true;
  const run = (async () => {
    while (isWanted) {
      const load = await connected(port, frames).catch(() => null);
      while (isWanted && load !== null && !load.isClosed) await load.pace(perSecond, 50);
      load?.close();
    }
  })();
  return {
    stop() {
      isWanted = false;
      return run;
    },
  };
}

interface RecoveryPlan {
  readonly workers: number;
  readonly keyCount: number;
  readonly application: string;
  readonly extra?: readonly string[];
  readonly rounds: number;
  readonly perSecond: number;
}

interface Recovered {
  /** From the restart command to the first line of a key that the killed worker owns. */
  readonly outputMs: number;
  readonly readyMs: number;
  readonly restoreMs: number;
  readonly waitMs: number;
  readonly cpuMs: number;
}

/** Fills the cluster, then kills one worker after the other under load and starts it again. */
async function recoveries(
  runtime: RuntimeName,
  plan: RecoveryPlan,
): Promise<{ rounds: Recovered[]; stateBytes: number }> {
  const { workers, keyCount, application, extra = [], perSecond } = plan;
  const frames = makeFrames(keyCount);
  const owners = assignOwners(workers);
  const ownerOf = (line: string): number =>
    owners[keyGroupOf(hashKey(line.slice(0, line.indexOf(" "))), owners.length)]!;
  const sink = new LineSink();
  let engine: Engine | null = null;
  let loads: { stop(): Promise<void> }[] = [];
  try {
    const made = await startEngine({ runtime, workers, sinkPort: sink.port, application, source: "events", extra });
    engine = made;
    const filling = await connected(made.sourcePorts[0]!, frames);
    await filling.send(keyCount);
    await sink.reached(keyCount, 120_000);
    filling.close();
    await takeCheckpoint(made);
    const stateBytes = (await statusOf(made.externalPorts[0]!))?.get("initializer")?.total_state_bytes ?? 0;
    loads = made.sourcePorts.map((port) => paced(port, frames, perSecond));
    const rounds: Recovered[] = [];
    for (let round = 0; round < plan.rounds; round++) {
      const victim = round % workers;
      // It was working before, and its last checkpoint is not always of the same age.
      await sleep(1_000 + Math.random() * 1_000);
      await made.kill(victim);
      await sleep(300);
      const others = [...Array(workers).keys()].filter((index) => index !== victim);
      const cpuOfOthers = (): number => others.reduce((sum, index) => sum + made.cpuMicrosOf(index), 0);
      const cpuBefore = cpuOfOthers();
      const began = performance.now();
      const ready = made.restart(victim);
      const outputMs = await new Promise<number>((done, failed) => {
        const timer = setTimeout(() => failed(new Error(`no output of ${nameOf(victim)} after 60 s`)), 60_000);
        ready.catch(failed);
        sink.onLine = (line) => {
          if (ownerOf(line) !== victim) return;
          sink.onLine = null;
          clearTimeout(timer);
          done(performance.now() - began);
        };
      });
      const cpuMs = (cpuOfOthers() - cpuBefore + made.cpuMicrosOf(victim)) / 1_000;
      const readyMs = await ready;
      const status = await waitFor(async () => (await statusOf(made.externalPorts[victim]!))?.get(nameOf(victim)), {
        what: `the status of ${nameOf(victim)}`,
        deadlineMs: 60_000,
      });
      const { recovery_restore_ms: restoreMs, recovery_wait_ms: waitMs } = status;
      rounds.push({ outputMs, readyMs, restoreMs, waitMs, cpuMs });
      console.log(
        `  ${nameOf(victim)} of ${workers}, ${runtime}, round ${round + 1} of ${plan.rounds}: first output after ` +
          `${outputMs.toFixed(0)} ms (ready ${readyMs.toFixed(0)}, restore ${restoreMs}, waiting for others ${waitMs}); ` +
          `${cpuMs.toFixed(0)} ms of CPU time in all workers`,
      );
    }
    return { rounds, stateBytes };
  } finally {
    await Promise.all(loads.map((load) => load.stop()));
    await engine?.stop();
    sink.close();
  }
}

const MB = 1e6;

/** kill -9 of one of three workers that have 100 MB of state between them. */
export async function recovery({ quick, runtime }: CheckpointSettings): Promise<Figure[]> {
  // 400 characters, the key and two fields: 430 bytes a key in the log.
  const keyCount = quick ? 23_000 : 230_000;
  const { rounds, stateBytes } = await recoveries(runtime, {
    workers: 3,
    keyCount,
    application: "padded_count.ts",
    extra: ["--pad", "400"],
    rounds: quick ? 1 : 12,
    perSecond: 2_000,
  });
  const samples = rounds.map(({ outputMs }) => outputMs / 1_000);
  const sorted = Float64Array.from(samples).sort();
  const details = {
    "state MB": stateBytes / MB,
    "restore ms": median(rounds.map(({ restoreMs }) => restoreMs)),
    "CPU ms, all workers": median(rounds.map(({ cpuMs }) => cpuMs)),
  };
  const measure = `kill -9 of one of three workers, ${Math.round(stateBytes / MB)} MB of state: restart command to first new output`;
  return [
    {
      measure: `${measure}, p50`,
      runtime,
      value: percentile(sorted, 0.5),
      unit: "s",
      samples,
      goal: "<= 1",
      details,
    },
    { measure: `the same, p99`, runtime, value: percentile(sorted, 0.99), unit: "s", samples, goal: "<= 3" },
  ];
}

/** One worker with a million keys. */
export async function recoveryOfManyKeys({ quick, runtime }: CheckpointSettings): Promise<Figure[]> {
  const keyCount = quick ? 100_000 : 1_000_000;
  const { rounds, stateBytes } = await recoveries(runtime, {
    workers: 1,
    keyCount,
    application: "keyed_count.ts",
    rounds: quick ? 1 : 5,
    perSecond: 2_000,
  });
  const samples = rounds.map(({ outputMs }) => outputMs / 1_000);
  return [
    {
      measure: `kill -9 of one worker with ${keyCount.toLocaleString("en-US")} keys: restart command to first new output`,
      runtime,
      value: median(samples),
      unit: "s",
      samples,
      goal: "< 3",
      details: {
        "state MB": stateBytes / MB,
        "restore ms": median(rounds.map(({ restoreMs }) => restoreMs)),
        "CPU ms": median(rounds.map(({ cpuMs }) => cpuMs)),
      },
    },
  ];
}

/** What one worker has done under load. */
interface Turn {
  readonly nanos: number;
  readonly records: number;
  readonly seconds: number;
}

/** Milliseconds. */
interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
}

const nanosPerRecord = (turns: readonly Turn[]): number =>
  turns.reduce((sum, { nanos }) => sum + nanos, 0) / turns.reduce((sum, { records }) => sum + records, 0);

/** A worker with every key, ready to be compared with its twin. */
class Full {
  readonly sink = new LineSink();
  engine!: Engine;
  load!: Load;

  static async make(runtime: RuntimeName, frames: Uint8Array, keyCount: number, interval: string): Promise<Full> {
    const full = new Full();
    const extra = ["--checkpoint-interval", interval];
    full.engine = await startEngine({
      runtime,
      workers: 1,
      sinkPort: full.sink.port,
      application: "keyed_count.ts",
      source: "events",
      extra,
    });
    full.load = await Load.connect(full.engine.sourcePorts[0]!, frames);
    await full.load.send(keyCount);
    await full.sink.reached(keyCount, 120_000);
    return full;
  }

  /** At full speed, `changing` other keys each second. */
  async run(changing: number, ms: number): Promise<Turn> {
    this.load.roam(changing, 1_000);
    // The first checkpoint under load is not like the others.
    await sleep(1_500);
    const began = performance.now();
    const cpu = this.engine.cpuMicros();
    const { lines } = this.sink;
    await sleep(ms);
    const records = this.sink.lines - lines;
    const micros = this.engine.cpuMicros() - cpu;
    const seconds = (performance.now() - began) / 1_000;
    await this.load.rest();
    await this.quiet();
    return { nanos: micros * 1_000, records, seconds };
  }

  /** Until everything that was sent has come out. */
  async quiet(): Promise<void> {
    let seen = -1;
    while (seen !== this.sink.lines) {
      seen = this.sink.lines;
      await sleep(300);
    }
  }

  async latency(perSecond: number, ms: number): Promise<Latency> {
    await this.load.pace(perSecond, 1_000);
    await this.quiet();
    this.sink.latencies = new Float64Array(Math.ceil((perSecond * ms) / 1_000) + perSecond);
    this.sink.latencyCount = 0;
    await this.load.pace(perSecond, ms);
    await this.quiet();
    const sorted = this.sink.latencies.subarray(0, this.sink.latencyCount).slice().sort();
    this.sink.latencies = null;
    const at = (share: number): number => percentile(sorted, share) / 1_000;
    return { p50: at(0.5), p99: at(0.99), worst: at(1) };
  }

  async stop(): Promise<void> {
    await this.engine?.stop();
    this.sink.close();
  }
}

const CHANGING = [
  { changing: 10_000, goal: ">= 0.97" },
  { changing: 100_000, goal: ">= 0.9" },
] as const;

/**
 * Two workers with a million keys, one with checkpoints every second and one without, under load by turns. A turn is a whole
 * number of checkpoints. Two processes differ by a percent or two from each other, whatever they do: so this is done with
 * several pairs of them.
 *
 * What counts is all the CPU time of all turns: now and then the log is written anew, and a median of turns would leave that out.
 */
export async function throughputKept({ quick, runtime, pairs }: CheckpointSettings): Promise<Figure[]> {
  const keyCount = quick ? 100_000 : 1_000_000;
  const ms = quick ? 2_000 : 3_000;
  const frames = makeFrames(keyCount);
  const found = CHANGING.map(() => ({ on: [] as Turn[], off: [] as Turn[] }));
  const latencies: { on: Latency; off: Latency }[] = [];
  const twinCount = quick ? 1 : 3;
  for (let twin = 0; twin < twinCount; twin++) {
    let on: Full | null = null;
    let off: Full | null = null;
    try {
      on = await Full.make(runtime, frames, keyCount, "1s");
      off = await Full.make(runtime, frames, keyCount, "off");
      // Compiled code and caches are there before anything counts.
      for (const full of [on, off]) await full.run(10_000, quick ? 500 : 2_000);
      for (const [index, { changing }] of CHANGING.entries()) {
        const { on: turnsOn, off: turnsOff } = found[index]!;
        for (let pair = 0; pair < pairs; pair++) {
          const turns = [
            async () => turnsOn.push(await on!.run(changing, ms)),
            async () => turnsOff.push(await off!.run(changing, ms)),
          ];
          for (const turn of pair % 2 === 0 ? turns : turns.reverse()) await turn();
          const nanos = [nanosPerRecord(turnsOn.slice(-1)), nanosPerRecord(turnsOff.slice(-1))] as const;
          console.log(
            `  ${changing} changing a second, ${runtime}, twins ${twin + 1} of ${twinCount}, pair ${pair + 1} of ${pairs}: ` +
              `with checkpoints ${nanos[0].toFixed(0)} ns a record, without ${nanos[1].toFixed(0)}; ` +
              `ratio ${(nanos[1] / nanos[0]).toFixed(3)}`,
          );
        }
      }
      latencies.push({
        on: await on.latency(50_000, quick ? 2_000 : 4_000),
        off: await off.latency(50_000, quick ? 2_000 : 4_000),
      });
    } finally {
      await on?.stop();
      await off?.stop();
    }
  }
  const keys = keyCount.toLocaleString("en-US");
  const figures = CHANGING.map(({ changing, goal }, index): Figure => {
    const { on, off } = found[index]!;
    const rate = ({ records, seconds }: Turn): number => records / seconds;
    return {
      measure:
        `throughput kept with checkpoints every second, ${keys} keys, ` +
        `${changing.toLocaleString("en-US")} changing a second, by CPU time`,
      runtime,
      value: nanosPerRecord(off) / nanosPerRecord(on),
      unit: "",
      samples: on.map((turn, pair) => nanosPerRecord([off[pair]!]) / nanosPerRecord([turn])),
      goal,
      details: {
        "with ns/record": nanosPerRecord(on),
        "without ns/record": nanosPerRecord(off),
        "records/s kept": median(on.map((turn, pair) => rate(turn) / rate(off[pair]!))),
      },
    };
  });
  const worst = (which: "on" | "off"): number => Math.max(...latencies.map((each) => each[which].worst));
  return [
    ...figures,
    {
      measure: `socket to socket at 50,000 records/s, ${keys} keys, with checkpoints every second: p99`,
      runtime,
      value: median(latencies.map(({ on }) => on.p99)),
      unit: "ms",
      details: {
        "worst ms": worst("on"),
        "without: p99 ms": median(latencies.map(({ off }) => off.p99)),
        "without: worst ms": worst("off"),
      },
    },
  ];
}

/** What `state.ts` prints as JSON. */
interface Inside {
  readonly blocked: {
    n: number;
    p50Ms: number;
    p99Ms: number;
    maxMs: number;
    ownP99Ms: number;
    ownMaxMs: number;
    worst: string;
  };
  readonly "all keys new": Inside["blocked"];
  readonly "everything else": Inside["blocked"];
  readonly unchangedBytes: readonly number[];
  readonly syncs: { readonly median: number; readonly most: number };
  readonly folder: { readonly largestBytes: number; readonly boundBytes: number; readonly stateBytes: number };
  readonly keys: number;
}

function inside(runtime: RuntimeName, args: readonly string[]): Promise<Inside> {
  const script = join(root, "bench/state.ts");
  const [file, ...lead] = runtime === "bun" ? [bun, script] : [deno, "run", "-A", "--no-check", script];
  const child = spawn(file!, [...lead, ...args, "--json"], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  let output = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (text: string) => {
    output += text;
  });
  return new Promise((done, failed) => {
    child.once("error", failed);
    child.once("close", (status) => {
      running.delete(child);
      const lines = output.trimEnd().split("\n");
      const last = lines.pop() ?? "";
      for (const line of lines) console.log(`  ${line}`);
      if (status !== 0) failed(new Error(`bench/state.ts ended with ${status}`));
      else done(JSON.parse(last) as Inside);
    });
  });
}

/** What checkpoints do to the loop, to the disk and to the folder. */
export async function checkpointsInside({ quick, runtime }: CheckpointSettings): Promise<Figure[]> {
  const large = await inside(runtime, quick ? ["--quick"] : []);
  const small = await inside(runtime, ["10000", "--quick"]);
  const keys = large.keys.toLocaleString("en-US");
  const blocked = (measure: string, figures: Inside["blocked"]): Figure => ({
    measure,
    runtime,
    value: figures.p99Ms,
    unit: "ms",
    goal: "< 5",
    details: {
      "own p99 ms": figures.ownP99Ms,
      "own longest ms": figures.ownMaxMs,
      "the worst": figures.worst,
      n: figures.n,
    },
  });
  return [
    blocked(`loop blocked by a checkpoint, ${keys} keys, 10,000 and 100,000 changed: p99`, large.blocked),
    blocked(`the same, all keys new`, large["all keys new"]),
    {
      measure: `nothing changed, ${keys} keys: bytes a checkpoint writes`,
      runtime,
      value: Math.max(...large.unchangedBytes),
      unit: "bytes",
      goal: `<= ${Math.max(...small.unchangedBytes) + 32}`,
      details: { "with 10,000 keys": Math.max(...small.unchangedBytes) },
    },
    {
      measure: "folder with all the changes there can be: its largest size against 3 x state + 64 MiB",
      runtime,
      value: large.folder.largestBytes / large.folder.boundBytes,
      unit: "",
      goal: "<= 1",
      details: { "largest MB": large.folder.largestBytes / MB, "state MB": large.folder.stateBytes / MB },
    },
  ];
}
