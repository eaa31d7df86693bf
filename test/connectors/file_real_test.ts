// File to file on the disk of this machine: a source, a sink, and checkpoints between two lives.
import assert from "node:assert/strict";
import { appendFileSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { Prng } from "../../src/base/prng.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { realRuntime, withFolder } from "../lib/real_runtime.ts";
import { recordsOf } from "./fakes.ts";
import { Writing } from "./file_sink_kit.ts";
import { numbered, Reading, text } from "./file_source_kit.ts";

const DEADLINE_MS = 60_000;

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not within ${DEADLINE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function visible(folder: string): string {
  const names = readdirSync(folder).filter((name) => !name.startsWith("."));
  return names
    .sort()
    .map((name) => readFileSync(`${folder}/${name}`, "utf8"))
    .join("");
}

interface Life {
  readonly source: Reading;
  readonly sink: Writing;
}

interface Checkpoint {
  readonly epoch: number;
  readonly source: unknown;
  readonly sink: unknown;
}

async function begin(runtime: Runtime, folder: string, { epoch, source, sink }: Checkpoint): Promise<Life> {
  const life: Life = {
    sink: new Writing(runtime, { folder: `${folder}/out/of it` }),
    source: new Reading(runtime, {
      place: { kind: "directory", path: `${folder}/in` },
      rate: 100_000,
      blocked: () => life.sink.connector.blocked,
      frames: (bytes, starts, ends, count) => {
        const records: string[] = [];
        for (let i = 0; i < count; i++) {
          records.push(`${new TextDecoder().decode(bytes.subarray(starts[i], ends[i]))}\n`);
        }
        life.sink.connector.write(recordsOf(records));
        life.sink.connector.flush();
      },
    }),
  };
  life.sink.connector.transactions!.rollBack(epoch, sink);
  life.sink.connector.start();
  await until("the sink is ready", () => life.sink.connector.everConnected || life.sink.failure !== null);
  assert.equal(life.sink.failure, null);
  life.source.start(source);
  return life;
}

test("file to file: lives that end anywhere between checkpoints give each record once", async () => {
  const runtime = await realRuntime();
  await withFolder(async (folder) => {
    await runtime.disk.makeDir(`${folder}/in`);
    const records = numbered(0, 40_000);
    writeFileSync(`${folder}/in/1.txt`, text(records.slice(0, 15_000)));
    writeFileSync(`${folder}/in/2.gz`, gzipSync(text(records.slice(15_000, 30_000))));
    writeFileSync(`${folder}/in/3.txt`, text(records.slice(30_000)).trimEnd());
    const seed = Math.floor(Math.random() * 1e9);
    const random = new Prng(seed, "lives");
    let complete: Checkpoint = { epoch: 0, source: null, sink: null };
    let epoch = 0;
    let lives = 0;
    for (let ended = false; !ended; lives++) {
      const { source, sink } = await begin(runtime, folder, complete);
      for (let checkpoints = random.int(4); checkpoints >= 0 || lives > 12; checkpoints--) {
        const from = source.connector.records;
        await until("it moves", () => {
          // As the worker does at the end of each turn.
          source.connector.resume();
          return source.done || source.connector.records > from + 1_000;
        });
        assert.equal(source.failure, null);
        ended = source.connector.ended;
        const next: Checkpoint = { epoch: ++epoch, source: source.snapshot(), sink: sink.prepare(epoch) };
        if (!ended && random.chance(6)) break;
        await until("the sink votes", () => sink.votes.has(epoch));
        assert.deepEqual(sink.votes.get(epoch), { kind: "commit" });
        complete = next;
        if (!ended && random.chance(4)) break;
        sink.connector.transactions!.commit(epoch);
        sink.connector.flush();
        if (ended) break;
      }
      source.connector.close();
      if (ended) await until("all is visible", () => visible(`${folder}/out/of it`).length === text(records).length);
      // Only the lock is given back: what a life had in memory and in hidden files is as after a kill.
      await sink.connector.close(ended ? 1_000 : 0);
      const seen = visible(`${folder}/out/of it`);
      assert.ok(text(records).startsWith(seen) && (seen === "" || seen.endsWith("\n")), `seed ${seed}, life ${lives}`);
    }
    assert.equal(visible(`${folder}/out/of it`), text(records), `seed ${seed}`);
    assert.deepEqual(
      readdirSync(`${folder}/out/of it`).filter((name) => name.startsWith(".")),
      [".tammar-w1"],
    );
    assert.equal(statSync(`${folder}/out/of it`).mode & 0o777, 0o700);
  });
});

test("a file of this machine is followed while it grows", async () => {
  const runtime = await realRuntime();
  await withFolder(async (folder) => {
    const path = `${folder}/growing.txt`;
    const reading = new Reading(runtime, { place: { kind: "path", path }, follow: true }).start();
    await until("it waits", () => reading.log.count("source_file_awaited") === 1);
    writeFileSync(path, "one\ntw");
    await until("a line", () => reading.records.length === 1);
    appendFileSync(path, "o\nthree\n");
    await until("all lines", () => reading.records.length === 3);
    assert.deepEqual(reading.records, ["one", "two", "three"]);
    reading.connector.close();
    assert.equal(reading.failure, null);
  });
});
