/**
 * When a series of sizes counts as flat.
 *
 * What is watched goes up and down: the collector lets garbage grow and removes it, a log grows until it is written anew, a
 * worker that was killed begins at nothing. So the largest value of the last third is compared with the largest one of
 * the third before it. The first third is warming up, and doesn't count.
 */
export interface Verdict {
  readonly flat: boolean;
  /** Largest of the second and of the last third. */
  readonly middleMax: number;
  readonly lastMax: number;
}

/** A series that grows by less than a twentieth and this much from one third to the next is flat. */
export const SLACK_BYTES = 4 * 1024 * 1024;
const GROWTH_MAX = 1.05;
/** Fewer say nothing. */
const SAMPLES_MIN = 9;

/** @param samples In the order of time, equally far apart. `null`: there are too few of them. */
export function judge(samples: readonly number[]): Verdict | null {
  if (samples.length < SAMPLES_MIN) return null;
  const third = Math.floor(samples.length / 3);
  const max = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b), 0);
  const middleMax = max(samples.slice(third, samples.length - third));
  const lastMax = max(samples.slice(samples.length - third));
  return { flat: lastMax <= middleMax * GROWTH_MAX + SLACK_BYTES, middleMax, lastMax };
}
