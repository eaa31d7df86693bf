import { AssertionError } from "../base/assert.ts";
import { EXIT, type ExitStatus, TammarError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import { DiskError, NetError, type Runtime } from "../runtime/runtime.ts";
import type { Command } from "./command.ts";
import { complain } from "./terminal.ts";

/** Runs one command to its end and leaves the process with its status. */
export async function runCommand(
  runtime: Runtime,
  command: Command,
  args: readonly string[],
  program: string,
): Promise<void> {
  runtime.host.onUncaught((error) => runtime.host.exit(report(runtime, error)));
  let status: ExitStatus;
  try {
    status = await command.run({ runtime, args, program });
  } catch (error) {
    status = report(runtime, error);
  }
  runtime.host.exit(status);
}

/** Says on standard error, in one message, what ended the process. @returns The exit status that goes with it. */
export function report(runtime: Runtime, error: unknown): ExitStatus {
  if (error instanceof TammarError) {
    complain(runtime.host, `Error: ${error.message}`);
    return error.exitStatus;
  }
  if (error instanceof NetError || error instanceof DiskError) {
    complain(runtime.host, `Error: ${error.message}`);
    return EXIT.environment;
  }
  // What nobody foresaw is a bug of ours: whoever reports it needs the place.
  const name = error instanceof AssertionError ? "broken promise" : "unexpected failure";
  const text = error instanceof Error ? (error.stack ?? `${error.name}: ${error.message}`) : String(error);
  complain(runtime.host, `Error: ${name} inside Tammar, please report it: ${printable(text, 4_096)}`);
  return EXIT.bug;
}
