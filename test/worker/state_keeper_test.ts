import assert from "node:assert/strict";
import { test } from "node:test";
import type { StateCodec } from "../../src/api/graph.ts";
import { ResilienceError } from "../../src/base/errors.ts";
import { hashKey } from "../../src/plan/key_groups.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { inspectState } from "../../src/store/state_log/inspect_state.ts";
import { ValueError } from "../../src/wire/values.ts";
import { type Counter, checkpoint, FOLDER, openKeeper, type StageOptions, TestFlow, writeAll } from "./keeper_world.ts";

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

test("A checkpoint says how many keys it has: as many as there were at the cut, whatever comes while it is written", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    const flow = new TestFlow();
    await keeper.restore(0, flow.dataflow);
    for (let i = 0; i < 100; i++) flow.set(`key ${i}`, i);
    keeper.freeze(1);
    for (let i = 100; i < 300; i++) flow.set(`key ${i}`, i);
    await writeAll(keeper, runtime);
    await keeper.end(1, 1, {});
    await keeper.close();
    const { checkpoints } = await inspectState(runtime.disk, `${FOLDER}/state`);
    assert.deepEqual(
      checkpoints!.map(({ stages }) => stages.map(({ keys }) => keys)),
      [[100]],
    );
  }));

test("StateKeeper migrates states of another version, and after one more checkpoint none of them is left", () =>
  inWorld(async (runtime) => {
    const first = await openKeeper(runtime);
    let flow = new TestFlow();
    await first.restore(0, flow.dataflow);
    for (let i = 0; i < 50; i++) flow.set(`key ${i}`, i);
    await checkpoint(first, runtime, 1);
    await first.close();

    const refusing = await openKeeper(runtime);
    await assert.rejects(refusing.restore(1, new TestFlow([{ id: "p/count", version: 2 }]).dataflow), (error) => {
      assert(error instanceof ResilienceError);
      assert.equal(error.code, "state_version_differs");
      assert.match(error.message, /states of version 1 of stage "p\/count".*version 2 without migrate\(\)/);
      return true;
    });
    await refusing.close();

    const migrate = (state: object, from: number) => ({ n: (state as { n: number }).n * 10 + from });
    const keeper = await openKeeper(runtime);
    flow = new TestFlow([{ id: "p/count", version: 2, migrate }]);
    await keeper.restore(1, flow.dataflow);
    assert.equal(flow.all().get("key 7"), 71);
    await checkpoint(keeper, runtime, 2);
    keeper.completed(2);
    await keeper.close();

    // Without migrate() now: nothing of version 1 is needed any more.
    const last = await openKeeper(runtime);
    flow = new TestFlow([{ id: "p/count", version: 2 }]);
    await last.restore(2, flow.dataflow);
    assert.equal(flow.all().get("key 7"), 71);
    assert.equal(flow.all().size, 50);
    await last.close();
  }));

test("StateKeeper says which key could not be migrated", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    const flow = new TestFlow();
    await keeper.restore(0, flow.dataflow);
    flow.set("a", 1);
    await checkpoint(keeper, runtime, 1);
    for (const migrate of [
      () => {
        throw new Error("no field n");
      },
      () => undefined as unknown as object,
    ]) {
      await assert.rejects(
        keeper.restore(1, new TestFlow([{ id: "p/count", version: 3, migrate }]).dataflow),
        (error) => {
          assert(error instanceof ResilienceError);
          assert.match(error.message, /key "a" in stage "p\/count": its migrate\(\) from version 1 to 3 failed: /);
          return true;
        },
      );
    }
    assert.deepEqual(keeper.facts().epochs, [1]);
    await keeper.close();
  }));

/** A state that is no plain data. */
class Tally implements Counter {
  #n: number;
  constructor(n: number) {
    this.#n = n;
  }
  get n(): number {
    return this.#n;
  }
  set n(n: number) {
    this.#n = n;
  }
}

/** Always in the same bytes. */
function tallyCodec(): StateCodec<Counter> {
  const scratch = new Uint8Array(5);
  return {
    encode({ n }) {
      new DataView(scratch.buffer).setUint32(1, n);
      return scratch;
    },
    decode: (bytes) => new Tally(new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(1)),
  };
}

const TALLIES = { id: "p/count", codec: tallyCodec() };

test("A stage's own codec writes and reads its states, also as they were at the cut", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    const flow = new TestFlow([TALLIES]);
    flow.make = (n) => new Tally(n);
    await keeper.restore(0, flow.dataflow);
    for (let i = 0; i < 20; i++) flow.set(`key ${i}`, i);
    const atCut = flow.all();
    keeper.freeze(1);
    for (let i = 0; i < 20; i += 2) flow.set(`key ${i}`, 1_000 + i);
    await writeAll(keeper, runtime);
    await keeper.end(1, 1, {});
    await checkpoint(keeper, runtime, 2);
    const later = flow.all();
    await keeper.close();

    const again = await openKeeper(runtime);
    for (const [epoch, all] of [
      [2, later],
      [1, atCut],
    ] as const) {
      const restored = new TestFlow([TALLIES]);
      await again.restore(epoch, restored.dataflow);
      assert.deepEqual(restored.all(), all);
      const key = "key 3";
      assert.ok(restored.states[0]!.peek(hashKey(key), key) instanceof Tally);
    }
    await again.close();
  }));

