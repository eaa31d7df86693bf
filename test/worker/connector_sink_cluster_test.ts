/** Connector sinks on whole virtual clusters: the six rule files of the two-phase sink, and machines that die. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, connectorSink, generatorSource, source } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import { NO_CHECKPOINTS, type WorkerConfig } from "../../src/worker/config.ts";
import { epochOf, RULE_FILES, TWO_PHASE_PORT, VirtualTwoPhaseSink } from "../lib/two_phase_sink.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

const SINK_HOST = "twophase";

/** -40.0, -39.0, ... on the initializer: what the sink gets is the same numbers, one a line. */
function numbers(count: number, rate: number): Application {
  return application("Celsius to Fahrenheit", () =>
    source(
      "convert temperature readings",
      generatorSource({
        initial: ({ worker }) => ({ worker, at: 0 }),
        next: (state) => (state.at < count ? { worker: state.worker, at: state.at + 1 } : undefined),
        emit: (state) => state,
        rate,
      }),
    )
      .to("as it is", (value) => value)
      .toSink(
        connectorSink({ address: `${SINK_HOST}:${TWO_PHASE_PORT}`, encode: ({ worker, at }) => `${worker} ${at}\n` }),
      ),
  );
}

function cluster(seed: number, workers: number, made: Application, intervalMs: number | null): VirtualCluster {
  const config: Partial<WorkerConfig> = {
    inputs: new Map(),
    outputs: [],
    checkpoints: { ...NO_CHECKPOINTS, intervalMs },
  };
  return new VirtualCluster({ seed, workers, application: () => made, config });
}

for (const { number, rule, expected } of RULE_FILES) {
  test(`rule file ${number}: checkpoint 3 ends in a ${expected}, checkpoint 14 in a commit, within 18 seconds`, async () => {
    const made = cluster(number, 1, numbers(1_000_000, 500), 1_000);
    const sink = new VirtualTwoPhaseSink(made.world.host(SINK_HOST), [rule]);
    made.startAll();
    const said = () => made.processes.get("initializer")!.lines.join("\n");
    assert.ok(await made.working(), said());
    const isThere = await made.world.runUntil(() => sink.decisions("initializer").has(14), 18_000);
    assert.ok(isThere, said());
    assert.deepEqual(sink.fatal, []);
    const decisions = sink.decisions("initializer");
    assert.equal(decisions.get(3), expected, said());
    assert.equal(decisions.get(14), "commit");
    // One after the other, none left out.
    const prepared = sink.log("initializer").flatMap((entry) => (entry.event === "phase1" ? [entry.id] : []));
    assert.deepEqual(
      prepared.map(epochOf),
      prepared.map((_, i) => i + 1),
    );
    for (const id of prepared) assert.match(id, /^Celsius to Fahrenheit-w-initializer-id-[0-9]+:c_id=[0-9]+$/);
    const lines = sink.committed("initializer").split("\n").slice(0, -1);
    assert.ok(lines.length > 5_000, `${lines.length} lines`);
    assert.deepEqual(
      lines,
      lines.map((_, i) => `initializer ${i}`),
    );
  });
}

const PER_WORKER = 1_000;
const KEYS = 7;

/** Records of every worker, counted by key on the key's owner: `key n worker at`. */
function counted(): Application {
  return application("Counted", () =>
    source(
      "numbers",
      generatorSource({
        initial: ({ worker }) => ({ worker, at: 0 }),
        next: ({ worker, at }) => (at + 1 < PER_WORKER ? { worker, at: at + 1 } : undefined),
        emit: ({ worker, at }) => ({ key: `k${at % KEYS}`, worker, at }),
        rate: 1_000,
      }),
    )
      .keyBy(({ key }) => key)
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply: ({ key, worker, at }, state) => ({ key, n: ++state.n, worker, at }),
      })
      .toSink(
        connectorSink({
          address: `${SINK_HOST}:${TWO_PHASE_PORT}`,
          encode: ({ key, n, worker, at }) => `${key} ${n} ${worker} ${at}\n`,
        }),
      ),
  );
}

/** What is committed of all workers: each key counts from 1 without a gap, and no record is there twice. */
function check(sink: VirtualTwoPhaseSink, names: readonly string[], seed: number): number {
  const counts = new Map<string, number>();
  const seen = new Set<string>();
  for (const name of names) {
    const text = sink.committed(name);
    assert.ok(text === "" || text.endsWith("\n"), "a line is cut");
    for (const line of text.split("\n").slice(0, -1)) {
      const [key, n, worker, at] = line.split(" ");
      assert.equal(Number(n), (counts.get(key!) ?? 0) + 1, `seed ${seed}: ${line}`);
      counts.set(key!, Number(n));
      assert.ok(!seen.has(`${worker} ${at}`), `seed ${seed}: ${line} again`);
      seen.add(`${worker} ${at}`);
    }
  }
  return seen.size;
}

