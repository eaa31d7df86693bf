/** The program around one application: what `run` of `tammar/run` does, once the adapter is chosen. */
import { type Application, isApplication } from "../api/application.ts";
import { showType } from "../api/graph.ts";
import { ConfigError } from "../base/errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { applicationDigest } from "./application_digest.ts";
import { buildId, hex } from "./build_id.ts";
import type { Command } from "./command.ts";
import { type CompiledIn, workerCommand } from "./commands/worker.ts";
import { report, runCommand } from "./run_command.ts";

export interface ProgramCode {
  /** The entry's file, absolute: for a program that runs from source files. */
  readonly entry: string;
  /** What a compiled executable is made of: its bundle, or all of it. */
  embedded(): Promise<Uint8Array>;
}

/** What a program runs on, and what it is made of. */
export interface Platform {
  readonly runtime: Runtime;
  readonly code: ProgramCode;
}

/**
 * Runs a worker of `application` by the command line and leaves the process.
 *
 * Compiled, library and application are one piece of code, and its digest is both build id and application digest: two
 * workers belong together when their executables have the same content. Run from files, both are computed from these.
 */
export async function runApplication({ runtime, code }: Platform, application: Application): Promise<void> {
  const { host } = runtime;
  let command: Command;
  try {
    if (!isApplication(application)) {
      throw new ConfigError(
        "not_an_application",
        `run() got ${showType(application)}: hand it what application(...) returns, the default export of your module`,
      );
    }
    command = workerCommand(await compiledIn(runtime, application, code));
  } catch (error) {
    return host.exit(report(runtime, error));
  }
  // As the loaded application is started, so may be this one: `program worker ...`.
  const args = host.args[0] === "worker" ? host.args.slice(1) : host.args;
  await runCommand(runtime, command, args, host.calledAs);
}

async function compiledIn(runtime: Runtime, application: Application, code: ProgramCode): Promise<CompiledIn> {
  if (!runtime.host.compiled) {
    return { application, codeDigest: await applicationDigest(runtime, code.entry), buildId: await buildId(runtime) };
  }
  const digest = hex(await runtime.host.digest(await code.embedded()));
  return { application, codeDigest: digest, buildId: `program-${digest.slice(0, 32)}` };
}