test("States of a codec are not taken for plain data, nor the other way round, and migrate() is given their bytes", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    const flow = new TestFlow([TALLIES]);
    await keeper.restore(0, flow.dataflow);
    flow.set("a", 7);
    await checkpoint(keeper, runtime, 1);
    const refused = async (stage: StageOptions, code: string, words: RegExp): Promise<void> => {
      await assert.rejects(keeper.restore(1, new TestFlow([stage]).dataflow), (error) => {
        assert(error instanceof ResilienceError);
        assert.equal(error.code, code);
        assert.match(error.message, words);
        return true;
      });
    };
    const id = "p/count";
    await refused({ id }, "state_codec_differs", /states that a codec wrote of stage "p\/count".*has no codec/);
    const broken = {
      ...TALLIES.codec,
      decode: () => {
        throw new Error("no tally");
      },
    };
    await refused(
      { id, codec: broken },
      "state_codec_failed",
      /key "a" in stage "p\/count".*decode\(\) failed: no tally/,
    );
    const nothing = { ...TALLIES.codec, decode: () => undefined as unknown as Counter };
    await refused({ id, codec: nothing }, "state_codec_failed", /it returned no object/);
    const migrate = (saved: object) => ({ n: (saved as Uint8Array)[4]! * 100 });
    const plain = new TestFlow([{ id, version: 2, migrate }]);
    await keeper.restore(1, plain.dataflow);
    assert.equal(plain.all().get("a"), 700);
    await checkpoint(keeper, runtime, 2);
    const other = { id, version: 2, codec: TALLIES.codec };
    await assert.rejects(keeper.restore(2, new TestFlow([other]).dataflow), /states that are plain data.*has a codec/);
    await keeper.close();
  }));

test("A codec that cannot encode a state fails the epoch with its stage and key; mended, the next has everything", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    const codec = {
      ...TALLIES.codec,
      encode(state: Counter) {
        if (state.n === 13) throw new Error("13 brings bad luck");
        return state.n === 14 ? ([14] as unknown as Uint8Array) : TALLIES.codec.encode(state);
      },
    };
    const flow = new TestFlow([{ id: "p/count", codec }]);
    await keeper.restore(0, flow.dataflow);
    flow.set("good", 1);
    flow.set("bad", 13);
    await assert.rejects(
      checkpoint(keeper, runtime, 1),
      /state of key "bad" in stage "p\/count": the stage's codec\.encode\(\) failed: 13 brings bad luck/,
    );
    flow.set("bad", 14);
    await assert.rejects(checkpoint(keeper, runtime, 2), /failed: it returned no Uint8Array/);
    flow.set("bad", 15);
    await checkpoint(keeper, runtime, 3);
    const restored = new TestFlow([TALLIES]);
    await keeper.restore(3, restored.dataflow);
    assert.deepEqual(
      restored.all(),
      new Map([
        ["good", 1],
        ["bad", 15],
      ]),
    );
    await keeper.close();
  }));

test("StateKeeper refuses state of a stage that is gone, unless its loss is accepted", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    const flow = new TestFlow([{ id: "p/count" }, { id: "p/old" }]);
    await keeper.restore(0, flow.dataflow);
    flow.set("a", 1);
    flow.set("b", 2, 1);
    await checkpoint(keeper, runtime, 1);
    await keeper.close();
    const refusing = await openKeeper(runtime);
    await assert.rejects(
      refusing.restore(1, new TestFlow().dataflow),
      /stage "p\/old".*no stateful stage of that name/,
    );
    await refusing.close();
    const accepting = await openKeeper(runtime, { acceptStateLoss: true });
    const less = new TestFlow();
    await accepting.restore(1, less.dataflow);
    assert.deepEqual(less.all(), new Map([["a", 1]]));
    await checkpoint(accepting, runtime, 2);
    await accepting.close();
    const later = await openKeeper(runtime);
    await later.restore(2, new TestFlow().dataflow);
    await later.close();
  }));

