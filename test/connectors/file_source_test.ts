// The file source on the virtual disk.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { framed } from "../../mod.ts";
import { TammarError } from "../../src/base/errors.ts";
import { encodeFrame } from "../../src/wire/frame.ts";
import { numbered, type Place, place, Reading, text } from "./file_source_kit.ts";

const FILE = "/in/numbers.txt";
const FOLDER = "/in";
const atPath = { place: { kind: "path", path: FILE } } as const;
const inFolder = { place: { kind: "directory", path: FOLDER } } as const;

async function readToEnd({ world, runtime }: Place, reading: Reading): Promise<string[]> {
  assert.ok(runtime.clock.monotonicMs() >= 0);
  assert.ok(await world.runUntil(() => reading.done, 60_000), "it did not end");
  assert.equal(reading.failure, null);
  return reading.records;
}

async function refused({ world }: Place, reading: Reading, status: number, ...parts: string[]): Promise<void> {
  assert.ok(await world.runUntil(() => reading.failure !== null, 60_000), `not refused: ${reading.records.length}`);
  const error = reading.failure;
  assert.ok(error instanceof TammarError, String(error));
  assert.equal(error.exitStatus, status, error.message);
  for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
}

test("a file is read to its end, its last line without a line feed too", async () => {
  const here = place();
  here.host.disk.put(FILE, `${text(numbered(0, 20_000))}the last`);
  const reading = new Reading(here.runtime, atPath).start();
  assert.deepEqual(await readToEnd(here, reading), [...numbered(0, 20_000), "the last"]);
  assert.match(reading.log.last("source_file_ended"), /has read \/in\/numbers.txt: 20001 records/);
});

test("a path may be relative to the working folder, and an empty file is no record", async () => {
  const here = place();
  here.host.disk.put(FILE, "");
  const reading = new Reading(here.runtime, { place: { kind: "path", path: "./in/../in/numbers.txt" } }).start();
  assert.deepEqual(await readToEnd(here, reading), []);
});

test("frames are read, and one that was cut at the end of the file is said", async () => {
  const here = place();
  const frames = [..."abc"].flatMap((letter) => [...encodeFrame(new TextEncoder().encode(letter))]);
  here.host.disk.put(FILE, Uint8Array.from([...frames, 0, 0, 0, 9, 1]));
  const reading = new Reading(here.runtime, { ...atPath, framing: framed.u32 }).start();
  assert.deepEqual(await readToEnd(here, reading), ["a", "b", "c"]);
  assert.match(reading.log.last("source_frame_cut"), /the last 5 bytes of \/in\/numbers.txt/);
});

test("a frame that is longer than allowed stops the worker, with the place and both lengths", async () => {
  const here = place();
  here.host.disk.put(FILE, Uint8Array.of(...encodeFrame(Uint8Array.of(65)), 0, 1, 0, 0, 1));
  const reading = new Reading(here.runtime, { ...atPath, framing: framed.u32, lengthMax: 100 }).start();
  await refused(here, reading, 22, FILE, "byte 5", "65536", "100");
});

test("a line that is longer than allowed is left out and said; the others are there", async () => {
  const here = place();
  here.host.disk.put(FILE, `a\n${"x".repeat(200_000)}\nb\n${"y".repeat(11)}\nc\n`);
  const reading = new Reading(here.runtime, { ...atPath, lengthMax: 10 }).start();
  assert.deepEqual(await readToEnd(here, reading), ["a", "b", "c"]);
  assert.equal(reading.connector.linesLeftOut, 2);
  assert.equal(reading.log.count("source_line_too_long"), 1);
});

test("a missing file is refused in words when it is not followed, and waited for when it is", async () => {
  const here = place();
  await refused(here, new Reading(here.runtime, atPath).start(), 11, FILE, "there is no such file");
  await refused(here, new Reading(here.runtime, inFolder).start(), 11, FOLDER, "there is no such folder");
  const file = new Reading(here.runtime, { ...atPath, follow: true }).start();
  const folder = new Reading(here.runtime, { ...inFolder, follow: true }).start();
  await here.world.runFor(5_000);
  here.host.disk.put(FILE, "one\n");
  assert.ok(await here.world.runUntil(() => file.records.length === 1 && folder.records.length === 1, 5_000));
  assert.equal(file.log.count("source_file_awaited"), 1);
  assert.equal(folder.log.count("source_file_awaited"), 1);
});

