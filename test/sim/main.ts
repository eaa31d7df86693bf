/** The driver behind scripts/sim: finds the command, and turns what it says into an exit status. */
import process from "node:process";
import { TammarError } from "../../src/base/errors.ts";
import { UsageError } from "./arguments.ts";
import { doShare } from "./batch.ts";
import { runCanary } from "./canary.ts";
import { crashPoints } from "./commands/crash_points.ts";
import { determinism } from "./commands/determinism.ts";
import { directed } from "./commands/directed.ts";
import { nLoop } from "./commands/n_loop.ts";
import { planted } from "./commands/planted.ts";
import { replay, show, shrink } from "./commands/replay.ts";
import { run } from "./commands/run.ts";
import { slice } from "./commands/slice.ts";
import { twin } from "./commands/twin.ts";
import type { Context } from "./context.ts";
import { huntFor } from "./hunt.ts";

type Command = (context: Context, args: readonly string[]) => number | Promise<number>;

const COMMANDS: Readonly<Record<string, Command>> = {
  run,
  replay,
  shrink,
  crashpoints: crashPoints,
  determinism,
  directed,
  nloop: nLoop,
  slice,
  twin,
  planted,
  show,
};

async function main(args: readonly string[]): Promise<number> {
  if (args[0] === "--child") {
    await doShare(args.slice(1));
    return 0;
  }
  if (args[0] === "--canary") {
    console.log(`canary ${JSON.stringify(await runCanary())}`);
    return 0;
  }
  if (args[0] === "--hunt") {
    console.log(`hunted ${JSON.stringify(await huntFor(args.slice(1)))}`);
    return 0;
  }
  const [calledFrom, [name, ...rest]] = args[0] === "--called-from" ? [args[1]!, args.slice(2)] : [process.cwd(), args];
  const command = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    throw new UsageError(`"${name ?? ""}" is no command; there is ${Object.keys(COMMANDS).join(", ")}`);
  }
  return await command({ calledFrom }, rest);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError || error instanceof TammarError;
  console.error(`scripts/sim: ${isUsage ? error.message : error instanceof Error ? error.stack : String(error)}`);
  process.exitCode = isUsage ? 2 : 1;
}
