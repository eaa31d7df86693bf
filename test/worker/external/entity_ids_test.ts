import assert from "node:assert/strict";
import { test } from "node:test";
import { entityId, INSTANCES, stepIds } from "../../../src/worker/external/entity_ids.ts";

test("entityId() is the same for ever: decimal, below 2^128, told apart by where its parts end", () => {
  // FNV-1a with 128 bits of "1:a", by a second implementation.
  assert.equal(entityId("a"), slowFnv("1:a"));
  assert.equal(entityId("ü", "b"), slowFnv("1:ü1:b"));
  assert.match(entityId("count", "initializer"), /^[1-9][0-9]{0,38}$/);
  assert.ok(BigInt(entityId("x".repeat(10_000))) < 1n << 128n);
  assert.notEqual(entityId("a", "bc"), entityId("ab", "c"));
});

test("stepIds() has ten different ids for each operator and worker", () => {
  const ids = ["w1", "w2"].flatMap((worker) => [...stepIds("p/a", worker), ...stepIds("p/b", worker)]);
  assert.equal(new Set(ids).size, 4 * INSTANCES);
  assert.deepEqual(stepIds("p/a", "w1"), ids.slice(0, INSTANCES));
});

/** In 16 bytes, by long multiplication with the prime 2^88 + 0x13b. */
function slowFnv(text: string): string {
  let hash = [...fromHex("6c62272e07bb014262b821756295c58d")].reverse();
  for (const byte of new TextEncoder().encode(text)) {
    hash[0] = hash[0]! ^ byte;
    const product = new Array<number>(16).fill(0);
    for (let i = 0; i < 16; i++) {
      product[i]! += hash[i]! * 0x13b;
      if (i + 11 < 16) product[i + 11]! += hash[i]!;
    }
    for (let i = 0; i < 15; i++) product[i + 1]! += Math.floor(product[i]! / 256);
    hash = product.map((value) => value % 256);
  }
  return hash.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n).toString();
}

function fromHex(hex: string): number[] {
  return hex.match(/../g)!.map((pair) => Number.parseInt(pair, 16));
}
