// The store on the real disk: what a worker meets in its folder at a start, and what it leaves.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { ConfigError, EnvironmentError, EXIT, ResilienceError, type TammarError } from "../../src/base/errors.ts";
import { CONTENT, encodeRecord } from "../../src/store/record_file.ts";
import { encodeSavedCluster, type SavedCluster } from "../../src/store/saved_cluster.ts";
import { openStore, otherClusterError, type Store } from "../../src/store/store.ts";
import { realRuntime, withFolder } from "../lib/real_runtime.ts";
import { aSavedCluster } from "./records.ts";

const APPLICATION = "Alerts (stateful)";
const runtime = await realRuntime();

interface Place {
  readonly directory: string;
  readonly folder: string;
  readonly cluster: string;
  readonly lock: string;
  open(changes?: { application?: string; worker?: string; pid?: number }): Promise<Store>;
}

function withPlace<T>(use: (place: Place) => Promise<T>): Promise<T> {
  return withFolder((directory) => {
    const folder = join(directory, "Alerts%20%28stateful%29", "worker1");
    return use({
      directory,
      folder,
      cluster: join(folder, "cluster"),
      lock: join(folder, "LOCK"),
      open: ({ application = APPLICATION, worker = "worker1", pid = process.pid } = {}) =>
        openStore({ disk: runtime.disk, clock: runtime.clock, pid, directory, application, worker }),
    });
  });
}

/** Makes what a worker leaves that was killed. */
async function leftover(place: Place, changes: Partial<SavedCluster> = {}): Promise<Uint8Array> {
  const store = await place.open();
  await store.save(aSavedCluster(changes));
  await store.close();
  return new Uint8Array(readFileSync(place.cluster));
}

async function refusal(opening: Promise<Store>): Promise<TammarError> {
  try {
    await (await opening).close();
  } catch (error) {
    assert(
      error instanceof ResilienceError || error instanceof EnvironmentError || error instanceof ConfigError,
      `${error}`,
    );
    return error;
  }
  assert.fail("it was opened");
}

/** Every name below a folder with its content, to see that nothing was touched. */
function everything(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  return new Map(
    names.map((name) => {
      const path = join(folder, name);
      return [name, statSync(path).isFile() ? readFileSync(path, "latin1") : "a folder"];
    }),
  );
}

test("Store gives back what was saved", () =>
  withPlace(async (place) => {
    const first = await place.open();
    assert.equal(first.saved, null);
    assert.equal(first.folder, place.folder);
    const saved = aSavedCluster();
    await first.save({ ...saved, startNumber: 1 });
    await first.save(saved);
    await first.close();
    const second = await place.open();
    assert.deepEqual(second.saved, saved);
    await second.close();
    assert.deepEqual(readdirSync(place.folder).sort(), ["LOCK", "cluster"]);
  }));

test("Store makes folders of mode 0700 and files of mode 0600, whatever the umask", () =>
  withPlace(async (place) => {
    const before = process.umask(0o777);
    try {
      await leftover(place).catch((error) => {
        // Root reads it anyway; others cannot read their own file of mode 0, and this is about modes.
        if (statSync(place.folder).uid === 0) throw error;
      });
    } finally {
      process.umask(before);
    }
    assert.equal(statSync(join(place.folder, "..")).mode & 0o777, 0o700);
    assert.equal(statSync(place.folder).mode & 0o777, 0o700);
    assert.equal(statSync(place.cluster).mode & 0o177, 0);
    assert.equal(statSync(place.lock).mode & 0o177, 0);
  }));

test("Store.removeAll() leaves nothing, but the resilience directory unless this start made it", () =>
  withPlace(async (place) => {
    const store = await place.open();
    await store.save(aSavedCluster());
    assert.deepEqual(await store.removeAll(), []);
    assert.deepEqual(readdirSync(place.directory), []);

    const below = { ...place, directory: join(place.directory, "made", "here") };
    const made = await openStore({ ...runtime, pid: 1, directory: below.directory, application: "a", worker: "w" });
    await made.save(aSavedCluster({ application: "a", worker: "w", members: twoMembers("w") }));
    await made.removeAll();
    assert.equal(existsSync(below.directory), false);
  }));

