/**
 * The long run behind `scripts/soak`: three workers of real processes under load, one of them killed now and then; memory,
 * folders and totals are looked at. Whatever happens, and on Ctrl-C, its processes are ended and its files removed.
 */
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Prng } from "../../src/base/prng.ts";
import { readBalances } from "../cluster/lib/balances.ts";
import { Cluster } from "../cluster/lib/cluster.ts";
import { ask } from "../cluster/lib/external.ts";
import { sleep, waitFor } from "../cluster/lib/wait.ts";
import { judge } from "./flat.ts";

const WORKERS = 3;
const ACCOUNTS = 20_000;
/** Transfers a second and worker. */
const RATE = 2_000;
const SAMPLE_MS = 1_000;
const ROW_MS = 10_000;
/** Shorter runs judge the totals alone: workers are warm, and logs written anew, after a few minutes. */
const JUDGED_FROM_MINUTES = 5;
const STATUS_REQUEST = 1003;
const MIB = 1024 * 1024;
/** Never killed: memory that leaks shows only in a process that lives. It goes through every recovery of the others. */
const SPARED = 2;

const root = resolve(import.meta.dirname, "../..");
const say = (line: string): void => {
  writeSync(1, `${line}\n`);
};

interface Settings {
  readonly minutes: number;
  readonly restartEveryMs: number;
  readonly seed: bigint;
}

function usage(problem: string): never {
  console.error(`scripts/soak: ${problem}`);
  console.error("Usage: scripts/soak [--minutes 10] [--restart-every 30s] [--seed N]");
  process.exit(2);
}

function readSettings(): Settings {
  const options = {
    minutes: { type: "string", default: "10" },
    "restart-every": { type: "string", default: "30s" },
    seed: { type: "string", default: `${Date.now()}` },
  } as const;
  try {
    const { values } = parseArgs({ options });
    const minutes = Number(values.minutes);
    const every = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(values["restart-every"]);
    if (!(minutes > 0 && minutes <= 10_000)) usage(`--minutes ${values.minutes}: expected a number above 0`);
    if (every === null) usage(`--restart-every ${values["restart-every"]}: expected a time, such as 30s`);
    const restartEveryMs = Number(every[1]) * { ms: 1, s: 1_000, m: 60_000 }[every[2] as "ms" | "s" | "m"];
    if (restartEveryMs < 500) usage("--restart-every is half a second at least");
    return { minutes, restartEveryMs, seed: BigInt(values.seed) };
  } catch (error) {
    return usage((error as Error).message);
  }
}

/** Of all files below a folder. */
function bytesBelow(folder: string): number {
  let bytes = 0;
  try {
    for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      const stat = statSync(join(folder, name), { throwIfNoEntry: false });
      if (stat?.isFile() === true) bytes += stat.size;
    }
  } catch {
    // It is not there yet, or goes just now.
  }
  return bytes;
}

/** Writes one worker's input; `expected` gets the balances that come of it. */
function writeTransfers(path: string, count: number, random: Prng, expected: Map<string, number>): void {
  const file = openSync(path, "w");
  try {
    for (let written = 0; written < count; ) {
      let text = "";
      for (const end = Math.min(count, written + 10_000); written < end; written++) {
        const account = `a${random.int(ACCOUNTS)}`;
        const amount = random.int(200) - 80;
        expected.set(account, (expected.get(account) ?? 0) + amount);
        text += `{"account":"${account}","amount":${amount}}\n`;
      }
      writeSync(file, text);
    }
  } finally {
    closeSync(file);
  }
}

/** Encoded state of each worker, by name; empty: nobody answered. */
async function stateBytes(cluster: Cluster): Promise<ReadonlyMap<string, number>> {
  try {
    const { text } = await ask(cluster.place(SPARED).external, STATUS_REQUEST, "", 1_000);
    const { workers } = JSON.parse(text) as { workers: Record<string, { checkpoint: { state_bytes: number } }> };
    return new Map(Object.entries(workers).map(([name, { checkpoint }]) => [name, checkpoint.state_bytes]));
  } catch {
    return new Map();
  }
}

const settings = readSettings();
const folder = mkdtempSync(join(tmpdir(), "tammar-soak-"));
let cluster: Cluster | null = null;
/** By name of a file of the output, what was found there last. */
const counted = new Map<string, { readonly size: number; readonly lines: number }>();

async function cleanUp(): Promise<void> {
  await cluster?.close();
  rmSync(folder, { recursive: true, force: true });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    void cleanUp().then(() => {
      say(`Stopped by ${signal}: all processes are ended, all files removed.`);
      process.exit(130);
    });
  });
}