test("a folder where a file is expected is refused in words", async () => {
  const here = place();
  here.host.disk.put("/in/numbers.txt/x", "one\n");
  await refused(here, new Reading(here.runtime, atPath).start(), 11, FILE, "it is a folder");
});

test("a file that grows is followed; a line counts when its line feed is there", async () => {
  const here = place();
  here.host.disk.put(FILE, "one\ntw");
  const reading = new Reading(here.runtime, { ...atPath, follow: true }).start();
  await here.world.runFor(2_000);
  assert.deepEqual(reading.records, ["one"]);
  here.host.disk.put(FILE, "one\ntwo\nthree");
  await here.world.runFor(2_000);
  assert.deepEqual(reading.records, ["one", "two"]);
  const position = reading.snapshot();
  reading.connector.close();
  here.host.disk.put(FILE, "one\ntwo\nthree\nfour\n");
  const again = new Reading(here.runtime, { ...atPath, follow: true }).start(position);
  await here.world.runFor(2_000);
  assert.deepEqual(again.records, ["three", "four"]);
  assert.equal(again.connector.ended, false);
});

test("a file that is followed and was replaced, cut short or removed is not mistaken for the old one", async () => {
  const here = place();
  here.host.disk.put(FILE, "one\ntwo\n");
  const cut = new Reading(here.runtime, { ...atPath, follow: true }).start();
  await here.world.runFor(500);
  here.host.disk.put(FILE, "one\n");
  await refused(here, cut, 22, FILE, "byte 8", "4 bytes");

  const { disk } = here.runtime;
  here.host.disk.put(FILE, "one\ntwo\n");
  const replaced = new Reading(here.runtime, { ...atPath, follow: true }).start();
  await here.world.runFor(500);
  here.host.disk.put("/in/new", "another one, longer\n");
  await here.world.drive(disk.rename("/in/new", FILE));
  await refused(here, replaced, 22, FILE, "another file");

  here.host.disk.put(FILE, "one\ntwo\n");
  const removed = new Reading(here.runtime, { ...atPath, follow: true }).start();
  await here.world.runFor(500);
  await here.world.drive(disk.remove(FILE));
  await here.world.runFor(5_000);
  assert.equal(removed.failure, null);
  assert.equal(removed.log.count("source_file_gone"), 1);
});

test("a file that is followed may be replaced by a longer one with the same beginning", async () => {
  const here = place();
  here.host.disk.put(FILE, text(numbered(0, 10)));
  const reading = new Reading(here.runtime, { ...atPath, follow: true }).start();
  await here.world.runFor(500);
  here.host.disk.put("/in/new", text(numbered(0, 20)));
  await here.world.drive(here.runtime.disk.rename("/in/new", FILE));
  assert.ok(await here.world.runUntil(() => reading.records.length === 20, 5_000));
  assert.deepEqual(reading.records, numbered(0, 20));
});

test("after a restart a file that was replaced, cut short or taken away is refused with its place", async () => {
  const cases: [string | null, string][] = [
    [text(numbered(0, 10)), "it has 90 bytes now"],
    [text(numbered(5, 2_000)), "it is another file now"],
    ["", "it has 0 bytes now"],
    [null, "it is not there"],
  ];
  for (const [content, why] of cases) {
    for (const follow of [true, false]) {
      for (const where of [atPath, inFolder]) {
        const here = place();
        here.host.disk.put(FILE, text(numbered(0, 1_000)));
        const reading = new Reading(here.runtime, { ...where, follow, stopAt: 500, rate: 10_000 }).start();
        assert.ok(await here.world.runUntil(() => reading.records.length >= 500, 5_000));
        const position = reading.snapshot();
        reading.connector.close();
        if (content === null) await here.world.drive(here.runtime.disk.remove(FILE));
        else here.host.disk.put(FILE, content);
        await refused(here, new Reading(here.runtime, { ...where, follow }).start(position), 22, FILE, "byte ", why);
      }
    }
  }
});

