/** Records that user code refuses, on whole virtual clusters: each is kept once, whoever loses power when. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, type ErrorPolicy, fileSink, fileSource, lines, source } from "../../mod.ts";
import type { Application } from "../../src/api/application.ts";
import { UserCodeError } from "../../src/base/errors.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { type DeadLetter, decodeDeadLetter } from "../../src/store/dead_letter_file.ts";
import { NO_CHECKPOINTS } from "../../src/worker/config.ts";
import { DeadLetters } from "../../src/worker/dead_letters.ts";
import { CollectedLog } from "../connectors/fakes.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

const INPUT = "/data/in.txt";
const OUTPUT = "/data/out";
const RECORDS = 900;

/** Numbers; what ends in 1 can't be decoded, what ends in 3 not doubled, what ends in 5 not counted. */
function picky(onError?: ErrorPolicy, directory = OUTPUT): Application {
  const refuse = (number: number, digit: number) => {
    if (number % 10 === digit) throw new Error(`no ${digit}`);
    return number;
  };
  const policy = onError === undefined ? {} : { onError };
  return application("Picky", () =>
    source(
      "numbers",
      fileSource({
        path: INPUT,
        framing: lines,
        rate: 1000,
        decode: (payload) => refuse(Number(payload.text()), 1),
      }),
    )
      .to("double", (number) => ({ number: refuse(number, 3) }), policy)
      .keyBy(({ number }) => `k${number % 50}`)
      .toStateful("count", {
        initial: () => ({ n: 0 }),
        apply({ number }, state) {
          state.n++;
          return { number: refuse(number, 5), n: state.n };
        },
      })
      .toSink(fileSink({ directory, encode: ({ number, n }) => `${number} ${n}\n` })),
  );
}

function cluster(seed: number, workers: number, app: () => Application, checkpoints = true): VirtualCluster {
  const made = new VirtualCluster({
    seed,
    workers,
    application: app,
    config: {
      inputs: new Map(),
      outputs: [],
      checkpoints: { ...NO_CHECKPOINTS, intervalMs: checkpoints ? 50 : null },
    },
  });
  made.names.forEach((name, worker) => {
    const numbers = Array.from({ length: RECORDS }, (_, i) => `${worker * RECORDS + i}\n`);
    made.machines.get(name)!.disk.put(INPUT, numbers.join(""));
  });
  return made;
}

/** The letters on a worker's disk; the last one may not be whole. */
function lettersOf(made: VirtualCluster, name: string): DeadLetter[] {
  const { disk } = made.machines.get(name)!;
  const letters: DeadLetter[] = [];
  for (const path of disk.paths().filter((each) => /\/dead-letters-[0-9a-f]{32}$/.test(each))) {
    let rest = disk.peek(path)!.subarray(8);
    for (let read = decodeDeadLetter(rest); read.kind === "letter"; read = decodeDeadLetter(rest)) {
      letters.push(read.letter);
      rest = rest.subarray(read.end);
    }
  }
  return letters;
}

function numbersOut(made: VirtualCluster): number[] {
  return made.names.flatMap((name) => {
    const { disk } = made.machines.get(name)!;
    const visible = disk.paths().filter((path) => path.startsWith(`${OUTPUT}/part-`));
    const text = visible.map((path) => new TextDecoder().decode(disk.peek(path)!)).join("");
    return text
      .split("\n")
      .slice(0, -1)
      .map((line) => Number(line.split(" ")[0]));
  });
}

/** What a letter was about. */
function numberOf({ bytes, value }: DeadLetter): number {
  return bytes === null
    ? typeof value === "number"
      ? value
      : (value as { number: number }).number
    : Number(new TextDecoder().decode(bytes));
}

