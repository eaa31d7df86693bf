/** Values of an author's state as JSON for people and scripts. What JSON does not have becomes an object with one `$` field. */

/** Of one value. Text that JSON has no form for, lone surrogates, is escaped by `JSON.stringify`. */
export function jsonOfValue(value: unknown): unknown {
  switch (typeof value) {
    case "bigint":
      return { $bigint: String(value) };
    case "undefined":
      return { $undefined: true };
    case "number":
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { $number: Object.is(value, -0) ? "-0" : String(value) };
    case "object":
      return value === null ? null : jsonOfObject(value);
    default:
      return value;
  }
}

function jsonOfObject(value: object): unknown {
  if (Array.isArray(value)) return value.map(jsonOfValue);
  if (value instanceof Date) {
    return { $date: Number.isNaN(value.getTime()) ? "invalid" : value.toISOString() };
  }
  if (value instanceof Map) return { $map: [...value].map(([key, item]) => [jsonOfValue(key), jsonOfValue(item)]) };
  if (value instanceof Set) return { $set: [...value].map(jsonOfValue) };
  if (value instanceof ArrayBuffer) return { $ArrayBuffer: [...new Uint8Array(value)] };
  if (ArrayBuffer.isView(value)) {
    const items = [...(value as unknown as Iterable<number | bigint>)];
    return { [`$${value.constructor.name}`]: items.map((item) => (typeof item === "bigint" ? String(item) : item)) };
  }
  const fields = Object.entries(value).map(([name, item]) => [name, jsonOfValue(item)] as const);
  return Object.fromEntries(fields);
}
