import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { AssertionError } from "../../src/base/assert.ts";
import { encodeFrame, FrameSplitter, type HeaderFormat } from "../../src/wire/frame.ts";
import { metered } from "../fuzz/meter.ts";
import { fromHex, split, splitEveryWay, vectors } from "./vectors.ts";

const HEADERS: Record<string, HeaderFormat> = {
  ">I": { bytes: 4 },
  ">H": { bytes: 2 },
  ">Q": { bytes: 8 },
  "<I": { bytes: 4, littleEndian: true },
};

for (const vector of vectors("tcp-framing.json")) {
  const { decoded } = vector;
  // What a sink writes without frames is for the tools that read it.
  if (decoded.framing !== undefined) continue;
  test(`TCP framing vector ${vector.name}`, () => {
    const header = HEADERS[decoded.header_format ?? ">I"]!;
    const bytes = fromHex(vector.hex);
    const { payloads, outcome, pending } = splitEveryWay(bytes, 16_384, header, decoded.split_at);
    if (vector.malformed) {
      switch (vector.name) {
        case "zero-length-payload":
          assert.deepEqual(payloads, [new Uint8Array(0), fromHex("78")]);
          return;
        case "decoder-throws":
          assert.deepEqual(payloads, [fromHex("fffe")]);
          return;
      }
      assert.deepEqual(payloads, []);
      assert.equal(outcome, decoded.outcome === "close" ? "frame_too_large" : "ok");
      assert.equal(pending > 0, decoded.outcome === "incomplete");
      return;
    }
    assert.equal(outcome, "ok");
    assert.equal(pending, 0);
    assert.equal(payloads.length, decoded.payloads.length);
    for (const [i, expected] of decoded.payloads.entries()) {
      const payload = payloads[i]!;
      if (expected.payload_hex !== undefined) assert.equal(Buffer.from(payload).toString("hex"), expected.payload_hex);
      else {
        assert.equal(payload.length, expected.payload_len);
        assert.equal(createHash("sha256").update(payload).digest("hex"), expected.payload_sha256);
      }
    }
    assert.deepEqual(Buffer.concat(payloads.map((payload) => encodeFrame(payload, header))), Buffer.from(bytes));
  });
}

test("every header format, at the limit and one above it", () => {
  for (const bytes of [1, 2, 3, 4, 5, 6, 7, 8]) {
    for (const littleEndian of [false, true]) {
      const header = { bytes, littleEndian };
      const lengthMax = 200;
      const stream = Buffer.concat(
        [0, 1, 200, 7].map((length) => encodeFrame(new Uint8Array(length).fill(length), header)),
      );
      const { payloads, outcome } = splitEveryWay(stream, lengthMax, header);
      assert.deepEqual(
        payloads.map((payload) => payload.length),
        [0, 1, 200, 7],
      );
      assert.equal(outcome, "ok");
      const tooLong = Buffer.concat([encodeFrame(fromHex("01"), header), encodeFrame(new Uint8Array(201), header)]);
      const refused = splitEveryWay(tooLong, lengthMax, header);
      assert.deepEqual(refused, { payloads: [fromHex("01")], outcome: "frame_too_large", pending: 0 });
    }
  }
});

test("a length of eight bytes is refused whole, not cut to 32 bits", () => {
  for (const hex of ["0000000100000000", "ffffffffffffffff", "8000000000000001"]) {
    assert.equal(split(fromHex(hex), [], 1000, { bytes: 8 }).outcome, "frame_too_large");
  }
});

test("a stream that failed stays failed", () => {
  const splitter = new FrameSplitter({ lengthMax: 3 });
  assert.deepEqual(splitter.push(fromHex("00000001aa00000004")), { kind: "frame_too_large", length: 4, lengthMax: 3 });
  assert.equal(splitter.count, 1);
  assert.deepEqual(splitter.push(fromHex("0000000101")), { kind: "frame_too_large", length: 4, lengthMax: 3 });
  assert.equal(splitter.count, 0);
});

test("frames that lie inside of one chunk are not copied", () => {
  const splitter = new FrameSplitter({ lengthMax: 100 });
  const chunk = fromHex("0000000161000000026162");
  splitter.push(chunk);
  assert.equal(splitter.bytes, chunk);
  assert.deepEqual([...splitter.starts.subarray(0, 2)], [4, 9]);
  assert.deepEqual([...splitter.ends.subarray(0, 2)], [5, 11]);
});

test("a frame of 16 MiB grows with what came, and its buffer is given back", () => {
  const splitter = new FrameSplitter({ lengthMax: 2 ** 24 });
  const payload = new Uint8Array(2 ** 24).map((_, i) => i * 7);
  const frame = encodeFrame(payload);
  splitter.push(frame.subarray(0, 65536));
  const pushRest = () => {
    for (let at = 65536; at < frame.length; at += 65536) splitter.push(frame.subarray(at, at + 65536));
  };
  // Buffers that double are twice its length in all; a new one for each chunk would be a hundred times as much.
  metered(pushRest, (asked) => assert.ok(asked <= 4 * frame.length, `${asked} bytes asked for: appending is linear`));
  assert.equal(splitter.count, 1);
  assert.deepEqual(Buffer.compare(splitter.bytes.subarray(splitter.starts[0]!, splitter.ends[0]!), payload), 0);
  splitter.push(fromHex("000000"));
  splitter.push(fromHex("01"));
  splitter.push(fromHex("61"));
  assert.ok(splitter.bytes.buffer.byteLength < 2 ** 20, `still holds ${splitter.bytes.buffer.byteLength} bytes`);
});

test("an announced length alone allocates nothing", () => {
  const splitter = new FrameSplitter({ lengthMax: 2 ** 30 });
  splitter.push(fromHex("3fffffff61"));
  splitter.push(fromHex("62"));
  assert.ok(splitter.bytes.buffer.byteLength < 1024);
});

test("thousands of empty frames in one chunk all appear", () => {
  assert.equal(split(new Uint8Array(65536), [1, 30000], 10, { bytes: 1 }).payloads.length, 65536);
});

test("a header of no or nine bytes is refused", () => {
  for (const bytes of [0, 9, 1.5]) {
    assert.throws(() => new FrameSplitter({ header: { bytes }, lengthMax: 10 }), AssertionError);
  }
  assert.throws(() => encodeFrame(new Uint8Array(256), { bytes: 1 }), AssertionError);
});
