// Transcripts of links. After a change that is meant to change them: TAMMAR_TRANSCRIPTS=write, then read the diff.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { replay } from "./transcript.ts";

const folder = fileURLToPath(new URL("./transcripts/", import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith(".txt"));

for (const name of names) {
  test(`the story of ${name.replace(".txt", "").replaceAll("_", " ")} goes as written`, () => {
    const path = `${folder}${name}`;
    const written = readFileSync(path, "utf8");
    const now = replay(written);
    if (process.env.TAMMAR_TRANSCRIPTS === "write") writeFileSync(path, now);
    else assert.equal(now, written);
  });
}

test("there are transcripts to replay", () => {
  assert.ok(names.length >= 5);
});
