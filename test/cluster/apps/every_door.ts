/** Has a door of every kind: what comes to `ticks` or `claims` is counted by its key, and goes out with the count. */
import { application, connectorSource, framed, type Payload, source, tcpSink, tcpSource } from "tammar";

interface Tick {
  readonly key: string;
  readonly text: string;
}

/** `key text`. */
function decode(payload: Payload): Tick {
  const text = payload.text();
  return { key: text.split(" ", 1)[0]!, text };
}

export default application("Every door", () =>
  source("ticks", tcpSource({ framing: framed.u32, decode }))
    .merge(source("claims", connectorSource({ decode, cookie: "cookie" })))
    .keyBy((tick) => tick.key)
    .toStateful("count", {
      initial: () => ({ n: 0 }),
      apply({ text }, state) {
        state.n += 1;
        return `${text} ${state.n}\n`;
      },
    })
    .toSink(tcpSink({ encode: (line) => line })),
);
