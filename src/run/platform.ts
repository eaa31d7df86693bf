import type { Platform } from "../cli/run_application.ts";

/**
 * Chooses the adapter while running: for programs that one source serves on Bun and on Deno. Both are imported by names that a
 * compiler can read, so that a compiled executable has them; only the one that fits is evaluated.
 */
export async function platform(): Promise<Platform> {
  const { createPlatform } = "Deno" in globalThis ? await import("./on_deno.ts") : await import("./on_bun.ts");
  return createPlatform();
}