test("each record that is refused is among the dead letters once, whoever loses power when", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const workers = 1 + (seed % 3);
    const made = cluster(seed, workers, () => picky());
    const random = made.world.stream("faults");
    made.startAll();
    const said = () =>
      [...made.processes.values()].flatMap(({ lines, error }) => [...lines.slice(-8), error]).join("\n");
    assert.ok(await made.working(), `seed ${seed}\n${said()}`);
    for (let round = 0; round < 4; round++) {
      await made.world.runFor(random.between(20, 250));
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
    const all = Array.from({ length: workers * RECORDS }, (_, i) => i);
    const good = all.filter((number) => ![1, 3, 5].includes(number % 10));
    const isDone = () => numbersOut(made).length >= good.length;
    await made.world.runUntil(() => made.world.steps % 500 === 0 && isDone(), 60_000);
    assert.ok(isDone(), `seed ${seed}: ${numbersOut(made).length} of ${good.length}\n${said()}`);
    // The last checkpoint, and with it the last letters.
    await made.world.runFor(1_000);
    const letters = made.names.flatMap((name) => lettersOf(made, name));
    const byNumber = letters.map(numberOf).sort((a, b) => a - b);
    assert.deepEqual(
      byNumber,
      all.filter((number) => [1, 3, 5].includes(number % 10)),
      `seed ${seed}`,
    );
    assert.deepEqual(
      numbersOut(made).sort((a, b) => a - b),
      good,
    );
    for (const letter of letters) {
      const [stage, during, error] = {
        1: ["numbers/decode", "decode", "Error: no 1"],
        3: ["numbers/double", "apply", "Error: no 3"],
        5: ["numbers/count", "apply", "Error: no 5"],
      }[numberOf(letter) % 10]!;
      assert.deepEqual([letter.stage, letter.during, letter.error], [stage, during, error]);
      // Behind the exchange its source is known only where there is nobody else to send to.
      const isKnown = stage !== "numbers/count" || workers === 1;
      assert.equal(letter.source, isKnown ? "numbers" : null);
      const input = new TextDecoder().decode(made.machines.get(letter.worker)!.disk.peek(INPUT)!);
      const place = isKnown
        ? { kind: "file", file: INPUT, byte: `\n${input}`.indexOf(`\n${numberOf(letter)}\n`) }
        : null;
      assert.deepEqual(letter.place, place);
      assert.ok(letter.time !== null && Math.abs(letter.time - letter.atMs * 1000) < 60e6);
    }
  }
});

test("dead letters stay when the cluster is shut down, and the next one has a file of its own", async () => {
  let round = 1;
  const made = cluster(11, 2, () => picky(undefined, `${OUTPUT}${round}`));
  for (; round <= 2; round++) {
    for (const name of made.names) made.machines.get(name)!.disk.put(INPUT, "7\n11\n13\n");
    made.startAll();
    assert.ok(await made.working());
    await made.world.runFor(1_000);
    made.processes.get("initializer")!.process.signal("SIGTERM");
    assert.ok(await made.exited(), made.processes.get("initializer")!.lines.join("\n"));
    const initializer = made.processes.get("initializer")!;
    assert.equal(initializer.status, 0, initializer.lines.join("\n"));
    assert.ok(initializer.said("tammar dead-letters /tmp"));
    assert.equal(lettersOf(made, "initializer").length, 2 * round);
    const paths = made.machines.get("initializer")!.disk.paths();
    const left = paths.filter((path) => path.startsWith("/tmp/") && !path.endsWith("/"));
    assert.equal(left.length, round);
  }
});

test("a stage that skips keeps nothing of what it refuses, and one that fails ends the worker in words", async () => {
  const skipping = cluster(12, 1, () => picky("skip"));
  skipping.machines.get("initializer")!.disk.put(INPUT, "7\n13\n15\n");
  skipping.startAll();
  assert.ok(await skipping.working());
  await skipping.world.runFor(1_000);
  assert.deepEqual(lettersOf(skipping, "initializer").map(numberOf), [15]);
  const failing = cluster(13, 1, () => picky("fail"));
  failing.machines.get("initializer")!.disk.put(INPUT, "7\n13\n15\n");
  const worker = failing.start("initializer");
  assert.ok(await failing.exited());
  assert.ok(worker.error instanceof UserCodeError, String(worker.error));
  assert.equal(worker.error.exitStatus, 21);
  assert.match(
    worker.error.message,
    /^numbers\/double: user code threw in apply, source numbers, \/data\/in\.txt at byte 2: Error: no 3; the stage's onError is fail/,
  );
});