test("a file that was read to its end may be gone at the next start, and may not be another one", async () => {
  const here = place();
  here.host.disk.put(FILE, text(numbered(0, 10)));
  const reading = new Reading(here.runtime, atPath).start();
  await readToEnd(here, reading);
  const position = reading.snapshot();
  assert.deepEqual(await readToEnd(here, new Reading(here.runtime, atPath).start(position)), []);
  here.host.disk.put(FILE, text(numbered(0, 12)));
  assert.deepEqual(await readToEnd(here, new Reading(here.runtime, atPath).start(position)), numbered(10, 12));
  here.host.disk.put(FILE, text(numbered(3, 15)));
  await refused(here, new Reading(here.runtime, atPath).start(position), 22, "it is another file now");
  await here.world.drive(here.runtime.disk.remove(FILE));
  assert.deepEqual(await readToEnd(here, new Reading(here.runtime, atPath).start(position)), []);
});

test("a position that no file source gave is refused", () => {
  const here = place();
  const good = new Reading(here.runtime, atPath).snapshot() as object;
  const started = { name: "a", offset: 1, headLength: 1, headChecksum: 1, atEnd: false };
  for (const bad of [
    1,
    [],
    {},
    { ...good, version: 2 },
    { ...good, finished: [1] },
    { ...good, started: [{ ...started, offset: -1 }] },
    { ...good, started: [{ ...started, offset: 0.5 }] },
    { ...good, started: [{ ...started, name: "../a" }] },
    { ...good, started: [{ ...started, headLength: 5000 }] },
    { ...good, started: [{ ...started, headChecksum: -1 }] },
    { ...good, started: [{ ...started, atEnd: 1 }] },
  ]) {
    assert.throws(
      () => new Reading(here.runtime, atPath).start(bad),
      (error) => error instanceof TammarError && error.exitStatus === 12,
    );
  }
});

test("files of a folder are read in the order of their names; folders and names with a dot in front are left alone", async () => {
  const here = place();
  const { disk } = here.host;
  disk.put("/in/b", "3\n4");
  disk.put("/in/a", "1\n2\n");
  disk.put("/in/.c", "no\n");
  disk.put("/in/d/e", "no\n");
  disk.put("/in/f", "5\n");
  assert.deepEqual(await readToEnd(here, new Reading(here.runtime, inFolder).start()), ["1", "2", "3", "4", "5"]);
});

test("new files of a folder that is followed are picked up; one that sorts before a finished one is said, once, and read", async () => {
  const here = place();
  const { disk } = here.host;
  disk.put("/in/b", "1\n2");
  const reading = new Reading(here.runtime, { ...inFolder, follow: true }).start();
  await here.world.runFor(3_000);
  assert.deepEqual(reading.records, ["1"]);
  disk.put("/in/b", "1\n2 whole");
  disk.put("/in/d", "3\n");
  await here.world.runFor(3_000);
  assert.deepEqual(reading.records, ["1", "2 whole", "3"]);
  disk.put("/in/a", "late");
  disk.put("/in/c", "later\n");
  await here.world.runFor(5_000);
  assert.deepEqual(reading.records, ["1", "2 whole", "3", "late", "later"]);
  assert.equal(reading.log.count("source_file_late"), 2);
  disk.put("/in/d", "3\n4\n");
  await here.world.runFor(3_000);
  assert.deepEqual(reading.records.slice(5), ["4"]);
  const again = new Reading(here.runtime, { ...inFolder, follow: true }).start(reading.snapshot());
  disk.put("/in/aa", "even later\n");
  await here.world.runFor(5_000);
  assert.deepEqual(again.records, ["even later"]);
  assert.equal(again.log.count("source_file_late"), 1);
});

