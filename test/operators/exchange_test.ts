import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { application, generatorSource, keyBytes, source, tcpSink } from "../../mod.ts";
import { assignOwners, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { type TestWorker, world } from "./world.ts";

const fed = <T>(name = "s") =>
  source(
    name,
    generatorSource({ initial: () => undefined, next: () => undefined, emit: (): T | undefined => undefined }),
  );
const sink = tcpSink({ encode: String });

interface Event {
  readonly key: string;
  readonly n: number;
}

const counted = application("counted", () =>
  fed<Event>()
    .keyBy((event) => event.key)
    .toStateful("count", {
      initial: () => ({ count: 0 }),
      apply: ({ key, n }, state) => ({ key, n, count: ++state.count }),
    })
    .toSink(sink),
);

function addUp(n: number, state: { sum: number }): number {
  state.sum += n;
  return state.sum;
}

function all(workers: readonly TestWorker[]): unknown[] {
  return workers.flatMap((worker) => worker.output(0));
}

test("every record goes to the owner of its key, in order for each key, with any number of workers", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(
        fc.array(fc.tuple(fc.nat(4), fc.constantFrom("a", "b", "", "😀", "key_7", "\ud800")), { maxLength: 30 }),
        {
          maxLength: 8,
        },
      ),
      (workerCount, batches) => {
        const workers = world(counted, { workers: workerCount });
        const owners = assignOwners(workerCount);
        const expected = new Map<string, { n: number; count: number }[]>();
        let n = 0;
        for (const batch of batches) {
          const at = workers[(batch[0]?.[0] ?? 0) % workerCount]!;
          const events = batch.map(([, key]) => ({ key, n: n++ }));
          for (const event of events) {
            const list = expected.get(event.key) ?? [];
            list.push({ n: event.n, count: list.length + 1 });
            expected.set(event.key, list);
          }
          at.feed("s", events);
        }
        for (const [key, list] of expected) {
          const owner = owners[keyGroupOf(hashKey(key), owners.length)]!;
          workers.forEach((worker, index) => {
            const seen = (worker.output(0) as (Event & { count: number })[]).filter((event) => event.key === key);
            assert.deepEqual(
              seen.map((event) => ({ n: event.n, count: event.count })),
              index === owner ? list : [],
            );
          });
        }
        assert.equal(
          workers.reduce((sum, worker) => sum + worker.dataflow.keyCount(0), 0),
          expected.size,
        );
      },
    ),
    { numRuns: 300 },
  );
});

test("a second key sends records on from owner to owner", () => {
  const app = application("twice", () =>
    fed<number>()
      .keyBy((n) => `first ${n}`)
      .to("pass", (n) => n)
      .keyBy((n) => `second ${n % 3}`)
      .toStateful("count", { initial: () => ({ sum: 0 }), apply: addUp })
      .toSink(sink),
  );
  const numbers = Array.from({ length: 300 }, (_, i) => i);
  const one = world(app);
  one[0]!.feed("s", numbers);
  const three = world(app, { workers: 3 });
  for (let i = 0; i < numbers.length; i += 50) three[(i / 50) % 3]!.feed("s", numbers.slice(i, i + 50));
  const last = (values: unknown[]) => Math.max(...(values as number[]));
  assert.equal(all(three).length, 300);
  assert.equal(last(all(three)), last(all(one)));
  assert.ok(three.every((worker) => worker.sent[0]! > 0));
});

test("unkeyed records stay on their worker, in order", () => {
  const app = application("local", () =>
    fed<number>()
      .to("double", (n) => n * 2)
      .toSink(sink),
  );
  const workers = world(app, { workers: 3 });
  workers[1]!.feed("s", [3, 1, 2]);
  assert.deepEqual(
    workers.map((worker) => worker.output(0)),
    [[], [6, 2, 4], []],
  );
});

test("rebalance spreads records evenly over all workers, batch after batch", () => {
  const app = application("spread", () =>
    fed<number>()
      .rebalance()
      .to("costly", (n) => n)
      .toSink(sink),
  );
  const workers = world(app, { workers: 3 });
  for (let i = 0; i < 60; i++) workers[1]!.feed("s", [i]);
  assert.deepEqual(
    workers.map((worker) => worker.output(0).length),
    [20, 20, 20],
  );
  workers[0]!.feed("s", [1, 2, 3, 4, 5, 6, 7]);
  const counts = workers.map((worker) => worker.output(0).length);
  assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, String(counts));
  // Each worker begins with itself.
  assert.equal(workers[1]!.output(0)[0], 0);
});

