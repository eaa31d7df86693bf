/** Celsius to Fahrenheit into a sink that commits in two phases: numbers that count up, made on the initializer alone. */
import { application, connectorSink, generatorSource, source } from "tammar";

/** As Python prints a double: the shortest text that reads back, with `.0` for a whole number. */
function printed(number: number): string {
  return Number.isInteger(number) ? `${number}.0` : `${number}`;
}

export default application("Celsius to Fahrenheit", () =>
  source(
    "convert temperature readings",
    generatorSource({
      initial: ({ worker }) => (worker === "initializer" ? -40 : undefined),
      next: (celsius) => (celsius < 999_999 ? celsius + 1 : undefined),
    }),
  )
    .to("multiply by 1.8", (celsius) => celsius * 1.8)
    .to("add 32", (number) => number + 32)
    .toSink(
      connectorSink({
        name: "fahrenheit_conversion",
        address: "127.0.0.1:7200",
        cookie: "Dragons-Love-Tacos",
        encode: (fahrenheit) => `${printed(fahrenheit)}\n`,
      }),
    ),
);
