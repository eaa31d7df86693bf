/**
 * The whole life of a two-worker cluster. `scripts/test` runs this file twice: with the compiled binary, and under Deno.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examples, PHASE_IV, sinkOf, withCluster } from "./lib/cluster.ts";
import { host } from "./lib/ports.ts";
import { runTammar } from "./lib/process.ts";
import { Sender } from "./lib/sender.ts";

const phases = [
  "|~~ INIT PHASE I: Application is created! ~~|",
  "|~~ INIT PHASE II: Application is initialized! ~~|",
  "|~~ INIT PHASE III: Application is ready to work! ~~|",
  PHASE_IV,
];

test("two workers go through all phases, count words at both, and shut down through the other worker", async () => {
  await withCluster({ application: examples.wordCount, workers: 2, sources: ["words"] }, async (cluster) => {
    await cluster.startAll();
    const sink = sinkOf(cluster);
    for (const index of [0, 1]) {
      const program = cluster.program(index);
      let from = 0;
      for (const phase of phases) {
        await program.waitForOutput(phase);
        const at = program.stdout.indexOf(phase, from);
        assert.ok(at >= from, `${phase} comes in order on the standard output of ${program.label}`);
        from = at;
      }
    }
    await cluster.program(0).waitForOutput("Application has successfully initialized");

    for (const { external } of cluster.places) {
      const query = await runTammar([
        ...["query", "--external", `${host}:${external}`, "--type", "cluster-status-query", "--json"],
      ]);
      assert.equal(query.status, 0, query.output);
      assert.deepEqual(JSON.parse(query.stdout), {
        processing_messages: true,
        worker_names: ["initializer", "worker1"],
        worker_count: 2,
      });
    }

    // The same words at both workers: every count goes up one by one, wherever the word's key lives.
    const words = Array.from({ length: 40 }, (_, index) => `word${index}`);
    for (const index of [0, 1]) {
      const sender = await Sender.open(cluster.sourcePort(index, "words"));
      await sender.send([words.join(" "), words.join(" ")]);
      await sender.close();
      await sink.waitForLines(words.length * 2 * (index + 1));
    }
    const counts = new Map<string, number[]>();
    for (const line of sink.lines) {
      const [word, count] = line.split(" => ") as [string, string];
      counts.set(word, [...(counts.get(word) ?? []), Number(count)]);
    }
    assert.deepEqual([...counts.keys()].sort(), [...words].sort());
    for (const [word, seen] of counts) {
      // Two workers write to the sink over a connection each, but all lines of one word come from one of them.
      assert.deepEqual(seen, [1, 2, 3, 4], word);
    }

    assert.notDeepEqual(cluster.files(), [], "a running cluster saves its information");
    const shutdown = await cluster.shutdownThrough(1);
    assert.equal(shutdown.status, 0, shutdown.output);
    assert.deepEqual(await cluster.exits(), [0, 0]);
    await sink.waitForEnds();
    assert.deepEqual(sink.cut, []);
    assert.deepEqual(cluster.files(), []);
  });
});
