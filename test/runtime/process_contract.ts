/** What the real runtimes promise about processes, pipes and signals: each test starts one of its own. */

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { makeFolder, printed, startChild, withDeadline } from "./real_stage.ts";

function ended(child: ChildProcess): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return withDeadline(
    new Promise((resolve) => {
      let stdout = "";
      let stderr = "";
      child.stdout!.on("data", (chunk) => {
        stdout += chunk;
      });
      child.stderr!.on("data", (chunk) => {
        stderr += chunk;
      });
      child.on("close", (status) => resolve({ status, stdout, stderr }));
    }),
  );
}

export function runProcessContract(name: string, makeRuntime: () => Runtime): void {
  test(`${name}: a lock is refused to another process, and free once its holder was killed`, async () => {
    const folder = makeFolder();
    const path = `${folder}/LOCK`;
    const { disk } = makeRuntime();
    const holder = startChild(["lock", path]);
    const holderEnded = new Promise((resolve) => holder.on("exit", resolve));
    try {
      assert.equal(await printed(holder, (text) => text.includes("\n")), "locked\n");
      assert.equal(await disk.lock(path), null);
      holder.kill("SIGKILL");
      await withDeadline(holderEnded);
      const lock = await disk.lock(path);
      assert.notEqual(lock, null);
      const refused = await ended(startChild(["lock", path]));
      assert.equal(refused.stdout, "held by another\n");
      await lock!.removeAndRelease();
    } finally {
      holder.kill("SIGKILL");
      rmSync(folder, { recursive: true });
    }
  });

  test(`${name}: a folder that the system says it can't find, with its parent there, is refused and not tried for ever`, async (t) => {
    if (process.platform !== "linux") return t.skip("there is no /proc");
    const path = "/proc/tammar/folder";
    const refused = withDeadline(makeRuntime().disk.makeDir(path));
    await assert.rejects(refused, { name: "DiskError", code: "not_found" });
  });

  test(`${name}: output to a reader that stalls does not stop the loop, and exit after it loses nothing`, async () => {
    const child = startChild(["stalled_output"]);
    child.stdout!.pause();
    let errors = "";
    child.stderr!.on("data", (chunk) => {
      errors += chunk;
    });
    await withDeadline(
      new Promise<void>((resolve) => {
        child.stderr!.on("data", () => {
          if (errors.includes("written\n")) resolve();
        });
      }),
    );
    assert.equal(errors, "0 of 3 written\n");
    const end = ended(child);
    child.stdout!.resume();
    const { status, stdout } = await end;
    assert.equal(status, 7, errors);
    assert.equal(stdout.length, 900_000);
    const gapMs = Number(/gap (\d+)/.exec(errors)?.[1]);
    assert.ok(gapMs < 300, `the loop stood still for ${gapMs} ms`);
  });

  test(`${name}: output to a reader that is gone is rejected with closed`, async () => {
    const child = startChild(["reader_gone"]);
    child.stdout!.destroy();
    let stderr = "";
    child.stderr!.on("data", (chunk) => {
      stderr += chunk;
    });
    const status = await withDeadline(new Promise((resolve) => child.on("close", resolve)));
    assert.equal(status, 0, stderr);
    assert.equal(stderr, "NetError closed\n");
  });

  test(`${name}: signals reach their handlers, but not those taken off`, async () => {
    const child = startChild(["signals"]);
    await printed(child, (text) => text === "ready\n");
    const end = ended(child);
    // `child.kill` of Deno delivers one signal only.
    process.kill(child.pid!, "SIGHUP");
    await printed(child, (text) => text === "SIGHUP\n");
    process.kill(child.pid!, "SIGTERM");
    const { status, stdout } = await end;
    assert.equal(status, 5);
    assert.equal(stdout, "SIGHUP\nSIGTERM\n");
  });

  test(`${name}: what nobody caught reaches the one handler, and the process goes on until it exits`, async () => {
    const { status, stderr } = await ended(startChild(["uncaught"]));
    assert.equal(status, 70);
    assert.equal(stderr, "uncaught thrown\nuncaught rejected\n");
  });

  test(`${name}: arguments follow the program's name`, async () => {
    const { stdout } = await ended(startChild(["arguments", "-a", "--in", "x y", "--help"]));
    const [runtimeName, calledAs, compiled, args] = JSON.parse(stdout);
    assert.equal(runtimeName, makeRuntime().host.name);
    assert.equal(calledAs, "tammar");
    assert.equal(compiled, false);
    assert.deepEqual(args, ["arguments", "-a", "--in", "x y", "--help"]);
  });

  test(`${name}: folders get mode 0700 whatever the umask`, async () => {
    const folder = makeFolder();
    try {
      const { stdout, stderr } = await ended(startChild(["umask", folder]));
      assert.equal(stdout, "700 700\n", stderr);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test(`${name}: a module is imported by its path, TypeScript too`, async () => {
    const folder = makeFolder();
    try {
      writeFileSync(`${folder}/other.ts`, "export const other: number = 41;\n");
      writeFileSync(`${folder}/user module.ts`, `import { other } from "./other.ts";\nexport default other + 1;\n`);
      const module = await makeRuntime().host.importModule(`${folder}/user module.ts`);
      assert.equal(module["default"], 42);
      await assert.rejects(makeRuntime().host.importModule(`${folder}/missing.ts`));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
