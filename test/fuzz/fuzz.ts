import assert from "node:assert/strict";

/**
 * Fuzzing without tools: inputs are made from a seed, which is printed, so that a failure can be had again with
 * `FUZZ_SEED=<seed>` (and, shorter, its bytes go into the decoder's corpus). `FUZZ_RUNS` changes the number of inputs.
 */
export const RUNS = Number(process.env["FUZZ_RUNS"] ?? 100_000);

/** mulberry32. */
export class Chance {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** 0 to below `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * end);
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

const EDGES = [
  0, 1, 2, 3, 4, 0x17, 0x18, 0x1b, 0x1f, 0x40, 0x7f, 0x80, 0x81, 0x9f, 0xa1, 0xbf, 0xc2, 0xd8, 0xf8, 0xfb, 0xff,
];

/** A damaged copy: bits flipped, edge values, pieces cut out, doubled, moved over from another input, or the end cut off. */
export function damage(chance: Chance, input: Uint8Array, other: Uint8Array): Uint8Array {
  let bytes = input.slice();
  for (let rest = chance.below(4); rest >= 0; rest--) {
    if (bytes.length === 0) return chance.bytes(chance.below(40));
    const at = chance.below(bytes.length);
    const length = 1 + chance.below(Math.min(bytes.length - at, 12));
    switch (chance.below(8)) {
      case 0:
        bytes[at]! ^= 1 << chance.below(8);
        break;
      case 1:
        bytes[at] = chance.pick(EDGES);
        break;
      case 2:
        bytes = bytes.slice(0, at);
        break;
      case 3:
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 4:
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at));
        break;
      case 5: {
        const from = chance.below(other.length);
        bytes = joined(bytes.subarray(0, at), other.subarray(from, from + length), bytes.subarray(at));
        break;
      }
      case 6:
        // A number of four bytes where lengths and counts may be.
        new DataView(joined(bytes, new Uint8Array(4)).buffer).setUint32(at, 0);
        if (at + 4 <= bytes.length) {
          new DataView(bytes.buffer).setUint32(
            at,
            chance.pick([0, 1, 0xff, 0xffff, 0x7fffffff, 0xffffffff]),
            chance.below(2) === 0,
          );
        }
        break;
      default:
        bytes = joined(bytes, chance.bytes(1 + chance.below(6)));
    }
  }
  return bytes;
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export interface FuzzTarget {
  readonly name: string;
  /** A legal input. */
  readonly make: (chance: Chance) => Uint8Array;
  /** Runs the decoder and whatever must hold of its result. Throws nothing that is not announced. */
  readonly run: (bytes: Uint8Array, chance: Chance) => void;
  /** What is thrown for bytes that mean nothing. Default: nothing is. */
  readonly announced?: (error: unknown) => boolean;
  /** Inputs in hexadecimal that failed once, or might. */
  readonly corpus: readonly string[];
}

/** A quarter of the inputs are legal, most are damaged legal ones, some are noise. */
export function fuzz(target: FuzzTarget): void {
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 0x1_0000_0000);
  console.log(`fuzz ${target.name}: ${RUNS} inputs, FUZZ_SEED=${seed}`);
  const chance = new Chance(seed);
  for (const hex of target.corpus) attempt(target, new Uint8Array(Buffer.from(hex, "hex")), chance, "corpus");
  let last = target.make(chance);
  let refused = 0;
  for (let i = 0; i < RUNS; i++) {
    const kind = chance.below(16);
    let bytes: Uint8Array;
    if (kind === 0) bytes = chance.bytes(chance.below(64));
    else {
      const legal = target.make(chance);
      bytes = kind < 5 ? legal : damage(chance, legal, last);
      last = legal;
    }
    if (!attempt(target, bytes, chance, `seed ${seed}, input ${i}`)) refused++;
  }
  // Otherwise the inputs are not what they are meant to be.
  if (target.announced !== undefined) assert.ok(refused > RUNS / 10 && refused < RUNS * 0.9, `${refused} were refused`);
}

/** `false`: refused as announced. */
function attempt(target: FuzzTarget, bytes: Uint8Array, chance: Chance, what: string): boolean {
  const tell = () => `${target.name}, ${what}: ${Buffer.from(bytes).toString("hex")}`;
  const start = performance.now();
  let accepted = true;
  try {
    target.run(bytes, chance);
  } catch (error) {
    if (!target.announced?.(error)) throw new Error(`${(error as Error)?.stack ?? error}\n${tell()}`);
    accepted = false;
  }
  // Generous, since anything may happen on a busy machine for a moment; a second look tells.
  if (performance.now() - start > 10) {
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      const again = performance.now();
      try {
        target.run(bytes, chance);
      } catch {
        // As above.
      }
      best = Math.min(best, performance.now() - again);
    }
    assert.ok(best < Math.max(10, (10 * bytes.length) / 2 ** 20), `took ${best} ms: ${tell()}`);
  }
  return accepted;
}
