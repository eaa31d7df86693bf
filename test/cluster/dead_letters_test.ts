/**
 * Records that user code refuses, with real processes: each is kept once whoever is killed, `tammar store` knows their file, and
 * it stays until it is asked for. Also what `tammar store` and `query --watch` say of such a cluster.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { withCluster } from "./lib/cluster.ts";
import { Program, runTammar } from "./lib/process.ts";
import { waitFor } from "./lib/wait.ts";

const RECORDS = 4_000;

/** What ends in 1 is not decoded, what ends in 3 not doubled, what ends in 5 not counted. */
const PICKY = `
import { application, fileSink, fileSource, lines, option, source } from "tammar";
const refuse = (number, digit) => {
  if (number % 10 === digit) throw new Error("no " + digit);
  return number;
};
export default application(
  "Picky",
  { options: { input: option.string({ help: "file" }), output: option.string({ help: "folder" }) } },
  ({ options }) =>
    source("numbers", fileSource({
      path: options.input, framing: lines, rate: 1500, decode: (line) => refuse(Number(line.text()), 1),
    }))
      .to("double", (number) => ({ number: refuse(number, 3) }))
      .keyBy(({ number }) => "k" + (number % 50))
      .toStateful("count", {
        /* version */
        initial: () => ({ n: 0 }),
        apply({ number }, state) { state.n++; return { number: refuse(number, 5) }; },
      })
      .toSink(fileSink({ directory: options.output, encode: ({ number }) => number + "\\n" })),
);
`;

function linesOf(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => !name.startsWith("."))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1));
}

interface Scene {
  readonly module: string;
  readonly output: string;
  readonly extra: (index: number) => string[];
}

async function withPicky(use: (scene: Scene) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "tammar-picky-"));
  try {
    const module = join(folder, "picky.ts");
    writeFileSync(module, PICKY);
    for (const index of [0, 1]) {
      const numbers = Array.from({ length: RECORDS }, (_, i) => `${index * RECORDS + i}\n`);
      writeFileSync(join(folder, `input-${index}`), numbers.join(""));
    }
    const output = join(folder, "output");
    const extra = (index: number) => [
      ...["--input", join(folder, `input-${index}`), "--output", output, "--checkpoint-interval", "200ms"],
    ];
    await use({ module, output, extra });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The number that each letter is about. */
async function lettersIn(dir: string): Promise<number[]> {
  const { status, stdout, output } = await runTammar(["dead-letters", dir, "--json"]);
  assert.equal(status, 0, output);
  return stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { bytes: string | null; value?: number | { number: number } })
    .map(({ bytes, value }) =>
      bytes === null ? (typeof value === "number" ? value : value!.number) : Number(Buffer.from(bytes, "base64")),
    );
}

