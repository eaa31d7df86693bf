/** The user's own application: edited in a folder of their own, found by name, compiled into a binary of its own. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { examples, notRunHere, sinkOf, withCluster, withFolder } from "./lib/cluster.ts";
import { root, runTammar, underDeno } from "./lib/process.ts";
import { frame, Sender } from "./lib/sender.ts";
import { waitFor } from "./lib/wait.ts";

/** `word_count.ts` as a user may change it: the line says "times" instead of "=>". */
function editWordCount(path: string): void {
  const text = readFileSync(examples.wordCount, "utf8");
  const edited = text.replaceAll(" => ${", " times ${");
  assert.notEqual(edited, text, "the example has the line that this test edits");
  writeFileSync(path, edited);
}

test("an edited word_count.ts runs from another folder, without node_modules", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "word_count.ts");
    editWordCount(path);
    await withCluster({ application: path, workers: 2, sources: ["words"] }, async (cluster) => {
      await cluster.startAll();
      const sender = await Sender.open(cluster.sourcePort(1, "words"));
      await sender.send(["mine mine"]);
      await sinkOf(cluster).waitForLines(2);
      assert.deepEqual(sinkOf(cluster).lines, ["mine times 1", "mine times 2"]);
    });
  });
});

for (const variable of ["TAMMAR_PATH", "PYTHONPATH"]) {
  test(`a module is found by its name in ${variable}`, async () => {
    await withFolder(async (folder) => {
      mkdirSync(join(folder, "modules"));
      mkdirSync(join(folder, "elsewhere"));
      editWordCount(join(folder, "modules", "my_words.ts"));
      const spawn = {
        cwd: join(folder, "elsewhere"),
        env: { TAMMAR_PATH: undefined, PYTHONPATH: undefined, [variable]: `/nowhere:${join(folder, "modules")}` },
      };
      await withCluster({ application: "my_words", workers: 1, sources: ["words"], spawn }, async (cluster) => {
        await cluster.startAll();
        const sender = await Sender.open(cluster.sourcePort(0, "words"));
        await sender.send(["found"]);
        await sinkOf(cluster).waitForLines(1);
        assert.deepEqual(sinkOf(cluster).lines, ["found times 1"]);
      });
    });
  });
}

test("files in the working directory that Bun would load by itself are left alone", async () => {
  await withFolder(async (folder) => {
    const trap = join(folder, "trap.ts");
    writeFileSync(trap, 'console.log("TRAPPED");\nprocess.exit();\n');
    writeFileSync(join(folder, "bunfig.toml"), `preload = ["${trap}"]\n`);
    writeFileSync(join(folder, ".env"), "TAMMAR_PATH=/trapped\n");
    const result = await runTammar(["worker", "--application-module", "nowhere"], { cwd: folder });
    assert.equal(result.status, 2, result.output);
    assert.ok(!result.output.includes("TRAPPED") && !result.output.includes("/trapped"), result.output);
  });
});

test("the example that converts temperatures: 4-byte floats in, numbers out", async () => {
  await withCluster({ application: examples.celsius, workers: 1, sources: ["celsius"] }, async (cluster) => {
    await cluster.startAll();
    const sender = await Sender.open(cluster.sourcePort(0, "celsius"));
    for (const celsius of [0, 100, -40, 36.5]) {
      const bytes = Buffer.alloc(4);
      bytes.writeFloatBE(celsius);
      await sender.write(frame(bytes));
    }
    await sinkOf(cluster).waitForLines(4);
    const numbers = sinkOf(cluster).lines.map(Number);
    for (const [index, expected] of [32, 212, -40, 97.7].entries()) {
      assert.ok(Math.abs((numbers[index] as number) - expected) < 0.001, `${numbers}`);
    }
  });
});

test("the example that runs without --in: alerts of both kinds", async () => {
  await withCluster({ application: examples.alerts, workers: 1, extra: ["--rate", "2000"] }, async (cluster) => {
    await cluster.startAll();
    const sink = sinkOf(cluster);
    const has = (kind: string): boolean => sink.lines.some((line) => line.startsWith(`${kind} Alert for `));
    await waitFor(() => has("Deposit") && has("Withdrawal"), { what: "alerts of both kinds" });
    for (const line of sink.lines) {
      assert.match(line, /^(Deposit|Withdrawal) Alert for (Fido|Rex|Dr\. Whiskers|Feathers|Mountaineer): -?\d+$/);
    }
  });
});

test("an application compiled into a binary of its own runs a cluster with the same options", async () => {
  if (underDeno) {
    notRunHere("an application compiled by Deno", "deno compile downloads its runtime");
    return;
  }
  await withFolder(async (folder) => {
    // What the manual says: two lines, and a `tammar` that the compiler finds.
    mkdirSync(join(folder, "node_modules"));
    execFileSync("ln", ["-s", root, join(folder, "node_modules/tammar")]);
    editWordCount(join(folder, "word_count.ts"));
    writeFileSync(
      join(folder, "main.ts"),
      'import { run } from "tammar/run";\nimport application from "./word_count.ts";\n\nawait run(application);\n',
    );
    const own = join(folder, "word-count");
    execFileSync(join(root, "node_modules/.bin/bun"), ["build", "--compile", "main.ts", "--outfile", own], {
      cwd: folder,
      stdio: "pipe",
    });
    const options = {
      application: "",
      workers: 2,
      sources: ["words"],
      lead: [],
      spawn: { command: [own], cwd: folder },
    };
    await withCluster(options, async (cluster) => {
      await cluster.startAll();
      const sender = await Sender.open(cluster.sourcePort(0, "words"));
      await sender.send(["own binary own"]);
      await sinkOf(cluster).waitForLines(3);
      assert.deepEqual([...sinkOf(cluster).lines].sort(), ["binary times 1", "own times 1", "own times 2"]);
      cluster.program(1).signal("SIGTERM");
      assert.deepEqual(await cluster.exits(), [0, 0]);
      assert.deepEqual(cluster.files(), []);
    });
    const help = await runTammar(["--help"], { command: [own] });
    assert.equal(help.status, 0);
    const wrong = await runTammar(["--worker-cuont", "2"], { command: [own] });
    assert.equal(wrong.status, 2, wrong.output);
  });
});
