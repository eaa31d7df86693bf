/** User code that takes longer than a silent connection lives: everybody says so, and goes on as if nothing had been. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assignOwners, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { sinkOf, withCluster, withFolder } from "./lib/cluster.ts";
import { Sender } from "./lib/sender.ts";
import { waitFor } from "./lib/wait.ts";

const BLOCKS = `
import { application, framed, source, tcpSink, tcpSource } from "tammar";
export default application("Blocks", () =>
  source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }))
    .keyBy((word) => word.split(" ")[0]!)
    .toStateful("count", {
      initial: () => ({ n: 0 }),
      apply(word, state) {
        const until = performance.now() + Number(word.split(" ")[1] ?? "0");
        while (performance.now() < until);
        return word.split(" ")[0] + " " + ++state.n;
      },
    })
    .toSink(tcpSink({ encode: (line) => line + "\\n" })),
);
`;

/** Longer than the 5 s of silence that a connection is given, and than the 5 s of a handshake behind them. */
const BLOCKED_MS = 11_000;

test("user code that does not return for eleven seconds is named with its key, and costs connections, not records", async () => {
  await withFolder(async (folder) => {
    const module = join(folder, "blocks.ts");
    writeFileSync(module, BLOCKS);
    await withCluster({ application: module, workers: 2, sources: ["words"], sink: {} }, async (cluster) => {
      const sink = sinkOf(cluster);
      await cluster.startAll();
      const owners = assignOwners(2);
      const candidates = Array.from({ length: 64 }, (_, i) => `k${i}`);
      const slowKey = candidates.find((key) => owners[keyGroupOf(hashKey(key), owners.length)] === 1)!;
      const words = [...Array.from({ length: 40 }, (_, i) => `w${i}`), slowKey];
      const senders = [
        await Sender.open(cluster.sourcePort(0, "words")),
        await Sender.open(cluster.sourcePort(1, "words")),
      ];
      const sendAll = async () => {
        for (const sender of senders) await sender.send(words);
      };
      await sendAll();
      await waitFor(() => sink.lineCount === 2 * words.length, { what: "the first words" });
      await senders[0]!.send([`${slowKey} ${BLOCKED_MS}`]);
      await cluster.program(0).waitForOutput(/connection to worker1 lost: silent for 5/);
      await sendAll();
      await cluster.program(1).waitForOutput("(user_code_slow)");
      const told = `words/count: user code took 11\\.\\d s in apply of one record with key "${slowKey}"`;
      assert.match(cluster.program(1).output, new RegExp(told));
      await sendAll();
      await waitFor(() => sink.lineCount === 6 * words.length + 1, {
        what: "everything",
        seen: () => `${sink.lineCount} lines`,
      });
      for (const word of words) {
        const counts = sink.lines
          .filter((line) => line.startsWith(`${word} `))
          .map((line) => Number(line.split(" ")[1]));
        const expected = word === slowKey ? 7 : 6;
        // Two connections to the sink: each worker's own lines are in order.
        assert.deepEqual(
          counts,
          Array.from({ length: expected }, (_, i) => i + 1),
          word,
        );
      }
      const said = cluster.programs.map((program) => program!.output).join("\n");
      assert.doesNotMatch(said, /Starting recovery/, "nobody rolls back");
      const { status, output } = await cluster.shutdownThrough(0);
      assert.equal(status, 0, output);
      assert.deepEqual(await cluster.exits(), [0, 0]);
    });
  });
});
