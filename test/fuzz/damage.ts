/** What becomes of bytes on their way. */
import type { Chance } from "./chance.ts";

const EDGES = [
  0, 1, 2, 3, 4, 0x17, 0x18, 0x1b, 0x1f, 0x40, 0x7f, 0x80, 0x81, 0x9f, 0xa1, 0xbf, 0xc2, 0xd8, 0xf8, 0xfb, 0xff,
];
const LENGTHS = [0, 1, 2, 0xff, 0x100, 0xffff, 0x1_0000, 0xff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
/** Flags, lengths of one byte, of two and four, floats. */
const WIDTHS = [1, 2, 4, 8] as const;

/** A damaged copy of `input`, by one to four kinds of damage one after the other. */
export function damage(chance: Chance, input: Uint8Array, other: Uint8Array): Uint8Array {
  let bytes: Uint8Array = input.slice();
  for (let rest = chance.below(4); rest >= 0; rest--) {
    if (bytes.length === 0) return chance.bytes(chance.below(40));
    const at = chance.below(bytes.length);
    const length = 1 + chance.below(Math.min(bytes.length - at, chance.pick([4, 12, 200])));
    switch (chance.below(11)) {
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
        // A piece is missing.
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 4:
        // A piece comes twice.
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at));
        break;
      case 5: {
        // A piece of another input comes in between, or in the place of this one.
        const from = chance.below(other.length);
        const piece = other.subarray(from, from + length);
        bytes = joined(bytes.subarray(0, at), piece, bytes.subarray(at + (chance.below(2) === 0 ? 0 : piece.length)));
        break;
      }
      case 6:
        bytes = withLength(bytes, at, chance.pick(LENGTHS), chance.below(2) === 0);
        break;
      case 7:
        bytes = withNumberChanged(bytes, at, chance);
        break;
      case 8:
        // All of it twice: a frame that was sent again.
        if (bytes.length < 4096) bytes = joined(bytes, chance.below(2) === 0 ? bytes : other);
        break;
      case 9: {
        // Two pieces have changed places.
        const middle = at + Math.floor((bytes.length - at) / 2);
        bytes = joined(bytes.subarray(0, at), bytes.subarray(middle), bytes.subarray(at, middle));
        break;
      }
      default:
        bytes = joined(bytes, chance.bytes(1 + chance.below(6)));
    }
  }
  return bytes;
}

/** A copy with a number of four bytes at `at`; longer, if there is no room. */
export function withLength(bytes: Uint8Array, at: number, value: number, littleEndian: boolean): Uint8Array {
  const copy = new Uint8Array(Math.max(bytes.length, at + 4));
  copy.set(bytes);
  new DataView(copy.buffer).setUint32(at, value, littleEndian);
  return copy;
}

/** A number that is there becomes one more, one less, or twice as much. */
function withNumberChanged(bytes: Uint8Array, at: number, chance: Chance): Uint8Array {
  const width = chance.pick(WIDTHS);
  if (at + width > bytes.length) return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const change = (value: number) => (chance.below(3) === 0 ? value * 2 : value + chance.pick([-1, 1]));
  switch (width) {
    case 1:
      view.setUint8(at, change(view.getUint8(at)));
      break;
    case 2:
      view.setUint16(at, change(view.getUint16(at)));
      break;
    case 4:
      view.setUint32(at, change(view.getUint32(at)));
      break;
    case 8:
      view.setFloat64(at, change(view.getFloat64(at)));
      break;
  }
  return bytes;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Calls `take` with the bytes in pieces, sometimes one by one. What was handed over is spoiled behind its back. */
export function inPieces(bytes: Uint8Array, chance: Chance, take: (piece: Uint8Array) => void): void {
  const most = bytes.length > 100_000 ? 65_536 : chance.pick([1, 5, 100, 4096]);
  for (let at = 0; at < bytes.length; ) {
    const to = Math.min(bytes.length, at + 1 + chance.below(most));
    const piece = bytes.slice(at, to);
    take(piece);
    piece.fill(0xee);
    at = to;
  }
}
