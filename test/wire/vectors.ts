import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { FrameSplitter, type HeaderFormat } from "../../src/wire/frame.ts";

/** One entry of `test/vectors/*.json`. */
export interface Vector {
  name: string;
  description: string;
  hex: string;
  malformed?: true;
  // biome-ignore lint/suspicious/noExplicitAny: each file has its own fields here
  decoded: any;
}

export function vectors(file: string): Vector[] {
  return JSON.parse(readFileSync(new URL(`../vectors/${file}`, import.meta.url), "utf8")) as Vector[];
}

export function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

/** What a splitter made of a stream: copies of the payloads, the outcome of the last push, bytes left over. */
export interface Split {
  payloads: Uint8Array[];
  outcome: string;
  pending: number;
}

export function split(stream: Uint8Array, cuts: number[], lengthMax: number, header?: HeaderFormat): Split {
  const splitter = new FrameSplitter(header === undefined ? { lengthMax } : { header, lengthMax });
  // No `Buffer`, whose slices are views.
  const bytes = new Uint8Array(stream);
  const payloads: Uint8Array[] = [];
  let outcome = "ok";
  let from = 0;
  for (const to of [...cuts, bytes.length]) {
    // A buffer of its own that is spoilt afterwards: nothing may be read from it later.
    const chunk = bytes.slice(from, to);
    const result = splitter.push(chunk);
    for (let i = 0; i < splitter.count; i++) {
      payloads.push(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!));
    }
    chunk.fill(0xee);
    if (result !== "ok") outcome = result.kind;
    from = to;
  }
  return { payloads, outcome, pending: splitter.pending };
}

/** In one piece, byte by byte, and at the places a vector names: always the same. */
export function splitEveryWay(bytes: Uint8Array, lengthMax: number, header?: HeaderFormat, cuts: number[] = []): Split {
  const whole = split(bytes, [], lengthMax, header);
  const each = Array.from({ length: Math.max(bytes.length - 1, 0) }, (_, i) => i + 1);
  assert.deepStrictEqual(split(bytes, each, lengthMax, header), whole);
  assert.deepStrictEqual(split(bytes, cuts, lengthMax, header), whole);
  return whole;
}
