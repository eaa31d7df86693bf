/**
 * The ledger, from files to files, on three workers of real processes that are killed again and again, one, several or all:
 * at any moment each account's visible lines count from 1 without a gap, and at the end the balances are right to the last
 * transfer.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "../../src/base/prng.ts";
import { readBalances } from "./lib/balances.ts";
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
        readBalances(output);
        const one = random.int(WORKERS);
        const several = random.chance(2) ? [0, 1, 2] : [0, 1, 2].filter((index) => index !== one);
        const victims = random.chance(3) ? several : [one];
        await Promise.all(victims.map((index) => cluster.program(index).kill()));
        kills += victims.length;
        readBalances(output);
        for (const index of victims) cluster.start(index);
        // Now and then the next one is killed while they recover.
        if (random.chance(2)) await cluster.waitReady();
      }
      await cluster.waitReady();
      await waitFor(() => readBalances(output).total === WORKERS * TRANSFERS, {
        what: "every transfer to be visible",
        everyMs: 200,
        seen: () => `${readBalances(output).total} of ${WORKERS * TRANSFERS}\n${cluster.program(0).tail()}`,
      });
      assert.deepEqual(new Map([...readBalances(output).balances].sort()), new Map([...expected].sort()));
      assert.equal((await cluster.shutdownThrough(1)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0, 0]);
      assert.deepEqual(cluster.files(), []);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
