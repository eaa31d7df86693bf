// Many strings as one: their lengths in UTF-16 units, then all of them joined. One text decoder call serves the column
// (a call costs 50 to 500 ns), and the strings are cut from its result.
//
//   u8 width of a length: 1 or 4 | count lengths, little-endian | u8 form | u32 byte length | bytes
//
// Form 0 is UTF-8. UTF-8 cannot hold lone surrogates; text with one travels as UTF-16, little-endian: form 1.

import type { ByteReader } from "./byte_reader.ts";
import { decodeUtf8 } from "./byte_reader.ts";
import type { ByteWriter } from "./byte_writer.ts";

const FORM_UTF8 = 0;
const FORM_UTF16 = 1;

/** More units than this in one column are refused (`false`). */
export const TEXT_UNITS_MAX = 64 * 1024 * 1024;

/** Strings that the reader has already, so that one of the same text need not be made again. */
export interface KnownStrings {
  /** What the string number `index` of the column probably is, which has so many units; `undefined`: not known. */
  guess(index: number, length: number): string | undefined;
}

/**
 * Writes the first `count` entries. Returns false, and writes nothing, when one of them is no string or when they are
 * longer than `TEXT_UNITS_MAX` together.
 */
export function encodeStrings(strings: readonly unknown[], count: number, out: ByteWriter): boolean {
  let longest = 0;
  let units = 0;
  for (let i = 0; i < count; i++) {
    const text = strings[i];
    if (typeof text !== "string") return false;
    const { length } = text;
    if (length > longest) longest = length;
    units += length;
  }
  if (units > TEXT_UNITS_MAX) return false;
  const width = longest < 256 ? 1 : 4;
  out.u8(width);
  const at = out.reserve(count * width);
  if (width === 1) {
    const data = out.data;
    for (let i = 0; i < count; i++) data[at + i] = (strings[i] as string).length;
  } else {
    const view = out.view;
    for (let i = 0; i < count; i++) view.setUint32(at + i * 4, (strings[i] as string).length, true);
  }
  encodeText((strings.length === count ? strings : strings.slice(0, count)).join(""), out);
  return true;
}

/** @throws {ProtocolError} `bad_text`, `truncated`. */
export function decodeStrings(reader: ByteReader, count: number, known?: KnownStrings): string[] {
  const width = reader.u8();
  if (width !== 1 && width !== 4) throw reader.error("bad_text", `has string lengths of ${width} bytes`);
  const at = reader.skip(count * width);
  const joined = decodeText(reader);
  const { data, view } = reader;
  const strings = new Array<string>(count);
  let from = 0;
  if (known !== undefined) {
    // One comparison for all of them: strings that have been there for long cost half of what cutting new ones does.
    for (let i = 0; i < count; i++) {
      const length = width === 1 ? data[at + i]! : view.getUint32(at + i * 4, true);
      strings[i] = known.guess(i, length) ?? joined.slice(from, from + length);
      from += length;
    }
    if (from === joined.length && strings.join("") === joined) return strings;
    from = 0;
  }
  for (let i = 0; i < count; i++) {
    const to = from + (width === 1 ? data[at + i]! : view.getUint32(at + i * 4, true));
    strings[i] = joined.slice(from, to);
    from = to;
  }
  if (from !== joined.length) {
    throw reader.error("bad_text", `has string lengths that make ${from} units, but text of ${joined.length}`);
  }
  return strings;
}

/** One text of any length and content. */
export function encodeText(text: string, out: ByteWriter): void {
  if (isWellFormed(text)) {
    out.u8(FORM_UTF8);
    out.str32(text);
    return;
  }
  out.u8(FORM_UTF16);
  out.u32(text.length * 2);
  const at = out.reserve(text.length * 2);
  for (let i = 0; i < text.length; i++) out.view.setUint16(at + i * 2, text.charCodeAt(i), true);
}

/** @throws {ProtocolError} `bad_text`, `truncated`. */
export function decodeText(reader: ByteReader): string {
  const form = reader.u8();
  const bytes = reader.bytes(reader.u32());
  if (form === FORM_UTF8) return decodeUtf8("a string column", bytes);
  if (form !== FORM_UTF16 || bytes.length % 2 !== 0) throw reader.error("bad_text", `has text of unknown form ${form}`);
  // Not by a text decoder: it replaces lone surrogates, and they are why this form exists.
  const units = new Uint16Array(bytes.length / 2);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < units.length; i++) units[i] = view.getUint16(i * 2, true);
  let text = "";
  for (let i = 0; i < units.length; i += 4096) text += String.fromCharCode(...units.subarray(i, i + 4096));
  return text;
}

function isWellFormed(text: string): boolean {
  // ES2024, in all runtimes here, but not yet in the library version the compiler is told of.
  return (text as string & { isWellFormed(): boolean }).isWellFormed();
}

/**
 * The same text with memory of its own. Strings of a column share one buffer: in Bun, keeping one of them (the key of a new
 * state, say) keeps the whole column, 16 KiB for a usual batch. Costs 50 to 150 ns: for what is kept long, not for each record.
 */
export function ownText(text: string): string {
  // Being the name of a property makes an engine look the text up in its table of names, which holds copies.
  return Object.keys({ [text]: 0 })[0]!;
}
