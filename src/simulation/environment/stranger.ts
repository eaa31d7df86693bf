/** Whoever connects to a port and is not of the system: a scanner, a browser, a program that took the wrong port. */
import type { Address, Conn, Millis, Runtime } from "../../runtime/runtime.ts";
import type { StrangerKind } from "../scenario.ts";

export interface StrangerEvents {
  readonly opened: () => void;
  readonly received: (bytes: number) => void;
  readonly closed: () => void;
}

/** Nobody is that patient; a worker that lets it sit for so long is wrong (or its source, which never sends first). */
const PATIENCE_MS: Millis = 60_000;
const FLOOD_CONNECTIONS = 80;
const text = (what: string) => new TextEncoder().encode(what);

/** What a TLS client says first, up to its random bytes. */
const TLS_HELLO = [0x16, 0x03, 0x01, 0x00, 0xc8, 0x01, 0x00, 0x00, 0xc4, 0x03, 0x03];

/** Pieces to write, with a pause between them. */
function words(runtime: Runtime, what: StrangerKind): { readonly pieces: Uint8Array[]; readonly pauseMs: Millis } {
  switch (what) {
    case "garbage":
      return { pieces: [runtime.random.bytes(300), runtime.random.bytes(5_000)], pauseMs: 5 };
    case "http":
      return { pieces: [text("GET / HTTP/1.1\r\nHost: worker\r\nUser-Agent: scanner\r\n\r\n")], pauseMs: 0 };
    case "tls":
      return { pieces: [new Uint8Array([...TLS_HELLO, ...runtime.random.bytes(200)])], pauseMs: 0 };
    case "huge":
      return { pieces: [new Uint8Array([0xff, 0xff, 0xff, 0xff, 1, 2, 3])], pauseMs: 0 };
    case "zeros":
      return { pieces: [new Uint8Array(4_000)], pauseMs: 0 };
    case "slow":
      // A length that would be fine, and then a byte at a time for longer than any handshake may take.
      return {
        pieces: [new Uint8Array([0, 0, 0, 200]), ...Array.from({ length: 90 }, () => runtime.random.bytes(1))],
        pauseMs: 100,
      };
    case "idle":
    case "flood":
      return { pieces: [], pauseMs: 0 };
  }
}

export async function runStranger(
  runtime: Runtime,
  address: Address,
  what: StrangerKind,
  events: StrangerEvents,
): Promise<void> {
  const count = what === "flood" ? FLOOD_CONNECTIONS : 1;
  for (let i = 1; i < count; i++) void runOne(runtime, address, what, null);
  await runOne(runtime, address, what, events);
}

async function runOne(
  runtime: Runtime,
  address: Address,
  what: StrangerKind,
  events: StrangerEvents | null,
): Promise<void> {
  let conn: Conn;
  try {
    conn = await runtime.net.connect(address, { timeoutMs: 5_000 });
  } catch {
    return;
  }
  events?.opened();
  runtime.clock.startTimer(PATIENCE_MS, () => conn.abort());
  const reading = read(conn, events);
  try {
    const { pieces, pauseMs } = words(runtime, what);
    for (const piece of pieces) {
      await conn.write(piece);
      await new Promise<void>((resolve) => {
        runtime.clock.startTimer(pauseMs, resolve);
      });
    }
  } catch {
    // Closed while it spoke: that is what the worker is meant to do.
  }
  await reading;
}

async function read(conn: Conn, events: StrangerEvents | null): Promise<void> {
  try {
    for (;;) {
      const bytes = await conn.read();
      if (bytes === null) break;
      events?.received(bytes.length);
    }
    conn.end();
  } catch {
    // Cut: closed as well.
  }
  events?.closed();
}
