import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hashKey } from "../../src/plan/key_groups.ts";
import type { ChangeTracker } from "../../src/state/change_tracker.ts";
import { EntryColumns } from "../../src/state/entry_columns.ts";
import { KeyedState } from "../../src/state/keyed_state.ts";

interface Counter {
  n: number;
}

const GROUPS = 4;
const KEYS = Array.from({ length: 12 }, (_, i) => `k${i}`);

/**
 * A state beside what a log would have of it. `log` follows all that is taken; at the end of a freeze it must be what the
 * state was at that freeze.
 */
class World {
  readonly state = new KeyedState<Counter>(GROUPS);
  readonly tracker: ChangeTracker<Counter> = this.state.track();
  readonly log = new Map<string, number>();
  readonly hashOf: (key: string) => number;
  frozen: Map<string, number> | null = null;
  freezeNumber = 0;
  /** What the log had at the last secured freeze. */
  safe = new Map<string, number>();
  taken = 0;

  constructor(hashOf: (key: string) => number) {
    this.hashOf = hashOf;
  }

  now(): Map<string, number> {
    const all = new Map<string, number>();
    for (let group = 0; group < GROUPS; group++) {
      for (const [key, { n }] of this.state.entries(group)) all.set(key, n);
    }
    return all;
  }

  touch(key: string, n: number): void {
    const held = this.state.get(this.hashOf(key), key);
    if (held === undefined) this.state.add(this.hashOf(key), key, { n });
    else held.n = n;
  }

  remove(key: string): void {
    this.state.remove(this.hashOf(key), key);
  }

  freeze(groups: readonly number[]): void {
    this.frozen = this.now();
    this.freezeNumber = this.tracker.freeze(groups);
  }

  take(count: number): void {
    if (this.frozen === null) return;
    const out = new EntryColumns();
    const more = this.tracker.take(count, out);
    assert.ok(out.total <= count);
    this.taken += out.total;
    for (let i = 0; i < out.count; i++) {
      assert.equal(out.hashes[i], this.hashOf(out.keys[i]!));
      this.log.set(out.keys[i]!, (out.values[i] as Counter).n);
    }
    for (let i = 0; i < out.removedCount; i++) this.log.delete(out.removedKeys[i]!);
    if (more) return;
    assert.deepEqual(this.log, this.frozen);
    this.frozen = null;
    this.tracker.secured(this.freezeNumber);
    this.safe = new Map(this.log);
  }

  abandon(): void {
    this.tracker.abandon();
    this.frozen = null;
  }

  lose(): void {
    this.tracker.unsecure();
    this.frozen = null;
    this.log.clear();
    for (const [key, n] of this.safe) this.log.set(key, n);
  }
}

const hashes: Record<string, (key: string) => number> = {
  "as usual": hashKey,
  "all equal, so that keys are crowded out": () => 3,
};

for (const [name, hashOf] of Object.entries(hashes)) {
  test(`What ChangeTracker gives out is the state at the freeze, whatever happens meanwhile; hashes ${name}`, () => {
    const crowd = name === "as usual" ? KEYS : Array.from({ length: 80 }, (_, i) => `k${i}`);
    const key = fc.constantFrom(...crowd);
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ do: fc.constant("touch" as const), key, n: fc.nat() }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("remove" as const), key }) },
      {
        weight: 2,
        arbitrary: fc.record({
          do: fc.constant("freeze" as const),
          groups: fc.uniqueArray(fc.nat({ max: GROUPS - 1 }), { maxLength: GROUPS }),
        }),
      },
      { weight: 5, arbitrary: fc.record({ do: fc.constant("take" as const), count: fc.integer({ min: 1, max: 9 }) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("abandon" as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("lose" as const) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), fc.nat({ max: 100 }), (steps, filled) => {
        const world = new World(hashOf);
        for (let i = 0; i < filled && i < crowd.length; i++) world.touch(crowd[i]!, -i);
        for (const each of steps) {
          switch (each.do) {
            case "touch":
              world.touch(each.key, each.n);
              break;
            case "remove":
              world.remove(each.key);
              break;
            case "freeze":
              world.freeze(each.groups);
              break;
            case "take":
              world.take(each.count);
              break;
            case "abandon":
              world.abandon();
              break;
            default:
              world.lose();
          }
        }
        // Whatever was left open: one more freeze brings the log up to date.
        world.freeze([]);
        while (world.frozen !== null) world.take(5);
        assert.deepEqual(world.log, world.now());
        // And then nothing is left to write.
        world.freeze([]);
        const before = world.taken;
        while (world.frozen !== null) world.take(5);
        assert.equal(world.taken, before);
      }),
      { numRuns: 400 },
    );
  });
}

