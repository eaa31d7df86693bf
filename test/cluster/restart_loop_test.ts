/** Twenty rounds of killing some of two workers and starting them again, in a random order, without a flake. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examples, withCluster } from "./lib/cluster.ts";
import { Sender } from "./lib/sender.ts";
import { noise } from "./lib/strangers.ts";
import { sleep, waitFor } from "./lib/wait.ts";
import { WordCounts, wordList } from "./lib/words.ts";

const rounds = 20;
const words = wordList(20);

test(`two workers survive ${rounds} rounds of kills and restarts in random order`, async () => {
  const seed = Number(process.env["TAMMAR_TEST_SEED"] ?? Date.now() % 1_000_000);
  console.log(`seed: TAMMAR_TEST_SEED=${seed}`);
  const next = noise(seed);
  const counts = new WordCounts();
  const backMs: number[] = [];
  await withCluster(
    { application: examples.wordCount, workers: 2, sources: ["words"], sink: { onLine: counts.take } },
    async (cluster) => {
      await cluster.startAll();
      for (let round = 0; round < rounds; round += 1) {
        const victims = [[0], [1], [0, 1], [1, 0]][Math.floor(next() * 4)] as number[];
        for (const index of victims) await cluster.program(index).kill();
        await sleep(next() * 300);
        const began = performance.now();
        for (const index of victims) {
          cluster.start(index);
          await sleep(next() * 100);
        }
        await cluster.waitReady();
        backMs.push(performance.now() - began);
        for (const index of [0, 1]) {
          const marker = `round${round}-${index}`;
          const sender = await Sender.open(cluster.sourcePort(index, "words"));
          await sender.send([...words, marker, marker]);
          await sender.close();
          await waitFor(() => counts.last(marker) === 2, {
            what: `words sent to worker ${index} in round ${round} (killed: ${victims}, seed ${seed})`,
            seen: () => cluster.tails(),
          });
        }
      }
      assert.deepEqual(counts.malformed, []);
      assert.deepEqual(
        counts.breaks().filter(({ to }) => to !== 1),
        [],
      );
      backMs.sort((a, b) => a - b);
      const median = backMs[Math.floor(backMs.length / 2)] as number;
      console.log(`back after: median ${Math.round(median)} ms, worst ${Math.round(backMs.at(-1) as number)} ms`);
      assert.equal((await cluster.shutdownThrough(1)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      assert.deepEqual(cluster.files(), []);
    },
  );
});
