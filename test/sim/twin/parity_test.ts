/** The same scenario file in both worlds: virtual and of real processes. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseScenario, type Scenario } from "../../../src/simulation/scenario.ts";
import { notRunHere } from "../../cluster/lib/cluster.ts";
import { root } from "../../cluster/lib/process.ts";
import { execute } from "../execute.ts";
import { compareWorlds } from "./parity.ts";
import { whyNotReal } from "./real_stage.ts";
import { runTwin } from "./run_twin.ts";

const folder = join(root, "test/sim/parity");

for (const file of readdirSync(folder).sort()) {
  const scenario = parseScenario(readFileSync(join(folder, file), "utf8"));
  test(`${file}: ${scenario.name}`, () => bothWorlds(file, scenario));
}

async function bothWorlds(file: string, scenario: Scenario): Promise<void> {
  const why = whyNotReal(scenario);
  if (why !== null) return notRunHere(`test/sim/parity/${file} with real processes`, why);
  const simulated = await execute(scenario);
  const real = await runTwin(scenario);
  const { differences, keys, keysCompared } = compareWorlds(scenario, simulated, real);
  assert.deepEqual(differences, []);
  assert.deepEqual([simulated.violations, real.violations], [[], []]);
  assert.ok(keysCompared > 0, "some output is determined");
  const hit = real.observation.faults.filter(({ effect }) => effect !== "").map(({ index }) => index);
  assert.deepEqual(
    [...hit].sort((a, b) => a - b),
    scenario.faults.map((_, index) => index),
    "every fault had an effect on the real processes",
  );
  if (scenario.faults.length === 0) assert.equal(keysCompared, keys, "without faults all output is determined");
}
