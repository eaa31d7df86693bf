/** Celsius to Fahrenheit, from connector programs: the body of a message is one f32. */
import { application, connectorSource, source, tcpSink } from "tammar";

export default application("Celsius Conversion App", ({ inputs }) =>
  source(
    inputs[0] ?? "celsius",
    connectorSource({
      cookie: "Dragons-Love-Tacos",
      maxCredits: 10,
      refillCredits: 8,
      decode: (payload) => payload.getFloat32(0),
    }),
  )
    .to("multiply by 1.8", (celsius) => celsius * 1.8)
    .to("add 32", (number) => number + 32)
    .toSink(tcpSink({ encode: (fahrenheit) => `${fahrenheit}\n` })),
);
