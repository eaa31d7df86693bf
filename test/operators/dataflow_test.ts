import assert from "node:assert/strict";
import { test } from "node:test";
import { application, generatorSource, source, tcpSink } from "../../mod.ts";
import { AssertionError } from "../../src/base/assert.ts";
import { Dataflow } from "../../src/operators/dataflow.ts";
import type { DataflowHooks } from "../../src/operators/dataflow_hooks.ts";
import type { SlowCode } from "../../src/operators/slow_code.ts";
import { assignOwners, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { planApplication } from "../../src/plan/plan.ts";
import { batchOf, contextOf, world } from "./world.ts";

/** A source that tests feed by hand. */
const fed = <T>(name = "s") =>
  source(
    name,
    generatorSource({ initial: () => undefined, next: () => undefined, emit: (): T | undefined => undefined }),
  );
const sink = tcpSink({ encode: String });

function messages(errors: readonly { error: unknown }[]): string[] {
  return errors.map(({ error }) => (error instanceof Error ? error.message : String(error)));
}

test("a stage gives none, one or many outputs for a record, in order", () => {
  const [worker] = world(
    application("a", () =>
      fed<number>()
        .to("spread", (n) =>
          n === 0 ? undefined : n === 1 ? null : n === 2 ? [20, 21, null, undefined, 22] : n === 3 ? [] : n,
        )
        .toSink(sink),
    ),
  );
  worker!.feed("s", [0, 1, 2, 3, 4, 0, 5, 2]);
  assert.deepEqual(worker!.output(0), [20, 21, 22, 4, 5, 20, 21, 22]);
  assert.deepEqual(worker!.dataflow.stageCounts(0), { recordsIn: 8, recordsOut: 8, errors: 0 });
});

test("values that look like nothing are values", () => {
  const [worker] = world(
    application("a", () =>
      fed<unknown>()
        .to("pass", (value) => value)
        .toSink(sink),
    ),
  );
  const values = [0, "", false, Number.NaN, -0, 0n, {}];
  worker!.feed("s", values);
  assert.deepEqual(worker!.output(0), values);
});

test("a typed array is one value, an array in an array too", () => {
  const [worker] = world(
    application("a", () =>
      fed<number>()
        .to("arrays", (n): unknown => (n === 0 ? Uint8Array.of(1, 2) : [[1, 2]]))
        .toSink(sink),
    ),
  );
  worker!.feed("s", [0, 1]);
  assert.deepEqual(worker!.output(0), [Uint8Array.of(1, 2), [1, 2]]);
});

test("event time and key stay with their record through stages that drop and multiply", () => {
  const seen: [string, string, number][] = [];
  const [worker] = world(
    application("a", () =>
      fed<string>()
        .to("before the key", (text) => (text === "drop" ? undefined : text === "two" ? ["two", "too"] : text))
        .keyBy((text) => text[0]!)
        .to("behind the key", (text) => (text === "gone" ? [] : [text, text.toUpperCase()]))
        .toStateful("look", {
          initial: () => ({}),
          apply: (text, _state, context) => {
            seen.push([text, context.key, context.eventTime]);
          },
        })
        .toSink(sink),
    ),
  );
  worker!.feed("s", ["one", "drop", "two", "gone", "end"], [1, 2, 3, 4, 5]);
  assert.deepEqual(seen, [
    ["one", "o", 1],
    ["ONE", "o", 1],
    ["two", "t", 3],
    ["TWO", "t", 3],
    ["too", "t", 3],
    ["TOO", "t", 3],
    ["end", "e", 5],
    ["END", "e", 5],
  ]);
});

test("a throw costs its record only, wherever it stands in the batch", () => {
  const [worker] = world(
    application("a", () =>
      fed<number>()
        .to("odd ones throw", (n) => {
          if (n % 2 === 1) throw new Error(`odd: ${n}`);
          return n;
        })
        .toSink(sink),
    ),
  );
  worker!.feed("s", [1, 2, 3, 5, 4, 7]);
  assert.deepEqual(worker!.output(0), [2, 4]);
  assert.deepEqual(messages(worker!.errors), ["odd: 1", "odd: 3", "odd: 5", "odd: 7"]);
  assert.deepEqual(worker!.dataflow.stageCounts(0), { recordsIn: 6, recordsOut: 2, errors: 4 });
  const { stage, during, key, keyGroup } = worker!.errors[0]!;
  assert.deepEqual(
    { stage, during, key, keyGroup },
    { stage: "s/odd ones throw", during: "apply", key: null, keyGroup: null },
  );
});

test("a throw of apply is told with key and key group; what it changed stays changed", () => {
  const [worker] = world(
    application("a", () =>
      fed<{ user: string; bad: boolean }>()
        .keyBy((event) => event.user)
        .toStateful("count", {
          initial: () => ({ count: 0 }),
          apply(event, state) {
            state.count++;
            if (event.bad) throw new Error("half way");
            return `${event.user} ${state.count}`;
          },
        })
        .toSink(sink),
    ),
  );
  worker!.feed("s", [
    { user: "Rex", bad: false },
    { user: "Rex", bad: true },
    { user: "Rex", bad: false },
  ]);
  assert.deepEqual(worker!.output(0), ["Rex 1", "Rex 3"]);
  const keyGroup = keyGroupOf(hashKey("Rex"), 1024);
  assert.equal(worker!.errors.length, 1);
  const { error, record, ...rest } = worker!.errors[0]!;
  assert.deepEqual(rest, { stage: "s/count", during: "apply", key: "Rex", keyGroup, time: 0, origin: 1 });
  assert.deepEqual(record, { value: { user: "Rex", bad: true } });
  assert.equal((error as Error).message, "half way");
});

test("an initial that throws or gives no object costs the record; the key's next record tries again", () => {
  let calls = 0;
  const [worker] = world(
    application("a", () =>
      fed<string>()
        .keyBy((text) => text)
        .toStateful("state", {
          initial: () => {
            calls++;
            if (calls === 1) throw new Error("not yet");
            return (calls === 2 ? 7 : { ready: true }) as object;
          },
          apply: (text) => text,
        })
        .toSink(sink),
    ),
  );
  worker!.feed("s", ["k", "k", "k", "k"]);
  assert.deepEqual(worker!.output(0), ["k", "k"]);
  assert.equal(calls, 3);
  assert.deepEqual(
    worker!.errors.map(({ during }) => during),
    ["initial", "initial"],
  );
  assert.match(messages(worker!.errors)[1]!, /a state is an object/);
});

test("promises are refused, also in arrays, and their rejections harm nobody", async () => {
  const [worker] = world(
    application("a", () =>
      fed<string>()
        .to("later", ((what: string) => {
          if (what === "one") return Promise.reject(new Error("ignored"));
          if (what === "many") return [Promise.reject(new Error("ignored")), 1, Promise.reject(new Error("ignored"))];
          return what;
        }) as (what: string) => string)
        .collect()
        .toStateful("state", { initial: () => ({}), apply: (async () => 1) as unknown as () => number })
        .toSink(sink),
    ),
  );
  worker!.feed("s", ["one", "many", "plain"]);
  assert.deepEqual(worker!.output(0), []);
  assert.equal(worker!.errors.length, 3);
  for (const message of messages(worker!.errors)) assert.match(message, /returned a promise.*leave out "async"/);
  // Unhandled rejections are told in the next turn and would fail the test.
  await new Promise((resolve) => setTimeout(resolve, 0));
});

test("state is kept by key, over batches", () => {
  const [worker] = world(
    application("a", () =>
      fed<string>()
        .keyBy((word) => word)
        .toStateful("count", {
          initial: (key) => ({ key, count: 0 }),
          apply: (_word, state) => `${state.key} ${++state.count}`,
        })
        .toSink(sink),
    ),
  );
  worker!.feed("s", ["a", "b", "a"]);
  worker!.feed("s", ["", "a", "b", ""]);
  assert.deepEqual(worker!.output(0), ["a 1", "b 1", "a 2", " 1", "a 3", "b 2", " 2"]);
  assert.equal(worker!.dataflow.keyCount(0), 3);
  assert.deepEqual([...worker!.dataflow.keysOf(0)].sort(), ["", "a", "b"]);
});

test("a stateless stage has no keys", () => {
  const [worker] = world(
    application("a", () =>
      fed<string>()
        .to("pass", (text) => text)
        .toSink(sink),
    ),
  );
  worker!.feed("s", ["a"]);
  assert.deepEqual([...worker!.dataflow.keysOf(0)], []);
  assert.equal(worker!.dataflow.keyCount(0), 0);
});

test("several sinks get every record", () => {
  const [worker] = world(application("a", () => fed<number>().toSinks([sink, tcpSink({ encode: String })])));
  worker!.feed("s", [1, 2]);
  assert.deepEqual(
    [worker!.output(0), worker!.output(1)],
    [
      [1, 2],
      [1, 2],
    ],
  );
});

test("an empty batch, and one that is dropped whole, reach no sink", () => {
  let writes = 0;
  const plan = planApplication(
    application("a", () =>
      fed<number>()
        .to("none", () => undefined)
        .toSink(sink),
    ),
    contextOf(),
  );
  const dataflow = new Dataflow(plan, { ...quietHooks(), writeSink: () => writes++ });
  dataflow.fromSource(0, batchOf([]));
  dataflow.fromSource(0, batchOf([1, 2]));
  assert.equal(writes, 0);
});

test("each stage is timed once a batch, without what comes behind it", () => {
  const timed: [number, number, number, number][] = [];
  let now = 0;
  const plan = planApplication(
    application("a", () => [
      fed<number>("first").toSink(sink),
      fed<number>("second")
        .to("outer", (n) => {
          now += 1;
          return n;
        })
        .to("inner", (n) => {
          now += 10;
          return n;
        })
        .toSink(sink),
    ]),
    contextOf(),
  );
  const hooks = {
    ...quietHooks(),
    nowMs: () => now,
    stageTimed: (...args: [number, number, number, number]) => timed.push(args),
  };
  new Dataflow(plan, hooks).fromSource(1, batchOf([1, 2, 3], undefined, 1));
  assert.deepEqual(timed, [
    [0, 1, 3, 1e6],
    [1, 1, 3, 1e7],
  ]);
});

test("user code that takes long is told with its stage, and with the key once it is looked at closely", () => {
  let now = 0;
  const told: SlowCode[] = [];
  let slowKey = "";
  const plan = planApplication(
    application("a", () =>
      fed<string>()
        .keyBy((text) => {
          if (text === "key") now += 3_000;
          return text;
        })
        .to("check", (text) => {
          if (text === slowKey) now += 2_000;
          now += 1;
          return text;
        })
        .toStateful("count", {
          initial: (key) => {
            if (key === "stateless") throw new Error("it has no state");
            return { n: 0 };
          },
          apply: (text, state) => {
            state.n++;
            if (text === "stateful") now += 60_000;
            return text;
          },
        })
        .toSink(sink),
    ),
    contextOf(),
  );
  let clockReads = 0;
  const dataflow = new Dataflow(plan, {
    ...quietHooks(),
    nowMs: () => {
      clockReads++;
      return now;
    },
    slowCode: (slow) => told.push(slow),
    userError: () => {},
  });
  const feed = (...texts: string[]) => {
    clockReads = 0;
    dataflow.fromSource(0, batchOf(texts));
    return told.splice(0);
  };
  assert.deepEqual(feed("a", "b", "c"), []);
  const readsOfFewRecords = clockReads;
  feed(...Array.from({ length: 100 }, (_, i) => `k${i}`));
  assert.equal(clockReads, readsOfFewRecords, "nothing is measured for each record");

  slowKey = "b";
  assert.deepEqual(feed("a", "b", "c"), [{ stage: "s/check", during: "apply", records: 3, ms: 2_003, slowest: null }]);
  assert.deepEqual(feed("a", "b", "c"), [
    { stage: "s/check", during: "apply", records: 3, ms: 2_003, slowest: { ms: 2_001, key: "b" } },
  ]);
  const alone = { stage: "s/count", during: "apply", records: 1, ms: 60_000 };
  assert.deepEqual(feed("stateful"), [{ ...alone, slowest: { ms: 60_000, key: "stateful" } }]);
  assert.deepEqual(feed("x", "stateful"), [{ ...alone, records: 2, slowest: { ms: 60_000, key: "stateful" } }]);
  const third = { ...alone, records: 3, slowest: { ms: 60_000, key: "stateful" } };
  assert.deepEqual(
    feed("stateless", "stateful", "x"),
    [third],
    "it is named also where others gave nothing, or never came to apply",
  );
  const [slowKeyFunction] = feed("key", "y");
  assert.equal(slowKeyFunction?.during, "key");
  assert.equal(slowKeyFunction?.ms, 3_000);
});

test("a broken promise of Tammar itself is no user error", () => {
  const [worker] = world(
    application("a", () =>
      fed<number>()
        .to("broken", () => {
          throw new AssertionError("ours");
        })
        .toSink(sink),
    ),
  );
  assert.throws(() => worker!.feed("s", [1]), AssertionError);
  assert.deepEqual(worker!.errors, []);
});

function quietHooks(): DataflowHooks {
  return {
    self: 0,
    workerCount: 1,
    owners: assignOwners(1),
    sendRemote: () => assert.fail("there is one worker"),
    writeSink: () => {},
    userError: ({ error }) => assert.fail(String(error)),
    nowMs: () => 0,
    slowCode: () => {},
    stageTimed: () => {},
  };
}