function twoMembers(second: string): SavedCluster["members"] {
  return aSavedCluster().members.map((member, index) => (index === 1 ? { ...member, name: second } : member));
}

test("Store.removeAll() leaves other workers, other applications and files that are not ours, and says so", () =>
  withPlace(async (place) => {
    const other = await place.open({ worker: "worker10" });
    const store = await place.open();
    writeFileSync(join(place.folder, "notes.txt"), "mine");
    assert.deepEqual(await store.removeAll(), ["notes.txt"]);
    assert.deepEqual(readdirSync(place.folder), ["notes.txt"]);
    assert.deepEqual(readdirSync(join(place.folder, "..", "worker10")), ["LOCK"]);
    await other.removeAll();
  }));

test("Store.abandon() leaves nothing where nothing was saved by an earlier start, and everything else as it was", () =>
  withPlace(async (place) => {
    const newcomer = await place.open();
    await newcomer.save(aSavedCluster({ state: "forming" }));
    await newcomer.abandon();
    assert.deepEqual(readdirSync(place.directory), []);

    const before = await leftover(place);
    const returning = await place.open();
    await returning.abandon();
    assert.deepEqual(new Uint8Array(readFileSync(place.cluster)), before);
  }));

test("openStore() counts what was saved as forming as nothing saved", () =>
  withPlace(async (place) => {
    await leftover(place, { state: "forming" });
    const store = await place.open();
    assert.equal(store.saved, null);
    await store.save(aSavedCluster());
    await store.close();
    const again = await place.open();
    assert.equal(again.saved?.state, "formed");
    await again.close();
  }));

test("openStore() removes what an interrupted save left behind", () =>
  withPlace(async (place) => {
    await leftover(place);
    writeFileSync(`${place.cluster}.new`, "half of a rec");
    const store = await place.open();
    assert.deepEqual(readdirSync(place.folder).sort(), ["LOCK", "cluster"]);
    await store.save(aSavedCluster());
    await store.close();
  }));

test("openStore() refuses a folder in use, names the process and touches nothing", () =>
  withPlace(async (place) => {
    const holder = await place.open({ pid: 4711 });
    await holder.save(aSavedCluster());
    const before = everything(place.directory);
    const error = await refusal(place.open());
    assert.equal(error.code, "resilience_in_use");
    assert.equal(error.exitStatus, EXIT.resilience);
    assert.match(error.message, /worker "worker1" of "Alerts \(stateful\)" is already running there, in process 4711/);
    assert.match(error.message, /tammar store show /);
    assert.deepEqual(everything(place.directory), before);
    await holder.close();
    await (await place.open()).close();
  }));

test("openStore() waits a moment for a lock that is only looked at", () =>
  withPlace(async (place) => {
    await leftover(place);
    const lock = await runtime.disk.lock(place.lock);
    const opening = place.open();
    runtime.clock.startTimer(60, () => void lock!.release());
    await (await opening).close();
  }));

test("openStore() refuses the file with any byte changed, and touches nothing", () =>
  withPlace(async (place) => {
    const whole = await leftover(place);
    for (let at = 0; at < whole.length; at++) {
      const changed = new Uint8Array(whole);
      changed[at]! ^= 1 << (at & 7);
      writeFileSync(place.cluster, changed);
      const before = everything(place.directory);
      const error = await refusal(place.open());
      assert.equal(error.code, "resilience_damaged", `byte ${at}: ${error.message}`);
      assert.equal(error.exitStatus, EXIT.resilience);
      assert.deepEqual(everything(place.directory), before);
    }
    writeFileSync(place.cluster, whole);
    await (await place.open()).close();
  }));

