/** A sink that stops reading: sources stop, memory stays flat, and everything arrives once it reads again. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { examples, notRunHere, sinkOf, withCluster } from "./lib/cluster.ts";
import { frame, Sender } from "./lib/sender.ts";
import { sleep, waitFor, within } from "./lib/wait.ts";

const offeredBytes = 1e9;
/** One word of 4,000 characters a frame. */
const payload = frame("x".repeat(4_000));
const piece = Buffer.concat(Array.from({ length: 16 }, () => payload));
/** Read buffers, queues of 1 MiB a sink and the collector's slack; far from what is offered. */
const growthMax = 160e6;

test("1 GB is offered to a worker whose sink has stopped: memory stays flat, then all of it comes out", async () => {
  if (!existsSync("/proc/self/status")) {
    notRunHere("memory with a stopped sink", "no /proc on this machine");
    return;
  }
  let lines = 0;
  await withCluster(
    {
      application: examples.wordCount,
      workers: 1,
      sources: ["words"],
      sink: {
        onLine: () => {
          lines += 1;
        },
      },
    },
    async (cluster) => {
      await cluster.startAll();
      const sink = sinkOf(cluster);
      const program = cluster.program(0);
      const sender = await Sender.open(cluster.sourcePort(0, "words"));
      // Warm: buffers and compiled code are there before the baseline is taken.
      for (let index = 0; index < 500; index += 1) await sender.write(piece);
      await waitFor(() => lines === 500 * 16, { what: "the first lines" });
      const baseline = program.residentBytes();
      let highest = baseline;
      const watch = setInterval(() => {
        highest = Math.max(highest, program.residentBytes());
      }, 50);

      sink.pause();
      const total = Math.ceil(offeredBytes / piece.length);
      const taken = sender.sentBytes;
      const offering = (async () => {
        for (let index = 0; index < total; index += 1) await sender.write(piece);
      })();
      await sleep(5_000);
      const whileStopped = sender.sentBytes - taken;
      const highestStopped = highest;
      assert.ok(whileStopped < 64e6, `${whileStopped} bytes were taken while the sink did not read`);
      assert.equal(program.end, null);

      sink.resume();
      await within(offering, 80_000, "1 GB to be taken");
      await waitFor(() => lines === (500 + total) * 16, {
        what: `${(500 + total) * 16} lines`,
        seen: () => `    there are ${lines}`,
      });
      clearInterval(watch);
      const mb = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
      console.log(`memory: ${mb(baseline)} before, at most ${mb(highestStopped)} stopped, ${mb(highest)} in all`);
      assert.ok(highestStopped - baseline < growthMax, `${mb(highestStopped - baseline)} more while stopped`);
      assert.ok(highest - baseline < growthMax, `${mb(highest - baseline)} more in all`);
      assert.equal((await cluster.shutdownThrough(0)).status, 0);
      assert.deepEqual(await cluster.exits(), [0]);
    },
  );
});
