/**
 * What has changed in the state of a stage since the last checkpoint, key by key, and what it was at the cut.
 *
 *   touched ──freeze──▶ frozen ──take──▶ taken ──secured──▶ (in the log)
 *      ▲                  │                │
 *      └──── abandon ─────┘                │
 *      └──────────── unsecure ─────────────┘
 *
 * Each key has a mark (`KeyTable`). Freezes are numbered from 1; the current number n stands for "since freeze n - 1":
 *
 *   0       not touched since it was restored
 *   2n      touched since freeze n - 1, and in the list of changes
 *   2n - 1  taken: what freeze n - 1 froze was handed out
 *
 * so that one comparison tells a key that was touched already, and all that may be missing from the log has a mark above
 * that of the last freeze known to be there.
 *
 * T1. What is taken is the state at the freeze: a frozen key that is touched is copied first. Copying changes nothing else.
 * T2. A key is in the list at most once a freeze, and the list never holds many more keys than the state.
 * T3. Taking costs by what is frozen, freezing by the number of key groups.
 * T4. Whole key groups can be frozen too, changed or not. Such a group is complete once everything is taken.
 */
import { assert } from "../base/assert.ts";
import { keyGroupOf } from "../plan/key_groups.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { decodeValues, encodeValues } from "../wire/values.ts";
import { ChangeList } from "./change_list.ts";
import type { EntryColumns } from "./entry_columns.ts";
import type { KeyTable, TableCursor, TouchObserver } from "./key_table.ts";

/** The marks would run out: at a freeze a second, after 34 years. */
const FREEZES_MAX = 2 ** 30 - 2;
/** Keys that the list may hold beyond twice those that there are. */
const LIST_SLACK = 65_536;

interface Removed {
  readonly hash: number;
  mark: number;
}

/** A value as it was at the cut; `null`: the key was not there. */
interface Copy<S> {
  readonly hash: number;
  readonly key: string;
  readonly value: S | null;
}

export class ChangeTracker<S extends object> implements TouchObserver<S> {
  /** The mark of what was touched since the last freeze. */
  mark = 2;
  readonly #tables: readonly (KeyTable<S> | undefined)[];
  /** Touched since the last freeze. */
  readonly #touched = new ChangeList();
  /** Frozen, and not taken yet. */
  readonly #frozen = new ChangeList();
  #copies: Copy<S>[] = [];
  #copiesTaken = 0;
  /** Key groups that are frozen as a whole and not taken yet; 1 by group. */
  readonly #wholeGroup: Uint8Array;
  readonly #wholeGroups: number[] = [];
  readonly #cursor: TableCursor = { layout: -1, slot: 0 };
  /** Is anything frozen? Then a key that is frozen and not taken has an even mark below `mark`; none has 0. */
  #isFrozen = false;
  /** Marks up to this one are in the log. */
  #securedMark = 0;
  /** Keys that were removed, until it is in the log that they were. */
  readonly #removed = new Map<string, Removed>();
  readonly #scratch = new ByteWriter();
  readonly #copyOf: (value: S) => S;
  /** A copy that could not be made, since the state is no plain data: what was frozen cannot be taken as a whole. */
  failure: { readonly key: string; readonly error: unknown } | null = null;

  constructor(tables: readonly (KeyTable<S> | undefined)[], copy?: (value: S) => S) {
    this.#copyOf = copy ?? ((value) => this.#deepCopy(value));
    this.#tables = tables;
    this.#wholeGroup = new Uint8Array(tables.length);
  }

  /** How many keys the next freeze would freeze, about. */
  get changedCount(): number {
    return this.#touched.length + this.#frozen.length;
  }

  /** Is there something to take? */
  get isFrozen(): boolean {
    return this.#isFrozen;
  }

