/** Figures to a table on the screen and to `bench/results/<name>.json`. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { bun, deno, root } from "./subject.ts";

export interface Figure {
  /** What was measured, the key count named. */
  readonly measure: string;
  readonly runtime: string;
  readonly value: number;
  readonly unit: string;
  /** Every single value behind the median. */
  readonly samples?: readonly number[];
  /** As the table shows it: `>= 0.75`, `< 5`; left out where a figure is only reported. */
  readonly goal?: string;
  /** Whatever explains the figure: CPU time a record, rates. */
  readonly details?: Readonly<Record<string, number | string>>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function percentile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** `null` where there is no goal. */
export function isMet({ goal, value }: Figure): boolean | null {
  const match = goal === undefined ? null : /^(>=|<=|<|>) ([\d.]+)$/.exec(goal);
  if (match === null) return null;
  const bound = Number(match[2]);
  switch (match[1]) {
    case ">=":
      return value >= bound;
    case "<=":
      return value <= bound;
    case "<":
      return value < bound;
    default:
      return value > bound;
  }
}

function show(value: number): string {
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString("en-US");
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

export function printTable(figures: readonly Figure[]): void {
  const rows = figures.map((figure) => {
    const met = isMet(figure);
    const samples = figure.samples ?? [];
    const range =
      samples.length > 1 ? `${show(Math.min(...samples))} to ${show(Math.max(...samples))}, n=${samples.length}` : "";
    return [
      figure.measure,
      figure.runtime,
      `${show(figure.value)}${figure.unit === "" ? "" : ` ${figure.unit}`}`,
      range,
      figure.goal ?? "",
      met === null ? "" : met ? "met" : "MISSED",
      Object.entries(figure.details ?? {})
        .map(([name, value]) => `${name} ${typeof value === "number" ? show(value) : value}`)
        .join(", "),
    ];
  });
  const table = [["measure", "runtime", "median", "range", "goal", "", "details"], ...rows];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => (row[column] as string).length))) ?? [];
  for (const row of table) {
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] as number))
        .join("  ")
        .trimEnd(),
    );
  }
}

function versionOf(file: string, args: readonly string[]): string {
  try {
    return execFileSync(file, args, { encoding: "utf8" }).split("\n")[0]?.trim() ?? "";
  } catch {
    return "unknown";
  }
}

export function writeResults(name: string, command: string, quick: boolean, figures: readonly Figure[]): void {
  const folder = join(root, "bench/results");
  mkdirSync(folder, { recursive: true });
  const result = {
    name,
    command,
    quick,
    date: new Date().toISOString(),
    commit: versionOf("git", ["-C", root, "describe", "--always", "--dirty", "--abbrev=12"]),
    machine: {
      cpu: cpus()[0]?.model ?? "unknown",
      cores: cpus().length,
      memoryBytes: totalmem(),
      system: `${process.platform} ${release()} ${process.arch}`,
    },
    runtimes: { bun: versionOf(bun, ["--version"]), deno: versionOf(deno, ["--version"]) },
    figures: figures.map((figure) => ({ ...figure, met: isMet(figure) })),
  };
  writeFileSync(join(folder, `${name}${quick ? ".quick" : ""}.json`), `${JSON.stringify(result, null, 2)}\n`);
}
