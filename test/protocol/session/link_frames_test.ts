import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ProtocolError } from "../../../src/base/errors.ts";
import {
  type LinkFrames,
  LinkReader,
  PAYLOAD_HEADER_BYTES,
  SMALL_FRAME_BYTES_MAX,
  writeAck,
  writeCredit,
  writeGoodbye,
  writeHeartbeat,
  writePayloadHeader,
  writeResume,
} from "../../../src/wire/link.ts";

class Collected implements LinkFrames {
  open = true;
  readonly frames: unknown[] = [];
  payload(kind: string, exchange: number, generation: number, sequence: number, bytes: Uint8Array): void {
    if (kind !== "batch") assert.equal(bytes.byteOffset, 0);
    this.frames.push(["payload", kind, exchange, generation, sequence, Array.from(bytes)]);
  }
  ack(through: number): void {
    this.frames.push(["ack", through]);
  }
  credit(exchange: number, limit: number): void {
    this.frames.push(["credit", exchange, limit]);
  }
  heartbeat(): void {
    this.frames.push(["heartbeat"]);
  }
  goodbye(reason: string): void {
    this.frames.push(["goodbye", reason]);
  }
  resume(oldest: number, through: number): void {
    this.frames.push(["resume", oldest, through]);
  }
}

const ALL: readonly unknown[] = [
  ["resume", 1, 0],
  ["payload", "control_message", 0, 1, 1, [1, 2, 3]],
  ["payload", "batch", 65_535, 4_294_967_295, 2 ** 53 - 1, Array.from({ length: 300 }, (_, i) => i & 255)],
  ["payload", "end_of_input", 3, 1, 9, []],
  ["payload", "batch", 0, 1, 10, []],
  ["ack", 2 ** 40],
  ["credit", 12, 4 * 2 ** 20],
  ["heartbeat"],
  ["goodbye", "stopped: é"],
  ["goodbye", ""],
];

function encode(frames: readonly unknown[]): Uint8Array {
  const out = new Uint8Array(2_000_000);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const frame of frames as readonly [string, ...unknown[]][]) {
    const [name, ...rest] = frame as [string, ...never[]];
    if (name === "payload") {
      const [kind, exchange, generation, sequence, bytes] = rest as unknown as [
        "batch",
        number,
        number,
        number,
        number[],
      ];
      at = writePayloadHeader(view, at, kind, exchange, generation, sequence, bytes.length);
      out.set(bytes, at);
      at += bytes.length;
    } else if (name === "ack") at = writeAck(view, at, rest[0]!);
    else if (name === "credit") at = writeCredit(view, at, rest[0]!, rest[1]!);
    else if (name === "heartbeat") at = writeHeartbeat(view, at);
    else if (name === "goodbye") at = writeGoodbye(view, at, rest[0]!);
    else at = writeResume(view, at, rest[0]!, rest[1]!);
  }
  return out.slice(0, at);
}

test("every kind of link frame comes out as it went in, cut at any byte", () => {
  const bytes = encode(ALL);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const collected = new Collected();
    const reader = new LinkReader(1_000);
    reader.push(bytes.subarray(0, cut), collected);
    reader.push(bytes.subarray(cut), collected);
    assert.deepEqual(collected.frames, ALL);
  }
  const collected = new Collected();
  const reader = new LinkReader(1_000);
  for (const byte of bytes) reader.push(Uint8Array.of(byte), collected);
  assert.deepEqual(collected.frames, ALL);
});

test("the bytes of a payload are the taker's own, but for a batch, which is handed over where it is", () => {
  const got: Uint8Array[] = [];
  const frames = new Collected();
  frames.payload = (_kind, _exchange, _generation, _sequence, bytes) => got.push(bytes);
  for (const kind of ["control_message", "batch"]) {
    const bytes = encode([["payload", kind, 0, 1, 1, [5, 6, 7]]]);
    new LinkReader(100).push(bytes, frames);
    bytes.fill(0);
  }
  assert.deepEqual(
    got.map((bytes) => [...bytes]),
    [
      [5, 6, 7],
      [0, 0, 0],
    ],
  );
});

test("batches that come in pieces use one buffer, whatever their lengths", () => {
  const body = (length: number) => Array.from({ length }, (_, i) => (i * 7 + length) & 255);
  const all = [300_000, 10, 0, 70_000, 1, 700_000, 30].map((n, i) => ["payload", "batch", 3, 1, i + 1, body(n)]);
  const bytes = encode(all);
  for (const size of [bytes.length, 65_536, 4_099]) {
    const collected = new Collected();
    const reader = new LinkReader(1 << 20);
    const chunk = new Uint8Array(size);
    for (let at = 0; at < bytes.length; at += size) {
      // As a runtime does that reads into one buffer.
      const piece = bytes.subarray(at, at + size);
      chunk.set(piece);
      reader.push(chunk.subarray(0, piece.length), collected);
    }
    assert.deepEqual(collected.frames, all);
  }
});

