// What `tammar store list`, `show` and `verify` tell of checkpoints that state keepers wrote.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../../src/base/errors.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { DecisionFile } from "../../src/store/decision_file.ts";
import { damagedFiles, inspectStore } from "../../src/store/inspect.ts";
import { renderList, renderVerify } from "../../src/store/render.ts";
import { readStage, type StageQuestion } from "../../src/store/stage_content.ts";
import { encodeRecord, RECORD } from "../../src/store/state_log/segment_format.ts";
import { openStore } from "../../src/store/store.ts";
import { jsonOfValue } from "../../src/store/value_json.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { checkpoint, openKeeper, TestFlow } from "../worker/keeper_world.ts";
import { aSavedCluster } from "./records.ts";

const DIRECTORY = "/r";
const saved = aSavedCluster();

/** A cluster's folders on one machine: of the initializer and of worker w1, each with checkpoints 1 to 3. */
async function twoWorkers() {
  const world = new VirtualWorld({ seed: 7 });
  const host = world.host("machine");
  const { runtime } = host.startProcess(() => {});
  const folders: string[] = [];
  const fill = async () => {
    for (const [worker, role, prefix] of [
      ["initializer", "initializer", "a"],
      ["worker1", "worker", "b"],
    ] as const) {
      const { disk, clock } = runtime;
      const where = { directory: DIRECTORY, application: saved.application, worker };
      const store = await openStore({ disk, clock, pid: runtime.host.pid, ...where });
      await store.save({ ...saved, worker, role });
      folders.push(store.folder);
      const keeper = await openKeeper(runtime, { folder: store.folder, clusterId: saved.clusterId, worker });
      const flow = new TestFlow([{ id: "words/count/all" }, { id: "words/empty" }]);
      await keeper.restore(0, flow.dataflow);
      for (let epoch = 1; epoch <= 3; epoch++) {
        for (let i = 0; i < 20; i++) flow.set(`${prefix}${i}`, epoch * 100 + i);
        if (epoch === 3) flow.set(`${prefix}0`, null);
        await checkpoint(keeper, runtime, epoch);
      }
      await keeper.close();
      await store.close();
      if (role === "initializer") {
        const decision = { epoch: 2, used: 3, generation: 1 };
        await new DecisionFile(disk, store.folder, saved.clusterId, null).write(decision);
      }
    }
  };
  await world.drive(fill());
  const look = () => world.drive(inspectStore(runtime.disk, DIRECTORY));
  const read = async (question: Partial<StageQuestion>) => {
    const asked = { stage: "words/count/all", key: null, epoch: null, ...question };
    return await world.drive(readStage(runtime.disk, await look(), asked));
  };
  return { world, host, runtime, folders, look, read };
}

test("list tells the checkpoints of a cluster, which one exists, and who lacks one", async () => {
  const { world, runtime, folders, look } = await twoWorkers();
  const text = renderList(await look(), runtime.clock.wallMs());
  assert.match(
    text,
    /^"Alerts \(stateful\)", cluster [0-9a-f]{32}, 2 workers\n {2}checkpoint 1 of generation 1; .*; older\n/,
  );
  assert.match(
    text,
    /\n {2}checkpoint 2 of generation 1; \d+ s ago \(.*\); 40 keys, about \d+ bytes; the one that exists\n/,
  );
  assert.match(text, /\n {2}checkpoint 3 of generation 1; .*; 38 keys, about \d+ bytes; not decided\n$/);
  const report = await look();
  const workers = report.workers.map((worker) =>
    worker.worker === "worker1" ? { ...worker, checkpoints: worker.checkpoints!.slice(0, 2) } : worker,
  );
  assert.match(renderList({ ...report, workers }, 0), /checkpoint 3 .*; not decided; not in worker1\n$/);
  const alone = await world.drive(inspectStore(runtime.disk, folders[1]!));
  assert.match(
    renderList(alone, runtime.clock.wallMs()),
    /2 workers \(here 1: worker1\)\n(?:.*\n)*.*19 keys, about \d+ bytes\n$/,
  );
  assert.equal(renderList({ ...alone, workers: [] }, 0), `no checkpoints in ${folders[1]}\n`);
});

