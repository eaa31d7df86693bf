const CHUNK = 4096;

/** Keys that were touched, in order, in chunks: a list of a million grows without ever being moved. */
export class ChangeList {
  readonly #chunks: Chunk[] = [];
  #last: Chunk | null = null;
  /** In the first chunk: how many are taken already. */
  #taken = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(hash: number, key: string): void {
    let last = this.#last;
    if (last === null || last.count === CHUNK) {
      last = { count: 0, hashes: new Int32Array(CHUNK), keys: [] };
      this.#chunks.push(last);
      this.#last = last;
    }
    last.hashes[last.count] = hash;
    last.keys[last.count] = key;
    last.count++;
    this.#length++;
  }

  /** Gives the first ones, until `give` says false; they are out of the list then. */
  take(give: (hash: number, key: string) => boolean): void {
    for (let chunk = this.#chunks[0]; chunk !== undefined; chunk = this.#chunks[0]) {
      while (this.#taken < chunk.count) {
        const at = this.#taken++;
        this.#length--;
        if (!give(chunk.hashes[at]! >>> 0, chunk.keys[at]!)) return;
      }
      this.#chunks.shift();
      this.#taken = 0;
      if (chunk === this.#last) this.#last = null;
    }
  }

  /** Puts what `other` has behind what is here; `other` is empty then. */
  append(other: ChangeList): void {
    if (other.#taken > 0) {
      other.take((hash, key) => {
        this.push(hash, key);
        return true;
      });
      return;
    }
    this.#chunks.push(...other.#chunks.splice(0));
    this.#last = this.#chunks.at(-1) ?? null;
    this.#length += other.#length;
    other.clear();
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#last = null;
    this.#taken = 0;
    this.#length = 0;
  }
}

interface Chunk {
  count: number;
  readonly hashes: Int32Array;
  readonly keys: string[];
}
