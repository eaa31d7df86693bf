/**
 * Passthrough: what comes in goes out. Its options are read in order: a source, then any number of keys and steps, then
 * the sink.
 */
import {
  application,
  connectorSink,
  connectorSource,
  framed,
  type KeyedStream,
  type Payload,
  type Stream,
  source,
  tcpSink,
  tcpSource,
} from "tammar";

const SOURCE = "InputBlobs";
const COOKIE = "Dragons-Love-Tacos";

/** Own options with a value, and what it may be; `null`: a number. */
const OPTIONS: Readonly<Record<string, readonly string[] | null>> = {
  "--parallelism": null,
  "--sink-parallelism": null,
  "--source": ["tcp", "connector"],
  "--source-decoder": ["framed", "unframed"],
  "--key-by": ["first-byte", "random"],
  "--step": ["asis", "asis-state", "noop"],
  "--sink": ["tcp", "connector"],
};

/** The application's own options among all that the worker was started with, in order. */
function ownOptions(args: readonly string[]): [name: string, value: string][] {
  const found: [string, string][] = [];
  args.forEach((argument, at) => {
    const [name = "", attached] = argument.split("=", 2);
    const allowed = OPTIONS[name];
    if (allowed === undefined) return;
    const value = attached ?? args[at + 1] ?? "";
    const isKnown = allowed === null ? /^[1-9][0-9]*$/.test(value) : allowed.includes(value);
    if (!isKnown) throw new Error(`${name} ${value}: expected ${allowed?.join(", ") ?? "a number"}`);
    found.push([name, value]);
  });
  return found;
}

const decode = (payload: Payload): Uint8Array => payload.bytes();

export default application("Passthrough", { rawArguments: true }, ({ args }) => {
  const options = ownOptions(args);
  const kind = options.findLast(([name]) => name === "--source")?.[1] ?? "tcp";
  // The body of a connector program's message has no frame, whatever --source-decoder says; a TCP source needs one.
  let blobs: Stream<Uint8Array> | KeyedStream<Uint8Array> =
    kind === "connector"
      ? source(SOURCE, connectorSource({ cookie: COOKIE, decode }))
      : source(SOURCE, tcpSource({ framing: framed.u32, decode }));
  let steps = 0;
  for (const [name, value] of options) {
    if (name === "--key-by") {
      blobs = blobs.keyBy(
        value === "random" ? () => `${Math.random()}` : (bytes) => String.fromCharCode(...bytes.subarray(0, 1)),
      );
    } else if (name === "--step") {
      const step = `${value} ${++steps}`;
      if (value === "noop") blobs = blobs.to(step, (): Uint8Array | undefined => undefined);
      else if (value === "asis") blobs = blobs.to(step, (bytes) => bytes);
      else {
        const keyed: KeyedStream<Uint8Array> = blobs.keyed ? blobs : blobs.collect();
        blobs = keyed.toStateful(step, {
          initial: () => ({ count: 0 }),
          apply(bytes, state) {
            state.count++;
            return bytes;
          },
        });
      }
    }
  }
  const encode = (bytes: Uint8Array): Uint8Array => bytes;
  const toPrograms = options.findLast(([name]) => name === "--sink")?.[1] === "connector";
  return blobs.toSink(toPrograms ? connectorSink({ cookie: COOKIE, encode }) : tcpSink({ encode }));
});
