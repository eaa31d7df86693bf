/** Run by `store_test.ts` as a user who may not write to the folder that is its argument. */
import process from "node:process";
import { TammarError } from "../../src/base/errors.ts";
import { openStore } from "../../src/store/store.ts";
import { realRuntime } from "../lib/real_runtime.ts";

const { disk, clock } = await realRuntime();
const directory = process.argv[2] ?? "";
try {
  await openStore({ disk, clock, pid: process.pid, directory, application: "a", worker: "w" });
  console.log("it was opened");
} catch (error) {
  const status = error instanceof TammarError ? error.exitStatus : 70;
  console.log(`${status} ${(error as Error).name} ${(error as Error).message}`);
}
