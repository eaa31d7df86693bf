/** Whoever waits says for whom; workers, peers and sinks may be absent at first, and come and go. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examples, PHASE_III, sinkOf, withCluster } from "./lib/cluster.ts";
import { Sender } from "./lib/sender.ts";
import { sleep, waitFor } from "./lib/wait.ts";
import { WordCounts, wordList } from "./lib/words.ts";

const words = (workers: number) => ({ application: examples.wordCount, workers, sources: ["words"] });

test("the initializer says for whom it waits", async () => {
  await withCluster(words(2), async (cluster) => {
    cluster.start(0);
    await cluster.program(0).waitForOutput("waiting for 1 of 2 workers; have: initializer");
    cluster.start(1);
    await cluster.waitReady();
  });
});

test("a worker that starts before the initializer waits for it and says so", async () => {
  await withCluster(words(2), async (cluster) => {
    cluster.start(1);
    await cluster.program(1).waitForOutput(/waiting for.*initializer/);
    cluster.start(0);
    await cluster.waitReady();
  });
});

test("an absent sink holds Phase III, is named, and is found when it comes", async () => {
  await withCluster(words(2), async (cluster) => {
    const sink = sinkOf(cluster);
    await sink.close();
    for (const index of [0, 1]) cluster.start(index);
    await cluster.program(0).waitForOutput("INIT PHASE II:");
    await cluster.program(0).waitForOutput(new RegExp(`waiting.*${sink.address}|${sink.address}.*wait`, "i"));
    assert.ok(!cluster.program(0).output.includes(PHASE_III), "Phase III waits for the sink");
    assert.notEqual((await cluster.status(0))?.processing_messages, true);
    await sink.reopen();
    await cluster.waitReady();
  });
});

test("a sink that comes and goes ten times is found again each time", async () => {
  const counts = new WordCounts();
  await withCluster({ ...words(1), sink: { onLine: counts.take } }, async (cluster) => {
    await cluster.startAll();
    const sink = sinkOf(cluster);
    const sender = await Sender.open(cluster.sourcePort(0, "words"));
    for (let round = 1; round <= 10; round += 1) {
      await sink.close();
      await sleep(100);
      await sender.send(["again"]);
      await sink.reopen();
      await waitFor(() => counts.last("again") === round, { what: `again => ${round}` });
    }
    assert.deepEqual(counts.breaks(), []);
  });
});

test("a worker that is frozen is noticed as silent within some seconds, and goes on without loss when it thaws", async () => {
  const counts = new WordCounts();
  const list = wordList(20);
  await withCluster({ ...words(2), sink: { onLine: counts.take } }, async (cluster) => {
    await cluster.startAll();
    const sender = await Sender.open(cluster.sourcePort(0, "words"));
    let stop = false;
    const pacing = sender.pace(
      (index) => list[index % list.length] as string,
      1_000,
      () => stop,
    );
    await waitFor(() => counts.lineCount > 500, { what: "500 lines" });
    const frozen = cluster.program(1);
    const from = cluster.program(0).output.length;
    frozen.signal("SIGSTOP");
    try {
      await waitFor(() => /worker1/.test(cluster.program(0).output.slice(from)), {
        what: "the initializer to name worker1",
        seen: () => cluster.program(0).tail(),
      });
    } finally {
      frozen.signal("SIGCONT");
    }
    await sleep(2_000);
    stop = true;
    const sent = await pacing;
    await waitFor(() => counts.lineCount >= sent, {
      what: `${sent} lines`,
      seen: () => `    there are ${counts.lineCount}`,
    });
    assert.deepEqual(counts.breaks(), [], "nothing lost, doubled or out of order");
    assert.equal(counts.lineCount, sent);
    assert.equal((await cluster.shutdownThrough(1)).status, 0);
    assert.deepEqual(await cluster.exits(), [0, 0]);
  });
});

test("logs as JSON: every line is an object with time, level, worker, code and text", async () => {
  await withCluster({ ...words(2), extra: ["--log-format", "json"] }, async (cluster) => {
    await cluster.startAll();
    assert.equal((await cluster.shutdownThrough(0)).status, 0);
    assert.deepEqual(await cluster.exits(), [0, 0]);
    for (const program of cluster.programs) {
      const lines = (program?.output ?? "").split("\n").filter((line) => line !== "");
      assert.ok(lines.length > 4);
      for (const line of lines) {
        const entry = JSON.parse(line) as Record<string, unknown>;
        for (const field of ["time", "level", "worker", "code", "text"])
          assert.ok(field in entry, `${field} in ${line}`);
      }
      assert.ok(lines.some((line) => line.includes("INIT PHASE IV")));
    }
  });
});
