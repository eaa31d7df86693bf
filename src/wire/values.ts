// Values of an author's records and state, as bytes and back: plain data.
//
// A batch of values is one column. Its shape is decided by looking at it: numbers, strings, byte arrays and small values
// have columns of their own; plain objects with the same keys in the same order (and arrays of the same length) become
// one column per field, again decided each by itself; everything else is written value by value with tags.
//
//   V1. Decoding gives back what was encoded: -0, NaN, lone surrogates, `undefined` fields and key order included.
//       Exceptions: objects without prototype come back with the usual one, holes of arrays as `undefined`, a value that
//       is reachable twice comes back as two.
//   V2. What cannot be carried is refused with the path to it. Encoder and `checkValue` refuse the same. (The encoder
//       does not look for symbol keys and for further properties of arrays; `checkValue` does.)
//   V3. Every value costs at least one byte in its column, and objects as columns nest at most `COLUMN_DEPTH_MAX` deep:
//       hostile bytes never make more than a bounded number of values a byte. One column of a block may cost nothing: the
//       one that is the same as the keys of the batch.
//
// Integers of columns are little-endian, as the machines are. The layout is at each function below.

import { assert } from "../base/assert.ts";
import { EXIT, TammarError } from "../base/errors.ts";
import { ByteReader } from "./byte_reader.ts";
import type { ByteWriter } from "./byte_writer.ts";
import { decodeStrings, decodeText, encodeStrings, encodeText, TEXT_UNITS_MAX } from "./string_column.ts";

/** A value the author's code handed over that cannot travel or be stored. */
export class ValueError extends TammarError {
  override readonly name = "ValueError";
  override readonly exitStatus = EXIT.userCode;
  /** Where in the value: `$.user.cache.fn`. */
  readonly path: string;
  /** Which value of a batch; 0 for a single one. */
  readonly index: number;
  constructor(code: string, path: string, index: number, message: string) {
    super(code, message);
    this.path = path;
    this.index = index;
  }
}

/** Objects, arrays, maps and sets inside of each other. */
export const VALUE_DEPTH_MAX = 100;
/** One block of values. */
export const VALUE_BYTES_MAX = 64 * 1024 * 1024;
/** Magnitude of a bigint. Reading a larger one would take too long. */
export const BIGINT_BYTES_MAX = 1024;

const COLUMN_DEPTH_MAX = 4;
const COLUMN_FIELDS_MAX = 64;
const NODES_MAX = 8_000_000;

const COLUMN_TAGGED = 0;
const COLUMN_F64 = 1;
const COLUMN_STRINGS = 2;
const COLUMN_SMALL = 3;
const COLUMN_OBJECTS = 4;
const COLUMN_TUPLES = 5;
const COLUMN_BYTES = 6;
const COLUMN_KEYS = 7;
const COLUMN_I32 = 8;

const TAG_UNDEFINED = 0;
const TAG_NULL = 1;
const TAG_FALSE = 2;
const TAG_TRUE = 3;
const TAG_INTEGER = 4;
const TAG_F64 = 5;
const TAG_STRING = 6;
const TAG_BIGINT_POSITIVE = 7;
const TAG_BIGINT_NEGATIVE = 8;
const TAG_DATE = 9;
const TAG_ARRAY = 10;
const TAG_OBJECT = 11;
const TAG_MAP = 12;
const TAG_SET = 13;
const TAG_BUFFER = 14;
/** And one tag for each of `TYPED_ARRAYS` from here on. */
const TAG_TYPED_ARRAY = 16;

/** The order is the format. */
const TYPED_ARRAYS = [
  Uint8Array,
  Int8Array,
  Uint8ClampedArray,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigUint64Array,
  BigInt64Array,
] as const;

/** Something that cannot be carried. Thrown without words: `explain` looks for the place and says what it is. */
const UNFIT = Symbol("unfit");

/**
 * Set for values that go to another worker. The keys of their records travel beside them: one column that is the same need not
 * be written. None where the records have no keys.
 */
interface Travel {
  readonly keys: readonly string[];
  keysUsed: boolean;
}

