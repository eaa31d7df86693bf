/** Every way to end a cluster: by the tool through each worker, by signals, with sinks that do not help. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { type Cluster, examples, sinkOf, withCluster } from "./lib/cluster.ts";
import { freePorts, host } from "./lib/ports.ts";
import { runTammar } from "./lib/process.ts";
import { frame, Sender } from "./lib/sender.ts";
import { sleep, waitFor } from "./lib/wait.ts";
import { WordCounts, wordList } from "./lib/words.ts";

const words = wordList(25);
const wordCluster = (workers: number, counts?: WordCounts) => ({
  application: examples.wordCount,
  workers,
  sources: ["words"],
  sink: counts === undefined ? {} : { onLine: counts.take },
});

async function assertCleanEnd(cluster: Cluster): Promise<void> {
  assert.deepEqual(
    await cluster.exits(),
    cluster.places.map(() => 0),
    cluster.tails(),
  );
  assert.deepEqual(cluster.files(), [], "no file stays, the locks included");
  await cluster.sink?.waitForEnds();
}

for (const through of [0, 1, 2]) {
  test(`tammar shutdown through worker ${through} of three ends all and reports each`, async () => {
    const counts = new WordCounts();
    await withCluster(wordCluster(3, counts), async (cluster) => {
      await cluster.startAll();
      const sender = await Sender.open(cluster.sourcePort((through + 1) % 3, "words"));
      const sent = await sender.send(Array.from({ length: 400 }, () => words).flat());
      // The worker closes its side after it has read the last frame: from here on all of it was taken in.
      await sender.close();
      const result = await cluster.shutdownThrough(through);
      assert.equal(result.status, 0, result.output);
      for (const { name } of cluster.places) assert.ok(result.output.includes(name), `${name} in: ${result.output}`);
      await assertCleanEnd(cluster);
      assert.equal(counts.lineCount, sent, "what was taken in comes out");
      assert.deepEqual(counts.breaks(), []);
      assert.deepEqual(sinkOf(cluster).cut, []);
    });
  });
}

for (const [signal, to] of [
  ["SIGTERM", 0],
  ["SIGTERM", 1],
  ["SIGINT", 0],
  ["SIGINT", 1],
] as const) {
  test(`${signal} to worker ${to} of two ends both`, async () => {
    await withCluster(wordCluster(2), async (cluster) => {
      await cluster.startAll();
      cluster.program(to).signal(signal);
      await assertCleanEnd(cluster);
    });
  });
}

test("SIGTERM to all three at once: the first signal during a shutdown begun elsewhere is not the second", async () => {
  const counts = new WordCounts();
  await withCluster(wordCluster(3, counts), async (cluster) => {
    await cluster.startAll();
    const sender = await Sender.open(cluster.sourcePort(0, "words"));
    const sent = await sender.send(Array.from({ length: 400 }, () => words).flat());
    await sender.close();
    sinkOf(cluster).pause();
    for (const program of cluster.programs) program?.signal("SIGTERM");
    await sleep(300);
    sinkOf(cluster).resume();
    await assertCleanEnd(cluster);
    assert.equal(counts.lineCount, sent);
    assert.deepEqual(sinkOf(cluster).cut, []);
  });
});

test("a worker that alone forms the cluster ends by SIGTERM", async () => {
  await withCluster(wordCluster(1), async (cluster) => {
    await cluster.startAll();
    cluster.program(0).signal("SIGTERM");
    await assertCleanEnd(cluster);
  });
});

test("a worker that still waits for the others ends by SIGTERM and leaves no file", async () => {
  await withCluster(wordCluster(2), async (cluster) => {
    for (const index of [0, 1]) {
      const program = cluster.start(index);
      await sleep(500);
      program.signal("SIGTERM");
      assert.equal((await program.exit()).status, 0, program.tail());
      assert.deepEqual(cluster.files(), []);
    }
  });
});

/** A shutdown that has something to wait for: the sink doesn't read, and megabytes are on their way to it. */
async function fillSink(cluster: Cluster): Promise<void> {
  const sink = sinkOf(cluster);
  await waitFor(() => sink.openConnections > 0, { what: "a connection at the sink" });
  sink.pause();
  const sender = await Sender.open(cluster.sourcePort(0, "words"));
  // Words of both workers.
  const piece = Buffer.concat(Array.from({ length: 20 }, (_, index) => frame(`${index}`.padEnd(3_000, "y"))));
  const before = performance.now();
  while (performance.now() - before < 5_000) {
    try {
      await sender.write(piece, 1_500);
    } catch {
      break;
    }
  }
}

