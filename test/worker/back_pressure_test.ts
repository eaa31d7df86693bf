import assert from "node:assert/strict";
import { test } from "node:test";
import { application, framed, type Payload, source, tcpSink, tcpSource } from "../../mod.ts";
import type { SinkConnector } from "../../src/connectors/connector.ts";
import { planApplication } from "../../src/plan/plan.ts";
import { BackPressure } from "../../src/worker/back_pressure.ts";

/** One source for a sink of its own, and one that goes through two exchanges to the other sink. */
function scene() {
  const line = tcpSink<string>({ encode: (text) => text });
  const words = (name: string) =>
    source(name, tcpSource({ framing: framed.u32, decode: (payload: Payload) => payload.text() }));
  const app = application("Pressure", () => [
    words("near").toSink(line),
    words("far")
      .keyBy((text) => text)
      .to("same", (text) => text)
      .keyBy((text) => text)
      .toSink(line),
  ]);
  const plan = planApplication(app, { args: [], options: {}, worker: "initializer", workers: 2, inputs: [] });
  const sinks = plan.sinks.map((_, i) => ({ blocked: false, connected: true, target: `out:${i}` }));
  const drain = { underWay: false, leavesOut: () => false };
  const deadLetters = { blocked: false };
  const full = new Set<number>();
  const pressure = new BackPressure({ plan, sinks: sinks as Pick<SinkConnector, never>[] as SinkConnector[], drain });
  pressure.install({ links: { hasCredit: (_to, exchange) => !full.has(exchange) }, peers: ["w1"], deadLetters });
  const held = () => ({
    sources: plan.sources.map(({ index }) => pressure.onSource(index)),
    exchanges: plan.exchanges.map(({ index }) => pressure.onExchange(index)),
  });
  return { pressure, sinks, drain, deadLetters, full, held };
}

const FREE = { sources: [false, false], exchanges: [false, false] };

test("what is full holds back the inputs that reach it, through exchanges as well, and no other", () => {
  const { pressure, sinks, full, held } = scene();
  assert.deepEqual(held(), FREE);
  assert.deepEqual(pressure.muted(), []);
  sinks[0]!.blocked = true;
  assert.deepEqual(held(), { ...FREE, sources: [true, false] });
  assert.deepEqual(pressure.muted(), [{ input: "source near", by: ["sink out:0"] }]);
  sinks[0]!.blocked = false;
  sinks[1]!.blocked = true;
  sinks[1]!.connected = false;
  assert.deepEqual(held(), { sources: [false, true], exchanges: [true, true] });
  assert.deepEqual(pressure.muted()[0], { input: "source far", by: ["sink out:1 (not connected)"] });
  sinks[1]!.blocked = false;
  full.add(1);
  assert.deepEqual(held(), { sources: [false, true], exchanges: [true, false] });
  assert.deepEqual(pressure.muted()[0], { input: "source far", by: ["worker w1"] });
});

test("dead letters that wait for the disk hold back everything, and the status says so", () => {
  const { pressure, deadLetters, held } = scene();
  deadLetters.blocked = true;
  assert.deepEqual(held(), { sources: [true, true], exchanges: [true, true] });
  assert.deepEqual(
    pressure.muted().map(({ by }) => by),
    Array.from({ length: 4 }, () => ["the file of dead letters (waiting for the disk)"]),
  );
});

test("at a stop nobody waits for a sink that is away, nor for a peer that the stop leaves out", () => {
  const { sinks, drain, full, held } = scene();
  sinks[0]!.blocked = true;
  sinks[0]!.connected = false;
  full.add(0);
  drain.underWay = true;
  assert.deepEqual(held(), { ...FREE, sources: [false, true] });
  drain.leavesOut = () => true;
  assert.deepEqual(held(), FREE);
});