/**
 * Appends the first `count` values as one block.
 *
 * @param keys Set for values that go to another worker: the keys of their records, or none. Who decodes them must have the
 * same. What is kept (states, positions) is encoded without, in a form that does not change from one build to the next.
 * @throws {ValueError} `value_unfit`, `value_too_deep`, `value_cyclic`, `value_too_large`; `out` is as it was then.
 */
export function encodeValues(
  values: readonly unknown[],
  count: number,
  out: ByteWriter,
  keys?: readonly string[],
): void {
  const start = out.length;
  try {
    encodeColumn(values, count, out, 0, keys === undefined ? null : { keys, keysUsed: false });
    if (out.length - start > VALUE_BYTES_MAX) throw UNFIT;
  } catch (error) {
    out.length = start;
    if (error !== UNFIT) throw error;
    for (let i = 0; i < count; i++) check(values[i], i);
    const code = "value_too_large";
    throw new ValueError(code, "$", 0, `${count} values take more than ${VALUE_BYTES_MAX} bytes together`);
  }
}

/**
 * Reads a block of `count` values that fills `bytes[offset, offset + length)` to its end. `count` comes from the frame
 * around it: no value costs less than a byte.
 *
 * @throws {ProtocolError} `bad_values`, `bad_text`, `bad_number`, `truncated`.
 */
export function decodeValues(
  bytes: Uint8Array,
  offset: number,
  length: number,
  count: number,
  keys?: readonly string[],
): unknown[] {
  const reader = new ByteReader("the block of values", plainView(bytes, offset, length));
  const values = decodeColumn(reader, count, 0, keys === undefined ? null : { keys, keysUsed: false });
  if (reader.remaining > 0) throw reader.error("bad_values", `has ${reader.remaining} bytes too many`);
  // What is handed out may be changed in place.
  return values === keys ? values.slice() : (values as unknown[]);
}

/**
 * Says whether a value can travel and be stored, without encoding it.
 *
 * @throws {ValueError} as `encodeValues`, with the path to the culprit.
 */
export function checkValue(value: unknown): void {
  check(value, 0);
}

// --- Columns -------------------------------------------------------------------------------------------------------

function encodeColumn(
  values: readonly unknown[],
  count: number,
  out: ByteWriter,
  depth: number,
  travel: Travel | null,
): void {
  const first = count === 0 ? undefined : values[0];
  switch (typeof first) {
    case "number":
      if (encodeNumbers(values, count, out, travel !== null)) return;
      break;
    case "string": {
      if (travel !== null && isKeys(values, count, travel)) {
        travel.keysUsed = true;
        out.u8(COLUMN_KEYS);
        return;
      }
      const start = out.length;
      out.u8(COLUMN_STRINGS);
      if (encodeStrings(values, count, out)) return;
      out.length = start;
      break;
    }
    case "boolean":
    case "undefined":
      if (encodeSmall(values, count, out)) return;
      break;
    case "object":
      if (first === null) {
        if (encodeSmall(values, count, out)) return;
      } else if (Array.isArray(first)) {
        if (depth < COLUMN_DEPTH_MAX && encodeTuples(values, first.length, count, out, depth, travel)) return;
      } else if (isPlain(first)) {
        if (depth < COLUMN_DEPTH_MAX && encodeObjects(values, first, count, out, depth, travel)) return;
      } else if (Object.getPrototypeOf(first) === Uint8Array.prototype) {
        if (encodeByteArrays(values, count, out)) return;
      }
      break;
  }
  encodeTagged(values, count, out, depth);
}

function isKeys(values: readonly unknown[], count: number, { keys, keysUsed }: Travel): boolean {
  if (keysUsed) return false;
  for (let i = 0; i < count; i++) if (values[i] !== keys[i]) return false;
  return true;
}

