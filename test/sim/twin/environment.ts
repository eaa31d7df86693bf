/** Machines of a twin that run no worker: sink, senders, operator, strangers. Their processes are parts of this one. */
import type { Address, Conn, Listener, ListenOptions, Millis, Runtime } from "../../../src/runtime/runtime.ts";
import type { StageProcess } from "../../../src/simulation/stage.ts";
import { dialThrough } from "./dial.ts";

export interface EnvironmentOptions {
  readonly machine: string;
  readonly proxy: Address;
  readonly runtime: Runtime;
  /** Where a listener on this port has to be; null: anywhere, and it is made known. */
  readonly placeOf: (port: number) => Address | null;
  /** Makes it known where a port of this machine really is; null: nowhere any more. */
  readonly bound: (port: number, real: Address | null) => void;
  readonly failed: (error: unknown) => void;
}

/** Code with a runtime of its own, all of whose connections, listeners and timers end with it. */
export class EnvironmentProcess implements StageProcess {
  readonly exited = null;
  #alive = true;
  readonly #options: EnvironmentOptions;
  readonly #connections = new Set<Conn>();
  /** The port that each made known; null: none. */
  readonly #listeners = new Map<Listener, number | null>();
  readonly #timers = new Set<() => void>();

  constructor(main: (runtime: Runtime) => unknown, options: EnvironmentOptions) {
    this.#options = options;
    const { runtime, machine, proxy } = options;
    const connect = dialThrough(runtime, proxy, machine);
    const own: Runtime = {
      ...runtime,
      clock: { ...runtime.clock, startTimer: (delayMs, fire) => this.#startTimer(delayMs, fire) },
      net: {
        listen: (wanted) => this.#listen(wanted),
        connect: async (address, settings) => this.#keep(await connect(address, settings)),
      },
    };
    Promise.resolve()
      .then(() => main(own))
      .catch((error: unknown) => {
        if (this.#alive) options.failed(error);
      });
  }

  get alive(): boolean {
    return this.#alive;
  }

  kill(): void {
    this.#alive = false;
    for (const conn of this.#connections) conn.abort();
    for (const [listener, port] of this.#listeners) {
      listener.close();
      if (port !== null) this.#options.bound(port, null);
    }
    for (const cancel of this.#timers) cancel();
  }

  signal(): never {
    throw new Error("A part of the environment takes no signals");
  }

  pause(): never {
    throw new Error("A part of the environment cannot be stopped");
  }

  #keep(conn: Conn): Conn {
    if (this.#alive) this.#connections.add(conn);
    else conn.abort();
    return conn;
  }

  #startTimer(delayMs: Millis, fire: () => void): () => void {
    const cancel = this.#options.runtime.clock.startTimer(delayMs, () => {
      this.#timers.delete(cancel);
      if (this.#alive) fire();
    });
    this.#timers.add(cancel);
    return () => {
      this.#timers.delete(cancel);
      cancel();
    };
  }

  async #listen(wanted: ListenOptions): Promise<Listener> {
    const place = this.#options.placeOf(wanted.port);
    const listener = await this.#options.runtime.net.listen({
      ...(place ?? { host: "127.0.0.1", port: 0 }),
      accept: (conn) => wanted.accept(this.#keep(conn)),
      failed: wanted.failed,
    });
    this.#listeners.set(listener, place === null ? wanted.port : null);
    if (place === null) this.#options.bound(wanted.port, listener.address);
    if (!this.#alive) this.kill();
    return listener;
  }
}
