/**
 * O-ACK: what a connector program was told to be safe is safe. Programs are strict: a worker that asks again for something
 * that was acknowledged, acknowledges less than before, or more than was sent, is found out at once. And at the end every program
 * was told that all of its records are safe.
 *
 * A sender to a TCP source that acknowledges is a program too (`acknowledged`): it forgets what it was told to be safe, and never sends
 * it again, so what is lost of it is missing for ever.
 *
 * Whether what is acknowledged is processed once is O-SEQ's and O-MODEL's to say.
 */
import type { Oracle, Violation } from "./oracle.ts";

export const oAck: Oracle = {
  id: "O-ACK",
  check(observation) {
    const violations: Violation[] = [];
    for (const { name, violations: said, finished } of observation.programs) {
      for (const text of said.slice(0, 1)) {
        violations.push({ oracle: "O-ACK", timeMs: observation.timeMs, text: `${name}: ${text}` });
      }
      if (observation.ending?.quietMs == null || finished) continue;
      const text = `${name} was not told that all of its records are safe`;
      violations.push({ oracle: "O-ACK", timeMs: observation.timeMs, text });
    }
    return violations;
  },
};