test("ChangeTracker gives out a whole key group, changed or not, each key once", () => {
  const world = new World(hashKey);
  for (let i = 0; i < 500; i++) world.touch(`key ${i}`, i);
  world.freeze([]);
  while (world.frozen !== null) world.take(100);
  assert.equal(world.taken, 500);
  world.touch("key 1", -1);
  world.freeze([0, 1, 2, 3]);
  world.taken = 0;
  for (let i = 0; world.frozen !== null; i++) {
    world.take(7);
    world.touch(`key ${i * 5}`, 5);
    world.touch(`more ${i}`, 5);
    world.remove(`key ${i * 5 + 1}`);
  }
  assert.equal(world.taken, 500);
});

test("ChangeTracker copies states with objects inside, maps and dates too", () => {
  const state = new KeyedState<{
    items: number[];
    seen: Map<string, Date>;
    big: bigint;
    none: undefined;
    zero: number;
  }>(4);
  const tracker = state.track();
  const hash = hashKey("a");
  const made = { items: [1, 2], seen: new Map([["x", new Date(5)]]), big: 7n, none: undefined, zero: -0 };
  state.add(hash, "a", made);
  tracker.freeze([]);
  const held = state.get(hash, "a")!;
  held.items.push(3);
  held.seen.get("x")!.setTime(9);
  const out = new EntryColumns();
  assert.equal(tracker.take(10, out), false);
  assert.deepEqual(out.values, [
    { items: [1, 2], seen: new Map([["x", new Date(5)]]), big: 7n, none: undefined, zero: -0 },
  ]);
});

test("ChangeTracker says which state could not be copied, and the record goes on", () => {
  class Account {
    n = 1;
  }
  for (const bad of [new Account(), { n: 1, f: () => {} }, { n: 1, deep: { s: Symbol("s") } }]) {
    const state = new KeyedState<object>(4);
    const tracker = state.track();
    state.add(hashKey("a"), "a", bad);
    tracker.freeze([]);
    assert.equal(state.get(hashKey("a"), "a"), bad);
    assert.equal(tracker.failure?.key, "a");
    assert.match(String(tracker.failure?.error), /only plain data can be carried/);
  }
});

test("ChangeTracker counts a key that changed once, however many freezes are never taken", () => {
  const state = new KeyedState<Counter>(4);
  const tracker = state.track();
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i < 2000; i++) {
      const key = `key ${i}`;
      const held = state.get(hashKey(key), key);
      if (held === undefined) state.add(hashKey(key), key, { n: round });
      else held.n = round;
    }
    tracker.freeze([]);
    assert.equal(tracker.changedCount, 2000);
  }
  const out = new EntryColumns();
  while (tracker.take(100_000, out));
  assert.equal(out.count, 2000);
});

test("Without tracking, a touch tells nobody and everything else works", () => {
  const state = new KeyedState<Counter>(4);
  state.add(hashKey("a"), "a", { n: 1 });
  state.get(hashKey("a"), "a")!.n = 2;
  assert.equal(state.remove(hashKey("a"), "a"), true);
  assert.equal(state.remove(hashKey("a"), "a"), false);
  assert.equal(state.keyCount, 0);
});
