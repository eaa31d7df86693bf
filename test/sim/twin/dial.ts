/**
 * How everybody in a twin connects: to its proxy, with a line that says who dials whom, `w1 127.0.0.1:7000`. The proxy
 * connects there and answers `+`, or `-` when nobody listens; while the way is blocked it answers nothing, as a network would.
 */
import { netError } from "../../../src/runtime/_net_error.ts";
import type { Address, Conn, ConnectOptions, Net, Runtime } from "../../../src/runtime/runtime.ts";

export const DIAL_LINE_MAX = 256;
const ACCEPTED = "+".charCodeAt(0);

/** @param client Name of the machine that dials. */
export function dialThrough(runtime: Runtime, proxy: Address, client: string): Net["connect"] {
  return (address, options) => dial(runtime, proxy, client, address, options);
}

async function dial(
  { net, clock }: Runtime,
  proxy: Address,
  client: string,
  address: Address,
  { timeoutMs }: ConnectOptions,
): Promise<Conn> {
  const attempt = `Cannot connect to ${address.host}:${address.port}`;
  const conn = await net.connect(proxy, { timeoutMs });
  let late = false;
  const cancel = clock.startTimer(timeoutMs, () => {
    late = true;
    conn.abort();
  });
  let answer: Uint8Array | null;
  try {
    await conn.write(new TextEncoder().encode(`${client} ${address.host}:${address.port}\n`));
    answer = await conn.read();
  } catch {
    throw netError(late ? "timeout" : "refused", attempt);
  } finally {
    cancel();
  }
  if (answer?.[0] !== ACCEPTED) {
    conn.abort();
    throw netError("refused", attempt);
  }
  return new Dialled(conn, address, answer.length > 1 ? new Uint8Array(answer.subarray(1)) : null);
}

/** A connection that shows whom it was meant for, and begins with what came along with the answer. */
class Dialled implements Conn {
  readonly peer: Address;
  readonly local: Address;
  readonly #conn: Conn;
  #first: Uint8Array | null;

  constructor(conn: Conn, peer: Address, first: Uint8Array | null) {
    this.peer = peer;
    this.local = conn.local;
    this.#conn = conn;
    this.#first = first;
  }

  read(): Promise<Uint8Array | null> {
    if (this.#first === null) return this.#conn.read();
    const first = this.#first;
    this.#first = null;
    return Promise.resolve(first);
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#conn.write(bytes);
  }

  end(): void {
    this.#conn.end();
  }

  abort(): void {
    this.#first = null;
    this.#conn.abort();
  }
}
