/** A metrics hub that is there, absent, garbage, slow or rude: nobody else notices. */
import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { type Cluster, examples, withCluster } from "./lib/cluster.ts";
import { freePorts, host } from "./lib/ports.ts";
import { Sender } from "./lib/sender.ts";
import { noiseBytes } from "./lib/strangers.ts";
import { sleep, waitFor } from "./lib/wait.ts";
import { WordCounts, wordList } from "./lib/words.ts";

/** Counts words for three seconds and checks that every one came out. */
async function assertCounts(cluster: Cluster, counts: WordCounts, word: string): Promise<void> {
  const sender = await Sender.open(cluster.sourcePort(0, "words"));
  const until = performance.now() + 3_000;
  const sent = await sender.pace(
    () => word,
    1_000,
    () => performance.now() > until,
  );
  await waitFor(() => counts.last(word) === sent, { what: `${word} => ${sent}` });
  await sender.close();
  for (const program of cluster.programs) assert.equal(program?.end, null, program?.tail() ?? "");
}

function words(counts: WordCounts, metricsPort: number) {
  return {
    application: examples.wordCount,
    workers: 2,
    sources: ["words"],
    sink: { onLine: counts.take },
    metricsPort,
  };
}

test("tammar metrics prints what both workers report, as JSON lines", async () => {
  const [port] = (await freePorts(1)) as [number];
  const counts = new WordCounts();
  await withCluster(words(counts, port), async (cluster) => {
    const hub = cluster.run("hub", ["metrics", "--listen", `${host}:${port}`, "--json"]);
    await cluster.startAll();
    // Words of both workers, at the other one too: a period is reported with the first record after its end.
    const other = await Sender.open(cluster.sourcePort(1, "words"));
    const words = wordList(50);
    let stop = false;
    const pacing = other.pace(
      (index) => words[index % words.length] as string,
      500,
      () => stop,
    );
    await assertCounts(cluster, counts, "measured");
    await waitFor(() => ["initializer", "worker1"].every((name) => hub.stdout.includes(name)), {
      what: "reports of both workers",
      seen: () => hub.tail(),
    });
    stop = true;
    await pacing;
    const entries = hub.stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const text = JSON.stringify(entries);
    for (const category of ["computation", "start-to-end", "node-ingress-egress", "pipeline-ingestion"]) {
      assert.ok(text.includes(category), `${category} in ${text.slice(0, 2_000)}`);
    }
    hub.signal("SIGTERM");
    assert.equal((await hub.exit()).status, 0, hub.tail());
    assert.equal((await cluster.shutdownThrough(0)).status, 0);
    assert.deepEqual(await cluster.exits(), [0, 0]);
  });
});

test("nobody listens at --metrics: the cluster does not care", async () => {
  const [port] = (await freePorts(1)) as [number];
  const counts = new WordCounts();
  await withCluster(words(counts, port), async (cluster) => {
    await cluster.startAll();
    await assertCounts(cluster, counts, "unheard");
    assert.equal((await cluster.shutdownThrough(1)).status, 0);
    assert.deepEqual(await cluster.exits(), [0, 0]);
  });
});

const rude: Readonly<Record<string, (socket: Socket) => void>> = {
  "answers garbage": (socket) => {
    socket.resume();
    socket.write(noiseBytes(7, 100_000));
  },
  "never reads": (socket) => {
    socket.pause();
  },
  "hangs up at once": (socket) => {
    socket.destroy();
  },
  resets: (socket) => {
    setTimeout(() => socket.resetAndDestroy(), 50);
  },
};

for (const [what, behave] of Object.entries(rude)) {
  test(`a metrics hub that ${what} disturbs nothing`, async () => {
    const [port] = (await freePorts(1)) as [number];
    const sockets = new Set<Socket>();
    let connections = 0;
    const server: Server = createServer((socket) => {
      connections += 1;
      sockets.add(socket);
      socket.on("error", () => {});
      behave(socket);
    });
    await new Promise<void>((done) => server.listen(port, host, () => done()));
    const counts = new WordCounts();
    try {
      await withCluster(words(counts, port), async (cluster) => {
        await cluster.startAll();
        await assertCounts(cluster, counts, "undisturbed");
        assert.ok(connections > 0, "the hub was called");
        assert.equal((await cluster.shutdownThrough(0)).status, 0);
        assert.deepEqual(await cluster.exits(), [0, 0]);
      });
      // Not more than a few tries a second, whatever the hub does.
      assert.ok(connections < 200, `${connections} connections`);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
      await sleep(10);
    }
  });
}
