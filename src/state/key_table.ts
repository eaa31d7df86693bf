import { assert } from "../base/assert.ts";

/** Slots of a new table; a power of two. */
const CAPACITY_FIRST = 8;
/** A key is at most so many slots away from its home; one that finds no place there goes into a `Map`. */
const PROBES_MAX = 64;
/** Beyond that many slots a look ahead is not worth it. */
const WARM_PROBES = 4;

/**
 * Who wants to know of a key's first touch since some moment: each slot holds a mark, and a touch of one that holds
 * another mark than `mark` is told, then marked.
 */
export interface TouchObserver<V> {
  readonly mark: number;
  /** Told before the value is handed out. `key` is the table's own text. */
  touched(markBefore: number, hash: number, key: string, value: V): void;
}

/** Where what is taken goes. */
export interface TakenEntries<V> {
  readonly total: number;
  add(hash: number, key: string, value: V): void;
}

/** A key that found no place in a slot. */
interface Crowded<V> {
  readonly key: string;
  readonly hash: number;
  value: V;
  mark: number;
  /** Is it in one of the lists of noted ones? */
  isNoted: boolean;
}

/**
 * Keys with values, found by the hash that travels with the record (`hashKey`): open addressing with linear probing, at
 * most two thirds full.
 *
 * A `Map` would hash each record's key again, which for a string that was just decoded costs more than all the rest, and
 * once more for every key whenever it grows.
 *
 * Hashes can be forged: keys that crowd around one home beyond `PROBES_MAX` are put into a `Map`, whose hash is secret.
 *
 * An even mark that is not 0 waits to be taken, and is *noted*: a bit a slot. So what waits is found without looking for keys,
 * slot after slot, in the small memory of one table; looking up each key cost several times as much, in waiting for memory.
 */
export class KeyTable<V> {
  /** Keys in slots. */
  #used = 0;
  /** `32 - log2(capacity)`. */
  #shift = 32 - Math.log2(CAPACITY_FIRST);
  /** Of each slot its hash and its mark, beside each other: one look into memory for both. */
  #meta = new Int32Array(CAPACITY_FIRST * 2);
  #keys: (string | undefined)[] = new Array(CAPACITY_FIRST).fill(undefined);
  #values: (V | undefined)[] = new Array(CAPACITY_FIRST).fill(undefined);
  /** A bit a slot: set wherever a mark is even and not 0, and in some other places. */
  #noted = new Int32Array(1);
  #crowded: Map<string, Crowded<V>> | null = null;
  /** Crowded ones whose mark is even and not 0, and some others. */
  #crowdedNoted: Crowded<V>[] = [];
  /** As above, seen by the `takeNoted` under way, which has left them for the next one. */
  #crowdedLater: Crowded<V>[] = [];
  /** Changes whenever a key may have moved to another slot. */
  #layout = 0;

  get size(): number {
    return this.#used + (this.#crowded?.size ?? 0);
  }

  /** The value of a key, whose hash is `hash`. */
  get(hash: number, key: string): V | undefined {
    const slot = this.#find(hash | 0, key);
    return slot >= 0 ? this.#values[slot] : this.#crowded?.get(key)?.value;
  }

  /** The table's own text of a key with this hash and of so many units, whichever is found first. */
  guessKey(hash: number, length: number): string | undefined {
    const keys = this.#keys;
    const meta = this.#meta;
    const mask = keys.length - 1;
    const wanted = hash | 0;
    let slot = home(wanted, this.#shift);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const held = keys[slot];
      if (held === undefined) return undefined;
      if (meta[slot * 2] === wanted && held.length === length) return held;
      slot = (slot + 1) & mask;
    }
    return undefined;
  }

