/** Wrong usage never starts anything: exit 2 within a second, one message with option, value and what to do. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { examples, withFolder } from "./lib/cluster.ts";
import { runTammar, underDeno } from "./lib/process.ts";

const alerts = ["worker", "--application-module", examples.alerts];
const words = ["worker", "--application-module", examples.wordCount];
const first = ["--cluster-initializer", "--control", "127.0.0.1:0", "--data", "127.0.0.1:0"];
const other = ["--name", "w1", "--control", "127.0.0.1:6000"];
const out = ["--out", "127.0.0.1:7010"];
const input = ["--in", "words@127.0.0.1:0"];

/** What is tried, the arguments, and what the message must hold: the option, its value. */
const wrong: readonly [string, readonly string[], readonly string[]][] = [
  ["no application", ["worker", ...first, ...out], ["--application-module"]],
  ["no workers", [...alerts, ...first, ...out, "--worker-count", "0"], ["--worker-count", "0"]],
  ["workers in words", [...alerts, ...first, ...out, "--worker-count", "two"], ["--worker-count", "two"]],
  ["a negative number of workers", [...alerts, ...first, ...out, "--worker-count=-1"], ["--worker-count", "-1"]],
  [
    "a control address without a port",
    [...alerts, ...first, ...out, "--control", "127.0.0.1"],
    ["--control", "127.0.0.1"],
  ],
  ["a data address without a port", [...alerts, ...first, ...out, "--data", "localhost"], ["--data", "localhost"]],
  ["a port out of range", [...alerts, ...first, ...out, "--data", "127.0.0.1:70000"], ["--data", "70000"]],
  ["a port that is no number", [...alerts, ...first, ...out, "--external", "127.0.0.1:http"], ["--external", "http"]],
  ["my-control without a port", [...alerts, ...other, ...out, "--my-control", "here"], ["--my-control", "here"]],
  ["an external address without a port", [...alerts, ...first, ...out, "--external", "127.0.0.1"], ["--external"]],
  ["metrics without a port", [...alerts, ...first, ...out, "--metrics", "hub"], ["--metrics", "hub"]],
  ["an IPv6 address without brackets", [...alerts, ...first, "--out", "::1:7000"], ["--out", "::1:7000"]],
  ["join and initializer", [...alerts, ...first, ...out, "--join", "127.0.0.1:1"], ["--join", "--cluster-initializer"]],
  [
    "an initializer without --data",
    [...alerts, "--cluster-initializer", "--control", "127.0.0.1:0", ...out],
    ["--data"],
  ],
  ["a worker with --worker-count", [...alerts, ...other, ...out, "--worker-count", "2"], ["--worker-count", "2"]],
  ["a worker with --data", [...alerts, ...other, ...out, "--data", "127.0.0.1:1"], ["--data"]],
  ["a worker without a name", [...alerts, "--control", "127.0.0.1:6000", ...out], ["--name"]],
  ["a joiner without a name", [...alerts, "--join", "127.0.0.1:6000", ...out], ["name"]],
  ["a join address without a port", [...alerts, ...other, ...out, "--join", "here"], ["--join", "here"]],
  ["a name with a slash", [...alerts, "--name", "../x", "--control", "127.0.0.1:6000", ...out], ["--name", "../x"]],
  ["an empty name", [...alerts, "--name=", "--control", "127.0.0.1:6000", ...out], ["--name"]],
  ["a name of 65 characters", [...alerts, "--name", "n".repeat(65), "--control", "127.0.0.1:1", ...out], ["--name"]],
  ["a missing value at the end", [...alerts, ...first, ...out, "--external"], ["--external"]],
  ["a missing value before an option", [...alerts, ...first, "--out", "--external", "127.0.0.1:1"], ["--out"]],
  [
    "an unknown option, near a known one",
    [...alerts, ...first, ...out, "--worker-cuont", "2"],
    ["--worker-cuont", "--worker-count"],
  ],
  ["an unknown option, near the application's", [...alerts, ...first, ...out, "--rat", "2"], ["--rat", "--rate"]],
  ["a value for a flag", [...alerts, "--cluster-initializer=false", ...out], ["--cluster-initializer"]],
  ["a stray word", [...alerts, ...first, ...out, "now"], ["now"]],
  ["the application's option not a number", [...alerts, ...first, ...out, "--rate", "fast"], ["--rate", "fast"]],
  ["threads", [...alerts, ...first, ...out, "--ponythreads", "4"], ["--ponythreads", "4"]],
  [
    "a pause without a unit",
    [...alerts, ...first, ...out, "--checkpoint-interval", "5"],
    ["--checkpoint-interval", "5"],
  ],
  [
    "log rotation without a log",
    [...alerts, ...first, ...out, "--log-rotation", "--checkpoint-interval", "off"],
    ["--log-rotation", "--checkpoint-interval off"],
  ],
  ["an event log size alone", [...alerts, ...first, ...out, "--event-log-file-size", "9"], ["--event-log-file-size"]],
  [
    "a pause that is no number",
    [...alerts, ...first, ...out, "--time-between-checkpoints", "1s"],
    ["--time-between-checkpoints", "1s"],
  ],
  ["a TCP source without --in", [...words, ...first, ...out], ["--in", "words"]],
  ["--in for a source that isn't there", [...words, ...first, ...out, "--in", "wrods@127.0.0.1:0"], ["--in", "wrods"]],
  ["--in without an address", [...words, ...first, ...out, "--in", "words"], ["--in", "words"]],
  [
    "--in with a size that is no number",
    [...words, ...first, ...out, "--in", "words@127.0.0.1:0:big"],
    // What stands there may be a cookie, so it is not shown.
    ["--in", "words@127.0.0.1:0:", "no frame size"],
  ],
  [
    "--in twice for one source",
    [...words, ...first, ...out, "--in", "words@127.0.0.1:0,words@127.0.0.1:0"],
    ["--in", "words"],
  ],
  ["a TCP sink without --out", [...words, ...first, ...input], ["--out"]],
  ["a log level that isn't one", [...alerts, ...first, ...out, "--log-level", "loud"], ["--log-level", "loud"]],
  ["a module that isn't there", ["worker", "--application-module", "./nowhere", ...first, ...out], ["nowhere"]],
  [
    "a module name that isn't found",
    ["worker", "--application-module", "nowhere", ...first, ...out],
    ["nowhere", "TAMMAR_PATH"],
  ],
  ["an unknown command", ["wroker"], ["wroker", "worker"]],
];

