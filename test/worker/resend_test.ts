/** Dead letters that are let in again, on whole virtual clusters: each counts once, whoever dies when. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, connectorSource, fileSink, fileSource, lines, source } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import { resendLetters } from "../../src/cli/commands/dead_letters_resend.ts";
import { ExternalClient } from "../../src/cli/external_client.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { findDeadLetters } from "../../src/store/dead_letters_read.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { COOKIE, connect, keyStream } from "../lib/counting_cluster.ts";
import { PORTS, VirtualCluster } from "../lib/virtual_cluster.ts";

const INPUT = "/data/in.txt";
const OUTPUT = "/data/out";
const RECORDS = 100;
const STAGES = ["decode", "double", "key", "count", "after", "encode"] as const;

/** What user code refuses: the last digit of a number says where, by its index in `STAGES`. */
class Refusing {
  readonly at = new Set<(typeof STAGES)[number]>(STAGES);

  check(stage: (typeof STAGES)[number], number: number): number {
    if (this.at.has(stage) && STAGES[number % 10] === stage) throw new Error(`no ${stage}`);
    return number;
  }
}

function picky(refusing: Refusing): Application {
  return application("Picky", () =>
    source(
      "numbers",
      fileSource({
        path: INPUT,
        framing: lines,
        rate: 2000,
        decode: (payload) => refusing.check("decode", Number(payload.text())),
      }),
    )
      .to("double", (number) => ({ number: refusing.check("double", number) }))
      .keyBy(({ number }) => `k${refusing.check("key", number) % 50}`)
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply({ number }, state) {
          refusing.check("count", number);
          state.n++;
          return { number, n: state.n };
        },
      })
      .to("after", ({ number, n }) => ({ number: refusing.check("after", number), n }))
      .toSink(
        fileSink({
          directory: OUTPUT,
          encode: ({ number, n }) => `${refusing.check("encode", number)} ${n}\n`,
        }),
      ),
  );
}

function cluster(seed: number, workers: number, refusing: Refusing, checkpoints = true): VirtualCluster {
  const made = new VirtualCluster({
    seed,
    workers,
    application: () => picky(refusing),
    config: {
      inputs: new Map(),
      outputs: [],
      checkpoints: { ...NO_CHECKPOINTS, intervalMs: checkpoints ? 100 : null },
    },
  });
  made.names.forEach((name, worker) => {
    const numbers = Array.from({ length: RECORDS }, (_, i) => `${worker * RECORDS + i}\n`);
    made.machines.get(name)!.disk.put(INPUT, numbers.join(""));
  });
  return made;
}

/** The tool, on one worker's machine, through another. */
class Resending {
  status: number | null = null;
  error: unknown = null;
  readonly process: VirtualProcess;

  constructor(made: VirtualCluster, on: string, through: string, again = false) {
    this.process = made.machines.get(on)!.startProcess(async (runtime) => {
      try {
        const address = { host: through, port: PORTS.external };
        const client = await ExternalClient.connect(runtime, address, "Unable to connect");
        this.status = await resendLetters(runtime, client, {
          files: await findDeadLetters(runtime.disk, "/tmp"),
          isWanted: () => true,
          again,
          anotherCluster: false,
          timeoutMs: 20_000,
        });
      } catch (error) {
        this.error = error;
        this.status = 1;
      }
    });
  }

  get output(): string {
    return this.process.stdout;
  }
}

function textOut(made: VirtualCluster): string[] {
  return made.names.flatMap((name) => {
    const { disk } = made.machines.get(name)!;
    const visible = disk.paths().filter((path) => path.startsWith(`${OUTPUT}/part-`));
    const text = visible.map((path) => new TextDecoder().decode(disk.peek(path)!)).join("");
    return text.split("\n").slice(0, -1);
  });
}

function linesOut(made: VirtualCluster): { number: number; n: number }[] {
  return textOut(made).map((line) => {
    const [number, n] = line.split(" ");
    return { number: Number(number), n: Number(n) };
  });
}

const byNumber = (a: number, b: number) => a - b;
const numbersOut = (made: VirtualCluster) =>
  linesOut(made)
    .map(({ number }) => number)
    .sort(byNumber);
const numbers = (made: VirtualCluster) => Array.from({ length: made.names.length * RECORDS }, (_, i) => i);

