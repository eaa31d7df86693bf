import process from "node:process";
import { test } from "node:test";
import { runContract } from "./contract.ts";
import { runProcessContract } from "./process_contract.ts";
import { makeRealStage } from "./real_stage.ts";

if (process.versions["deno"] === undefined) {
  test("the Deno runtime is tested under Deno", () => console.log("skipped: this is not Deno"));
} else {
  const { createDenoRuntime } = await import("../../src/runtime/deno.ts");
  runContract("Deno runtime", () => makeRealStage(createDenoRuntime));
  runProcessContract("Deno runtime", createDenoRuntime);
}
