import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { withFolder } from "../lib/real_runtime.ts";
import { WORDS_MODULE, writeFiles } from "./run_main.ts";

const root = resolve(import.meta.dirname, "../..");

function start(command: string, args: readonly string[], cwd: string) {
  return spawnSync(command, args, { cwd, encoding: "utf8", env: { ...process.env, NO_COLOR: "1" }, timeout: 300_000 });
}

/** A project of a user's: the library in its node_modules, an application, and the entry of two lines. */
async function withProject(use: (folder: string, runtime: readonly string[]) => void | Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    writeFiles(folder, {
      "package.json": `{ "type": "module" }`,
      "words.ts": WORDS_MODULE,
      "entry.ts": `import app from "./words.ts";\nimport { run } from "tammar/run";\nrun(app);\n`,
      "not_an_app.ts": `import { run } from "tammar/run";\nrun({ name: "x" } as never);\n`,
    });
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(root, join(folder, "node_modules/tammar"));
    const deno = ["run", "-A", "--no-check", "--config", join(root, "deno.json")];
    await use(folder, "Bun" in globalThis ? ["run"] : deno);
  });
}

test("an entry of two lines is a program with the worker's options and the application's", async () => {
  await withProject((folder, runtime) => {
    const { status, stdout, stderr } = start(process.execPath, [...runtime, "entry.ts", "--help"], folder);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /--worker-count <N>/);
    assert.match(stdout, /^Options of "Words":\n +--window-size <N>/m);
    assert.ok(!stdout.includes("--application-module"), "it has its application already");
  });
});

test("wrong usage of such a program is exit 2 with one line", async () => {
  await withProject((folder, runtime) => {
    for (const [args, message] of [
      [["entry.ts"], /^Error: You must specify a worker name/],
      [["entry.ts", "worker", "-t"], /^Error: Cluster initializer needs its data channel/],
      [
        ["entry.ts", "-t", "-d", "127.0.0.1:0", "--application-module", "x"],
        /^Error: --application-module x: .*leave it out/,
      ],
      [["entry.ts", "-t", "-d", "127.0.0.1:0"], /^Error: --in gives no address/],
      [["not_an_app.ts"], /^Error: run\(\) got an object/],
    ] as const) {
      const { status, stdout, stderr } = start(process.execPath, [...runtime, ...args], folder);
      assert.equal(status, 2, stderr);
      assert.match(stderr, message);
      assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
      assert.equal(stdout, "");
    }
  });
});

if ("Bun" in globalThis) {
  test("compiled, it is one executable that needs nothing beside it", async () => {
    await withProject(async (folder) => {
      const built = start(process.execPath, ["build", "--compile", "entry.ts", "--outfile", "words"], folder);
      assert.equal(built.status, 0, built.stderr);
      await withFolder((elsewhere) => {
        const help = start(join(folder, "words"), ["--help"], elsewhere);
        assert.equal(help.status, 0, help.stderr);
        assert.match(help.stdout, /\$ words \[options\]/);
        const wrong = start(join(folder, "words"), ["-t", "-d", "127.0.0.1:0"], elsewhere);
        assert.equal(wrong.status, 2);
        assert.match(wrong.stderr, /^Error: --in gives no address/);
        return Promise.resolve();
      });
    });
  });
}
