import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ProtocolError } from "../../src/base/errors.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { BIGINT_BYTES_MAX, checkValue, decodeValues, encodeValues, ValueError } from "../../src/wire/values.ts";

function encode(values: unknown[]): Uint8Array {
  const out = new ByteWriter();
  encodeValues(values, values.length, out);
  return out.take();
}

function roundTrip(values: unknown[]): unknown[] {
  const bytes = encode(values);
  // Behind other bytes and before others, at an odd place.
  const frame = new Uint8Array(bytes.length + 7).fill(0xaa);
  frame.set(bytes, 3);
  return decodeValues(frame, 3, bytes.length, values.length);
}

function sameBack(values: unknown[]): void {
  for (const value of values) checkValue(value);
  assert.deepStrictEqual(roundTrip(values), values);
  // Alone as well: another column shape than in company.
  for (const value of values) assert.deepStrictEqual(roundTrip([value]), [value]);
}

function refusal(value: unknown): ValueError {
  const errors: unknown[] = [];
  for (const attempt of [() => checkValue(value), () => encode([value])]) {
    try {
      attempt();
      errors.push(null);
    } catch (error) {
      errors.push(error);
    }
  }
  const [checked, encoded] = errors;
  assert.ok(checked instanceof ValueError, `checkValue let it pass, or failed with ${checked}`);
  assert.ok(encoded instanceof ValueError, `encodeValues let it pass, or failed with ${encoded}`);
  assert.equal(checked.message, encoded.message);
  return checked;
}

test("every kind of plain data comes back as it was", () => {
  sameBack([0, -0, 1, -1, 1.5, 2 ** 31, -(2 ** 31), 2 ** 53, NaN, Infinity, -Infinity, Number.MIN_VALUE]);
  sameBack(["", "a", "grüße", "世界", "🦘", "\0", "\ufeffmark", "x".repeat(300)]);
  sameBack(["\ud800", "\udc00", "a\ud83dz"]);
  sameBack([true, false, null, undefined]);
  sameBack([null, undefined, true]);
  sameBack([0n, 1n, -1n, 255n, 256n, -(2n ** 64n), 2n ** 200n + 7n]);
  sameBack([new Date(0), new Date(1.7e12), new Date(NaN)]);
  sameBack([
    new Map<unknown, unknown>([
      ["a", 1],
      [2, new Map()],
      [null, [NaN]],
    ]),
    new Map(),
  ]);
  sameBack([new Set([1, "1", undefined, -5]), new Set()]);
  sameBack([[], [1, [2, [3]]], [undefined], ["a", null]]);
  sameBack([{}, { a: 1 }, { a: undefined }, { "": "", "a b": { c: [] } }]);
  sameBack([new Uint8Array([1, 2, 3]), new Uint8Array(0)]);
});

test("typed arrays and buffers come back aligned, whatever their place in another buffer", () => {
  const backing = new Uint8Array([9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9]).buffer;
  sameBack([
    new Uint8Array(backing, 1, 3),
    new Int8Array([-1]),
    new Uint8ClampedArray([255]),
    new Uint16Array([65535]),
    new Int16Array(backing, 2, 2),
    new Uint32Array([1, 2 ** 32 - 1]),
    new Int32Array([-5]),
    new Float32Array([1.5, NaN]),
    new Float64Array(backing, 8, 1),
    new BigUint64Array([2n ** 64n - 1n]),
    new BigInt64Array([-1n]),
    new Uint8Array([5, 6]).buffer,
  ]);
  const [first] = roundTrip([new Uint8Array(backing, 1, 3), new Uint8Array(1)]) as [Uint8Array];
  assert.equal(first.buffer.byteLength, 3);
});

