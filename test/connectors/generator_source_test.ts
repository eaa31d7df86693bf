import assert from "node:assert/strict";
import { test } from "node:test";
import { generatorSource } from "../../src/api/generator_source.ts";
import { Prng } from "../../src/base/prng.ts";
import { GeneratorSourceConnector } from "../../src/connectors/generator_source.ts";
import type { UserError } from "../../src/operators/dataflow_hooks.ts";
import { GeneratorRunner } from "../../src/operators/generator_runner.ts";
import { CollectedLog, ManualClock } from "./fakes.ts";

interface Bench {
  readonly clock: ManualClock;
  readonly log: CollectedLog;
  readonly source: GeneratorSourceConnector;
  readonly values: unknown[];
  readonly batches: number[];
  readonly errors: UserError[];
  blocked: boolean;
  /** Behind each batch. */
  took(): void;
}

function bench(settings: Parameters<typeof generatorSource<number, unknown>>[0]): Bench {
  const definition = generatorSource<number, unknown>(settings);
  const clock = new ManualClock();
  const log = new CollectedLog();
  const made: Bench = {
    clock,
    log,
    values: [],
    batches: [],
    errors: [],
    blocked: false,
    took: () => {},
    source: new GeneratorSourceConnector({
      clock,
      log,
      name: "numbers",
      rate: definition.rate,
      maker: () =>
        new GeneratorRunner({ name: "numbers", definition }, { worker: "w1", workers: 3 }, (error) =>
          made.errors.push(error),
        ),
      turn: (run) => run(),
      blocked: () => made.blocked,
      values: (values) => {
        made.batches.push(values.length);
        made.values.push(...values);
        made.took();
      },
    }),
  };
  return made;
}

const numbers = { initial: () => 0, next: (n: number) => n + 1 };

test("a paced generator makes its rate exactly, however late its timers are", async () => {
  for (const [rate, seconds, lateMs] of [
    [1_000, 10, 0],
    [1_000, 10, 40],
    [1_000_000, 1, 3],
    [7, 20, 11],
    [0.5, 60, 0],
  ] as const) {
    const run = bench({ ...numbers, rate });
    run.source.open();
    await run.clock.advance(seconds * 1000, lateMs);
    const expected = rate * seconds;
    const batch = Math.max(1, Math.ceil((rate * (5 + lateMs)) / 1000));
    assert.ok(
      run.source.emitted <= expected + (rate * lateMs) / 1000 && run.source.emitted >= expected - batch - 1,
      `${run.source.emitted} of ${expected} at rate ${rate}, timers ${lateMs} ms late`,
    );
    assert.ok(Math.max(...run.batches) <= 1_024);
    assert.deepEqual(run.values.slice(0, 3), [0, 1, 2]);
  }
});

test("a turn of an unpaced generator is over when it took a millisecond, or a batch has blocked it", async () => {
  for (const ends of ["late", "blocked"] as const) {
    const run = bench(numbers);
    run.took = () => {
      if (ends === "late") run.clock.now += 0.6;
      else run.blocked = run.batches.length === 2;
    };
    run.source.open();
    await run.clock.advance(0.01);
    assert.deepEqual(run.batches, [1_024, 1_024], ends);
  }
});

test("a slow generator sleeps until its next record is due", async () => {
  const run = bench({ ...numbers, rate: 0.5 });
  const { startTimer } = run.clock;
  let timers = 0;
  run.clock.startTimer = (delayMs, fire) => {
    timers++;
    return startTimer.call(run.clock, delayMs, fire);
  };
  run.source.open();
  await run.clock.advance(1_999);
  assert.equal(run.source.emitted, 0);
  await run.clock.advance(2);
  assert.equal(run.source.emitted, 1);
  assert.equal(timers, 2);
});

test("a generator that was blocked for long makes up for one second at most", async () => {
  const run = bench({ ...numbers, rate: 1_000 });
  run.source.open();
  await run.clock.advance(1_000);
  const before = run.source.emitted;
  run.blocked = true;
  await run.clock.advance(60_000);
  assert.equal(run.source.emitted, before);
  assert.equal(run.clock.timerCount, 0, "it does not poll");
  run.blocked = false;
  run.source.resume();
  run.source.resume();
  await run.clock.advance(1_000);
  assert.ok(Math.abs(run.source.emitted - before - 2_000) <= 10, `${run.source.emitted - before}`);
});

test("an unpaced generator goes in batches, a few a turn, lets others have theirs, and hands on nothing when blocked", async () => {
  const run = bench(numbers);
  run.source.open();
  const prng = new Prng(1, "unpaced");
  let others = 0;
  for (let turn = 0; turn < 200; turn++) {
    run.clock.soon(() => others++);
    run.blocked = prng.chance(3);
    run.source.resume();
    const before = run.source.emitted;
    await run.clock.advance(0.01);
    const batch = run.source.emitted - before;
    assert.equal(batch, run.blocked ? 0 : 4 * 1_024);
    assert.equal(others, turn + 1);
  }
  assert.ok(run.source.emitted >= 50 * 1_024);
  assert.deepEqual(
    run.values,
    Array.from({ length: run.values.length }, (_, i) => i),
  );
});

