/**
 * An oracle asserts one property of a run, from outside: it sees the observation and the scenario, never the system. If it
 * cannot hold by design in some situation, the reason stands beside the exception.
 */
import type { Millis } from "../../runtime/runtime.ts";
import type { Observation } from "../observation.ts";
import type { OracleId, Scenario } from "../scenario.ts";

export interface Violation {
  readonly oracle: OracleId;
  readonly timeMs: Millis;
  /** One line: what was expected, what is the case. */
  readonly text: string;
}

export interface Oracle {
  readonly id: OracleId;
  /** Looks at the whole run. An oracle reports its first few violations, not all of them. */
  readonly check: (observation: Observation, scenario: Scenario) => Violation[];
  /**
   * Looks after each virtual second, at what must hold at any time: makes what it remembers for one run, and returns what is
   * called. A violation ends the run.
   */
  readonly during?: (observation: Observation, scenario: Scenario) => () => Violation[];
}

/** Violations of one kind that a check reports at most. */
export const REPORTED_MAX = 5;
