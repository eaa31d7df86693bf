/**
 * Planted bugs: does the instrument see what it was built to see? Each is one small change that breaks one thing, made in a
 * copy of the project, on which the simulator then looks for a violation as it does in every run of the tests.
 *
 * A bug is a file `planted/<name>.bug`:
 *
 *     What it breaks, in one sentence.
 *     file: src/store/replace_file.ts
 *     look: crashes
 *     --- old
 *         await file.sync();
 *     --- new
 *     --- end
 *
 * The old lines must be there exactly once. `look` says which part of the tests is to see it: `seeds` (the default: fresh
 * seeds of the commit, in order), `crashes` or `directed` (crash points, scenarios of rare states; in an order of the commit),
 * `canary` (`canary.ts`), or the path of a test. A scenario
 * `planted/<name>.json` beside it, which leads to where the bug is, is run first.
 */
import { spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { showSeed } from "../../src/simulation/scenario.ts";
import { type CanaryReport, canarySeeds, mustFail } from "./canary.ts";
import type { Hunted } from "./hunt.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = fileURLToPath(new URL("./planted/", import.meta.url));
/** What a copy needs. */
const COPIED = ["src", "test", "examples", "mod.ts", "package.json", "tsconfig.json"];
/** Who has said nothing by then hangs. How long a bug is looked for is counted in runs. */
const HUNT_MS = 600_000;

export interface PlantedBug {
  readonly name: string;
  /** What it breaks. */
  readonly breaks: string;
  /** From the root of the project. */
  readonly file: string;
  /** `seeds`, `crashes`, `directed`, `canary`, or the path of a test. */
  readonly look: string;
  readonly before: string;
  readonly after: string;
}

export type Outcome =
  | { readonly kind: "caught"; readonly by: string; readonly where: string; readonly text: string }
  | { readonly kind: "not_caught"; readonly text: string }
  /** The change can't be made, or what it makes does not run: nothing was looked for. */
  | { readonly kind: "broken"; readonly text: string };

/** @throws {Error} The file is none of this form. */
export function parseBug(name: string, text: string): PlantedBug {
  const whole = /^([^\n]+)\nfile: (\S+)\n(?:look: (\S+)\n)?--- old\n([\s\S]*?)--- new\n([\s\S]*?)--- end\n$/.exec(text);
  if (whole === null) {
    throw new Error(
      `planted/${name}.bug: it has a sentence, "file: PATH", "look: PLACE" if it is not seeds, "--- old", "--- new" and "--- end"`,
    );
  }
  const [, breaks, file, look, before, after] = whole as unknown as [
    string,
    string,
    string,
    string | undefined,
    string,
    string,
  ];
  if (before.trim() === "" || before === after) throw new Error(`planted/${name}.bug: it changes nothing`);
  return { name, breaks, file, look: look ?? "seeds", before, after };
}

export function readBugs(): PlantedBug[] {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith(".bug"));
  return files.sort().map((file) => parseBug(file.slice(0, -".bug".length), readFileSync(join(FOLDER, file), "utf8")));
}

/** The scenario that leads to a bug; null: it has none. */
export function scenarioFile({ name }: PlantedBug): string | null {
  const file = join(FOLDER, `${name}.json`);
  return existsSync(file) ? file : null;
}

/** @throws {Error} The old lines are not there exactly once. */
export function applyBug({ name, file, before, after }: PlantedBug, content: string): string {
  const count = content.split(before).length - 1;
  if (count !== 1) {
    throw new Error(
      `planted bug ${name} no longer applies to ${file}: adapt it (its old lines are there ${count} times)`,
    );
  }
  return content.replace(before, () => after);
}

