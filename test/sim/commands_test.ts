// The commands of scripts/sim as somebody types them: last lines, exit statuses, sentences about mistakes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const RUN = "Deno" in globalThis ? ["run", "-A", "--no-check", MAIN] : [MAIN];

function sim(folder: string, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...RUN, "--called-from", folder, ...args], {
    encoding: "utf8",
    timeout: 300_000,
  });
  return { status, stdout, stderr, last: stdout.trimEnd().split("\n").at(-1)! };
}

function inFolder(use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "tammar-sim-test-"));
  try {
    use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const STORY = {
  format: 1,
  name: "one worker dies and comes back",
  seed: "1",
  workers: 1,
  application: "last_four",
  keys: 1,
  messages: 1,
  senders: [],
  faults: [{ at: { ms: 500 }, do: "kill", worker: "initializer" }],
  expect: ["O-STAYUP"],
  limitMs: 2_000,
};

test("a mistake in the command line is said in a sentence, and ends with 2", () => {
  inFolder((folder) => {
    writeFileSync(join(folder, "broken.json"), "{");
    writeFileSync(join(folder, "unknown.json"), JSON.stringify({ ...STORY, surprise: 1 }));
    writeFileSync(join(folder, "kept.jsonl"), "kept");
    const mistakes: readonly [readonly string[], RegExp][] = [
      [[], /^scripts\/sim: "" is no command; there is run, /],
      [["jump"], /"jump" is no command/],
      [["run", "--seeds", "none"], /--seeds is none: it is a number from 1/],
      [["run", "--first", "zz"], /--first is zz: a seed is 0x/],
      [["run", "--first", "1", "--from-commit"], /not both/],
      [["run", "--speed", "9"], /--speed is not known here; there is --seeds/],
      [["run", "nowhere.json"], /cannot read nowhere\.json: there is no such file/],
      [["run", "broken.json"], /broken\.json: The scenario is no JSON/],
      [["run", "unknown.json"], /unknown\.json: The scenario's surprise/],
      [["replay"], /give --seed S or one scenario file/],
      [["replay", "--seed", "1", "--trace", "no/where"], /cannot write no\/where/],
      [["replay", "--seed", "1", "--trace", "kept.jsonl", "--until", "soon"], /--until is soon: it is a number from 1/],
      [["replay", "--seed", "1", "--trace", "made.jsonl", "--until", "soon"], /--until is soon/],
      [["shrink", "--seed", "1", "--out", "no/where"], /cannot write no\/where/],
      [["slice", "--junit", "no/where"], /cannot write no\/where/],
      [["planted", "canary", "--junit", "no/where"], /cannot write no\/where/],
      [["show", "broken.json"], /broken\.json is no trace: line 1/],
      [["crashpoints", "all"], /crashpoints takes no "all"/],
      [["directed", "glory"], /no scenario leads to "glory"/],
      [["nloop", "--every", "0"], /--every is 0/],
    ];
    for (const [args, sentence] of mistakes) {
      const { status, stderr, stdout } = sim(folder, ...args);
      assert.match(stderr, sentence, args.join(" "));
      assert.equal(stderr.trimEnd().split("\n").length, 1, `one line for ${args.join(" ")}: ${stderr}`);
      assert.equal(status, 2, `${args.join(" ")}: ${stdout}`);
    }
    assert.equal(readFileSync(join(folder, "kept.jsonl"), "utf8"), "kept");
    assert.deepEqual(readdirSync(folder).sort(), ["broken.json", "kept.jsonl", "unknown.json"]);
  });
});

test("seeds end with the line of totals, and are the same in one process as in two", () => {
  inFolder((folder) => {
    const args = ["run", "--seeds", "2", "--first", "0x4d2", "--no-shrink"];
    const one = sim(folder, ...args, "--jobs", "1");
    assert.match(one.last, /^2 seeds, 0 violations, trace [0-9a-f]{16}$/, one.stdout);
    assert.equal(one.status, 0);
    const two = sim(folder, ...args, "--jobs", "2");
    assert.equal(two.last, one.last);
  });
});

test("a scenario file is run, replayed up to a step, traced and drawn; one that does not fail is not made small", () => {
  inFolder((folder) => {
    writeFileSync(join(folder, "story.json"), JSON.stringify(STORY));
    const run = sim(folder, "run", "story.json");
    assert.match(run.last, /^1 scenarios, 0 violations, trace [0-9a-f]{16}$/);
    const replay = sim(folder, "replay", "story.json", "--trace", "story.jsonl", "--log");
    assert.equal(replay.status, 0);
    assert.match(replay.stdout, /initializer\/0 phase_4: /);
    assert.match(replay.stdout, /500\.000 kill initializer$/m);
    assert.match(replay.last, /^\d+ steps, [0-9.]+ virtual s, 0 violations, trace [0-9a-f]{16}$/);
    const show = sim(folder, "show", "story.jsonl", "--around", "500", "--rows", "20", "--svg", "story.svg");
    assert.equal(show.status, 0);
    assert.match(show.stdout, /FAULT kill initializer/);
    assert.match(readFileSync(join(folder, "story.svg"), "utf8"), /^<svg /);
    const until = sim(folder, "replay", "story.json", "--until", "50");
    assert.match(until.last, /^5\d steps, /);
    const shrink = sim(folder, "shrink", "story.json");
    assert.equal(shrink.status, 1);
    assert.match(shrink.last, /story\.json does not fail: there is nothing to shrink/);
  });
});

test("crash points and rare states are listed", () => {
  inFolder((folder) => {
    const points = sim(folder, "crashpoints", "--list");
    assert.equal(points.status, 0);
    const [, count] = /^(\d+) crash points$/.exec(points.last)!;
    assert.ok(Number(count) >= 40);
    assert.equal(points.stdout.trimEnd().split("\n").length, Number(count) + 1);
    const states = sim(folder, "directed", "--list");
    assert.match(states.last, /^\d+ rare states apply now, of \d+$/);
  });
});
