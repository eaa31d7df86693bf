/** The sink goes away for ten seconds, and comes back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { examples, sinkOf, withCluster } from "./lib/cluster.ts";
import { Sender } from "./lib/sender.ts";
import { sleep, waitFor } from "./lib/wait.ts";
import { WordCounts, wordList } from "./lib/words.ts";

const words = wordList(20);
const awayMs = 10_000;
const perSecond = 4_000;

function settled(counts: WordCounts, total: number): Promise<boolean> {
  return waitFor(() => counts.lineCount >= total, {
    what: `${total} lines`,
    seen: () => `    there are ${counts.lineCount}`,
  });
}

test("a sink that goes away while nothing is on its way to it loses nothing that comes meanwhile", async () => {
  const counts = new WordCounts();
  await withCluster(
    { application: examples.wordCount, workers: 2, sources: ["words"], sink: { onLine: counts.take } },
    async (cluster) => {
      await cluster.startAll();
      const sink = sinkOf(cluster);
      const sender = await Sender.open(cluster.sourcePort(0, "words"));
      await sender.send(words);
      await settled(counts, words.length);
      await sink.close();
      await sleep(300);
      const until = performance.now() + awayMs;
      const sent = await sender.pace(
        (index) => words[index % words.length] as string,
        perSecond,
        () => performance.now() > until,
      );
      for (const index of [0, 1]) assert.equal(cluster.program(index).end, null);
      await sink.reopen();
      await settled(counts, words.length + sent);
      assert.deepEqual(counts.malformed, []);
      assert.deepEqual(counts.breaks(), [], "every count follows its predecessor");
      assert.equal(counts.lineCount, words.length + sent, "and none came twice");
      assert.equal((await cluster.shutdownThrough(0)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
    },
  );
});

test("a sink that goes away under load loses only what the kernel had taken, and gets no cut record", async () => {
  const counts = new WordCounts();
  await withCluster(
    { application: examples.wordCount, workers: 2, sources: ["words"], sink: { onLine: counts.take } },
    async (cluster) => {
      await cluster.startAll();
      const sink = sinkOf(cluster);
      const senders = [
        await Sender.open(cluster.sourcePort(0, "words")),
        await Sender.open(cluster.sourcePort(1, "words")),
      ];
      let stop = false;
      const pacing = senders.map((sender, at) =>
        sender.pace(
          (index) => words[(index + at) % words.length] as string,
          perSecond / 2,
          () => stop,
        ),
      );
      await sleep(2_000);
      await sink.close();
      await sleep(awayMs);
      await sink.reopen();
      await sleep(3_000);
      stop = true;
      const sent = (await Promise.all(pacing)).reduce((sum, count) => sum + count, 0);
      // All words go on: the last count of each is as many as were sent of it.
      await waitFor(() => words.reduce((sum, word) => sum + counts.last(word), 0) === sent, {
        what: `the counts to add up to ${sent}`,
        seen: () => `    they add up to ${words.reduce((sum, word) => sum + counts.last(word), 0)}`,
      });
      const breaks = counts.breaks();
      const lost = breaks.reduce((sum, { from, to }) => sum + (to - from - 1), 0);
      console.log(`lost with the connections: ${lost} of ${sent} lines`);
      assert.deepEqual(counts.malformed, [], "no line is half of a record");
      assert.ok(
        breaks.every(({ from, to }) => to > from),
        "no count came twice",
      );
      assert.equal(new Set(breaks.map(({ word }) => word)).size, breaks.length, "one gap a word at most");
      assert.equal(sent - lost, counts.lineCount);
      // Written within the round trip that told of the loss; the sink read all the time, so it is little.
      assert.ok(lost < perSecond / 2, `${lost} lines were lost`);
      assert.equal((await cluster.shutdownThrough(1)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
      assert.deepEqual(sink.cut, [], "no record is cut by the end");
    },
  );
});
