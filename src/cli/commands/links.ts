import { ConfigError, EnvironmentError, EXIT } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Command } from "../command.ts";
import type { Installer } from "../installer.ts";
import { normalize } from "../module_loader.ts";
import { refuseUnknown } from "../options.ts";
import { print } from "../terminal.ts";
import { defineTool } from "../tool.ts";

/** Writes the old names as symbolic links to this executable. `commands`: whose names. */
export function linksCommand(installer: Installer, commands: readonly Command[]): Command {
  const names = commands.flatMap(({ calledAs }) => calledAs).filter((name) => !name.startsWith("tammar"));
  return defineTool({
    name: "links",
    calledAs: [],
    summary: "Write links of the original's program names to this executable",
    usage: "DIR",
    options: [],
    examples: ["~/bin"],
    takesWords: true,
    async run(parsed, { runtime, program }) {
      const { disk, host } = runtime;
      const [directory, ...more] = parsed.words;
      if (directory === undefined)
        throw new ConfigError("usage", `Expected \`${program} DIR\`: where to write the links`);
      refuseUnknown({ ...parsed, words: more }, []);
      if (!host.compiled) {
        throw new ConfigError(
          "not_compiled",
          "This is not an executable to link to: build one with scripts/build first",
        );
      }
      const folder = normalize(directory.startsWith("/") ? directory : `${host.workingDir}/${directory}`);
      const there = await disk.stat(folder);
      if (there === null) await disk.makeDir(folder);
      else if (there.kind !== "folder") {
        throw new EnvironmentError(
          "not_folder",
          `Cannot write links in ${printable(folder)}: it is not a folder; give the one that they belong in`,
        );
      }
      const inTheWay: string[] = [];
      for (const name of names) {
        const path = `${folder}/${name}`;
        if ((await installer.link(installer.executable, path)) === "in_the_way") inTheWay.push(path);
        else await print(host, `${path} -> ${installer.executable}\n`);
      }
      if (inTheWay.length === 0) return EXIT.done;
      const paths = inTheWay.map((path) => printable(path)).join(", ");
      throw new EnvironmentError(
        "link_in_the_way",
        `Not written, because something else is there: ${paths}; remove it first`,
      );
    },
  });
}
