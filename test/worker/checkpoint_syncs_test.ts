/** What a checkpoint makes durable one by one, in whole clusters: a sync is what it waits for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { INITIALIZER } from "../../src/base/ids.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

test("a checkpoint costs each worker one sync, and the initializer two more for its decision", async () => {
  const cluster = new VirtualCluster({
    seed: 71,
    workers: 3,
    config: { checkpoints: { ...NO_CHECKPOINTS, intervalMs: 100 } },
  });
  cluster.startAll();
  assert.ok(await cluster.working());
  const records = Array.from({ length: 4_000 }, (_, i) => `k${i % 50} ${i}`);
  cluster.send("w1", records);
  // The first checkpoints begin segments, whose names have to be durable too.
  await cluster.world.runFor(1_000);
  const syncs = new Map<string, number>();
  let decisions = 0;
  for (const [name, { disk }] of cluster.machines) {
    disk.fault = (operation, path) => {
      if (operation.startsWith("sync")) syncs.set(name, (syncs.get(name) ?? 0) + 1);
      if (operation === "rename" && path.includes("decision")) decisions++;
      return null;
    };
  }
  await cluster.world.runFor(3_000);
  assert.ok(decisions >= 15, `${decisions} checkpoints in 3 s`);
  console.log(`${decisions} checkpoints; syncs: ${[...syncs].map(([name, count]) => `${name} ${count}`).join(", ")}`);
  for (const [name, count] of syncs) {
    const most = name === INITIALIZER ? 3 : 1;
    // One that is under way at either end of the count.
    assert.ok(count <= most * (decisions + 1), `${name}: ${count} syncs for ${decisions} checkpoints`);
    assert.ok(count >= most * (decisions - 1), `${name}: only ${count} syncs for ${decisions} checkpoints`);
  }
});
