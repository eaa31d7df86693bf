import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { applicationDigest, importsOf } from "../../src/cli/application_digest.ts";
import { realRuntime, withFolder } from "../lib/real_runtime.ts";
import { writeFiles } from "./run_main.ts";

type Files = Record<string, string>;

const APP: Files = {
  "app.ts": `import { a } from "./a.ts";\nimport json from "./data.json" with { type: "json" };\nimport { helper } from "pkg/sub";\nimport "tammar";\nexport default [a, json, helper];\n`,
  "a.ts": `export { b as a } from "./lib/b.js";\nexport const later = () => import("./late.ts");\n`,
  "lib/b.ts": `import { up } from "../up.ts";\nexport const b = up;\n`,
  "up.ts": `export const up = 1;\n`,
  "late.ts": `export default 1;\n`,
  "data.json": `{"a":1}`,
  "unused.ts": `export {};\n`,
  "node_modules/pkg/package.json": `{"name":"pkg","version":"1.0.0","dependencies":{"dep":"1"}}`,
  "node_modules/pkg/sub.js": `export { helper } from "dep";`,
  "node_modules/pkg/readme.md": `text`,
  "node_modules/dep/package.json": `{"name":"dep","version":"2.0.0"}`,
  "node_modules/dep/index.js": `export const helper = 1;`,
};

async function digestOf(files: Files, entry = "app.ts", below = ""): Promise<string> {
  return withFolder(async (folder) => {
    const root = join(folder, below);
    writeFiles(root, files);
    return applicationDigest(await realRuntime(), join(root, entry));
  });
}

test("the digest is the same wherever the application lies", async () => {
  const digest = await digestOf(APP);
  assert.match(digest, /^[0-9a-f]{64}$/);
  assert.equal(await digestOf(APP, "app.ts", "some/where/else"), digest);
});

test("the digest is the same on every runtime and in every release", async () => {
  assert.equal(await digestOf(APP), "fdcde306fa24fa6389729e183bf4e6814569516066bd7cddf9fca87687cff10c");
});

test("a change in any file that is imported changes the digest: transitively, dynamically, in packages", async () => {
  const digest = await digestOf(APP);
  for (const name of Object.keys(APP)) {
    const changed = await digestOf({ ...APP, [name]: `${APP[name]} ` });
    const matters = name !== "unused.ts" && !name.endsWith("readme.md");
    assert.equal(changed !== digest, matters, name);
  }
});

test("a file that appears where an import pointed to nothing changes the digest", async () => {
  const files = { "app.ts": `const x = await import("./maybe.ts").catch(() => null); export default x;` };
  assert.notEqual(await digestOf(files), await digestOf({ ...files, "maybe.ts": "export {};" }));
});

test("files that import each other end the walk", async () => {
  await digestOf({ "app.ts": `import "./b.ts"; export default 1;`, "b.ts": `import "./app.ts";` });
});

test("packages that depend on each other, and one that is missing, end the walk", async () => {
  await digestOf({
    "app.ts": `import "a"; import "not-there"; import "node:fs"; import "npm:x@1"; import "https://example.com/x.ts";`,
    "node_modules/a/package.json": `{"version":"1","dependencies":{"b":"*"},"peerDependencies":{"gone":"*"}}`,
    "node_modules/b/package.json": `{"version":"1","dependencies":{"a":"*"}}`,
  });
});

test("a link in a package to itself ends the walk", async () => {
  await withFolder(async (folder) => {
    writeFiles(folder, { "app.ts": `import "a";`, "node_modules/a/package.json": `{"version":"1"}` });
    symlinkSync(".", join(folder, "node_modules/a/loop"));
    await applicationDigest(await realRuntime(), join(folder, "app.ts"));
  });
});

test("importsOf() finds every form of import with a literal name", () => {
  const text = `
    import a from "./a.ts";
    import { b, type C } from './b.ts';
    import * as d from"./d.ts"
    import"./e.ts";
    import f, { g } /* why */ from /* here */ "./f.ts" with { type: "json" };
    export * from "./h.ts";
    export { i } from "./i.ts";
    import type { J } from "./j.ts";
    const k = await import("./k.ts"), l = import( /* x */ \`./l.ts\` );
    const m = require("./m.cjs");
    import
      n
    from
      // a comment
      "./n.ts";
  `;
  assert.deepEqual(
    importsOf(text),
    ["a.ts", "b.ts", "d.ts", "e.ts", "f.ts", "h.ts", "i.ts", "j.ts", "k.ts", "l.ts", "m.cjs", "n.ts"].map(
      (name) => `./${name}`,
    ),
  );
});

test("importsOf() sees no import in a computed name, and takes a name only once", () => {
  assert.deepEqual(
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a module
    importsOf('import(name); import(`./${x}.ts`); import("./a.ts"); import("./a.ts"); const from = "x";'),
    ["./a.ts"],
  );
});

test("importsOf() is quick with a large text that almost matches", () => {
  const before = process.cpuUsage();
  importsOf("import /* ".repeat(20_000));
  importsOf(`import ${"// \n".repeat(50_000)}`);
  importsOf(`from${" ".repeat(200_000)}x`);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 10e6, `${user + system} µs of processor time`);
});
