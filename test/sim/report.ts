/** What scripts/sim says of runs. */
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import type { RunReport } from "./work.ts";

const PROGRESS_MS = 10_000;

/** One line: which oracle, when, what, and what to type to see it again. */
export function showViolation({ oracle, timeMs, text }: Violation, replay: string, others = 0): string {
  return `FAIL oracle=${oracle} t=${seconds(timeMs)} ${text}${andMore(others)} | replay: ${replay}`;
}

/** One line for a failed run: its first violation, and how many more there are. */
export function showFailure(what: string, { violations, steps }: RunReport, replay: string): string {
  const { oracle, timeMs, text } = violations[0]!;
  const more = andMore(violations.length - 1);
  return `FAIL ${what} oracle=${oracle} t=${seconds(timeMs)} of ${steps} steps ${text}${more} | replay: ${replay}`;
}

function andMore(others: number): string {
  return others > 0 ? ` (and ${others} more)` : "";
}

function seconds(timeMs: number): string {
  return `${(timeMs / 1000).toFixed(3)}s`;
}

/** Counts over a batch of runs, told now and then and at the end. */
export class Totals {
  readonly faults = new Map<string, number>();
  readonly reached = new Map<string, number>();
  readonly #count: number;
  readonly #what: string;
  readonly #startedMs = performance.now();
  readonly #faultsPerRun: number[] = [];
  readonly #kindsPerRun: number[] = [];
  #done = 0;
  #failed = 0;
  #violations = 0;
  #crashed = 0;
  #virtualMs = 0;
  #cpuMs = 0;
  #steps = 0;
  #toldMs = performance.now();

  /** @param what Runs of what, for people. */
  constructor(what: string, count: number) {
    this.#what = what;
    this.#count = count;
  }

  get violations(): number {
    return this.#violations;
  }

  get faultsMedian(): number {
    return median(this.#faultsPerRun);
  }

  get kindsMedian(): number {
    return median(this.#kindsPerRun);
  }

  get crashedPercent(): number {
    return (100 * this.#crashed) / Math.max(1, this.#done);
  }

  /** Virtual time to time of a core. */
  get ratio(): number {
    return this.#virtualMs / Math.max(1, this.#cpuMs);
  }

  get cpuMinutes(): number {
    return this.#cpuMs / 60_000;
  }

  get virtualHours(): number {
    return this.#virtualMs / 3_600_000;
  }

  add(report: RunReport): void {
    this.#done++;
    this.#violations += report.violations.length;
    if (report.violations.length > 0) this.#failed++;
    if (report.crashed) this.#crashed++;
    this.#virtualMs += report.virtualMs;
    this.#cpuMs += report.cpuMs;
    this.#steps += report.steps;
    const counts = Object.entries(report.faults);
    this.#faultsPerRun.push(counts.reduce((sum, [, n]) => sum + n, 0));
    this.#kindsPerRun.push(counts.length);
    addUp(this.faults, counts);
    addUp(this.reached, Object.entries(report.reached));
    if (performance.now() - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = performance.now();
    console.log(`${this.#done}/${this.#count} ${this.#what}, ${this.#failed} failed, ${this.#speed()}`);
  }

  tell(): void {
    console.log(`faults injected: ${list(this.faults)}`);
    console.log(
      `faults a run: median ${this.faultsMedian}, of ${this.kindsMedian} kinds; ` +
        `${Math.round(this.crashedPercent)} % of runs with a crash`,
    );
    console.log(`calls that failed: ${list(this.#reachedOf("disk|net"))}`);
    console.log(`rare states reached: ${list(this.#reachedOf("rare"))}`);
    const points = [...this.reached.keys()].filter((state) => state.startsWith("point.")).length;
    console.log(`crash points passed: ${points}`);
    console.log(`${this.virtualHours.toFixed(2)} virtual hours, ${this.#steps} steps; ${this.#speed()}`);
  }

  #reachedOf(kinds: string): Map<string, number> {
    const kind = new RegExp(`^(?:${kinds})\\.(.*)`);
    return new Map([...this.reached].flatMap(([state, n]) => (kind.test(state) ? [[kind.exec(state)![1]!, n]] : [])));
  }

  #speed(): string {
    const realMs = performance.now() - this.#startedMs;
    const hours = this.virtualHours / (realMs / 60_000);
    return `${hours.toFixed(2)} virtual hours per real minute, virtual to real ${Math.round(this.ratio)}x per core`;
  }
}

export function addUp(sums: Map<string, number>, counts: Iterable<readonly [string, number]>): void {
  for (const [name, n] of counts) sums.set(name, (sums.get(name) ?? 0) + n);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function list(counts: ReadonlyMap<string, number>): string {
  if (counts.size === 0) return "none";
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, n]) => `${name} ${n}`)
    .join(", ");
}
