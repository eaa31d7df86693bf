/** The ledger on whole virtual clusters: files in, files out, and machines that lose their power in between. */
import assert from "node:assert/strict";
import { test } from "node:test";
import ledger from "../../examples/ledger.ts";
import { readOptionValues } from "../../src/api/options.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

const INPUT = "/data/transfers.ndjson";
const OUTPUT = "/data/balances";

interface Entry {
  readonly account: string;
  readonly balance: number;
  readonly n: number;
}

interface Transfer {
  readonly account: string;
  readonly amount: number;
}

function cluster(seed: number, workers: number, transfersOf: (worker: number) => readonly Transfer[]): VirtualCluster {
  const made = new VirtualCluster({
    seed,
    workers,
    application: () => ledger,
    config: {
      inputs: new Map(),
      outputs: [],
      applicationOptions: readOptionValues(ledger.options, { input: INPUT, output: OUTPUT, rate: "2000" }),
      checkpoints: { ...NO_CHECKPOINTS, intervalMs: 50 },
    },
  });
  made.names.forEach((name, worker) => {
    const lines = transfersOf(worker).map((transfer) => `${JSON.stringify(transfer)}\n`);
    made.machines.get(name)!.disk.put(INPUT, lines.join(""));
  });
  return made;
}

/** What is visible on a worker's machine, in the order of names. */
function entriesOf(made: VirtualCluster, name: string): Entry[] {
  const { disk } = made.machines.get(name)!;
  const text = disk
    .paths()
    .filter((path) => path.startsWith(`${OUTPUT}/`) && !path.endsWith("/") && !path.startsWith(`${OUTPUT}/.`))
    .map((path) => new TextDecoder().decode(disk.peek(path)!))
    .join("");
  assert.ok(text === "" || text.endsWith("\n"), "a line is cut");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Entry);
}

/** Each account counts from 1 without a gap, on one machine. */
function check(made: VirtualCluster): number {
  const counts = new Map<string, number>();
  let total = 0;
  for (const name of made.names) {
    for (const { account, n } of entriesOf(made, name)) {
      assert.equal(n, (counts.get(account) ?? 0) + 1, `${account} on ${name}`);
      counts.set(account, n);
      total++;
    }
  }
  return total;
}

test("the ledger gives each transfer once and the right balances, whoever loses power when", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const workers = 1 + (seed % 3);
    const transfers = (worker: number): Transfer[] =>
      Array.from({ length: 1_500 }, (_, i) => ({ account: `a${(i * 7 + worker) % 23}`, amount: (i % 19) - 6 }));
    const made = cluster(seed, workers, transfers);
    const random = made.world.stream("faults");
    const expected = workers * 1_500;
    made.startAll();
    const said = () =>
      [...made.processes.values()]
        .flatMap((worker) => [worker.name, ...worker.lines.slice(-15), worker.error])
        .join("\n");
    assert.ok(await made.working(), `seed ${seed}\n${said()}`);
    for (let round = 0; round < 5; round++) {
      await made.world.runFor(random.between(20, 250));
      check(made);
      const dead = random.chance(3) ? made.names : [made.names[random.int(made.names.length)]!];
      for (const name of dead) {
        const machine = made.machines.get(name)!;
        if (random.chance(2)) {
          machine.powerLoss();
          machine.powerOn();
        } else made.processes.get(name)!.process.kill();
      }
      check(made);
      for (const name of dead) made.start(name);
      await made.world.runFor(random.between(0, 400));
    }
    const all = () => check(made) === expected;
    const isDone = await made.world.runUntil(() => made.world.steps % 500 === 0 && all(), 60_000);
    assert.ok(isDone || all(), `seed ${seed}: ${check(made)} of ${expected}\n${said()}`);
    const balances = new Map<string, number>();
    for (let worker = 0; worker < workers; worker++) {
      for (const { account, amount } of transfers(worker)) balances.set(account, (balances.get(account) ?? 0) + amount);
    }
    const last = new Map(
      made.names.flatMap((name) => entriesOf(made, name)).map((entry) => [entry.account, entry.balance]),
    );
    assert.deepEqual(new Map([...last].sort()), new Map([...balances].sort()), `seed ${seed}`);
  }
});

test("the ledger asks for its two paths, and its rate is unlimited unless it is given", () => {
  assert.throws(() => readOptionValues(ledger.options, { input: INPUT }), /--output is missing/);
  assert.throws(() => readOptionValues(ledger.options, { output: OUTPUT }), /--input is missing/);
  assert.deepEqual(readOptionValues(ledger.options, { input: "a", output: "b" }), {
    input: "a",
    output: "b",
    rate: 0,
    follow: false,
  });
});
