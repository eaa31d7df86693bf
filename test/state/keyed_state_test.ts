import assert from "node:assert/strict";
import { test } from "node:test";
import { hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { KeyedState } from "../../src/state/keyed_state.ts";

const KEYS = ["", "a", "b", "naïve", "😀", "\ud800", "\udc00", ...Array.from({ length: 3000 }, (_, i) => `user-${i}`)];

function filled(keyGroupCount: number): KeyedState<{ key: string }> {
  const state = new KeyedState<{ key: string }>(keyGroupCount);
  for (const key of KEYS) state.add(hashKey(key), key, { key });
  return state;
}

test("KeyedState holds one state a key and counts them", () => {
  for (const keyGroupCount of [1, 7, 1024]) {
    const state = filled(keyGroupCount);
    assert.equal(state.keyCount, KEYS.length);
    for (const key of KEYS) assert.deepEqual(state.get(hashKey(key), key), { key });
    assert.equal(state.get(hashKey("nobody"), "nobody"), undefined);
    assert.deepEqual([...state.keys()].sort(), [...KEYS].sort());
  }
});

test("KeyedState gives the entries of one key group", () => {
  const state = filled(16);
  const seen: string[] = [];
  for (let group = 0; group < 16; group++) {
    for (const [key, value] of state.entries(group)) {
      assert.equal(keyGroupOf(hashKey(key), 16), group);
      assert.equal(value.key, key);
      seen.push(key);
    }
  }
  assert.deepEqual(seen.sort(), [...KEYS].sort());
  assert.deepEqual([...new KeyedState(16).entries(3)], []);
});

test("KeyedState keeps keys, not the texts they were cut out of", () => {
  const state = new KeyedState<object>(1024);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 16_000; i++) {
    const bytes = new Uint8Array(65_536).fill(0x61);
    new TextEncoder().encodeInto(String(i).padStart(20, "0"), bytes.subarray(50));
    const key = new TextDecoder().decode(bytes).slice(50, 70);
    state.add(hashKey(key), key, {});
  }
  const grownMb = (process.memoryUsage().rss - before) / 1e6;
  assert.ok(grownMb < 500, `${grownMb} MB for 16,000 keys: the texts themselves are 1,049 MB`);
});

test("KeyedState that is told which keys to expect is as it was, and its tracker hears of no touch", () => {
  const state = new KeyedState<{ n: number }>(16);
  const keys = Array.from({ length: 20_000 }, (_, i) => (i % 3 === 0 ? "" : `key ${i}`)).filter(unique);
  for (const key of keys) state.add(hashKey(key), key, { n: key.length });
  const tracker = state.track();
  const asked = Uint32Array.from([...keys, "not there", "nor this"], hashKey);
  state.expect(asked, asked.length);
  state.expect(new Uint32Array(0), 0);
  assert.equal(tracker.changedCount, 0);
  assert.equal(state.keyCount, keys.length);
  for (const key of keys) assert.equal(state.peek(hashKey(key), key)?.n, key.length);
});

function unique(key: string, index: number, all: readonly string[]): boolean {
  return key !== "" || all.indexOf("") === index;
}
