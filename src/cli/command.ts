import type { ExitStatus } from "../base/errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { OptionSpec } from "./options.ts";

/** One of the things that the executable does. */
export interface Command {
  /** As the first argument of `tammar`. */
  readonly name: string;
  /** Names of the original's programs: called by one of them, the executable is this command. */
  readonly calledAs: readonly string[];
  /** One line for the list of commands. */
  readonly summary: string;
  /** What follows the command's name, such as `HOST:PORT [options]`. */
  readonly usage: string;
  readonly options: readonly OptionSpec[];
  /** Command lines that a reader may copy, without the program's name. */
  readonly examples: readonly string[];
  /**
   * Resolves with the exit status when all is done and said.
   *
   * @throws {TammarError} Becomes one line `Error: ...` on standard error and the exit status of its class.
   */
  run(invocation: Invocation): Promise<ExitStatus>;
}

export interface Invocation {
  readonly runtime: Runtime;
  /** What follows the command's name. */
  readonly args: readonly string[];
  /** As the user called it, for usage lines: `tammar shutdown` or `cluster_shutdown`. */
  readonly program: string;
}
