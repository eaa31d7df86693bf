/** `dist/tammar-store`: this one command as an executable of its own. */

import { store } from "./commands/store.ts";
import { platform } from "./main_platform.ts";
import { runCommand } from "./run_command.ts";

const { runtime } = await platform();
await runCommand(runtime, store, runtime.host.args, "tammar-store");
