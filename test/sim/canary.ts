/**
 * The canary: scenarios that a certain planted bug (`planted/canary.bug`) makes fail for one seed in a hundred, and which seeds
 * those are is known. If they do not fail, nobody would see a rare bug either: from the generator to the exit status, some
 * part of the instrument is dead. The seeds are fixed, so that no run is red by luck.
 *
 * The bug shows on a link on which many payloads are sent. Mostly there are few.
 */
import { INITIALIZER } from "../../src/base/ids.ts";
import { Prng } from "../../src/base/prng.ts";
import { SCENARIO_FORMAT, type Scenario, showSeed } from "../../src/simulation/scenario.ts";
import { execute } from "./execute.ts";

const SEEDS = 300;
const FEW = 60;
const MANY = 1_500;

export function canarySeeds(): bigint[] {
  return Array.from({ length: SEEDS }, (_, i) => BigInt(i + 1));
}

/** Is this one of those that have to fail? */
export function mustFail(seed: bigint): boolean {
  return canaryScenario(seed).messages === MANY;
}

export function canaryScenario(seed: bigint): Scenario {
  const prng = new Prng(seed, "canary");
  return {
    format: SCENARIO_FORMAT,
    name: `canary, seed ${showSeed(seed)}`,
    seed: showSeed(seed),
    workers: 2,
    application: "last_four",
    keys: 20,
    messages: prng.chance(100) ? MANY : FEW,
    senders: [{ worker: INITIALIZER, source: 0, batch: 1, everyMs: 3, startMs: 0 }],
    faults: [
      { at: { ms: Math.round(prng.between(100, 300)) }, do: "cut", worker: "w1", channel: "data" },
      { at: { ms: Math.round(prng.between(200, 400)) }, do: "pause", worker: "w1", ms: 50 },
    ],
    expect: ["O-SEQ", "O-MODEL", "O-LIVE", "O-STAYUP"],
    limitMs: 1_000,
  };
}

/** What a run of all seeds says. */
export interface CanaryReport {
  /** Seeds. */
  readonly failed: readonly string[];
  /** Why, of the first of them. */
  readonly text: string;
  readonly oracle: string;
}

export async function runCanary(): Promise<CanaryReport> {
  const failed: string[] = [];
  let text = "";
  let oracle = "";
  for (const seed of canarySeeds()) {
    const { violations } = await execute(canaryScenario(seed));
    const [first] = violations;
    if (first === undefined) continue;
    failed.push(showSeed(seed));
    if (failed.length > 1) continue;
    text = first.text;
    oracle = first.oracle;
  }
  return { failed, text, oracle };
}
