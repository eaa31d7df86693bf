/** The long run (`scripts/soak`) for some seconds: does it say what it should, and does it leave nothing behind? */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { notRunHere } from "./lib/cluster.ts";
import { root } from "./lib/process.ts";
import { waitFor, within } from "./lib/wait.ts";

interface Run {
  readonly output: () => string;
  readonly signal: (name: NodeJS.Signals) => void;
  readonly ended: Promise<number | null>;
}

/** With a folder for temporary files of its own, to see what is left there. */
function soak(temporary: string, args: readonly string[]): Run {
  const child = spawn(join(root, "node_modules/.bin/bun"), [join(root, "test/soak/main.ts"), ...args], {
    cwd: root,
    env: { ...process.env, TMPDIR: temporary },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output += text;
    });
  }
  const ended = new Promise<number | null>((done) => child.once("close", (status) => done(status)));
  return { output: () => output, signal: (name) => child.kill(name), ended };
}

async function withTemporary(body: (folder: string) => Promise<void>): Promise<void> {
  if (!existsSync("/proc/self/status")) return notRunHere("the long run", "no /proc on this machine");
  const folder = mkdtempSync(join(tmpdir(), "tammar-soak-test-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test("a short soak restarts workers, finds all totals exact, and leaves nothing behind", () =>
  withTemporary(async (folder) => {
    const run = soak(folder, ["--minutes", "0.1", "--restart-every", "2s"]);
    try {
      assert.equal(await within(run.ended, 120_000, "the soak to end"), 0, run.output());
      assert.match(run.output(), /^totals: (\d+) lines for \1 transfers, 0 of \d+ balances wrong: exact$/m);
      assert.match(run.output(), /^shutdown: .* clean$/m);
      assert.match(run.output(), /^[1-9]\d* restarts in .*: passed$/m);
      assert.deepEqual(readdirSync(folder), []);
    } finally {
      run.signal("SIGTERM");
      await run.ended;
    }
  }));

test("Ctrl-C ends a soak with all its processes and files", () =>
  withTemporary(async (folder) => {
    const run = soak(folder, ["--minutes", "5", "--restart-every", "1s"]);
    try {
      await waitFor(() => readdirSync(folder, { recursive: true }).some((name) => `${name}`.includes("LOCK")), {
        what: "workers that are at work",
        seen: run.output,
      });
      run.signal("SIGINT");
      assert.equal(await within(run.ended, 60_000, "the soak to end"), 130, run.output());
      assert.deepEqual(readdirSync(folder), []);
    } finally {
      run.signal("SIGKILL");
      await run.ended;
    }
  }));
