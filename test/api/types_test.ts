/** What the compiler must infer, and what it must refuse. `tsc` checks this file; the one test keeps it loaded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  application,
  framed,
  generatorSource,
  type KeyedStream,
  option,
  type Pipeline,
  type PromisesAreRefused,
  type Stream,
  source,
  tcpSink,
  tcpSource,
} from "../../mod.ts";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function expectType<Expected>() {
  return <Actual>(_value: Actual, _same: Same<Actual, Expected>): void => {};
}

interface Order {
  readonly user: string;
  readonly amount: number;
}
const orders = () => source("orders", tcpSource({ framing: framed.u32, decode: (p): Order => JSON.parse(p.text()) }));
const numbers = () => source("numbers", generatorSource({ initial: () => 0, next: (n) => n + 1 }));

test("types flow from decoder to encoder without annotations", () => {
  expectType<Stream<Order>>()(orders(), true);
  expectType<Stream<number>>()(numbers(), true);

  // A decoder that drops: `undefined` is no value of the stream.
  const even = source(
    "e",
    tcpSource({ framing: framed.u32, decode: (p) => (p.byteLength > 0 ? p.text() : undefined) }),
  );
  expectType<Stream<string>>()(even, true);

  // A generator with a state of its own.
  const emitted = generatorSource({
    initial: () => ({ at: 0, names: ["a"] }),
    next: (state) => (state.at < 9 ? { ...state, at: state.at + 1 } : undefined),
    emit: ({ at, names }) => ({ name: names[at] ?? "", at }),
  });
  expectType<Stream<{ name: string; at: number }>>()(source("g", emitted), true);

  // A number that begins as one of several stays a number.
  const counting = generatorSource({ initial: ({ worker }) => (worker === "initializer" ? 1 : 0), next: (n) => n + 2 });
  expectType<Stream<number>>()(source("c", counting), true);
  const onOne = generatorSource({ initial: ({ worker }) => (worker === "a" ? 0 : undefined), next: (n) => n + 1 });
  expectType<Stream<number>>()(source("o", onOne), true);

  // None, one or many.
  expectType<Stream<string>>()(
    orders().to("drop", (order) => (order.amount > 0 ? order.user : undefined)),
    true,
  );
  expectType<Stream<string>>()(
    orders().to("split", (order) => order.user.split(" ")),
    true,
  );
  expectType<Stream<number>>()(
    orders().to("mixed", (order) => (order.amount > 0 ? [order.amount] : order.amount < 0 ? order.amount : null)),
    true,
  );
  expectType<Stream<Order | string>>()(
    orders().to("union", (order): Order | string | undefined => (order.amount > 0 ? order : order.user)),
    true,
  );
  expectType<KeyedStream<Order>>()(
    orders().keyBy((order) => order.user),
    true,
  );
  expectType<KeyedStream<Order>>()(orders().collect(), true);
  expectType<Stream<Order>>()(orders().rebalance(), true);
  expectType<Stream<Order | number>>()(orders().merge(numbers()), true);

  // State is what `initial` gives; results are what `apply` returns.
  const totals = orders()
    .keyBy((order) => order.user)
    .toStateful("total", {
      initial: (key) => ({ user: key, total: 0 }),
      apply(order, state, context) {
        expectType<Order>()(order, true);
        expectType<{ user: string; total: number }>()(state, true);
        expectType<string>()(context.key, true);
        expectType<number>()(context.eventTime, true);
        state.total += order.amount;
        if (state.total > 100) return { big: state.user };
      },
    });
  expectType<KeyedStream<{ big: string }>>()(totals, true);
  const pipeline = totals.toSink(
    tcpSink({
      encode: (alert) => {
        expectType<{ big: string }>()(alert, true);
        return alert.big;
      },
    }),
  );
  expectType<Pipeline>()(pipeline, true);

  // An async function becomes visible at the next stage.
  expectType<Stream<PromisesAreRefused>>()(
    numbers().to("later", async (n) => n),
    true,
  );

  // A sink for a wider type is fine.
  const wide = tcpSink({ encode: (value: { readonly user: string }) => value.user });
  expectType<Pipeline>()(orders().toSink(wide), true);
  expectType<Pipeline>()(orders().toSinks([wide, tcpSink({ encode: (order) => String(order.amount) })]), true);

  // Options are typed by their declarations.
  application(
    "o",
    {
      options: { rate: option.number({ default: 1 }), who: option.string(), loud: option.boolean() },
      rawArguments: true,
    },
    ({ options, args, worker, workers, inputs }) => {
      expectType<number>()(options.rate, true);
      expectType<string>()(options.who, true);
      expectType<boolean>()(options.loud, true);
      expectType<readonly string[]>()(args, true);
      expectType<string>()(worker, true);
      expectType<number>()(workers, true);
      expectType<readonly string[]>()(inputs, true);
      // @ts-expect-error There is no such option.
      options.speed;
      return numbers().toSink(tcpSink({ encode: (n) => `${n}` }));
    },
  );
  assert.ok(pipeline);
});

/** Never called: each line below a mark is an error of the compiler. */
export function refused(): void {
  const collected = orders().collect();
  const ended = numbers().toSink(tcpSink({ encode: (n) => `${n}` }));
  const later = numbers().to("later", async (n) => ({ n }));
  // @ts-expect-error A decoder is needed.
  tcpSource({ framing: framed.u32 });
  // @ts-expect-error A name is needed.
  source(tcpSource({ framing: framed.u32, decode: (p) => p.text() }));
  // @ts-expect-error A key is a text.
  orders().keyBy((order) => order.amount);
  // @ts-expect-error State is by key.
  orders().toStateful("s", { initial: () => ({}), apply: () => 1 });
  const codec = { encode: (n: number) => new Uint8Array(n), decode: () => 1 };
  // @ts-expect-error A codec is of the state that it encodes.
  collected.toStateful("s", { initial: () => [1], apply: () => 1, codec });
  // @ts-expect-error A state is an object.
  collected.toStateful("s", { initial: () => 0, apply: () => 1 });
  // @ts-expect-error One has a key, the other has not.
  orders().merge(numbers().collect());
  // @ts-expect-error Nothing can follow a sink.
  ended.to("more", (n: number) => n);
  // @ts-expect-error The sink takes texts, the stream has numbers.
  numbers().toSink(tcpSink({ encode: (text: string) => text }));
  // @ts-expect-error An encoder gives text or bytes.
  numbers().toSink(tcpSink({ encode: (n) => n }));
  // @ts-expect-error A stream is no pipeline: it has no sink.
  application("a", () => numbers());
  // @ts-expect-error A promise has no such field.
  later.to("use", (value) => value.n);
}
