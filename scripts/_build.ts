/** The work of `scripts/build`; run by Bun, in the project's folder. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

const SPLIT = ["worker", "store", "shutdown"] as const;
/** A build for tests, which no release contains anything of. */
const FAILPOINT_ENTRY = "test/sim/twin/failpoint_worker.ts";
const TARGETS = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"] as const;
/** Deno's names for them. */
const DENO_TARGETS: Readonly<Record<string, string>> = {
  "linux-x64": "x86_64-unknown-linux-gnu",
  "linux-arm64": "aarch64-unknown-linux-gnu",
  "darwin-x64": "x86_64-apple-darwin",
  "darwin-arm64": "aarch64-apple-darwin",
};
const THIS_MACHINE = `${process.platform}-${process.arch}`;
/**
 * Neither `.env` nor `bunfig.toml` of the working directory is read: what lies there must not run code in a worker. Names
 * of functions and classes are kept, since logs show them.
 */
const BUN_SETTINGS = [
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
  "--minify-syntax",
  "--minify-whitespace",
];
/** Starts in a third of the time. Made by the runtime that is embedded, so for this machine only. */
const BUN_BYTECODE = ["--bytecode", "--format=esm"];
/** A download that hangs must not hang the build. */
const TIMEOUT_MS = 300_000;

interface Request {
  readonly all: boolean;
  readonly split: boolean;
  readonly failpoints: boolean;
  readonly compiler: "bun" | "deno";
}

/** An executable to make. */
interface Product {
  readonly output: string;
  /** `main`, `worker`, ...: which entry under `src/cli/`; or the path of one. */
  readonly entry: string;
  /** `null`: this machine. */
  readonly target: string | null;
}

interface Outcome {
  readonly built: boolean;
  readonly text: string;
}

function leave(status: number, text: string): never {
  console.error(`scripts/build: ${text}`);
  process.exit(status);
}

function readRequest(args: readonly string[]): Request {
  let all = false;
  let split = false;
  let failpoints = false;
  let compiler: Request["compiler"] = "bun";
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    if (argument === "--all") all = true;
    else if (argument === "--split") split = true;
    else if (argument === "--failpoints") failpoints = true;
    else if (argument === "--with" || argument.startsWith("--with=")) {
      const name = argument === "--with" ? args[++index] : argument.slice("--with=".length);
      if (name !== "bun" && name !== "deno") leave(2, `--with ${name ?? ""}: expected bun or deno`);
      compiler = name;
    } else leave(2, `unknown argument ${argument}; see scripts/build --help`);
  }
  if (failpoints && (all || split || compiler !== "bun")) leave(2, "--failpoints goes with no other option");
  return { all, split, failpoints, compiler };
}

/** Of everything that decides what the executables do; the same for all machines. */
function computeBuildId(compiler: string): string {
  const digest = createHash("sha256");
  const sources = (readdirSync("src", { recursive: true }) as string[]).filter((name) => name.endsWith(".ts")).sort();
  const paths = ["mod.ts", "package.json", "package-lock.json", "deno.json", ...sources.map((name) => `src/${name}`)];
  for (const path of paths) digest.update(`${path} ${createHash("sha256").update(readFileSync(path)).digest("hex")}\n`);
  digest.update(`${compiler} ${compiler === "bun" ? BUN_SETTINGS.join(" ") : ""}\n`);
  return digest.digest("hex").slice(0, 32);
}

function listProducts({ all, split, failpoints }: Request): Product[] {
  if (failpoints) return [{ entry: FAILPOINT_ENTRY, target: null, output: "dist/tammar-failpoints" }];
  const entries = split
    ? SPLIT.map((entry) => ({ entry, name: `tammar-${entry}` }))
    : [{ entry: "main", name: "tammar" }];
  return (all ? TARGETS : [null]).flatMap((target) =>
    entries.map(({ entry, name }) => ({ entry, target, output: `dist/${name}${target === null ? "" : `-${target}`}` })),
  );
}

/**
 * Builds beside the place and renames: whoever runs the executable just now keeps a whole one. The file's name stays the
 * same, since it goes into the executable.
 */
function replace(output: string, build: (temporary: string) => Outcome): Outcome {
  const folder = `dist/.building-${process.pid}`;
  const temporary = `${folder}/${basename(output)}`;
  try {
    mkdirSync(folder, { recursive: true });
    const outcome = build(temporary);
    if (outcome.built) renameSync(temporary, output);
    return outcome;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(command: string, args: readonly string[]): Outcome {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
  });
  return { built: status === 0, text: error === undefined ? `${stdout}${stderr}`.trim() : error.message };
}

function bunEntry({ entry }: Product): string {
  if (entry.endsWith(".ts")) return entry;
  return entry === "main" ? "src/cli/main_bun.ts" : `src/cli/entry_${entry}.ts`;
}

