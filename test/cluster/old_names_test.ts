/**
 * Existing scripts: the old program names, as `tammar links` writes them, driven with the command lines of the original's
 * test harness, in its order and with its waits.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { examples, notRunHere, withFolder } from "./lib/cluster.ts";
import { freePorts, host } from "./lib/ports.ts";
import { Program, runTammar, underDeno } from "./lib/process.ts";
import { Sender } from "./lib/sender.ts";
import { Sink } from "./lib/sink.ts";
import { sleep, waitFor } from "./lib/wait.ts";

test("machida3, external_sender, sender, data_receiver and cluster_shutdown do what scripts expect", async () => {
  if (underDeno) {
    notRunHere("the old program names", "links need the compiled binary");
    return;
  }
  await withFolder(async (folder) => {
    const links = await runTammar(["links", join(folder, "bin")]);
    assert.equal(links.status, 0, links.output);
    const old = (name: string): { command: string[] } => ({ command: [join(folder, "bin", name)] });
    const work = join(folder, "work");
    const resilience = join(folder, "resilience");
    for (const path of [work, resilience]) mkdirSync(path);

    const ports = (await freePorts(9)) as [number, number, number, number, number, number, number, number, number];
    const at = ports.map((port) => `${host}:${port}`);
    const [control, data, external, in0, control1, data1, external1, in1, out] = at as typeof at &
      [string, string, string, string, string, string, string, string, string];
    const [metrics] = (await freePorts(1)) as [number];
    const pony = ["--ponythreads=1", "--ponypinasio", "--ponynoblock"];
    const command = ["--application-module", "word_count"];
    const env = { PYTHONPATH: join(examples.wordCount, "..") };
    const lines = {
      initializer: [
        ...[...command, "--in", `words@${in0}`, "--out", out, "--metrics", `${host}:${metrics}`],
        ...["--resilience-dir", resilience, "--name", "initializer", "--worker-count", "2", "--data", data],
        ...["--external", external, "--cluster-initializer", "--control", control, ...pony],
      ],
      worker1: [
        ...[...command, "--in", `words@${in1}`, "--out", out, "--metrics", `${host}:${metrics}`],
        ...["--resilience-dir", resilience, "--name", "worker1", "--my-control", control1, "--my-data", data1],
        ...["--external", external1, "--control", control, ...pony],
      ],
    };
    const sink = await Sink.open({ port: ports[8] });
    const programs: Program[] = [];
    const start = (name: keyof typeof lines): Program => {
      const program = new Program(name, lines[name] as string[], { ...old("machida3"), cwd: work, env });
      programs.push(program);
      return program;
    };
    const query = (address: string, type: string, more: string[] = ["--json"]) =>
      runTammar(["--external", address, "--type", type, ...more], old("external_sender"));
    try {
      const initializer = start("initializer");
      await sleep(50);
      start("worker1");
      await sleep(50);
      for (const program of programs) assert.equal(program.end, null, program.tail());
      for (const address of [external, external1]) {
        await waitFor(
          async () => {
            const result = await query(address as string, "cluster-status-query");
            if (result.status !== 0) return false;
            return (JSON.parse(result.stdout) as { processing_messages: boolean }).processing_messages;
          },
          { what: "processing_messages", everyMs: 200, seen: () => initializer.tail() },
        );
        const result = await query(address as string, "cluster-status-query");
        const answer = JSON.parse(result.stdout);
        assert.deepEqual(answer, {
          processing_messages: true,
          worker_names: ["initializer", "worker1"],
          worker_count: 2,
        });
      }
      const text = await query(external as string, "cluster-status-query", []);
      assert.ok(
        text.stdout.includes("Processing messages: true, Worker count: 2, Workers: |initializer,worker1,|"),
        text.stdout,
      );

      // Senders go to the initializer's source only.
      const sender = await Sender.open(ports[3]);
      await sender.send(["a b a"]);
      await sender.close();
      await sink.waitForLines(3);

      // The sender of load, with its unusual letters (-h is the host).
      writeFileSync(join(work, "lines.txt"), "c d\ne f\n\ng h\n");
      const giles = await runTammar(
        [
          ...["--host", in0 as string, "--file", "lines.txt", "--batch-size", "2", "--interval", "10_000_000"],
          ...["--messages", "6", "--repeat", "--no-write", "--ponythreads=1"],
        ],
        { ...old("sender"), cwd: work },
      );
      assert.equal(giles.status, 0, giles.output);
      await sink.waitForLines(3 + 12);

      const partitions = JSON.parse((await query(external as string, "partition-query")).stdout) as Record<
        string,
        unknown
      >;
      assert.deepEqual(Object.keys(partitions).sort(), ["state_partitions", "stateless_partitions"]);
      const sources = JSON.parse((await query(external as string, "source-ids-query")).stdout) as Record<
        string,
        unknown
      >;
      assert.deepEqual(Object.keys(sources), ["source_ids"]);
      const keysOf = async (address: string): Promise<string[]> => {
        const answer = JSON.parse((await query(address, "state-entity-query")).stdout) as Record<string, string[]>;
        return Object.values(answer).flat();
      };
      const keys = [...(await keysOf(external as string)), ...(await keysOf(external1 as string))];
      assert.deepEqual(keys.sort(), ["a", "b", "c", "d", "e", "f", "g", "h"]);

      // Crash and recover, the last worker, with the very same line.
      await programs[1]?.kill();
      programs.pop();
      start("worker1");
      await waitFor(
        async () =>
          (await query(external1 as string, "cluster-status-query")).stdout.includes('"processing_messages":true'),
        { what: "worker1 to be back", everyMs: 200 },
      );

      // The end: SIGTERM to all workers at once.
      for (const program of programs) program.signal("SIGTERM");
      for (const program of programs) assert.equal((await program.exit()).status, 0, program.tail());
      assert.deepEqual(sink.cut, []);

      // And once more, ended by the old tool, whose caller only looks at its exit status.
      programs.length = 0;
      start("initializer");
      start("worker1");
      for (const program of programs) await program.waitForOutput("INIT PHASE IV");
      const shutdown = await runTammar([external as string], old("cluster_shutdown"));
      assert.equal(shutdown.status, 0, shutdown.output);
      for (const program of programs) assert.equal((await program.exit()).status, 0, program.tail());
      const nobody = await query(external as string, "cluster-status-query");
      assert.notEqual(nobody.status, 0, "no answer is an error");
      assert.equal(nobody.stdout, "");
      assert.equal((await runTammar([], old("cluster_shutdown"))).status, 2);

      // data_receiver prints the address as given, and what comes.
      await sink.close();
      const receiver = new Program(
        "data_receiver",
        ["--listen", out as string, "--framed", "--ponynoblock"],
        old("data_receiver"),
      );
      programs.push(receiver);
      await receiver.waitForOutput(`Listening on ${out}`);
      const framed = await Sender.open(ports[8]);
      await framed.send(["first", "second"]);
      await receiver.waitForOutput("first\nsecond\n");
    } catch (error) {
      for (const program of programs) console.log(program.tail());
      throw error;
    } finally {
      for (const program of programs) if (program.end === null) await program.kill();
      await sink.close();
    }
    assert.deepEqual(
      readFileSync(join(work, "lines.txt"), "utf8"),
      "c d\ne f\n\ng h\n",
      "nothing was written into the working directory",
    );
  });
});