test("each refused record is a dead letter once, though workers are killed; they stay behind a shutdown until they are asked for", async () => {
  await withPicky(async ({ module, output, extra }) => {
    await withCluster({ application: module, workers: 2, extra }, async (cluster) => {
      const all = Array.from({ length: 2 * RECORDS }, (_, i) => i);
      const refused = all.filter((number) => [1, 3, 5].includes(number % 10));
      await cluster.startAll();
      const watch = new Program(
        "watch",
        ["query", "--watch", `127.0.0.1:${cluster.place(0).external}`, "--json", "--interval", "1"],
        {},
      );
      try {
        for (const dead of [[1], [0], [0, 1]]) {
          const before = linesOf(output).length;
          await waitFor(() => linesOf(output).length > before, { what: "new output", everyMs: 20 });
          await Promise.all(dead.map((index) => cluster.program(index).kill()));
          if (dead.length === 2) {
            // Of a cluster that was killed, all can be read.
            const verify = await runTammar(["store", "verify", cluster.dir, "--json"]);
            assert.equal(verify.status, 0, verify.output);
            assert.equal(JSON.parse(verify.stdout).fine, true);
            const show = JSON.parse((await runTammar(["store", "show", cluster.dir, "--json"])).stdout);
            assert.equal(show.workers.length, 2);
            assert.ok(
              show.workers.every(
                ({ deadLetters }: { deadLetters: { letters: number }[] }) => deadLetters[0]!.letters > 0,
              ),
            );
            const list = JSON.parse((await runTammar(["store", "list", cluster.dir, "--json"])).stdout);
            assert.ok(list.clusters[0].checkpoints.length > 0);
            assert.ok(list.clusters[0].decided > 0);
          }
          for (const index of dead) cluster.start(index);
          await cluster.waitReady();
        }
        const done = () => linesOf(output).length === all.length - refused.length;
        await waitFor(done, { what: "all of it", everyMs: 100 });
        type Line = {
          reachable: boolean;
          status?: { workers: Record<string, { checkpoint: Record<string, unknown> }> };
        };
        const looks = () =>
          watch.stdout
            .split("\n")
            .slice(0, -1)
            .map((line) => JSON.parse(line) as Line);
        const lastRecovery = () => looks().at(-1)?.status?.workers["worker1"]?.checkpoint["recovery_role"];
        await waitFor(() => lastRecovery() === "returned", { what: "a look at the recovery" });
        watch.signal("SIGINT");
        assert.equal((await watch.exit()).status, 0, watch.tail());
      } finally {
        await watch.kill();
      }
      assert.equal((await cluster.shutdownThrough(1)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      assert.match(cluster.program(0).output, /Records that user code refused stay in .*tammar dead-letters/);
      assert.deepEqual(
        (await lettersIn(cluster.dir)).sort((a, b) => a - b),
        refused,
      );

      const files = cluster.files();
      assert.ok(
        files.every((name) => !/\/(cluster|decision|LOCK|state)/.test(name)),
        files.join("\n"),
      );
      const shown = await runTammar(["store", "show", cluster.dir]);
      assert.match(shown.output, /dead letters dead-letters-[0-9a-f]{32}: \d+ dead letters, /);
      const kept = await runTammar(["store", "clean", cluster.dir]);
      assert.equal(kept.status, 0, kept.output);
      assert.match(kept.output, /keep .* it has nothing but dead letters \(--dead-letters removes them\)/);
      assert.deepEqual(cluster.files(), files);
      const gone = await runTammar(["store", "clean", cluster.dir, "--dead-letters"]);
      assert.equal(gone.status, 0, gone.output);
      assert.deepEqual(cluster.files(), [], gone.output);
    });
  });
});

test("a suspended cluster whose state has another version goes on with a migration; without one it is refused, and nothing is touched", async () => {
  await withPicky(async ({ module, output, extra }) => {
    await withCluster({ application: module, workers: 2, extra }, async (cluster) => {
      await cluster.startAll();
      await waitFor(() => linesOf(output).length > 0, { what: "output" });
      const keep = await runTammar(["shutdown", "--keep", `127.0.0.1:${cluster.place(0).external}`]);
      assert.equal(keep.status, 0, keep.output);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      const saved = () =>
        cluster
          .files()
          .filter((name) => /segment|decision|dead-letters/.test(name))
          .map((name) => [name, readFileSync(join(cluster.dir, name)).toString("base64")]);
      const before = saved();
      assert.ok(before.length > 4, String(before.map(([name]) => name)));

      writeFileSync(module, PICKY.replace("/* version */", "version: 2,"));
      for (const index of [0, 1]) cluster.start(index);
      // The first that is refused ends; the other waits for it.
      const ended = () => cluster.programs.filter((program) => program?.end !== null && program?.end !== undefined);
      await waitFor(() => ended().length > 0, { what: "a refusal" });
      assert.equal(ended()[0]!.end!.status, 12, cluster.tails());
      assert.match(cluster.tails(), /migrate/);
      await Promise.all(cluster.programs.map((program) => program?.kill()));
      assert.deepEqual(saved(), before, "nothing is touched");

      const migrating = "version: 2, migrate: (old) => ({ n: old.n + 1_000_000 }),";
      writeFileSync(module, PICKY.replace("/* version */", migrating));
      await cluster.startAll();
      await waitFor(() => linesOf(output).length === 2 * RECORDS * 0.7, {
        what: "all",
        everyMs: 100,
      });
      await runTammar(["checkpoint", `127.0.0.1:${cluster.place(0).external}`]);
      const states = await runTammar(["store", "show", cluster.dir, "--stage", "numbers/count", "--key", "k2"]);
      assert.match(states.output, /"n":1000\d{3}/);
      assert.equal((await cluster.shutdownThrough(0)).status, 0);
    });
  });
});

test("store says in words what is no resilience directory, and what is damaged", async () => {
  await withPicky(async ({ module, output, extra }) => {
    await withCluster({ application: module, workers: 2, extra }, async (cluster) => {
      const empty = join(cluster.dir, "..", "empty-of-tammar");
      for (const action of ["list", "show", "verify", "clean"]) {
        const missing = await runTammar(["store", action, join(cluster.dir, "nowhere")]);
        assert.equal(missing.status, 2, missing.output);
        assert.match(missing.output, /there is no such folder/);
        const file = await runTammar(["store", action, module]);
        assert.equal(file.status, 2, file.output);
        assert.match(file.output, /it is not a folder/);
      }
      mkdirSync(empty, { recursive: true });
      for (const action of ["list", "show", "verify", "clean"]) {
        const nothing = await runTammar(["store", action, empty, "--json"]);
        assert.equal(nothing.status, 0, nothing.output);
        JSON.parse(nothing.stdout);
      }
      rmSync(empty, { recursive: true });
      await cluster.startAll();
      await waitFor(() => linesOf(output).length > 0, { what: "output" });
      await Promise.all(cluster.programs.map((program) => program?.kill()));
      const letters = cluster.files().filter((name) => /dead-letters-/.test(name));
      assert.equal(letters.length, 2);
      const path = join(cluster.dir, letters[0]!);
      const whole = readFileSync(path);
      const spoilt = Buffer.from(whole);
      spoilt[20]! ^= 1;
      writeFileSync(path, spoilt);
      const verify = await runTammar(["store", "verify", cluster.dir]);
      assert.equal(verify.status, 12, verify.output);
      assert.match(verify.output, /0 dead letters; damaged at offset 8: the checksum of a letter is wrong/);
      const json = await runTammar(["store", "verify", cluster.dir, "--json"]);
      assert.equal(json.status, 12);
      assert.equal(JSON.parse(json.stdout).fine, false);
      writeFileSync(path, whole);
      assert.equal((await runTammar(["store", "verify", cluster.dir])).status, 0);
    });
  });
});
