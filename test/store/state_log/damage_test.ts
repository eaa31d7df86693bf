// What was tampered with is right or refused, never another state.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ResilienceError } from "../../../src/base/errors.ts";
import type { VirtualDisk } from "../../../src/runtime/virtual/disk.ts";
import { inspectState } from "../../../src/store/state_log/inspect_state.ts";
import { segmentName } from "../../../src/store/state_log/state_folder.ts";
import { contentOf, epoch, FOLDER, machine, openLog, put, remove } from "./log_world.ts";

type Content = Record<string, unknown>;
type Files = Map<string, Uint8Array>;

interface Sample {
  readonly files: Files;
  /** Of each end. */
  readonly contents: ReadonlyMap<number, Content>;
  /** The files as they were after each end. */
  readonly history: readonly Files[];
}

const about = { base: 1, roundFrom: 0, roundWritten: 0, credit: 0, stages: [] };

function filesOf(disk: VirtualDisk): Files {
  const paths = disk.paths().filter((path) => path.includes("segment-"));
  return new Map(paths.map((path) => [path.slice(FOLDER.length + 1), disk.peek(path)!]));
}

/** Four segments: the last three ends, all in the fourth, do not need the first two. */
async function sample(): Promise<Sample> {
  const { world, host, runtime } = machine(1);
  const log = await world.drive(openLog(runtime, { segmentBytes: 100_000 }));
  const contents = new Map<number, Content>();
  const history: Files[] = [];
  let current: Content = {};
  let base = 1;
  for (let number = 1; number <= 6; number++) {
    log.begin(number, number === 2 || number === 3 || number === 4);
    if (number === 3) base = log.segment;
    const count = number === 3 ? 6 : number === 5 ? 2 : 3;
    put(log, number, count);
    for (let i = 0; i < count; i++) current = { ...current, [`p/count key ${i}`]: number };
    if (number === 2) {
      put(log, 100, 6);
      for (let i = 0; i < 6; i++) current = { ...current, [`p/count key ${i}`]: 100 };
    }
    if (number === 4) {
      remove(log, ["key 5"]);
      const { "p/count key 5": _, ...rest } = current;
      current = rest;
    }
    await world.drive(log.end(1, number === 3 ? 1 : base, { ...about, base }, { number }));
    contents.set(number, current);
    history.push(filesOf(host.disk));
  }
  const numbers = [...contents.keys()];
  assert.deepEqual(
    log.ends.map((end) => end.epoch),
    numbers,
  );
  return { files: filesOf(host.disk), contents, history };
}

/** Opens what `files` are and restores every epoch that is said to be there. Returns them; `null`: refused. */
async function open(files: Files, contents: ReadonlyMap<number, Content>, what: string): Promise<number[] | null> {
  const { world, host, runtime } = machine(1);
  for (const [name, bytes] of files) host.disk.put(`${FOLDER}/${name}`, bytes);
  try {
    const log = await world.drive(openLog(runtime));
    const epochs = log.ends.map((end) => end.epoch);
    // The latest first: each restore cuts away what is behind.
    for (const number of epochs.toReversed()) {
      assert.deepEqual(await world.drive(contentOf(log, number)), contents.get(number), `${what}: epoch ${number}`);
    }
    return epochs;
  } catch (error) {
    assert(error instanceof ResilienceError, `${what}: ${error}`);
    assert.match(
      error.message,
      /^Cannot use \/r\/app\/worker1\/state\/segment-[0-9a-f]{16}: .*Nothing was changed/,
      what,
    );
    assert.deepEqual(filesOf(host.disk), files, `${what}: refused, and something was changed`);
    return null;
  }
}

