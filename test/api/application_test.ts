import assert from "node:assert/strict";
import { test } from "node:test";
import { application, generatorSource, option, source, tcpSink } from "../../mod.ts";
import { isApplication } from "../../src/api/application.ts";
import { optionFlag, readOptionValues } from "../../src/api/options.ts";
import { ConfigError, PlanError } from "../../src/base/errors.ts";

const pipeline = () =>
  source("s", generatorSource({ initial: () => 0, next: (n) => n + 1 })).toSink(tcpSink({ encode: String }));
// biome-ignore lint/suspicious/noExplicitAny: what the compiler would refuse is the point of some tests
type Any = any;

test("application() gives a factory that is recognised by its brand", () => {
  const plain = application("plain", pipeline);
  assert.equal(plain.name, "plain");
  assert.deepEqual(plain.options, {});
  assert.equal(plain.wantsRawArguments, false);
  assert.ok(isApplication(plain));
  // As it looks from another copy of the library.
  assert.ok(isApplication({ [Symbol.for("tammar.application")]: true }));
  for (const other of [undefined, null, 7, "application", {}, () => plain]) assert.equal(isApplication(other), false);
});

test("application() takes options and a wish for raw arguments", () => {
  const rate = option.number({ default: 5, help: "records a second" });
  const app = application("a", { options: { rate }, rawArguments: true }, pipeline);
  assert.deepEqual(app.options, { rate: { kind: "number", default: 5, help: "records a second" } });
  assert.equal(app.wantsRawArguments, true);
});

test("each build makes streams of its own", () => {
  const app = application("a", pipeline);
  const context = { args: [], options: {}, worker: "initializer", workers: 1, inputs: [] };
  assert.notEqual(app.build(context), app.build(context));
});

test("application() refuses a wrong name, build or option", () => {
  const refused = (wrong: () => unknown, part: string) =>
    assert.throws(wrong, (error) => error instanceof PlanError && error.message.includes(part));
  refused(() => application(undefined as Any, pipeline), "undefined");
  refused(() => application("", pipeline), "1 to 200");
  refused(() => application("a", undefined as Any), "build");
  refused(() => application("a", { options: {} }, pipeline() as Any), "build");
  refused(
    () => application("a", { options: { "window-size": option.number() } }, pipeline),
    "windowSize is --window-size",
  );
  refused(() => application("a", { options: { rate: 7 as Any } }, pipeline), "option.number");
});

test("an option's name in camel case is its flag with hyphens", () => {
  assert.equal(optionFlag("rate"), "rate");
  assert.equal(optionFlag("windowLatePolicy"), "window-late-policy");
});

const SPECS = { rate: option.number({ default: 1000 }), user: option.string(), loud: option.boolean() };

test("readOptionValues() reads numbers, texts and switches, and fills in defaults", () => {
  assert.deepEqual(readOptionValues(SPECS, { user: "Rex" }), { rate: 1000, user: "Rex", loud: false });
  assert.deepEqual(readOptionValues(SPECS, { user: "", rate: "-1.5e3", loud: true, other: "x" }), {
    rate: -1500,
    user: "",
    loud: true,
  });
  assert.equal(readOptionValues(SPECS, { user: "a", loud: "false" }).loud, false);
});

test("a number below what its option takes is refused with the option and the value", () => {
  const specs = { rate: option.number({ default: 5, min: 0 }) };
  assert.equal(readOptionValues(specs, { rate: "0" }).rate, 0);
  assert.throws(() => readOptionValues(specs, { rate: "-1" }), /^ConfigError: --rate -1: must be at least 0$/);
});

test("readOptionValues() refuses what is missing or no number", () => {
  const refused = (texts: Record<string, string | true>, code: string, part: string) =>
    assert.throws(
      () => readOptionValues(SPECS, texts),
      (error) => error instanceof ConfigError && error.code === code && error.message.includes(part),
    );
  refused({}, "option_missing", "--user");
  refused({ user: true }, "option_missing", "--user");
  refused({ user: "a", rate: "fast" }, "option_not_a_number", "--rate fast");
  refused({ user: "a", rate: "" }, "option_not_a_number", "--rate");
  refused({ user: "a", rate: "Infinity" }, "option_not_a_number", "Infinity");
  refused({ user: "a", loud: "maybe" }, "option_not_a_boolean", "--loud maybe");
});
