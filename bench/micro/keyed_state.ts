/**
 * What it costs to find a key's state: one `Map` of all keys, a `Map` for each key group, and `KeyedState`, by keys that
 * were just decoded, as they are in a worker. The figures with key groups contain the hash of the key.
 *
 *   bun bench/micro/keyed_state.ts [keys]
 *   deno run -A bench/micro/keyed_state.ts [keys]
 */
import process from "node:process";
import { hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { KeyedState } from "../../src/state/keyed_state.ts";

const KEY_COUNT = Number(process.argv[2] ?? 10_000);
const BATCH = 1_000;
const BATCHES = 1_000;
const ROUNDS = 7;

interface Count {
  n: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const encoded = Array.from({ length: KEY_COUNT }, (_, i) => encoder.encode(`user-${String(i).padStart(11, "0")}`));
const order = Uint32Array.from({ length: BATCH * BATCHES }, () => Math.floor(Math.random() * KEY_COUNT));

const flat = new Map<string, Count>();
const groups = Array.from({ length: 1024 }, () => new Map<string, Count>());
const state = new KeyedState<Count>(1024);

function countIn(map: Map<string, Count>, key: string): void {
  const held = map.get(key);
  if (held === undefined) map.set(key, { n: 1 });
  else held.n++;
}

const ways: Record<string, (keys: readonly string[]) => void> = {
  "one Map": (keys) => {
    for (const key of keys) countIn(flat, key);
  },
  "a Map a key group": (keys) => {
    for (const key of keys) countIn(groups[keyGroupOf(hashKey(key), 1024)]!, key);
  },
  KeyedState: (keys) => {
    for (const key of keys) {
      const hash = hashKey(key);
      const held = state.get(hash, key);
      if (held === undefined) state.add(hash, key, { n: 1 });
      else held.n++;
    }
  },
};

ways["KeyedState that expects a batch"] = (keys) => {
  const hashes = new Uint32Array(keys.length);
  for (let i = 0; i < keys.length; i++) hashes[i] = hashKey(keys[i]!);
  state.expect(hashes, keys.length);
  for (let i = 0; i < keys.length; i++) {
    const held = state.get(hashes[i]!, keys[i]!);
    if (held === undefined) state.add(hashes[i]!, keys[i]!, { n: 1 });
    else held.n++;
  }
};

const times = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, run] of Object.entries(ways)) {
    let took = 0;
    for (let batch = 0; batch < BATCHES; batch++) {
      const keys: string[] = [];
      for (let i = 0; i < BATCH; i++) keys.push(decoder.decode(encoded[order[batch * BATCH + i]!]));
      const started = performance.now();
      run(keys);
      took += performance.now() - started;
    }
    // The first rounds fill and warm up.
    if (round >= 2) times.get(name)!.push((took * 1e6) / (BATCH * BATCHES));
  }
}
for (const [name, list] of times) {
  const median = list.sort((a, b) => a - b)[list.length >> 1]!;
  console.log(`${KEY_COUNT} keys, ${name}: ${median.toFixed(0)} ns a record`);
}
