import assert from "node:assert/strict";
import { test } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { checkpoint, FOLDER, openKeeper, TestFlow } from "./keeper_world.ts";

async function inWorld(run: (runtime: Runtime) => Promise<void>, seed = 1): Promise<void> {
  const world = new VirtualWorld({ seed });
  const host = world.host("machine");
  host.disk.put(`${FOLDER}/LOCK`, "");
  await world.drive(run(host.startProcess(() => {}).runtime));
}

test("StateKeeper restores what was there at each epoch, in the same process and in the next", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    let flow = new TestFlow();
    assert.deepEqual(await keeper.restore(0, flow.dataflow), { body: null, entries: 0 });
    const model = new Map<string, number>();
    const history: Map<string, number>[] = [new Map()];
    for (let epoch = 1; epoch <= 5; epoch++) {
      for (let i = 0; i < 300; i++) {
        const key = `key ${(i * epoch * 7) % 1000}`;
        flow.set(key, epoch * 1000 + i);
        model.set(key, epoch * 1000 + i);
      }
      flow.set("key 0", null);
      model.delete("key 0");
      keeper.freeze(epoch);
      history.push(new Map(model));
      // Records go on: none of this is in the epoch.
      for (let more = true; more; ) {
        more = !keeper.slice(0);
        const key = `key ${Math.floor(runtime.random.next() * 1000)}`;
        flow.set(key, -epoch);
        model.set(key, -epoch);
      }
      await keeper.end(epoch, 1, { at: epoch });
    }
    assert.deepEqual(keeper.facts(), { epochs: [1, 2, 3, 4, 5], written: 5, torn: null });
    flow = new TestFlow();
    assert.deepEqual(await keeper.restore(4, flow.dataflow), {
      body: Object.assign(Object.create(null), { at: 4 }),
      entries: history[4]!.size,
    });
    assert.deepEqual(flow.all(), history[4]);
    flow.set("after", 1);
    await checkpoint(keeper, runtime, 6);
    await keeper.close();

    const again = await openKeeper(runtime);
    assert.deepEqual(again.facts(), { epochs: [1, 2, 3, 4, 6], written: 6, torn: null });
    flow = new TestFlow();
    await again.restore(6, flow.dataflow);
    assert.deepEqual(flow.all(), history[4]!.set("after", 1));
    flow = new TestFlow();
    await again.restore(2, flow.dataflow);
    assert.deepEqual(flow.all(), history[2]);
    flow = new TestFlow();
    await again.restore(0, flow.dataflow);
    assert.deepEqual(flow.all(), new Map());
    assert.deepEqual(again.facts().epochs, []);
    await again.close();
  }));
