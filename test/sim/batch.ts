/**
 * Many seeds, over several processes of this runtime. A child runs every `jobs`-th seed and says a line of JSON for each;
 * the parent puts them in order, so that the result does not depend on how many there are.
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { generateScenario } from "../../src/simulation/generate.ts";
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import { type FaultKind, showSeed } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

/** What a child says of one run. */
export interface SeedReport {
  readonly seed: string;
  readonly traceHash: string;
  readonly steps: number;
  readonly virtualMs: number;
  readonly cpuMs: number;
  readonly crashed: boolean;
  readonly faults: Readonly<Record<string, number>>;
  readonly reached: Readonly<Record<string, number>>;
  readonly violations: readonly Violation[];
}

/** What mends something is no fault. */
const MENDING: readonly FaultKind[] = ["start", "start_all", "restore", "heal"];

export async function runSeed(seed: bigint): Promise<SeedReport> {
  const before = process.cpuUsage();
  const result = await execute(generateScenario(seed));
  const { user, system } = process.cpuUsage(before);
  return {
    seed: showSeed(seed),
    traceHash: result.traceHash,
    steps: result.steps,
    virtualMs: result.virtualMs,
    cpuMs: (user + system) / 1000,
    crashed: result.crashed,
    faults: Object.fromEntries([...result.faults].filter(([kind]) => !MENDING.includes(kind))),
    reached: Object.fromEntries(result.reached),
    violations: result.violations,
  };
}

/** Seeds in a row. */
export function seedsFrom(first: bigint, count: number): bigint[] {
  return Array.from({ length: count }, (_, i) => BigInt.asUintN(64, first + BigInt(i)));
}

/**
 * Has `count` pieces of work done by `jobs` children, each of which does every `jobs`-th and says a line of JSON for each, and
 * calls `each` in the order of pieces.
 *
 * @param args What makes a child know the work; it gets its own number and `jobs` behind.
 * @throws {Error} A child died.
 */
export async function share<T>(
  args: readonly string[],
  count: number,
  jobs: number,
  each: (report: T) => void,
  runtime?: Runtime,
): Promise<void> {
  const waiting: T[][] = Array.from({ length: jobs }, () => []);
  let next = 0;
  const drain = (): void => {
    for (; next < count; next++) {
      const report = waiting[next % jobs]!.shift();
      if (report === undefined) return;
      each(report);
    }
  };
  await Promise.all(
    waiting.map((queue, job) => {
      const take = (line: string): void => {
        queue.push(JSON.parse(line) as T);
        drain();
      };
      return child([...args, String(job), String(jobs)], take, runtime);
    }),
  );
  if (next < count) throw new Error(`${count - next} of ${count} runs are missing`);
}

/** The child's side of `share`. */
export async function doShare<W, T>(work: readonly W[], job: number, jobs: number, run: (piece: W) => Promise<T>) {
  for (let i = job; i < work.length; i += jobs) process.stdout.write(`${JSON.stringify(await run(work[i]!))}\n`);
}

export type Runtime = "bun" | "deno";

/** Starts this program again and hands over each line it says. */
function child(args: readonly string[], line: (text: string) => void, runtime?: Runtime): Promise<void> {
  const isDeno = runtime === undefined ? "Deno" in globalThis : runtime === "deno";
  const runtimeArgs = isDeno ? ["run", "-A", "--no-check"] : [];
  const main = fileURLToPath(new URL("./main.ts", import.meta.url));
  const executable =
    runtime === undefined
      ? process.execPath
      : fileURLToPath(new URL(`../../node_modules/.bin/${runtime}`, import.meta.url));
  return new Promise((resolve, reject) => {
    const started = spawn(executable, [...runtimeArgs, main, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    let rest = "";
    started.stdout.setEncoding("utf8");
    started.stdout.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const text of lines) line(text);
    });
    started.on("error", reject);
    started.on("close", (status, signal) => {
      if (status === 0) resolve();
      else reject(new Error(`a process of the simulator ended with ${status ?? signal}`));
    });
  });
}

/** Of the hashes of runs, in order. */
export class HashOfHashes {
  #a = 0x811c_9dc5 | 0;
  #b = 0x9e37_79b9 | 0;

  add(hash: string): void {
    for (let at = 0; at < hash.length; at++) {
      this.#a = Math.imul(this.#a ^ hash.charCodeAt(at), 0x0100_0193);
      this.#b = Math.imul(((this.#b << 13) | (this.#b >>> 19)) ^ hash.charCodeAt(at), 0x85eb_ca6b);
    }
  }

  get hex(): string {
    return (this.#a >>> 0).toString(16).padStart(8, "0") + (this.#b >>> 0).toString(16).padStart(8, "0");
  }
}
