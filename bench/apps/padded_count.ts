/** The keyed count with a larger state: each key also holds a text of `--pad` characters that is its own. */
import { application, framed, option, source, tcpSink, tcpSource } from "tammar";

interface Event {
  readonly key: string;
  readonly value: number;
  readonly t: number;
}

export default application(
  "Padded count",
  { options: { pad: option.number({ default: 400, help: "Characters that each key holds" }) } },
  ({ options }) =>
    source("events", tcpSource({ framing: framed.u32, decode: (payload) => JSON.parse(payload.text()) as Event }))
      .keyBy((event) => event.key)
      .toStateful("count", {
        initial: () => ({ count: 0, held: "" }),
        apply: (event, state) => {
          state.count += 1;
          if (state.held === "") state.held = event.key.repeat(Math.ceil(options.pad / event.key.length));
          return `${event.key} ${state.count} ${event.t}\n`;
        },
      })
      .toSink(tcpSink({ encode: (line) => line })),
);
