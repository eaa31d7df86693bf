/**
 * The 128-bit ids that query answers speak of, as decimal text. The original drew them at random; ours come from the
 * author's names, so that they are the same on every worker and after every restart.
 */

const OFFSET_BASIS = 0x6c62272e07bb014262b821756295c58dn;
const PRIME = 0x0000000001000000000000000000013bn;
const MASK = (1n << 128n) - 1n;

/** Instances of each stage and of each TCP source that the original had by default, and that harnesses count. */
export const INSTANCES = 10;

/**
 * FNV-1a with 128 bits over the UTF-8 bytes of the parts, each behind its length, so that `a`, `bc` and `ab`, `c` have
 * different ids. Never "0".
 */
export function entityId(...parts: readonly string[]): string {
  const text = parts.map((part) => `${part.length}:${part}`).join("");
  let hash = OFFSET_BASIS;
  for (const byte of new TextEncoder().encode(text)) hash = ((hash ^ BigInt(byte)) * PRIME) & MASK;
  return (hash === 0n ? OFFSET_BASIS : hash).toString();
}

/** The {@link INSTANCES} step ids that one operator has on one worker. */
export function stepIds(operator: string, worker: string): string[] {
  return Array.from({ length: INSTANCES }, (_, index) => entityId(operator, worker, `${index}`));
}
