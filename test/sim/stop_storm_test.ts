// Stops in the middle of everything: whoever is away, slow, dies or comes back, the same command lines bring one cluster back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import { checkScenario, type Fault, type Scenario, workerNames } from "../../src/simulation/scenario.ts";
import { CRASH_POINTS } from "../../src/worker/crash_points.ts";
import { execute } from "./execute.ts";

/** Around the stop, in its own steps, and where a worker begins. */
const POINTS = CRASH_POINTS.filter(
  (point) => /^(stop|leave)\./.test(point) || point === "phase.4" || point === "start.number_saved",
);

function storm(seed: number): Scenario {
  const prng = new Prng(seed, "storm");
  const workers = 2 + prng.int(3);
  const names = workerNames(workers);
  const pick = <T>(values: readonly T[]): T => values[prng.int(values.length)]!;
  const stopMs = 2_000 + prng.int(3_000);
  const faults: Fault[] = [];
  for (let n = prng.int(4); n > 0; n--) faults.push(...disturbance());
  const ask = (): Pick<Fault, "do"> & Record<string, unknown> =>
    prng.chance(2)
      ? { do: "command", worker: pick(names), what: "stop", times: 1 }
      : { do: "signal", worker: pick(names), signal: "SIGTERM" };
  faults.push({ at: { ms: stopMs }, ...ask() } as Fault);
  for (let n = prng.int(3); n > 0; n--) faults.push({ at: { after: "prev", ms: prng.int(3_000) }, ...ask() } as Fault);
  const isEager = prng.chance(3);
  for (const worker of names) {
    if (isEager && prng.chance(2)) faults.push({ at: { after: "prev", ms: prng.int(3_000) }, do: "start", worker });
  }
  const checkpoints = prng.chance(3) ? { application: "generated", checkpointMs: 300 } : { application: "last_four" };
  const sender = { worker: pick(names), source: 0, batch: 2, everyMs: 100, startMs: 500 };
  return checkScenario({
    format: 1,
    name: `storm ${seed}`,
    seed: String(seed),
    workers,
    ...checkpoints,
    keys: 3,
    messages: 60,
    senders: [sender],
    faults,
    expect: ["O-SEQ", "O-MODEL", "O-LIVE", "O-STAYUP"],
    limitMs: 30_000,
  });

  function disturbance(): Fault[] {
    const worker = pick(names);
    const other = pick(names.filter((name) => name !== worker));
    const at = { ms: Math.max(0, stopMs - 3_000 + prng.int(8_000)) };
    const ms = 100 + prng.int(9_000);
    const restart: Fault = { at: { after: "prev", ms: prng.int(4_000) }, do: "start", worker };
    switch (prng.int(9)) {
      case 0:
        return [{ at, do: "kill", worker }, restart];
      case 1:
        return [{ at, do: "partition", a: worker, b: other, way: pick(["both", "forward", "back"]), ms }];
      case 2:
        return [{ at, do: "isolate", worker, ms }];
      case 3:
        return [{ at, do: "pause", worker, ms }];
      case 4:
        return [{ at, do: "disk_stall", worker, ms }];
      case 5:
        return [{ at, do: "latency", a: worker, b: other, minMs: 50, maxMs: 900, ms }];
      case 6:
        return [
          { at: { point: pick(POINTS), worker, n: 1 + prng.int(2) }, do: pick(["kill", "power_loss"]), worker },
          restart,
        ];
      case 7:
        return [{ at, do: "cut", worker, channel: "control" }];
      default:
        return [{ at, do: "disk_full", worker, bytes: prng.int(300), ms }];
    }
  }
}

test("stops in the middle of everything: everybody finds the cluster again, or nobody does", {
  timeout: 300_000,
}, async () => {
  const outcomes = { kept: 0, removed: 0, someRemoved: 0, gaveWay: 0 };
  for (let seed = 1; seed <= 100; seed++) {
    const scenario = storm(seed);
    const { observation, violations } = await execute(scenario);
    assert.deepEqual(violations, [], JSON.stringify(scenario));
    const untilMs = observation.ending!.mendedMs;
    const said = (code: string) =>
      new Set(observation.log.filter((entry) => entry.code === code && entry.timeMs <= untilMs).map((e) => e.worker))
        .size;
    const removed = said("files_removed");
    outcomes[removed === 0 ? "kept" : removed === scenario.workers ? "removed" : "someRemoved"]++;
    if (observation.log.some(({ code }) => code === "cluster_gone")) outcomes.gaveWay++;
  }
  for (const count of Object.values(outcomes)) assert.ok(count >= 1, JSON.stringify(outcomes));
});
