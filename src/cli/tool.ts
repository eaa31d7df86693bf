/** What the small commands have in common: `--help`, strict options, nothing unknown. */
import { EXIT, type ExitStatus } from "../base/errors.ts";
import type { Command, Invocation } from "./command.ts";
import { commandHelp } from "./help.ts";
import { type OptionSpec, type ParsedArguments, parseArguments, refuseUnknown } from "./options.ts";
import { withoutPonyOptions } from "./pony_options.ts";
import { print } from "./terminal.ts";

export interface Tool extends Omit<Command, "options" | "run"> {
  /** Without `--help`, which every tool has. */
  readonly options: readonly OptionSpec[];
  /** Does the tool take arguments that are no options, such as `HOST:PORT`? */
  readonly takesWords: boolean;
  run(parsed: ParsedArguments, invocation: Invocation): Promise<ExitStatus>;
}

export function defineTool(tool: Tool): Command {
  const letterTaken = tool.options.some((option) => option.letter === "h");
  const help: OptionSpec = {
    name: "help",
    value: null,
    help: "Show this text",
    ...(letterTaken ? {} : { letter: "h" }),
  };
  const options = [...tool.options, help];
  const command: Command = {
    ...tool,
    options,
    async run(invocation) {
      // Old scripts hand options of the original's language runtime to its tools as well.
      const parsed = parseArguments(withoutPonyOptions(invocation.args).kept, options);
      if (parsed.given.has("help")) {
        await print(invocation.runtime.host, commandHelp(command, invocation.program));
        return EXIT.done;
      }
      refuseUnknown(tool.takesWords ? { ...parsed, words: [] } : parsed, options);
      return tool.run(parsed, invocation);
    },
  };
  return command;
}
