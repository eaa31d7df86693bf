/** Three workers; each is killed with SIGKILL in turn, under load, and comes back with the same command line. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Cluster, examples, PHASE_IV, sinkOf, withCluster } from "./lib/cluster.ts";
import { runTammar } from "./lib/process.ts";
import { Sender } from "./lib/sender.ts";
import { sleep, waitFor } from "./lib/wait.ts";
import { WordCounts, wordList } from "./lib/words.ts";

const words = wordList(60);

/** The last checkpoint that a worker knows of. */
async function epochOf(cluster: Cluster, index: number): Promise<number> {
  const { stdout } = await runTammar(["query", "status", `127.0.0.1:${cluster.place(index).external}`, "--json"]);
  return Number(/"epoch": ?(\d+)/.exec(stdout)?.[1] ?? 0);
}

for (const victim of [2, 1, 0]) {
  const name = victim === 0 ? "initializer" : `worker${victim}`;

  test(`${name} of three is killed under load and comes back; all go back to a checkpoint and count on from there`, async () => {
    const counts = new WordCounts();
    await withCluster(
      { application: examples.wordCount, workers: 3, sources: ["words"], sink: { onLine: counts.take } },
      async (cluster) => {
        await cluster.startAll();
        const survivors = [0, 1, 2].filter((index) => index !== victim);
        const through = survivors[0] as number;
        const pids = survivors.map((index) => cluster.program(index).pid);
        const sender = await Sender.open(cluster.sourcePort(through, "words"));
        let stop = false;
        const pacing = sender.pace(
          (index) => words[index % words.length] as string,
          3_000,
          () => stop,
        );
        await waitFor(() => words.every((word) => counts.last(word) >= 3), { what: "every word" });

        // A checkpoint that has some of each word.
        const counted = await epochOf(cluster, through);
        await waitFor(async () => (await epochOf(cluster, through)) > counted + 1, {
          what: "a checkpoint",
        });

        await cluster.program(victim).kill();
        for (const index of survivors) {
          await cluster
            .program(index)
            .waitForOutput(new RegExp(`${name}.*(lost|gone|closed|reset|disconnect|down)`, "i"));
        }
        await sleep(1_000);
        const began = performance.now();
        cluster.start(victim);
        await cluster.waitWorkerReady(victim);
        console.log(`back after ${Math.round(performance.now() - began)} ms`);
        await cluster.program(victim).waitForOutput(PHASE_IV);

        // Its source reads, and its words are counted again.
        const own = await Sender.open(cluster.sourcePort(victim, "words"));
        await own.send(["of-the-returned", "of-the-returned"]);
        await waitFor(() => counts.last("of-the-returned") === 2, { what: "words of the returned" });
        const before = new Map(words.map((word) => [word, counts.last(word)]));
        await waitFor(() => words.every((word) => counts.last(word) !== before.get(word)), {
          what: "every word to be counted again",
        });
        stop = true;
        await pacing;
        await sender.close();
        await own.close();

        assert.deepEqual(counts.malformed, []);
        // Counts step back once, to where the checkpoint was; none begins anew, and nothing is skipped.
        const breaks = counts.breaks();
        assert.deepEqual(
          breaks.filter(({ from, to }) => to > from || to === 1),
          [],
        );
        assert.equal(new Set(breaks.map(({ word }) => word)).size, breaks.length, "each word stepped back only once");
        assert.deepEqual(
          survivors.map((index) => cluster.program(index).pid),
          pids,
        );
        for (const index of survivors) assert.equal(cluster.program(index).end, null);
        assert.equal(sinkOf(cluster).cut.filter((text) => text.includes("\n")).length, 0);
        assert.equal((await cluster.shutdownThrough(through)).status, 0);
        assert.deepEqual(await cluster.exits(), [0, 0, 0]);
        assert.deepEqual(cluster.files(), []);
      },
    );
  });
}
