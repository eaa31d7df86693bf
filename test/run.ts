/**
 * Runs the tests and adds up what the runners themselves report (`scripts/test` calls this).
 *
 * Every test file is a process of its own: one that crashes, hangs or never runs a test is counted as failed and takes
 * nothing else with it. Totals come from the JUnit report that each runner writes at its end; a missing report, an exit
 * status other than 0 without a failed test, and a report without tests are failures too.
 *
 * A test that can't run on this machine prints a line beginning with `not run here:`; these lines are repeated at the end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const bun = join(root, "node_modules/.bin/bun");
const deno = join(root, "node_modules/.bin/deno");
const startedAt = Date.now();
/** The whole run ends by then, whatever hangs: what has not run by then has failed. A slow machine is no failure. */
const runMs = 85 * 60_000;
const unitFileMs = 8 * 60_000;
const clusterFileMs = 10 * 60_000;
const simulatorMs = 40 * 60_000;
const plantedMs = 40 * 60_000;

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];
const notRunHere: string[] = [];
/** What the simulator says at its end, for the end of everything. */
let figures = "";
const children = new Set<ChildProcess>();
const reports = mkdtempSync(join(tmpdir(), "tammar-test-"));

/** Synchronous, so that the last line is out before the process ends. */
function say(line: string): void {
  writeSync(1, `${line}\n`);
}

function end(): never {
  rmSync(reports, { recursive: true, force: true });
  for (const line of new Set(notRunHere)) say(line);
  if (figures !== "") say(figures);
  if (totals.skipped > 0) say(`${totals.skipped} skipped`);
  for (const failure of failures) say(`failed: ${failure}`);
  say(`took ${Math.round((Date.now() - startedAt) / 1_000)} s`);
  say(`${totals.passed} passed, ${totals.failed} failed`);
  process.exit(totals.failed === 0 ? 0 : 1);
}

