import assert from "node:assert/strict";
import { test } from "node:test";
import { application, connectorSink, generatorSource, source, tcpSink } from "../../mod.ts";
import { type ConnectorSinkSettings, sinkAddress } from "../../src/api/connector_sink.ts";
import type { Pipeline } from "../../src/api/stream.ts";
import { PlanError } from "../../src/base/errors.ts";
import { planApplication } from "../../src/plan/plan.ts";

const encode = (value: number) => `${value}\n`;

function numbers() {
  return source("numbers", generatorSource({ initial: () => 1, next: (n) => n + 1 }));
}

function plan(build: () => Pipeline) {
  return planApplication(application("app", build), {
    options: {},
    args: [],
    worker: "initializer",
    workers: 1,
    inputs: [],
  });
}

test("a connector sink takes the next entry of --out, and has its number in its id; one with an address has its name", () => {
  const { sinks } = plan(() =>
    numbers().toSinks([
      tcpSink({ encode }),
      connectorSink({ encode }),
      connectorSink({ encode, address: "127.0.0.1:7200" }),
      connectorSink({ encode, address: "[::1]:7200", name: "second" }),
      tcpSink({ encode }),
    ]),
  );
  assert.deepEqual(
    sinks.map(({ id, output }) => [id, output]),
    [
      ["numbers/sink 0", 0],
      ["numbers/sink 1", 1],
      ["numbers/sink connector", null],
      ["numbers/sink second", null],
      ["numbers/sink 2", 2],
    ],
  );
  const [, sink] = sinks;
  assert.ok(sink!.definition.kind === "connector");
  assert.equal(sink!.definition.cookie, "Dragons-Love-Tacos");
});

test("two connector sinks of one place, or of one name, are refused", () => {
  const twice: ConnectorSinkSettings<number>[][] = [
    [{ encode }, { encode, output: 0 }],
    [
      { encode, address: "a:1" },
      { encode, address: "a:2" },
    ],
  ];
  for (const settings of twice) {
    assert.throws(
      () => plan(() => numbers().toSinks(settings.map((each) => connectorSink(each)))),
      (error) => error instanceof PlanError && error.code === "name_taken",
    );
  }
});

test("a connector sink that can't work is refused where it is declared, in words", () => {
  const wrong: [Partial<ConnectorSinkSettings<number>>, RegExp][] = [
    [{ encode: 5 as never }, /sink after source "numbers": encode is a number: give it a function/],
    [{ encodeBatch: 5 as never }, /encodeBatch is a number/],
    [{ output: -1 }, /output is -1: give it the place in --out/],
    [{ output: 1.5 }, /output is 1.5/],
    [{ cookie: "x".repeat(65_536) }, /its cookie is no text of at most 65,535 bytes/],
    [{ cookie: 5 as never }, /its cookie is no text/],
    [{ address: "127.0.0.1" }, /its address is "127.0.0.1": give it HOST:PORT/],
    [{ address: 7200 as never }, /its address is a number: give it HOST:PORT/],
    [{ address: "a:1", output: 0 }, /it has an address and an output: give it one of both/],
    [{ name: "" }, /The name of the connector sink after source "numbers" is "": give it 1 to 200 characters/],
  ];
  for (const [settings, expected] of wrong) {
    assert.throws(
      () => numbers().toSink(connectorSink({ encode, ...settings })),
      (error) => error instanceof PlanError && expected.test(error.message),
      `${expected}`,
    );
  }
});

test("an address is a host and a port", () => {
  assert.deepEqual(sinkAddress("sink.example:7200"), { host: "sink.example", port: 7200 });
  assert.deepEqual(sinkAddress("[::1]:1"), { host: "::1", port: 1 });
  for (const text of ["", ":7200", "a:", "a:0", "a:65536", "::1:7200", "[::1]", "a b:1", "a:1:2", "a:7x"]) {
    assert.equal(sinkAddress(text), null, text);
  }
});
