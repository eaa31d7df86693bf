/**
 * O-LIVE, of tries: whoever cannot reach another one waits between two of them, longer each time. A loop that does not
 * converges as well, and meanwhile it takes the machine away from all others.
 */
import type { Observation } from "../observation.ts";
import type { Oracle, Violation } from "./oracle.ts";

export const oRetries: Oracle = { id: "O-LIVE", check };

/**
 * Of one worker to another machine in one second. Each of its links begins again with short waits when a connection of some
 * age is lost or the address is another one, and there are two or three of them; a chain of cuts does that several times.
 */
const TRIES_MAX = 40;

function check({ connects }: Observation): Violation[] {
  for (const { from, to, secondMs, count } of connects) {
    if (count <= TRIES_MAX) continue;
    const text = `${from} tried to connect to ${to} ${count} times in the second from ${secondMs} ms, ${TRIES_MAX} is the most`;
    return [{ oracle: "O-LIVE", timeMs: secondMs, text }];
  }
  return [];
}
