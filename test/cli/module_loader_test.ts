import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConfigError } from "../../src/base/errors.ts";
import { findModule, loadApplication } from "../../src/cli/module_loader.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { withFolder } from "../lib/real_runtime.ts";
import { libraryRuntime, WORDS_MODULE, writeFiles } from "./run_main.ts";

async function runtimeIn(workingDir: string, env: Record<string, string> = {}): Promise<Runtime> {
  const real = await libraryRuntime();
  return { ...real, host: { ...real.host, workingDir, env: (name) => env[name] } };
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.exitStatus, 2);
    assert.ok(!/\n| at \w+ \(/.test(error.message), `one line, no stack trace: ${error.message}`);
    return error.message;
  }
  assert.fail("nothing was refused");
}

/** Loads one file's text as a module, from a folder without any node_modules. */
async function load(text: string, files: Record<string, string> = {}): Promise<string> {
  return withFolder(async (folder) => {
    writeFiles(folder, { ...files, "app.ts": text });
    const runtime = await runtimeIn(folder);
    return refusal(loadApplication(runtime, "./app.ts"));
  });
}

test("findModule() takes a path as it is, or tries .ts, .js and .mjs", async () => {
  await withFolder(async (folder) => {
    writeFiles(folder, {
      "sub/a.ts": "",
      "sub/b.js": "",
      "sub/c.mjs": "",
      "sub/d.cjs": "",
      "sub/both.ts": "",
      "sub/both.js": "",
    });
    const { disk, host } = await runtimeIn(folder);
    for (const [name, found] of [
      ["./sub/a", "sub/a.ts"],
      ["sub/a.ts", "sub/a.ts"],
      ["sub/b", "sub/b.js"],
      ["./sub/../sub/c", "sub/c.mjs"],
      ["sub/d.cjs", "sub/d.cjs"],
      ["sub/both", "sub/both.ts"],
      [join(folder, "sub/a"), "sub/a.ts"],
    ] as const) {
      assert.equal(await findModule(disk, host, name), join(folder, found), name);
    }
  });
});

test("findModule() looks for a name in the working directory, then in TAMMAR_PATH, then in PYTHONPATH", async () => {
  await withFolder(async (folder) => {
    writeFiles(folder, {
      "here/one.ts": "",
      "t1/one.ts": "",
      "t2/two.js": "",
      "t2/three.ts": "",
      "p/three.ts": "",
      "p/four.ts": "",
    });
    const env = { TAMMAR_PATH: `${folder}/t1::../t2`, PYTHONPATH: `.:${folder}/p` };
    const { disk, host } = await runtimeIn(join(folder, "here"), env);
    assert.equal(await findModule(disk, host, "one"), join(folder, "here/one.ts"));
    assert.equal(await findModule(disk, host, "two"), join(folder, "t2/two.js"));
    assert.equal(await findModule(disk, host, "three"), join(folder, "t2/three.ts"));
    assert.equal(await findModule(disk, host, "four"), join(folder, "p/four.ts"));
    const message = await refusal(findModule(disk, host, "five"));
    assert.match(message, /^--application-module five: no such module/);
    for (const searched of ["here", "t1", "t2", "p"]) assert.ok(message.includes(join(folder, searched)), searched);
  });
});

test("findModule() doesn't take a folder for a module", async () => {
  await withFolder(async (folder) => {
    mkdirSync(join(folder, "app"));
    const { disk, host } = await runtimeIn(folder);
    assert.match(await refusal(findModule(disk, host, "./app")), /there is no file .*\/app,/);
  });
});

test("an application is loaded from any folder, without node_modules, through files it imports", async () => {
  await withFolder(async (folder) => {
    writeFiles(folder, {
      "deep/app.ts": `export { default } from "./parts/words.ts";`,
      "deep/parts/words.ts": WORDS_MODULE,
    });
    const { path, application } = await loadApplication(await runtimeIn(folder), "deep/app");
    assert.equal(path, join(folder, "deep/app.ts"));
    assert.equal(application.name, "Words");
  });
});

test("a module with a syntax error is refused with the place", async () => {
  const message = await load("const a = ;\n");
  assert.match(message, /^--application-module \S+: cannot load .*app\.ts: /);
  assert.match(message, /app\.ts:1/);
});

test("a module that throws while it is loaded is refused with its message and place", async () => {
  const message = await load(`\nfunction broken(): never { throw new TypeError("no such table"); }\nbroken();\n`);
  assert.match(message, /no such table/);
  assert.match(message, /app\.ts:2/);
});

test("a module that throws something that is no error is refused as well", async () => {
  assert.match(await load(`throw "just a text";`), /just a text/);
  assert.match(await load("throw undefined;"), /undefined/);
});

test("an import that isn't there is refused with its name", async () => {
  assert.match(await load(`import "./missing.ts";`), /missing\.ts/);
  assert.match(await load(`import x from "no-such-package-at-all"; export default x;`), /no-such-package-at-all/);
});

test("a name that the library doesn't export is refused with that name", async () => {
  assert.match(await load(`import { nope } from "tammar"; export default nope;`), /nope/);
});

test("a module without an application says what it exports instead", async () => {
  assert.match(
    await load("const a = 1; void a;\nexport {};"),
    /exports nothing: end it with .export default application/,
  );
  assert.match(await load("export const a = 1, b = 2;"), /exports nothing by default, only a, b/);
  assert.match(await load("export default { name: 'x' };"), /exports an object by default, which is no application/);
  assert.match(await load("export default function build() {}"), /exports a function \(build\) by default/);
  assert.match(
    await load(`export { application as default } from "tammar";`),
    /exports a function \(application\) by default/,
  );
  assert.match(await load("export default Promise.resolve(1);"), /exports a promise by default/);
  assert.match(
    await load(`import { application } from "tammar";\nexport const app = application("A", () => []);`),
    /exports its application as "app", but nothing by default/,
  );
});

test("a module that never becomes ready is refused at a deadline", async () => {
  await withFolder(async (folder) => {
    writeFiles(folder, { "app.ts": "" });
    const real = await runtimeIn(folder);
    const clock = {
      ...real.clock,
      startTimer: (_delayMs: number, fire: () => void) => real.clock.startTimer(20, fire),
    };
    const host = { ...real.host, importModule: () => new Promise<never>(() => {}) };
    assert.match(await refusal(loadApplication({ ...real, clock, host }, "./app.ts")), /not ready after 30 s/);
  });
});

test("messages of user code can't write control characters to a terminal", async () => {
  const message = await load(`throw new Error("a\\u001b[2Jb\\nc");`);
  assert.ok(!message.includes("\u001b"));
  assert.match(message, /a.*b c/);
});