function decodeColumn(reader: ByteReader, count: number, depth: number, travel: Travel | null): readonly unknown[] {
  const kind = reader.u8();
  switch (kind) {
    case COLUMN_TAGGED:
      return decodeTagged(reader, count, depth);
    case COLUMN_F64: {
      const at = reader.skip(count * 8);
      const values = new Array<unknown>(count);
      const view = reader.view;
      for (let i = 0; i < count; i++) values[i] = view.getFloat64(at + i * 8, true);
      return values;
    }
    case COLUMN_I32: {
      const at = reader.skip(count * 4);
      const values = new Array<unknown>(count);
      const view = reader.view;
      for (let i = 0; i < count; i++) values[i] = view.getInt32(at + i * 4, true);
      return values;
    }
    case COLUMN_STRINGS:
      return decodeStrings(reader, count);
    case COLUMN_KEYS:
      if (travel === null || travel.keysUsed || travel.keys.length !== count) {
        throw reader.error("bad_values", "has a column of keys where there are none");
      }
      travel.keysUsed = true;
      return travel.keys;
    case COLUMN_SMALL: {
      const at = reader.skip(count);
      const values = new Array<unknown>(count);
      for (let i = 0; i < count; i++) {
        const code = reader.data[at + i]!;
        if (code > TAG_TRUE) throw reader.error("bad_values", `has unknown small value ${code}`);
        values[i] = SMALL[code];
      }
      return values;
    }
    case COLUMN_BYTES: {
      const lengths = reader.skip(count * 4);
      const values = new Array<unknown>(count);
      for (let i = 0; i < count; i++) {
        const length = reader.view.getUint32(lengths + i * 4, true);
        const at = reader.skip(length);
        // A buffer of its own each, though views of one copy are 20 times faster in V8: who reads `value.buffer` must get
        // the same for a record that travelled as for one that did not.
        values[i] = copyBytes(reader.data, at, length);
      }
      return values;
    }
    case COLUMN_OBJECTS: {
      const columns = decodeFieldCount(reader, depth);
      // V8 stores by a name that it has not internalized many times slower. Being a key internalizes it.
      const names = decodeStrings(reader, columns).map((name) => Object.keys({ [name]: 0 })[0]!);
      return buildObjects(names, decodeFields(reader, columns, count, depth, travel), count);
    }
    case COLUMN_TUPLES: {
      const columns = decodeFieldCount(reader, depth);
      return buildTuples(decodeFields(reader, columns, count, depth, travel), count);
    }
    default:
      throw reader.error("bad_values", `has a column of unknown kind ${kind}`);
  }
}

function encodeNumbers(values: readonly unknown[], count: number, out: ByteWriter, narrow: boolean): boolean {
  let integers = narrow;
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (typeof value !== "number") return false;
    // -0 is equal to 0, and would come back as that.
    if ((value | 0) !== value || (value === 0 && 1 / value < 0)) integers = false;
  }
  out.u8(integers ? COLUMN_I32 : COLUMN_F64);
  let at = out.reserve(count * (integers ? 4 : 8));
  const view = out.view;
  if (integers) {
    for (let i = 0; i < count; i++) {
      view.setInt32(at, values[i] as number, true);
      at += 4;
    }
  } else {
    for (let i = 0; i < count; i++) {
      view.setFloat64(at, values[i] as number, true);
      at += 8;
    }
  }
  return true;
}

const SMALL = [undefined, null, false, true] as const;

function encodeSmall(values: readonly unknown[], count: number, out: ByteWriter): boolean {
  const start = out.length;
  out.u8(COLUMN_SMALL);
  const at = out.reserve(count);
  for (let i = 0; i < count; i++) {
    const value = values[i];
    const code =
      value === undefined ? TAG_UNDEFINED : value === null ? TAG_NULL : value === false ? TAG_FALSE : TAG_TRUE;
    if (code === TAG_TRUE && value !== true) {
      out.length = start;
      return false;
    }
    out.data[at + i] = code;
  }
  return true;
}

function encodeByteArrays(values: readonly unknown[], count: number, out: ByteWriter): boolean {
  const start = out.length;
  out.u8(COLUMN_BYTES);
  let at = out.reserve(count * 4);
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (!(value instanceof Uint8Array) || Object.getPrototypeOf(value) !== Uint8Array.prototype) {
      out.length = start;
      return false;
    }
    if (out.length - start + value.length > VALUE_BYTES_MAX) throw UNFIT;
    out.view.setUint32(at, value.length, true);
    at += 4;
    out.bytes(value);
  }
  return true;
}

