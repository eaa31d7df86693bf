import { ConfigError, EXIT } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import { carryOutClean, damagedFiles, inspectStore, planClean } from "../../store/inspect.ts";
import { renderCleaned, renderPlan, renderShow, renderVerify } from "../../store/render.ts";
import { normalize } from "../module_loader.ts";
import { isGiven, refuseUnknown } from "../options.ts";
import { print } from "../terminal.ts";
import { defineTool } from "../tool.ts";

const ACTIONS = ["show", "verify", "clean"];

/** Looks into resilience directories. */
export const store = defineTool({
  name: "store",
  calledAs: ["tammar-store"],
  summary: "Look into a resilience directory, verify it, clean it up",
  usage: "show|verify|clean DIR [options]",
  options: [{ name: "dry-run", value: null, help: "With clean: say what would be removed, and remove nothing" }],
  examples: ["show /tmp", "verify /var/lib/tammar", "clean /tmp --dry-run", "clean /tmp"],
  takesWords: true,
  async run(parsed, { runtime, program }) {
    const { disk, host, clock } = runtime;
    const [action, directory, ...more] = parsed.words;
    if (action === undefined || !ACTIONS.includes(action) || directory === undefined) {
      const given = action === undefined ? "" : `: ${printable(parsed.words.join(" "))}`;
      throw new ConfigError("usage", `Expected \`${program} show DIR\`, \`verify DIR\` or \`clean DIR\`${given}`);
    }
    refuseUnknown({ ...parsed, words: more }, []);
    if (isGiven(parsed, "dry-run") && action !== "clean") {
      throw new ConfigError(
        "options_conflict",
        `--dry-run has a meaning only with clean: ${action} changes nothing anyway`,
      );
    }
    const path = normalize(directory.startsWith("/") ? directory : `${host.workingDir}/${directory}`);
    switch (action) {
      case "show":
        await print(host, renderShow(await inspectStore(disk, path), clock.wallMs()));
        return EXIT.done;
      case "verify": {
        const report = await inspectStore(disk, path);
        await print(host, renderVerify(report));
        return damagedFiles(report) === 0 && report.unreadable.length === 0 ? EXIT.done : EXIT.resilience;
      }
      default: {
        const plan = await planClean(disk, path);
        await print(host, renderPlan(path, plan));
        if (isGiven(parsed, "dry-run")) return EXIT.done;
        // What is kept has been said already.
        const removals = plan.filter((step) => step.decision === "remove");
        await print(host, renderCleaned(await carryOutClean(disk, removals)));
        return EXIT.done;
      }
    }
  },
});
