/** A cluster that is suspended by `tammar shutdown --keep` goes on where it was, also with another version of its module. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { examples, withCluster } from "./lib/cluster.ts";
import { runTammar } from "./lib/process.ts";
import { waitFor } from "./lib/wait.ts";

const TRANSFERS = 6_000;

function lines(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => !name.startsWith("."))
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1));
}

test("a suspended cluster goes on from its last checkpoint with another version of the module; a killed one does not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tammar-suspend-"));
  const module = join(folder, "ledger.ts");
  const output = join(folder, "balances");
  const source = readFileSync(examples.ledger, "utf8");
  try {
    writeFileSync(module, source);
    for (const index of [0, 1]) {
      const transfers = Array.from({ length: TRANSFERS }, (_, i) => `{"account":"a${i % 50}","amount":${index + 1}}\n`);
      writeFileSync(join(folder, `input-${index}`), transfers.join(""));
    }
    const extra = (index: number) => [
      ...["--input", join(folder, `input-${index}`), "--output", output, "--rate", "2000"],
      ...["--checkpoint-interval", "300ms"],
    ];
    await withCluster({ application: module, workers: 2, extra }, async (cluster) => {
      await cluster.startAll();
      await waitFor(() => lines(output).length > 0, { what: "a first checkpoint" });
      const keep = await runTammar(["shutdown", "--keep", `127.0.0.1:${cluster.place(1).external}`]);
      assert.equal(keep.status, 0, keep.output);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      const before = lines(output).length;
      assert.ok(before > 0 && before < 2 * TRANSFERS, `${before} lines`);
      assert.ok(cluster.files().length > 0);
      assert.match((await runTammar(["store", "show", cluster.dir])).output, /suspended/);

      writeFileSync(module, source.replace("n: state.n }", "n: state.n, version: 2 }"));
      await cluster.startAll();
      await waitFor(() => lines(output).length === 2 * TRANSFERS, {
        what: "all of it",
        everyMs: 100,
      });
      const counts = new Map<string, number>();
      for (const [at, line] of lines(output).entries()) {
        const { account, n, version } = JSON.parse(line) as { account: string; n: number; version?: number };
        assert.equal(n, (counts.get(account) ?? 0) + 1, `line ${at}: ${line}`);
        counts.set(account, n);
        if (version === undefined) continue;
        assert.equal(version, 2);
      }
      assert.equal(lines(output).filter((line) => !line.includes(`"version":2`)).length, before);

      // Not suspended: another version is another program.
      await Promise.all(cluster.programs.map((program) => program?.kill()));
      writeFileSync(module, source);
      assert.equal((await cluster.start(0).exit()).status, 12);
      writeFileSync(module, source.replace("n: state.n }", "n: state.n, version: 2 }"));
      await cluster.startAll();
      assert.equal((await cluster.shutdownThrough(0)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      assert.deepEqual(cluster.files(), []);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
