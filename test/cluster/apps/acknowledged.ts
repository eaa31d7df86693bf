/** Counts how often each record came in over TCP, into files; its source acknowledges. */
import { application, fileSink, framed, option, source, tcpSource } from "tammar";

export default application(
  "Acknowledged",
  { options: { output: option.string({ help: "folder for the lines" }) } },
  ({ options }) =>
    source("records", tcpSource({ framing: framed.u32, acks: true, decode: (payload) => payload.text() }))
      .keyBy((text) => text)
      .toStateful("count", { initial: () => ({ n: 0 }), apply: (text, state) => `${text} ${++state.n}` })
      .toSink(fileSink({ directory: options.output, encode: (line) => `${line}\n` })),
);
