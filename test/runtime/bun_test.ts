import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { runContract } from "./contract.ts";
import { runProcessContract } from "./process_contract.ts";
import { makeFolder, makeRealStage } from "./real_stage.ts";

if (process.versions["bun"] === undefined) {
  test("the Bun runtime is tested under Bun", () => console.log("skipped: this is not Bun"));
} else {
  const { createBunRuntime } = await import("../../src/runtime/bun.ts");
  runContract("Bun runtime", () => makeRealStage(createBunRuntime));
  runProcessContract("Bun runtime", createBunRuntime);

  test("Bun runtime: tammar inside an imported module is this library's own instance", async () => {
    const folder = makeFolder();
    const library = { secret: {} };
    const run = { go: () => "gone" };
    try {
      writeFileSync(
        `${folder}/application.ts`,
        `import { secret } from "tammar";\nimport { go } from "tammar/run";\nexport const found = secret;\nexport { go };\n`,
      );
      const runtime = createBunRuntime({ library, run });
      createBunRuntime({ library, run });
      const module = await runtime.host.importModule(`${folder}/application.ts`);
      assert.equal(module["found"], library.secret);
      assert.equal(module["go"], run.go);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