test("a sink that does not read is waited for until the deadline: ten seconds, and what stayed is counted", async () => {
  await withCluster(wordCluster(2), async (cluster) => {
    await cluster.startAll();
    await fillSink(cluster);
    const began = performance.now();
    cluster.program(1).signal("SIGTERM");
    const exits = await cluster.exits();
    const took = performance.now() - began;
    assert.deepEqual(exits, [0, 0]);
    // That it ends at all is the deadline's doing. Ten seconds are the workers' own, the rest is the machine's.
    assert.ok(took < 40_000, `took ${Math.round(took)} ms`);
    assert.deepEqual(cluster.files(), []);
    const last = cluster.program(0).output.trimEnd().split("\n").slice(-3).join("\n");
    assert.match(last, /\d+ (bytes|records|lines)/, "the last line counts what stayed behind");
  });
});

test("a second signal ends a shutdown that waits, at once", async () => {
  await withCluster(wordCluster(2), async (cluster) => {
    await cluster.startAll();
    await fillSink(cluster);
    const program = cluster.program(0);
    program.signal("SIGTERM");
    await sleep(1_000);
    assert.equal(program.end, null, "it still waits for the sink");
    program.signal("SIGTERM");
    // Nobody can finish a record for a receiver that takes nothing at all: this one is slow, not dead.
    await sleep(20);
    sinkOf(cluster).resume();
    await program.exit();
    assert.match(program.output, /leaving at once/);
    // Everything that the kernel still holds comes out, and its last record is whole.
    await sinkOf(cluster).waitForEnds();
    assert.deepEqual(sinkOf(cluster).cut, []);
  });
});

/** Milliseconds that a shutdown takes whose sink is gone. */
async function stopWithoutSink(): Promise<number> {
  let took = 0;
  await withCluster(wordCluster(2), async (cluster) => {
    await cluster.startAll();
    const sender = await Sender.open(cluster.sourcePort(0, "words"));
    await sinkOf(cluster).close();
    await sleep(200);
    await sender.send(words);
    await sleep(300);
    const began = performance.now();
    const result = await cluster.shutdownThrough(1);
    // All are gone, but not all that was taken in came out: the tool says how much, and its exit status tells.
    assert.equal(result.status, 1, result.output);
    assert.match(result.output, /\d+ records/);
    await assertCleanEnd(cluster);
    took = performance.now() - began;
  });
  return took;
}

test("an absent sink is not waited for", async () => {
  // Who waits for it does so for eight seconds, each time; a busy machine takes a tenth of one, or rarely as long.
  const tries: number[] = [];
  while (tries.length < 4 && (tries.at(-1) ?? 8_000) > 5_000) tries.push(Math.round(await stopWithoutSink()));
  assert.ok((tries.at(-1) ?? 8_000) <= 5_000, `took ${tries} ms`);
});

test("a cluster whose sink was never there ends as well", async () => {
  await withCluster({ ...wordCluster(2), sink: null }, async (cluster) => {
    for (const index of [0, 1]) cluster.start(index);
    for (const index of [0, 1]) await cluster.program(index).waitForOutput("INIT PHASE II:");
    cluster.program(1).signal("SIGTERM");
    await assertCleanEnd(cluster);
  });
});

test("a shutdown while one worker is down ends the others, and all find together again", async () => {
  await withCluster(wordCluster(3), async (cluster) => {
    await cluster.startAll();
    await cluster.program(1).kill();
    const result = await cluster.shutdownThrough(2);
    const others = await Promise.all([0, 2].map((index) => cluster.program(index).exit()));
    assert.deepEqual(
      others.map(({ status }) => status),
      [0, 0],
    );
    // The tool names who did not answer.
    assert.ok(result.output.includes("worker1"), result.output);
    // All keep their files, so that all find the cluster again.
    for (const index of [0, 2]) assert.match(cluster.program(index).output, /The files stay, because/);
    await cluster.startAll();
    assert.match(cluster.program(1).output, /Recovering from recovery files!/);
    cluster.program(1).signal("SIGTERM");
    await assertCleanEnd(cluster);
  });
});

test("tammar shutdown: nobody listens there is exit 1, with the address", async () => {
  const [port] = await freePorts(1);
  const result = await runTammar(["shutdown", `${host}:${port}`]);
  assert.equal(result.status, 1, result.output);
  assert.ok(result.output.includes(`${host}:${port}`), result.output);
});

test("tammar shutdown: somebody else's port, and one that never answers, are exit 1 with a sentence", async () => {
  const answers: [string, (write: (text: string) => void) => void][] = [
    ["http", (write) => write("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")],
    ["silent", () => {}],
  ];
  for (const [kind, answer] of answers) {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () => answer((text) => socket.end(text)));
    });
    await new Promise<void>((done) => server.listen(0, host, () => done()));
    try {
      const { port } = server.address() as { port: number };
      const result = await runTammar(["shutdown", `${host}:${port}`]);
      assert.equal(result.status, 1, `${kind}: ${result.output}`);
      assert.ok(result.output.includes(`${host}:${port}`), `${kind}: ${result.output}`);
    } finally {
      server.close();
    }
  }
});

test("tammar shutdown without an argument shows its usage and is exit 2", async () => {
  const result = await runTammar(["shutdown"]);
  assert.equal(result.status, 2, result.output);
  assert.match(result.output, /HOST:PORT/);
});
