/** The order of the house: which room may need which, and where the outside world is named. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "../..");

interface Source {
  /** From the project's folder: `src/wire/frame.ts`. */
  readonly path: string;
  readonly room: string;
  /** Without comments and the content of strings. */
  readonly code: string;
  readonly imports: readonly { readonly specifier: string; readonly typeOnly: boolean }[];
}

function readSource(path: string): Source {
  return parseSource(path, readFileSync(join(root, path), "utf8"));
}

function parseSource(path: string, whole: string): Source {
  const text = whole.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const imports = [
    ...text.matchAll(/^(?:import|export)\s+(type\s+)?(?:[^"'`;]*?\sfrom\s+)?"([^"]+)"/gm),
    ...text.matchAll(/(?<![\w.])()import\("([^"]+)"\)/g),
  ].map(([, type, specifier]) => ({ specifier: specifier!, typeOnly: type !== undefined && type !== "" }));
  const code = text.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""').replace(/\/\/.*$/gm, "");
  return { path, room: path.split("/")[1]!, code, imports };
}

const sources: readonly Source[] = (readdirSync(join(root, "src"), { recursive: true }) as string[])
  .filter((name) => name.endsWith(".ts"))
  .map((name) => readSource(`src/${name.replaceAll("\\", "/")}`))
  .concat(readSource("mod.ts"));

/** The adapters, and the entries that choose one. */
const PLATFORM_FILE = /^src\/runtime\/|^src\/cli\/main_/;

/** Where a specifier leads, from the project's folder; `null`: a package or the runtime. */
function target(source: Source, specifier: string): string | null {
  if (!specifier.startsWith(".")) return null;
  return relative(root, resolve(root, dirname(source.path), specifier));
}

function roomOf(path: string): string {
  return path === "mod.ts" ? "mod" : path.split("/")[1]!;
}

test("the sources are found", () => {
  assert.ok(sources.length > 80, `${sources.length} files`);
  for (const room of ["base", "runtime", "wire", "api", "plan", "protocol", "operators", "worker", "cli"]) {
    assert.ok(
      sources.some((source) => source.room === room),
      room,
    );
  }
});

test("only adapters, and the entries that choose one, name Bun, Deno or a node module", () => {
  for (const { path, code, imports } of sources) {
    if (PLATFORM_FILE.test(path)) continue;
    const named = /(?<![\w.])(Bun|Deno)(?!\w)/.exec(code);
    assert.equal(named, null, `${path} names ${named?.[0]}`);
    for (const { specifier } of imports)
      assert.ok(!/^(node|bun|deno|npm|jsr):|^bun$/.test(specifier), `${path}: ${specifier}`);
  }
});

test("time, chance, timers, output and the process are reached through the runtime alone", () => {
  const forbidden =
    /(?<![\w.#$])(?:(?:process|console|Buffer)\.|(?:setTimeout|setInterval|setImmediate|queueMicrotask|fetch)\(|Date\.now|Math\.random|performance\.now|new Date\(\)|globalThis)/;
  for (const { path, code } of sources) {
    // The virtual world is a runtime itself, and the simulation replaces what it must not reach.
    if (PLATFORM_FILE.test(path) || path.startsWith("src/simulation/")) continue;
    const found = forbidden.exec(code);
    assert.equal(found, null, `${path} has ${found?.[0]}`);
  }
});

/**
 * Which rooms a room needs. `type x`: its types alone. `runtime` is `runtime/runtime.ts`, the interfaces; adapters have a
 * test of their own.
 */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  runtime: ["base"],
  wire: ["base", "metrics", "type runtime"],
  api: ["base"],
  metrics: ["base", "wire", "type runtime"],
  plan: ["base", "api"],
  protocol: ["base", "plan", "wire", "type runtime"],
  state: ["base", "plan", "wire", "runtime"],
  operators: ["base", "api", "plan", "state", "wire"],
  connectors: ["base", "api", "wire", "runtime", "metrics", "plan", "type operators", "protocol", "store"],
  store: ["base", "wire", "runtime"],
  worker: [
    "base",
    "runtime",
    "wire",
    "api",
    "metrics",
    "plan",
    "protocol",
    "state",
    "operators",
    "connectors",
    "store",
  ],
  cli: ["base", "runtime", "wire", "api", "plan", "store", "worker", "mod"],
  run: ["api", "cli"],
  simulation: [
    "base",
    "runtime",
    "wire",
    "api",
    "metrics",
    "plan",
    "protocol",
    "state",
    "operators",
    "connectors",
    "store",
    "worker",
    // The tool that sends dead letters again is played, not imitated.
    "cli",
  ],
  mod: ["api"],
};

test("what these tests look at is really seen", () => {
  const { code, imports } = parseSource(
    "src/wire/x.ts",
    `import a, {\n  b,\n} from "../a.ts";\nexport * from "./b.ts";\nimport type { C } from "./c.ts";\nimport "./d.ts";\n` +
      `const e = await import("./e.ts");\n// Deno. import "./no.ts"\nconst f = "Bun.x"; Deno.exit();\nexport type { G } from "./g.ts";`,
  );
  assert.deepEqual(
    imports.map(({ specifier, typeOnly }) => `${typeOnly ? "type " : ""}${specifier}`),
    ["../a.ts", "./b.ts", "type ./c.ts", "./d.ts", "type ./g.ts", "./e.ts"],
  );
  assert.match(code, /Deno\.exit/);
  assert.ok(!code.includes("Bun"));
});

test("every room has its line in the table of arrows", () => {
  for (const room of new Set(sources.map(({ path }) => roomOf(path)))) assert.ok(NEEDS[room] !== undefined, room);
});

test("a room imports only from the rooms it needs", () => {
  const wrong: string[] = [];
  for (const source of sources) {
    const room = roomOf(source.path);
    const needs = NEEDS[room] ?? [];
    for (const { specifier, typeOnly } of source.imports) {
      const path = target(source, specifier);
      if (path === null) continue;
      const other = roomOf(path);
      if (other === room || needs.includes(other) || (typeOnly && needs.includes(`type ${other}`))) continue;
      // What a worker is told at its start is described in terms of its application: types, no code.
      if (typeOnly && source.path === "src/worker/config.ts") continue;
      wrong.push(`${source.path} imports ${typeOnly ? "types of " : ""}${path}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("an adapter is imported by the entries that choose it, and by nobody else", () => {
  for (const source of sources) {
    if (PLATFORM_FILE.test(source.path)) continue;
    for (const { specifier } of source.imports) {
      const path = target(source, specifier);
      if (path === null || !path.startsWith("src/runtime/") || path === "src/runtime/runtime.ts") continue;
      const isSimulation = source.room === "simulation" && path.startsWith("src/runtime/virtual/");
      assert.ok(isSimulation, `${source.path} imports ${path}`);
    }
  }
});

const PACKAGES: Readonly<Record<string, RegExp>> = {
  cac: /^src\/cli\//,
  "consola/core": /^src\/cli\//,
  "cbor-x/encode": /^src\/wire\//,
  "cbor-x/decode": /^src\/wire\//,
};

test("each package is imported in its own room only, and there are no others", () => {
  for (const { path, imports } of sources) {
    for (const { specifier } of imports) {
      if (specifier.startsWith(".") || PLATFORM_FILE.test(path)) continue;
      const room = PACKAGES[specifier];
      assert.ok(room !== undefined, `${path} imports the package ${specifier}`);
      assert.match(path, room, `${path} imports ${specifier}`);
    }
  }
});

test("every package that is imported is a dependency with an exact version, and the reverse", () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  assert.deepEqual(
    Object.keys(dependencies).sort(),
    [...new Set(Object.keys(PACKAGES).map((name) => name.split("/")[0]!))].sort(),
  );
  for (const [name, version] of Object.entries(dependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
});

test("no module keeps state of its own: what changes belongs to somebody", () => {
  for (const { path, code } of sources) {
    // A runtime's adapters stand for what a process has only once.
    if (path.startsWith("src/runtime/")) continue;
    const found = /^(?:export\s+)?(?:let|var)\s+\w+/m.exec(code);
    assert.equal(found, null, `${path} has ${found?.[0]}`);
  }
});