function encodeObjects(
  values: readonly unknown[],
  first: object,
  count: number,
  out: ByteWriter,
  depth: number,
  travel: Travel | null,
): boolean {
  const names = Object.keys(first);
  const fields = names.length;
  if (fields === 0 || fields > COLUMN_FIELDS_MAX) return false;
  const columns: unknown[][] = [];
  for (let k = 0; k < fields; k++) columns.push(new Array<unknown>(count));
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (typeof value !== "object" || value === null || !isPlain(value)) return false;
    let k = 0;
    // Engines read `value[name]` inside of its own `for in` by position: this compares shapes and takes the fields apart
    // in one go. An inherited name would not be among `names`.
    for (const name in value) {
      if (names[k] !== name) return false;
      columns[k]![i] = (value as Record<string, unknown>)[name];
      k++;
    }
    if (k !== fields) return false;
  }
  out.u8(COLUMN_OBJECTS);
  out.varint(fields);
  encodeStrings(names, fields, out);
  for (let k = 0; k < fields; k++) encodeColumn(columns[k]!, count, out, depth + 1, travel);
  return true;
}

function encodeTuples(
  values: readonly unknown[],
  fields: number,
  count: number,
  out: ByteWriter,
  depth: number,
  travel: Travel | null,
): boolean {
  if (fields === 0 || fields > COLUMN_FIELDS_MAX) return false;
  for (let i = 0; i < count; i++) {
    const value = values[i];
    if (!Array.isArray(value) || value.length !== fields || !isArray(value)) return false;
  }
  out.u8(COLUMN_TUPLES);
  out.varint(fields);
  const column = new Array<unknown>(count);
  for (let k = 0; k < fields; k++) {
    for (let i = 0; i < count; i++) column[i] = (values[i] as unknown[])[k];
    encodeColumn(column, count, out, depth + 1, travel);
  }
  return true;
}

function decodeFieldCount(reader: ByteReader, depth: number): number {
  const fields = reader.varint();
  if (depth >= COLUMN_DEPTH_MAX) throw reader.error("bad_values", "has columns that are nested too deep");
  if (fields === 0 || fields > COLUMN_FIELDS_MAX) throw reader.error("bad_values", `has objects of ${fields} columns`);
  return fields;
}

function decodeFields(
  reader: ByteReader,
  fields: number,
  count: number,
  depth: number,
  travel: Travel | null,
): (readonly unknown[])[] {
  const columns: (readonly unknown[])[] = [];
  for (let k = 0; k < fields; k++) columns.push(decodeColumn(reader, count, depth + 1, travel));
  return columns;
}

type Column = readonly unknown[];
type SixColumns = [Column, Column, Column, Column, Column, Column];

/**
 * Each store below is a place of its own, so that an engine can remember which field it adds to which shape: up to four
 * times faster than one store in a loop, and still as fast as that when many shapes pass. (Literals with computed names
 * are the fastest for one shape, but six times slower in V8 from the second shape on.)
 */
function buildObjects(names: readonly string[], columns: readonly (readonly unknown[])[], count: number): unknown[] {
  const objects = new Array<unknown>(count);
  const [a, b, c, d, e, f] = names as [string, string, string, string, string, string];
  const [u, v, w, x, y, z] = columns as (readonly unknown[])[] as SixColumns;
  switch (names.includes("__proto__") ? 0 : names.length) {
    case 1:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        object[a] = u[i];
        objects[i] = object;
      }
      break;
    case 2:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        object[a] = u[i];
        object[b] = v[i];
        objects[i] = object;
      }
      break;
    case 3:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        object[a] = u[i];
        object[b] = v[i];
        object[c] = w[i];
        objects[i] = object;
      }
      break;
    case 4:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        object[a] = u[i];
        object[b] = v[i];
        object[c] = w[i];
        object[d] = x[i];
        objects[i] = object;
      }
      break;
    case 5:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        object[a] = u[i];
        object[b] = v[i];
        object[c] = w[i];
        object[d] = x[i];
        object[e] = y[i];
        objects[i] = object;
      }
      break;
    case 6:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        object[a] = u[i];
        object[b] = v[i];
        object[c] = w[i];
        object[d] = x[i];
        object[e] = y[i];
        object[f] = z[i];
        objects[i] = object;
      }
      break;
    default:
      for (let i = 0; i < count; i++) {
        const object: Record<string, unknown> = {};
        for (let k = 0; k < names.length; k++) setField(object, names[k]!, columns[k]![i]);
        objects[i] = object;
      }
  }
  return objects;
}

