import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HeldOutput, wholeOutput } from "../../src/connectors/held_output.ts";
import { decodeConnectorFrame } from "../../src/wire/connector.ts";
import { FrameSplitter } from "../../src/wire/frame.ts";
import { recordsOf } from "./fakes.ts";

function read(bytes: Uint8Array): { id: number; text: string }[] {
  const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
  assert.equal(splitter.push(bytes), "ok");
  assert.equal(splitter.pending, 0);
  return Array.from({ length: splitter.count }, (_, i) => {
    const frame = decodeConnectorFrame(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!));
    assert.ok(frame.kind === "message");
    assert.deepEqual([frame.stream, frame.eventTime, frame.key.length], [1n, 0n, 0]);
    return { id: Number(frame.id), text: new TextDecoder().decode(frame.body) };
  });
}

test("records become messages whose ids are their offsets, beyond 32 bits as well", () => {
  const held = new HeldOutput();
  const start = 2 ** 40 + 5;
  held.reset(start);
  held.push(recordsOf(["one", "", "three"]));
  held.push(recordsOf(["x".repeat(100)]));
  const frames = held.frames(start + 108)!;
  assert.equal(frames.through, start + 108);
  assert.deepEqual(read(frames.bytes), [
    { id: start, text: "one" },
    { id: start + 3, text: "three" },
    { id: start + 8, text: "x".repeat(100) },
  ]);
  assert.equal(held.frames(start + 108), null);
});

test("a record that is larger than a piece goes alone", () => {
  const held = new HeldOutput();
  const large = "x".repeat(300_000);
  held.push(recordsOf(["a", large, "b"]));
  const sizes: number[] = [];
  for (let frames = held.frames(held.end); frames !== null; frames = held.frames(held.end)) {
    sizes.push(read(frames.bytes).length);
  }
  assert.deepEqual(sizes, [1, 1, 1]);
});

test("what a cut write got through is counted in whole records", () => {
  const held = new HeldOutput();
  held.push(recordsOf(["12345", "123"]));
  const { bytes } = held.frames(8)!;
  const at = [0, 35, 36, 37, 69, 70];
  assert.deepEqual(
    at.map((count) => wholeOutput(bytes, count)),
    [0, 0, 5, 5, 5, 8],
  );
});

test("whatever is pushed, released and sought, frames are the records from there on, in order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.nat({ max: 90 }), { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 100 }),
      fc.array(fc.record({ act: fc.constantFrom("push", "push", "frames", "release", "seek"), at: fc.nat() })),
      (sizes, acts) => {
        const held = new HeldOutput();
        // The model: where each record begins.
        const records: { id: number; text: string }[] = [];
        let end = 0;
        let pushed = 0;
        let released = 0;
        let next = 0;
        for (const { act, at } of acts) {
          if (act === "push" && pushed < sizes.length) {
            const texts = sizes[pushed++]!.map((size, i) => `${records.length + i}`.padEnd(size, "."));
            held.push(recordsOf(texts));
            for (const text of texts) {
              if (text !== "") records.push({ id: end, text });
              end += text.length;
            }
          } else if (act === "frames") {
            const [limit] = places(records, end, next, at);
            const frames = held.frames(limit!);
            const wanted = records.filter(({ id, text }) => id >= next && id + text.length <= limit!);
            assert.deepEqual(frames === null ? [] : read(frames.bytes), wanted);
            if (frames !== null) next = frames.through;
          } else if (act === "release") {
            const [place] = places(records, end, released, at);
            released = Math.min(place!, next);
            held.release(released);
          } else if (act === "seek") {
            const [place] = places(records, end, released, at);
            next = place!;
            held.seek(next);
          }
          const after = records.filter(({ id }) => id >= next).length;
          assert.ok(held.countRecords() >= after);
          assert.equal(held.end, end);
        }
      },
    ),
    { numRuns: 500 },
  );

  /** A place where a record begins, or the end: not before `from`. */
  function places(records: readonly { id: number }[], end: number, from: number, pick: number): number[] {
    const all = [...records.map(({ id }) => id).filter((id) => id >= from), end];
    return [all[pick % all.length]!];
  }
});
