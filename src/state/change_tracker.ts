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
 *   2n      touched since freeze n - 1, and noted in the table
 *   2n - 1  taken: what freeze n - 1 froze was handed out
 *
 * so that one comparison tells a key that was touched already, and all that may be missing from the log has a mark above
 * that of the last freeze known to be there.
 *
 * T1. What is taken is the state at the freeze: a frozen key that is touched is copied first. Copying changes nothing else.
 * T2. What changed is noted in the tables, where it is, and takes no memory by its number. Only copies and removals do.
 * T3. Taking costs by what is frozen, and a bit for each slot of the tables that hold any of it; freezing costs nothing.
 * T4. Whole key groups can be frozen too, changed or not. Such a group is complete once everything is taken.
 */
import { assert } from "../base/assert.ts";
import { keyGroupOf } from "../plan/key_groups.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { decodeValues, encodeValues } from "../wire/values.ts";
import { EntryColumns } from "./entry_columns.ts";
import type { KeyTable, TableCursor, TouchObserver } from "./key_table.ts";

/** The marks would run out: at a freeze a second, after 34 years. */
const FREEZES_MAX = 2 ** 30 - 2;

interface Removed {
  readonly hash: number;
  mark: number;
}

export class ChangeTracker<S extends object> implements TouchObserver<S> {
  /** The mark of what was touched since the last freeze. */
  mark = 2;
  readonly #tables: readonly (KeyTable<S> | undefined)[];
  /** By group: the mark of the last touch that may not have been taken; 0: there is none. */
  readonly #noted: Int32Array;
  /** The first group whose frozen entries may not have been taken. */
  #group = 0;
  /** Keys that were touched since the last freeze. */
  #touchedCount = 0;
  /** Keys that are frozen and were not touched since, and not taken. */
  #frozenCount = 0;
  /** Of frozen keys, as they were at the cut. */
  readonly #copies = new EntryColumns();
  /** Over `#removed`: what comes next may have been frozen. */
  #frozenRemovals: IterableIterator<[string, Removed]> | null = null;
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
    this.#noted = new Int32Array(tables.length);
  }

  /** How many keys the next freeze would freeze, about. */
  get changedCount(): number {
    return this.#touchedCount + this.#frozenCount;
  }

  /** Is there something to take? */
  get isFrozen(): boolean {
    return this.#isFrozen;
  }

  touched(markBefore: number, hash: number, key: string, value: S): void {
    if (this.#isFrozen && this.#isWaiting(markBefore, hash)) this.#copy(hash, key, value);
    if (this.#isFrozenMark(markBefore)) this.#frozenCount--;
    this.#note(hash);
  }

  /** A key that was not there. Returns the mark that it gets. */
  added(hash: number, key: string): number {
    const removed = this.#removed.size === 0 ? undefined : this.#removed.get(key);
    if (removed !== undefined) {
      this.#removed.delete(key);
      // Counted already.
      if (removed.mark === this.mark) this.#touchedCount--;
      if (this.#isFrozenMark(removed.mark)) {
        this.#frozenCount--;
        if (this.#isFrozen) this.#copies.addRemoved(hash, key);
      }
    }
    this.#note(hash);
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
    this.#frozenCount += this.#touchedCount;
    this.#touchedCount = 0;
    this.mark += 2;
    this.#isFrozen = true;
    this.#group = 0;
    this.#frozenRemovals = this.#removed.size > 0 ? this.#removed.entries() : null;
    for (const group of wholeGroups) {
      this.#wholeGroup[group] = 1;
      this.#wholeGroups.push(group);
    }
    this.failure = null;
    return number;
  }

  /**
   * Takes frozen entries into `out`, up to `countMax` more. False: everything is taken.
   */
  take(countMax: number, out: EntryColumns): boolean {
    if (!this.#isFrozen) return false;
    const taken = this.mark - 1;
    const end = out.total + countMax;
    this.#copies.moveTo(out, end);
    const before = out.total;
    this.#takeNoted(taken, end, out);
    this.#takeRemovals(taken, end, out);
    this.#frozenCount -= out.total - before;
    this.#takeWholeGroups(taken, end, out);
    this.#isFrozen =
      this.#copies.total > 0 ||
      this.#group < this.#tables.length ||
      this.#frozenRemovals !== null ||
      this.#wholeGroups.length > 0;
    if (!this.#isFrozen) this.#frozenCount = 0;
    return this.#isFrozen;
  }

  #takeNoted(taken: number, end: number, out: EntryColumns): void {
    for (; this.#group < this.#tables.length; this.#group++) {
      const group = this.#group;
      // What is frozen as a whole is taken once, as that.
      if (this.#noted[group] === 0 || this.#wholeGroup[group] === 1) continue;
      if (out.total >= end || this.#tables[group]?.takeNoted(taken, this.#cursor, end, out) === false) return;
      this.#cursor.layout = -1;
      if (this.#noted[group]! < this.mark) this.#noted[group] = 0;
    }
  }

  #takeRemovals(taken: number, end: number, out: EntryColumns): void {
    while (this.#frozenRemovals !== null && out.total < end) {
      const next = this.#frozenRemovals.next();
      if (next.done === true) {
        this.#frozenRemovals = null;
        return;
      }
      const [key, removed] = next.value;
      if (!this.#isFrozenMark(removed.mark)) continue;
      removed.mark = taken;
      out.addRemoved(removed.hash, key);
    }
  }

  #takeWholeGroups(taken: number, end: number, out: EntryColumns): void {
    // The cursor may stand in the middle of another table.
    if (this.#group < this.#tables.length) return;
    while (out.total < end && this.#wholeGroups.length > 0) {
      const group = this.#wholeGroups.at(-1)!;
      if (this.#tables[group]?.takeBelow(taken, this.#cursor, end, out) === false) return;
      this.#wholeGroup[group] = 0;
      this.#wholeGroups.pop();
      this.#cursor.layout = -1;
    }
  }

  /** What is frozen and not taken is no longer wanted as it is now: the next freeze will freeze it again. */
  abandon(): void {
    this.#isFrozen = false;
    this.#copies.clear();
    this.#frozenRemovals = null;
    for (const group of this.#wholeGroups.splice(0)) this.#wholeGroup[group] = 0;
    this.#cursor.layout = -1;
  }

  /** Everything up to a freeze is in the log, and will not leave it. */
  secured(freeze: number): void {
    this.#securedMark = Math.max(this.#securedMark, freeze * 2 + 1);
    for (const [key, { mark }] of this.#removed) if (mark <= this.#securedMark) this.#removed.delete(key);
  }

  /** The log has lost everything since the last freeze that was secured: it is frozen again with the next freeze. */
  unsecure(): void {
    this.abandon();
    this.#markAbove(this.#securedMark);
  }

  /** All keys count as touched, as if none were in the log. */
  touchAll(): void {
    this.abandon();
    this.#markAbove(-1);
  }

  #markAbove(mark: number): void {
    this.#frozenCount = 0;
    const tell = (hash: number): void => this.#note(hash);
    for (const table of this.#tables) table?.markAbove(mark, this.mark, tell);
    for (const removed of this.#removed.values()) {
      if (removed.mark === this.mark) continue;
      removed.mark = this.mark;
      this.#touchedCount++;
    }
  }

  #note(hash: number): void {
    this.#touchedCount++;
    this.#noted[keyGroupOf(hash, this.#tables.length)] = this.mark;
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

  #copy(hash: number, key: string, value: S): void {
    try {
      this.#copies.add(hash, key, shallowCopy(value) ?? this.#copyOf(value));
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
