import { createDenoRuntime } from "../runtime/deno.ts";
import type { Platform } from "./run_application.ts";

/** Of Deno's interface, as much as is needed here. */
declare const Deno: {
  readonly mainModule: string;
  execPath(): string;
  readFile(path: string): Promise<Uint8Array>;
};

export function createPlatform(): Platform {
  return {
    runtime: createDenoRuntime(),
    code: {
      entry: decodeURIComponent(new URL(Deno.mainModule).pathname),
      // A compiled executable does not show its modules to itself, so it is read whole.
      embedded: () => Deno.readFile(Deno.execPath()),
    },
  };
}
