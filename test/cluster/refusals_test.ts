/** Same program or refused; and what a machine refuses: ports in use. The running cluster goes on each time. */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { type Cluster, type ClusterOptions, examples, withCluster, withFolder } from "./lib/cluster.ts";
import { freePorts, host } from "./lib/ports.ts";
import { Sender } from "./lib/sender.ts";
import { waitFor } from "./lib/wait.ts";
import { WordCounts } from "./lib/words.ts";

const words = (workers: number): ClusterOptions => ({ application: examples.wordCount, workers, sources: ["words"] });

async function holdPort(port: number): Promise<Server> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(port, host, () => done()));
  return server;
}

for (const option of ["--control", "--data", "--external", "--in"] as const) {
  test(`a port in use is exit 11 and names ${option} and the address`, async () => {
    await withCluster(words(1), async (cluster) => {
      const place = cluster.place(0);
      const port = {
        "--control": place.control,
        "--data": place.data,
        "--external": place.external,
        "--in": cluster.sourcePort(0, "words"),
      }[option];
      const server = await holdPort(port);
      try {
        const program = cluster.start(0);
        const { status } = await program.exit();
        assert.equal(status, 11, program.tail());
        assert.ok(program.output.includes(option), program.tail());
        assert.ok(program.output.includes(`${host}:${port}`), program.tail());
        assert.doesNotMatch(program.output, /\n\s+at /, "no stack trace");
        assert.deepEqual(cluster.files(), []);
      } finally {
        server.close();
      }
    });
  });
}

for (const option of ["--my-control", "--my-data"] as const) {
  test(`a port in use at a worker is exit 11 and names ${option} and the address`, async () => {
    await withCluster(words(2), async (cluster) => {
      cluster.start(0);
      const port = option === "--my-control" ? cluster.place(1).control : cluster.place(1).data;
      const server = await holdPort(port);
      try {
        const program = cluster.start(1);
        assert.equal((await program.exit()).status, 11, program.tail());
        assert.ok(program.output.includes(option) && program.output.includes(`${host}:${port}`), program.tail());
      } finally {
        server.close();
      }
    });
  });
}

/** The command line of a worker that is no part of the cluster, with ports of its own. */
async function newcomer(
  cluster: Cluster,
  name: string,
  application: string,
  dir: string = cluster.dir,
): Promise<string[]> {
  const [control, data, external, source] = await freePorts(4);
  return [
    ...["worker", "--application-module", application, "--in", `words@${host}:${source}`],
    ...["--out", `${host}:${cluster.outPort}`, "--resilience-dir", dir, "--name", name],
    ...["--my-control", `${host}:${control}`, "--my-data", `${host}:${data}`, "--external", `${host}:${external}`],
    ...["--control", `${host}:${cluster.place(0).control}`],
  ];
}

/** The cluster still counts words at its first worker. */
async function assertGoesOn(cluster: Cluster): Promise<void> {
  const sink = cluster.sink;
  assert.ok(sink);
  const from = sink.lineCount;
  const sender = await Sender.open(cluster.sourcePort(0, "words"));
  await sender.send(["still", "here"]);
  await sink.waitForLines(from + 2);
  await sender.close();
  for (const program of cluster.programs) assert.equal(program?.end ?? null, null);
}

test("a worker with another application is refused with both fingerprints, exit 13, and leaves no file", async () => {
  await withFolder(async (folder) => {
    const edited = join(folder, "word_count.ts");
    writeFileSync(edited, readFileSync(examples.wordCount, "utf8").replace("split", "split /* mine */ "));
    if (readFileSync(edited, "utf8") === readFileSync(examples.wordCount, "utf8")) {
      writeFileSync(edited, `${readFileSync(examples.wordCount, "utf8")}\n// edited\n`);
    }
    await withCluster(words(2), async (cluster) => {
      cluster.start(0);
      await cluster.program(0).waitForOutput(/worker|listening|PHASE/i);
      const stranger = cluster.run("other application", await newcomer(cluster, "worker1", edited));
      assert.equal((await stranger.exit()).status, 13, stranger.tail());
      const shown = /fingerprint differs: ours (\S+), theirs (\S+)/.exec(stranger.output);
      assert.ok(shown, stranger.tail());
      const [, ours, theirs] = shown as unknown as [string, string, string];
      assert.notEqual(ours, theirs);
      // The other end says the same, the other way round.
      const bare = (text: string): string => text.replace(/[^0-9a-z]+$/i, "");
      await cluster.program(0).waitForOutput(new RegExp(`${bare(theirs)}.*${bare(ours)}`), 5_000);
      assert.deepEqual(
        cluster.files().filter((name) => name.includes("worker1")),
        [],
      );
      // The right one is welcome afterwards.
      cluster.start(1);
      await cluster.waitReady();
      await assertGoesOn(cluster);
    });
  });
});

test("a taken name is refused with exit 13 and the cluster goes on", async () => {
  await withFolder(async (other) => {
    await withCluster(words(2), async (cluster) => {
      await cluster.startAll();
      const stranger = cluster.run("namesake", await newcomer(cluster, "worker1", examples.wordCount, other));
      assert.equal((await stranger.exit()).status, 13, stranger.tail());
      assert.ok(stranger.output.includes("worker1"), stranger.tail());
      await assertGoesOn(cluster);
    });
  });
});

test("one worker too many is refused with exit 13, leaves no file, and the cluster goes on", async () => {
  await withCluster(words(2), async (cluster) => {
    await cluster.startAll();
    const before = cluster.files();
    const stranger = cluster.run("one too many", await newcomer(cluster, "worker2", examples.wordCount));
    assert.equal((await stranger.exit()).status, 13, stranger.tail());
    assert.ok(stranger.output.includes("worker2"), stranger.tail());
    assert.deepEqual(cluster.files(), before);
    await assertGoesOn(cluster);
  });
});

test("a worker named initializer that is not the initializer is refused", async () => {
  await withCluster(words(2), async (cluster) => {
    cluster.start(0);
    const stranger = cluster.run("not the initializer", await newcomer(cluster, "initializer", examples.wordCount));
    const { status } = await stranger.exit();
    assert.ok(status === 2 || status === 13, `${status}\n${stranger.tail()}`);
    assert.ok(stranger.output.includes("initializer"));
  });
});

test("the same application from another folder is the same application", async () => {
  await withFolder(async (folder) => {
    const copy = join(folder, "deep", "word_count.ts");
    mkdirSync(join(folder, "deep"));
    copyFileSync(examples.wordCount, copy);
    const counts = new WordCounts();
    await withCluster({ ...words(2), sink: { onLine: counts.take } }, async (cluster) => {
      cluster.start(0);
      const program = cluster.run("worker1", await newcomer(cluster, "worker1", copy));
      await program.waitForOutput("INIT PHASE IV");
      const sender = await Sender.open(cluster.sourcePort(0, "words"));
      await sender.send(["one", "two"]);
      await waitFor(() => counts.lineCount === 2, { what: "two lines" });
      await sender.close();
    });
  });
});
