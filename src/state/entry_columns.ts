const NOTHING = {};
/** Of a small number of entries the columns stay, for the next ones. */
const KEPT_MAX = 1024;

/** Entries of one stage's state as columns, on their way into the log. */
export class EntryColumns {
  count = 0;
  readonly hashes: number[] = [];
  readonly keys: string[] = [];
  readonly values: object[] = [];
  removedCount = 0;
  /** Of no meaning: what `warm` looks at must go somewhere, or an engine leaves the looks out. */
  seen = 0;
  readonly removedHashes: number[] = [];
  readonly removedKeys: string[] = [];

  get total(): number {
    return this.count + this.removedCount;
  }

  add(hash: number, key: string, value: object): void {
    const at = this.count++;
    this.hashes[at] = hash >>> 0;
    this.keys[at] = key;
    this.values[at] = value;
  }

  addRemoved(hash: number, key: string): void {
    const at = this.removedCount++;
    this.removedHashes[at] = hash >>> 0;
    this.removedKeys[at] = key;
  }

  /** Moves entries, the last ones first, until `out` has `end` of them. */
  moveTo(out: EntryColumns, end: number): void {
    if (this.total === 0) return;
    while (this.count > 0 && out.total < end) {
      const at = --this.count;
      out.add(this.hashes[at]!, this.keys[at]!, this.values[at]!);
    }
    while (this.removedCount > 0 && out.total < end) {
      const at = --this.removedCount;
      out.addRemoved(this.removedHashes[at]!, this.removedKeys[at]!);
    }
    if (this.total === 0) this.clear();
  }

  /**
   * Looks at every key and value, and does nothing. Looks that follow each other closely wait for memory at the same time;
   * whoever encodes them does much between one and the next, and would wait for each.
   */
  warm(): void {
    const { count, keys, values } = this;
    let seen = 0;
    for (let i = 0; i < count; i++) {
      if (typeof values[i] === "object") seen ^= keys[i]!.charCodeAt(0);
    }
    this.seen = seen;
  }

  /** Lets go of everything, so that nothing is kept alive. */
  clear(): void {
    if (this.count <= KEPT_MAX) {
      // Arrays that are emptied have to grow again.
      this.keys.fill("", 0, this.count);
      this.values.fill(NOTHING, 0, this.count);
    } else {
      this.hashes.length = this.keys.length = this.values.length = 0;
    }
    this.count = 0;
    this.removedCount = 0;
    this.removedHashes.length = this.removedKeys.length = 0;
  }
}
