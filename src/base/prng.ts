/**
 * A seeded generator with named streams: a draw added to one stream does not shift the others.
 *
 * SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) turns seed and stream
 * name into the state of sfc32 (Chris Doty-Humphrey, PractRand). Only integer arithmetic: every runtime draws the same.
 */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #counter: number;

  /**
   * @param seed Any integer; its lowest 64 bits count.
   * @param stream Any name; equal names give equal draws.
   */
  constructor(seed: bigint | number, stream: string) {
    const next = splitMix64(BigInt(seed) ^ hash64(stream));
    const first = next();
    const second = next();
    this.#a = Number(first & 0xffffffffn) | 0;
    this.#b = Number(first >> 32n) | 0;
    this.#c = Number(second & 0xffffffffn) | 0;
    this.#counter = Number(second >> 32n) | 0;
    for (let round = 0; round < 12; round++) this.u32();
  }

  /** Uniform, from 0 to 2^32 - 1. */
  u32(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** Uniform in [0, 1), in steps of 2^-32. */
  next(): number {
    return this.u32() / 0x1_0000_0000;
  }

  /** Uniform, from 0 to `bound - 1`. @param bound From 1 to 2^32. */
  int(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** True once in `oneIn` calls, on average. */
  chance(oneIn: number): boolean {
    return this.int(oneIn) === 0;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 4) {
      const word = this.u32();
      for (let byte = 0; byte < 4 && at + byte < length; byte++) bytes[at + byte] = word >>> (8 * byte);
    }
    return bytes;
  }
}

const MASK64 = 0xffff_ffff_ffff_ffffn;

function splitMix64(seed: bigint): () => bigint {
  let state = seed & MASK64;
  return () => {
    state = (state + 0x9e37_79b9_7f4a_7c15n) & MASK64;
    let mixed = state;
    mixed = ((mixed ^ (mixed >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK64;
    mixed = ((mixed ^ (mixed >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK64;
    return mixed ^ (mixed >> 31n);
  };
}

/** FNV-1a over UTF-16 code units, 64 bits. */
function hash64(text: string): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (let at = 0; at < text.length; at++) {
    hash = ((hash ^ BigInt(text.charCodeAt(at))) * 0x100_0000_01b3n) & MASK64;
  }
  return hash;
}