function buildTuples(columns: readonly (readonly unknown[])[], count: number): unknown[] {
  const tuples = new Array<unknown>(count);
  const [a, b, c] = columns as (readonly unknown[])[] as SixColumns;
  switch (columns.length) {
    case 2:
      for (let i = 0; i < count; i++) tuples[i] = [a[i], b[i]];
      break;
    case 3:
      for (let i = 0; i < count; i++) tuples[i] = [a[i], b[i], c[i]];
      break;
    default:
      for (let i = 0; i < count; i++) {
        const tuple = new Array<unknown>(columns.length);
        for (let k = 0; k < columns.length; k++) tuple[k] = columns[k]![i];
        tuples[i] = tuple;
      }
  }
  return tuples;
}

/** Stored as own property, whatever it is called. */
function setField(object: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== "__proto__") object[name] = value;
  else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}

// --- Tagged values -------------------------------------------------------------------------------------------------
//
//   u32 length of the tags | tags | text
//
// All strings are one text, cut by lengths in the tags. A key of an object is written once: varint 0 and its length, in
// the order of the text; afterwards varint 1 + its number.

class TaggedWriter {
  text = "";
  readonly #start: number;
  readonly #out: ByteWriter;
  readonly #keys = new Map<string, number>();

  constructor(out: ByteWriter) {
    this.#out = out;
    this.#start = out.length;
  }

  value(value: unknown, depth: number): void {
    const out = this.#out;
    switch (typeof value) {
      case "undefined":
        out.u8(TAG_UNDEFINED);
        return;
      case "boolean":
        out.u8(value ? TAG_TRUE : TAG_FALSE);
        return;
      case "number":
        this.#number(value);
        return;
      case "string":
        out.u8(TAG_STRING);
        this.#string(value);
        return;
      case "bigint":
        this.#bigint(value);
        return;
      case "object":
        if (value === null) out.u8(TAG_NULL);
        else this.#object(value, depth);
        return;
      default:
        throw UNFIT;
    }
  }

  #number(value: number): void {
    const out = this.#out;
    const integer = value | 0;
    if (integer === value && !Object.is(value, -0)) {
      out.u8(TAG_INTEGER);
      // Zigzag: small negative numbers stay short.
      out.varint(((integer << 1) ^ (integer >> 31)) >>> 0);
      return;
    }
    out.u8(TAG_F64);
    const at = out.reserve(8);
    out.view.setFloat64(at, value, true);
  }

  #string(text: string): void {
    this.#out.varint(text.length);
    this.text += text;
    if (this.text.length > TEXT_UNITS_MAX) throw UNFIT;
  }

  #bigint(value: bigint): void {
    const out = this.#out;
    let hex = (value < 0n ? -value : value).toString(16);
    if (hex.length % 2 === 1) hex = `0${hex}`;
    if (hex.length / 2 > BIGINT_BYTES_MAX) throw UNFIT;
    out.u8(value < 0n ? TAG_BIGINT_NEGATIVE : TAG_BIGINT_POSITIVE);
    out.varint(hex.length / 2);
    for (let i = 0; i < hex.length; i += 2) out.u8(Number.parseInt(hex.slice(i, i + 2), 16));
  }

  #object(value: object, depth: number): void {
    if (depth >= VALUE_DEPTH_MAX || this.#out.length - this.#start > VALUE_BYTES_MAX) throw UNFIT;
    const out = this.#out;
    const kind = kindOf(value);
    switch (kind) {
      case "object": {
        const names = Object.keys(value);
        out.u8(TAG_OBJECT);
        out.varint(names.length);
        for (const name of names) {
          this.#key(name);
          this.value((value as Record<string, unknown>)[name], depth + 1);
        }
        return;
      }
      case "array": {
        const { length } = value as unknown[];
        out.u8(TAG_ARRAY);
        out.varint(length);
        // By index, since holes are values here.
        for (let i = 0; i < length; i++) this.value((value as unknown[])[i], depth + 1);
        return;
      }
      case "map":
        out.u8(TAG_MAP);
        out.varint((value as Map<unknown, unknown>).size);
        for (const [key, item] of value as Map<unknown, unknown>) {
          this.value(key, depth + 1);
          this.value(item, depth + 1);
        }
        return;
      case "set":
        out.u8(TAG_SET);
        out.varint((value as Set<unknown>).size);
        for (const item of value as Set<unknown>) this.value(item, depth + 1);
        return;
      case "date": {
        out.u8(TAG_DATE);
        const at = out.reserve(8);
        out.view.setFloat64(at, (value as Date).getTime(), true);
        return;
      }
      case "buffer":
        out.u8(TAG_BUFFER);
        this.#bytes(new Uint8Array(value as ArrayBuffer));
        return;
      case null:
        throw UNFIT;
      default: {
        const array = value as Uint8Array;
        out.u8(TAG_TYPED_ARRAY + kind);
        this.#bytes(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
      }
    }
  }

  #bytes(bytes: Uint8Array): void {
    if (bytes.length > VALUE_BYTES_MAX) throw UNFIT;
    this.#out.varint(bytes.length);
    this.#out.bytes(bytes);
  }

  #key(name: string): void {
    const number = this.#keys.get(name);
    if (number !== undefined) {
      this.#out.varint(number + 1);
      return;
    }
    this.#keys.set(name, this.#keys.size);
    this.#out.u8(0);
    this.#string(name);
  }
}

