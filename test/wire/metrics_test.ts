import assert from "node:assert/strict";
import { test } from "node:test";
import { Histogram } from "../../src/metrics/histogram.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { decodeMetrics, encodeConnect, encodeJoin, encodePayload, metricsTopic } from "../../src/wire/metrics.ts";
import { fromHex, splitEveryWay, type Vector, vectors } from "./vectors.ts";

const all = vectors("metrics.json");

function checkPayload(payload: Uint8Array, vector: Vector): void {
  const { decoded } = vector;
  const message = decodeMetrics(payload);
  assert.equal(message.kind, decoded.type);
  const out = new ByteWriter();
  switch (message.kind) {
    case "connect":
      encodeConnect(out);
      break;
    case "join":
      assert.deepEqual([message.topic, message.worker], [decoded.topic, decoded.worker]);
      // The older form is never written.
      if (message.worker === null) return;
      encodeJoin(out, message.topic, message.worker);
      break;
    case "payload": {
      const { topic, name, category, worker, pipeline, id } = message;
      const bins = message.bins as bigint[];
      assert.deepEqual(
        { topic, name, category, worker, pipeline, id },
        {
          topic: decoded.topic,
          name: decoded.name,
          category: decoded.category,
          worker: decoded.worker,
          pipeline: decoded.pipeline,
          id: decoded.id,
        },
      );
      const nonzero = Object.fromEntries(
        [...bins.entries()].filter(([, n]) => n > 0n).map(([bin, n]) => [bin, String(n)]),
      );
      assert.deepEqual(nonzero, decoded.histogram_nonzero);
      assert.equal(String(bins.reduce((sum, n) => sum + n, 0n)), decoded.total);
      assert.deepEqual([message.min, message.max, message.periodNs, message.periodEndNs].map(String), [
        decoded.min,
        decoded.max,
        decoded.period_ns,
        decoded.period_ends_at_ns,
      ]);
      encodePayload(out, topic, message);
      if (decoded.recorded_durations_ns !== undefined && vector.name !== "payload-bin-edges") {
        const histogram = new Histogram();
        for (const duration of decoded.recorded_durations_ns) histogram.record(Number(duration));
        assert.equal(String(histogram.total), decoded.total);
        const recorded = new ByteWriter();
        const { min, max } = histogram;
        encodePayload(recorded, topic, {
          ...message,
          bins: histogram.bins,
          min,
          max,
          periodNs: 2e9,
          periodEndNs: 1546300802e9,
        });
        assert.deepEqual(recorded.take(), out.written());
      }
      break;
    }
    default:
      assert.fail(message.kind);
  }
  // The one vector whose inner header tells the truth cannot come out the same.
  if (vector.name === "payload-true-inner-length") return;
  assert.equal(Buffer.from(out.take()).toString("hex"), vector.hex);
}

for (const vector of all) {
  const { decoded } = vector;
  test(`metrics vector ${vector.name}`, () => {
    const { payloads, outcome, pending } = splitEveryWay(fromHex(vector.hex), 16_384);
    assert.equal(outcome, "ok");
    if (decoded.frames !== undefined) {
      assert.equal(pending, 0);
      for (const [i, name] of decoded.frames.entries()) {
        const other = all.find((candidate) => candidate.name === name);
        if (other !== undefined && name !== "join") checkPayload(payloads[i]!, other);
        else assert.equal(decodeMetrics(payloads[i]!).kind, name);
      }
    } else if (!vector.malformed) {
      assert.equal(payloads.length, 1);
      checkPayload(payloads[0]!, vector);
    } else if (decoded.outcome === "incomplete") {
      assert.deepEqual([payloads.length, pending > 0], [0, true]);
    } else {
      const fault = decodeMetrics(payloads[0]!);
      assert.ok(fault.kind === "fault", `decoded to ${fault.kind}`);
      assert.equal(fault.code, decoded.error.replaceAll("-", "_"));
      if (payloads[1] !== undefined) assert.deepEqual(decodeMetrics(payloads[1]), { kind: "connect" });
    }
  });
}

test("a payload cut anywhere is skipped, never misread", () => {
  const out = new ByteWriter();
  const histogram = new Histogram();
  const names = { name: "n", category: "computation", worker: "w", pipeline: "p" } as const;
  const { bins, min, max } = histogram;
  encodePayload(out, metricsTopic("app"), { ...names, id: 1, bins, min, max, periodNs: 2e9, periodEndNs: 4e9 });
  const payload = out.take().subarray(4);
  assert.equal(decodeMetrics(payload).kind, "payload");
  for (let length = 0; length < payload.length; length++) {
    assert.equal(decodeMetrics(payload.subarray(0, length)).kind, "fault");
  }
});
