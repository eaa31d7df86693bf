/** `dist/tammar-shutdown`: this one command as an executable of its own. */

import { shutdown } from "./commands/shutdown.ts";
import { platform } from "./main_platform.ts";
import { runCommand } from "./run_command.ts";

const { runtime } = await platform();
await runCommand(runtime, shutdown, runtime.host.args, "tammar-shutdown");
