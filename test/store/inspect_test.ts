// What `tammar store` sees and does, on the real disk.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ConfigError } from "../../src/base/errors.ts";
import { carryOutClean, damagedFiles, inspectStore, planClean } from "../../src/store/inspect.ts";
import { renderCleaned, renderPlan, renderShow, renderVerify } from "../../src/store/render.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { realRuntime, withFolder } from "../lib/real_runtime.ts";
import { aSavedCluster } from "./records.ts";

const { disk, clock } = await realRuntime();
const APPLICATION = "Alerts (stateful)";

function open(directory: string, worker = "worker1", application = APPLICATION): Promise<Store> {
  return openStore({ disk, clock, pid: 4711, directory, application, worker });
}

/** A killed worker's folder. */
async function leftover(directory: string, worker = "worker1", application = APPLICATION): Promise<string> {
  const store = await open(directory, worker, application);
  const members = aSavedCluster().members.map((member, index) => (index === 1 ? { ...member, name: worker } : member));
  await store.save(aSavedCluster({ application, worker, members }));
  await store.close();
  return store.folder;
}

/** What programs of other kinds leave in `/tmp`: none of it is ours. */
function strangers(directory: string): void {
  mkdirSync(join(directory, "browser", "leveldb"), { recursive: true });
  writeFileSync(join(directory, "browser", "leveldb", "LOCK"), "");
  writeFileSync(join(directory, "browser", "leveldb", "CURRENT"), "MANIFEST-000001\n");
  mkdirSync(join(directory, "hpc", "node1"), { recursive: true });
  writeFileSync(join(directory, "hpc", "node1", "cluster"), "some other cluster");
  writeFileSync(join(directory, "LOCK"), "");
}

test("inspectStore() lists our folders with what is saved, and nothing of other programs", () =>
  withFolder(async (directory) => {
    strangers(directory);
    const folder = await leftover(directory);
    const running = await open(directory, "initializer", "alerts");
    const report = await inspectStore(disk, directory);
    assert.deepEqual(
      report.workers.map(({ path, application, worker, held }) => [path, application, worker, held]),
      [
        [folder, APPLICATION, "worker1", "free"],
        [running.folder, "alerts", "initializer", "held"],
      ],
    );
    assert.deepEqual(report.workers[0]!.saved, aSavedCluster());
    assert.equal(report.workers[1]!.holder?.pid, 4711);
    const text = renderShow(report, aSavedCluster().savedAtMs + 180_000);
    for (const line of [
      "application  Alerts (stateful)",
      "worker       worker1 (worker; the cluster has 2)",
      "cluster      0123456789abcdef0123456789abcdef",
      "state        formed",
      "generation   3, routing version 1",
      "addresses    control 10.0.0.7:6002, data [::1]:6003",
      "saved        3 min ago (2026-09-21T14:13:20.000Z), start 2",
      "held by      nobody",
      "held by      process 4711 since ",
      "cluster      nothing readable is saved",
    ]) {
      assert.ok(text.includes(`  ${line}`), `${line}\n---\n${text}`);
    }
    await running.removeAll();
  }));

test("inspectStore() also takes the folder of one application or of one worker", () =>
  withFolder(async (directory) => {
    const folder = await leftover(directory);
    await leftover(directory, "worker2");
    assert.equal((await inspectStore(disk, join(folder, ".."))).workers.length, 2);
    const one = await inspectStore(disk, folder);
    assert.deepEqual(
      one.workers.map(({ worker, application }) => [worker, application]),
      [["worker1", APPLICATION]],
    );
    await assert.rejects(inspectStore(disk, join(directory, "nowhere")), ConfigError);
    await assert.rejects(inspectStore(disk, join(folder, "LOCK")), ConfigError);
    const empty = join(directory, "empty");
    mkdirSync(empty);
    assert.equal(renderShow(await inspectStore(disk, empty), 0), `nothing is saved in ${empty}\n`);
  }));