test("where a record came from is known behind stages that give more records, or fewer", async () => {
  const app = () =>
    application("Places", () =>
      source(
        "numbers",
        fileSource({
          path: INPUT,
          framing: lines,
          decode: (payload) => (payload.text() === "" ? undefined : Number(payload.text())),
        }),
      )
        .to("even", (number) => (number % 2 === 0 ? number : undefined))
        .to("twice", (number) => [number, number + 1])
        .to("picky", (number) => {
          if (number === 7 || number === 10) throw new Error("no");
          return number;
        })
        .keyBy((number) => {
          if (number === 12) throw new Error("no key");
          return String(number);
        })
        .to("last", (number) => {
          if (number === 13) throw new Error("never");
          return number;
        })
        .toSink(
          fileSink({
            directory: OUTPUT,
            encode: (number) => {
              if (number === 15) throw new Error("no text");
              return `${number}\n`;
            },
          }),
        ),
    );
  const made = cluster(15, 1, app);
  const text = "1\n\n4\n6\n\n10\n11\n12\n\n\n14\n";
  made.machines.get("initializer")!.disk.put(INPUT, text);
  const worker = made.start("initializer");
  assert.ok(await made.working());
  await made.world.runFor(500);
  const found = lettersOf(made, "initializer").map(({ stage, value, place }) => [stage, value, place]);
  const at = (number: number) => ({ kind: "file", file: INPUT, byte: `\n${text}`.indexOf(`\n${number}\n`) });
  assert.deepEqual(found, [
    ["numbers/picky", 7, at(6)],
    ["numbers/picky", 10, at(10)],
    ["numbers/key by before last", 12, at(12)],
    ["numbers/last", 13, at(12)],
    ["numbers/sink files", 15, at(14)],
  ]);
  assert.ok(worker.said('key "13", source numbers, /data/in.txt at byte 14: Error: never'));
});

test("without checkpoints dead letters are kept as well, behind those of an earlier process", async () => {
  const made = cluster(14, 1, () => picky(), false);
  made.machines.get("initializer")!.disk.put(INPUT, "11\n13\n");
  made.startAll();
  assert.ok(await made.working());
  await made.world.runFor(500);
  made.processes.get("initializer")!.process.kill();
  made.start("initializer");
  assert.ok(await made.working());
  await made.world.runFor(500);
  assert.deepEqual(lettersOf(made, "initializer").map(numberOf), [11, 13, 11, 13]);
});

test("a file of dead letters that is full takes no more: that is said once, with what to do", async () => {
  const world = new VirtualWorld({ seed: 3 });
  const log = new CollectedLog();
  const letter = (text: string): DeadLetter => ({
    ...{ atMs: 1, worker: "w1", source: "numbers", place: null, framing: null, stage: "numbers/double" },
    ...{ during: "apply", key: null, time: 5, error: "no", bytes: null, head: null, value: text, unfit: null },
  });
  let done = false;
  world.host("w1").startProcess(async ({ disk }) => {
    await disk.makeDir("/w1");
    const options = { disk, log, folder: "/w1", clusterId: "0".repeat(32), turn: (run: () => void) => run() };
    const letters = new DeadLetters({
      ...options,
      voted: () => {},
      failed: (error) => assert.fail(error),
      bytesMax: 500,
    });
    letters.goBack(0);
    assert.equal(letters.add(letter("fits")), true);
    assert.equal(letters.add(letter("x".repeat(400))), false);
    assert.equal(letters.add(letter("y".repeat(400))), false);
    assert.deepEqual([letters.added, letters.dropped], [1, 2]);
    await letters.close();
    const { length } = (await disk.stat(letters.path))!;
    assert.ok(length > 0 && length <= 500, `${length}`);
    done = true;
  });
  assert.ok(await world.runUntil(() => done, 10_000));
  assert.equal(log.count("dead_letters_full"), 1);
  assert.match(
    log.last("dead_letters_full"),
    /^dead_letters_full: \/w1\/dead-letters-0+ has its full 500 bytes: further records that user code refuses are dropped and counted.*correct the code.*tammar dead-letters \/w1$/,
  );
});
