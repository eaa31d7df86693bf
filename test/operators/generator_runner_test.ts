import assert from "node:assert/strict";
import { test } from "node:test";
import { type GeneratorSettings, generatorSource } from "../../mod.ts";
import type { UserError } from "../../src/operators/dataflow_hooks.ts";
import { GeneratorRunner } from "../../src/operators/generator_runner.ts";
import { SourceBatches } from "../../src/operators/source_batch.ts";

function runnerOf<S, T>(settings: GeneratorSettings<S, T>) {
  const errors: UserError[] = [];
  const definition = generatorSource(settings) as never;
  const context = { worker: "initializer", workers: 2 };
  const runner = new GeneratorRunner({ name: "numbers", definition }, context, (error) => errors.push(error));
  return { runner, errors };
}

test("a generator without emit gives its states, step by step, until next returns undefined", () => {
  const { runner } = runnerOf({ initial: () => 1, next: (n) => (n < 5 ? n + 1 : undefined) });
  assert.deepEqual(runner.take(2), [1, 2]);
  assert.equal(runner.ended, false);
  assert.deepEqual(runner.take(10), [3, 4, 5]);
  assert.equal(runner.ended, true);
  assert.deepEqual(runner.take(10), []);
});

test("a generator with emit may change its state in place and skip records", () => {
  const { runner } = runnerOf({
    initial: () => ({ n: 0 }),
    next: (state) => {
      state.n++;
      return state;
    },
    emit: ({ n }) => (n % 2 === 0 ? { n } : undefined),
  });
  assert.deepEqual(runner.take(5), [{ n: 0 }, { n: 2 }, { n: 4 }]);
});

test("a generator knows its worker, and gives nothing when initial returns undefined", () => {
  const { runner, errors } = runnerOf({
    initial: ({ worker, workers }) => (worker === "initializer" && workers === 1 ? 0 : undefined),
    next: (n) => n + 1,
  });
  assert.equal(runner.ended, false);
  assert.deepEqual(runner.take(3), []);
  assert.equal(runner.ended, true);
  assert.deepEqual(errors, []);
});

test("a throw of emit costs its record; a throw of next or initial ends the source", () => {
  const fails = (during: string) =>
    runnerOf({
      initial: () => {
        if (during === "initial") throw new Error(during);
        return 0;
      },
      next: (n) => {
        if (during === "next" && n === 1) throw new Error(during);
        return n + 1;
      },
      emit: (n) => {
        if (during === "emit" && n === 1) throw new Error(during);
        return n;
      },
    });
  const expected: Record<string, [number[], boolean]> = {
    emit: [[0, 2, 3], false],
    next: [[0, 1], true],
    initial: [[], true],
  };
  for (const [during, [values, ended]] of Object.entries(expected)) {
    const { runner, errors } = fails(during);
    assert.deepEqual(runner.take(4), values);
    assert.equal(runner.ended, ended);
    assert.deepEqual(
      errors.map((error) => [error.stage, error.during]),
      [["numbers/generate", during]],
    );
  }
});

test("a state that is a record already must not be changed in place", () => {
  const { runner, errors } = runnerOf({ initial: () => ({ n: 0 }), next: (state) => state });
  assert.deepEqual(runner.take(3), [{ n: 0 }]);
  assert.match((errors[0]!.error as Error).message, /return a new one, or add emit/);
});

test("promises of a generator are refused", () => {
  const { runner, errors } = runnerOf({ initial: () => 0, next: (async () => 1) as unknown as () => number });
  assert.deepEqual(runner.take(3), [0]);
  assert.match((errors[0]!.error as Error).message, /next returned a promise/);
});

test("SourceBatches: the watermark follows data and never steps back with the clock", () => {
  const batches = new SourceBatches(4);
  assert.equal(batches.byArrival([], 10).watermark, Number.NEGATIVE_INFINITY);
  const first = batches.byArrival(["a", "b"], 20.0009);
  assert.deepEqual([first.count, first.watermark, first.pipeline, [...first.times]], [2, 20_000, 4, [20_000, 20_000]]);
  const second = batches.byArrival(["c"], 5);
  assert.deepEqual([second.times[0], second.watermark], [5_000, 20_000]);
});

test("a generator knows which step gave a value, also behind skipped ones and after a restore", () => {
  const settings: GeneratorSettings<number, number> = {
    initial: () => 0,
    next: (n) => n + 1,
    emit: (n) => {
      if (n === 6) throw new Error("no 6");
      return n % 2 === 0 ? n : undefined;
    },
  };
  const { runner } = runnerOf(settings);
  assert.deepEqual(runner.take(3), [0, 2]);
  const { runner: other, errors } = runnerOf(settings);
  other.restore(runner.snapshot());
  assert.deepEqual(other.take(7), [4, 8]);
  assert.deepEqual([other.stepOf(0), other.stepOf(1)], [4, 8]);
  assert.equal(errors[0]?.origin, 6);
  // A position of a version that did not count.
  const { steps: _, ...older } = runner.snapshot() as { steps: number };
  other.restore(older);
  assert.deepEqual([other.take(2), other.stepOf(0)], [[4], null]);
});
