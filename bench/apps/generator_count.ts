/**
 * Generator sources and a keyed count whose output is next to nothing: one line a key when it has been seen `--warm` times,
 * and one when it has been seen `--target` times. So two workers can have both cores for themselves.
 *
 * With `--work json` the records are the JSON texts that the other benchmarks send, and a stage parses them; with
 * `--work none` they are ready-made objects that cost next to nothing.
 */
import { application, generatorSource, option, source, tcpSink } from "tammar";
import { assignOwners, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";

interface Event {
  readonly key: string;
  readonly value: number;
}

interface Position {
  readonly keys: readonly string[];
  /** By key, if records are JSON. */
  readonly texts: readonly string[];
  readonly total: number;
  index: number;
}

/** The keys that worker `index` of `workers` owns. */
function ownKeys(keys: readonly string[], index: number, workers: number): string[] {
  const owners = assignOwners(workers);
  return keys.filter((key) => owners[keyGroupOf(hashKey(key), owners.length)] === index);
}

export default application(
  "Generator count",
  {
    options: {
      keys: option.number({ default: 10_000, help: "How many keys" }),
      target: option.number({ default: 400, help: "How often each key is generated, by all workers together" }),
      warm: option.number({ default: 100, help: "Seen so often, a key is warm" }),
      work: option.string({ default: "json", help: "json: a record is a text to be parsed; none: an object" }),
      spread: option.string({ default: "all", help: "own: each worker generates the keys it owns; all: every key" }),
    },
  },
  ({ options }) => {
    const numbers = source(
      "numbers",
      generatorSource({
        initial: ({ worker, workers }): Position => {
          const all = Array.from({ length: options.keys }, (_, index) => `user-${String(index).padStart(11, "0")}`);
          const own = options.spread === "own";
          const keys = own ? ownKeys(all, worker === "initializer" ? 0 : 1, workers) : all;
          const texts = keys.map(
            (key, index) => `{"key":"${key}","value":${1_000 + (index % 9_000)},"t":1700000000000000}`,
          );
          return { keys, texts, total: keys.length * (own ? options.target : options.target / workers), index: 0 };
        },
        next: (position) => {
          position.index += 1;
          return position.index < position.total ? position : undefined;
        },
        emit: ({ keys, texts, index }): Event | string => {
          const place = index % keys.length;
          return options.work === "json" ? (texts[place] as string) : { key: keys[place] as string, value: index };
        },
      }),
    );
    return numbers
      .to("parse", (record) => (typeof record === "string" ? (JSON.parse(record) as Event) : record))
      .keyBy((event) => event.key)
      .toStateful("count", {
        initial: () => ({ count: 0 }),
        apply: (event, state) => {
          state.count += 1;
          if (state.count === options.warm || state.count === options.target) return `${event.key} ${state.count}\n`;
          return undefined;
        },
      })
      .toSink(tcpSink({ encode: (line) => line }));
  },
);
