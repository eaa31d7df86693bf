import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { runContract } from "./contract.ts";
import { runProcessContract } from "./process_contract.ts";
import { makeFolder, makeRealStage } from "./real_stage.ts";

if (process.versions["deno"] === undefined) {
  test("the Deno runtime is tested under Deno", () => console.log("skipped: this is not Deno"));
} else {
  const { createDenoRuntime } = await import("../../src/runtime/deno.ts");
  runContract("Deno runtime", () => makeRealStage(createDenoRuntime));
  runProcessContract("Deno runtime", createDenoRuntime);

  test("Deno runtime: tammar inside an imported module is this library's own instance", async () => {
    const folder = makeFolder();
    try {
      // By the import map in deno.json, whatever folder the module is in.
      writeFileSync(`${folder}/application.ts`, `import * as library from "tammar";\nexport { library };\n`);
      const module = await createDenoRuntime().host.importModule(`${folder}/application.ts`);
      assert.equal(module["library"], await import("../../mod.ts"));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
