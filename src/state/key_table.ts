import { assert } from "../base/assert.ts";

/** Slots of a new table; a power of two. */
const CAPACITY_FIRST = 8;
/** A key is at most so many slots away from its home; one that finds no place there goes into a `Map`. */
const PROBES_MAX = 64;

/**
 * Keys with values, found by the hash that travels with the record (`hashKey`): open addressing with linear probing, at
 * most two thirds full.
 *
 * A `Map` would hash each record's key again, which for a string that was just decoded costs more than all the rest, and
 * once more for every key whenever it grows.
 *
 * Hashes can be forged: keys that crowd around one home beyond `PROBES_MAX` are put into a `Map`, whose hash is secret.
 */
export class KeyTable<V> {
  /** Keys in slots. */
  #used = 0;
  /** `32 - log2(capacity)`. */
  #shift = 32 - Math.log2(CAPACITY_FIRST);
  #hashes = new Int32Array(CAPACITY_FIRST);
  #keys: (string | undefined)[] = new Array(CAPACITY_FIRST).fill(undefined);
  #values: (V | undefined)[] = new Array(CAPACITY_FIRST).fill(undefined);
  #crowded: Map<string, { readonly hash: number; readonly value: V }> | null = null;

  get size(): number {
    return this.#used + (this.#crowded?.size ?? 0);
  }

  /** The value of a key, whose hash is `hash`. */
  get(hash: number, key: string): V | undefined {
    const keys = this.#keys;
    const hashes = this.#hashes;
    const mask = keys.length - 1;
    const wanted = hash | 0;
    let slot = home(wanted, this.#shift);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const held = keys[slot];
      if (held === undefined) return undefined;
      if (hashes[slot] === wanted && held === key) return this.#values[slot];
      slot = (slot + 1) & mask;
    }
    return this.#crowded?.get(key)?.value;
  }

  /** A key that is not there yet. */
  add(hash: number, key: string, value: V): void {
    assert(this.get(hash, key) === undefined, "the key is there already");
    if ((this.#used + 1) * 3 > this.#keys.length * 2) this.#grow();
    this.#put(hash | 0, key, value);
  }

  *keys(): IterableIterator<string> {
    for (const key of this.#keys) if (key !== undefined) yield key;
    if (this.#crowded !== null) yield* this.#crowded.keys();
  }

  *entries(): IterableIterator<[string, V]> {
    const keys = this.#keys;
    const values = this.#values;
    for (let slot = 0; slot < keys.length; slot++) {
      const key = keys[slot];
      if (key !== undefined) yield [key, values[slot]!];
    }
    if (this.#crowded !== null) for (const [key, { value }] of this.#crowded) yield [key, value];
  }

  #put(hash: number, key: string, value: V): void {
    const mask = this.#keys.length - 1;
    let slot = home(hash, this.#shift);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      if (this.#keys[slot] === undefined) {
        this.#hashes[slot] = hash;
        this.#keys[slot] = key;
        this.#values[slot] = value;
        this.#used++;
        return;
      }
      slot = (slot + 1) & mask;
    }
    this.#crowded ??= new Map();
    this.#crowded.set(key, { hash, value });
  }

  #grow(): void {
    const hashes = this.#hashes;
    const keys = this.#keys;
    const values = this.#values;
    const crowded = this.#crowded;
    const capacity = keys.length * 2;
    this.#used = 0;
    this.#crowded = null;
    this.#shift--;
    this.#hashes = new Int32Array(capacity);
    this.#keys = new Array(capacity).fill(undefined);
    this.#values = new Array(capacity).fill(undefined);
    for (let slot = 0; slot < keys.length; slot++) {
      const key = keys[slot];
      if (key !== undefined) this.#put(hashes[slot]!, key, values[slot]!);
    }
    // There may be room for them now; if not, they go back.
    if (crowded !== null) for (const [key, { hash, value }] of crowded) this.#put(hash, key, value);
  }
}

/** Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper bits, as all keys of a key group have the lower ones in common. */
function home(hash: number, shift: number): number {
  return Math.imul(hash, 0x9e3779b1) >>> shift;
}
