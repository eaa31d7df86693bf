/**
 * The suite's applications as one module for `--application-module`. The suite imports the library's own files; the module
 * says `tammar` instead, so that it gets the copy inside of the executable that loads it, as every application does.
 */
import { join } from "node:path";
import { root } from "../../cluster/lib/process.ts";

/** @returns The path of the module, inside `folder`. */
export async function bundleSuite(folder: string): Promise<string> {
  const result = await Bun.build({
    entrypoints: [join(root, "test/sim/twin/suite_application.ts")],
    target: "bun",
    plugins: [
      {
        name: "library",
        setup(build) {
          build.onResolve({ filter: /(\/api\/[a-z_]+|\/mod)\.ts$/ }, () => ({ path: "tammar", external: true }));
        },
      },
    ],
  });
  const path = join(folder, "suite_application.js");
  await Bun.write(path, result.outputs[0]!);
  return path;
}
