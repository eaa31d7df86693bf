import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parsePartName, preparedName, visibleName, writingName } from "../../src/connectors/part_name.ts";
import { planParts } from "../../src/connectors/part_plan.ts";
import { PartSegment } from "../../src/connectors/part_segment.ts";

const WORKERS = ["initializer", "w", "w1", "w10", "w1-1", "a-00000001", "a", "a.b", "-", "1-2-3"];
const worker = fc.constantFrom(...WORKERS);
const epoch = fc.nat({ max: Number.MAX_SAFE_INTEGER });

test("a name means something to the worker that gave it, and to no other", () => {
  fc.assert(
    fc.property(worker, worker, epoch, epoch, fc.nat(99_999_999), (mine, theirs, first, second, number) => {
      const name = visibleName(first, mine, number, "ndjson");
      assert.deepEqual(parsePartName(name, mine), { kind: "visible", epoch: first, number });
      const prepared = preparedName(second, name);
      assert.deepEqual(parsePartName(prepared, mine), { kind: "prepared", epoch: second, target: name });
      assert.deepEqual(parsePartName(writingName(mine, number), mine), { kind: "scratch" });
      if (mine === theirs) return;
      for (const other of [name, prepared, writingName(mine, number)]) assert.equal(parsePartName(other, theirs), null);
    }),
  );
});

test("names sort by epoch, then by number; what is not visible begins with a dot", () => {
  fc.assert(
    fc.property(epoch, epoch, fc.nat(9999), fc.nat(9999), (a, b, m, n) => {
      const [left, right] = [visibleName(a, "w", m, "txt"), visibleName(b, "w", n, "txt")];
      assert.equal(Math.sign(a - b || m - n), left < right ? -1 : left > right ? 1 : 0);
      assert.ok(preparedName(a, left).startsWith(".") && writingName("w", m).startsWith("."));
    }),
  );
});

test("names of others are left alone", () => {
  for (const name of [
    "",
    "part-1-w-2.txt",
    "notes.txt",
    ".hidden",
    "part-0000000000000001-w-00000000",
    ".tammar-w",
    "part-",
  ]) {
    assert.equal(parsePartName(name, "w"), null, name);
  }
});

function segment(bytes: number): PartSegment {
  const made = new PartSegment();
  made.push({ bytes: new Uint8Array(bytes), ends: Uint32Array.of(bytes) });
  return made;
}

const naming = { worker: "w", extension: "txt", firstNumber: 0 };
const last = (bytes: number) => ({ name: "part-0000000000000001-w-00000000.txt", bytes });
const MIB = 1 << 20;

test("planParts() joins what is small to the last file, and leaves alone one that is large enough", () => {
  for (const [size, added, joined] of [
    [10, 10, true],
    [MIB - 10, 10, true],
    [MIB - 9, 10, false],
    [7 * MIB, MIB, true],
    [7 * MIB + 1, MIB, false],
    [44 * MIB, 20 * MIB, true],
    [44 * MIB + 1, 20 * MIB, false],
  ] as const) {
    const plan = planParts(7, [segment(added)], last(size), naming);
    assert.equal(plan.join !== null, joined, `${added} to ${size}`);
    const result = joined
      ? { ...last(size), bytes: size + added }
      : { name: visibleName(7, "w", 0, "txt"), bytes: added };
    assert.deepEqual(plan.results, [result]);
  }
});

test("planParts() gives each segment a file of its own where there is nothing to join to, and empty ones none", () => {
  const plan = planParts(7, [segment(0), segment(3), segment(0), segment(4)], null, naming);
  assert.deepEqual(
    plan.results.map(({ name, bytes }) => [parsePartName(name, "w"), bytes]),
    [
      [{ kind: "visible", epoch: 7, number: 0 }, 3],
      [{ kind: "visible", epoch: 7, number: 1 }, 4],
    ],
  );
  assert.deepEqual(planParts(7, [segment(0)], last(5), naming).results, []);
});
