/** A process of its own for the tests of the real runtimes: `child.ts COMMAND ARGUMENTS`. */

import { createServer } from "node:net";
import process from "node:process";
import type { Runtime } from "../../src/runtime/runtime.ts";

async function makeRuntime(): Promise<Runtime> {
  if (process.versions["bun"] !== undefined) return (await import("../../src/runtime/bun.ts")).createBunRuntime();
  return (await import("../../src/runtime/deno.ts")).createDenoRuntime();
}

const runtime = await makeRuntime();
const { host, disk, clock } = runtime;
const text = (line: string) => new TextEncoder().encode(line);
const [command, argument = ""] = host.args;

switch (command) {
  case "listen": {
    const server = createServer();
    server.listen({ host: "127.0.0.1", port: 0, backlog: 1 }, () => {
      void host.writeOut(text(`${(server.address() as { port: number }).port}\n`));
    });
    break;
  }
  case "lock": {
    const lock = await disk.lock(argument);
    await host.writeOut(text(lock === null ? "held by another\n" : "locked\n"));
    if (lock === null) host.exit(0);
    clock.startTimer(600_000, () => {});
    break;
  }
  case "stalled_output": {
    // Writes much more than a pipe holds, and reports on standard error how long the loop stood still meanwhile.
    let lastMs = clock.monotonicMs();
    let gapMs = 0;
    const look = () => {
      const nowMs = clock.monotonicMs();
      gapMs = Math.max(gapMs, nowMs - lastMs);
      lastMs = nowMs;
      clock.startTimer(5, look);
    };
    look();
    let resolved = 0;
    const block = new Uint8Array(300_000).fill(65);
    const writes = [1, 2, 3].map(() => host.writeOut(block).then(() => resolved++));
    clock.startTimer(400, () => void host.writeErr(text(`${resolved} of 3 written\n`)));
    await Promise.all(writes);
    host.writeErrNow(text(`gap ${Math.round(gapMs)}\n`));
    host.exit(7);
    break;
  }
  case "reader_gone": {
    const block = new Uint8Array(100_000);
    try {
      for (;;) await host.writeOut(block);
    } catch (error) {
      await host.writeErr(text(`${(error as Error).name} ${(error as { code: string }).code}\n`));
      host.exit(0);
    }
    break;
  }
  case "signals": {
    const off = host.onSignal("SIGTERM", () => void host.writeOut(text("off\n")));
    off();
    host.onSignal("SIGHUP", () => void host.writeOut(text("SIGHUP\n")));
    host.onSignal("SIGTERM", () => {
      void host.writeOut(text("SIGTERM\n")).then(() => host.exit(5));
    });
    clock.startTimer(600_000, () => {});
    await host.writeOut(text("ready\n"));
    break;
  }
  case "uncaught": {
    host.onUncaught((error) => {
      host.writeErrNow(text(`uncaught ${(error as Error).message}\n`));
      if ((error as Error).message === "rejected") host.exit(70);
    });
    clock.startTimer(1, () => {
      throw new Error("thrown");
    });
    clock.startTimer(50, () => void Promise.reject(new Error("rejected")));
    break;
  }
  case "arguments":
    await host.writeOut(text(`${JSON.stringify([host.name, host.calledAs, host.compiled, host.args])}\n`));
    break;
  case "umask": {
    process.umask(0o277);
    await disk.makeDir(`${argument}/made/deep`);
    const modes = [await disk.stat(`${argument}/made`), await disk.stat(`${argument}/made/deep`)];
    await host.writeOut(text(`${modes.map((stat) => stat!.mode.toString(8)).join(" ")}\n`));
    break;
  }
  default:
    host.exit(2);
}
