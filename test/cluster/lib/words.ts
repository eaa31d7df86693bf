/** Reads the lines of `examples/word_count.ts` (`word => n`) as what they prove: how each word's count went up. */

export class WordCounts {
  /** Per word, every count in the order of arrival. */
  readonly seen = new Map<string, number[]>();
  readonly malformed: string[] = [];
  lineCount = 0;

  readonly take = (line: string): void => {
    this.lineCount += 1;
    const match = /^(\S+) => (\d+)$/.exec(line);
    if (match === null) {
      this.malformed.push(line);
      return;
    }
    const word = match[1] as string;
    const counts = this.seen.get(word);
    if (counts === undefined) this.seen.set(word, [Number(match[2])]);
    else counts.push(Number(match[2]));
  };

  last(word: string): number {
    return this.seen.get(word)?.at(-1) ?? 0;
  }

  /** Where a count did not follow its predecessor. A step back to 1 is a restart of the worker that owns the word. */
  breaks(): { word: string; from: number; to: number }[] {
    const found: { word: string; from: number; to: number }[] = [];
    for (const [word, counts] of this.seen) {
      let before = 0;
      for (const count of counts) {
        if (count !== before + 1) found.push({ word, from: before, to: count });
        before = count;
      }
    }
    return found;
  }
}

export function wordList(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `w${index}`);
}
