/**
 * Many seeds, over several processes of this runtime. A child runs every `jobs`-th seed and says a line of JSON for each;
 * the parent puts them in order, so that the result does not depend on how many there are.
 */
import { spawn } from "node:child_process";
import process from "node:process";
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

/** The child's side. */
export async function sayEvery(seeds: readonly bigint[]): Promise<void> {
  for (const seed of seeds) process.stdout.write(`${JSON.stringify(await runSeed(seed))}\n`);
}

/** Seeds in a row, as `jobs` children share them. */
export function seedsFrom(first: bigint, count: number): bigint[] {
  return Array.from({ length: count }, (_, i) => BigInt.asUintN(64, first + BigInt(i)));
}

/** Runs them all and calls `each` in the order of seeds. @throws {Error} A child died. */
export async function runSeeds(
  first: bigint,
  count: number,
  jobs: number,
  each: (report: SeedReport) => void | Promise<void>,
): Promise<void> {
  if (jobs <= 1) {
    for (const seed of seedsFrom(first, count)) await each(await runSeed(seed));
    return;
  }
  const waiting: SeedReport[][] = Array.from({ length: jobs }, () => []);
  let next = 0;
  let chain = Promise.resolve();
  const drain = (): void => {
    while (next < count) {
      const report = waiting[next % jobs]!.shift();
      if (report === undefined) return;
      next++;
      chain = chain.then(() => each(report));
    }
  };
  await Promise.all(
    waiting.map((queue, job) => {
      const args = ["--child", showSeed(first), String(count), String(job), String(jobs)];
      return child(args, (line) => {
        queue.push(JSON.parse(line) as SeedReport);
        drain();
      });
    }),
  );
  await chain;
  if (next < count) throw new Error(`${count - next} seeds were not run`);
}

/** Starts this program again and hands over each line it says. */
export function child(args: readonly string[], line: (text: string) => void): Promise<void> {
  const runtimeArgs = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const main = new URL("./main.ts", import.meta.url).pathname;
  return new Promise((resolve, reject) => {
    const started = spawn(process.execPath, [...runtimeArgs, main, ...args], { stdio: ["ignore", "pipe", "inherit"] });
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
