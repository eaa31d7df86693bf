import type { Platform } from "./run_application.ts";

/**
 * Chooses the adapter while running: for programs that one source serves on Bun and on Deno. Both are imported by names that a
 * compiler can read, so that a compiled executable has them; only the one that fits is evaluated.
 */
export async function platform(): Promise<Platform> {
  const { createPlatform } =
    "Deno" in globalThis ? await import("./main_platform_deno.ts") : await import("./main_platform_bun.ts");
  return createPlatform();
}
