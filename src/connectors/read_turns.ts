import type { Clock, Millis } from "../runtime/runtime.ts";

/** How long may be read before timers, acknowledgements and other sockets get their turn. */
const TURN_MS: Millis = 1;

export interface ReadConnection {
  /** `yielding`: a chunk was read, and is taken in at the next turn of the event loop. */
  phase: "idle" | "reading" | "yielding";
}

/**
 * When a source goes on with a connection on which a chunk has come: at once, or, as reads may complete at once for as long as the
 * clients keep up, when the event loop has had its turn in between.
 */
export class ReadTurns<C extends ReadConnection> {
  readonly #clock: Clock;
  readonly #goOn: (connection: C) => void;
  /** When the event loop had its turn last. */
  #sinceMs: Millis = 0;

  /** @param goOn Its phase is `idle` then. */
  constructor(clock: Clock, goOn: (connection: C) => void) {
    this.#clock = clock;
    this.#goOn = goOn;
  }

  arrived(connection: C): void {
    if (this.#clock.monotonicMs() - this.#sinceMs <= TURN_MS) {
      connection.phase = "idle";
      this.#goOn(connection);
      return;
    }
    connection.phase = "yielding";
    this.#clock.soon(() => {
      connection.phase = "idle";
      this.#sinceMs = this.#clock.monotonicMs();
      this.#goOn(connection);
    });
  }
}