test("golden bytes of link frames", () => {
  const hex = (frame: unknown) => Array.from(encode([frame]), (byte) => byte.toString(16).padStart(2, "0")).join("");
  assert.equal(hex(["payload", "batch", 2, 1, 3, [0xaa]]), "00000011010200020000000140080000" + "00000000aa");
  assert.equal(hex(["ack", 3]), "00000009024008000000000000");
  assert.equal(hex(["credit", 2, 3]), "0000000b0300024008000000000000");
  assert.equal(hex(["heartbeat"]), "0000000104");
  assert.equal(hex(["goodbye", "bye"]), "0000000405627965");
  assert.equal(hex(["resume", 1, 3]), "00000011063ff00000000000004008000000000000");
});

test("a goodbye is cut at its limit, between characters", () => {
  const collected = new Collected();
  const bytes = encode([["goodbye", "é".repeat(400)]]);
  assert.ok(bytes.length <= SMALL_FRAME_BYTES_MAX);
  new LinkReader(10).push(bytes, collected);
  assert.deepEqual(collected.frames, [["goodbye", "é".repeat(128)]]);
});

function refusal(bytes: readonly number[] | Uint8Array, bodyBytesMax = 10): string {
  try {
    new LinkReader(bodyBytesMax).push(Uint8Array.from(bytes), new Collected());
    return "nothing";
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error));
    return error.code;
  }
}

test("frames at the limit are taken, frames one byte beyond it are refused from their header", () => {
  assert.equal(refusal(encode([["payload", "batch", 0, 1, 1, new Array(10).fill(1)]])), "nothing");
  assert.equal(refusal([0, 0, 0, 16 + 11, 1]), "frame_too_large");
  assert.equal(refusal([0xff, 0xff, 0xff, 0xff, 1]), "frame_too_large");
  assert.equal(refusal([0, 0, 1, 1, 5]), "nothing", "a goodbye of 256 bytes");
  assert.equal(refusal([0, 0, 1, 2, 5]), "frame_too_large");
  assert.equal(refusal([0, 0, 0, 10, 2]), "frame_too_large");
});

test("what is no link frame is refused", () => {
  assert.equal(refusal([0, 0, 0, 1, 0]), "bad_frame");
  assert.equal(refusal([0, 0, 0, 1, 7]), "bad_frame");
  assert.equal(refusal([0, 0, 0, 0, 4]), "bad_frame");
  assert.equal(refusal([0, 0, 0, 15, 1]), "bad_frame");
  assert.equal(refusal([0, 0, 0, 8, 2]), "bad_frame");
  const bad = (frame: readonly unknown[]) => refusal(encode([frame]));
  assert.equal(bad(["ack", 0.5]), "bad_frame");
  assert.equal(bad(["ack", -1]), "bad_frame");
  assert.equal(bad(["ack", Number.NaN]), "bad_frame");
  assert.equal(bad(["ack", 2 ** 53]), "bad_frame");
  assert.equal(bad(["resume", 0, 0]), "bad_frame");
  assert.equal(bad(["payload", "control_message", 1, 1, 1, []]), "bad_frame");
  assert.equal(bad(["payload", "end_of_input", 1, 1, 1, [0]]), "bad_frame");
  assert.equal(refusal([0, 0, 0, 3, 5, 0xc3, 0x28]), "bad_text");
  const unknown = encode([["payload", "batch", 0, 1, 1, []]]);
  unknown[5] = 9;
  assert.equal(refusal(unknown), "bad_frame");
});

test("nothing more is delivered once the taker has closed", () => {
  const collected = new Collected();
  collected.heartbeat = () => {
    collected.open = false;
  };
  new LinkReader(10).push(encode([["ack", 1], ["heartbeat"], ["ack", 2]]), collected);
  assert.deepEqual(collected.frames, [["ack", 1]]);
});

test("a large body grows with what came, and not with what was announced", () => {
  const reader = new LinkReader(1 << 30);
  const header = new Uint8Array(PAYLOAD_HEADER_BYTES);
  writePayloadHeader(new DataView(header.buffer), 0, "batch", 0, 1, 1, 1 << 30);
  // Were a gigabyte allocated for each, a hundred readers would not fit.
  const readers = Array.from({ length: 100 }, () => new LinkReader(1 << 30));
  for (const each of readers) each.push(header, new Collected());
  reader.push(header, new Collected());
  const size = 3 << 20;
  const body = new Uint8Array(size).map((_, i) => i % 251);
  let length = 0;
  const frames = new Collected();
  frames.payload = (_kind, _exchange, _generation, _sequence, bytes) => {
    length = bytes.length;
    assert.ok(bytes.every((byte, i) => byte === i % 251));
  };
  const large = new LinkReader(size);
  writePayloadHeader(new DataView(header.buffer), 0, "batch", 0, 1, 1, size);
  large.push(header, frames);
  for (let at = 0; at < size; at += 60_001) large.push(body.subarray(at, at + 60_001), frames);
  assert.equal(length, size);
});

test("bytes at random are frames or a ProtocolError, nothing else", () => {
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.constantFrom(...ALL).map((frame) => encode([frame])),
    fc.tuple(fc.constantFrom(...ALL), fc.nat(), fc.nat({ max: 255 })).map(([frame, at, value]) => {
      const bytes = encode([frame]);
      bytes[at % bytes.length] = value;
      return bytes;
    }),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 8 }), (chunks) => {
      const reader = new LinkReader(1_000);
      try {
        for (const each of chunks) reader.push(each, new Collected());
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
      }
    }),
    { numRuns: 20_000 },
  );
});