test("objects of one shape keep the order of their keys, and -0 in a column", () => {
  const values = [
    { b: 1, a: "x", 7: true },
    { b: -0, a: "y", 7: null },
  ];
  sameBack(values);
  assert.deepEqual(Object.keys(roundTrip(values)[0] as object), ["7", "b", "a"]);
  for (const fields of [1, 2, 3, 4, 5, 6, 7, 12, 64, 65]) {
    const shaped = (i: number) => Object.fromEntries(Array.from({ length: fields }, (_, k) => [`f${k}`, i * 100 + k]));
    sameBack([shaped(1), shaped(2), shaped(3)]);
    sameBack([Object.values(shaped(1)), Object.values(shaped(2))]);
  }
});

test("columns that stop fitting halfway fall to the general encoding", () => {
  sameBack([1, 2, "three"]);
  sameBack(["one", "two", 3]);
  sameBack([true, false, 0]);
  sameBack([null, { a: 1 }]);
  sameBack([{ a: 1 }, { a: 1, b: 2 }]);
  sameBack([{ a: 1, b: 2 }, { a: 1 }]);
  sameBack([
    { a: 1, b: 2 },
    { b: 2, a: 1 },
  ]);
  sameBack([{ a: 1 }, [1], new Map([["a", 1]])]);
  sameBack([[1], [1, 2]]);
  sameBack([
    [1, 2],
    [1, "x"],
  ]);
  sameBack([{ a: { b: { c: { d: { e: { f: 1 } } } } } }, { a: { b: { c: { d: { e: { f: 2 } } } } } }]);
  sameBack([new Uint8Array(1), new Uint16Array(1)]);
});

test("a key called __proto__ is a key like any other", () => {
  const value = JSON.parse('{"__proto__":{"admin":true},"x":1}') as Record<string, unknown>;
  for (const back of [...roundTrip([value, value]), ...roundTrip([value, 1])].slice(0, 3)) {
    assert.ok(Object.hasOwn(back as object, "__proto__"));
    assert.equal((back as { admin?: boolean }).admin, undefined);
    assert.equal(Object.getPrototypeOf(back), Object.prototype);
  }
});

test("objects without prototype come back with the usual one, holes as undefined", () => {
  const bare = Object.assign(Object.create(null) as object, { a: 1 });
  assert.deepStrictEqual(roundTrip([bare]), [{ a: 1 }]);
  // biome-ignore lint/suspicious/noSparseArray: this is about holes
  assert.deepStrictEqual(roundTrip([[1, , 3], 1]), [[1, undefined, 3], 1]);
});

test("what cannot be carried is refused with the path to it, by encoder and check alike", () => {
  class Account {
    total = 1;
  }
  const fn = () => 1;
  assert.equal(refusal({ user: { cache: { fn } } }).path, "$.user.cache.fn");
  assert.match(refusal({ user: { cache: { fn } } }).message, /\$\.user\.cache\.fn is a function \(fn\)/);
  assert.equal(refusal([1, [Symbol("s")]]).path, "$[1][0]");
  assert.match(refusal({ "a b": new Account() }).message, /^\$\["a b"\] is an instance of class Account/);
  assert.equal(refusal(new Map<unknown, unknown>([["k", fn]])).path, '$.get("k")');
  assert.equal(refusal(new Map([[fn, 1]])).path, "$.keys()[0]");
  assert.equal(refusal(new Set([1, fn])).path, "$.values()[1]");
  for (const value of [/x/, new Error("e"), new (class extends Map {})(), Promise.resolve(), Buffer.from("x")]) {
    assert.equal(refusal(value).code, "value_unfit");
  }
  assert.equal(refusal(1n << BigInt(BIGINT_BYTES_MAX * 8)).code, "value_too_large");
  sameBack([(1n << BigInt(BIGINT_BYTES_MAX * 8)) - 1n]);
});

test("the refusal names the value of the batch and leaves the writer as it was", () => {
  const out = new ByteWriter();
  out.u8(7);
  assert.throws(
    () => encodeValues([{ a: 1 }, { a: 2 }, { a: () => 1 }], 3, out),
    (error) =>
      error instanceof ValueError && error.index === 2 && error.path === "$.a" && / of value 2 /.test(error.message),
  );
  assert.deepEqual([...out.take()], [7]);
});

