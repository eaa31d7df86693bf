import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { framed, lines } from "../../mod.ts";
import { makeRecordSplitter } from "../../src/connectors/record_splitter.ts";
import { encodeFrame } from "../../src/wire/frame.ts";

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

/** Cuts `bytes` into pieces at the given places. */
function pieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  return places.slice(1).map((end, i) => bytes.slice(places[i], end));
}

interface Cut {
  readonly record: string;
  /** Behind it, in the stream. */
  readonly offset: number;
  /** Where the next record begins, behind lines that are left out. */
  nextAt?: number;
}

const longMax = 12;

/** The dull way. */
function linesOf(text: string): { cuts: Cut[]; leftOut: number; rest: string } {
  const cuts: Cut[] = [];
  let leftOut = 0;
  let start = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", start)) {
    const line = text.slice(start, at).replace(/\r$/, "");
    start = at + 1;
    if (line.length > longMax) leftOut++;
    else {
      if (cuts.length > 0)
        cuts.at(-1)!.nextAt = start - (text.slice(0, start).length - text.lastIndexOf("\n", start - 2) - 1);
      cuts.push({ record: line, offset: start });
    }
  }
  return { cuts, leftOut, rest: text.slice(start) };
}

const lineText = fc
  .array(fc.constantFrom("a", "bc", "\n", "\n", "\r\n", "\r", "12345678901", "1234567890123", "x".repeat(40)), {
    maxLength: 60,
  })
  .map((parts) => parts.join(""));

test("lines come out the same however the file is read in pieces, with the place behind each", () => {
  fc.assert(
    fc.property(lineText, fc.array(fc.nat(1000), { maxLength: 20 }), (text, cuts) => {
      const splitter = makeRecordSplitter(lines, longMax);
      const found: Cut[] = [];
      let base = 0;
      const take = () => {
        let last = 0;
        for (let i = 0; i < splitter.count; i++) {
          last = splitter.spanThrough(i);
          const record = DECODER.decode(splitter.bytes.subarray(splitter.starts[i], splitter.ends[i]));
          found.push({ record, offset: base + last });
        }
        base += last;
      };
      for (const piece of pieces(ENCODER.encode(text), cuts)) {
        assert.equal(splitter.push(piece), null);
        take();
        assert.ok(splitter.pending <= longMax + 1);
      }
      const expected = linesOf(text);
      assert.deepEqual(
        found.map(({ record }) => record),
        expected.cuts.map(({ record }) => record),
      );
      for (const [i, { offset, nextAt }] of expected.cuts.entries()) {
        assert.ok(found[i]!.offset === offset || found[i]!.offset === nextAt, `record ${i}: ${found[i]!.offset}`);
      }
      splitter.finish();
      take();
      const rest = expected.rest.replace(/\r$/, "");
      const hasRest = expected.rest !== "" && rest.length <= longMax;
      assert.deepEqual(found.slice(expected.cuts.length), hasRest ? [{ record: rest, offset: text.length }] : []);
      assert.equal(splitter.leftOut, expected.leftOut + (rest.length > longMax ? 1 : 0));
    }),
    { numRuns: 2000 },
  );
});

test("frames come out the same however the file is read in pieces, with the place behind each", () => {
  const payloads = fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 30 });
  fc.assert(
    fc.property(payloads, fc.array(fc.nat(1000), { maxLength: 20 }), fc.nat(3), (contents, cuts, cutOff) => {
      const frames = contents.map((content) => encodeFrame(content));
      const whole = Uint8Array.from(frames.flatMap((frame) => [...frame]));
      const splitter = makeRecordSplitter(framed.u32, 30);
      let base = 0;
      let expected = 0;
      let index = 0;
      for (const piece of pieces(whole.subarray(0, whole.length - Math.min(cutOff, whole.length)), cuts)) {
        assert.equal(splitter.push(piece), null);
        let last = 0;
        for (let i = 0; i < splitter.count; i++) {
          assert.deepEqual(splitter.bytes.slice(splitter.starts[i], splitter.ends[i]), contents[index]);
          expected += frames[index++]!.length;
          last = splitter.spanThrough(i);
          assert.equal(base + last, expected);
        }
        base += last;
      }
      splitter.finish();
      assert.equal(splitter.count, 0);
      if (cutOff === 0) assert.equal(index, contents.length);
      else if (contents.length > 0) assert.ok(index < contents.length || whole.length === 0);
    }),
  );
});

test("a frame that announces more than is allowed is told with its length, behind the frames before it", () => {
  const splitter = makeRecordSplitter(framed.u32, 10);
  const bytes = Uint8Array.from([...encodeFrame(Uint8Array.of(1, 2)), 0, 0, 0, 11, 5]);
  assert.equal(splitter.push(bytes), 11);
  assert.equal(splitter.count, 1);
});
