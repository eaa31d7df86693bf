import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { VERSION } from "../../src/cli/version.ts";
import { withFolder } from "../lib/real_runtime.ts";
import { runMain, WORDS_MODULE, writeFiles } from "./run_main.ts";

const COMMANDS = [
  "worker",
  "shutdown",
  "query",
  "store",
  "dead-letters",
  "send",
  "receive",
  "metrics",
  "shrink",
  "links",
];

test("without arguments, with --help and with help, the commands are listed", async () => {
  for (const args of [[], ["--help"], ["-h"], ["help"]]) {
    const { status, out, err } = await runMain(args);
    assert.equal(status, 0);
    assert.equal(err, "");
    for (const name of COMMANDS) assert.match(out, new RegExp(`^  ${name} `, "m"), name);
  }
});

test("--version is the version of package.json, with the build id that workers compare", async () => {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  assert.equal(VERSION, manifest.version);
  const { status, out } = await runMain(["--version"]);
  assert.equal(status, 0);
  assert.ok(out.startsWith(`tammar ${VERSION} (build source-`), out);
});

test("every command shows its help in three ways, with each of its options", async () => {
  for (const name of COMMANDS) {
    const { status, out } = await runMain(["help", name]);
    assert.equal(status, 0, name);
    assert.match(out, /^Usage:$/m, name);
    assert.match(out, new RegExp(`tammar ${name}`), name);
    assert.equal((await runMain([name, "--help"])).out, out, name);
    if (name !== "send") assert.equal((await runMain([name, "-h"])).out, out, name);
    assert.ok(!out.includes("undefined"), out);
    // No flag is on by itself, `--no-write` neither.
    assert.ok(!out.includes("(default: true)"), out);
  }
});

test("the worker's help has every option with letter and default, and those of a later release apart", async () => {
  const { out } = await runMain(["worker", "--help"]);
  for (const line of [
    /^ {6}--application-module <MODULE> /m,
    /^ {2}-i, --in <NAME@HOST:PORT\[:MAX\],\.\.\.> /m,
    /^ {2}-o, --out <HOST:PORT,\.\.\.> /m,
    /^ {2}-t, --cluster-initializer /m,
    /^ {2}-w, --worker-count <N> .*\(default: 1\)$/m,
    /^ {2}-n, --name <NAME> /m,
    /^ {2}-c, --control <HOST:PORT> /m,
    /^ {2}-d, --data <HOST:PORT> /m,
    /^ {2}-x, --my-control <HOST:PORT> /m,
    /^ {2}-y, --my-data <HOST:PORT> /m,
    /^ {2}-e, --external <HOST:PORT> /m,
    /^ {2}-m, --metrics <HOST:PORT> /m,
    /^ {2}-r, --resilience-dir <DIR> .*\(default: \/tmp\)$/m,
    /^ {6}--log-level <LEVEL> .*\(default: info\)$/m,
    /^ {6}--log-format <FORMAT> .*\(default: text\)$/m,
    /^Options of a later release:$/m,
    /^ {2}-j, --join <HOST:PORT> /m,
  ]) {
    assert.match(out, line);
  }
  assert.ok(!out.includes("--spike"), "options without effect are not advertised");
});

