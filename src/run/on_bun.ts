import * as library from "../../mod.ts";
import type { Platform } from "../cli/run_application.ts";
import * as run from "../cli/run_refused.ts";
import { createBunRuntime } from "../runtime/bun.ts";

export function createPlatform(): Platform {
  return {
    runtime: createBunRuntime({ library, run }),
    // Inside of a compiled executable `main` names its bundle, which reads like a file.
    code: { entry: Bun.main, embedded: () => Bun.file(Bun.main).bytes() },
  };
}
