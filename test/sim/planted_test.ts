// Planted bugs: each can still be planted, and what leads to one is clean without it. Whether they are seen is for
// `scripts/sim planted`, which takes minutes.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseScenario } from "../../src/simulation/scenario.ts";
import { canarySeeds, mustFail, runCanary } from "./canary.ts";
import { execute } from "./execute.ts";
import { applyBug, parseBug, readBugs, scenarioFile } from "./planted.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const BUG = "It breaks something.\nfile: src/a.ts\nlook: crashes\n--- old\n  sync();\n--- new\n--- end\n";

test("a planted bug is one sentence, a file, where to look, old lines and new ones", () => {
  assert.deepEqual(parseBug("b", BUG), {
    name: "b",
    breaks: "It breaks something.",
    file: "src/a.ts",
    look: "crashes",
    before: "  sync();\n",
    after: "",
  });
  assert.throws(() => parseBug("b", BUG.replace("--- end\n", "")), /planted\/b\.bug: it has a sentence/);
  assert.throws(() => parseBug("b", BUG.replace("--- new\n", "--- new\n  sync();\n")), /it changes nothing/);
});

test("a planted bug whose old lines are not there exactly once says so", () => {
  const bug = parseBug("b", BUG);
  assert.equal(applyBug(bug, "a();\n  sync();\nb();\n"), "a();\nb();\n");
  for (const content of ["a();\n", "  sync();\n  sync();\n"]) {
    assert.throws(() => applyBug(bug, content), /planted bug b no longer applies to src\/a\.ts: adapt it/);
  }
});

for (const bug of readBugs()) {
  test(`planted bug ${bug.name} applies to ${bug.file}`, { timeout: 300_000 }, async () => {
    applyBug(bug, readFileSync(root + bug.file, "utf8"));
    if (bug.look.startsWith("test/")) assert.ok(existsSync(root + bug.look), `there is no ${bug.look}`);
    const scenario = scenarioFile(bug);
    if (scenario === null) return;
    assert.deepEqual((await execute(parseScenario(readFileSync(scenario, "utf8")))).violations, []);
  });
}

test("the canary fails for no seed without its bug, and is meant to fail for about one in a hundred with it", {
  timeout: 300_000,
}, async () => {
  assert.deepEqual((await runCanary()).failed, []);
  const share = canarySeeds().filter(mustFail).length / canarySeeds().length;
  assert.ok(share >= 0.005 && share <= 0.02, `${share} of its seeds`);
});
