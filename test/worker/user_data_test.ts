// Keys that other programs stumble over, and states that can't be stored, on whole virtual clusters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Application, application, fileSink, fileSource, lines, source } from "../../mod.ts";
import { INITIALIZER } from "../../src/base/ids.ts";
import { NO_CHECKPOINTS, type WorkerConfig } from "../../src/worker/config.ts";
import { VirtualCluster } from "../lib/virtual_cluster.ts";

const INPUT = "/data/in.txt";
const OUTPUT = "/data/out";

const decode = (line: { text(): string }): unknown => JSON.parse(line.text());

function cluster(seed: number, workers: number, app: () => Application, records: readonly unknown[]): VirtualCluster {
  const checkpoints = { ...NO_CHECKPOINTS, intervalMs: 50 };
  const config = { inputs: new Map(), outputs: [], checkpoints };
  const made = new VirtualCluster({ seed, workers, application: app, config });
  for (const name of made.names) {
    made.machines.get(name)!.disk.put(INPUT, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  }
  return made;
}

function visible(made: VirtualCluster): unknown[] {
  return made.names.flatMap((name) => {
    const { disk } = made.machines.get(name)!;
    const parts = disk.paths().filter((path) => path.startsWith(`${OUTPUT}/part`));
    const texts = parts.flatMap((path) => new TextDecoder().decode(disk.peek(path)!).split("\n").slice(0, -1));
    return texts.map((text): unknown => JSON.parse(text));
  });
}

const ODD_KEYS = [
  "",
  " ",
  "\u0000",
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "7",
  "07",
  "-0",
  "NaN",
  "null",
  "undefined",
  "\ud800",
  "\udc00\ud800",
  "\ufffd",
  "a\nb",
  "é",
  "e\u0301",
  "k".repeat(4_096),
];

test("odd keys are keys like any other, on several workers, through checkpoints and kill -9", async () => {
  const rounds = 40;
  const app = () =>
    application("Odd keys", () =>
      source("keys", fileSource({ path: INPUT, framing: lines, rate: 1_000, decode }))
        .keyBy((key) => key as string)
        .toStateful("count", { initial: () => ({ n: 0 }), apply: (key, state) => [[key, ++state.n]] })
        .toSink(fileSink({ directory: OUTPUT, encode: (entry) => `${JSON.stringify(entry)}\n` })),
    );
  // Numbers, missing keys and texts without end are no keys, and cost their record alone.
  const noKeys = [7, null, { toString: "x" }, ["a"], true, "k".repeat(4_097), "k".repeat(1 << 20)];
  const records = Array.from({ length: rounds }, () => ODD_KEYS).flat();
  records.splice(100, 0, ...(noKeys as string[]));
  const made = cluster(91, 3, app, records);
  made.startAll();
  assert.ok(await made.working());
  assert.ok(await made.world.runUntil(() => visible(made).length > 300, 30_000));
  for (const name of ["w1", INITIALIZER]) {
    made.processes.get(name)!.process.kill();
    made.start(name);
    assert.ok(await made.working());
  }
  const whole = 3 * rounds * ODD_KEYS.length;
  assert.ok(await made.world.runUntil(() => visible(made).length >= whole, 60_000), `${visible(made).length} lines`);
  const counts = new Map<string, number[]>();
  for (const [key, n] of visible(made) as [string, number][]) counts.set(key, [...(counts.get(key) ?? []), n]);
  assert.deepEqual([...counts.keys()].sort(), [...ODD_KEYS].sort());
  for (const [key, seen] of counts) {
    const expected = Array.from({ length: 3 * rounds }, (_, i) => i + 1);
    assert.deepEqual(
      seen.toSorted((a, b) => a - b),
      expected,
      JSON.stringify(key.slice(0, 20)),
    );
  }
  const said = made.names.flatMap((name) => made.processes.get(name)!.lines).join("\n");
  assert.match(
    said,
    /user code threw in key, source keys, \/data\/in\.txt at byte \d+: TypeError: The key is a number: return a text/,
  );
  assert.match(said, /RangeError: The key has 4097 UTF-16 code units: at most 4096 are possible/);
  assert.match(said, /RangeError: The key has 1048576 UTF-16 code units: at most 4096 are possible/);
});

/** From record 300 on the state of one key is spoilt. */
const hoarding = (spoil: (state: Record<string, unknown>) => void) =>
  application("Hoarding", () =>
    source("numbers", fileSource({ path: INPUT, framing: lines, rate: 500, decode }))
      .keyBy((number) => `k${(number as number) % 10}`)
      .toStateful("count", {
        initial: (): { n: number } & Record<string, unknown> => ({ n: 0 }),
        apply(number, state) {
          if ((number as number) >= 300 && (number as number) % 10 === 3) spoil(state);
          return `${(number as number) % 10} ${++state.n}`;
        },
      })
      .toSink(fileSink({ directory: OUTPUT, encode: (line) => `${JSON.stringify(line)}\n` })),
  );

const NUMBERS = Array.from({ length: 1_000 }, (_, i) => i);

test("a state that can't be stored fails checkpoints with stage, key and path; the old one stays, and a mended version goes on", async () => {
  const huge = new Uint8Array((64 << 20) + 1);
  const cyclic: Record<string, unknown> = {};
  cyclic["self"] = cyclic;
  const spoilers: readonly [(state: Record<string, unknown>) => void, RegExp][] = [
    [
      (state) => {
        state["cache"] = { fn: () => 7 };
      },
      /\$\.cache\.fn is a function/,
    ],
    [
      (state) => {
        state["loop"] = cyclic;
      },
      /\$\.loop\.self/,
    ],
    [
      (state) => {
        state["tag"] = Symbol("mine");
      },
      /\$\.tag is the symbol Symbol\(mine\)/,
    ],
    [
      (state) => {
        state["when"] = new URL("http://localhost/");
      },
      /\$\.when/,
    ],
    [
      (state) => {
        state["bytes"] = huge;
      },
      /\$\.bytes .*larger than 67108864 bytes/,
    ],
  ];
  for (const [at, [spoil, why]] of spoilers.entries()) {
    const made = cluster(92 + at, 1, () => hoarding(spoil), NUMBERS);
    const worker = made.start(INITIALIZER);
    const failing = () => worker.said("checkpoints_failing");
    assert.ok(await made.world.runUntil(failing, 60_000), `${why}: checkpoints fail`);
    const aborted = worker.lines.find((line) => line.includes("checkpoint_aborted"))!;
    assert.match(aborted, /Cannot store the state of key "k3" in stage "numbers\/count": /);
    assert.match(aborted, why);
    assert.equal(worker.status, null, "it stays, for whoever wants to look");
    const before = visible(made);
    assert.ok(before.length > 0 && before.length <= 303, `${before.length} lines of the last checkpoint are visible`);
    worker.process.kill();
    const change: Partial<WorkerConfig> = {
      application: hoarding(() => {}),
      applicationCodeDigest: "mended",
      checkpoints: { ...NO_CHECKPOINTS, intervalMs: 50, acceptOtherVersion: true },
    };
    made.start(INITIALIZER, change);
    assert.ok(await made.world.runUntil(() => visible(made).length >= NUMBERS.length, 60_000), "it goes on");
    assert.deepEqual(
      visible(made),
      NUMBERS.map((number) => `${number % 10} ${Math.floor(number / 10) + 1}`),
    );
  }
});