/** Each child leads a process group, so that what it started goes with it. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended in the meantime.
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    for (const child of children) killGroup(child);
    totals.failed += 1;
    failures.push(`stopped by ${signal}`);
    end();
  });
}

interface Run {
  readonly status: number | null;
  readonly output: string;
  readonly timedOut: boolean;
  readonly seconds: string;
}

function run(
  file: string,
  args: readonly string[],
  limitMs: number,
  options: { env?: Record<string, string>; show?: boolean } = {},
): Promise<Run> {
  return new Promise((done) => {
    const began = Date.now();
    const child = spawn(file, args, {
      cwd: root,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", ...options.env },
    });
    children.add(child);
    let output = "";
    let timedOut = false;
    const take = (bytes: Buffer): void => {
      const text = bytes.toString("utf8");
      if (options.show === true) writeSync(1, text);
      output = (output + text).slice(-400_000);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    const timer = setTimeout(
      () => {
        timedOut = true;
        killGroup(child);
      },
      Math.max(0, Math.min(limitMs, startedAt + runMs - Date.now())),
    );
    const finish = (status: number | null): void => {
      clearTimeout(timer);
      killGroup(child);
      children.delete(child);
      done({ status, output, timedOut, seconds: ((Date.now() - began) / 1_000).toFixed(1) });
    };
    child.on("error", (error) => {
      output += `${file}: ${error.message}\n`;
      finish(null);
    });
    child.on("exit", (status) => {
      // Output may still be on its way; a grandchild that holds the pipe must not hold the run.
      const wait = setTimeout(() => finish(status), 1_000);
      child.on("close", () => {
        clearTimeout(wait);
        finish(status);
      });
    });
  });
}

/** Adds up one JUnit report: `<testcase>` with `<failure>` or `<error>`, with `<skipped>`, or with neither. */
function readReport(path: string): Totals | null {
  if (!existsSync(path)) return null;
  const text = readFileSync(path, "utf8");
  const found: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const [, body] of text.matchAll(/<testcase\b[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    if (body !== undefined && /<(failure|error)\b/.test(body)) found.failed += 1;
    else if (body !== undefined && /<skipped\b/.test(body)) found.skipped += 1;
    else found.passed += 1;
  }
  return found;
}

type RunnerName = "bun" | "deno";
let reportCount = 0;

async function runTestFile(
  runner: RunnerName,
  path: string,
  limitMs: number,
  options: { label?: string; env?: Record<string, string> } = {},
): Promise<void> {
  reportCount += 1;
  const report = join(reports, `${reportCount}.xml`);
  const result =
    runner === "bun"
      ? await run(
          bun,
          ["test", `./${path}`, "--timeout=300000", "--reporter=junit", `--reporter-outfile=${report}`],
          limitMs,
          options,
        )
      : await run(deno, ["test", "-A", "--no-check", `--junit-path=${report}`, path], limitMs, options);
  const found = readReport(report) ?? { passed: 0, failed: 0, skipped: 0 };
  let why = "";
  if (result.timedOut) why = `did not end within ${Math.round(limitMs / 1_000)} s`;
  else if (!existsSync(report)) why = `crashed, exit status ${result.status}`;
  else if (result.status !== 0 && found.failed === 0) why = `exit status ${result.status} without a failed test`;
  else if (found.passed + found.failed + found.skipped === 0) why = "contains no test";
  if (why !== "") found.failed += 1;
  for (const line of result.output.match(/^not run here:.*$/gm) ?? []) notRunHere.push(line);
  const label = options.label ?? runner;
  const bad = found.failed > 0 ? `, ${found.failed} FAILED${why === "" ? "" : ` (${why})`}` : "";
  const skipped = found.skipped > 0 ? `, ${found.skipped} skipped` : "";
  say(`${label.padEnd(5)} ${path}: ${found.passed} passed${skipped}${bad} (${result.seconds} s)`);
  if (found.failed > 0) {
    failures.push(`${path} on ${label}${why === "" ? "" : `: ${why}`}`);
    say(indent(result.output));
  }
  totals.passed += found.passed;
  totals.failed += found.failed;
  totals.skipped += found.skipped;
}

function indent(output: string): string {
  return output
    .trimEnd()
    .split("\n")
    .slice(-250)
    .map((line) => `      ${line}`)
    .join("\n");
}

/** One command that is one test: it passes when it exits with 0. */
async function runCommand(title: string, args: readonly string[], limitMs: number, show: boolean): Promise<boolean> {
  say(`${title} ...`);
  const result = await run(args[0] as string, args.slice(1), limitMs, { show });
  const ok = result.status === 0 && !result.timedOut;
  for (const line of result.output.match(/^not run here:.*$/gm) ?? []) notRunHere.push(line);
  if (ok) {
    totals.passed += 1;
  } else {
    totals.failed += 1;
    const why = result.timedOut ? "did not end in time" : `exit status ${result.status}`;
    failures.push(`${title}: ${why}`);
    if (!show) say(indent(result.output));
  }
  say(`${title}: ${ok ? "passed" : "FAILED"} (${result.seconds} s)`);
  return ok;
}

/** The simulator: each of its figures is a test. What each part of it does is shown as it goes. */
async function runSimulator(quick: boolean): Promise<void> {
  const what = quick ? "a short slice" : "seeds of this commit, crash points, rare states, failing calls, determinism";
  say(`simulator: ${what}`);
  const output = await runFigures(
    "simulator",
    ["slice", ...(quick ? ["--quick"] : [])],
    quick ? unitFileMs : simulatorMs,
  );
  figures = /^the simulator's figures:\n(?: {2}.*\n)*/m.exec(output)?.[0].trimEnd() ?? "";
}

/** Whether the simulator sees bugs: each of them is a test. */
async function runPlanted(): Promise<void> {
  say("planted bugs: each in a copy of the project, where the simulator has to see it");
  await runFigures("planted bugs", ["planted"], plantedMs);
}

/** A command of scripts/sim that writes a report. @returns What it said. */
async function runFigures(title: string, args: readonly string[], limitMs: number): Promise<string> {
  const report = join(reports, `${title}.xml`);
  const result = await run(join(root, "scripts/sim"), [...args, "--junit", report], limitMs, { show: true });
  const found = readReport(report) ?? { passed: 0, failed: 0, skipped: 0 };
  let why = "";
  if (result.timedOut) why = `did not end within ${Math.round(limitMs / 1_000)} s`;
  else if (!existsSync(report)) why = `crashed, exit status ${result.status}`;
  else if (result.status !== 0 && found.failed === 0) why = `exit status ${result.status} without a red figure`;
  if (why !== "") found.failed += 1;
  if (found.failed > 0) failures.push(`${title}${why === "" ? "" : `: ${why}`}`);
  totals.passed += found.passed;
  totals.failed += found.failed;
  say(`${title}: ${found.passed} passed, ${found.failed} failed (${result.seconds} s)`);
  return result.output;
}

/** Runs `work` on every item, `width` at a time. */
async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const lane = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

function findTests(path: string): string[] {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (!statSync(full).isDirectory()) return [path];
  return readdirSync(full, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith("_test.ts"))
    .map((name) => join(path, name))
    .sort();
}

const isTwin = (path: string): boolean => path.startsWith("test/sim/twin/");
const isCluster = (path: string): boolean => path.startsWith("test/cluster/") || isTwin(path);

const args = process.argv.slice(2);
let calledFrom = root;
let quick = false;
const named: string[] = [];
for (let arg = args.shift(); arg !== undefined; arg = args.shift()) {
  if (arg === "--called-from") calledFrom = args.shift() ?? root;
  else if (arg === "--quick") quick = true;
  else if (arg.startsWith("-")) {
    say(`scripts/test: unknown option ${arg}; it takes --quick, or the paths of tests`);
    process.exit(2);
  } else named.push(arg);
}

let files: string[] = [];
if (named.length > 0) {
  for (const name of named) {
    const fromThere = relative(root, resolve(calledFrom, name));
    const found = findTests(existsSync(join(root, fromThere)) ? fromThere : name);
    if (found.length === 0) {
      say(`scripts/test: ${name} is no test file and no folder with tests`);
      process.exit(2);
    }
    files.push(...found);
  }
} else {
  files = findTests("test");
}

if (named.length === 0) await runCommand("scripts/check", ["scripts/check"], 300_000, false);

const width = Math.max(1, Math.min(4, availableParallelism()));
const units = files.filter((path) => !isCluster(path));
for (const runner of ["bun", "deno"] as const) {
  if (units.length > 0) say(`units on ${runner === "bun" ? "Bun" : "Deno"}: ${units.length} files`);
  await inParallel(units, width, (path) => runTestFile(runner, path, unitFileMs));
}

const clusters = quick ? [] : files.filter(isCluster);
if (clusters.length > 0) {
  let built = await runCommand("scripts/build", ["scripts/build"], 300_000, false);
  if (clusters.some(isTwin)) {
    built =
      (await runCommand("scripts/build --failpoints", ["scripts/build", "--failpoints"], 300_000, false)) && built;
  }
  if (built) {
    say(`clusters of real processes: ${clusters.length} files`);
    for (const path of clusters) await runTestFile("bun", path, clusterFileMs, { label: "real" });
  } else {
    say("clusters of real processes: not run, there is no binary");
  }
  // The same test that the binary passed, from the first start to the clean shutdown, on the other runtime.
  const underDeno = "test/cluster/start_to_shutdown_test.ts";
  if (clusters.includes(underDeno)) {
    await runTestFile("bun", underDeno, clusterFileMs, {
      label: "deno",
      env: { TAMMAR_TEST_COMMAND: JSON.stringify([deno, "run", "-A", join(root, "src/cli/main_deno.ts")]) },
    });
  }
}

if (named.length === 0) await runSimulator(quick);
if (named.length === 0 && !quick) await runPlanted();
end();
