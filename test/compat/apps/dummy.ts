/** Dummy: one stateless stage and two with state, for queries about steps, keys and sources. */
import { application, framed, source, tcpSink, tcpSource } from "tammar";
import { frame } from "./_frame.ts";

/** The bytes as one number, in decimal. */
function numberOf(bytes: Uint8Array): string {
  let number = 0n;
  for (const byte of bytes) number = number * 256n + BigInt(byte);
  return `${number}`;
}

interface Last {
  bytes: Uint8Array | null;
}

const keepLast = {
  initial: (): Last => ({ bytes: null }),
  apply(bytes: Uint8Array, state: Last): Uint8Array {
    state.bytes = bytes;
    return bytes;
  },
};

export default application("Dummy", ({ inputs }) =>
  source(
    inputs[0] ?? "Dummy",
    tcpSource({ framing: framed.u32, connectionsMax: 13, decode: (payload) => payload.bytes() }),
  )
    .to("Pass through", (bytes) => bytes)
    .collect()
    .toStateful("Count State Updates", keepLast)
    .keyBy(numberOf)
    .toStateful("Count Partitioned State Updates", keepLast)
    .toSink(tcpSink({ encode: frame })),
);
