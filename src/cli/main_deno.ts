/** The executable on Deno. The only entry that names this adapter, statically, so that a compiler sees every import. */
import { readlink, symlink, unlink } from "node:fs/promises";
import process from "node:process";
import { createDenoRuntime } from "../runtime/deno.ts";
import { main } from "./main.ts";

/** Our own links may be written again; whatever else is there stays. */
async function link(target: string, path: string): Promise<"made" | "in_the_way"> {
  if ((await readlink(path).catch(() => null)) === target) await unlink(path);
  try {
    await symlink(target, path);
    return "made";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return "in_the_way";
    throw error;
  }
}

await main(createDenoRuntime(), { executable: process.execPath, link });