test("cycles and too deep values are refused; the deepest legal one comes back", () => {
  const cyclic: { a: { self?: unknown } } = { a: {} };
  cyclic.a.self = cyclic;
  assert.equal(refusal(cyclic).code, "value_cyclic");
  assert.equal(refusal(cyclic).path, "$.a.self");
  const nested = (levels: number): unknown =>
    levels === 0 ? 1 : levels % 2 === 0 ? { n: nested(levels - 1) } : [nested(levels - 1)];
  sameBack([nested(100)]);
  assert.equal(refusal(nested(101)).code, "value_too_deep");
  const shared = { x: 1 };
  sameBack([{ a: shared, b: [shared, shared] }]);
});

test("a value that doubles at each level is refused before it fills the memory", () => {
  let bomb: unknown = "x".repeat(100_000);
  for (let i = 0; i < 60; i++) bomb = { a: bomb, b: bomb };
  assert.equal(refusal(bomb).code, "value_too_large");
  assert.equal(refusal([new Uint8Array(2 ** 26 + 1), 1]).code, "value_too_large");
});

test("symbol keys and further properties of arrays are refused by the check", () => {
  assert.throws(() => checkValue({ [Symbol("s")]: 1 }), ValueError);
  assert.throws(() => checkValue("abc".match(/b/)), ValueError);
});

const primitive = fc.oneof(fc.integer(), fc.string(), fc.boolean(), fc.bigInt(), fc.constantFrom(null, undefined));
const plain = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: "small" },
    fc.double(),
    fc.integer(),
    fc.string({ unit: "binary" }),
    fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units)),
    fc.constantFrom(true, false, null, undefined),
    fc.bigInt(),
    fc.date({ noInvalidDate: false }),
    fc.uint8Array(),
    fc.float64Array(),
    fc.array(tie("value")),
    fc.dictionary(fc.string(), tie("value"), { noNullPrototype: true }),
    // Keys are primitive here: comparing maps by object keys is beyond what `deepStrictEqual` does alike everywhere.
    fc.array(fc.tuple(primitive, tie("value"))).map((entries) => new Map(entries)),
    fc.array(primitive).map((items) => new Set(items)),
  ),
}));

test("property: whatever is encoded comes back, in columns of any mixture", () => {
  fc.assert(
    fc.property(fc.array(plain.value, { maxLength: 8 }), (values) => {
      assert.deepStrictEqual(roundTrip(values), values);
    }),
    { numRuns: 1500 },
  );
  const shaped = fc
    .tuple(
      fc.uniqueArray(fc.string(), { maxLength: 9 }),
      fc.array(fc.array(plain.value, { minLength: 9, maxLength: 9 })),
    )
    .map(([names, rows]) => rows.map((row) => Object.fromEntries(names.map((name, k) => [name, row[k]]))));
  fc.assert(
    fc.property(shaped, (values) => assert.deepStrictEqual(roundTrip(values), values)),
    { numRuns: 500 },
  );
});

test("a block cut anywhere or with a byte too many is a protocol error", () => {
  const bytes = encode([
    { a: 1, b: "x", c: [1, { d: new Map([[1n, new Date(0)]]) }] },
    { a: 2, b: "y", c: null },
  ]);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeValues(bytes, 0, length, 2), ProtocolError);
  }
  const longer = new Uint8Array(bytes.length + 1);
  longer.set(bytes);
  assert.throws(() => decodeValues(longer, 0, longer.length, 2), ProtocolError);
  assert.throws(() => decodeValues(bytes, 0, bytes.length, 3), ProtocolError);
  assert.throws(() => decodeValues(bytes, 0, bytes.length, 2 ** 32 - 1), ProtocolError);
});
