/** `dist/tammar-worker`: this one command as an executable of its own. */

import { worker } from "./commands/worker.ts";
import { platform } from "./main_platform.ts";
import { runCommand } from "./run_command.ts";

const { runtime } = await platform();
await runCommand(runtime, worker, runtime.host.args, "tammar-worker");
