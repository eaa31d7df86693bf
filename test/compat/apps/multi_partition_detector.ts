/**
 * Multi partition detector: for each key, a window of its last four numbers, so that a checker sees whether records were
 * lost, doubled or reordered. `--depth` repeats the pair of stages; `--source` is `tcp`, `alo` (connector programs) or
 * `gensource`.
 */
import {
  application,
  connectorSource,
  framed,
  generatorSource,
  option,
  type Payload,
  type Stream,
  source,
  tcpSink,
  tcpSource,
} from "tammar";
import { frame } from "./_frame.ts";

interface Message {
  readonly key: string;
  readonly trace: string;
  /** A number, or the last four. */
  readonly payload: number | readonly number[];
  /** Seconds since 1970. */
  readonly ts: number;
}

const first = (key: string, value: number): Message => ({ key, trace: "", payload: value, ts: 0 });
/** u64 value, then the key. */
const decode = (payload: Payload): Message => first(payload.text(8), Number(payload.getBigUint64(0)));
const latest = ({ payload }: Message): number => (typeof payload === "number" ? payload : payload.at(-1)!);

function input(kind: string, name: string, partitions: number): Stream<Message> {
  switch (kind) {
    case "tcp":
      return source(name, tcpSource({ framing: framed.u32, decode }));
    case "alo":
      return source(name, connectorSource({ cookie: "cookie", maxCredits: 67, refillCredits: 10, decode }));
    case "gensource":
      return source(
        name,
        generatorSource({
          initial: ({ worker }) => (worker === "initializer" && partitions > 0 ? { key: 0, value: 1 } : undefined),
          next: ({ key, value }) => (key + 1 < partitions ? { key: key + 1, value } : { key: 0, value: value + 1 }),
          emit: ({ key, value }) => first(`${key}`, value),
        }),
      );
    default:
      throw new Error(`--source ${kind}: there are tcp, alo and gensource`);
  }
}

export default application(
  "Multi Partition Detector",
  {
    options: {
      depth: option.number({ default: 1, help: "how often the pair of stages is repeated" }),
      source: option.string({ default: "tcp", help: "tcp, alo or gensource" }),
      partitions: option.number({ default: 40, help: "keys of gensource" }),
    },
  },
  ({ options, inputs }) => {
    const { depth, partitions } = options;
    if (!(Number.isInteger(depth) && depth >= 1)) throw new Error(`--depth ${depth}: at least 1`);
    const keyOf = ({ key }: Message) => key;
    const level = (messages: Pick<Stream<Message>, "keyBy">, number: number) => {
      const suffix = number === 1 ? "" : ` ${number}`;
      return messages
        .keyBy(keyOf)
        .to(`TraceID${suffix}`, (message) => ({
          ...message,
          trace: `${message.trace}.TraceID`,
          payload: latest(message),
        }))
        .keyBy(keyOf)
        .toStateful(`TraceWindow${suffix}`, {
          initial: (key) => ({ key, ring: [0, 0, 0, 0] }),
          apply(message, state, { eventTime }): Message {
            if (message.key !== state.key) throw new Error(`a record of ${message.key} came to ${state.key}`);
            state.ring = [...state.ring.slice(1), latest(message)];
            return {
              key: message.key,
              trace: `${message.trace}.TraceWindow`,
              payload: state.ring,
              ts: eventTime / 1e6,
            };
          },
        });
    };
    let traced = level(input(options.source, inputs[0] ?? "Detector", partitions), 1);
    for (let number = 2; number <= depth; number++) traced = level(traced, number);
    return traced.toSink(
      tcpSink({
        encode: ({ key, payload, trace, ts }) => frame(JSON.stringify({ key, value: payload, trace, ts })),
      }),
    );
  },
);