test("finished files may be removed; the position forgets them, unless all are gone at once", async () => {
  const here = place();
  const { disk } = here.host;
  for (const name of ["a", "b", "c"]) disk.put(`/in/${name}`, `${name}\n`);
  const reading = new Reading(here.runtime, { ...inFolder, follow: true }).start();
  await here.world.runFor(3_000);
  await here.world.drive(here.runtime.disk.remove("/in/a"));
  disk.put("/in/d", "d\n");
  await here.world.runFor(3_000);
  const { finished } = reading.snapshot() as { finished: string[] };
  assert.deepEqual(finished, ["b", "c"]);
  assert.deepEqual(reading.records, ["a", "b", "c", "d"]);

  const whole = new Reading(here.runtime, inFolder).start();
  await readToEnd(here, whole);
  const position = whole.snapshot();
  for (const name of ["b", "c", "d"]) await here.world.drive(here.runtime.disk.remove(`/in/${name}`));
  const again = new Reading(here.runtime, { ...inFolder, follow: true }).start(position);
  await here.world.runFor(3_000);
  for (const name of ["b", "c", "d"]) disk.put(`/in/${name}`, `${name}\n`);
  disk.put("/in/e", "e\n");
  await here.world.runFor(3_000);
  assert.deepEqual(again.records, ["e"], "the folder was away for a while");
});

test("compressed files are read by what they hold, also from the middle on", async () => {
  const here = place();
  const content = numbered(0, 30_000);
  here.host.disk.put("/in/a.gz", gzipSync(text(content.slice(0, 20_000))));
  here.host.disk.put("/in/b.gz", gzipSync(text(content.slice(20_000))));
  assert.deepEqual(await untilEnd(here, new Reading(here.runtime, inFolder).start()), content);
  const first = new Reading(here.runtime, { ...inFolder, stopAt: 12_345 }).start();
  await untilSettled(here, () => first.records.length >= 12_345);
  const position = first.snapshot();
  const rest = await untilEnd(here, new Reading(here.runtime, inFolder).start(position));
  assert.deepEqual([...first.records, ...rest], content);
  here.host.disk.put("/in/a.gz", gzipSync(text(content.slice(0, 100))));
  await untilSettled(here, () => false, 1);
  const replaced = new Reading(here.runtime, inFolder).start(position);
  await untilSettled(here, () => replaced.done);
  assert.ok(replaced.failure instanceof TammarError && replaced.failure.exitStatus === 22, String(replaced.failure));
});

test("a damaged compressed file is refused with the place", async () => {
  const here = place();
  const whole = gzipSync(text(numbered(0, 30_000)));
  here.host.disk.put("/in/numbers.txt.gz", whole.subarray(0, whole.length - 20));
  const reading = new Reading(here.runtime, { place: { kind: "path", path: "/in/numbers.txt.gz" } }).start();
  await untilSettled(here, () => reading.done);
  assert.ok(reading.failure instanceof TammarError, String(reading.failure));
  assert.match(reading.failure.message, /Cannot decompress \/in\/numbers.txt.gz beyond byte \d+/);
});

