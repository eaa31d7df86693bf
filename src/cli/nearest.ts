/** The candidate that `text` most likely was meant to be, or `null` when nothing is close: for "did you mean". */
export function nearest(text: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(2, Math.floor(text.length / 3)) + 1;
  if (text.length > 64) return null;
  for (const candidate of candidates) {
    const distance = editDistance(text, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/**
 * How many single characters must be inserted, removed, replaced, or swapped with their neighbour (optimal string
 * alignment distance).
 */
export function editDistance(a: string, b: string): number {
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = 0; i <= a.length; i++) {
    for (let j = 0; j <= b.length; j++) {
      const at = i * width + j;
      if (i === 0 || j === 0) {
        table[at] = i + j;
        continue;
      }
      const replaced = table[at - width - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let distance = Math.min(table[at - width]! + 1, table[at - 1]! + 1, replaced);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, table[at - 2 * width - 2]! + 1);
      }
      table[at] = distance;
    }
  }
  return table[a.length * width + b.length]!;
}
