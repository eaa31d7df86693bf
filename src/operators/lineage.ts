/**
 * Where the records of the batch that is under way come from: from a record of any stage back to its place in what the source
 * handed over. It costs a call per stage and batch, none per record: stages note which record an output comes from anyway.
 *
 *   L1. A batch goes through all operators of its worker within one call, one after the other, so that one lineage is
 *       enough, and what the stages have noted of it is good until the call ends.
 *   L2. Behind an exchange between several workers nothing is known: records of many batches and workers meet there.
 */
export class Lineage {
  readonly #moves: Uint32Array[] = [];
  #isKnown = false;

  /** A batch of a source. */
  begin(): void {
    this.#moves.length = 0;
    this.#isKnown = true;
  }

  /** From here on the batch is one of which nothing is known. */
  forget(): void {
    this.#moves.length = 0;
    this.#isKnown = false;
  }

  /** Record `i` is what was record `origins[i]` so far. Read later, within the same call. */
  moved(origins: Uint32Array): void {
    if (this.#isKnown) this.#moves.push(origins);
  }

  /** Some of `count` records were taken out: `records`, ascending. For what happens rarely. */
  dropped(records: readonly number[], count: number): void {
    if (!this.#isKnown || records.length === 0) return;
    const origins = new Uint32Array(count - records.length);
    let at = 0;
    let next = 0;
    for (let i = 0; i < count; i++) {
      if (records[next] === i) next++;
      else origins[at++] = i;
    }
    this.#moves.push(origins);
  }

  /** Its index in the batch as the source gave it; null: not known. */
  originOf(record: number): number | null {
    if (!this.#isKnown) return null;
    let origin = record;
    for (let i = this.#moves.length - 1; i >= 0; i--) {
      const before = this.#moves[i]![origin];
      if (before === undefined) return null;
      origin = before;
    }
    return origin;
  }
}
