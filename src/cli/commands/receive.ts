import { EXIT } from "../../base/errors.ts";
import type { Conn, Host } from "../../runtime/runtime.ts";
import { FrameSplitter } from "../../wire/frame.ts";
import { addressOf, addressText, integerOf, isGiven, type OptionSpec, required } from "../options.ts";
import { complain, print, untilSignal } from "../terminal.ts";
import { defineTool } from "../tool.ts";

const OPTIONS: readonly OptionSpec[] = [
  { name: "listen", letter: "l", value: "HOST:PORT", help: "Where to listen; port 0 takes a free one" },
  {
    name: "framed",
    letter: "f",
    value: null,
    help: "Strip a 4-byte length from each record and print it as a line; otherwise bytes are printed as they come",
  },
  { name: "no-write", letter: "n", value: null, help: "Print nothing, just take the bytes" },
  { name: "buffer-size", letter: "b", value: "BYTES", help: "Largest record with --framed", default: "16384" },
];

/** A sink that prints: the original's `data_receiver`. */
export const receive = defineTool({
  name: "receive",
  calledAs: ["data_receiver"],
  summary: "Listen like a sink and print what arrives",
  usage: "--listen HOST:PORT [options]",
  options: OPTIONS,
  examples: ["--listen 127.0.0.1:7200", "--listen 127.0.0.1:7200 --framed"],
  takesWords: false,
  async run(parsed, { runtime }) {
    const { host, net } = runtime;
    const listen = addressOf(parsed, "listen", "listen");
    if (listen === null) throw required("listen", "--listen 127.0.0.1:7200");
    const lengthMax = integerOf(parsed, "buffer-size", { min: 1, max: 1 << 30 }) ?? 16_384;
    const framed = isGiven(parsed, "framed");
    const silent = isGiven(parsed, "no-write");
    const end = untilSignal(runtime);
    const listener = await net.listen({
      ...listen,
      accept(conn) {
        const connection = silent
          ? swallow(conn)
          : framed
            ? printFrames(conn, host, lengthMax)
            : printBytes(conn, host);
        connection.then(
          (outcome) => {
            if (outcome === "reader_gone") end.now();
          },
          // A client that was cut off: what it had sent is printed.
          () => {},
        );
      },
      failed: (error) => complain(host, `cannot accept a connection: ${error.message}`),
    });
    const shown = listen.port === 0 ? listener.address : listen;
    if (await print(host, `Listening on ${addressText(shown)}\n`)) await end.wait;
    listener.close();
    return EXIT.done;
  },
});

type Outcome = "ended" | "reader_gone";

async function swallow(conn: Conn): Promise<Outcome> {
  while ((await conn.read()) !== null);
  conn.abort();
  return "ended";
}

async function printBytes(conn: Conn, host: Host): Promise<Outcome> {
  for (;;) {
    const chunk = await conn.read();
    if (chunk === null) break;
    try {
      // Not reading on until it is printed is the back-pressure.
      await host.writeOut(chunk);
    } catch {
      return "reader_gone";
    }
  }
  conn.abort();
  return "ended";
}

async function printFrames(conn: Conn, host: Host, lengthMax: number): Promise<Outcome> {
  const splitter = new FrameSplitter({ lengthMax });
  for (;;) {
    const chunk = await conn.read();
    if (chunk === null) break;
    const outcome = splitter.push(chunk);
    const lines = joinLines(splitter);
    if (lines.length > 0) {
      try {
        await host.writeOut(lines);
      } catch {
        return "reader_gone";
      }
    }
    if (outcome !== "ok") {
      complain(
        host,
        `${addressText(conn.peer)}: a record of ${outcome.length} bytes is above --buffer-size ${lengthMax}; connection closed`,
      );
      break;
    }
  }
  conn.abort();
  return "ended";
}

/** The payloads of a push, a newline behind each; empty ones are left out. */
function joinLines({ bytes, starts, ends, count }: FrameSplitter): Uint8Array {
  let length = 0;
  for (let i = 0; i < count; i++) if (ends[i]! > starts[i]!) length += ends[i]! - starts[i]! + 1;
  const lines = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (ends[i] === starts[i]) continue;
    lines.set(bytes.subarray(starts[i], ends[i]), at);
    at += ends[i]! - starts[i]!;
    lines[at++] = 0x0a;
  }
  return lines;
}
