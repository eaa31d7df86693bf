import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseFile, lastBefore } from "../../src/connectors/choose_file.ts";

const choose = (names: string[], finished: string[], follow: boolean) =>
  chooseFile({ names, finished: new Set(finished), follow });

test("files are read in the order of their names, and each is whole when nothing is followed", () => {
  assert.deepEqual(choose(["a", "b"], [], false), { kind: "read", name: "a", whole: true });
  assert.deepEqual(choose(["a", "b"], ["a"], false), { kind: "read", name: "b", whole: true });
  assert.deepEqual(choose(["a", "b"], ["a", "b"], false), { kind: "end" });
  assert.deepEqual(choose([], [], false), { kind: "end" });
});

test("of a folder that is followed, only the last file may still grow", () => {
  assert.deepEqual(choose(["a", "b"], [], true), { kind: "read", name: "a", whole: true });
  assert.deepEqual(choose(["a", "b"], ["a"], true), { kind: "read", name: "b", whole: false });
  assert.deepEqual(choose(["a", "b.gz"], ["a"], true), { kind: "read", name: "b.gz", whole: true });
  assert.deepEqual(choose(["a", "b.gz"], ["a", "b.gz"], true), { kind: "wait" });
});

test("a name that sorts before what was read is next", () => {
  assert.deepEqual(choose(["a", "b", "c"], ["b"], true), { kind: "read", name: "a", whole: true });
  assert.equal(lastBefore("a", ["b", "c"]), "c");
  assert.equal(lastBefore("d", ["b", "c"]), null);
  assert.equal(lastBefore("a", []), null);
});