test("rebalance gives up the key", () => {
  const app = application("unkeyed", () =>
    fed<number>()
      .keyBy(String)
      .to("keyed", (n) => n)
      .rebalance()
      .to("unkeyed", (n) => {
        if (n === 5) throw new Error("five");
        return [n, n];
      })
      .toSink(sink),
  );
  const workers = world(app, { workers: 2 });
  workers[0]!.feed("s", [1, 2, 3, 4, 5, 6]);
  assert.equal(all(workers).length, 10);
  assert.equal(workers.flatMap((worker) => worker.errors)[0]!.key, null);
});

test("collect brings all records of all workers under one key", () => {
  const app = application("one", () =>
    fed<number>()
      .collect()
      .toStateful("sum", {
        initial: () => ({ sum: 0 }),
        apply(n, state, { key }) {
          state.sum += n;
          return `${key}: ${state.sum}`;
        },
      })
      .toSink(sink),
  );
  const workers = world(app, { workers: 4 });
  for (const [index, worker] of workers.entries()) worker.feed("s", [index, 10]);
  const keys = workers.flatMap((worker) => [...worker.dataflow.keysOf(0)]);
  assert.deepEqual(keys, ["collect-s/collect before sum"]);
  assert.equal(all(workers).at(-1), "collect-s/collect before sum: 46");
});

test("merged keyed streams share the state of a key", () => {
  const app = application("merged", () =>
    fed<number>("left")
      .keyBy(() => "k")
      .merge(fed<number>("right").keyBy(() => "k"))
      .toStateful("sum", { initial: () => ({ sum: 0 }), apply: addUp })
      .toSink(sink),
  );
  const workers = world(app, { workers: 2 });
  workers[0]!.feed("left", [1, 2]);
  workers[1]!.feed("right", [10]);
  workers[0]!.feed("right", [100]);
  assert.deepEqual(all(workers), [1, 3, 13, 113]);
});

test("a key of bytes: records with the same bytes meet one state, and a stage gets the bytes back", () => {
  const ids = [
    Uint8Array.of(0, 255, 128),
    new Uint8Array(0),
    Uint8Array.of(0, 255, 129),
    new Uint8Array(4096).fill(200),
  ];
  const app = application("bytes", () =>
    fed<number>()
      .keyBy((n) => (n === 9 ? new Uint8Array(4097) : ids[n % 4]!.slice()))
      .toStateful("count", {
        initial: (key) => ({ bytes: keyBytes(key), count: 0 }),
        apply(n, state, { key }) {
          assert.deepEqual(keyBytes(key), ids[n % 4]);
          return `${state.bytes.length} ${state.bytes.at(-1)} ${++state.count}`;
        },
      })
      .toSink(sink),
  );
  const workers = world(app, { workers: 3 });
  workers[0]!.feed("s", [0, 1, 2, 3, 4, 9]);
  workers[1]!.feed("s", [0, 1]);
  const expected = ["3 128 1", "3 128 2", "3 128 3", "3 129 1", "0 undefined 1", "0 undefined 2", "4096 200 1"];
  assert.deepEqual(all(workers).sort(), expected.sort());
  assert.match((workers[0]!.errors[0]!.error as Error).message, /The key has 4097 bytes: at most 4096/);
  assert.throws(() => keyBytes("a text: \u0100"), /its unit 8 is 256/);
});

test("a key that is no text, too long, or a promise costs its record", () => {
  const keys: unknown[] = [
    "fine",
    7,
    undefined,
    null,
    {},
    "x".repeat(4096),
    "x".repeat(4097),
    Promise.reject(new Error("ignored")),
  ];
  for (const workerCount of [1, 2]) {
    const app = application("keys", () =>
      fed<number>()
        .keyBy((n) => {
          if (n === 8) throw new Error("thrown");
          return keys[n] as string;
        })
        .to("pass", (n) => n)
        .toSink(sink),
    );
    const workers = world(app, { workers: workerCount });
    workers[0]!.feed("s", [8, 1, 0, 2, 3, 4, 5, 6, 7], [80, 10, 0, 20, 30, 40, 50, 60, 70]);
    assert.deepEqual(new Set(all(workers)), new Set([0, 5]));
    const { errors } = workers[0]!;
    assert.equal(errors.length, 7);
    assert.ok(errors.every(({ stage, during }) => stage === "s/key by before pass" && during === "key"));
    const messages = errors.map(({ error }) => (error as Error).message);
    assert.match(messages[1]!, /The key is a number: return a text/);
    assert.match(messages[5]!, /4097 UTF-16 code units: at most 4096/);
    assert.match(messages[6]!, /returned a promise/);
  }
});

