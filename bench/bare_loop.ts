/**
 * The bare loop: what `apps/keyed_count.ts` does, by hand and without an engine. The same sockets of the runtime, the same
 * framing and decoding, one Map, one line a record, one write a chunk. What Tammar costs is measured against this.
 *
 *   bun bench/bare_loop.ts LISTEN_PORT SINK_PORT        deno run -A bench/bare_loop.ts LISTEN_PORT SINK_PORT
 */
import process from "node:process";

const [listenPort, sinkPort] = process.argv.slice(2).map(Number) as [number, number];
const hostname = "127.0.0.1";
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();
const counts = new Map<string, number>();
let rest = new Uint8Array(0);

/** Counts every whole frame of what has come, keeps the rest, and returns the lines. */
function work(chunk: Uint8Array): string {
  let bytes = chunk;
  if (rest.length > 0) {
    bytes = new Uint8Array(rest.length + chunk.length);
    bytes.set(rest);
    bytes.set(chunk, rest.length);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let lines = "";
  let at = 0;
  while (at + 4 <= bytes.length) {
    const end = at + 4 + view.getUint32(at);
    if (end > bytes.length) break;
    const event = JSON.parse(decoder.decode(bytes.subarray(at + 4, end))) as { key: string; t: number };
    const count = (counts.get(event.key) ?? 0) + 1;
    counts.set(event.key, count);
    lines += `${event.key} ${count} ${event.t}\n`;
    at = end;
  }
  rest = new Uint8Array(bytes.subarray(at));
  return lines;
}

async function runOnBun(): Promise<void> {
  let input: Bun.Socket | null = null;
  let pending: Uint8Array | null = null;
  const put = (bytes: Uint8Array): void => {
    const taken = Math.max(0, sink.write(bytes));
    pending = taken < bytes.length ? bytes.subarray(taken) : null;
    if (pending !== null) input?.pause();
    else input?.resume();
  };
  const sink = await Bun.connect({
    hostname,
    port: sinkPort,
    socket: {
      data() {},
      drain() {
        if (pending !== null) put(pending);
      },
    },
  });
  Bun.listen({
    hostname,
    port: listenPort,
    socket: {
      open(socket) {
        input = socket;
      },
      data(_socket, chunk) {
        const bytes = encoder.encode(work(chunk));
        if (pending === null) put(bytes);
        else pending = Buffer.concat([pending, bytes]);
      },
    },
  });
}

async function runOnDeno(): Promise<void> {
  const deno = (globalThis as unknown as { Deno: DenoApi }).Deno;
  const sink = await deno.connect({ hostname, port: sinkPort });
  sink.setNoDelay(true);
  const listener = deno.listen({ hostname, port: listenPort });
  void (async () => {
    const input = await listener.accept();
    const buffer = new Uint8Array(65_536);
    for (let size = await input.read(buffer); size !== null; size = await input.read(buffer)) {
      const bytes = encoder.encode(work(buffer.subarray(0, size)));
      for (let at = 0; at < bytes.length; ) at += await sink.write(bytes.subarray(at));
    }
  })();
}

/** The few calls used here, so that both runtimes' types are not needed at once. */
interface DenoApi {
  connect(options: { hostname: string; port: number }): Promise<DenoConn>;
  listen(options: { hostname: string; port: number }): { accept(): Promise<DenoConn> };
}
interface DenoConn {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  setNoDelay(on: boolean): void;
}

await ("Deno" in globalThis ? runOnDeno() : runOnBun());
console.log("ready");
