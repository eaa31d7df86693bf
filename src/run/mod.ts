/**
 * A program of your own around one application:
 *
 * ```ts
 * import app from "./alerts.ts";
 * import { run } from "tammar/run";
 * run(app);
 * ```
 *
 * Started as it is, or compiled into one executable (`bun build --compile entry.ts`, `deno compile -A entry.ts`), it takes
 * the options of `tammar worker` but for `--application-module`.
 *
 * @module
 */
import type { Application } from "../api/application.ts";
import { platform } from "../cli/main_platform.ts";
import { runApplication } from "../cli/run_application.ts";

/**
 * Runs one worker of `application` as the command line says, and ends the process with its exit status.
 *
 * All workers of a cluster must be the same program. A compiled one is known by the code embedded in it; one that runs
 * from files, by the files that the entry imports, packages included.
 */
export async function run(application: Application): Promise<void> {
  await runApplication(await platform(), application);
}