// Decompressing takes real time: the virtual world is asked again until it has happened.
async function untilSettled({ world }: Place, condition: () => boolean, rounds = 20_000): Promise<void> {
  for (let round = 0; round < rounds && !condition(); round++) {
    await world.runFor(1);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function untilEnd(here: Place, reading: Reading): Promise<string[]> {
  await untilSettled(here, () => reading.done);
  assert.equal(reading.failure, null);
  return reading.records;
}

test("a source that is blocked reads nothing on, and goes on where it was", async () => {
  const here = place();
  here.host.disk.put(FILE, text(numbered(0, 100_000)));
  const reading = new Reading(here.runtime, { ...atPath, stopAt: 1 }).start();
  await here.world.runFor(1_000);
  const { bytesRead } = reading.connector;
  assert.ok(bytesRead > 0 && bytesRead <= 64 * 1024, `${bytesRead} bytes were read`);
  reading.stopAt = Number.POSITIVE_INFINITY;
  reading.connector.resume();
  assert.deepEqual(await readToEnd(here, reading), numbered(0, 100_000));
});

test("a rate is kept: late timers lose nothing, a long pause is no flood", async () => {
  const here = place();
  here.host.disk.put(FILE, text(numbered(0, 100_000)));
  const reading = new Reading(here.runtime, { ...atPath, rate: 2_000 }).start();
  await here.world.runFor(10_000);
  const { length } = reading.records;
  assert.ok(length > 19_900 && length <= 20_000, `${length} in ten seconds`);
  reading.blocked = true;
  await here.world.runFor(20_000);
  assert.ok(reading.records.length <= length + 20);
  reading.blocked = false;
  reading.connector.resume();
  await here.world.runFor(100);
  assert.ok(reading.records.length - length < 2_500, `${reading.records.length - length} at once`);
  assert.deepEqual(reading.records, numbered(0, reading.records.length));
});

test("a position may be taken between any two records, and what follows it is read once", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 1 << 30 }),
      fc.array(fc.array(fc.string({ maxLength: 20 }), { maxLength: 40 }), { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      fc.boolean(),
      async (seed, files, follow, newlineAtEnd) => {
        const here = place(seed);
        const random = here.world.stream("test");
        const expected: string[] = [];
        files.forEach((lines, i) => {
          const clean = lines.map((line) => line.replace(/[\r\n]/g, ""));
          // A last line that is empty and has no line feed is none.
          const last = clean.at(-1);
          if (!newlineAtEnd && last === "") clean[clean.length - 1] = "x";
          expected.push(...clean);
          const ends = newlineAtEnd || (follow && i === files.length - 1) ? "\n" : "";
          here.host.disk.put(`/in/${i}`, clean.length === 0 ? "" : clean.join("\n") + ends);
        });
        let position: unknown = null;
        let kept: string[] = [];
        for (let life = 0; life < 6; life++) {
          const reading = new Reading(here.runtime, { ...inFolder, follow, rate: 5_000 });
          reading.stopAt = random.int(Math.max(1, expected.length));
          reading.start(position);
          await here.world.runUntil(() => reading.done, 500);
          assert.equal(reading.failure, null);
          // More is handed on than the position will say, sometimes; a rollback goes back to it on the same connector.
          if (random.chance(2)) {
            position = reading.snapshot();
            kept.push(...reading.records);
          }
          if (random.chance(2)) {
            reading.records.length = 0;
            reading.stopAt = random.int(20);
            reading.connector.checkpoints.seek(position);
            await here.world.runUntil(() => reading.done, 500);
            assert.deepEqual(reading.records, expected.slice(kept.length, kept.length + reading.records.length));
          }
          reading.connector.close();
        }
        const reading = new Reading(here.runtime, { ...inFolder, follow }).start(position);
        await here.world.runUntil(() => reading.done, 5_000);
        kept = [...kept, ...reading.records];
        assert.deepEqual(kept, expected);
      },
    ),
    { numRuns: 150 },
  );
});

test("a source that a stop has closed stands where a recovery puts it, for the last checkpoint", async () => {
  const here = place();
  here.host.disk.put(FILE, text(numbered(0, 10)));
  const reading = new Reading(here.runtime, atPath);
  reading.stopAt = 4;
  reading.start(null);
  await here.world.runUntil(() => reading.done, 5_000);
  const position = reading.snapshot();
  const fresh = new Reading(here.runtime, atPath);
  fresh.connector.close();
  fresh.connector.checkpoints.seek(position);
  assert.deepEqual(fresh.snapshot(), position);
  fresh.connector.checkpoints.seek(null);
  assert.notDeepEqual(fresh.snapshot(), position);
});

test("a disk that fails while a file is read ends the worker in words", async () => {
  for (const operation of ["open", "read", "list", "stat"] as const) {
    const here = place();
    here.host.disk.put(FILE, text(numbered(0, 10)));
    here.host.disk.fault = (asked) => (asked === operation ? "io" : null);
    for (const where of [atPath, inFolder]) {
      const reading = new Reading(here.runtime, where).start();
      await here.world.runUntil(() => reading.done, 5_000);
      if (reading.failure === null) continue;
      assert.ok(reading.failure instanceof TammarError, String(reading.failure));
      assert.equal(reading.failure.exitStatus, 11);
      assert.match(reading.failure.message, /^numbers source: Cannot .* \/in/);
    }
  }
});
