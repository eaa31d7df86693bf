/** What docs/faults.md points at is there. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "../..");
const rows = readFileSync(join(root, "docs/faults.md"), "utf8")
  .split("\n")
  .filter((line) => /^\| [A-I]\d/.test(line));

test("every kind of fault has its row, and what shows it", () => {
  const kinds = { A: [1, 9], B: [1, 9], C: [1, 8], D: [1, 11], E: [1, 13], F: [1, 2], H: [5, 7], I: [1, 8] } as const;
  const expected = Object.entries(kinds).flatMap(([letter, [first, last]]) =>
    Array.from({ length: last - first + 1 }, (_, i) => `${letter}${first + i}`),
  );
  assert.deepEqual(
    rows.map((row) => /^\| (\S+)/.exec(row)![1]),
    expected,
  );
  for (const row of rows) {
    const shownBy = row.split(" | ").at(-1)!;
    assert.match(shownBy, /`|parity\/|crash points/, row);
  }
});

test("tests, scenarios and directed states that the table of faults names exist", () => {
  const directed = readFileSync(join(root, "test/sim/directed.ts"), "utf8");
  for (const row of rows) {
    const shownBy = row.split(" | ").at(-1)!;
    for (const [, path] of shownBy.matchAll(/`([a-z]+\/[\w/]+\.ts)`/g)) {
      assert.ok(existsSync(join(root, "test", path!)), `${path}, named in: ${row}`);
    }
    for (const [, names] of shownBy.matchAll(/parity\/(\w+(?:, \w+)*)/g)) {
      for (const name of names!.split(", ")) {
        assert.ok(existsSync(join(root, `test/sim/parity/${name}.json`)), `${name}, named in: ${row}`);
      }
    }
    for (const [, names] of shownBy.matchAll(/directed ((?:`\w+`(?:, )?)+)/g)) {
      for (const [, name] of names!.matchAll(/`(\w+)`/g)) {
        assert.ok(directed.includes(`directed("${name}"`), `${name}, named in: ${row}`);
      }
    }
  }
});
