/** A sink without a protocol: listens, reads as long as it is asked to, and tells every whole line. */
import type { Address, Conn, Runtime } from "../../runtime/runtime.ts";

export interface SinkEvents {
  /** @returns The connection's number, over all lives of the sink. */
  readonly opened: (peer: Address) => number;
  readonly line: (connection: number, line: string) => void;
  /** `ended`: the peer closed it in order. `rest`: what came of a line that never became whole. */
  readonly closed: (connection: number, how: "ended" | "cut", rest: string) => void;
}

export class PlainSink {
  readonly #events: SinkEvents;
  #paused = false;
  #waiting: (() => void)[] = [];

  constructor(events: SinkEvents) {
    this.#events = events;
  }

  /** Listens, in the process that `runtime` belongs to. */
  async listen(runtime: Runtime, address: Address): Promise<Address> {
    const listener = await runtime.net.listen({
      ...address,
      accept: (conn) => void this.#read(conn, this.#events.opened(conn.peer)),
      failed: () => {},
    });
    return listener.address;
  }

  /** Stops reading; connections stay. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }

  async #read(conn: Conn, number: number): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for (;;) {
        while (this.#paused) await new Promise<void>((resolve) => this.#waiting.push(resolve));
        const bytes = await conn.read();
        if (bytes === null) break;
        const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
        rest = parts.pop()!;
        for (const line of parts) this.#events.line(number, line);
      }
      conn.end();
    } catch {
      return this.#events.closed(number, "cut", rest);
    }
    this.#events.closed(number, "ended", rest);
  }
}