test("every wrong command line is exit 2 within a second, with the option, its value and no stack trace", async () => {
  await withFolder(async (dir) => {
    const problems: string[] = [];
    for (const [what, args, mentions] of wrong) {
      const result = await runTammar([...args, ...(args.length > 1 ? ["--resilience-dir", join(dir, "never")] : [])]);
      const shown = `${what}: exit ${result.status} after ${Math.round(result.ms)} ms\n${result.output}`;
      if (result.status !== 2) problems.push(`expected exit 2, ${shown}`);
      if (result.ms > 1_000 && !underDeno) problems.push(`slow, ${shown}`);
      for (const word of mentions) if (!result.stderr.includes(word)) problems.push(`no ${word} in ${shown}`);
      if (/\n\s+at /.test(result.output)) problems.push(`stack trace in ${shown}`);
      if (result.output.includes("INIT PHASE")) problems.push(`started, ${shown}`);
    }
    assert.deepEqual(problems, []);
  });
});

const modules: readonly [string, string, readonly string[]][] = [
  ["a syntax error", "export default application(;\n", ["application.ts"]],
  ["nothing exported", "const x = 1;\n", ["application.ts", "export"]],
  ["something else exported", "export default 7;\n", ["application.ts"]],
  ["a throw at its top", 'throw new Error("out of cheese");\n', ["application.ts", "out of cheese"]],
  [
    "a throw while it is built",
    'import { application } from "tammar";\nexport default application("x", () => { throw new Error("no graph"); });\n',
    ["no graph"],
  ],
  ["an import that isn't there", 'import "./gone.ts";\nexport default 1;\n', ["application.ts", "gone"]],
  ["a name that tammar doesn't export", 'import { nope } from "tammar";\nexport default nope;\n', ["nope"]],
];

test("every module that is no application is exit 2 with its path and the reason", async () => {
  await withFolder(async (dir) => {
    const problems: string[] = [];
    for (const [index, [what, text, mentions]] of modules.entries()) {
      const folder = join(dir, `m${index}`);
      mkdirSync(folder);
      writeFileSync(join(folder, "application.ts"), text);
      const module = join(folder, "application.ts");
      const result = await runTammar(["worker", "--application-module", module, ...first, ...out]);
      const shown = `${what}: exit ${result.status}\n${result.output}`;
      if (result.status !== 2) problems.push(`expected exit 2, ${shown}`);
      for (const word of mentions) if (!result.stderr.includes(word)) problems.push(`no ${word} in ${shown}`);
      if (/\n\s+at .*(bunfs|src\/cli)/.test(result.output)) problems.push(`stack trace in ${shown}`);
    }
    assert.deepEqual(problems, []);
  });
});

test("--help is exit 0 and shows the worker's options and the application's", async () => {
  const result = await runTammar([...alerts, "--help"]);
  assert.equal(result.status, 0, result.output);
  for (const option of ["--application-module", "--worker-count", "--resilience-dir", "--rate"]) {
    assert.ok(result.stdout.includes(option), `${option} in:\n${result.stdout}`);
  }
  const program = await runTammar(["--help"]);
  assert.equal(program.status, 0);
  for (const command of ["worker", "shutdown", "store", "query", "send", "receive", "metrics", "links"]) {
    assert.ok(program.stdout.includes(command), `${command} in:\n${program.stdout}`);
  }
});
