/** What the benchmarks run: JSON records from TCP, counted by key, a line each to TCP. The bare loop does the same by hand. */
import { application, framed, source, tcpSink, tcpSource } from "tammar";

interface Event {
  readonly key: string;
  readonly value: number;
  readonly t: number;
}

export default application("Keyed count", () =>
  source("events", tcpSource({ framing: framed.u32, decode: (payload) => JSON.parse(payload.text()) as Event }))
    .keyBy((event) => event.key)
    .toStateful("count", {
      initial: () => ({ count: 0 }),
      apply: (event, state) => {
        state.count += 1;
        return `${event.key} ${state.count} ${event.t}\n`;
      },
    })
    .toSink(tcpSink({ encode: (line) => line })),
);
