/** The same scenario file in both worlds: virtual and of real processes. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Observation } from "../../../src/simulation/observation.ts";
import type { RunResult } from "../../../src/simulation/run.ts";
import { parseScenario, type Scenario } from "../../../src/simulation/scenario.ts";
import { notRunHere } from "../../cluster/lib/cluster.ts";
import { root } from "../../cluster/lib/process.ts";
import { execute } from "../execute.ts";
import { descriptorsOf } from "./descriptors.ts";
import { compareWorlds } from "./parity.ts";
import { whyNotReal } from "./real_stage.ts";
import { runTwin } from "./run_twin.ts";

/** Most of the time they wait, so three at a time take a third as long. */
const LANES = 3;

interface Played {
  readonly scenario: Scenario;
  /** Null: it was played. */
  readonly whyNot: string | null;
  readonly worlds: { readonly simulated: RunResult; readonly real: RunResult } | null;
}

const folder = join(root, "test/sim/parity");
const files = readdirSync(folder).sort();
const played = new Map(files.map((file) => [file, Promise.withResolvers<Played>()]));
let begun = false;

function read(file: string): Scenario {
  return parseScenario(readFileSync(join(folder, file), "utf8"));
}

/** Plays all of them, from the first test on. While something is simulated, nothing real may go on in this process. */
async function begin(): Promise<void> {
  if (begun) return;
  begun = true;
  if (descriptorsOf(process.pid, "/") === null)
    notRunHere("what real workers hold open is not counted", "there is no /proc");
  const simulated = new Map<string, RunResult>();
  for (const file of files) simulated.set(file, await execute(read(file)));
  const waiting = [...files];
  const lane = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const { resolve, reject, promise } = played.get(file)!;
      // Who waits for it hears of it when its turn has come.
      promise.catch(() => {});
      await play(read(file), simulated.get(file)!).then(resolve, reject);
    }
  };
  for (let i = 0; i < LANES; i++) void lane();
}

async function play(scenario: Scenario, simulated: RunResult): Promise<Played> {
  const whyNot = whyNotReal(scenario);
  if (whyNot !== null) return { scenario, whyNot, worlds: null };
  return { scenario, whyNot, worlds: { simulated, real: await runTwin(scenario) } };
}

test("a line that one world lacks, another status, or another verdict is a difference", async () => {
  const scenario = read("fault_free_two_hops.json");
  const result = await execute(scenario);
  const changed = async (change: (again: RunResult) => void): Promise<readonly string[]> => {
    const again = await execute(scenario);
    change(again);
    return compareWorlds(scenario, result, again).differences;
  };
  assert.deepEqual(await changed(() => {}), []);
  const noLine = await changed(({ observation }) => void observation.connections[0]!.lines.splice(3, 1));
  assert.match(noLine.join(), /^key \S+: line \d+ is "/);
  const left = await changed(({ observation }) => {
    Object.assign(observation.processes[1]!, { endedMs: 1, cause: "exit", status: 12, errorCode: "files_damaged" });
  });
  assert.match(left.join(), /left by themselves: simulated none, real w1: exit 12 files_damaged/);
  const violated = await changed((again) => {
    Object.assign(again, { violations: [{ oracle: "O-SEQ", timeMs: 0, text: "" }] });
  });
  assert.deepEqual(violated, ["oracles violated: simulated none, real O-SEQ"]);
  const refused = await changed(({ observation }) => {
    const digest = { exact: "", cluster: null };
    const [startedMs, endedMs] = [1, 2];
    const errors = { errorCode: "resilience_in_use", errorText: null, errorLines: 0 };
    const saved = { wantsFolder: true, savedBefore: digest, savedAfter: digest };
    observation.newcomers.push({ name: "w1", startedMs, endedMs, status: 12, phase: 0, ...errors, ...saved });
  });
  assert.deepEqual(refused, ["newcomers that left: simulated none, real w1: 12 resilience_in_use"]);
});

function tellAll({ log, faults, processes }: Observation): string {
  const events = [
    ...log.map(({ timeMs, worker, process, code, text }) => ({
      timeMs,
      text: `${worker}/${process} ${code}: ${text}`,
    })),
    ...faults.map(({ timeMs, kind, effect }) => ({ timeMs, text: `FAULT ${kind} ${effect || "(no effect)"}` })),
    ...processes
      .filter(({ endedMs }) => endedMs !== null)
      .map(({ endedMs, worker, number, cause, status, errorText }) => ({
        timeMs: endedMs!,
        text: `${worker}/${number} ENDED ${cause} ${status ?? ""} ${errorText ?? ""}`,
      })),
  ];
  return events
    .sort((a, b) => a.timeMs - b.timeMs)
    .map(({ timeMs, text }) => `${Math.round(timeMs)} ms ${text}`)
    .join("\n");
}

for (const file of files) {
  test(`${file}: ${read(file).name}`, async () => {
    await begin();
    const { scenario, whyNot, worlds } = await played.get(file)!.promise;
    if (worlds === null) return notRunHere(`test/sim/parity/${file} with real processes`, whyNot ?? "");
    const { simulated, real } = worlds;
    const { differences, keys, keysCompared } = compareWorlds(scenario, simulated, real);
    if (differences.length > 0 || real.violations.length > 0) console.log(tellAll(real.observation));
    assert.deepEqual([...differences, ...simulated.violations, ...real.violations], []);
    assert.ok(keysCompared > 0, "some output is determined");
    const hit = real.observation.faults.filter(({ effect }) => effect !== "").map(({ index }) => index);
    assert.deepEqual(
      [...hit].sort((a, b) => a - b),
      scenario.faults.map((_, index) => index),
      "every fault had an effect on the real processes",
    );
    const armed = scenario.faults.filter((fault) => fault.do === "fail_call").length;
    for (const { observation } of [simulated, real]) {
      const failed = [...observation.reached].filter(([name]) => /^net\..*_failed$/.test(name));
      assert.equal(
        failed.reduce((sum, [, count]) => sum + count, 0),
        armed,
        "every call that was to fail did",
      );
    }
    if (scenario.faults.length === 0) assert.equal(keysCompared, keys, "without faults all output is determined");
  });
}
