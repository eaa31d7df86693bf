/** The work of `scripts/build`; run by Bun, in the project's folder. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";

const SPLIT = ["worker", "store", "shutdown"] as const;
const TARGETS = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"] as const;
/** Deno's names for them. */
const DENO_TARGETS: Readonly<Record<string, string>> = {
  "linux-x64": "x86_64-unknown-linux-gnu",
  "linux-arm64": "aarch64-unknown-linux-gnu",
  "darwin-x64": "x86_64-apple-darwin",
  "darwin-arm64": "aarch64-apple-darwin",
};
/** No file of the working directory may run code in a worker, so neither `.env` nor `bunfig.toml` is read. */
const BUN_SETTINGS = [
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
  "--minify-syntax",
  "--minify-whitespace",
];

interface Request {
  readonly all: boolean;
  readonly split: boolean;
  readonly compiler: "bun" | "deno";
}

/** An executable to make. */
interface Product {
  readonly output: string;
  /** `main`, `worker`, ...: which entry under `src/cli/`. */
  readonly entry: string;
  /** `null`: this machine. */
  readonly target: string | null;
}

function readRequest(args: readonly string[]): Request {
  const request = { all: false, split: false, compiler: "bun" as Request["compiler"] };
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    const compiler = argument === "--with" ? args[++index] : argument.startsWith("--with=") ? argument.slice(7) : null;
    if (argument === "--all") request.all = true;
    else if (argument === "--split") request.split = true;
    else if (compiler === "bun" || compiler === "deno") request.compiler = compiler;
    else if (compiler === null) leave(2, `unknown argument ${argument}: see scripts/build --help`);
    else leave(2, `--with ${compiler ?? ""}: expected bun or deno`);
  }
  return request;
}

function leave(status: number, text: string): never {
  console.error(`scripts/build: ${text}`);
  process.exit(status);
}

/** Of everything that decides what the executables do. */
function computeBuildId(compiler: string): string {
  const digest = createHash("sha256");
  const files = (readdirSync("src", { recursive: true }) as string[]).filter((name) => name.endsWith(".ts")).sort();
  for (const path of [
    "mod.ts",
    "package.json",
    "package-lock.json",
    "deno.json",
    ...files.map((name) => `src/${name}`),
  ]) {
    digest.update(`${path} ${createHash("sha256").update(readFileSync(path)).digest("hex")}\n`);
  }
  digest.update(`${compiler} ${compiler === "bun" ? BUN_SETTINGS.join(" ") : ""}\n`);
  return digest.digest("hex").slice(0, 32);
}

function listProducts(request: Request): Product[] {
  const entries = request.split
    ? SPLIT.map((name) => ({ entry: name, name: `tammar-${name}` }))
    : [{ entry: "main", name: "tammar" }];
  const targets = request.all ? TARGETS : [null];
  return targets.flatMap((target) =>
    entries.map(({ entry, name }) => ({ entry, target, output: `dist/${name}${target === null ? "" : `-${target}`}` })),
  );
}

interface Outcome {
  readonly built: boolean;
  readonly text: string;
}

/** Builds beside the place and renames: an executable that runs just now stays whole. */
function replace(output: string, build: (temporary: string) => Outcome): Outcome {
  const temporary = `dist/.building-${process.pid}`;
  try {
    const outcome = build(temporary);
    if (outcome.built) renameSync(temporary, output);
    return outcome;
  } finally {
    rmSync(temporary, { force: true });
  }
}

function run(command: string, args: readonly string[], env: Record<string, string | undefined> = process.env): Outcome {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  return { built: status === 0, text: error === undefined ? `${stdout}${stderr}`.trim() : error.message };
}

function buildWithBun(product: Product, buildId: string): Outcome {
  const target = product.target === null ? [] : [`--target=bun-${product.target}`];
  const entry = product.entry === "main" ? "src/cli/main_bun.ts" : `src/cli/entry_${product.entry}.ts`;
  return replace(product.output, (temporary) =>
    run("node_modules/.bin/bun", [
      "build",
      "--compile",
      ...target,
      ...BUN_SETTINGS,
      `--define=TAMMAR_BUILD_ID=${JSON.stringify(buildId)}`,
      entry,
      `--outfile=${temporary}`,
    ]),
  );
}

const request = readRequest(process.argv.slice(2));
const buildId = computeBuildId(request.compiler);
mkdirSync("dist", { recursive: true });

const started = performance.now();
const failed: string[] = [];
const built: string[] = [];
for (const product of listProducts(request)) {
  const outcome = request.compiler === "bun" ? buildWithBun(product, buildId) : leave(1, "not yet");
  if (outcome.built) {
    built.push(product.output);
    const megabytes = (statSync(product.output).size / 1e6).toFixed(0);
    console.log(`built ${product.output} (${megabytes} MB, build id ${buildId})`);
  } else {
    failed.push(product.output);
    console.error(`could not build ${product.output}: ${outcome.text}`);
  }
}
if (request.all && built.length > 0) {
  const sums = built.map(
    (path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${path.slice(5)}\n`,
  );
  writeFileSync("dist/SHA256SUMS", sums.join(""));
  console.log("wrote dist/SHA256SUMS");
}
console.log(
  `${built.length} built, ${failed.length} failed, in ${((performance.now() - started) / 1000).toFixed(1)} s`,
);
process.exit(failed.length === 0 ? 0 : 1);
void DENO_TARGETS;