test("A state that is no plain data fails the epoch with its stage, key and path; mended, the next has everything", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    let flow = new TestFlow();
    await keeper.restore(0, flow.dataflow);
    for (let i = 0; i < 700; i++) flow.set(`key ${i}`, i);
    await checkpoint(keeper, runtime, 1);
    for (let i = 0; i < 700; i += 2) flow.set(`key ${i}`, -i);
    flow.set("key 600", (() => {}) as unknown as number);
    await assert.rejects(checkpoint(keeper, runtime, 2), (error) => {
      assert(error instanceof ValueError);
      assert.match(
        error.message,
        /^Cannot store the state of key "key 600" in stage "p\/count": .*\.n.* is a function/,
      );
      return true;
    });
    flow.set("key 600", 6);
    const all = flow.all();
    await checkpoint(keeper, runtime, 3);
    flow = new TestFlow();
    await keeper.restore(3, flow.dataflow);
    assert.deepEqual(flow.all(), all);
    await keeper.close();
  }));

test("After a full disk, the next epoch has what the lost one had", async () => {
  const world = new VirtualWorld({ seed: 4 });
  const host = world.host("machine");
  host.disk.put(`${FOLDER}/LOCK`, "");
  const { runtime } = host.startProcess(() => {});
  const keeper = await world.drive(openKeeper(runtime));
  let flow = new TestFlow();
  await world.drive(keeper.restore(0, flow.dataflow));
  for (let i = 0; i < 300; i++) flow.set(`key ${i}`, i);
  await world.drive(checkpoint(keeper, runtime, 1));
  host.disk.spaceBytes = host.disk.usedBytes() + 100;
  for (let epoch = 2; epoch < 5; epoch++) {
    flow.set(`key ${epoch}`, -epoch);
    flow.set(`key ${100 + epoch}`, null);
    await assert.rejects(world.drive(checkpoint(keeper, runtime, epoch)), (error) => {
      assert.equal((error as { code?: string }).code, "disk_full");
      return true;
    });
  }
  host.disk.spaceBytes = Number.POSITIVE_INFINITY;
  const all = flow.all();
  const { writtenBytes } = await world.drive(checkpoint(keeper, runtime, 5));
  assert.ok(writtenBytes < 1500, `${writtenBytes} bytes: what was lost, and not everything`);
  flow = new TestFlow();
  await world.drive(keeper.restore(5, flow.dataflow));
  assert.deepEqual(flow.all(), all);
});

test("What is there when a dataflow is attached counts as changed", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime);
    let flow = new TestFlow();
    flow.set("a", 1);
    keeper.attach(flow.dataflow);
    await checkpoint(keeper, runtime, 1);
    flow = new TestFlow();
    await keeper.restore(1, flow.dataflow);
    assert.deepEqual(flow.all(), new Map([["a", 1]]));
    await keeper.close();
  }));

test("The folder stays below three times the state and its slack; unchanged state costs the same few bytes", () =>
  inWorld(async (runtime) => {
    const slackBytes = 20_000;
    const keeper = await openKeeper(runtime, { slackBytes, segmentBytes: 4000 });
    const flow = new TestFlow([{ id: "p/count" }], 64);
    await keeper.restore(0, flow.dataflow);
    for (let i = 0; i < 4000; i++) flow.set(`key ${i}`, i);
    let stateBytes = 0;
    let written = 0;
    let most = 0;
    for (let epoch = 1; epoch <= 300; epoch++) {
      const ended = await checkpoint(keeper, runtime, epoch);
      stateBytes = Math.max(stateBytes, ended.stateBytes);
      if (epoch > 1) written += ended.writtenBytes;
      most = Math.max(most, keeper.bytes);
      keeper.completed(epoch);
      await new Promise<void>((resolve) => runtime.clock.startTimer(20, resolve));
      for (let i = 0; i < 100; i++) flow.set(`key ${Math.floor(runtime.random.next() * 4000)}`, epoch);
    }
    const limit = stateBytes * 3 + slackBytes * 1.6;
    assert.ok(most < limit, `${most} bytes with a state of ${stateBytes}`);
    const changed = 300 * 100 * (stateBytes / 4000);
    assert.ok(written < changed * 4, `${written} bytes for about ${changed} of changes`);
    await checkpoint(keeper, runtime, 301);
    const first = await checkpoint(keeper, runtime, 302);
    const second = await checkpoint(keeper, runtime, 303);
    assert.ok(first.writtenBytes < 400 && second.writtenBytes < 400, `${first.writtenBytes}, ${second.writtenBytes}`);
    await keeper.close();
  }));

test("What a first checkpoint that was never finished had written counts for the next, though that begins a new segment", () =>
  inWorld(async (runtime) => {
    const keeper = await openKeeper(runtime, { segmentBytes: 100, sliceKeys: 1 });
    const flow = new TestFlow();
    await keeper.restore(0, flow.dataflow);
    for (let i = 0; i < 20; i++) flow.set(`key ${i}`, i);
    keeper.freeze(1);
    for (let i = 0; i < 10; i++) assert.ok(!keeper.slice(0));
    await checkpoint(keeper, runtime, 2);
    await keeper.close();
    const again = await openKeeper(runtime);
    const found = new TestFlow();
    await again.restore(2, found.dataflow);
    assert.deepEqual(found.all(), flow.all());
    await again.close();
  }));