test("openStore() refuses the file cut short at any byte, with the offset and the commands that help", () =>
  withPlace(async (place) => {
    const whole = await leftover(place);
    for (let length = whole.length - 1; length >= 0; length--) {
      truncateSync(place.cluster, length);
      const error = await refusal(place.open());
      assert.equal(error.code, "resilience_damaged");
      assert.match(error.message, new RegExp(`damaged at offset ${length}: it is cut short`));
      assert.match(error.message, /belongs to worker "worker1".* tammar store verify .*tammar store clean /);
    }
  }));

test("openStore() refuses another format version as such", () =>
  withPlace(async (place) => {
    await leftover(place);
    writeFileSync(place.cluster, encodeRecord(CONTENT.cluster, Uint8Array.of(1, 2, 3), 7));
    const error = await refusal(place.open());
    assert.equal(error.code, "resilience_version");
    assert.match(error.message, /format version 7, and this tammar reads version 1.*tammar store clean/);
  }));

test("openStore() refuses a whole record whose content makes no sense", () =>
  withPlace(async (place) => {
    await leftover(place);
    for (const changes of [
      { clusterId: "not hex" },
      { workerCount: 3 },
      { members: [] },
      { startNumber: 0 },
      { worker: "worker2" },
      { keyGroupCount: 1.5 },
    ]) {
      writeFileSync(place.cluster, encodeSavedCluster(aSavedCluster(changes)));
      const error = await refusal(place.open());
      assert.equal(error.code, "resilience_damaged", JSON.stringify(changes));
      assert.match(error.message, /its content makes no sense/);
    }
    writeFileSync(place.cluster, encodeRecord(CONTENT.cluster, Uint8Array.of(0xff)));
    assert.equal((await refusal(place.open())).code, "resilience_damaged");
  }));

test("openStore() refuses a folder that holds another worker's or application's record", () =>
  withPlace(async (place) => {
    await leftover(place);
    renameSync(place.folder, join(place.folder, "..", "worker2"));
    const other = await refusal(place.open({ worker: "worker2" }));
    assert.equal(other.code, "resilience_foreign");
    assert.match(
      other.message,
      /saved for worker "worker1" of application "Alerts \(stateful\)" of cluster 0123456789abcdef/,
    );
    assert.match(other.message, /and this is worker "worker2"/);

    renameSync(join(place.folder, ".."), join(place.directory, "elsewhere"));
    const error = await refusal(place.open({ application: "elsewhere", worker: "worker2" }));
    assert.equal(error.code, "resilience_foreign");
  }));

test("openStore() is not troubled by other applications and workers, nor by names that begin alike", () =>
  withPlace(async (place) => {
    await leftover(place);
    const before = everything(place.folder);
    for (const [application, worker] of [
      ["Alerts", "worker1"],
      ["../x", "worker1"],
      ["a/b", "worker1"],
      ["Größe ☃", "worker1"],
      ["", "worker1"],
      ["..", "worker1"],
      [APPLICATION, "worker"],
      [APPLICATION, "worker10"],
    ] as const) {
      const store = await place.open({ application, worker });
      assert.equal(store.saved, null);
      assert.equal(store.folder.startsWith(`${place.directory}/`), true);
      await store.removeAll();
    }
    assert.deepEqual(everything(place.folder), before);
    assert.deepEqual(readdirSync(place.directory), ["Alerts%20%28stateful%29"]);
  }));

test("openStore() takes an application's name of 255 bytes as a folder and refuses a longer one", () =>
  withPlace(async (place) => {
    const longest = await place.open({ application: "x".repeat(255) });
    await longest.removeAll();
    const error = await refusal(place.open({ application: "x".repeat(256) }));
    assert(error instanceof ConfigError);
    assert.equal(error.code, "application_name_too_long");
    await assert.rejects(place.open({ worker: "../w" }), ConfigError);
    assert.deepEqual(readdirSync(place.directory), []);
  }));

