/**
 * The state of one stage: one object a key, in one table a key group. State is stored and moved by key group, and a small
 * table that grows takes microseconds, where one table of ten million keys would stop the event loop for seconds.
 *
 * Once `track` was called, it also knows which keys were touched since the last checkpoint (`change_tracker.ts`).
 */
import { keyGroupOf } from "../plan/key_groups.ts";
import { ChangeTracker } from "./change_tracker.ts";
import { KeyTable, type TouchObserver } from "./key_table.ts";

/** Up to here a processor's own cache holds the keys and states anyway. */
const WARM_FROM_KEYS = 16_384;

export class KeyedState<S extends object> {
  readonly #groups: (KeyTable<S> | undefined)[];
  #keyCount = 0;
  /** Of no meaning: what `expect` looks at must go somewhere, or an engine leaves the looks out. */
  seen = 0;
  #tracker: ChangeTracker<S> | null = null;
  /** The tracker, or one that never hears of anything: nothing has another mark than 0 then. */
  #observer: TouchObserver<S> = { mark: 0, touched: () => {} };
  /** By group: room for so many keys when the table is made. */
  #reserve = 0;

  constructor(keyGroupCount: number) {
    this.#groups = new Array(keyGroupCount).fill(undefined);
  }

  /** Over all key groups. */
  get keyCount(): number {
    return this.#keyCount;
  }

  get keyGroupCount(): number {
    return this.#groups.length;
  }

  /** How many keys one group has. */
  groupSize(group: number): number {
    return this.#groups[group]?.size ?? 0;
  }

  /**
   * From now on, touches are noted. What is there already counts as known, unless `touchAll` of the tracker is called.
   *
   * @param copy Of a state. Default: as of plain data.
   */
  track(copy?: (state: S) => S): ChangeTracker<S> {
    if (this.#tracker === null) {
      this.#tracker = new ChangeTracker(this.#groups, copy);
      this.#observer = this.#tracker;
    }
    return this.#tracker;
  }

  /** The state of a key, whose hash is `hash`; `undefined` if it has none. It may be changed in place: this is a touch. */
  get(hash: number, key: string): S | undefined {
    return this.#groups[keyGroupOf(hash, this.#groups.length)]?.touch(hash, key, this.#observer);
  }

  /**
   * The keys with the first `count` of these hashes are about to be asked for. Where there are so many keys that they are in no
   * cache of the processor, that makes finding them faster.
   */
  expect(hashes: ArrayLike<number>, count: number): void {
    if (this.#keyCount < WARM_FROM_KEYS) return;
    const groups = this.#groups;
    let seen = 0;
    for (let i = 0; i < count; i++) {
      const hash = hashes[i]!;
      const table = groups[keyGroupOf(hash, groups.length)];
      if (table !== undefined) seen ^= table.warm(hash);
    }
    this.seen = seen;
  }

  /** The state of a key, to look at only. */
  peek(hash: number, key: string): S | undefined {
    return this.#groups[keyGroupOf(hash, this.#groups.length)]?.get(hash, key);
  }

  /** The text of a key with a state, of this hash and of so many UTF-16 units: probably the one that is meant. No touch. */
  guessKey(hash: number, length: number): string | undefined {
    return this.#groups[keyGroupOf(hash, this.#groups.length)]?.guessKey(hash, length);
  }

  /** The state of a key that has none yet. */
  add(hash: number, key: string, state: S): void {
    const own = ownText(key);
    this.#table(hash).add(hash, own, state, this.#tracker === null ? 0 : this.#tracker.added(hash, own));
    this.#keyCount++;
  }

  /** False: it has no state. */
  remove(hash: number, key: string): boolean {
    const table = this.#groups[keyGroupOf(hash, this.#groups.length)];
    if (table?.touch(hash, key, this.#observer) === undefined) return false;
    table.remove(hash, key);
    this.#keyCount--;
    this.#tracker?.removedAfterTouch(hash, ownText(key));
    return true;
  }

  /** Makes room for so many keys that `load` will bring. */
  reserve(keyCount: number): void {
    this.#reserve = Math.ceil((keyCount / this.#groups.length) * 1.1);
    for (const table of this.#groups) table?.reserve(this.#reserve);
  }

  /** Puts entries in as they were saved: over what is there, and without counting as touches. */
  load(hashes: ArrayLike<number>, keys: readonly string[], values: readonly S[], count: number): void {
    for (let i = 0; i < count; i++) {
      const hash = hashes[i]!;
      const key = keys[i]!;
      const table = this.#table(hash);
      if (table.replace(hash, key, values[i]!, 0)) continue;
      table.insert(hash, ownText(key), values[i]!, 0);
      this.#keyCount++;
    }
  }

  /** Takes out entries as it was saved that they were removed. */
  loadRemoved(hashes: ArrayLike<number>, keys: readonly string[], count: number): void {
    for (let i = 0; i < count; i++) {
      const hash = hashes[i]!;
      if (this.#groups[keyGroupOf(hash, this.#groups.length)]?.remove(hash, keys[i]!)) this.#keyCount--;
    }
  }

  /** Every key once, by key group; keys that come while iterating may or may not be among them. */
  *keys(): IterableIterator<string> {
    for (const table of this.#groups) if (table !== undefined) yield* table.keys();
  }

  /** The keys and states of one group, to look at only. */
  *entries(group: number): IterableIterator<[string, S]> {
    const table = this.#groups[group];
    if (table !== undefined) yield* table.entries();
  }

  #table(hash: number): KeyTable<S> {
    const group = keyGroupOf(hash, this.#groups.length);
    const held = this.#groups[group];
    if (held !== undefined) return held;
    const table = new KeyTable<S>();
    if (this.#reserve > 0) table.reserve(this.#reserve);
    this.#groups[group] = table;
    return table;
  }
}

/**
 * A copy that holds on to nothing else. A text cut out of a longer one may keep all of that alive: each key would hold the
 * 64 KiB it was read in. (Through code units, since an encoder would fold lone surrogates.)
 */
function ownText(text: string): string {
  const units = new Array<number>(text.length);
  for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i);
  return String.fromCharCode.apply(null, units);
}
