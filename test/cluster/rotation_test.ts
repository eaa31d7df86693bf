/** Log rotation as scripts of the original use and watch it: files of event logs in the resilience directory itself. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Cluster, examples, withCluster } from "./lib/cluster.ts";
import { runTammar } from "./lib/process.ts";
import { waitFor } from "./lib/wait.ts";

const TRANSFERS = 12_000;
const RATE = 1_500;
const host = "127.0.0.1";

function lines(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => !name.startsWith("."))
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1));
}

/** What a watcher of the folder sees: names directly in it, never one less. */
class Watcher {
  readonly #cluster: Cluster;
  readonly #seen = new Set<string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Event logs of one worker. */
  of(worker: string): string[] {
    const now = readdirSync(this.#cluster.dir).filter((name) => name.endsWith(".evlog"));
    for (const name of this.#seen) assert.ok(now.includes(name), `${name} was deleted`);
    for (const name of now) this.#seen.add(name);
    return now.filter((name) => new RegExp(`^.*${worker}-[^-]*\\.evlog$`).test(name));
  }
}

async function rotate(cluster: Cluster, watcher: Watcher, index: number, through = index): Promise<void> {
  const { name } = cluster.place(index);
  const before = watcher.of(name);
  const external = `${host}:${cluster.place(through).external}`;
  const asked = await runTammar(["query", "--external", external, "--type", "rotate-log", "--message", name]);
  assert.equal(asked.status, 0, asked.output);
  await waitFor(() => watcher.of(name).some((file) => !before.includes(file)), {
    what: `a new event log of ${name}`,
  });
}

test("each rotate-log makes a new event log and none is deleted, under load, through kills; the totals are exact", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tammar-rotation-"));
  const output = join(folder, "balances");
  try {
    for (const index of [0, 1]) {
      const transfers = Array.from({ length: TRANSFERS }, (_, i) => `{"account":"a${i % 50}","amount":${index + 1}}\n`);
      writeFileSync(join(folder, `input-${index}`), transfers.join(""));
    }
    let rotates = true;
    const extra = (index: number) => [
      ...["--input", join(folder, `input-${index}`), "--output", output, "--rate", `${RATE}`],
      ...["--checkpoint-interval", "200ms", ...(rotates ? ["--log-rotation"] : [])],
    ];
    await withCluster({ application: examples.ledger, workers: 2, extra }, async (cluster) => {
      const watcher = new Watcher(cluster);
      await cluster.startAll();
      assert.match(cluster.program(0).output, /Log-rotation: true.* No file of the event log in .* goes/);
      await waitFor(() => lines(output).length > 0, { what: "a first checkpoint" });
      for (let round = 0; round < 3; round++) {
        await rotate(cluster, watcher, 0);
        await rotate(cluster, watcher, 1, round % 2);
        await cluster.program(round % 2).kill();
        watcher.of("");
        cluster.start(round % 2);
        await cluster.waitReady();
      }
      await rotate(cluster, watcher, 1);
      const verify = await runTammar(["store", "verify", cluster.dir]);
      assert.equal(verify.status, 0, verify.output);
      assert.match(verify.output, /worker1-[0-9a-f]{16}\.evlog: ok/);
      assert.match((await runTammar(["store", "list", cluster.dir])).output, /checkpoint \d+ of generation/);

      // Without the option it goes on from the same files, and removes what it does not need.
      await Promise.all(cluster.programs.map((program) => program?.kill()));
      rotates = false;
      await cluster.startAll();
      const off = `${host}:${cluster.place(1).external}`;
      await runTammar(["query", "--external", off, "--type", "rotate-log", "--message", "worker1"]);
      await waitFor(() => cluster.program(1).output.includes("LogRotation requested, but log_rotation is off!"), {
        what: "the warning",
      });
      await runTammar(["query", "--external", off, "--type", "rotate-log", "--message", "nobody"]);
      await waitFor(() => cluster.program(1).output.includes("non-existent worker: nobody"), {
        what: "the other warning",
      });
      await waitFor(() => lines(output).length === 2 * TRANSFERS, {
        what: "all of it",
        everyMs: 100,
      });
      const counts = new Map<string, number>();
      for (const [at, line] of lines(output).entries()) {
        const { account, n } = JSON.parse(line) as { account: string; n: number };
        assert.equal(n, (counts.get(account) ?? 0) + 1, `line ${at}: ${line}`);
        counts.set(account, n);
      }
      const stop = await runTammar(["shutdown", `${host}:${cluster.place(0).external}`]);
      assert.equal(stop.status, 0, stop.output);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      assert.deepEqual(cluster.files(), []);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("event logs whose worker's folder is gone are refused in words, and store clean removes them", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tammar-rotation-"));
  try {
    writeFileSync(join(folder, "input"), '{"account":"a","amount":1}\n');
    const extra = ["--input", join(folder, "input"), "--output", join(folder, "out"), "--log-rotation"];
    await withCluster({ application: examples.ledger, workers: 1, extra }, async (cluster) => {
      await cluster.startAll();
      await waitFor(() => readdirSync(cluster.dir).some((name) => name.endsWith(".evlog")), {
        what: "an event log",
      });
      await cluster.program(0).kill();
      for (const name of readdirSync(cluster.dir)) {
        if (!name.endsWith(".evlog")) rmSync(join(cluster.dir, name), { recursive: true });
      }
      const again = cluster.start(0);
      assert.equal((await again.exit()).status, 12, again.tail());
      assert.match(
        again.output,
        /it holds .*initializer-[0-9a-f]{16}\.evlog in .*, but the file cluster .* is missing/,
      );
      const clean = await runTammar(["store", "clean", cluster.dir]);
      assert.equal(clean.status, 0, clean.output);
      assert.deepEqual(cluster.files(), []);
      await cluster.startAll();
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
