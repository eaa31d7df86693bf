/** What scripts/sim says of runs. */
import type { Violation } from "../../src/simulation/oracles/oracle.ts";
import type { SeedReport } from "./batch.ts";

const PROGRESS_MS = 10_000;

/** One line: which oracle, when, what, and what to type to see it again. */
export function showViolation({ oracle, timeMs, text }: Violation, replay: string): string {
  return `FAIL oracle=${oracle} t=${(timeMs / 1000).toFixed(3)}s ${text} | replay: ${replay}`;
}

/** One line a failed run: its first violation, and how many more there are. */
export function showFailure({ seed, violations, steps }: SeedReport): string[] {
  const [first] = violations;
  if (first === undefined) return [];
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : "";
  const { oracle, timeMs, text } = first;
  const when = `t=${(timeMs / 1000).toFixed(3)}s of ${steps} steps`;
  return [`FAIL seed=${seed} oracle=${oracle} ${when} ${text}${more} | replay: scripts/sim replay --seed ${seed}`];
}

/** Counts over a batch of runs, told now and then and at the end. */
export class Progress {
  readonly #count: number;
  readonly #startedMs = performance.now();
  readonly #faults = new Map<string, number>();
  readonly #reached = new Map<string, number>();
  readonly #faultsPerRun: number[] = [];
  readonly #kindsPerRun: number[] = [];
  #done = 0;
  #failed = 0;
  #crashed = 0;
  #virtualMs = 0;
  #cpuMs = 0;
  #steps = 0;
  #toldMs = performance.now();

  constructor(count: number) {
    this.#count = count;
  }

  add(report: SeedReport): void {
    this.#done++;
    if (report.violations.length > 0) this.#failed++;
    if (report.crashed) this.#crashed++;
    this.#virtualMs += report.virtualMs;
    this.#cpuMs += report.cpuMs;
    this.#steps += report.steps;
    const counts = Object.entries(report.faults);
    this.#faultsPerRun.push(counts.reduce((sum, [, n]) => sum + n, 0));
    this.#kindsPerRun.push(counts.length);
    for (const [kind, n] of counts) this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + n);
    for (const [state, n] of Object.entries(report.reached))
      this.#reached.set(state, (this.#reached.get(state) ?? 0) + n);
    if (performance.now() - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = performance.now();
    console.log(`${this.#done}/${this.#count} seeds, ${this.#failed} failed, ${this.#speed()}`);
  }

  end(): void {
    console.log(`faults injected: ${list(this.#faults)}`);
    console.log(
      `faults a run: median ${median(this.#faultsPerRun)}, of ${median(this.#kindsPerRun)} kinds; ` +
        `${Math.round((100 * this.#crashed) / Math.max(1, this.#done))} % of runs with a crash`,
    );
    const states = new Map(
      [...this.#reached].filter(([state]) => !state.startsWith("point.") && !state.startsWith("log.")),
    );
    console.log(`rare states reached: ${list(states)}`);
    const points = [...this.#reached.keys()].filter((state) => state.startsWith("point.")).length;
    console.log(`crash points passed: ${points}`);
    console.log(`${(this.#virtualMs / 3_600_000).toFixed(2)} virtual hours, ${this.#steps} steps; ${this.#speed()}`);
  }

  #speed(): string {
    const realMs = performance.now() - this.#startedMs;
    const hours = this.#virtualMs / 3_600_000 / (realMs / 60_000);
    const ratio = this.#virtualMs / Math.max(1, this.#cpuMs);
    return `${hours.toFixed(2)} virtual hours per real minute, virtual to real ${Math.round(ratio)}x per core`;
  }
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
