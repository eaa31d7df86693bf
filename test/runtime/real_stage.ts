/** The stage of a real runtime: a scratch folder of the system, real time. */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Address, Runtime } from "../../src/runtime/runtime.ts";
import type { Stage } from "./contract.ts";

const DEADLINE_MS = 60_000;
const CHILD = fileURLToPath(new URL("./child.ts", import.meta.url));

export function makeFolder(): string {
  return realpathSync(mkdtempSync(join(tmpdir(), "tammar-runtime-")));
}

/** Starts `child.ts` under the runtime that runs this test. */
export function startChild(args: readonly string[], options: { stdin?: "pipe" } = {}): ChildProcess {
  const underBun = process.versions["bun"] !== undefined;
  const command = underBun ? ["run", CHILD, ...args] : ["run", "-A", "--no-check", CHILD, ...args];
  return spawn(process.execPath, command, { stdio: [options.stdin ?? "ignore", "pipe", "pipe"] });
}

/** Resolves with what a child printed once that satisfies `enough`; rejects when it ends before. */
export function printed(child: ChildProcess, enough: (text: string) => boolean): Promise<string> {
  return withDeadline(
    new Promise((resolve, reject) => {
      let text = "";
      let errors = "";
      child.stderr!.on("data", (chunk) => {
        errors += chunk;
      });
      child.stdout!.on("data", (chunk) => {
        text += chunk;
        if (enough(text)) resolve(text);
      });
      child.on("close", (status) => reject(new Error(`the child ended with ${status}: ${text}${errors}`)));
    }),
  );
}

export function withDeadline<T>(body: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not done after ${DEADLINE_MS} ms`)), DEADLINE_MS);
    body.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

export async function makeRealStage(makeRuntime: () => Runtime): Promise<Stage> {
  const folder = makeFolder();
  const cleanups: (() => void)[] = [];
  return {
    runtime: makeRuntime(),
    folder,
    drive: withDeadline,
    silentAddress: () => silentAddress(cleanups),
    async done() {
      for (const cleanup of cleanups) cleanup();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A listener in a child that is stopped, with its queue of waiting connections full (512 under Bun): the kernel drops what comes. */
async function silentAddress(cleanups: (() => void)[]): Promise<Address | null> {
  const child = startChild(["listen"]);
  cleanups.push(() => child.kill("SIGKILL"));
  const port = Number(await printed(child, (text) => text.includes("\n")));
  child.kill("SIGSTOP");
  const fillers: Socket[] = [];
  cleanups.push(() => {
    for (const filler of fillers) filler.destroy();
  });
  for (let count = 0; count < 700; count++) {
    const filler = createConnection({ host: "127.0.0.1", port });
    fillers.push(filler);
    filler.on("error", () => {});
    const answered = await new Promise<boolean>((resolve) => {
      // Of two turns: one that comes late must not overtake a connection that is there.
      let timer = setTimeout(() => {
        timer = setTimeout(() => resolve(false), 50);
      }, 300);
      filler.on("connect", () => {
        clearTimeout(timer);
        resolve(true);
      });
    });
    if (!answered) return { host: "127.0.0.1", port };
  }
  return null;
}
