/** The executable with all its commands: which one is meant is told by the name it was called by, or the first argument. */
import { ConfigError, EXIT } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { buildId } from "./build_id.ts";
import type { Command } from "./command.ts";
import { checkpoint } from "./commands/checkpoint.ts";
import { deadLetters } from "./commands/dead_letters.ts";
import { linksCommand } from "./commands/links.ts";
import { metrics } from "./commands/metrics.ts";
import { query } from "./commands/query.ts";
import { receive } from "./commands/receive.ts";
import { send } from "./commands/send.ts";
import { shrink } from "./commands/shrink.ts";
import { shutdown } from "./commands/shutdown.ts";
import { store } from "./commands/store.ts";
import { worker } from "./commands/worker.ts";
import { programHelp } from "./help.ts";
import type { Installer } from "./installer.ts";
import { nearest } from "./nearest.ts";
import { report, runCommand } from "./run_command.ts";
import { print } from "./terminal.ts";
import { VERSION } from "./version.ts";

/** All commands but `links`, which depends on the executable. */
export const COMMANDS: readonly Command[] = [
  worker,
  shutdown,
  checkpoint,
  query,
  store,
  deadLetters,
  send,
  receive,
  metrics,
  shrink,
];

/** Does what the command line says and leaves the process; never returns to its caller otherwise. */
export async function main(runtime: Runtime, installer: Installer): Promise<void> {
  const { host } = runtime;
  const commands = [...COMMANDS, linksCommand(installer, COMMANDS)];
  const called = commands.find((command) => command.calledAs.includes(host.calledAs));
  if (called !== undefined) return runCommand(runtime, called, host.args, host.calledAs);
  const [first, ...rest] = host.args;
  switch (first) {
    case undefined:
    case "--help":
    case "-h":
      return leave(runtime, programHelp(commands));
    case "--version":
    case "-V":
    case "version":
      return leave(runtime, `tammar ${VERSION} (build ${await buildId(runtime)})\n`);
    case "help": {
      const command = commands.find((candidate) => candidate.name === rest[0]);
      if (command !== undefined) return runCommand(runtime, command, ["--help"], `tammar ${command.name}`);
      if (rest[0] === undefined) return leave(runtime, programHelp(commands));
      return host.exit(report(runtime, unknownCommand(rest[0], commands)));
    }
  }
  const command = commands.find((candidate) => candidate.name === first);
  if (command === undefined) return host.exit(report(runtime, unknownCommand(first, commands)));
  return runCommand(runtime, command, rest, `tammar ${command.name}`);
}

async function leave(runtime: Runtime, text: string): Promise<void> {
  await print(runtime.host, text);
  runtime.host.exit(EXIT.done);
}

function unknownCommand(name: string, commands: readonly Command[]): ConfigError {
  const names = commands.flatMap((command) => [command.name, ...command.calledAs]);
  const near = nearest(name, [...names, "help"]);
  const hint = name.startsWith("-")
    ? "the command comes first, as in `tammar worker --help`"
    : near === null
      ? `there are ${commands.map((command) => command.name).join(", ")}`
      : `did you mean ${near}?`;
  return new ConfigError("command_unknown", `Unknown command ${printable(name)}: ${hint}`);
}