test("show gives the states of a stage in the checkpoint that exists, or in another, of all keys or of one", async () => {
  const { read } = await twoWorkers();
  const all = await read({});
  assert.equal(all.length, 40);
  assert.ok(all.every(({ epoch }) => epoch === 2));
  const one = await read({ key: "b7" });
  assert.deepEqual(one, [{ worker: "worker1", epoch: 2, key: "b7", value: { n: 207 } }]);
  assert.deepEqual(await read({ key: "a0", epoch: 1 }), [
    { worker: "initializer", epoch: 1, key: "a0", value: { n: 100 } },
  ]);
  // Removed by then.
  assert.deepEqual(await read({ key: "a0", epoch: 3 }), []);
  assert.deepEqual(await read({ key: "nobody" }), []);
  assert.deepEqual(await read({ stage: "words/empty" }), []);
  await assert.rejects(read({ stage: "words/cuont" }), (error) => {
    assert.ok(error instanceof ConfigError && error.code === "stage_unknown");
    assert.match(error.message, /"words\/cuont".* are "words\/count\/all", "words\/empty"$/);
    return true;
  });
  await assert.rejects(read({ epoch: 9 }), (error) => {
    assert.ok(error instanceof ConfigError && error.code === "checkpoint_unknown");
    assert.match(error.message, /checkpoint 9 of \/r: those there are: 1, 2, 3; see list/);
    return true;
  });
});

test("verify reads what is in a checkpoint too, and finds what makes no sense though its checksum is right", async () => {
  const { world, host, runtime, folders } = await twoWorkers();
  const verify = () => world.drive(inspectStore(runtime.disk, DIRECTORY, "contents"));
  const fine = await verify();
  assert.equal(damagedFiles(fine), 0);
  const path = `${folders[0]}/state/segment-0000000000000001`;
  const bytes = host.disk.peek(path)!;
  const { length } = bytes;
  // One more record in front of a copy of the last end.
  const out = new ByteWriter();
  out.bytes(bytes);
  const lastEnd = lastRecordAt(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const sequence = Number(view.getBigUint64(lastEnd + 12)) + 1;
  const fields = { sequence, epoch: 4, securedSequence: 0 };
  encodeRecord(out, { ...fields, kind: RECORD.entries }, (body) => body.bytes(Uint8Array.of(0, 1, 0, 0, 0, 9, 9)));
  const endBody = bytes.slice(lastEnd + 40);
  encodeRecord(out, { ...fields, sequence: sequence + 1, kind: RECORD.end }, (body) => body.bytes(endBody));
  host.disk.put(path, out.take());
  // The records themselves are whole.
  assert.equal(damagedFiles(await world.drive(inspectStore(runtime.disk, DIRECTORY))), 0);
  const report = await verify();
  assert.equal(damagedFiles(report), 1);
  assert.match(renderVerify(report), new RegExp(`damaged at offset ${length}: a record makes no sense`));
});

function lastRecordAt(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = bytes.length - 40; ; at--) if (view.getUint32(at) === 0x544d5352) return at;
}

test("states are shown as JSON, and what JSON lacks as an object that says what it is", () => {
  const value = {
    n: 1.5,
    big: 2n ** 70n,
    nothing: undefined,
    nan: Number.NaN,
    minus: -0,
    at: new Date(0),
    map: new Map([["a", 1n]]),
    set: new Set(["x"]),
    bytes: Uint8Array.of(1, 2),
    list: [null, true, "text"],
    ["__proto__"]: 1,
  };
  const json = JSON.stringify(jsonOfValue(value));
  assert.equal(
    json,
    '{"n":1.5,"big":{"$bigint":"1180591620717411303424"},"nothing":{"$undefined":true},"nan":{"$number":"NaN"},' +
      '"minus":{"$number":"-0"},"at":{"$date":"1970-01-01T00:00:00.000Z"},"map":{"$map":[["a",{"$bigint":"1"}]]},' +
      '"set":{"$set":["x"]},"bytes":{"$Uint8Array":[1,2]},"list":[null,true,"text"],"__proto__":1}',
  );
});
