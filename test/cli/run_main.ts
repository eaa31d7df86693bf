/** Runs the command line inside of the test's process: the real runtime, but for arguments, output, signals and the exit. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as library from "../../mod.ts";
import { main } from "../../src/cli/main.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";

export interface MainOptions {
  readonly calledAs?: string;
  readonly workingDir?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly compiled?: boolean;
}

export interface Ended {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** A command that is still running. */
export interface Running {
  readonly ended: Promise<Ended>;
  out(): string;
  /** As if SIGTERM came. */
  stop(): void;
}

class Exit {
  constructor(readonly status: number) {}
}

/** The adapter for whatever runs this test, with the library inside of imported modules. */
export async function libraryRuntime(): Promise<Runtime> {
  if ("Bun" in globalThis) {
    return (await import("../../src/runtime/bun.ts")).createBunRuntime({ library: { ...library } });
  }
  return (await import("../../src/runtime/deno.ts")).createDenoRuntime();
}

export async function runMain(args: readonly string[], options: MainOptions = {}): Promise<Ended> {
  return (await startMain(args, options)).ended;
}

export async function startMain(args: readonly string[], options: MainOptions = {}): Promise<Running> {
  const real = await libraryRuntime();
  const decoder = new TextDecoder();
  let out = "";
  let err = "";
  const handlers = new Set<() => void>();
  const runtime: Runtime = {
    ...real,
    host: {
      ...real.host,
      args,
      calledAs: options.calledAs ?? "tammar",
      workingDir: options.workingDir ?? real.host.workingDir,
      compiled: options.compiled ?? false,
      env: (name) => options.env?.[name],
      writeOut: async (bytes) => {
        out += decoder.decode(bytes);
      },
      writeErr: async (bytes) => {
        err += decoder.decode(bytes);
      },
      writeErrNow: (bytes) => {
        err += decoder.decode(bytes);
      },
      onSignal: (_signal, handle) => {
        handlers.add(handle);
        return () => handlers.delete(handle);
      },
      onUncaught: () => {},
      exit: (status) => {
        throw new Exit(status);
      },
    },
  };
  const installer = { executable: "/opt/tammar", link: async () => "made" as const };
  const ended = main(runtime, installer).then(
    () => {
      throw new Error("main() came back without leaving the process");
    },
    (error): Ended => {
      if (error instanceof Exit) return { status: error.status, out, err };
      throw error;
    },
  );
  return { ended, out: () => out, stop: () => handlers.forEach((handle) => void handle()) };
}

/** Writes files below `folder`, by relative path. */
export function writeFiles(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

/** Waits until `condition` gives something, at most a minute. */
export async function eventually<T>(what: string, condition: () => T | null | undefined | false): Promise<T> {
  const until = performance.now() + 60_000;
  for (;;) {
    const value = condition();
    if (value !== null && value !== undefined && value !== false) return value;
    if (performance.now() > until) throw new Error(`waited a minute for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A module with a TCP source `words`, a TCP sink and a few options of its own. */
export const WORDS_MODULE = `
import { application, framed, option, source, tcpSink, tcpSource } from "tammar";
export default application(
  "Words",
  { options: {
    windowSize: option.number({ default: 50, help: "Milliseconds" }),
    mode: option.string({ default: "plain", help: "plain or fancy" }),
    loud: option.boolean({ help: "Say more" }),
  } },
  () => source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }))
    .to("shout", (word) => word.toUpperCase())
    .toSink(tcpSink({ encode: (word) => word + "\\n" })));
`;