test("values that cannot travel are refused although they would stay: the first ones, then samples", () => {
  const app = application("unfit", () =>
    fed<unknown>()
      .keyBy(() => "k")
      .to("pass", () => 1)
      .toSink(sink),
  );
  const [worker] = world(app);
  worker!.feed("s", [{ fn: () => 1 }, 1, Symbol("s"), 2]);
  assert.equal(worker!.output(0).length, 2);
  assert.deepEqual(
    worker!.errors.map(({ stage, during, key }) => ({ stage, during, key })),
    Array(2).fill({ stage: "s/key by before pass", during: "exchange", key: "k" }),
  );

  // The samples: a checker that only counts.
  let checks = 0;
  const [busy] = world(app, { check: () => checks++ });
  for (let batch = 0; batch < 100; batch++) busy!.feed("s", Array(100).fill(1));
  assert.equal(checks, 64 + Math.ceil((10_000 - 64) / 1024));
});

test("a record that cannot travel leaves with its time, key and hash, and no other", () => {
  const seen: [unknown, string, number][] = [];
  const app = application("unfit", () =>
    fed<unknown>()
      .keyBy((value) => String(typeof value === "function" ? "fn" : value))
      .toStateful("look", {
        initial: () => ({}),
        apply: (value, _state, { key, eventTime }) => {
          seen.push([value, key, eventTime]);
        },
      })
      .toSink(sink),
  );
  const [worker] = world(app);
  worker!.feed("s", [() => 1, "a", () => 2, () => 3, "b", "c", () => 4], [1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual(seen, [
    ["a", "a", 2],
    ["b", "b", 5],
    ["c", "c", 6],
  ]);
  assert.equal(worker!.errors.length, 4);
});

test("one worker parts nothing; several count what left", () => {
  const events = Array.from({ length: 200 }, (_, n) => ({ key: `key ${n}`, n }));
  const [one] = world(counted);
  one!.feed("s", events);
  assert.deepEqual(one!.sent, [0]);
  const two = world(counted, { workers: 2 });
  two[0]!.feed("s", events);
  const { recordsIn, recordsOut } = two[0]!.dataflow.exchangeCounts(0);
  assert.deepEqual([recordsIn, recordsOut], [200, 200]);
  assert.equal(two[0]!.sent[0], two[1]!.output(0).length);
  assert.ok(two[0]!.sent[0]! > 60 && two[0]!.sent[0]! < 140, String(two[0]!.sent[0]));
});

test("every record keeps its own time and key through arrays, bad keys and other workers", () => {
  const seen: [string, string, number][] = [];
  const app = application("columns", () =>
    fed<number>()
      .to("copies", (n) => Array.from({ length: 7 }, (_, copy) => `${n}.${copy}`))
      .keyBy((text) => (text.endsWith(".3") ? (undefined as unknown as string) : text))
      .toStateful("look", {
        initial: () => ({}),
        apply: (text, _state, { key, eventTime }) => {
          seen.push([text, key, eventTime]);
        },
      })
      .toSink(sink),
  );
  for (const workerCount of [1, 3]) {
    seen.length = 0;
    const [worker] = world(app, { workers: workerCount });
    for (let from = 0; from < 600; from += 300) {
      const numbers = Array.from({ length: 300 }, (_, i) => from + i);
      worker!.feed(
        "s",
        numbers,
        numbers.map((n) => n * 10),
      );
    }
    assert.equal(seen.length, 600 * 6);
    for (const [text, key, time] of seen) assert.deepEqual([key, time], [text, Math.floor(Number(text)) * 10]);
    assert.equal(worker!.errors.length, 600);
  }
});
