import assert from "node:assert/strict";
import { test } from "node:test";
import { PayloadSpace } from "../../../src/protocol/session/payload_space.ts";

const payload = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill);

test("PayloadSpace copies, and writes only over what was freed", () => {
  const space = new PayloadSpace();
  const given = payload(17_000, 1);
  const first = space.copy(given);
  given.fill(9);
  assert.deepEqual(first, payload(17_000, 1));
  const second = space.copy(payload(20_000, 2));
  assert.notEqual(second.buffer, first.buffer);
  space.free(first);
  const third = space.copy(payload(30_000, 3));
  assert.equal(third.buffer, first.buffer);
  assert.deepEqual(third, payload(30_000, 3));
  assert.deepEqual(second, payload(20_000, 2));
  assert.notEqual(space.copy(payload(17_000, 4)).buffer, third.buffer);
});

test("PayloadSpace keeps payloads of all lengths, the empty one too, and a buffer fits one of its size only", () => {
  const space = new PayloadSpace();
  for (const length of [0, 1, 4_096, 4_097, 65_536, 65_537, 1_000_000]) {
    const copy = space.copy(payload(length, 5));
    assert.deepEqual(copy, payload(length, 5));
    space.free(copy);
    const longer = space.copy(payload(length * 2 + 1, 6));
    assert.deepEqual(longer, payload(length * 2 + 1, 6));
  }
});

test("PayloadSpace keeps a megabyte of freed buffers at most", () => {
  const space = new PayloadSpace();
  const copies = Array.from({ length: 40 }, (_, i) => space.copy(payload(65_536, i)));
  const buffers = new Set(copies.map((copy) => copy.buffer));
  for (const copy of copies) space.free(copy);
  const again = copies.map((_, i) => space.copy(payload(65_536, i)));
  assert.equal(again.filter((copy) => buffers.has(copy.buffer)).length, 16);
});
