/**
 * The state of one stage: one object a key, in one table a key group. State is stored and moved by key group, and a small
 * table that grows takes microseconds, where one table of ten million keys would stop the event loop for seconds.
 */
import { keyGroupOf } from "../plan/key_groups.ts";
import { KeyTable } from "./key_table.ts";

export class KeyedState<S extends object> {
  readonly #groups: (KeyTable<S> | undefined)[];
  #keyCount = 0;

  constructor(keyGroupCount: number) {
    this.#groups = new Array(keyGroupCount).fill(undefined);
  }

  /** Over all key groups. */
  get keyCount(): number {
    return this.#keyCount;
  }

  /** The state of a key, whose hash is `hash`; `undefined` if it has none. */
  get(hash: number, key: string): S | undefined {
    return this.#groups[keyGroupOf(hash, this.#groups.length)]?.get(hash, key);
  }

  /** The state of a key that has none yet. */
  add(hash: number, key: string, state: S): void {
    const group = keyGroupOf(hash, this.#groups.length);
    let table = this.#groups[group];
    if (table === undefined) {
      table = new KeyTable();
      this.#groups[group] = table;
    }
    table.add(hash, ownText(key), state);
    this.#keyCount++;
  }

  /** Every key once, by key group; keys that come while iterating may or may not be among them. */
  *keys(): IterableIterator<string> {
    for (const table of this.#groups) if (table !== undefined) yield* table.keys();
  }

  /** The keys and states of one group. */
  *entries(group: number): IterableIterator<[string, S]> {
    const table = this.#groups[group];
    if (table !== undefined) yield* table.entries();
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