test("a generator that ends says so once, with all its records out", async () => {
  const run = bench({ initial: () => 1, next: (n) => (n < 2_500 ? n + 1 : undefined) });
  run.source.open();
  await run.clock.advance(100);
  assert.equal(run.source.ended, true);
  assert.equal(run.values.length, 2_500);
  assert.equal(run.clock.timerCount, 0);
  assert.deepEqual(run.log.lines, ["generator_ended: GenSource produced a None. Stopping GenSource. It is numbers"]);
  run.source.resume();
  await run.clock.advance(100);
  assert.equal(run.values.length, 2_500);
});

test("a throw of emit costs one record, a throw of next or initial ends the source", async () => {
  const run = bench({
    initial: () => 0,
    next: (n) => {
      if (n === 9) throw new Error("next");
      return n + 1;
    },
    emit: (n) => {
      if (n === 3) throw new Error("emit");
      return n % 2 === 0 ? undefined : n;
    },
  });
  run.source.open();
  await run.clock.advance(100);
  assert.deepEqual(run.values, [1, 5, 7, 9]);
  assert.deepEqual(
    run.errors.map(({ stage, during }) => `${stage} ${during}`),
    ["numbers/generate emit", "numbers/generate next"],
  );
  assert.equal(run.source.ended, true);

  const unborn = bench({
    initial: () => {
      throw new Error("initial");
    },
    next: (n) => n,
  });
  unborn.source.open();
  await unborn.clock.advance(100);
  assert.equal(unborn.errors.length, 1);
  assert.equal(unborn.source.ended, true);
});

test("a generator is told its worker, and makes nothing where its initial state is undefined", async () => {
  const seen: unknown[] = [];
  const run = bench({
    initial: (context) => {
      seen.push(context);
      return undefined;
    },
    next: (n) => n,
    rate: 1_000,
  });
  assert.deepEqual(seen, [], "not before it opens");
  run.source.open();
  await run.clock.advance(100);
  assert.deepEqual(seen, [{ worker: "w1", workers: 3 }]);
  assert.deepEqual(run.values, []);
  assert.equal(run.source.ended, true);
});

test("a closed generator makes nothing more and leaves no timer", async () => {
  const run = bench({ ...numbers, rate: 100 });
  run.source.open();
  await run.clock.advance(1_000);
  const { emitted } = run.source;
  run.source.close();
  assert.equal(run.clock.timerCount, 0);
  run.source.resume();
  run.source.open();
  await run.clock.advance(1_000);
  assert.equal(run.source.emitted, emitted);

  // Whoever takes its records may close it.
  const last = bench({ initial: () => 0, next: () => undefined });
  const { values } = last;
  values.push = () => {
    last.source.close();
    return 0;
  };
  last.source.open();
  await last.clock.advance(100);
  assert.deepEqual(last.log.lines, []);
});

test("a generator goes back to where a snapshot was taken, in this process and in another one", async () => {
  const first = bench({ ...numbers, rate: 1_000 });
  first.source.open();
  await first.clock.advance(10);
  const position = first.source.checkpoints.snapshot(1);
  await first.clock.advance(10);
  assert.equal(first.values.length, 20);
  first.source.checkpoints.seek(position);
  await first.clock.advance(5);
  assert.deepEqual(first.values.slice(20), [10, 11, 12, 13, 14]);
  const second = bench({ ...numbers, rate: 1_000 });
  second.source.checkpoints.seek(position);
  assert.deepEqual(second.source.checkpoints.snapshot(2), position, "nothing was made since");
  second.source.open();
  await second.clock.advance(5);
  assert.deepEqual(second.values, [10, 11, 12, 13, 14]);
  second.source.checkpoints.seek(null);
  await second.clock.advance(5);
  assert.deepEqual(second.values.slice(5), [0, 1, 2, 3, 4]);
});

test("a generator that has ended goes on from before its end, and one that was closed can still be asked", async () => {
  const made = bench({ initial: () => 0, next: (n) => (n < 5 ? n + 1 : undefined) });
  made.source.open();
  const atStart = made.source.checkpoints.snapshot(1);
  await made.clock.advance(5);
  assert.equal(made.source.ended, true);
  made.source.checkpoints.seek(atStart);
  made.source.resume();
  await made.clock.advance(5);
  assert.equal(made.values.length, 12);
  assert.equal(made.source.ended, true);
  made.source.close();
  const atEnd = made.source.checkpoints.snapshot(2);
  // A recovery in a stop: its last checkpoint has where the source was put.
  made.source.checkpoints.seek(atStart);
  assert.deepEqual(made.source.checkpoints.snapshot(3), atStart);
  const next = bench({ initial: () => 0, next: (n) => n + 1 });
  next.source.checkpoints.seek(atEnd);
  next.source.open();
  await next.clock.advance(5);
  assert.deepEqual(next.values, []);
});

test("a generator whose state is no plain data says so at the first checkpoint", async () => {
  const made = bench({ initial: () => Promise as never, next: (state) => state, emit: () => 1, rate: 1_000 });
  made.source.open();
  await made.clock.advance(10);
  assert.throws(() => made.source.checkpoints.snapshot(1), /Cannot save where generator "numbers\/generate" stands/);
});

test("a position that is not a generator's is refused", () => {
  const made = bench(numbers);
  made.source.checkpoints.seek({ version: 2 });
  assert.throws(() => made.source.open(), /not one of a generator of this version/);
});
