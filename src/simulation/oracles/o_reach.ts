/**
 * O-REACH: over a batch of runs, every rare state that applies was reached so often that its absence could not be luck. A
 * batch that never got into a corner has shown nothing about it.
 */
import { applicableStates, describeRareState, type RareState } from "../rare_states.ts";
import type { Violation } from "./oracle.ts";

/** Over one batch. */
export const REACHED_MIN = 20;

/**
 * @param reached How often, over all runs: names of `Observation.reached`.
 * @param timeMs Virtual time of all runs.
 */
export function checkReached(
  reached: ReadonlyMap<string, number>,
  timeMs: number,
  states: readonly RareState[] = applicableStates(),
): Violation[] {
  return states.flatMap((state): Violation[] => {
    const times = reached.get(`rare.${state}`) ?? 0;
    if (times >= REACHED_MIN) return [];
    const text = `${state} (${describeRareState(state).what}) was reached ${times} times, at least ${REACHED_MIN} are asked`;
    return [{ oracle: "O-REACH", timeMs, text }];
  });
}
