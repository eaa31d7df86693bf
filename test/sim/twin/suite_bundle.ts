/**
 * An application of the suite as one module for `--application-module`. The suite imports the library's own files; the module
 * says `tammar` instead, so that it gets the copy inside of the executable that loads it, as every application does.
 */
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import type { ApplicationName } from "../../../src/simulation/scenario.ts";
import { root } from "../../cluster/lib/process.ts";

/**
 * @param variant Of the code, which is another one for each.
 * @returns The path of the module, inside `folder`.
 */
export async function bundleSuite(folder: string, suite: ApplicationName, variant = ""): Promise<string> {
  const result = await Bun.build({
    entrypoints: [join(root, "test/sim/twin/suite_application.ts")],
    target: "bun",
    define: { SUITE_NAME: JSON.stringify(suite) },
    plugins: [
      {
        name: "library",
        setup(build) {
          build.onResolve({ filter: /(\/api\/[a-z_]+|\/mod)\.ts$/ }, () => ({ path: "tammar", external: true }));
        },
      },
    ],
  });
  const path = join(await mkdtemp(join(folder, "application-")), "suite_application.js");
  await Bun.write(path, `${await result.outputs[0]!.text()}\n// ${variant}\n`);
  return path;
}
