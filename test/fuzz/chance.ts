/** mulberry32. */
export class Chance {
  state: number;
  constructor(seed: number) {
    this.state = seed >>> 0;
  }
  /** 0 to below `end`. */
  below(end: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * end);
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.below(256);
    return bytes;
  }
  /** What `make` gives, `0` to below `end` times. */
  some<T>(end: number, make: (index: number) => T): T[] {
    return Array.from({ length: this.below(end) }, (_, i) => make(i));
  }
}