/** All that is not refused is out. */
async function settled(made: VirtualCluster): Promise<void> {
  const good = numbers(made).filter((number) => number % 10 >= STAGES.length);
  await made.world.runUntil(() => made.world.steps % 200 === 0 && linesOut(made).length >= good.length, 60_000);
  assert.deepEqual(numbersOut(made), good);
  await made.world.runFor(500);
}

async function ended(made: VirtualCluster, tool: Resending): Promise<void> {
  assert.ok(await made.world.runUntil(() => tool.status !== null, 200_000), "the tool has an end");
}

test("what each kind of operator refused goes in again there, once; a second run sends nothing", {
  timeout: 300_000,
}, async () => {
  for (const workers of [1, 3]) {
    const refusing = new Refusing();
    const made = cluster(20 + workers, workers, refusing);
    made.startAll();
    assert.ok(await made.working());
    await settled(made);
    refusing.at.clear();
    refusing.at.add("after");
    const through = made.names.at(-1)!;
    for (const on of made.names) {
      const tool = new Resending(made, on, through);
      await ended(made, tool);
      assert.equal(tool.status, 0, `${tool.output}\n${tool.error}`);
      assert.match(tool.output, /^\d+ let in again \(checkpoint \d+ has them\)\n$/);
      const second = new Resending(made, on, through);
      await ended(made, second);
      // What threw once more is a letter again, which was not sent yet.
      assert.match(second.output, /^\d+ let in again.*\n\d+ left out: let in before/);
    }
    await made.world.runFor(1_000);
    const all = numbers(made);
    assert.deepEqual(
      numbersOut(made),
      all.filter((number) => number % 10 !== STAGES.indexOf("after")),
    );
    // The state of a key counted its records once each: also those that were refused only behind it.
    const counts = new Map<number, number>();
    for (const { number, n } of linesOut(made)) {
      counts.set(number % 50, Math.max(counts.get(number % 50) ?? 0, n));
    }
    for (const [key, n] of counts) {
      if (key % 10 !== STAGES.indexOf("encode")) assert.equal(n, all.filter((each) => each % 50 === key).length);
    }
    made.processes.get("initializer")!.process.signal("SIGTERM");
    assert.ok(await made.exited());
    for (const { status } of made.processes.values()) assert.equal(status, 0);
  }
});

test("letters that are on their way in when workers die count once, or the tool is told that nobody knows", {
  timeout: 300_000,
}, async () => {
  let certain = 0;
  let rolledBack = 0;
  for (let seed = 1; seed <= 16; seed++) {
    const refusing = new Refusing();
    const made = cluster(100 + seed, 1 + (seed % 3), refusing);
    const random = made.world.stream("faults");
    made.startAll();
    assert.ok(await made.working(), `seed ${seed}`);
    await settled(made);
    refusing.at.clear();
    let unsure = false;
    let unsent = made.names.length;
    for (let round = 0; round < 30 && unsent > 0; round++) {
      unsent = 0;
      for (const on of made.names) {
        const through = made.names[random.int(made.names.length)]!;
        const tool = new Resending(made, on, through);
        // All rounds but some are disturbed, by the death of one or all that are not the tool's partner, or of that.
        if (round < 6) {
          await made.world.runFor(random.int(500) / 10);
          const dead = random.chance(4) ? made.names : [made.names[random.int(made.names.length)]!];
          for (const name of dead) {
            const machine = made.machines.get(name)!;
            if (random.chance(3) && name !== on) {
              machine.powerLoss();
              machine.powerOn();
            } else made.processes.get(name)!.process.kill();
          }
          await made.world.runFor(random.between(0, 60));
          for (const name of dead) made.start(name);
        }
        await ended(made, tool);
        if (/perhaps let in|no answer/.test(tool.output)) unsure = true;
        if (/went back to/.test(tool.output)) rolledBack++;
        if (tool.status !== 0) unsent++;
        await made.world.runFor(1_500);
      }
    }
    assert.equal(unsent, 0, `seed ${seed}`);
    await made.world.runFor(2_000);
    const out = numbersOut(made);
    if (unsure) assert.deepEqual([...new Set(out)], numbers(made), `seed ${seed}`);
    else {
      certain++;
      assert.deepEqual(out, numbers(made), `seed ${seed}`);
    }
  }
  assert.ok(certain > 3 && rolledBack > 0, `${certain} runs in which all was known, ${rolledBack} letters went back`);
});

