/** All workers are killed at once and started again, in every order. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examples, sinkOf, withCluster } from "./lib/cluster.ts";
import { Sender } from "./lib/sender.ts";

const orders = [
  [0, 1, 2],
  [2, 1, 0],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [0, 2, 1],
];

test("three workers, all killed, come back in every order with all sources reading", async () => {
  await withCluster({ application: examples.wordCount, workers: 3, sources: ["words"] }, async (cluster) => {
    await cluster.startAll([2, 0, 1]);
    const sink = sinkOf(cluster);
    for (const [round, order] of orders.entries()) {
      await Promise.all(cluster.programs.map((program) => program?.kill()));
      const began = performance.now();
      for (const index of order) cluster.start(index);
      await cluster.waitReady();
      console.log(`all three were back after ${Math.round(performance.now() - began)} ms, in the order ${order}`);
      for (const index of [0, 1, 2]) {
        const from = sink.lineCount;
        const sender = await Sender.open(cluster.sourcePort(index, "words"));
        await sender.send(Array.from({ length: 30 }, (_, at) => `r${round}-${index}-${at}`));
        await sender.close();
        await sink.waitForLines(from + 30);
      }
    }
    assert.equal((await cluster.shutdownThrough(2)).status, 0);
    assert.deepEqual(await cluster.exits(), [0, 0, 0]);
    assert.deepEqual(cluster.files(), []);
  });
});
