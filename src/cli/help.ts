/** Help texts, laid out by cac from the same tables that the arguments are parsed by. */
import { cac } from "cac";
import type { Command } from "./command.ts";
import type { OptionSpec } from "./options.ts";
import { VERSION } from "./version.ts";

const HELP: OptionSpec = { name: "help", letter: "h", value: null, help: "Show this text" };

interface Section {
  title?: string;
  body: string;
}

/** Of the whole program: the list of commands. */
export function programHelp(commands: readonly Command[]): string {
  const cli = cac("tammar");
  for (const command of commands) cli.command(command.name, command.summary);
  return layOut(
    (callback) => {
      cli.usage("<command> [options]");
      cli.help(callback);
      cli.globalCommand.outputHelp();
    },
    (sections) => [
      ...sections.filter((section) => !/^(Options|For more info)/.test(section.title ?? "")),
      {
        title: "More",
        body: [
          "  tammar help <command>     what a command does, and its options",
          "  tammar --version          version of this executable",
          "",
          "  Called by a name of the original (machida, machida3, cluster_shutdown, external_sender, sender,",
          "  data_receiver, cluster_shrinker) the executable is that tool; `tammar links DIR` writes these names.",
        ].join("\n"),
      },
    ],
  );
}

/**
 * Of one command.
 *
 * @param program As it was called: `tammar shutdown`, `cluster_shutdown`.
 * @param more Options to show under headings of their own: those of an application.
 */
export function commandHelp(
  command: Command,
  program: string,
  more: readonly { readonly title: string; readonly options: readonly OptionSpec[] }[] = [],
): string {
  const cli = cac(program);
  const shown = cli.command("", command.summary);
  shown.usage(command.usage);
  shown.option("-h, --help", HELP.help);
  for (const example of command.examples) shown.example(`  $ ${program} ${example}`.trimEnd());
  const options = command.options.some((option) => option.name === "help")
    ? command.options
    : [...command.options, HELP];
  const extra = more.map(({ title, options }) => ({ title, body: optionLines(options) }));
  return layOut(
    (callback) => {
      cli.globalCommand.helpCallback = callback;
      shown.outputHelp();
    },
    (sections) => {
      const kept = sections.filter((section) => !/^(Commands|For more info)/.test(section.title ?? ""));
      const at = kept.findIndex((section) => section.title === "Examples");
      kept.splice(at === -1 ? kept.length : at, 0, ...extra);
      // Laid out here: a flag called `--no-...` is taken by cac for the opposite of one that is on.
      const own = kept.map((section) =>
        section.title === "Options" ? { ...section, body: optionLines(options) } : section,
      );
      return [{ body: command.summary }, ...own.slice(1)];
    },
  );
}

function optionLines(specs: readonly OptionSpec[]): string {
  const shown = specs.filter((spec) => spec.hidden !== true);
  if (shown.length === 0) return "  none";
  const width = Math.max(...shown.map((spec) => rawName(spec).length));
  const lines = shown.map((spec) => {
    const fallback = spec.default === undefined ? "" : ` (default: ${spec.default})`;
    return `  ${rawName(spec).padEnd(width)}  ${spec.help}${fallback}`;
  });
  return lines.join("\n");
}

/** With its letter and its value, as cac writes it. */
function rawName({ letter, name, value }: OptionSpec): string {
  return `${letter === undefined ? "    " : `-${letter}, `}--${name}${value === null ? "" : ` <${value}>`}`;
}

/** Carries cac's sections out of its `outputHelp`, which would otherwise print them past our own output. */
class Captured {
  constructor(readonly sections: Section[]) {}
}

function layOut(
  output: (callback: (sections: Section[]) => never) => void,
  arrange: (sections: Section[]) => Section[],
): string {
  try {
    output((sections) => {
      throw new Captured(sections);
    });
  } catch (error) {
    if (!(error instanceof Captured)) throw error;
    const sections = arrange(error.sections);
    const blocks = sections.map(({ title, body }) => (title === undefined ? body : `${title}:\n${body}`));
    return `${blocks.join("\n\n").replace(/ +$/gm, "")}\n`;
  }
  return `tammar ${VERSION}\n`;
}