/** Plants the bug in a copy and looks for it. @param first Seed of the first run. */
export async function hunt(bug: PlantedBug, first: string, seeds: number): Promise<Outcome> {
  let changed: string;
  try {
    changed = applyBug(bug, readFileSync(join(ROOT, bug.file), "utf8"));
  } catch (error) {
    return { kind: "broken", text: (error as Error).message };
  }
  const copy = mkdtempSync(join(tmpdir(), "tammar-planted-"));
  try {
    for (const name of COPIED) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
    writeFileSync(join(copy, bug.file), changed);
    if (bug.look === "canary") return await watchCanary(copy);
    return bug.look.startsWith("test/") ? await runTest(copy, bug.look) : await runHunt(copy, bug, first, seeds);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

async function runHunt(copy: string, bug: PlantedBug, first: string, seeds: number): Promise<Outcome> {
  const own = scenarioFile(bug);
  const untilMs = performance.now() + HUNT_MS;
  for (let leftOut = 0; ; ) {
    const words = [bug.look, first, String(seeds), String(leftOut), ...(own === null ? [] : [own])];
    const { output, timedOut } = await runIn(copy, script("--hunt", ...words), untilMs);
    if (timedOut) return { kind: "not_caught", text: `nothing was seen within ${HUNT_MS / 1000} s` };
    const found = /^hunted (.*)$/m.exec(output);
    if (found === null) return { kind: "broken", text: `the copy does not run: ${lastLines(output)}` };
    const { violation, scenario, runs, where } = JSON.parse(found[1]!) as Hunted;
    if (violation === null) return { kind: "not_caught", text: `nothing was seen in ${runs} runs` };
    // What is violated without the bug as well has not seen it.
    const file = join(copy, "seen.json");
    writeFileSync(file, JSON.stringify(scenario));
    const { status } = await runIn(ROOT, script("run", file), untilMs);
    if (status === 0) return { kind: "caught", by: violation.oracle, where, text: violation.text };
    leftOut = runs;
  }
}

/** Exactly those seeds have to fail that are known to. */
async function watchCanary(copy: string): Promise<Outcome> {
  const { output, timedOut } = await runIn(copy, script("--canary"), performance.now() + HUNT_MS);
  const found = /^canary (.*)$/m.exec(output);
  if (timedOut || found === null) return { kind: "broken", text: `the canary does not run: ${lastLines(output)}` };
  const { failed, text, oracle } = JSON.parse(found[1]!) as CanaryReport;
  const expected = canarySeeds().filter(mustFail).map(showSeed);
  const where = `${failed.length} of ${canarySeeds().length} seeds: ${failed.join(" ")}`;
  if (failed.join(" ") === expected.join(" ") && failed.length > 0) return { kind: "caught", by: oracle, where, text };
  return { kind: "not_caught", text: `${expected.join(" ")} are to fail, and these do: ${failed.join(" ") || "none"}` };
}

function script(...words: readonly string[]): string[] {
  const runtime = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  return [...runtime, "test/sim/main.ts", ...words];
}

/** A test that fails has seen it; one that was not run has not. */
async function runTest(copy: string, path: string): Promise<Outcome> {
  const args = "Deno" in globalThis ? ["test", "-A", "--no-check", path] : ["test", `./${path}`, "--timeout=60000"];
  const { output, timedOut, status } = await runIn(copy, args, performance.now() + HUNT_MS);
  if (timedOut) return { kind: "not_caught", text: `${path} did not end within ${HUNT_MS / 1000} s` };
  const failed = /^(?:\(fail\) (.*?)(?: \[[0-9.]+ms\])?|(.*) \.\.\. .*FAILED.*)$/m.exec(output);
  if (failed !== null) return { kind: "caught", by: path, where: "", text: failed[1] ?? failed[2]! };
  if (status === 0) return { kind: "not_caught", text: `${path} passes` };
  return { kind: "broken", text: `${path} does not run: ${lastLines(output)}` };
}

function runIn(
  folder: string,
  args: readonly string[],
  untilMs: number,
): Promise<{ output: string; timedOut: boolean; status: number | null }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    let output = "";
    let timedOut = false;
    const take = (bytes: Buffer): void => {
      output = (output + bytes.toString("utf8")).slice(-100_000);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    const timer = setTimeout(
      () => {
        timedOut = true;
        child.kill("SIGKILL");
      },
      Math.max(0, untilMs - performance.now()),
    );
    child.on("error", (error) => take(Buffer.from(error.message)));
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ output, timedOut, status });
    });
  });
}

function lastLines(output: string): string {
  return output.trimEnd().split("\n").slice(-6).join(" | ");
}
