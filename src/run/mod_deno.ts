/**
 * `tammar/run` for Deno: the same `run`, without the other adapter. Deno checks the types of all that it compiles, and
 * doesn't know Bun's.
 *
 * @module
 */
import type { Application } from "../api/application.ts";
import { createPlatform } from "../cli/main_platform_deno.ts";
import { runApplication } from "../cli/run_application.ts";

/** Runs one worker of `application` as the command line says, and ends the process with its exit status; see `mod.ts`. */
export async function run(application: Application): Promise<void> {
  await runApplication(createPlatform(), application);
}
