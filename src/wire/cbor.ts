// Control messages and saved files as CBOR: a small subset of it, the same at all ends.
//
//   C1. Lengths are definite and integers have their shortest form. There are no tags: nothing is built that is not plain
//       data (a tag can make a regular expression, a cyclic object or a number that takes minutes to read).
//   C2. Maps have text keys, each once, and become objects without prototype, so that `__proto__` is a key like any other.
//   C3. Integers are JavaScript numbers; what does not fit one exactly is refused. There are no bigints.
//   C4. Decoding is one pass without recursion; nothing is allocated by an announced length. Byte strings are copies.
//
// The encoder is cbor-x with one written-out configuration. Its decoder takes much more than this subset, whatever its
// options say, so that decoding is our own.

import { Encoder } from "cbor-x/encode";
import { AssertionError } from "../base/assert.ts";
import { ProtocolError } from "../base/errors.ts";
import { decodeUtf8 } from "./byte_reader.ts";

export interface CborLimits {
  /** Values and keys together. Default: 16,384. */
  readonly itemsMax?: number;
  /** Arrays and maps inside of each other. Default: 32. */
  readonly depthMax?: number;
}

const ITEMS_MAX = 16_384;
const DEPTH_MAX = 32;
const KEY_BYTES_MAX = 1024;

const encoder = new Encoder({
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  structuredClone: false,
  tagUint8Array: false,
  useToJSON: false,
} as object);

/**
 * Encodes plain data: numbers, strings, booleans, `null`, `undefined`, `Uint8Array`, arrays, plain objects. Lone surrogates
 * become U+FFFD, -0 becomes 0. The bytes are the caller's own.
 *
 * @throws {AssertionError} when the value is something else, or larger than `limits`: a bug of ours.
 */
export function encodeCbor(value: unknown, limits: CborLimits = {}): Uint8Array<ArrayBuffer> {
  // What is sent is read back at once: a value that the other end would refuse shows here, where it came from.
  const bytes = encodeOnce(value);
  try {
    decodeCbor(bytes, limits);
    return bytes;
  } catch {
    // Perhaps text of a user with a lone surrogate, for which cbor-x writes broken UTF-8.
    const repaired = encodeOnce(wellFormed(value));
    try {
      decodeCbor(repaired, limits);
      return repaired;
    } catch (cause) {
      throw new AssertionError(`a value cannot be sent as CBOR: ${(cause as Error).message}`);
    }
  }
}

function encodeOnce(value: unknown): Uint8Array<ArrayBuffer> {
  // A copy: the encoder's results share a pooled buffer.
  return new Uint8Array(encoder.encode(value));
}

function wellFormed(value: unknown): unknown {
  if (typeof value === "string") return (value as string & { toWellFormed(): string }).toWellFormed();
  if (Array.isArray(value)) return value.map(wellFormed);
  if (typeof value !== "object" || value === null) return value;
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [wellFormed(key), wellFormed(item)]));
}

/**
 * Decodes exactly one value that fills `bytes`. Maps become objects without prototype.
 *
 * @throws {ProtocolError} `bad_cbor`, `bad_text`.
 */
export function decodeCbor(bytes: Uint8Array, limits: CborLimits = {}): unknown {
  return new CborDecoder(bytes, limits.itemsMax ?? ITEMS_MAX, limits.depthMax ?? DEPTH_MAX).decode();
}

function emptyMap(): Record<string, unknown> {
  // A literal is made several times faster than by `Object.create(null)`.
  return { __proto__: null } as unknown as Record<string, unknown>;
}

/** An array or map that is not complete yet. */
interface Open {
  readonly array: unknown[] | null;
  readonly map: Record<string, unknown> | null;
  /** Items (of a map: pairs) still to come. */
  rest: number;
  /** The key whose value comes next. */
  key: string | null;
}

class CborDecoder {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #depthMax: number;
  /** Items that may still come. */
  #items: number;
  #at = 0;

  constructor(bytes: Uint8Array, itemsMax: number, depthMax: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#items = itemsMax;
    this.#depthMax = depthMax;
  }