async function soak(): Promise<boolean> {
  const { minutes, restartEveryMs, seed } = settings;
  const random = new Prng(seed, "soak");
  const input = (index: number): string => join(folder, `transfers-${index}.ndjson`);
  const output = join(folder, "balances");
  const expected = new Map<string, number>();
  const each = Math.ceil(minutes * 60 * RATE);
  say(
    `Soak: ${WORKERS} workers, ${minutes} minutes, one of the first two killed every ${restartEveryMs / 1_000} s; --seed ${seed}`,
  );
  say(`Input: ${WORKERS} files of ${each} transfers among ${ACCOUNTS} accounts, ${RATE} a second each.`);
  for (let index = 0; index < WORKERS; index++) writeTransfers(input(index), each, random, expected);

  const extra = (index: number) => ["--input", input(index), "--output", output, "--rate", `${RATE}`];
  const made = await Cluster.make({
    application: join(root, "test/soak/application.ts"),
    workers: WORKERS,
    sink: null,
    extra,
  });
  cluster = made;
  await made.startAll();

  const memory: number[][] = made.places.map(() => []);
  const folders: number[][] = made.places.map(() => []);
  let beyond = "";
  let restarts = 0;
  const began = performance.now();
  const shown = (bytes: number): string => (bytes / MIB).toFixed(1).padStart(9);
  const clock = (): string => {
    const seconds = Math.round((performance.now() - began) / 1_000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`.padStart(7);
  };
  const sample = async (): Promise<void> => {
    const states = await stateBytes(made);
    made.places.forEach(({ name }, index) => {
      const program = made.program(index);
      const bytes = program.end === null ? program.residentBytes() : Number.NaN;
      // A worker that is away has no memory; the series goes on.
      memory[index]!.push(Number.isNaN(bytes) ? (memory[index]!.at(-1) ?? 0) : bytes);
      const files = bytesBelow(join(made.dir, "Soak", name));
      folders[index]!.push(files);
      const bound = 3 * (states.get(name) ?? Number.POSITIVE_INFINITY) + 64 * MIB;
      if (files > bound)
        beyond = `${name} had ${(files / MIB).toFixed(1)} MiB, ${(bound / MIB).toFixed(1)} are allowed`;
    });
  };

  say("");
  say(`   time   memory, MiB: ${made.places.map(({ name }) => name).join(", ")}   folder, MiB: the same   restarts`);
  const end = began + minutes * 60_000;
  let nextRestart = began + restartEveryMs;
  let nextRow = began + ROW_MS;
  for (let now = performance.now(); now < end; now = performance.now()) {
    await sample();
    if (now >= nextRow) {
      nextRow += ROW_MS;
      const last = (series: readonly number[][]): string => series.map((one) => shown(one.at(-1) ?? 0)).join("");
      say(`${clock()} ${last(memory)}    ${last(folders)}    ${String(restarts).padStart(4)}`);
    }
    if (now >= nextRestart) {
      nextRestart += restartEveryMs;
      const victim = random.int(SPARED);
      await made.program(victim).kill();
      made.start(victim);
      await made.waitReady(30_000);
      restarts++;
    }
    await sleep(Math.max(0, SAMPLE_MS - (performance.now() - now)));
  }

  const total = WORKERS * each;
  say(`${clock()}  Waiting for the end of the input ...`);
  // What a recovery has taken is made up for afterwards.
  await waitFor(() => visible(output) >= total, {
    what: `all ${total} transfers to come out`,
    deadlineMs: 60_000 + minutes * 60_000,
    everyMs: 500,
    seen: () => `${visible(output)} are there\n${made.tails()}`,
  });
  const found = readBalances(output);
  const wrong = [...expected].filter(([account, balance]) => found.balances.get(account) !== balance).length;
  const isExact = found.total === total && wrong === 0 && found.balances.size === expected.size;
  const stopped = (await made.shutdownThrough(1)).status;
  const statuses = await made.exits();
  const left = made.files();
  const isClean = stopped === 0 && statuses.every((status) => status === 0) && left.length === 0;

  say("");
  say(
    `totals: ${found.total} lines for ${total} transfers, ${wrong} of ${expected.size} balances wrong: ${isExact ? "exact" : "WRONG"}`,
  );
  say(
    `shutdown: exit status ${stopped}; of the workers ${statuses.join(", ")}; ${left.length} files left: ${isClean ? "clean" : "NOT CLEAN"}`,
  );
  say(`folder: ${beyond === "" ? "never above 3 x state + 64 MiB" : `TOO LARGE: ${beyond}`}`);
  let isFlat = true;
  if (minutes < JUDGED_FROM_MINUTES) {
    say(`memory and folder: not judged, ${JUDGED_FROM_MINUTES} minutes are needed for that`);
  } else {
    say(
      "flat: the last third is at most a twentieth and 4 MiB above the third before it, memory by its median, folders by their",
    );
    say("largest size");
    for (const [what, series, by] of [
      ["memory", memory, "median"],
      ["folder", folders, "largest"],
    ] as const) {
      made.places.forEach(({ name }, index) => {
        const verdict = judge(series[index]!, by);
        if (verdict === null) return;
        if (!verdict.flat) isFlat = false;
        const spared = index === SPARED ? " (never killed)" : "";
        const values = `${shown(verdict.middle).trim()} MiB, then ${shown(verdict.last).trim()} MiB`;
        const peak = shown(series[index]!.reduce((a, b) => Math.max(a, b), 0)).trim();
        say(`${what} of ${name}${spared}: ${values}, at most ${peak}: ${verdict.flat ? "flat" : "NOT FLAT"}`);
      });
    }
  }
  const isGood = isExact && isClean && isFlat && beyond === "";
  say(`${restarts} restarts in ${clock().trim()}: ${isGood ? "passed" : "FAILED"}`);
  return isGood;
}

/** Lines that are visible. */
function visible(output: string): number {
  let lines = 0;
  for (const name of readdirSync(output)) {
    if (name.startsWith(".")) continue;
    const path = join(output, name);
    // A file that was joined has the name of its first part.
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    let known = counted.get(name);
    if (known === undefined || known.size !== size) {
      known = { size, lines: linesOf(path) };
      counted.set(name, known);
    }
    lines += known.lines;
  }
  return lines;
}

function linesOf(path: string): number {
  const bytes = readFileSync(path);
  let lines = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
  return lines;
}

let isGood = false;
try {
  isGood = await soak();
} catch (error) {
  say(`FAILED: ${(error as Error).message}`);
} finally {
  await cleanUp();
}
process.exit(isGood ? 0 : 1);
