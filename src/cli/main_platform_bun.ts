import * as library from "../../mod.ts";
import { createBunRuntime } from "../runtime/bun.ts";
import type { Platform } from "./run_application.ts";
import * as run from "./run_refused.ts";

export function createPlatform(): Platform {
  return {
    runtime: createBunRuntime({ library, run }),
    // Inside of a compiled executable `main` names its bundle, which reads like a file.
    code: { entry: Bun.main, embedded: () => Bun.file(Bun.main).bytes() },
  };
}
