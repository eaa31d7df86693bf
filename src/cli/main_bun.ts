/** The executable on Bun. The only entry that names this adapter, statically, so that a compiler sees every import. */
import * as library from "../../mod.ts";
import { createBunRuntime } from "../runtime/bun.ts";
import { main } from "./main.ts";
import * as run from "./run_refused.ts";

await main(createBunRuntime({ library, run }));
