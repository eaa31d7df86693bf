/** The executable on Deno. The only entry that names this adapter, statically, so that a compiler sees every import. */
import { createDenoRuntime } from "../runtime/deno.ts";
import { main } from "./main.ts";

await main(createDenoRuntime());
