/**
 * When a series of sizes counts as flat: the last third of it is compared with the third before it; the first third is warming
 * up, and doesn't count.
 *
 * Folders are compared by their largest size: a log grows until it is written anew. Memory is compared by its median: during a
 * recovery a worker holds two states for a moment, and how high that peak gets is the collector's mood, while what leaks
 * stays, and lifts everything.
 */
export interface Verdict {
  readonly flat: boolean;
  /** Of the second and of the last third: the median, or the largest. */
  readonly middle: number;
  readonly last: number;
}

/** A series that grows by less than a twentieth and this much from one third to the next is flat. */
export const SLACK_BYTES = 4 * 1024 * 1024;
const GROWTH_MAX = 1.05;
/** Fewer say nothing. */
const SAMPLES_MIN = 9;

/** @param samples In the order of time, equally far apart. `null`: there are too few of them. */
export function judge(samples: readonly number[], by: "median" | "largest"): Verdict | null {
  if (samples.length < SAMPLES_MIN) return null;
  const third = Math.floor(samples.length / 3);
  const of = (values: readonly number[]): number => {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[by === "largest" ? sorted.length - 1 : sorted.length >> 1]!;
  };
  const middle = of(samples.slice(third, samples.length - third));
  const last = of(samples.slice(samples.length - third));
  return { flat: last <= middle * GROWTH_MAX + SLACK_BYTES, middle, last };
}
