/** O-DET: the same scenario and code give the same run, on every runtime. */
import type { Violation } from "./oracle.ts";

/** What two runs of one scenario must agree in. */
export interface RunTrace {
  readonly traceHash: string;
  readonly steps: number;
  readonly virtualMs: number;
}

export function compareRuns(first: RunTrace, second: RunTrace): Violation[] {
  const show = ({ traceHash, steps, virtualMs }: RunTrace) => `${traceHash} after ${steps} steps and ${virtualMs} ms`;
  if (show(first) === show(second)) return [];
  const text = `two runs of one scenario differ: ${show(first)}, ${show(second)}`;
  return [{ oracle: "O-DET", timeMs: Math.min(first.virtualMs, second.virtualMs), text }];
}
