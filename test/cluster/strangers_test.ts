/** Every port is at the mercy of strangers. While they try, alerts flow and words are counted. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Cluster, examples, sinkOf, withCluster } from "./lib/cluster.ts";
import { Sender } from "./lib/sender.ts";
import { strangers } from "./lib/strangers.ts";
import { waitFor } from "./lib/wait.ts";
import { WordCounts } from "./lib/words.ts";

/** Control, data and external of every worker, and every source. */
function allPorts(cluster: Cluster): { what: string; port: number }[] {
  return cluster.places.flatMap((place) => [
    { what: `control of ${place.name}`, port: place.control },
    { what: `data of ${place.name}`, port: place.data },
    { what: `external of ${place.name}`, port: place.external },
    ...[...place.sources].map(([name, port]) => ({ what: `source ${name} of ${place.name}`, port })),
  ]);
}

function assertAllRun(cluster: Cluster, after: string): void {
  for (const program of cluster.programs) {
    assert.equal(program?.end, null, `${program?.label} runs after ${after}\n${program?.tail()}`);
  }
}

test("alerts flow at both workers while strangers of every kind come to every port", async () => {
  let lastLine = performance.now();
  let longestGap = 0;
  const onLine = (): void => {
    const now = performance.now();
    longestGap = Math.max(longestGap, now - lastLine);
    lastLine = now;
  };
  await withCluster(
    { application: examples.alerts, workers: 2, sink: { onLine }, extra: ["--rate", "500"] },
    async (cluster) => {
      await cluster.startAll();
      await sinkOf(cluster).waitForLines(50);
      longestGap = 0;
      const seed = Date.now() % 1_000_000;
      for (const [kind, come] of Object.entries(strangers)) {
        await Promise.all(allPorts(cluster).map(({ port }, at) => come(port, seed + at)));
        assertAllRun(cluster, `${kind} (seed ${seed})`);
      }
      const from = sinkOf(cluster).lineCount;
      await sinkOf(cluster).waitForLines(from + 50);
      for (const index of [0, 1]) {
        assert.deepEqual(await cluster.status(index), {
          processing_messages: true,
          worker_count: 2,
          worker_names: ["initializer", "worker1"],
        });
        // Said, but not once per stranger.
        const { output } = cluster.program(index);
        assert.ok(output.length < 200_000, `${output.length} characters of output`);
      }
      console.log(`longest pause between two alerts: ${Math.round(longestGap)} ms`);
      // A strangers' deadline that held everybody up would be five seconds, for each kind of them.
      assert.ok(longestGap < 15_000, `no alert for ${Math.round(longestGap)} ms`);
      assert.equal((await cluster.shutdownThrough(0)).status, 0);
      assert.deepEqual(await cluster.exits(), [0, 0]);
    },
  );
});

test("words are counted while strangers come to the source's own port", async () => {
  const counts = new WordCounts();
  await withCluster(
    { application: examples.wordCount, workers: 1, sources: ["words"], sink: { onLine: counts.take } },
    async (cluster) => {
      await cluster.startAll();
      const port = cluster.sourcePort(0, "words");
      const sender = await Sender.open(port);
      let stop = false;
      const pacing = sender.pace(
        () => "good",
        1_000,
        () => stop,
      );
      for (const [kind, come] of Object.entries(strangers)) {
        await Promise.all([come(port, 1), come(port, 2), come(port, 3)]);
        assertAllRun(cluster, kind);
      }
      stop = true;
      const sent = await pacing;
      await waitFor(() => counts.last("good") === sent, { what: `good => ${sent}` });
      assert.equal(counts.breaks().filter(({ word }) => word === "good").length, 0);
    },
  );
});