  touched(markBefore: number, hash: number, key: string, value: S): void {
    if (this.#isFrozen && this.#isWaiting(markBefore, hash)) this.#copy(hash, key, value);
    this.#touched.push(hash, key);
  }

  /** A key that was not there. Returns the mark that it gets. */
  added(hash: number, key: string): number {
    const removed = this.#removed.size === 0 ? undefined : this.#removed.get(key);
    if (removed !== undefined) {
      this.#removed.delete(key);
      if (this.#isFrozen && this.#isFrozenMark(removed.mark)) this.#copies.push({ hash, key, value: null });
      // It is in the list as removed, then.
      if (removed.mark === this.mark) return this.mark;
    }
    this.#touched.push(hash, key);
    return this.mark;
  }

  /** A key that was there, and was touched before it was removed. */
  removedAfterTouch(hash: number, key: string): void {
    this.#removed.set(key, { hash, mark: this.mark });
  }

  /**
   * Freezes what was touched since the last freeze, what is left of that one, and some key groups as a whole.
   *
   * @returns The number of this freeze, for `secured`.
   */
  freeze(wholeGroups: readonly number[]): number {
    const number = this.mark / 2;
    assert(number < FREEZES_MAX, "too many freezes");
    this.abandon();
    this.#frozen.append(this.#touched);
    this.mark += 2;
    this.#isFrozen = true;
    for (const group of wholeGroups) {
      this.#wholeGroup[group] = 1;
      this.#wholeGroups.push(group);
    }
    this.failure = null;
    if (this.#frozen.length > 2 * this.#keyCount() + LIST_SLACK) this.#shorten();
    return number;
  }

  /**
   * Takes frozen entries into `out`, up to `countMax` more. False: everything is taken.
   */
  take(countMax: number, out: EntryColumns): boolean {
    if (!this.#isFrozen) return false;
    const taken = this.mark - 1;
    const end = out.total + countMax;
    while (out.total < end && this.#copiesTaken < this.#copies.length) {
      const { hash, key, value } = this.#copies[this.#copiesTaken++]!;
      if (value === null) out.addRemoved(hash, key);
      else out.add(hash, key, value);
    }
    if (this.#copiesTaken === this.#copies.length) {
      this.#copies = [];
      this.#copiesTaken = 0;
    }
    const groupCount = this.#tables.length;
    if (out.total < end && this.#frozen.length > 0) {
      this.#frozen.take((hash, key) => {
        const value = this.#tables[keyGroupOf(hash, groupCount)]?.take(hash, key, taken);
        if (value !== undefined) out.add(hash, key, value);
        else if (this.#removed.size > 0) this.#takeRemoved(hash, key, out);
        return out.total < end;
      });
    }
    while (out.total < end && this.#wholeGroups.length > 0) {
      const group = this.#wholeGroups.at(-1)!;
      const all =
        this.#tables[group]?.takeBelow(taken, this.#cursor, (hash, key, value) => {
          out.add(hash, key, value);
          return out.total < end;
        }) ?? true;
      if (all) this.#endWholeGroup(group);
    }
    this.#isFrozen = this.#copies.length > 0 || this.#frozen.length > 0 || this.#wholeGroups.length > 0;
    return this.#isFrozen;
  }

  /** What is frozen and not taken is no longer wanted as it is now: the next freeze will freeze it again. */
  abandon(): void {
    this.#isFrozen = false;
    this.#copies = [];
    this.#copiesTaken = 0;
    this.#dropWholeGroups();
  }

  /** Everything up to a freeze is in the log, and will not leave it. */
  secured(freeze: number): void {
    this.#securedMark = Math.max(this.#securedMark, freeze * 2 + 1);
    for (const [key, { mark }] of this.#removed) if (mark <= this.#securedMark) this.#removed.delete(key);
  }

  /** The log has lost everything since the last freeze that was secured: it is frozen again with the next freeze. */
  unsecure(): void {
    this.abandon();
    this.#frozen.clear();
    this.#markAbove(this.#securedMark);
  }

  /** All keys count as touched, as if none were in the log. */
  touchAll(): void {
    this.abandon();
    this.#frozen.clear();
    this.#markAbove(-1);
  }

  #markAbove(mark: number): void {
    const tell = (hash: number, key: string): void => this.#touched.push(hash, key);
    for (const table of this.#tables) table?.markAbove(mark, this.mark, tell);
    for (const [key, removed] of this.#removed) {
      if (removed.mark === this.mark) continue;
      removed.mark = this.mark;
      this.#touched.push(removed.hash, key);
    }
  }

  /** Freezes that were never taken leave keys in the list several times. */
  #shorten(): void {
    const waiting = new Set<string>();
    const kept = new ChangeList();
    this.#frozen.take((hash, key) => {
      if (!waiting.has(key)) {
        waiting.add(key);
        kept.push(hash, key);
      }
      return true;
    });
    this.#frozen.append(kept);
  }

  #keyCount(): number {
    let count = this.#removed.size;
    for (const table of this.#tables) if (table !== undefined) count += table.size;
    return count;
  }

  #isFrozenMark(mark: number): boolean {
    return (mark & 1) === 0 && mark !== 0 && mark < this.mark;
  }

  /** Is a key with this mark frozen and not taken? */
  #isWaiting(mark: number, hash: number): boolean {
    if (this.#isFrozenMark(mark)) return true;
    return (
      this.#wholeGroups.length > 0 &&
      mark < this.mark - 1 &&
      this.#wholeGroup[keyGroupOf(hash, this.#tables.length)] === 1
    );
  }

  #takeRemoved(hash: number, key: string, out: EntryColumns): void {
    const removed = this.#removed.get(key);
    if (removed === undefined || !this.#isFrozenMark(removed.mark)) return;
    removed.mark = this.mark - 1;
    out.addRemoved(hash, key);
  }

  #copy(hash: number, key: string, value: S): void {
    try {
      this.#copies.push({ hash, key, value: shallowCopy(value) ?? this.#copyOf(value) });
    } catch (error) {
      this.failure ??= { key, error };
    }
  }

  #deepCopy(value: S): S {
    const out = this.#scratch;
    out.clear();
    encodeValues([value], 1, out);
    const [copy] = decodeValues(out.data, 0, out.length, 1);
    return copy as S;
  }

  #endWholeGroup(group: number): void {
    this.#wholeGroup[group] = 0;
    this.#wholeGroups.pop();
    this.#cursor.layout = -1;
  }

  #dropWholeGroups(): void {
    for (const group of this.#wholeGroups.splice(0)) this.#wholeGroup[group] = 0;
    this.#cursor.layout = -1;
  }
}

/** A copy of a plain object whose fields hold no further objects: the usual state. `null`: it is something else. */
function shallowCopy<S extends object>(value: S): S | null {
  if (Object.getPrototypeOf(value) !== Object.prototype) return null;
  for (const name in value) {
    const field: unknown = value[name];
    if (typeof field === "object" ? field !== null : typeof field === "function" || typeof field === "symbol")
      return null;
  }
  return { ...value };
}