test("inspectStore() finds any changed byte, with file and offset", () =>
  withFolder(async (directory) => {
    const folder = await leftover(directory);
    const path = join(folder, "cluster");
    const whole = new Uint8Array(readFileSync(path));
    assert.equal(damagedFiles(await inspectStore(disk, directory)), 0);
    for (let at = 0; at < whole.length; at += 7) {
      const changed = new Uint8Array(whole);
      changed[at]! ^= 0x10;
      writeFileSync(path, changed);
      assert.equal(damagedFiles(await inspectStore(disk, directory)), 1, `byte ${at}`);
    }
    writeFileSync(path, whole);
    truncateSync(path, 100);
    const text = renderVerify(await inspectStore(disk, directory));
    assert.match(text, /LOCK: ok \([0-9]+ bytes\)\n.*cluster: damaged at offset 100: it is cut short/);
    assert.match(text, /\n2 files read back, 1 not fine\n$/);
  }));

test("planClean() changes nothing; carryOutClean() removes what nobody holds and nothing else", () =>
  withFolder(async (directory) => {
    strangers(directory);
    const gone = await leftover(directory, "worker1", "gone");
    const running = await open(directory, "worker1", "running");
    const mixed = await leftover(directory);
    writeFileSync(join(mixed, "notes.txt"), "mine");
    const plan = await planClean(disk, directory);
    assert.deepEqual(
      plan.map(({ folder, decision }) => [folder.path, decision]),
      [
        [mixed, "remove"],
        [gone, "remove"],
        [running.folder, "held"],
      ],
    );
    const said = renderPlan(directory, plan);
    assert.match(
      said,
      /^remove .*Alerts.*\(worker "worker1" of "Alerts \(stateful\)", cluster 0123.*; not ours and left there: notes\.txt$/m,
    );
    assert.match(said, /^keep {3}.*running\/worker1 .*: held by process 4711 since/m);
    assert.equal(existsSync(join(gone, "cluster")), true);

    const results = await carryOutClean(disk, plan);
    assert.deepEqual(
      results.map(({ outcome }) => outcome.kind),
      ["removed_but", "removed", "skipped"],
    );
    assert.match(renderCleaned(results), /not ours and left there: notes\.txt\nremoved .*gone\/worker1\nkept /);
    assert.deepEqual(readdirSync(mixed), ["notes.txt"]);
    assert.deepEqual(readdirSync(directory).sort(), ["Alerts%20%28stateful%29", "LOCK", "browser", "hpc", "running"]);
    assert.deepEqual(readdirSync(join(directory, "browser", "leveldb")).sort(), ["CURRENT", "LOCK"]);
    assert.deepEqual(readdirSync(join(directory, "hpc", "node1")), ["cluster"]);
    await running.removeAll();
    assert.equal(renderPlan(directory, await planClean(disk, directory)), `nothing to clean in ${directory}\n`);
  }));

test("carryOutClean() looks again: a worker that has started meanwhile keeps its folder", () =>
  withFolder(async (directory) => {
    await leftover(directory);
    const plan = await planClean(disk, directory);
    const store = await open(directory);
    const results = await carryOutClean(disk, plan);
    assert.match(renderCleaned(results), /^kept .*: a worker has started there in the meantime\n$/);
    assert.notEqual(store.saved, null);
    await store.close();
  }));

test("carryOutClean() removes a damaged worker's folder by itself, as the messages of a refused start say", () =>
  withFolder(async (directory) => {
    const folder = await leftover(directory);
    await leftover(directory, "worker2");
    truncateSync(join(folder, "cluster"), 10);
    await carryOutClean(disk, await planClean(disk, folder));
    assert.equal(existsSync(folder), false);
    assert.deepEqual(readdirSync(join(folder, "..")), ["worker2"]);
  }));

test("clean follows no symbolic link", () =>
  withFolder(async (directory) => {
    const elsewhere = join(directory, "elsewhere");
    mkdirSync(elsewhere);
    const precious = await leftover(elsewhere);
    const scanned = join(directory, "scanned");
    mkdirSync(join(scanned, "alerts"), { recursive: true });
    symlinkSync(join(precious, ".."), join(scanned, "linked"));
    symlinkSync(precious, join(scanned, "alerts", "worker1"));
    assert.deepEqual(await planClean(disk, scanned), []);

    // A link that takes the folder's place behind our back.
    const folder = await leftover(scanned);
    const plan = await planClean(disk, scanned);
    await carryOutClean(disk, await planClean(disk, folder));
    mkdirSync(join(folder, ".."), { recursive: true });
    symlinkSync(precious, folder);
    const results = await carryOutClean(disk, plan);
    assert.match(renderCleaned(results), /^kept .*: it is not what it was a moment ago\n$/);
    assert.deepEqual(readdirSync(precious).sort(), ["LOCK", "cluster"]);
  }));