function encodeTagged(values: readonly unknown[], count: number, out: ByteWriter, depth: number): void {
  out.u8(COLUMN_TAGGED);
  const length = out.beginFrame();
  const writer = new TaggedWriter(out);
  for (let i = 0; i < count; i++) writer.value(values[i], depth);
  out.endFrame(length);
  encodeText(writer.text, out);
}

class TaggedReader {
  readonly #tags: ByteReader;
  readonly #text: string;
  #textAt = 0;
  readonly #keys: string[] = [];

  constructor(tags: ByteReader, text: string) {
    this.#tags = tags;
    this.#text = text;
  }

  value(depth: number): unknown {
    const tags = this.#tags;
    const tag = tags.u8();
    switch (tag) {
      case TAG_UNDEFINED:
        return undefined;
      case TAG_NULL:
        return null;
      case TAG_FALSE:
        return false;
      case TAG_TRUE:
        return true;
      case TAG_INTEGER: {
        const zigzag = tags.varint();
        return (zigzag >>> 1) ^ -(zigzag & 1);
      }
      case TAG_F64:
        return tags.view.getFloat64(tags.skip(8), true);
      case TAG_STRING:
        return this.#string();
      case TAG_BIGINT_POSITIVE:
        return this.#bigint();
      case TAG_BIGINT_NEGATIVE:
        return -this.#bigint();
      case TAG_DATE:
        return new Date(tags.view.getFloat64(tags.skip(8), true));
      case TAG_BUFFER:
        return this.#bytesOfItsOwn().buffer;
    }
    if (tag >= TAG_TYPED_ARRAY) return this.#typedArray(tag);
    if (depth >= VALUE_DEPTH_MAX) throw tags.error("bad_values", `has a value deeper than ${VALUE_DEPTH_MAX} levels`);
    switch (tag) {
      case TAG_OBJECT: {
        const object: Record<string, unknown> = {};
        for (let rest = this.#count(2); rest > 0; rest--) setField(object, this.#key(), this.value(depth + 1));
        return object;
      }
      case TAG_ARRAY: {
        const array: unknown[] = [];
        for (let rest = this.#count(1); rest > 0; rest--) array.push(this.value(depth + 1));
        return array;
      }
      case TAG_MAP: {
        const map = new Map<unknown, unknown>();
        for (let rest = this.#count(2); rest > 0; rest--) map.set(this.value(depth + 1), this.value(depth + 1));
        return map;
      }
      case TAG_SET: {
        const set = new Set<unknown>();
        for (let rest = this.#count(1); rest > 0; rest--) set.add(this.value(depth + 1));
        return set;
      }
      default:
        throw tags.error("bad_values", `has a value of unknown kind ${tag}`);
    }
  }

  /** All text was used. */
  end(): void {
    if (this.#textAt !== this.#text.length) throw this.#tags.error("bad_values", "has text that belongs to no value");
    if (this.#tags.remaining > 0) throw this.#tags.error("bad_values", `has ${this.#tags.remaining} tags too many`);
  }

  /** A number of items of at least `bytesEach`. */
  #count(bytesEach: number): number {
    const count = this.#tags.varint();
    if (count * bytesEach > this.#tags.remaining) throw this.#tags.error("truncated", `lacks some of ${count} items`);
    return count;
  }

  #string(): string {
    const from = this.#textAt;
    const to = from + this.#tags.varint();
    if (to > this.#text.length) throw this.#tags.error("truncated", "has strings that are longer than its text");
    this.#textAt = to;
    return this.#text.slice(from, to);
  }

  #key(): string {
    const number = this.#tags.varint();
    if (number === 0) {
      const key = this.#string();
      this.#keys.push(key);
      return key;
    }
    const key = this.#keys[number - 1];
    if (key === undefined) throw this.#tags.error("bad_values", `refers to key ${number}, which was not written yet`);
    return key;
  }

  #bytesOfItsOwn(): Uint8Array<ArrayBuffer> {
    const length = this.#tags.varint();
    return copyBytes(this.#tags.data, this.#tags.skip(length), length);
  }

  #bigint(): bigint {
    const length = this.#tags.varint();
    if (length === 0 || length > BIGINT_BYTES_MAX) {
      throw this.#tags.error("bad_values", `has a bigint of ${length} bytes`);
    }
    // Where it lies: a view of a few bytes costs more than the number.
    const at = this.#tags.skip(length);
    const { data } = this.#tags;
    if (length <= 6) {
      let small = 0;
      for (let i = 0; i < length; i++) small = small * 256 + data[at + i]!;
      return BigInt(small);
    }
    let hex = "0x";
    for (let i = 0; i < length; i++) hex += data[at + i]!.toString(16).padStart(2, "0");
    return BigInt(hex);
  }

  #typedArray(tag: number): unknown {
    const type = TYPED_ARRAYS[tag - TAG_TYPED_ARRAY];
    if (type === undefined) throw this.#tags.error("bad_values", `has a value of unknown kind ${tag}`);
    const length = this.#tags.varint();
    const at = this.#tags.skip(length);
    const { data } = this.#tags;
    if (length % type.BYTES_PER_ELEMENT !== 0) {
      throw this.#tags.error("bad_values", `has a typed array of ${length} bytes, which cuts an element`);
    }
    // Asking a small array for its buffer makes that buffer in JavaScriptCore, which takes ten times as long as the array.
    if (length === 0) return new type(0);
    if (type === Int8Array || type === Uint8ClampedArray) {
      const array = new type(length);
      array.set(data.subarray(at, at + length));
      return array;
    }
    const bytes = copyBytes(data, at, length);
    return type === Uint8Array ? bytes : new type(bytes.buffer);
  }
}

function copyBytes(data: Uint8Array, at: number, length: number): Uint8Array<ArrayBuffer> {
  return data.slice(at, at + length) as Uint8Array<ArrayBuffer>;
}

/** The caller's array may be a `Buffer`, whose slices are views and buffers again. */
function plainView(bytes: Uint8Array, offset: number, length: number): Uint8Array {
  assert(offset + length <= bytes.length, "the block lies within its bytes");
  return new Uint8Array(bytes.buffer, bytes.byteOffset + offset, length);
}

function decodeTagged(reader: ByteReader, count: number, depth: number): unknown[] {
  const tags = new ByteReader("the block of values", reader.bytes(reader.u32()));
  const tagged = new TaggedReader(tags, decodeText(reader));
  if (count > tags.remaining) throw tags.error("truncated", `lacks some of ${count} values`);
  const values = new Array<unknown>(count);
  for (let i = 0; i < count; i++) values[i] = tagged.value(depth);
  tagged.end();
  return values;
}

// --- What can be carried -------------------------------------------------------------------------------------------

/** A number is the index in `TYPED_ARRAYS`; `null`: an instance of some class, which cannot be carried. */
function kindOf(value: object): "array" | "buffer" | "date" | "map" | "object" | "set" | number | null {
  switch (Object.getPrototypeOf(value)) {
    case Object.prototype:
    case null:
      return "object";
    case Array.prototype:
      return "array";
    case Map.prototype:
      return "map";
    case Set.prototype:
      return "set";
    case Date.prototype:
      return "date";
    case ArrayBuffer.prototype:
      return "buffer";
  }
  if (!ArrayBuffer.isView(value)) return null;
  const prototype = Object.getPrototypeOf(value);
  for (let i = 0; i < TYPED_ARRAYS.length; i++) if (TYPED_ARRAYS[i]!.prototype === prototype) return i;
  return null;
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function isArray(value: object): boolean {
  return Object.getPrototypeOf(value) === Array.prototype;
}

/** A walk that remembers its way. It is slower than encoding and runs for samples and for errors. */
function check(root: unknown, index: number): void {
  const path: string[] = ["$"];
  const ancestors: object[] = [];
  let nodes = 0;
  let size = 0;

  const refuse = (code: string, what: string): never => {
    const place = path.join("");
    const at = index === 0 ? place : `${place} of value ${index}`;
    throw new ValueError(code, place, index, `${at} ${what}`);
  };
  const grow = (bytes: number): void => {
    size += bytes;
    if (size > VALUE_BYTES_MAX) refuse("value_too_large", `makes the value larger than ${VALUE_BYTES_MAX} bytes`);
  };
  const inside = (step: string, value: unknown): void => {
    path.push(step);
    visit(value);
    path.pop();
  };
  const visit = (value: unknown): void => {
    if (++nodes > NODES_MAX) refuse("value_too_large", `belongs to a value of more than ${NODES_MAX} parts`);
    if (typeof value === "string") grow(value.length);
    if (typeof value === "function") {
      refuse("value_unfit", `is a function (${value.name || "without a name"}): only plain data can be carried`);
    }
    if (typeof value === "symbol")
      refuse("value_unfit", `is the symbol ${String(value)}: only plain data can be carried`);
    if (typeof value === "bigint" && value.toString(16).length > BIGINT_BYTES_MAX * 2) {
      refuse("value_too_large", `is a bigint of more than ${BIGINT_BYTES_MAX} bytes`);
    }
    if (typeof value !== "object" || value === null) return;
    const kind = kindOf(value);
    if (kind === null) {
      const name = (value as { constructor?: { name?: unknown } }).constructor?.name;
      const advice = "only plain data can be carried: copy its fields into a plain object";
      refuse("value_unfit", `is an instance of class ${String(name)}: ${advice}`);
    }
    if (ancestors.includes(value)) refuse("value_cyclic", "refers back to an object it is part of");
    if (ancestors.length >= VALUE_DEPTH_MAX)
      refuse("value_too_deep", `is nested more than ${VALUE_DEPTH_MAX} levels deep`);
    if (Object.getOwnPropertySymbols(value).length > 0) {
      refuse("value_unfit", "has a property named by a symbol, which would be lost");
    }
    ancestors.push(value);
    if (kind === "object") {
      const fields = value as Record<string, unknown>;
      for (const name of Object.keys(fields)) {
        inside(
          /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`,
          fields[name],
        );
      }
    } else if (kind === "array") {
      const items = value as unknown[];
      for (let i = 0; i < items.length; i++) inside(`[${i}]`, items[i]);
      for (const name in items) {
        if (!/^\d+$/.test(name))
          refuse("value_unfit", `is an array with a property ${JSON.stringify(name)}, which would be lost`);
      }
    } else if (kind === "map") {
      let i = 0;
      for (const [key, item] of value as Map<unknown, unknown>) {
        inside(`.keys()[${i}]`, key);
        inside(typeof key === "string" ? `.get(${JSON.stringify(key)})` : `.values()[${i}]`, item);
        i++;
      }
    } else if (kind === "set") {
      let i = 0;
      for (const item of value as Set<unknown>) inside(`.values()[${i++}]`, item);
    } else if (typeof kind === "number" || kind === "buffer") {
      grow((value as ArrayBuffer).byteLength);
    }
    ancestors.pop();
  };
  visit(root);
  assert(ancestors.length === 0);
}
