/** `dist/tammar-store`: this one command as an executable of its own. */
import { platform } from "../run/platform.ts";
import { store } from "./commands/store.ts";
import { runCommand } from "./run_command.ts";

const { runtime } = await platform();
await runCommand(runtime, store, runtime.host.args, "tammar-store");