  /**
   * Looks at everything that a `touch` of this hash will look at, and does nothing. Of no use by itself; but looks of many
   * records, one after the other, wait for memory at the same time, where the touches, with user code between them, wait one by one.
   *
   * @returns Some number, so that the look is not optimized away.
   */
  warm(hash: number): number {
    const keys = this.#keys;
    const meta = this.#meta;
    const mask = keys.length - 1;
    const wanted = hash | 0;
    let slot = home(wanted, this.#shift);
    for (let probes = 0; probes < WARM_PROBES; probes++) {
      if (meta[slot * 2] === wanted) {
        const held = keys[slot];
        return held === undefined || typeof this.#values[slot] !== "object" ? 0 : held.charCodeAt(0);
      }
      slot = (slot + 1) & mask;
    }
    return 0;
  }

  /** As `get`, and the observer learns of it: the value may be changed in place. */
  touch(hash: number, key: string, observer: TouchObserver<V>): V | undefined {
    const keys = this.#keys;
    const meta = this.#meta;
    const mask = keys.length - 1;
    const wanted = hash | 0;
    let slot = home(wanted, this.#shift);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const held = keys[slot];
      // A removal may have left a gap before a key that was crowded out.
      if (held === undefined) break;
      if (meta[slot * 2] === wanted && held === key) {
        const value = this.#values[slot]!;
        const mark = meta[slot * 2 + 1]!;
        if (mark !== observer.mark) {
          observer.touched(mark, hash, held, value);
          this.#mark(slot, observer.mark);
        }
        return value;
      }
      slot = (slot + 1) & mask;
    }
    const crowded = this.#crowded?.get(key);
    if (crowded === undefined) return undefined;
    if (crowded.mark !== observer.mark) {
      observer.touched(crowded.mark, hash, key, crowded.value);
      this.#markCrowded(crowded, observer.mark);
    }
    return crowded.value;
  }

  /** A key that is not there yet. */
  add(hash: number, key: string, value: V, mark = 0): void {
    assert(this.get(hash, key) === undefined, "the key is there already");
    this.#insert(hash | 0, key, value, mark);
  }

  /** Replaces the value of a key and its mark. False: it is not there. */
  replace(hash: number, key: string, value: V, mark: number): boolean {
    const slot = this.#find(hash | 0, key);
    if (slot >= 0) {
      this.#values[slot] = value;
      this.#mark(slot, mark);
      return true;
    }
    const crowded = this.#crowded?.get(key);
    if (crowded === undefined) return false;
    crowded.value = value;
    this.#markCrowded(crowded, mark);
    return true;
  }

  /** For a key that is known not to be there. */
  insert(hash: number, key: string, value: V, mark: number): void {
    this.#insert(hash | 0, key, value, mark);
  }

  /** False: it was not there. */
  remove(hash: number, key: string): boolean {
    let slot = this.#find(hash | 0, key);
    if (slot < 0) return this.#removeCrowded(key);
    this.#layout++;
    // What stands behind the gap moves into it, unless that is before its home (Knuth, TAOCP 3, 6.4, algorithm R).
    const keys = this.#keys;
    const mask = keys.length - 1;
    for (let next = (slot + 1) & mask; keys[next] !== undefined; next = (next + 1) & mask) {
      const distance = (next - home(this.#meta[next * 2]!, this.#shift)) & mask;
      if (distance < ((next - slot) & mask)) continue;
      keys[slot] = keys[next];
      this.#values[slot] = this.#values[next];
      this.#meta[slot * 2] = this.#meta[next * 2]!;
      this.#mark(slot, this.#meta[next * 2 + 1]!);
      slot = next;
    }
    keys[slot] = undefined;
    this.#values[slot] = undefined;
    this.#used--;
    return true;
  }

  /** Makes room for so many keys in one go. */
  reserve(count: number): void {
    let capacity = this.#keys.length;
    while (count * 3 > capacity * 2) capacity *= 2;
    if (capacity > this.#keys.length) this.#resize(capacity);
  }

  /**
   * Takes every key whose mark is even, not 0 and below `taken`, until `out` has `end` entries; their marks are `taken`
   * afterwards.
   *
   * @param cursor Where to go on; a new one at first. It may be used again after any change to the table.
   * @returns Are all of them taken?
   */
  takeNoted(taken: number, cursor: TableCursor, end: number, out: TakenEntries<V>): boolean {
    if (cursor.layout !== this.#layout) {
      cursor.layout = this.#layout;
      cursor.slot = 0;
      for (const crowded of this.#crowdedLater.splice(0)) this.#crowdedNoted.push(crowded);
    }
    const keys = this.#keys;
    const meta = this.#meta;
    const noted = this.#noted;
    for (; cursor.slot < keys.length; cursor.slot += 32) {
      const word = cursor.slot >>> 5;
      let waiting = noted[word]!;
      let later = 0;
      while (waiting !== 0) {
        if (out.total >= end) {
          noted[word] = waiting | later;
          return false;
        }
        const bit = waiting & -waiting;
        waiting ^= bit;
        const slot = cursor.slot + 31 - Math.clz32(bit);
        const mark = meta[slot * 2 + 1]!;
        if (mark > taken) later |= bit;
        const key = keys[slot];
        if (mark > taken || (mark & 1) !== 0 || mark === 0 || key === undefined) continue;
        meta[slot * 2 + 1] = taken;
        out.add(meta[slot * 2]! >>> 0, key, this.#values[slot]!);
      }
      noted[word] = later;
    }
    for (let crowded = this.#crowdedNoted.pop(); crowded !== undefined; crowded = this.#crowdedNoted.pop()) {
      const { mark } = crowded;
      if (mark > taken) {
        this.#crowdedLater.push(crowded);
        continue;
      }
      if ((mark & 1) === 0 && mark !== 0) {
        if (out.total >= end) {
          this.#crowdedNoted.push(crowded);
          return false;
        }
        crowded.mark = taken;
        out.add(crowded.hash >>> 0, crowded.key, crowded.value);
      }
      crowded.isNoted = false;
    }
    return true;
  }

  /**
   * Takes every key whose mark is below `taken`, until `out` has `end` entries; their marks are `taken` afterwards.
   *
   * @param cursor Where to go on; a new one at first. It may be used again after any change to the table.
   * @returns Are all of them taken?
   */
  takeBelow(taken: number, cursor: TableCursor, end: number, out: TakenEntries<V>): boolean {
    if (cursor.layout !== this.#layout) {
      cursor.layout = this.#layout;
      cursor.slot = 0;
    }
    const keys = this.#keys;
    const meta = this.#meta;
    for (; cursor.slot < keys.length; cursor.slot++) {
      const slot = cursor.slot;
      const key = keys[slot];
      if (key === undefined || meta[slot * 2 + 1]! >= taken) continue;
      if (out.total >= end) return false;
      meta[slot * 2 + 1] = taken;
      out.add(meta[slot * 2]! >>> 0, key, this.#values[slot]!);
    }
    if (this.#crowded !== null) {
      for (const [key, crowded] of this.#crowded) {
        if (crowded.mark >= taken) continue;
        if (out.total >= end) return false;
        crowded.mark = taken;
        out.add(crowded.hash >>> 0, key, crowded.value);
      }
    }
    return true;
  }

  /** Marks every key whose mark is above `above` and not `mark` with `mark`, and tells their hashes. */
  markAbove(above: number, mark: number, tell: (hash: number) => void): void {
    const keys = this.#keys;
    const meta = this.#meta;
    for (let slot = 0; slot < keys.length; slot++) {
      const held = meta[slot * 2 + 1]!;
      const key = keys[slot];
      if (held <= above || held === mark || key === undefined) continue;
      this.#mark(slot, mark);
      tell(meta[slot * 2]! >>> 0);
    }
    if (this.#crowded === null) return;
    for (const crowded of this.#crowded.values()) {
      if (crowded.mark <= above || crowded.mark === mark) continue;
      this.#markCrowded(crowded, mark);
      tell(crowded.hash >>> 0);
    }
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

  /** The slot of a key; negative: it is in none. */
  #find(wanted: number, key: string): number {
    const keys = this.#keys;
    const meta = this.#meta;
    const mask = keys.length - 1;
    let slot = home(wanted, this.#shift);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const held = keys[slot];
      if (held === undefined) return -1;
      if (meta[slot * 2] === wanted && held === key) return slot;
      slot = (slot + 1) & mask;
    }
    return -1;
  }

  #mark(slot: number, mark: number): void {
    this.#meta[slot * 2 + 1] = mark;
    if ((mark & 1) === 0 && mark !== 0) this.#noted[slot >>> 5]! |= 1 << (slot & 31);
  }

  #markCrowded(crowded: Crowded<V>, mark: number): void {
    crowded.mark = mark;
    if ((mark & 1) !== 0 || mark === 0 || crowded.isNoted) return;
    crowded.isNoted = true;
    this.#crowdedNoted.push(crowded);
  }

  #removeCrowded(key: string): boolean {
    const crowded = this.#crowded?.get(key);
    if (crowded === undefined) return false;
    crowded.mark = 0;
    return this.#crowded!.delete(key);
  }

  #insert(hash: number, key: string, value: V, mark: number): void {
    if ((this.#used + 1) * 3 > this.#keys.length * 2) this.#resize(this.#keys.length * 2);
    this.#put(hash, key, value, mark);
  }

  #put(hash: number, key: string, value: V, marked: number): void {
    const mask = this.#keys.length - 1;
    let slot = home(hash, this.#shift);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      if (this.#keys[slot] === undefined) {
        this.#meta[slot * 2] = hash;
        this.#mark(slot, marked);
        this.#keys[slot] = key;
        this.#values[slot] = value;
        this.#used++;
        return;
      }
      slot = (slot + 1) & mask;
    }
    this.#crowded ??= new Map();
    const crowded = { key, hash, value, mark: 0, isNoted: false };
    this.#crowded.set(key, crowded);
    this.#markCrowded(crowded, marked);
  }

  #resize(capacity: number): void {
    const meta = this.#meta;
    const keys = this.#keys;
    const values = this.#values;
    const crowded = this.#crowded;
    this.#used = 0;
    this.#crowded = null;
    this.#crowdedNoted = [];
    this.#crowdedLater = [];
    this.#layout++;
    this.#shift = 32 - Math.log2(capacity);
    this.#meta = new Int32Array(capacity * 2);
    this.#noted = new Int32Array(Math.ceil(capacity / 32));
    this.#keys = new Array(capacity).fill(undefined);
    this.#values = new Array(capacity).fill(undefined);
    for (let slot = 0; slot < keys.length; slot++) {
      const key = keys[slot];
      if (key !== undefined) this.#put(meta[slot * 2]!, key, values[slot]!, meta[slot * 2 + 1]!);
    }
    // There may be room for them now; if not, they go back.
    if (crowded !== null) for (const [key, { hash, value, mark }] of crowded) this.#put(hash, key, value, mark);
  }
}

/** A place in a table, for `takeNoted` or `takeBelow`. */
export interface TableCursor {
  layout: number;
  slot: number;
}

/** Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper bits, as all keys of a key group have the lower ones in common. */
function home(hash: number, shift: number): number {
  return Math.imul(hash, 0x9e3779b1) >>> shift;
}
