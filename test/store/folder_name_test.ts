import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeFolderName, encodeFolderName } from "../../src/store/folder_name.ts";

const HOSTILE = [
  "",
  ".",
  "..",
  "../x",
  "/",
  "/etc/passwd",
  "a/b",
  "a\\b",
  "a b",
  "-rf",
  "~",
  "%",
  "%41",
  "a\0b",
  "Größe ☃",
];

test("encodeFolderName() makes one harmless path part of any name", () => {
  for (const name of HOSTILE) {
    const folder = encodeFolderName(name);
    assert.match(
      folder,
      /^(?:%|(?:[A-Za-z0-9_]|%[0-9a-f]{2}|%u[0-9a-f]{4})(?:[A-Za-z0-9._-]|%[0-9a-f]{2}|%u[0-9a-f]{4})*)$/,
      name,
    );
  }
});

test("encodeFolderName() leaves ordinary names readable", () => {
  assert.equal(encodeFolderName("word_count-2.0"), "word_count-2.0");
  assert.equal(encodeFolderName("Alerts (stateful)"), "Alerts%20%28stateful%29");
  assert.equal(encodeFolderName("../x"), "%2e.%2fx");
});

test("decodeFolderName() gives back every name, broken surrogate pairs too, so that two names never meet", () => {
  const seed = Date.now();
  console.log(`seed ${seed}`);
  const anyName = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((u) => String.fromCharCode(u)) }),
  );
  fc.assert(
    fc.property(anyName, (name) => {
      assert.equal(decodeFolderName(encodeFolderName(name)), name);
    }),
    { seed, numRuns: 2_000 },
  );
  for (const name of HOSTILE) assert.equal(decodeFolderName(encodeFolderName(name)), name);
});

test("decodeFolderName() knows no folder that encodeFolderName() does not make", () => {
  for (const folder of ["", ".cache", "-x", "a b", "%41", "%2", "%zz", "%U0041", "a%", "ü", "%2E"]) {
    assert.equal(decodeFolderName(folder), null, folder);
  }
});
