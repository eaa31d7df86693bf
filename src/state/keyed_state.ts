/**
 * The state of one stage: one object a key, in one `Map` a key group. (A single Map of all keys is rehashed in one go when it
 * grows, which stops the event loop for seconds at ten million keys; a thousand small ones grow in a millisecond each.)
 * State is stored and moved by key group.
 */
import { assert } from "../base/assert.ts";
import type { KeyGroup } from "../base/ids.ts";

export class KeyedState<S extends object> {
  readonly #groups: (Map<string, S> | undefined)[];
  #keyCount = 0;

  constructor(keyGroupCount: number) {
    this.#groups = new Array(keyGroupCount).fill(undefined);
  }

  /** Over all key groups. */
  get keyCount(): number {
    return this.#keyCount;
  }

  get(group: KeyGroup, key: string): S | undefined {
    return this.#groups[group]?.get(key);
  }

  /** The state of a key that has none yet. */
  add(group: KeyGroup, key: string, state: S): void {
    let states = this.#groups[group];
    if (states === undefined) {
      states = new Map();
      this.#groups[group] = states;
    }
    assert(!states.has(key), "the key has a state already");
    states.set(key, state);
    this.#keyCount++;
  }

  /** Every key once, by key group; keys that come while iterating may or may not be among them. */
  *keys(): IterableIterator<string> {
    for (const states of this.#groups) if (states !== undefined) yield* states.keys();
  }

  /** The keys and states of one group. */
  *entries(group: KeyGroup): IterableIterator<[string, S]> {
    const states = this.#groups[group];
    if (states !== undefined) yield* states;
  }
}
