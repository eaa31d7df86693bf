import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Runtime } from "../../src/runtime/runtime.ts";

/** The adapter for whatever runs this test. */
export async function realRuntime(): Promise<Runtime> {
  if ("Bun" in globalThis) return (await import("../../src/runtime/bun.ts")).createBunRuntime();
  return (await import("../../src/runtime/deno.ts")).createDenoRuntime();
}

/** Runs `use` with a new folder that is gone afterwards. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "tammar-test-"));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
