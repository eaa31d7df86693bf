import { ConfigError, EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import { listCheckpoints } from "../../store/checkpoint_list.ts";
import {
  type CleanResult,
  type CleanStep,
  carryOutClean,
  damagedFiles,
  inspectStore,
  planClean,
} from "../../store/inspect.ts";
import { renderCleaned, renderList, renderPlan, renderShow, renderVerify, verifyObject } from "../../store/render.ts";
import { readStage } from "../../store/stage_content.ts";
import { jsonOfValue } from "../../store/value_json.ts";
import { normalize } from "../module_loader.ts";
import { integerOf, isGiven, type OptionSpec, type ParsedArguments, refuseUnknown, textOf } from "../options.ts";
import { complain, jsonText, print } from "../terminal.ts";
import { defineTool } from "../tool.ts";

const ACTIONS = ["list", "show", "verify", "clean"] as const;
type Action = (typeof ACTIONS)[number];

const OPTIONS: readonly OptionSpec[] = [
  {
    name: "stage",
    value: "PIPELINE/NAME",
    help: "With show: the keys of this stage and their states, each as one line of JSON",
  },
  { name: "key", value: "KEY", help: "With show --stage: of this key alone" },
  {
    name: "checkpoint",
    value: "N",
    help: "With show --stage: of this checkpoint (default: the one that a start would go on from)",
  },
  { name: "json", letter: "j", value: null, help: "Print one JSON object in one line" },
  { name: "dead-letters", value: null, help: "With clean: remove the dead letters, too, which stay otherwise" },
  { name: "dry-run", value: null, help: "With clean: say what would be removed, and remove nothing" },
];

/** Looks into resilience directories. */
export const store = defineTool({
  name: "store",
  calledAs: ["tammar-store"],
  summary: "Look into a resilience directory and its checkpoints, verify it, clean it up",
  usage: "list|show|verify|clean DIR [options]",
  options: OPTIONS,
  examples: [
    "list /var/lib/tammar",
    "show /tmp",
    'show /var/lib/tammar --stage "words/count word" --key fox',
    "verify /var/lib/tammar",
    "clean /tmp --dry-run",
    "clean /tmp",
  ],
  takesWords: true,
  async run(parsed, { runtime, program }) {
    const [given, directory, ...more] = parsed.words;
    const action = ACTIONS.find((name) => name === given);
    if (action === undefined || directory === undefined) {
      const what = given === undefined ? "" : `: ${printable(parsed.words.join(" "))}`;
      const forms = `\`${program} list DIR\`, \`show DIR\`, \`verify DIR\` or \`clean DIR\``;
      throw new ConfigError("usage", `Expected ${forms}${what}`);
    }
    refuseUnknown({ ...parsed, words: more }, []);
    checkOptions(parsed, action);
    const path = normalize(directory.startsWith("/") ? directory : `${runtime.host.workingDir}/${directory}`);
    return carryOut(runtime, action, path, parsed);
  },
});

function checkOptions(parsed: ParsedArguments, action: Action): void {
  const refuse = (message: string) => new ConfigError("options_conflict", message);
  if (isGiven(parsed, "dead-letters") && action !== "clean") {
    throw refuse(`--dead-letters has a meaning only with clean, not with ${action}: see tammar dead-letters`);
  }
  if (isGiven(parsed, "dry-run") && action !== "clean") {
    throw refuse(`--dry-run has a meaning only with clean: ${action} changes nothing anyway`);
  }
  for (const name of ["stage", "key", "checkpoint"]) {
    if (!isGiven(parsed, name)) continue;
    if (action !== "show") throw refuse(`--${name} has a meaning only with show, not with ${action}: leave it out`);
    if (!isGiven(parsed, "stage")) {
      throw refuse(`--${name} needs --stage PIPELINE/NAME beside it: \`show\` without any of them names the stages`);
    }
  }
}

async function carryOut(
  { disk, host, clock }: Runtime,
  action: Action,
  path: string,
  parsed: ParsedArguments,
): Promise<ExitStatus> {
  const json = isGiven(parsed, "json");
  switch (action) {
    case "list": {
      const report = await inspectStore(disk, path);
      const { directory, unreadable } = report;
      const clusters = () => listCheckpoints(report);
      const text = json
        ? `${jsonText({ directory, clusters: clusters(), unreadable })}\n`
        : renderList(report, clock.wallMs());
      await print(host, text);
      return EXIT.done;
    }
    case "show": {
      const stage = textOf(parsed, "stage");
      const report = await inspectStore(disk, path);
      if (stage === null) {
        await print(host, json ? `${jsonText(report)}\n` : renderShow(report, clock.wallMs()));
        return EXIT.done;
      }
      const key = parsed.given.get("key")?.value ?? null;
      const epoch = integerOf(parsed, "checkpoint", { min: 1 });
      const entries = await readStage(disk, report, { stage, key, epoch });
      const lines = entries.map(({ value, ...where }) => `${jsonText({ ...where, value: jsonOfValue(value) })}\n`);
      await print(host, lines.join(""));
      if (key === null || entries.length > 0) return EXIT.done;
      complain(host, `Error: stage "${printable(stage)}" has no state of key "${printable(key)}" there`);
      return EXIT.failed;
    }
    case "verify": {
      const report = await inspectStore(disk, path, "contents");
      await print(host, json ? `${jsonText(verifyObject(report))}\n` : renderVerify(report));
      return damagedFiles(report) === 0 && report.unreadable.length === 0 ? EXIT.done : EXIT.resilience;
    }
    case "clean": {
      const plan = await planClean(disk, path, isGiven(parsed, "dead-letters"));
      const dryRun = isGiven(parsed, "dry-run");
      if (!json) await print(host, renderPlan(path, plan));
      if (dryRun) {
        if (json) await print(host, cleanJson(path, plan, null));
        return EXIT.done;
      }
      // What is kept has been said already.
      const removals = plan.filter((step) => step.decision === "remove");
      const results = await carryOutClean(disk, removals);
      await print(host, json ? cleanJson(path, plan, results) : renderCleaned(results));
      return EXIT.done;
    }
  }
}

/** `results`: null where nothing was to be done. */
function cleanJson(directory: string, plan: readonly CleanStep[], results: readonly CleanResult[] | null): string {
  const folders = plan.map(({ folder: { path, deadLetters, unknown }, decision }) => {
    const outcome = results?.find((result) => result.path === path)?.outcome ?? null;
    return { path, decision, deadLetters, notOurs: unknown, outcome };
  });
  return `${jsonText({ directory, dryRun: results === null, folders })}\n`;
}