test("a message of a connector program goes in again where it was refused, with all that stood before it in its message", async () => {
  const count = 60;
  for (const workers of [1, 3]) {
    let isStrict = true;
    const refuse = (place: number, index: number): number => {
      if (isStrict && index % 4 === place) throw new Error(`no ${place}`);
      return index;
    };
    const strict = () =>
      application("Strict", () =>
        source(
          "messages",
          connectorSource({
            cookie: COOKIE,
            decode: (payload, message) => {
              const index = refuse(1, Number(payload.text().split(" ")[1]) - 1);
              return { index, key: message.key, id: `${message.stream}.${message.id}` };
            },
            eventTime: ({ index }) => 1_000 + refuse(2, index),
          }),
        )
          .to("once more", (record) => ({ ...record, index: refuse(3, record.index) }))
          .keyBy(({ key }) => key)
          .toStateful("count", {
            initial: () => ({ n: 0 }),
            apply: ({ key, id }, state) => `${key} ${id} ${++state.n}`,
          })
          .toSink(fileSink({ directory: OUTPUT, encode: (line) => `${line}\n` })),
      );
    const made = new VirtualCluster({
      seed: 40 + workers,
      workers,
      application: strict,
      config: {
        inputs: new Map([["messages", { host: "0.0.0.0", port: PORTS.source, frameBytesMax: null }]]),
        outputs: [],
        checkpoints: { ...NO_CHECKPOINTS, intervalMs: 100 },
      },
    });
    const streams = [1, 2].map((id) => keyStream(id, count, { key: `of-${id}` }));
    made.startAll();
    assert.ok(await made.working());
    const through = made.names.at(-1)!;
    const program = await connect(made, through, streams);
    // What is refused is acknowledged as everything else is: its program forgets it.
    assert.ok(await made.world.runUntil(() => program.finished, 20_000));
    await made.world.runFor(500);
    assert.equal(textOut(made).length, (2 * count) / 4);
    isStrict = false;
    const tool = new Resending(made, through, "initializer");
    await ended(made, tool);
    assert.equal(tool.status, 0, `${tool.output}\n${tool.error}`);
    assert.match(tool.output, /^90 let in again \(checkpoint \d+ has them\)\n$/);
    for (const name of made.names) made.processes.get(name)!.process.kill();
    made.startAll();
    assert.ok(await made.working());
    await made.world.runFor(1_000);
    const out = textOut(made).map((line) => line.split(" "));
    const ids = streams.flatMap(({ id, ids: all }) => all.map((each) => `of-${id} ${id}.${each}`)).sort();
    assert.deepEqual(out.map(([key, id]) => `${key} ${id}`).sort(), ids);
    for (const { key } of streams) {
      const counts = out.filter(([each]) => each === key).map(([, , n]) => Number(n));
      assert.deepEqual(
        counts.sort(byNumber),
        Array.from({ length: count }, (_, i) => i + 1),
      );
    }
    assert.deepEqual(program.violations, []);
  }
});

test("a stop takes no letters, another cluster's are refused in words, and without checkpoints that is said", async () => {
  const refusing = new Refusing();
  const made = cluster(31, 2, refusing, false);
  made.startAll();
  assert.ok(await made.working());
  await made.world.runFor(2_000);
  refusing.at.clear();
  const first = new Resending(made, "w1", "initializer");
  await ended(made, first);
  assert.match(first.output, /^\d\d let in again \(without checkpoints/);
  assert.equal(first.status, 0);
  made.processes.get("initializer")!.process.signal("SIGTERM");
  const late = new Resending(made, "initializer", "initializer");
  await ended(made, late);
  assert.notEqual(late.status, 0);
  assert.doesNotMatch(late.output, /^[1-9]/);
  assert.ok(await made.exited());

  made.startAll();
  await made.world.runFor(5_000);
  const other = new Resending(made, "initializer", "w1");
  await ended(made, other);
  assert.equal(other.status, 1);
  assert.match(
    other.output,
    /not let in: they are of cluster [0-9a-f]{32}, and worker w1 is of cluster .*--another-cluster/,
  );
});
