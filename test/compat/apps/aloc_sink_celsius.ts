/**
 * Celsius to Fahrenheit into a sink program that commits in two phases, at 127.0.0.1:7200: -40.0, -39.0, ... up to 999999,
 * on the initializer, as fast as the sink takes them.
 */
import { application, connectorSink, generatorSource, option, source } from "tammar";

const LAST = 999_999;

export default application(
  "Celsius to Fahrenheit",
  {
    options: {
      sinkAddress: option.string({ default: "127.0.0.1:7200", help: "where the sink listens, as HOST:PORT" }),
    },
  },
  ({ options, worker }) =>
    source(
      "convert temperature readings",
      generatorSource({
        initial: () => (worker === "initializer" ? -40 : undefined),
        next: (celsius) => (celsius < LAST ? celsius + 1 : undefined),
      }),
    )
      .to("multiply by 1.8", (celsius) => celsius * 1.8)
      .to("add 32", (number) => number + 32)
      .toSink(
        connectorSink({
          name: "fahrenheit_conversion",
          address: options.sinkAddress,
          // As Python prints a double.
          encode: (fahrenheit) => `${fahrenheit}${Number.isInteger(fahrenheit) ? ".0" : ""}\n`,
        }),
      ),
);
