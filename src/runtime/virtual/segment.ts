/** What becomes of one segment on its way: the same in the virtual network and in the proxy between real processes. */
import type { Prng } from "../../base/prng.ts";
import type { Millis } from "../runtime.ts";

/** How much of `length` bytes goes as one segment. One in `cutOneIn` is cut, half of those in the first few bytes, where
 * length fields are. */
export function segmentLength(prng: Prng, length: number, cutOneIn: number): number {
  if (length <= 1 || !prng.chance(cutOneIn)) return length;
  return prng.chance(2) ? 1 + prng.int(Math.min(length - 1, 8)) : 1 + prng.int(length - 1);
}

/** One segment in `slowOneIn` takes up to twenty times as long. */
export function segmentLatencyMs(
  prng: Prng,
  { minMs, maxMs }: { readonly minMs: Millis; readonly maxMs: Millis },
  slowOneIn: number,
): Millis {
  return prng.between(minMs, prng.chance(slowOneIn) ? maxMs * 20 : maxMs);
}