test("A log with any byte changed is refused, or is what it was up to an earlier epoch", async () => {
  const { files, contents } = await sample();
  const outcomes = new Map<string, number>();
  for (const [name, bytes] of files) {
    for (let at = 0; at < bytes.length; at++) {
      for (const flip of [0x01, 0x80, 0xff]) {
        const changed = new Uint8Array(bytes);
        changed[at]! ^= flip;
        const epochs = await open(new Map(files).set(name, changed), contents, `${name}, byte ${at} ^ ${flip}`);
        const outcome = `${name.slice(-1)}: ${epochs === null ? "refused" : `up to ${epochs.at(-1)}`}`;
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    }
  }
  const names = [...files.keys()].map((name) => name.slice(-1));
  const last = names.at(-1)!;
  // Only the newest segment may lose its tail, and only the last epoch of it: each end says that the one before is durable.
  for (const outcome of outcomes.keys()) {
    const fine = outcome.endsWith("refused") || [`${last}: up to 5`, "1: up to 6", "2: up to 6"].includes(outcome);
    assert.ok(fine, `${outcome}: ${outcomes.get(outcome)} times`);
  }
  assert.ok((outcomes.get(`${last}: refused`) ?? 0) > 500, JSON.stringify([...outcomes]));
  assert.ok((outcomes.get("1: up to 6") ?? 0) > 500, JSON.stringify([...outcomes]));
});

test("A log that is cut short anywhere is refused, or is what it was up to an earlier epoch", async () => {
  const { files, contents } = await sample();
  const names = [...files.keys()];
  for (const [name, bytes] of files) {
    for (let length = 0; length < bytes.length; length++) {
      const epochs = await open(new Map(files).set(name, bytes.slice(0, length)), contents, `${name}, ${length} bytes`);
      if (name === names[2]) assert.equal(epochs, null, `${name}, ${length} bytes`);
    }
  }
});

test("A log that lacks any of its files is refused and says which, or is what it was up to an earlier epoch", async () => {
  const { files, contents } = await sample();
  const names = [...files.keys()];
  assert.equal(names.length, 4);
  for (let subset = 0; subset < 2 ** names.length; subset++) {
    const kept = names.filter((_, index) => ((subset >> index) & 1) === 1);
    const what = `only ${kept.join(", ")}`;
    const epochs = await open(new Map(kept.map((name) => [name, files.get(name)!])), contents, what);
    const missing = names.filter((name) => !kept.includes(name));
    if (missing.length === 0) assert.deepEqual(epochs, [1, 2, 3, 4, 5, 6]);
    // The base of the last end is the third file.
    if (missing.length === 1 && names.indexOf(missing[0]!) < 2) assert.deepEqual(epochs, [4, 5, 6], what);
  }
});

test("A log in which files were swapped, doubled or put back from an old copy is refused, or right", async () => {
  const { files, contents, history } = await sample();
  const names = [...files.keys()];
  for (const to of names) {
    for (const from of names) {
      const doubled = new Map(files).set(to, files.get(from)!);
      const epochs = await open(doubled, contents, `${from} in the place of ${to}`);
      if (from !== to) assert.equal(epochs, null);
      await open(doubled.set(from, files.get(to)!), contents, `${from} and ${to} swapped`);
    }
    for (const [index, old] of history.entries()) {
      const bytes = old.get(to);
      if (bytes !== undefined)
        await open(new Map(files).set(to, bytes), contents, `${to} as it was after ${index + 1}`);
    }
  }
});

test("A segment of the same log before a rollback is refused beside those written after it", async () => {
  const { world, host, runtime } = machine(2);
  const log = await world.drive(openLog(runtime, { segmentBytes: 200 }));
  for (let number = 1; number <= 4; number++) await world.drive(epoch(log, number));
  const before = filesOf(host.disk);
  await world.drive(contentOf(log, 2));
  for (let number = 5; number <= 6; number++) await world.drive(epoch(log, number));
  const after = filesOf(host.disk);
  const names = [...after.keys()];
  assert.equal(names.length, 4);
  const mixed = new Map(after).set(names[2]!, before.get(names[2]!)!);
  assert.equal(await open(mixed, new Map(), "the third file is from before the rollback"), null);
  const newest = new Map(after).set(names[3]!, before.get(names[3]!)!);
  assert.equal(await open(newest, new Map(), "the fourth file is from before the rollback"), null);
});

test("A log of another format version is refused as such", async () => {
  const { files } = await sample();
  const { encodeSegmentHeader } = await import("../../../src/store/state_log/segment_format.ts");
  const { crc32c } = await import("../../../src/store/crc32c.ts");
  const header = encodeSegmentHeader({
    clusterId: "0".repeat(32),
    application: "x",
    worker: "y",
    number: 1,
    base: 1,
    previousSequence: 0,
    previousChecksum: 0,
  });
  header[5] = 2;
  new DataView(header.buffer).setUint32(12, crc32c(header.subarray(16), crc32c(header.subarray(0, 12))));
  const { world, host, runtime } = machine(1);
  for (const [name, bytes] of files) host.disk.put(`${FOLDER}/${name}`, bytes);
  host.disk.put(`${FOLDER}/${segmentName(files.size)}`, header);
  await assert.rejects(world.drive(openLog(runtime)), (error) => {
    assert(error instanceof ResilienceError);
    assert.equal(error.code, "resilience_version");
    assert.match(error.message, /it has format version 2, and this tammar reads version 1/);
    return true;
  });
});

test("A segment that cannot be read is refused with its file, at the start and at a rollback", async () => {
  const { files } = await sample();
  const { world, host, runtime } = machine(1);
  for (const [name, bytes] of files) host.disk.put(`${FOLDER}/${name}`, bytes);
  const bad = [...files.keys()].at(-2)!;
  let isBad = false;
  host.disk.fault = (operation, path) => (isBad && operation === "read" && path.endsWith(bad) ? "io" : null);
  const log = await world.drive(openLog(runtime));
  isBad = true;
  const refused = (error: unknown): true => {
    assert(error instanceof ResilienceError);
    assert.equal(error.code, "resilience_unreadable");
    assert.ok(error.message.includes(bad), error.message);
    return true;
  };
  await assert.rejects(world.drive(contentOf(log, 6)), refused);
  await assert.rejects(world.drive(openLog(runtime)), refused);
  isBad = false;
  await world.drive(contentOf(log, 6));
  assert.deepEqual(filesOf(host.disk), files);
});

test("inspectState() says of each file what is wrong with it, and what can be restored", async () => {
  const { files } = await sample();
  const names = [...files.keys()];
  const look = async (changed: Files) => {
    const { world, host, runtime } = machine(1);
    for (const [name, bytes] of changed) host.disk.put(`${FOLDER}/${name}`, bytes);
    return world.drive(inspectState(runtime.disk, FOLDER));
  };
  const whole = await look(files);
  assert.deepEqual(
    whole.files.map(({ name, bytes, outcome }) => [name, bytes, outcome.kind]),
    names.map((name) => [`state/${name}`, files.get(name)!.length, "ok"]),
  );
  assert.deepEqual(
    whole.checkpoints?.map(({ epoch: number }) => number),
    [1, 2, 3, 4, 5, 6],
  );
  const damaged = new Uint8Array(files.get(names[2]!)!);
  damaged[300]! ^= 4;
  const bad = await look(new Map(files).set(names[2]!, damaged));
  assert.equal(bad.checkpoints, null);
  assert.deepEqual(
    bad.files.map(({ outcome }) => outcome.kind),
    names.map((name) => (name === names[2] ? "refused" : "ok")),
  );
  const gone = new Map(files);
  gone.delete(names[2]!);
  const incomplete = await look(gone);
  const refused = incomplete.files.find(({ outcome }) => outcome.kind === "refused")!;
  assert.equal(refused.name, `state/${names[2]}`);
  assert.match((refused.outcome as { why: string }).why, /it is missing/);
  const newest = names.at(-1)!;
  const cut = files.get(newest)!.slice(0, -5);
  const torn = await look(new Map(files).set(newest, cut));
  assert.equal(torn.files.at(-1)!.outcome.kind, "torn");
  assert.equal(torn.checkpoints?.at(-1)?.epoch, 5);
});