function buildWithBun(product: Product, buildId: string): Outcome {
  const native = product.target === null || product.target === THIS_MACHINE;
  const outcome = replace(product.output, (temporary) =>
    run("node_modules/.bin/bun", [
      "build",
      "--compile",
      ...(product.target === null ? [] : [`--target=bun-${product.target}`]),
      ...BUN_SETTINGS,
      ...(native ? BUN_BYTECODE : []),
      `--define=TAMMAR_BUILD_ID=${JSON.stringify(buildId)}`,
      bunEntry(product),
      `--outfile=${temporary}`,
    ]),
  );
  if (outcome.built || native) return outcome;
  const why = lastLine(outcome.text);
  return {
    built: false,
    text: `the runtime for ${product.target} comes from the package registry, once, and could not be had (${why})`,
  };
}

/** Deno has no `--define`: a small module, evaluated first, says the build id. */
function writeDenoEntry(product: Product, buildId: string): string {
  mkdirSync("dist/.deno", { recursive: true });
  writeFileSync(
    "dist/.deno/build_id.ts",
    `Object.assign(globalThis, { TAMMAR_BUILD_ID: ${JSON.stringify(buildId)} });\n`,
  );
  const entry = product.entry === "main" ? "main_deno" : `entry_${product.entry}`;
  const path = `dist/.deno/${entry}.ts`;
  writeFileSync(path, `import "./build_id.ts";\nimport "../../src/cli/${entry}.ts";\n`);
  return path;
}

/** Deno embeds all of `node_modules`; compilers and checkers have no place in an executable. */
function denoExcludes(): string[] {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as { dependencies: Record<string, string> };
  const needed = new Set(Object.keys(manifest.dependencies));
  const names = readdirSync("node_modules").filter((name) => !needed.has(name));
  return names.map((name) => `--exclude=node_modules/${name}`);
}

function buildWithDeno(product: Product, buildId: string): Outcome {
  const entry = writeDenoEntry(product, buildId);
  return replace(product.output, (temporary) =>
    run("node_modules/.bin/deno", [
      "compile",
      "--allow-all",
      // Types are the business of scripts/check.
      "--no-check",
      ...(product.target === null ? [] : [`--target=${DENO_TARGETS[product.target]}`]),
      ...denoExcludes(),
      `--output=${temporary}`,
      entry,
    ]),
  );
}

function lastLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim());
  return (
    lines.filter((line) => line !== "" && !/^(stack backtrace|[0-9]+: <unknown>)/i.test(line)).at(-1) ??
    "no reason given"
  );
}

/** Where nothing can be compiled: are at least all modules there that would be in the executable, and of the right types? */
function checkDenoGraph(products: readonly Product[]): void {
  const entries = [...new Set(products.map((product) => writeDenoEntry(product, "none")))];
  for (const entry of entries) {
    const info = run("node_modules/.bin/deno", ["info", "--json", entry]);
    const graph = info.built ? (JSON.parse(info.text) as { modules: { specifier: string; error?: string }[] }) : null;
    const missing =
      graph?.modules.filter((module) => module.error !== undefined && !module.specifier.startsWith("bun:")) ?? [];
    if (graph === null) console.error(`module graph of ${entry}: ${info.text}`);
    else if (missing.length > 0)
      console.error(`module graph of ${entry}: ${missing.map((module) => module.error).join("; ")}`);
    else console.log(`module graph of ${entry} is complete: ${graph.modules.length} modules`);
  }
  const types = run("node_modules/.bin/deno", ["check", "src/cli/main_deno.ts", "src/run/mod_deno.ts"]);
  console.log(types.built ? "types are right (deno check)" : `types are wrong: ${types.text}`);
}

const request = readRequest(process.argv.slice(2));
const buildId = computeBuildId(request.compiler);
const products = listProducts(request);
mkdirSync("dist", { recursive: true });

const started = performance.now();
const built: string[] = [];
const failed: string[] = [];
let lacksDenort = false;
for (const product of products) {
  const outcome = request.compiler === "bun" ? buildWithBun(product, buildId) : buildWithDeno(product, buildId);
  if (outcome.built) {
    built.push(product.output);
    const megabytes = (statSync(product.output).size / 1e6).toFixed(0);
    console.log(`built ${product.output} (${megabytes} MB, build id ${buildId})`);
  } else {
    failed.push(product.output);
    const isDownload =
      request.compiler === "deno" && /download|dns error|denort|error sending request/i.test(outcome.text);
    lacksDenort ||= isDownload;
    console.error(`could not build ${product.output}: ${isDownload ? lastLine(outcome.text) : outcome.text}`);
  }
}
if (lacksDenort) {
  console.error(
    "deno compile downloads its runtime for compiled programs (denort), which could not be had here: so nothing was " +
      "compiled, and only the module graph and its types are checked. DENORT_BIN may name a denort that is there already.",
  );
  checkDenoGraph(products);
}
rmSync("dist/.deno", { recursive: true, force: true });
if (request.all && built.length > 0) {
  const sums = built.map(
    (path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${path.slice("dist/".length)}\n`,
  );
  writeFileSync("dist/SHA256SUMS", sums.join(""));
  console.log("wrote dist/SHA256SUMS");
}
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(
  `${built.length} built, ${failed.length} failed, in ${seconds} s${failed.length === 0 ? "" : `: not built: ${failed.join(", ")}`}`,
);
process.exit(failed.length === 0 ? 0 : 1);