test("the worker's help shows the options of the application that is named with it", async () => {
  await withFolder(async (workingDir) => {
    writeFiles(workingDir, { "words.ts": WORDS_MODULE });
    const { status, out } = await runMain(["worker", "--help", "--application-module", "words"], { workingDir });
    assert.equal(status, 0);
    assert.match(out, /^Options of "Words":$/m);
    assert.match(out, /^ +--window-size <N> +Milliseconds \(default: 50\)$/m);
    assert.match(out, /^ +--loud +Say more$/m);
    const broken = await runMain(["worker", "--help", "--application-module", "gone"], { workingDir });
    assert.equal(broken.status, 0);
    assert.match(broken.out, /^The application's options are not shown: --application-module gone: no such module/m);
  });
});

test("an unknown command is exit 2, with the nearest one", async () => {
  const { status, out, err } = await runMain(["wroker"]);
  assert.deepEqual(
    { status, out, err },
    { status: 2, out: "", err: "Error: Unknown command wroker: did you mean worker?\n" },
  );
  assert.match(
    (await runMain(["--application-module", "x"])).err,
    /the command comes first, as in `tammar worker --help`/,
  );
  assert.match((await runMain(["help", "shutdwon"])).err, /did you mean shutdown\?/);
  assert.match((await runMain(["xyzzy"])).err, /there are worker, shutdown, /);
});

test("called by an old name, the executable is that tool, and its help says so", async () => {
  for (const [calledAs, usage] of [
    ["machida", /\$ machida --application-module/],
    ["machida3", /\$ machida3 --application-module/],
    ["cluster_shutdown", /\$ cluster_shutdown HOST:PORT/],
    ["cluster_shrinker", /\$ cluster_shrinker --external/],
    ["external_sender", /\$ external_sender /],
    ["sender", /\$ sender --host/],
    ["data_receiver", /\$ data_receiver --listen/],
  ] as const) {
    const { status, out } = await runMain(["--help"], { calledAs });
    assert.equal(status, 0, calledAs);
    assert.match(out, usage);
  }
});

const ADDRESSES = ["-t", "-c", "127.0.0.1:0", "-d", "127.0.0.1:0", "--in", "words@127.0.0.1:0", "--out", "127.0.0.1:1"];

/** What only the whole command sees; `worker_options_test.ts` has the others. */
const WRONG: [what: string, args: readonly string[], message: RegExp][] = [
  ["no arguments", [], /--application-module/],
  [
    "an unknown option",
    ["--application-module", "words", ...ADDRESSES, "--colour", "red"],
    /^Error: Unknown option --colour/,
  ],
  ["a stray word", ["--application-module", "words", ...ADDRESSES, "now"], /^Error: Unexpected argument "now"/],
  [
    "an option of the application that is no number",
    ["--application-module", "words", ...ADDRESSES, "--window-size", "x"],
    /^Error: --window-size x: expected a number/,
  ],
  [
    "a missing module",
    ["--application-module", "gone", ...ADDRESSES],
    /^Error: --application-module gone: no such module/,
  ],
  [
    "a module with a syntax error",
    ["--application-module", "syntax", ...ADDRESSES],
    /^Error: --application-module syntax: cannot load .*syntax\.ts: (?!BuildMessage)/,
  ],
  [
    "a module that throws",
    ["--application-module", "throws", ...ADDRESSES],
    /^Error: --application-module throws: cannot load .*throws\.ts: .*out of cheese/,
  ],
  [
    "a module that exports nothing",
    ["--application-module", "empty", ...ADDRESSES],
    /^Error: --application-module empty: .*empty\.ts exports nothing/,
  ],
  [
    "an application whose build throws",
    ["--application-module", "build", ...ADDRESSES],
    /^Error: application "Build": its build function threw: out of bricks/,
  ],
  ["an application without a sink", ["--application-module", "nosink", ...ADDRESSES], /^Error: application "No sink"/],
  [
    "a source that isn't there",
    ["--application-module", "words", "-t", "-d", "127.0.0.1:0", "--in", "x@127.0.0.1:0", "--out", "127.0.0.1:1"],
    /^Error: --in names the source "x"/,
  ],
  [
    "a source without an address",
    ["--application-module", "words", "-t", "-d", "127.0.0.1:0", "--out", "127.0.0.1:1"],
    /^Error: --in gives no address for the source "words"/,
  ],
  [
    "a sink without an address",
    ["--application-module", "words", "-t", "-d", "127.0.0.1:0", "--in", "words@127.0.0.1:0"],
    /^Error: --out is missing/,
  ],
];

for (const [what, args, message] of WRONG) {
  test(`tammar worker is exit 2 with one line on standard error, and starts nothing: ${what}`, async () => {
    await withFolder(async (workingDir) => {
      writeFiles(workingDir, {
        "words.ts": WORDS_MODULE,
        "syntax.ts": "export default (;",
        "throws.ts": `throw new Error("out of cheese");`,
        "empty.ts": "export {};",
        "build.ts": `import { application } from "tammar"; export default application("Build", () => { throw new Error("out of bricks"); });`,
        "nosink.ts": `import { application } from "tammar"; export default application("No sink", () => []);`,
      });
      const { status, out, err } = await runMain(["worker", ...args, "--resilience-dir", "res"], { workingDir });
      assert.equal(status, 2, err);
      assert.equal(out, "");
      assert.match(err, message);
      assert.equal(err.trimEnd().split("\n").length, 1, `one message: ${err}`);
      assert.ok(!/\n\s+at /.test(err), "no stack trace");
      assert.ok(!readdirSync(workingDir).includes("res"), "no file is left");
    });
  });
}
