/** Values to make inputs of. */
import type { Chance } from "./chance.ts";

export const TEXTS = [
  "",
  "a",
  "user-1",
  "kind",
  "grüße",
  "🦘",
  "\ud800",
  "__proto__",
  "constructor",
  "toString",
  "7",
  "x".repeat(300),
];
export const NUMBERS = [
  0,
  -0,
  1,
  -1,
  23,
  24,
  255,
  256,
  65536,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 53 - 1,
  1.5,
  NaN,
  Infinity,
];

/** Data that JSON knows, roughly. */
export function plain(chance: Chance, depth: number): unknown {
  switch (chance.below(depth <= 0 ? 5 : 8)) {
    case 0:
      return chance.pick(NUMBERS);
    case 1:
      return chance.pick(TEXTS);
    case 2:
      return chance.pick([true, false, null, undefined]);
    case 3:
      return chance.bytes(chance.below(9));
    case 4:
      return chance.below(1000);
    case 5:
      return Array.from({ length: chance.below(4) }, () => plain(chance, depth - 1));
    default: {
      const object: Record<string, unknown> = {};
      for (let rest = chance.below(4); rest > 0; rest--) {
        const enumerable = { value: plain(chance, depth - 1), enumerable: true, configurable: true, writable: true };
        Object.defineProperty(object, chance.pick(TEXTS), enumerable);
      }
      return object;
    }
  }
}

/** And what only values can carry. */
export function rich(chance: Chance): unknown {
  switch (chance.below(8)) {
    case 0:
      return BigInt(chance.pick([0, 1, -1, 255, 2 ** 52])) ** BigInt(1 + chance.below(4));
    case 1:
      return new Date(chance.pick(NUMBERS));
    case 2:
      return new Map([[plain(chance, 1), plain(chance, 2)]]);
    case 3:
      return new Set([plain(chance, 1), 1n]);
    case 4:
      return chance.pick([new Float64Array(2), new BigInt64Array(1), new Int16Array(3), new ArrayBuffer(2)]);
    default:
      return plain(chance, 3);
  }
}

export function batchOfValues(chance: Chance): unknown[] {
  const count = chance.below(6);
  const make = chance.pick<() => unknown>([
    () => chance.pick(NUMBERS),
    () => chance.pick(TEXTS),
    () => chance.pick([true, false, null, undefined]),
    () => ({ user: chance.pick(TEXTS), amount: chance.pick(NUMBERS), more: { at: chance.below(9), ok: true } }),
    () => [chance.pick(TEXTS), chance.below(5)],
    () => chance.bytes(chance.below(5)),
    () => rich(chance),
    () => ({ mixed: rich(chance), n: 1 }),
  ]);
  return Array.from({ length: count }, make);
}
