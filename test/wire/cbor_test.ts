import assert from "node:assert/strict";
import { test } from "node:test";
import { Decoder } from "cbor-x/decode";
import { Encoder } from "cbor-x/encode";
import fc from "fast-check";
import { AssertionError } from "../../src/base/assert.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { decodeCbor, encodeCbor } from "../../src/wire/cbor.ts";

/** With ordinary prototypes, to compare. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  assert.equal(Object.getPrototypeOf(value), null);
  const object = {};
  for (const [key, item] of Object.entries(value)) {
    Object.defineProperty(object, key, { value: plain(item), enumerable: true, configurable: true, writable: true });
  }
  return object;
}

function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

test("plain data comes back as it was", () => {
  const values = [
    0,
    23,
    24,
    255,
    256,
    65535,
    65536,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 53 - 1,
    -1,
    -24,
    -25,
    -256,
    -257,
    -(2 ** 31),
    -(2 ** 32),
    -(2 ** 53 - 1),
    1.5,
    NaN,
    Infinity,
    "",
    "grüße 🦘",
    "x".repeat(100),
    true,
    false,
    null,
    undefined,
    new Uint8Array([1, 2]),
    [],
    {},
    [1, [2, { a: [] }]],
    { kind: "form", members: [{ name: "w1", port: 1 }] },
    { "": { b: undefined } },
    Array.from({ length: 300 }, (_, i) => i),
    JSON.parse('{"__proto__":1}'),
    Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`k${i}`, i])),
  ];
  for (const value of values) assert.deepStrictEqual(plain(decodeCbor(encodeCbor(value))), value);
});

test("property: any JSON-like value comes back, and cbor-x reads it the same", () => {
  const decoder = new Decoder({ useRecords: false, mapsAsObjects: true, structuredClone: false } as object);
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false } as object), (value) => {
      const expected = JSON.parse(JSON.stringify(value)) as unknown;
      const bytes = encodeCbor(expected);
      assert.deepStrictEqual(plain(decodeCbor(bytes)), expected);
      if (!JSON.stringify(value).includes("__proto__")) assert.deepStrictEqual(decoder.decode(bytes), expected);
    }),
    { numRuns: 1000 },
  );
});

test("results are copies: neither the encoder's pool nor the frame shows through", () => {
  const first = encodeCbor({ a: new Uint8Array([1, 2, 3]) });
  const kept = first.slice();
  encodeCbor({ b: "something else altogether" });
  assert.deepEqual(first, kept);
  const decoded = decodeCbor(first) as { a: Uint8Array };
  first.fill(0);
  assert.deepEqual([...decoded.a], [1, 2, 3]);
  assert.equal(Object.getPrototypeOf(decoded.a), Uint8Array.prototype);
});

test("lone surrogates are replaced; what is no plain data is a bug that shows at the sender", () => {
  assert.deepStrictEqual(plain(decodeCbor(encodeCbor({ "\ud800": ["a\udc00"] }))), { "\ufffd": ["a\ufffd"] });
  for (const value of [new Date(0), /x/, 5n, 2n ** 70n, new Map([[1, 2]]), new Set([1]), [new Float64Array(1)]]) {
    assert.throws(() => encodeCbor(value), AssertionError, String(value));
  }
});

const nested = (levels: number, head: string) => `${head.repeat(levels)}80`;

const refused: Record<string, string | Uint8Array> = {
  nothing: "",
  "bytes behind the end": "00 00",
  "tag 27, a regular expression": "d81b 82 66526567457870 66 28612b292b24",
  "record definition": "d9dfff 83 82 6161 6162 19e000 82 01 02",
  "record reference": "d9e000 82 01 02",
  "tag 28, shareable": "d81c 81 d81d 00",
  "tag 29, reference": "d81d 00",
  "tag 2, big integer": "c2 41 ff",
  "tag 6, packed": "c6 00",
  "tag 1, date": "c1 00",
  "tag 258, set": "d90102 80",
  "tag 55799, self-described": "d9d9f7 00",
  "indefinite array": "9f ff",
  "indefinite map": "bf ff",
  "indefinite text": "7f 6161 ff",
  "indefinite bytes": "5f 4161 ff",
  "lone break": "ff",
  "reserved length": "1c",
  "1 in one byte more": "18 01",
  "1 in two bytes": "19 0001",
  "1 in four bytes": "1a 00000001",
  "1 in eight bytes": "1b 0000000000000001",
  "2^53": "1b 0020000000000000",
  "-2^53": "3b 001fffffffffffff",
  "half float": "f9 3c00",
  "single float": "fa 3f800000",
  "simple value 0": "e0",
  "simple value 32": "f8 20",
  "bad UTF-8": "62 c328",
  "surrogate as UTF-8": "63 eda080",
  "cut text": "63 6161",
  "cut array": "82 00",
  "cut map": "a1 6161",
  "integer key": "a1 01 02",
  "array key": "a1 80 02",
  "key twice": "a2 6161 01 6161 02",
  "__proto__ twice": "a2 695f5f70726f746f5f5f 01 695f5f70726f746f5f5f 02",
  "long key": `a1 79 0401 ${"61".repeat(1025)} 00`,
  "33 arrays inside of each other": nested(32, "81"),
  "33 maps inside of each other": nested(32, "a16161"),
  "5,000 levels": nested(5000, "81"),
  "huge array": "9a ffffffff 00",
  "huge map": "bb 0000ffffffffffff 00",
  "huge text": "7a ffffffff 61",
  "huge bytes": "5b 001fffffffffffff 61",
};

function megabytes(mebibytes: number, head: number[], fill: number): Uint8Array {
  const bytes = new Uint8Array(mebibytes * 2 ** 20).fill(fill);
  bytes.set(head);
  return bytes;
}
const u32 = (value: number) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const MANY_ITEMS = "as many empty maps as are allowed, and more";
const large: Record<string, Uint8Array> = {
  "4 MiB of empty maps": megabytes(4, [0x9a, ...u32(2 ** 22 - 5)], 0xa0),
  "1 MiB of arrays that announce the rest": megabytes(1, [], 0x9a),
  "1 MiB of nesting": megabytes(1, [], 0x81),
  "200 KB big integer": megabytes(1, [0xc2, 0x5a, ...u32(2 ** 20 - 6)], 0xff),
  "1 MiB of breaks": megabytes(1, [0x9f], 0xff),
  [MANY_ITEMS]: megabytes(1, [0x82, 0x99, 0x3f, 0xf0], 0xa0),
  "packed table": new Uint8Array(
    new Encoder({ pack: true } as object).encode(Array.from({ length: 20000 }, (_, i) => ({ name: `n${i % 7}` }))),
  ),
};

for (const [name, input] of Object.entries(refused)) {
  test(`refused: ${name}`, () => {
    const bytes = typeof input === "string" ? bytesOf(input) : input;
    assert.throws(() => decodeCbor(bytes), ProtocolError);
  });
}

for (const [name, bytes] of Object.entries(large)) {
  test(`refused before the rest is read: ${name}`, () => {
    assert.throws(
      () => decodeCbor(bytes),
      (error) => {
        assert.ok(error instanceof ProtocolError);
        // The head of each level that is allowed; or as many items as are allowed.
        const readMax = name === MANY_ITEMS ? 16_384 : 33;
        const read = Number(/at offset (\d+)$/.exec(error.message)?.[1]);
        assert.ok(read <= readMax, error.message);
        return true;
      },
    );
  });
}

test("limits: depth and items at the limit, and one more", () => {
  assert.ok(decodeCbor(bytesOf(nested(31, "81"))));
  assert.ok(decodeCbor(bytesOf(nested(3, "81")), { depthMax: 4 }));
  assert.throws(() => decodeCbor(bytesOf(nested(4, "81")), { depthMax: 4 }), ProtocolError);
  assert.ok(decodeCbor(bytesOf("83 010203"), { itemsMax: 4 }));
  assert.throws(() => decodeCbor(bytesOf("84 01020304"), { itemsMax: 4 }), ProtocolError);
  assert.ok(decodeCbor(bytesOf(`a1 79 0400 ${"61".repeat(1024)} 00`)));
});

test("every prefix of a message is refused", () => {
  const bytes = encodeCbor({ kind: "form", members: [{ name: "w1", port: 7000 }, null, 1.5], text: "ü".repeat(40) });
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeCbor(bytes.subarray(0, length)), ProtocolError);
  }
});