  decode(): unknown {
    const open: Open[] = [];
    this.#claim(1);
    for (;;) {
      const parent = open.at(-1);
      if (parent !== undefined && parent.map !== null && parent.key === null) parent.key = this.#key(parent.map);
      let value: unknown;
      const head = this.#byte();
      const major = head >> 5;
      switch (major) {
        case 0:
          value = this.#argument(head);
          break;
        case 1:
          value = -1 - this.#argument(head);
          if (!Number.isSafeInteger(value)) throw this.#bad("an integer below -(2^53 - 1)");
          break;
        case 2:
          value = new Uint8Array(this.#take(this.#argument(head)));
          break;
        case 3:
          value = this.#text(this.#argument(head));
          break;
        case 4:
        case 5: {
          const count = this.#argument(head);
          const items = major === 4 ? count : count * 2;
          if (items > this.#bytes.length - this.#at) throw this.#bad(`${count} items announced, which cannot be there`);
          this.#claim(items);
          if (open.length >= this.#depthMax) throw this.#bad(`more than ${this.#depthMax} levels`);
          const array: unknown[] | null = major === 4 ? [] : null;
          const map: Record<string, unknown> | null = major === 5 ? emptyMap() : null;
          value = array ?? map;
          if (count > 0) {
            open.push({ array, map, rest: count, key: null });
            continue;
          }
          break;
        }
        case 6:
          throw this.#bad("a tag");
        default:
          value = this.#simple(head);
      }
      // The value is complete, and so may be what it is the last part of.
      for (;;) {
        const container = open.at(-1);
        if (container === undefined) {
          if (this.#at < this.#bytes.length) throw this.#bad("bytes behind the end");
          return value;
        }
        if (container.array !== null) container.array.push(value);
        else container.map![container.key!] = value;
        container.key = null;
        if (--container.rest > 0) break;
        value = container.array ?? container.map;
        open.pop();
      }
    }
  }

  #bad(what: string): ProtocolError {
    return new ProtocolError("bad_cbor", `a CBOR message is refused: it has ${what}, at offset ${this.#at}`);
  }

  #claim(items: number): void {
    this.#items -= items;
    if (this.#items < 0) throw this.#bad("more items than are allowed");
  }

  #byte(): number {
    if (this.#at >= this.#bytes.length) throw this.#bad("an early end");
    return this.#bytes[this.#at++]!;
  }

  #take(count: number): Uint8Array {
    const at = this.#at;
    if (count > this.#bytes.length - at) throw this.#bad(`${count} bytes announced, which are not there`);
    this.#at = at + count;
    return this.#bytes.subarray(at, at + count);
  }

  /** The number in or behind a head byte. */
  #argument(head: number): number {
    const info = head & 0x1f;
    if (info < 24) return info;
    if (info > 27) throw this.#bad("an indefinite or reserved length");
    const size = 1 << (info - 24);
    const at = this.#at;
    this.#take(size);
    const view = this.#view;
    switch (size) {
      case 1: {
        const value = view.getUint8(at);
        if (value < 24) break;
        return value;
      }
      case 2: {
        const value = view.getUint16(at);
        if (value < 0x100) break;
        return value;
      }
      case 4: {
        const value = view.getUint32(at);
        if (value < 0x1_0000) break;
        return value;
      }
      default: {
        const high = view.getUint32(at);
        if (high === 0) break;
        if (high > 0x1f_ffff) throw this.#bad("an integer above 2^53 - 1");
        return high * 0x1_0000_0000 + view.getUint32(at + 4);
      }
    }
    throw this.#bad("a number that is not in its shortest form");
  }

  #text(length: number): string {
    const at = this.#at;
    const bytes = this.#take(length);
    if (length <= 32) {
      // A text decoder call costs more than a short ASCII text by hand.
      let text = "";
      for (let i = 0; i < length; i++) {
        const byte = this.#bytes[at + i]!;
        if (byte >= 0x80) return decodeUtf8("a CBOR message", bytes);
        text += String.fromCharCode(byte);
      }
      return text;
    }
    return decodeUtf8("a CBOR message", bytes);
  }

  #key(map: Record<string, unknown>): string {
    const head = this.#byte();
    if (head >> 5 !== 3) throw this.#bad("a map key that is no text");
    const length = this.#argument(head);
    if (length > KEY_BYTES_MAX) throw this.#bad(`a map key of ${length} bytes`);
    const key = this.#text(length);
    if (key in map) throw this.#bad(`the key ${JSON.stringify(key)} twice`);
    return key;
  }

  #simple(head: number): unknown {
    switch (head & 0x1f) {
      case 20:
        return false;
      case 21:
        return true;
      case 22:
        return null;
      case 23:
        return undefined;
      case 27: {
        const at = this.#at;
        this.#take(8);
        return this.#view.getFloat64(at);
      }
      default:
        throw this.#bad(`the unknown simple value ${head & 0x1f}`);
    }
  }
}