test("openStore() refuses folders that are writable for others, links, or no folders", () =>
  withPlace(async (place) => {
    const application = join(place.folder, "..");
    await leftover(place);
    for (const [path, mode] of [
      [place.folder, 0o720],
      [place.folder, 0o702],
      [application, 0o777],
      [place.directory, 0o707],
    ] as const) {
      chmodSync(path, mode);
      const error = await refusal(place.open());
      assert.equal(error.code, "resilience_unsafe");
      assert.match(error.message, /may write to it \(mode 07[0-9]{2}\)/);
      chmodSync(path, 0o700);
    }
    // As /tmp: everyone may write, but not replace what is another's.
    chmodSync(place.directory, 0o1777);
    await (await place.open()).close();

    renameSync(place.folder, join(place.directory, "elsewhere"));
    symlinkSync(join(place.directory, "elsewhere"), place.folder);
    assert.match((await refusal(place.open())).message, /worker1: it is a symbolic link/);

    const linked = join(place.directory, "linked");
    symlinkSync(join(place.directory, "elsewhere"), linked);
    for (const [directory, why] of [
      [linked, /linked: it is a symbolic link/],
      [join(place.directory, "elsewhere", "LOCK"), /LOCK: it is not a folder/],
    ] as const) {
      const opening = openStore({ ...runtime, pid: 1, directory, application: "a", worker: "w" });
      const error = await refusal(opening);
      assert.equal(error.exitStatus, EXIT.resilience);
      assert.match(error.message, why);
    }
  }));

test("openStore() refuses files that are links", () =>
  withPlace(async (place) => {
    mkdirSync(place.folder, { recursive: true, mode: 0o700 });
    for (const name of ["LOCK", "cluster"]) {
      const victim = join(place.directory, "victim");
      writeFileSync(victim, "precious");
      symlinkSync(victim, join(place.folder, name));
      assert.match((await refusal(place.open())).message, new RegExp(`${name}: it is no plain file`));
      assert.equal(readFileSync(victim, "utf8"), "precious");
      renameSync(join(place.folder, name), join(place.directory, `was-${name}`));
    }
  }));

test("openStore() says what an unwritable resilience directory needs, with exit status 11", (t) =>
  withPlace(async (place) => {
    if (process.getuid?.() !== 0) {
      chmodSync(place.directory, 0o500);
      const error = await refusal(place.open());
      chmodSync(place.directory, 0o700);
      assert.equal(error.exitStatus, EXIT.environment);
      return;
    }
    // Root may write everywhere: a child asks as nobody.
    const outcome = asNobody(place.directory);
    if (outcome === null) {
      console.log("not run here: an unwritable resilience directory (running as root, and setpriv is missing)");
      t.skip?.("setpriv is missing");
      return;
    }
    assert.match(outcome, /^11 EnvironmentError Cannot use the resilience folder .*permission.*--resilience-dir/);
  }));

/** Opens a store in a folder of root's, as another user; null: that cannot be tried here. */
function asNobody(directory: string): string | null {
  chmodSync(directory, 0o755);
  const script = join(import.meta.dirname, "open_as_nobody.ts");
  const command =
    "Bun" in globalThis ? [process.execPath, script] : [process.execPath, "run", "-A", "--no-check", script];
  const child = spawnSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", ...command, directory], {
    encoding: "utf8",
    env: { ...process.env, HOME: "/nonexistent", DENO_DIR: process.env["DENO_DIR"] ?? "/nonexistent" },
  });
  if (child.error !== undefined) return null;
  assert.equal(child.status, 0, child.stderr);
  return child.stdout;
}

test("otherClusterError() shows both clusters and the command that helps", () => {
  const error = otherClusterError("/var/lib/tammar/a b/w1", aSavedCluster(), "9".repeat(32), "127.0.0.1:6000");
  assert.equal(error.exitStatus, EXIT.resilience);
  assert.match(error.message, /belongs to cluster 0123456789abcdef.*the cluster that answered is 9999/);
  assert.match(error.message, /tammar store clean '\/var\/lib\/tammar\/a b\/w1'$/);
});