test("each record is committed once, in order, whichever worker or sink dies or loses power when", {
  timeout: 300_000,
}, async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const workers = 1 + (seed % 3);
    const made = cluster(seed, workers, counted(), 50);
    const sink = new VirtualTwoPhaseSink(made.world.host(SINK_HOST));
    const random = made.world.stream("faults");
    const said = () =>
      [...made.processes.values()]
        .flatMap((worker) => [worker.name, ...worker.lines.slice(-15), worker.error])
        .join("\n");
    made.startAll();
    assert.ok(await made.working(), `seed ${seed}\n${said()}`);
    for (let round = 0; round < 6; round++) {
      await made.world.runFor(random.between(20, 250));
      if (random.chance(2)) {
        // The sink alone, or its connections.
        if (random.chance(3)) sink.sink!.cutAll();
        else if (random.chance(2)) sink.kill();
        else sink.machine.powerLoss();
        check(sink, made.names, seed);
        await made.world.runFor(random.between(0, 300));
        sink.machine.powerOn();
        if (sink.machine.processes.length === 0) sink.start();
      }
      if (random.chance(2)) continue;
      const dead = random.chance(3) ? made.names : [made.names[random.int(made.names.length)]!];
      for (const name of dead) {
        const machine = made.machines.get(name)!;
        if (random.chance(2)) {
          machine.powerLoss();
          machine.powerOn();
        } else made.processes.get(name)!.process.kill();
      }
      for (const name of dead) made.start(name);
      await made.world.runFor(random.between(0, 400));
    }
    const isAll = () => made.world.steps % 500 === 0 && check(sink, made.names, seed) === workers * PER_WORKER;
    const isDone = await made.world.runUntil(isAll, 60_000);
    assert.deepEqual(sink.fatal, [], `seed ${seed}`);
    assert.ok(isDone, `seed ${seed}: ${check(sink, made.names, seed)} of ${workers * PER_WORKER}\n${said()}`);
  }
});

test("a stop commits all output, and leaves no transaction open", { timeout: 300_000 }, async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const workers = 1 + (seed % 3);
    const made = cluster(seed, workers, counted(), 50);
    const sink = new VirtualTwoPhaseSink(made.world.host(SINK_HOST));
    made.startAll();
    const said = () => [...made.processes.values()].flatMap((worker) => worker.lines.slice(-25)).join("\n");
    assert.ok(await made.working(), said());
    await made.world.runFor(made.world.stream("stop").between(0, 700));
    made.processes.get(made.names.at(-1)!)!.process.signal("SIGTERM");
    assert.ok(await made.exited(), said());
    for (const { name, status } of made.processes.values()) assert.equal(status, 0, `${name}\n${said()}`);
    assert.deepEqual(sink.fatal, []);
    const total = check(sink, made.names, seed);
    for (const name of made.names) {
      const output = sink.output(name);
      assert.equal(output, sink.committed(name), `seed ${seed}: output that does not count\n${said()}`);
      assert.equal(sink.open(name), null);
    }
    assert.ok(total > 0 || seed < 3, `seed ${seed}: nothing came`);
  }
});

test("no transaction has the id of an earlier one, also when processes die between checkpoints that came to nothing", async () => {
  const refused = [2, 3, 4].map((epoch) => ({ transaction: `:c_id=${epoch}`, vote: "abort" as const }));
  const made = cluster(3, 1, numbers(1_000_000, 200), 500);
  const sink = new VirtualTwoPhaseSink(made.world.host(SINK_HOST), refused);
  made.startAll();
  const name = "initializer";
  const said = () => made.processes.get(name)!.lines.join("\n");
  assert.ok(await made.world.runUntil(() => sink.decisions(name).get(4) === "abort", 30_000), said());
  // The first one forgets what was written of them, the second one can't know.
  for (let death = 0; death < 2; death++) {
    made.processes.get(name)!.process.kill();
    made.start(name);
    assert.ok(await made.world.runUntil(() => made.processes.get(name)!.said("Recovery COMPLETE"), 30_000), said());
  }
  const committed = [...sink.decisions(name)].filter(([, decision]) => decision === "commit").length;
  const another = () =>
    [...sink.decisions(name).values()].filter((decision) => decision === "commit").length > committed;
  assert.ok(await made.world.runUntil(another, 30_000), said());
  const asked = sink.log(name).flatMap((entry) => (entry.event === "phase1" ? [epochOf(entry.id)] : []));
  asked.reduce((before, epoch) => {
    assert.ok(epoch > before, asked.join(" "));
    return epoch;
  });
  assert.deepEqual(sink.fatal, []);
});
