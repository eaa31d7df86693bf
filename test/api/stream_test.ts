import assert from "node:assert/strict";
import { test } from "node:test";
import { framed, generatorSource, source, tcpSink, tcpSource } from "../../mod.ts";
import { PlanError } from "../../src/base/errors.ts";

const numbers = (name = "numbers") => source(name, generatorSource({ initial: () => 0, next: (n) => n + 1 }));
const lines = tcpSink({ encode: (value: unknown) => `${value}\n` });
const keep = <T>(value: T): T => value;
const count = { initial: () => ({ count: 0 }), apply: () => 1 };

/** Runs what an author without a type checker might write. */
function refusal(code: string, wrong: () => unknown, ...parts: string[]): void {
  assert.throws(wrong, (error) => {
    assert.ok(error instanceof PlanError, String(error));
    assert.equal(error.code, code, error.message);
    for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
    return true;
  });
}
// biome-ignore lint/suspicious/noExplicitAny: what the compiler would refuse is the point of these tests
type Any = any;

test("a stream that is used twice is refused with both uses", () => {
  const stream = numbers();
  stream.to("first", keep);
  refusal("stream_used_twice", () => stream.to("second", keep), 'source "numbers"', 'stage "first"', 'stage "second"');
  const keyed = numbers().keyBy(String);
  keyed.toSink(lines);
  refusal("stream_used_twice", () => keyed.toStateful("count", count), "keyBy()", "its sink", "toSinks");
});

test("a stream that is merged with itself is refused", () => {
  const stream = numbers();
  refusal("stream_used_twice", () => stream.merge(stream), "merge()");
});

test("a stage after the sink is refused", () => {
  const ended = numbers().toSink(lines) as Any;
  for (const method of ["to", "toStateful", "keyBy", "collect", "rebalance", "merge", "toSink", "toSinks"]) {
    refusal("stage_refused", () => ended[method]("late", keep), method, "has its sink already");
  }
});

test("merging with a pipeline that has its sink, or with nothing, is refused", () => {
  refusal("definition_invalid", () => numbers().merge(numbers("b").toSink(lines) as Any), "has its sink already");
  refusal("definition_invalid", () => numbers().merge(undefined as Any), "undefined");
});

test("merging a keyed with an unkeyed stream is refused", () => {
  refusal("merge_of_keyed", () => numbers().merge(numbers("b").keyBy(String) as Any), 'source "b"', "keyBy()");
});

test("state without a key is refused with the remedy", () => {
  refusal("stage_refused", () => (numbers() as Any).toStateful("count", count), "keyBy() or collect()");
});

test("no sink at all is refused", () => {
  refusal("no_sink", () => numbers().toSinks([]), "toSinks()");
  refusal("definition_invalid", () => numbers().toSink(undefined as Any), "tcpSink()");
  refusal("definition_invalid", () => numbers().toSink({ kind: "tcp" } as Any), "encode", "undefined");
  refusal("definition_invalid", () => numbers().toSink(tcpSink({ encode: String, output: -1 })), "output is -1");
  refusal("definition_invalid", () => numbers().toSink(tcpSink({ encode: String, output: 0.5 })), "output is 0.5");
});

test("a name that is no text, empty, too long or has control characters is refused", () => {
  refusal("name_invalid", () => source(7 as Any, generatorSource({ initial: () => 0, next: keep })), "a number");
  refusal("name_invalid", () => numbers(""), "1 to 200");
  refusal("name_invalid", () => numbers("x".repeat(201)), "1 to 200");
  refusal("name_invalid", () => numbers().to("two\nlines", keep), 'source "numbers"', "control");
  refusal("name_invalid", () => numbers().to(keep as Any, keep), "a function");
  refusal(
    "name_invalid",
    () =>
      numbers()
        .keyBy(String)
        .toStateful(undefined as Any, count),
    "keyBy()",
    "undefined",
  );
  assert.ok(numbers("Alerts (stateful)").to("größe 1/2", keep));
});

test("a TCP source whose name cannot stand in --in is refused", () => {
  const text = tcpSource({ framing: framed.u32, decode: (payload) => payload.text() });
  refusal("name_invalid", () => source("a,b", text), "--in");
  refusal("name_invalid", () => source("a@b", text), "--in");
  assert.ok(source("Split and Count", text));
});

test("a definition that lacks a function is refused with the stage's name", () => {
  for (const codec of [{ encode: keep }, null, 7] as Any[]) {
    const stateful = { initial: () => ({}), apply: keep, codec };
    const what = codec?.encode === undefined ? "codec.encode is undefined" : "codec.decode is undefined";
    refusal("definition_invalid", () => numbers().collect().toStateful("s", stateful), 'stage "s"', what);
  }
  refusal("definition_invalid", () => source("s", tcpSource({ framing: framed.u32 } as Any)), 'source "s"', "decode");
  refusal("definition_invalid", () => source("s", tcpSource({ decode: keep } as Any)), 'source "s"', "framing");
  refusal("definition_invalid", () => source("s", undefined as Any), "tcpSource()");
  refusal("definition_invalid", () => source("s", generatorSource({ next: keep } as Any)), 'source "s"', "initial");
  refusal("definition_invalid", () => source("s", generatorSource({ initial: keep } as Any)), 'source "s"', "next");
  refusal("definition_invalid", () => numbers().to("s", undefined as Any), 'stage "s"', "undefined");
  refusal("definition_invalid", () => numbers().keyBy("user" as Any), "keyBy()", "a string");
  refusal(
    "definition_invalid",
    () =>
      numbers()
        .collect()
        .toStateful("s", { apply: keep } as Any),
    'stage "s"',
    "initial",
  );
  refusal(
    "definition_invalid",
    () =>
      numbers()
        .collect()
        .toStateful("s", undefined as Any),
    'stage "s"',
    "initial",
  );
});

test("numbers out of range in a source are refused with their limits", () => {
  const decode = (): number => 0;
  for (const bytes of [0, 9, 1.5, Number.NaN]) {
    refusal("definition_invalid", () => source("s", tcpSource({ framing: framed({ bytes }), decode })), "1 to 8");
  }
  for (const lengthMax of [0, -1, 16 * 1024 * 1024 + 1, 2.5]) {
    refusal("definition_invalid", () => source("s", tcpSource({ framing: framed.u8, decode, lengthMax })), "lengthMax");
  }
  for (const connectionsMax of [0, 1_025, 1.5]) {
    const settings = { framing: framed.u8, decode, connectionsMax };
    refusal("definition_invalid", () => source("s", tcpSource(settings)), "connectionsMax");
  }
  for (const rate of [-1, Number.NaN, Number.POSITIVE_INFINITY, "7" as Any]) {
    refusal("definition_invalid", () => source("s", generatorSource({ initial: () => 0, next: keep, rate })), "rate");
  }
});

test("framed has the usual headers and any other", () => {
  assert.deepEqual(framed.u8, { headerBytes: 1, littleEndian: false });
  assert.deepEqual(framed.u16, { headerBytes: 2, littleEndian: false });
  assert.deepEqual(framed.u32, { headerBytes: 4, littleEndian: false });
  assert.deepEqual(framed.u64, { headerBytes: 8, littleEndian: false });
  assert.deepEqual(framed({ bytes: 3, littleEndian: true }), { headerBytes: 3, littleEndian: true });
});
