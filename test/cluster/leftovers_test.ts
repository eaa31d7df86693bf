/** Files in the resilience directory: damaged, foreign, in use; what `tammar store` says of them and does about them. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { type Cluster, examples, withCluster } from "./lib/cluster.ts";
import { runTammar } from "./lib/process.ts";

const words = (workers: number) => ({ application: examples.wordCount, workers, sources: ["words"] });

/** Every file below the folder with its bytes, but for the locks, whose text is for people. */
function contents(dir: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (const name of readdirSync(dir, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(dir, name);
    if (statSync(path).isFile() && basename(path) !== "LOCK") found.set(path, readFileSync(path));
  }
  return found;
}

async function killedCluster(cluster: Cluster): Promise<void> {
  await cluster.startAll();
  await Promise.all(cluster.programs.map((program) => program?.kill()));
}

const damages: [string, (bytes: Buffer) => Buffer][] = [
  ["cut short by one byte", (bytes) => bytes.subarray(0, bytes.length - 1)],
  ["cut in half", (bytes) => bytes.subarray(0, bytes.length >> 1)],
  ["with a flipped bit in the middle", (bytes) => flip(bytes, bytes.length >> 1)],
  ["with a flipped bit at the end", (bytes) => flip(bytes, bytes.length - 1)],
];

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 4;
  return copy;
}

for (const [what, damage] of damages) {
  test(`a saved file ${what} is told, with the command that helps, exit 12; nothing is touched`, async () => {
    await withCluster(words(1), async (cluster) => {
      await killedCluster(cluster);
      const saved = contents(cluster.dir);
      assert.ok(saved.size > 0, "a killed worker leaves its saved information");
      for (const [path, bytes] of saved) {
        writeFileSync(path, damage(bytes));
        const before = contents(cluster.dir);
        const program = cluster.start(0);
        assert.equal((await program.exit()).status, 12, `${path}\n${program.tail()}`);
        assert.ok(program.output.includes("tammar store"), program.tail());
        assert.deepEqual(contents(cluster.dir), before, "nothing is touched");
        const verify = await runTammar(["store", "verify", cluster.dir]);
        assert.notEqual(verify.status, 0, verify.output);
        writeFileSync(path, bytes);
      }
      // Whole again, it comes back.
      cluster.start(0);
      await cluster.waitReady();
    });
  });
}

test("a folder that a running worker holds is refused with exit 12", async () => {
  await withCluster(words(1), async (cluster) => {
    await cluster.startAll();
    // The same worker once more, without its ports in the way.
    const args = cluster.commandLine(0).map((arg) => arg.replace(/(127\.0\.0\.1):\d+$/, "$1:0"));
    args[args.indexOf("--out") + 1] = `127.0.0.1:${cluster.outPort}`;
    const second = cluster.run("second", args);
    assert.equal((await second.exit()).status, 12, second.tail());
    assert.equal(cluster.program(0).end, null);
  });
});

test("leftovers of another application are kept apart and do not stop this one", async () => {
  await withCluster(words(1), async (cluster) => {
    await killedCluster(cluster);
    const before = contents(cluster.dir);
    await withCluster({ application: examples.alerts, workers: 1, extra: ["--rate", "100"] }, async (other) => {
      const args = other.commandLine(0);
      args[args.indexOf("--resilience-dir") + 1] = cluster.dir;
      const program = other.run("alerts", args);
      await program.waitForOutput("INIT PHASE IV");
      program.signal("SIGTERM");
      assert.equal((await program.exit()).status, 0, program.tail());
    });
    assert.deepEqual(contents(cluster.dir), before);
  });
});

test("leftovers of an edited application of the same name are refused with exit 12; nothing is touched", async () => {
  await withCluster(words(1), async (cluster) => {
    await killedCluster(cluster);
    const before = contents(cluster.dir);
    const edited = join(cluster.dir, "word_count.ts");
    writeFileSync(edited, `${readFileSync(examples.wordCount, "utf8")}\n// edited\n`);
    const args = cluster.commandLine(0).map((arg) => (arg === examples.wordCount ? edited : arg));
    const program = cluster.run("edited", args);
    assert.equal((await program.exit()).status, 12, program.tail());
    assert.ok(program.output.includes("tammar store"), program.tail());
    const after = contents(cluster.dir);
    after.delete(edited);
    assert.deepEqual(after, before);
  });
});

test("tammar store shows, verifies and cleans what killed workers left, and keeps what a running one holds", async () => {
  await withCluster(words(2), async (cluster) => {
    await killedCluster(cluster);
    const shown = await runTammar(["store", "show", cluster.dir]);
    assert.equal(shown.status, 0, shown.output);
    for (const { name } of cluster.places) assert.ok(shown.output.includes(name), shown.output);
    assert.ok(shown.output.includes("127.0.0.1"), shown.output);
    const verified = await runTammar(["store", "verify", cluster.dir]);
    assert.equal(verified.status, 0, verified.output);

    // The initializer runs, so only the other folder may go.
    cluster.start(0);
    await cluster.program(0).waitForOutput(/waiting for|Recovering/i);
    const cleaned = await runTammar(["store", "clean", cluster.dir]);
    assert.ok(cleaned.output.includes("worker1"), cleaned.output);
    const names = cluster.files().join("\n");
    assert.ok(!names.includes("worker1"), names);
    assert.ok(names.includes("initializer"), names);

    await cluster.program(0).kill();
    const rest = await runTammar(["store", "clean", cluster.dir]);
    assert.equal(rest.status, 0, rest.output);
    assert.deepEqual(cluster.files(), []);
  });
});
