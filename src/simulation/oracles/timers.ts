/**
 * O-MEM, of timers: a worker waits for few of them, however long it runs. One that is not cleared does no harm by itself, but
 * whoever forgets one each time has thousands after a day.
 */
import type { Observation } from "../observation.ts";
import type { Scenario } from "../scenario.ts";
import { SUITE } from "../suite.ts";
import type { Oracle, Violation } from "./oracle.ts";

export const oTimers: Oracle = { id: "O-MEM", check };

/** One for all deadlines of a channel, one for each thing that is asked, drained, paced or tried again. */
const TIMERS_MAX = 40;
/** A flood of strangers, and another one before it is over. */
const CLIENTS_MAX = 160;

function check({ samples }: Observation, scenario: Scenario): Violation[] {
  // Of a source of connector programs, each client that has not said who it is has a deadline of its own.
  const clients = SUITE[scenario.application].programs === true ? CLIENTS_MAX : 0;
  const many = samples.find(({ timers }) => timers !== null && timers > TIMERS_MAX + clients);
  if (many === undefined) return [];
  const text = `${many.worker} waits for ${many.timers} timers, ${TIMERS_MAX} is the most`;
  return [{ oracle: "O-MEM", timeMs: many.timeMs, text }];
}
