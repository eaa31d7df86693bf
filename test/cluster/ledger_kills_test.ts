/**
 * The ledger, from files to files, on three workers of real processes that are killed again and again, one, several or all:
 * at any moment each account's visible lines count from 1 without a gap, and at the end the balances are right to the last
 * transfer.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import { examples, withCluster } from "./lib/cluster.ts";
import { sleep, waitFor } from "./lib/wait.ts";

const WORKERS = 3;
const TRANSFERS = 24_000;
const RATE = 1_500;
const KILLS = 30;
const ACCOUNTS = 300;

interface Transfer {
  readonly account: string;
  readonly amount: number;
}

interface Seen {
  readonly total: number;
  readonly balances: ReadonlyMap<string, number>;
}

/** Whoever reads the folder at this moment. */
function look(folder: string): Seen {
  const counts = new Map<string, number>();
  const balances = new Map<string, number>();
  let total = 0;
  for (const name of readdirSync(folder).sort()) {
    if (name.startsWith(".")) continue;
    const text = readFileSync(join(folder, name), "utf8");
    assert.ok(text.endsWith("\n"), `${name} ends in the middle of a line`);
    for (const line of text.split("\n").slice(0, -1)) {
      const { account, balance, n } = JSON.parse(line) as { account: string; balance: number; n: number };
      assert.equal(n, (counts.get(account) ?? 0) + 1, `${name}: ${line}`);
      counts.set(account, n);
      balances.set(account, balance);
      total++;
    }
  }
  return { total, balances };
}

test("the ledger is right to the last transfer, through kills of one, several and all workers", async () => {
  const seed = BigInt(process.env["TAMMAR_TEST_SEED"] ?? Date.now());
  console.log(`TAMMAR_TEST_SEED=${seed}`);
  const random = new Prng(seed, "kills");
  const folder = mkdtempSync(join(tmpdir(), "tammar-ledger-"));
  const output = join(folder, "balances");
  const input = (index: number) => join(folder, `transfers-${index}.ndjson`);
  const expected = new Map<string, number>();
  for (let index = 0; index < WORKERS; index++) {
    const transfers = Array.from(
      { length: TRANSFERS },
      (): Transfer => ({ account: `a${random.int(ACCOUNTS)}`, amount: random.int(200) - 80 }),
    );
    for (const { account, amount } of transfers) expected.set(account, (expected.get(account) ?? 0) + amount);
    writeFileSync(input(index), transfers.map((transfer) => `${JSON.stringify(transfer)}\n`).join(""));
  }
  try {
    const extra = (index: number) => [
      ...["--input", input(index), "--output", output, "--rate", `${RATE}`, "--checkpoint-interval", "200ms"],
    ];
    await withCluster({ application: examples.ledger, workers: WORKERS, extra }, async (cluster) => {
      await cluster.startAll();
      for (let kills = 0; kills < KILLS; ) {
        await sleep(random.between(50, 900));
        look(output);
        const one = random.int(WORKERS);
        const several = random.chance(2) ? [0, 1, 2] : [0, 1, 2].filter((index) => index !== one);
        const victims = random.chance(3) ? several : [one];
        await Promise.all(victims.map((index) => cluster.program(index).kill()));
        kills += victims.length;
        look(output);
        for (const index of victims) cluster.start(index);
        // Now and then the next one is killed while they recover.
        if (random.chance(2)) await cluster.waitReady();
      }
      await cluster.waitReady();
      await waitFor(() => look(output).total === WORKERS * TRANSFERS, {
        what: "every transfer to be visible",
        deadlineMs: 60_000,
        everyMs: 200,
        seen: () => `${look(output).total} of ${WORKERS * TRANSFERS}\n${cluster.program(0).tail()}`,
      });
      assert.deepEqual(new Map([...look(output).balances].sort()), new Map([...expected].sort()));
      assert.equal((await cluster.shutdownThrough(1)).status, 0);
      assert.deepEqual(await cluster.exits(10_000), [0, 0, 0]);
      assert.deepEqual(cluster.files(), []);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
