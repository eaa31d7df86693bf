/**
 * From a key to its key group, and from key groups to workers.
 *
 * State is stored and moved by key group (Carbone et al., "State Management in Apache Flink", VLDB 2017), and the hash
 * travels with the record: nothing here may ever give another result than it does today.
 */
import { assert } from "../base/assert.ts";
import type { KeyGroup } from "../base/ids.ts";

/** How many key groups a cluster has unless it was formed with another number. */
export const DEFAULT_KEY_GROUP_COUNT = 1024;
/** Most key groups a cluster may have. */
export const KEY_GROUP_COUNT_MAX = 32_768;
/** Longest key, in UTF-16 code units. */
export const KEY_LENGTH_MAX = 4096;

/**
 * MurmurHash3 (Austin Appleby, x86 32 bit, seed 0) of the key's UTF-16 code units, low byte first. Code units need no
 * encoder, are the same on every runtime and keep lone surrogates apart.
 *
 * @returns 0 to 4,294,967,295.
 */
export function hashKey(key: string): number {
  const length = key.length;
  const pairsEnd = length - 1;
  let hash = 0;
  let i = 0;
  for (; i < pairsEnd; i += 2) {
    let pair = Math.imul(key.charCodeAt(i) | (key.charCodeAt(i + 1) << 16), 0xcc9e2d51);
    pair = Math.imul((pair << 15) | (pair >>> 17), 0x1b873593);
    hash ^= pair;
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  if (i < length) {
    const last = Math.imul(key.charCodeAt(i), 0xcc9e2d51);
    hash ^= Math.imul((last << 15) | (last >>> 17), 0x1b873593);
  }
  hash ^= length * 2;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The key group of a hash: its low 31 bits (so that engines stay in integers) modulo `keyGroupCount`. */
export function keyGroupOf(hash: number, keyGroupCount: number): KeyGroup {
  return (hash & 0x7fffffff) % keyGroupCount;
}

/**
 * Shares all key groups out evenly, in runs: worker 0 owns the first run. The lengths of two runs differ by one at most.
 *
 * @returns By key group, the index of the worker that owns it.
 */
export function assignOwners(workerCount: number, keyGroupCount: number = DEFAULT_KEY_GROUP_COUNT): Uint16Array {
  assert(workerCount >= 1 && workerCount <= keyGroupCount, `${workerCount} workers for ${keyGroupCount} key groups`);
  assert(keyGroupCount <= KEY_GROUP_COUNT_MAX);
  const owners = new Uint16Array(keyGroupCount);
  for (let group = 0; group < keyGroupCount; group++) owners[group] = Math.floor((group * workerCount) / keyGroupCount);
  return owners;
}
