import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { framed, lines } from "../../mod.ts";
import { OutsideError } from "../../src/base/errors.ts";
import { newFile } from "../../src/connectors/file_progress.ts";
import { FileReader } from "../../src/connectors/file_reader.ts";
import { makeRecordSplitter, type RecordSplitter } from "../../src/connectors/record_splitter.ts";
import type { Chance } from "./chance.ts";
import { inPieces, joined } from "./damage.ts";
import { diskOf } from "./fakes.ts";
import { fuzz } from "./fuzz.ts";

const PATH = "/in/a.gz";

/** All that a compressed file holds, as the file source reads it. */
async function contentOf(bytes: Uint8Array): Promise<Uint8Array> {
  const reader = await FileReader.open(diskOf({ [PATH]: bytes }), PATH, newFile("a.gz"));
  try {
    const pieces: Uint8Array[] = [];
    for (let piece = await reader.read(); piece.length > 0; piece = await reader.read()) {
      assert.ok(piece.length <= 64 * 1024);
      pieces.push(piece.slice());
    }
    return joined(...pieces);
  } finally {
    await reader.close();
  }
}

test("fuzz: compressed input is decompressed, or refused in words", { timeout: 300_000 }, async () => {
  const contents = ["", "a\n", "hello\n".repeat(100), "x".repeat(70_000)].map((text) => Buffer.from(text));
  const packed = contents.map((content) => new Uint8Array(gzipSync(content)));
  await fuzz({
    name: "gzip",
    make: (chance) => chance.pick(packed),
    decode: contentOf,
    check: (content, bytes) => {
      const at = packed.findIndex((legal) => Buffer.compare(legal, bytes) === 0);
      if (at >= 0) assert.equal(Buffer.compare(content, contents[at]!), 0);
    },
    announced: (error) => error instanceof OutsideError,
  });
});

/** A byte a character: on Deno to make a buffer's text costs more than the splitter. */
function latin1(bytes: Uint8Array, from: number, to: number): string {
  let text = "";
  for (let i = from; i < to; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}

interface Records {
  readonly contents: string[];
  /** For each record, from where on the file is to be read when everything up to it was handed on. */
  readonly throughs: number[];
  readonly tooLong: number | null;
  readonly leftOut: number;
}

/** What a splitter makes of a stream in these pieces. */
function records(splitter: RecordSplitter, feed: (take: (piece: Uint8Array) => void) => void): Records {
  const contents: string[] = [];
  const throughs: number[] = [];
  let through = 0;
  let tooLong: number | null = null;
  const note = () => {
    for (let i = 0; i < splitter.count; i++) {
      contents.push(latin1(splitter.bytes, splitter.starts[i]!, splitter.ends[i]!));
      throughs.push(through + splitter.spanThrough(i));
    }
    if (splitter.count > 0) through = throughs.at(-1)!;
  };
  feed((piece) => {
    if (tooLong !== null) return;
    tooLong = splitter.push(piece);
    note();
  });
  splitter.finish();
  note();
  return { contents, throughs, tooLong, leftOut: splitter.leftOut };
}

for (const [name, framing] of [
  ["lines", lines],
  ["framed records", framed.u16],
] as const) {
  test(`fuzz: ${name} of a file are the same however it is read`, { timeout: 300_000 }, async () => {
    await fuzz({
      name,
      make: (chance) => joined(...chance.some(8, () => (name === "lines" ? someLine(chance) : someFrame(chance)))),
      decode: (bytes, chance) => records(makeRecordSplitter(framing, 40), (take) => inPieces(bytes, chance, take)),
      check: (cut, bytes, chance) => {
        const whole = records(makeRecordSplitter(framing, 40), (take) => take(new Uint8Array(bytes)));
        const { contents, tooLong, leftOut } = cut;
        assert.deepEqual([contents, tooLong, leftOut], [whole.contents, whole.tooLong, whole.leftOut]);
        if (contents.length === 0) return;
        const i = chance.below(contents.length);
        const rest = new Uint8Array(bytes.subarray(cut.throughs[i]));
        const resumed = records(makeRecordSplitter(framing, 40), (take) => take(rest));
        assert.deepEqual(resumed.contents, contents.slice(i + 1));
      },
    });
  });
}

function someLine(chance: Chance): Uint8Array {
  const text = "0123456789".repeat(6).slice(0, chance.pick([0, 1, 7, 39, 40, 41, 42, 60]));
  return new TextEncoder().encode(text + chance.pick(["\n", "\n", "\r\n", "\r\r\n", "\r", ""]));
}

function someFrame(chance: Chance): Uint8Array {
  const length = chance.pick([0, 1, 7, 39, 40, 40, 7, chance.below(50)]);
  return joined(Uint8Array.of(0, length), chance.bytes(length));
}
