import assert from "node:assert/strict";
import { test } from "node:test";
import { framed, type Payload, type TcpSourceSettings, tcpSource } from "../../mod.ts";
import type { UserError } from "../../src/operators/dataflow_hooks.ts";
import { SourceDecoder } from "../../src/operators/source_decoder.ts";

/** Payloads in one chunk, with something between them, as headers are. */
function chunkOf(payloads: readonly string[]) {
  const parts = payloads.map((payload) => new TextEncoder().encode(payload));
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0)).fill(0x2d);
  // Longer than needed, as the columns of a splitter that are used again.
  const starts = new Uint32Array(parts.length + 3);
  const ends = new Uint32Array(parts.length + 3);
  let at = 0;
  for (const [i, part] of parts.entries()) {
    starts[i] = at + 4;
    ends[i] = at + 4 + part.length;
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return { bytes, frames: { count: parts.length, starts, ends } };
}

function decoderOf<T>(settings: Omit<TcpSourceSettings<T>, "framing">) {
  const errors: UserError[] = [];
  const definition = tcpSource({ framing: framed.u32, ...settings }) as never;
  const decoder = new SourceDecoder({ index: 3, name: "words", definition }, (error) => errors.push(error));
  const decode = (payloads: readonly string[], arrivalMs = 1) => {
    const { bytes, frames } = chunkOf(payloads);
    return decoder.decode(bytes, frames, arrivalMs);
  };
  return { decode, errors };
}

const text = (payload: Payload): string => payload.text();

test("a chunk becomes a batch with the arrival as event time", () => {
  const { decode } = decoderOf({ decode: text });
  const batch = decode(["a", "", "ccc"], 1234.5);
  assert.equal(batch.count, 3);
  assert.deepEqual(batch.values, ["a", "", "ccc"]);
  assert.deepEqual([...batch.times], [1_234_500, 1_234_500, 1_234_500]);
  assert.deepEqual([batch.watermark, batch.arrivalMs, batch.pipeline], [1_234_500, 1234.5, 3]);
  assert.deepEqual([batch.keys.length, batch.hashes.length], [0, 0]);
});

test("undefined drops a record, other values that look like nothing stay", () => {
  const { decode, errors } = decoderOf<unknown>({
    decode: (payload) => ({ u: undefined, n: null, z: 0, f: false, e: "" })[payload.text()],
  });
  assert.deepEqual(decode(["u", "n", "z", "u", "f", "e"]).values, [null, 0, false, ""]);
  assert.deepEqual(errors, []);
});

test("a decoder that throws, reads beyond its record or is async costs that record only", () => {
  const { decode, errors } = decoderOf<number>({
    decode: ((payload: Payload) =>
      payload.getUint8(0) === 0x61 ? Promise.reject(new Error("no")) : payload.getUint16(0)) as (
      payload: Payload,
    ) => number,
  });
  const batch = decode(["", "xy", "z", "abc", "  "]);
  assert.deepEqual(batch.values, [0x7879, 0x2020]);
  assert.equal(batch.times.length, 2);
  const messages = errors.map(({ error }) => (error as Error).message);
  assert.match(messages[0]!, /the record has 0 bytes/);
  assert.match(messages[1]!, /the record has 1 bytes/);
  assert.match(messages[2]!, /returned a promise/);
  assert.ok(errors.every(({ stage, during }) => stage === "words/decode" && during === "decode"));
});

test("event times of the author are cut to whole microseconds; the watermark follows the highest and never steps back", () => {
  const { decode } = decoderOf<number>({ decode: (payload) => Number(payload.text()), eventTime: (value) => value });
  const first = decode(["5", "9.9", "7"]);
  assert.deepEqual([...first.times], [5, 9, 7]);
  assert.equal(first.watermark, 9);
  const second = decode(["3"]);
  assert.deepEqual([second.times[0], second.watermark], [3, 9]);
  assert.equal(decode(["10"]).watermark, 10);
});

test("a value without a usable event time is reported and dropped", () => {
  const { decode, errors } = decoderOf<string>({
    decode: text,
    eventTime: (value) => {
      if (value === "throw") throw new Error("no time");
      return Number(value);
    },
  });
  const batch = decode(["1", "x", "2", "throw", "1e300", "3"]);
  assert.deepEqual(batch.values, ["1", "2", "3"]);
  assert.deepEqual([...batch.times].slice(0, batch.count), [1, 2, 3]);
  assert.deepEqual(
    errors.map(({ during }) => during),
    ["event_time", "event_time", "event_time"],
  );
  assert.equal(batch.watermark, 3);
});

test("a chunk without a record left gives an empty batch and moves no watermark", () => {
  const { decode } = decoderOf({ decode: () => undefined });
  const batch = decode(["a", "b"], 50);
  assert.equal(batch.count, 0);
  assert.equal(batch.watermark, Number.NEGATIVE_INFINITY);
});

test("decodeBatch is taken where it gives one value a frame; otherwise decode finds the culprit", () => {
  const whole = decoderOf<string>({
    decode: () => assert.fail("not needed"),
    decodeBatch: (bytes, { count, starts, ends }) =>
      Array.from({ length: count }, (_, i) => {
        const value = new TextDecoder().decode(bytes.subarray(starts[i], ends[i]));
        return value === "drop" ? undefined : value;
      }),
  });
  assert.deepEqual(whole.decode(["a", "drop", "b"]).values, ["a", "b"]);

  for (const decodeBatch of [
    () => ["one too few"],
    () => assert.fail("threw"),
    () => undefined as unknown as string[],
    () => Promise.reject(new Error("ignored")) as unknown as string[],
  ]) {
    const { decode, errors } = decoderOf<string>({ decode: text, decodeBatch });
    assert.deepEqual(decode(["a", "b"]).values, ["a", "b"]);
    assert.deepEqual(errors, []);
  }
});
