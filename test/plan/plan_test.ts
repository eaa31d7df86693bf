import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Application,
  application,
  framed,
  generatorSource,
  type Pipeline,
  source,
  tcpSink,
  tcpSource,
} from "../../mod.ts";
import { PlanError } from "../../src/base/errors.ts";
import { planFingerprintText } from "../../src/plan/fingerprint_text.ts";
import { type Plan, planApplication } from "../../src/plan/plan.ts";
import { contextOf } from "../operators/world.ts";

const numbers = (name = "numbers") => source(name, generatorSource({ initial: () => 0, next: (n) => n + 1 }));
const texts = (name = "texts") => source(name, tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }));
const sink = (output?: number) =>
  tcpSink({ encode: (value: unknown) => `${value}\n`, ...(output === undefined ? {} : { output }) });
const keep = <T>(value: T): T => value;
const count = { initial: () => ({ count: 0 }), apply: () => 1 };

function planOf(build: () => Pipeline | readonly Pipeline[]): Plan {
  return planApplication(application("app", build), contextOf());
}

function refusal(code: string, build: () => unknown, ...parts: string[]): void {
  assert.throws(
    () => planOf(build as () => Pipeline),
    (error) => {
      assert.ok(error instanceof PlanError, String(error));
      assert.equal(error.code, code, error.message);
      for (const part of parts) assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
      return true;
    },
  );
}

test("a plan connects source, stages, exchanges and sinks in the order of records", () => {
  const plan = planOf(() =>
    texts("words")
      .to("split", (text) => text.split(" "))
      .keyBy(keep)
      .toStateful("count", count)
      .to("show", String)
      .toSinks([sink(), sink()]),
  );
  assert.equal(plan.application, "app");
  assert.deepEqual(plan.pipelines, ["words"]);
  assert.deepEqual(plan.sources[0]!.target, { kind: "stage", stage: 0 });
  assert.deepEqual(
    plan.stages.map(({ id, name, kind, keyed, target }) => ({ id, name, kind, keyed, target })),
    [
      { id: "words/split", name: "split", kind: "stateless", keyed: false, target: { kind: "exchange", exchange: 0 } },
      { id: "words/count", name: "count", kind: "stateful", keyed: true, target: { kind: "stage", stage: 2 } },
      { id: "words/show", name: "show", kind: "stateless", keyed: true, target: { kind: "sinks", sinks: [0, 1] } },
    ],
  );
  assert.equal(plan.exchanges[0]!.id, "words/key by before count");
  assert.equal(plan.exchanges[0]!.kind, "key");
  assert.deepEqual(plan.exchanges[0]!.target, { kind: "stage", stage: 1 });
  assert.deepEqual(
    plan.sinks.map(({ id, output }) => ({ id, output })),
    [
      { id: "words/sink 0", output: 0 },
      { id: "words/sink 1", output: 1 },
    ],
  );
});

test("back-pressure: sources and exchanges know what they reach up to the next exchange", () => {
  const plan = planOf(() => [
    numbers("direct").to("a", keep).toSink(sink()),
    numbers("left")
      .merge(numbers("right").to("b", keep))
      .rebalance()
      .to("costly", keep)
      .keyBy(String)
      .toStateful("count", count)
      .toSinks([sink(), sink()]),
  ]);
  const [direct, left, right] = plan.sources;
  assert.deepEqual([direct!.reachesSinks, direct!.reachesExchanges], [[0], []]);
  assert.deepEqual([left!.reachesSinks, left!.reachesExchanges], [[], [0]]);
  assert.deepEqual([right!.reachesSinks, right!.reachesExchanges], [[], [0]]);
  const [rebalance, key] = plan.exchanges;
  assert.equal(rebalance!.id, "left/rebalance before costly");
  assert.deepEqual([rebalance!.fromSources, rebalance!.fromExchanges], [[1, 2], []]);
  assert.deepEqual([rebalance!.reachesSinks, rebalance!.reachesExchanges], [[], [1]]);
  assert.equal(key!.id, "left/key by before count");
  assert.deepEqual([key!.fromSources, key!.fromExchanges], [[], [0]]);
  assert.deepEqual([key!.reachesSinks, key!.reachesExchanges], [[1, 2], []]);
});

test("two keyed streams are merged into one stage, each through an exchange of its own pipeline", () => {
  const plan = planOf(() =>
    numbers("Orders")
      .keyBy(String)
      .merge(numbers("Market Data").to("prepare", keep).keyBy(String))
      .toStateful("check", count)
      .toSink(sink()),
  );
  assert.deepEqual(
    plan.stages.map((stage) => stage.id),
    ["Market Data/prepare", "Orders/check"],
  );
  assert.deepEqual(
    plan.exchanges.map((exchange) => exchange.id),
    ["Orders/key by before check", "Market Data/key by before check"],
  );
  for (const exchange of plan.exchanges) assert.deepEqual(exchange.target, { kind: "stage", stage: 1 });
});

test("collect has one key, which begins with collect-", () => {
  const plan = planOf(() => numbers().to("pass", keep).collect().toStateful("count", count).toSink(sink()));
  assert.equal(plan.exchanges[0]!.kind, "collect");
  assert.equal(plan.exchanges[0]!.collectKey, "collect-numbers/collect before count");
});

test("the output of a sink is its place among the application's sinks unless it says otherwise", () => {
  const plan = planOf(() => [
    numbers("a").toSinks([sink(), sink(7)]),
    numbers("b").toSink(sink()),
    numbers("c").toSink(sink(0)),
  ]);
  assert.deepEqual(
    plan.sinks.map((planned) => planned.id),
    ["a/sink 0", "a/sink 7", "b/sink 2", "c/sink 0"],
  );
});

test("an exchange right before the sink is possible", () => {
  const plan = planOf(() => numbers().keyBy(String).toSink(sink()));
  assert.equal(plan.exchanges[0]!.id, "numbers/key by before the sink");
  assert.deepEqual(plan.exchanges[0]!.target, { kind: "sinks", sinks: [0] });
});

test("operator ids do not depend on position", () => {
  const ids = (plan: Plan) => [...plan.stages, ...plan.exchanges].map(({ id }) => id);
  const before = planOf(() => numbers("z").keyBy(String).toStateful("count", count).toSink(sink()));
  const after = planOf(() => [
    numbers("a").to("new", keep).toSink(sink()),
    numbers("z").to("also new", keep).keyBy(String).toStateful("count", count).toSink(sink()),
  ]);
  for (const id of ids(before)) assert.ok(ids(after).includes(id), id);
});

test("two stages of one name in a pipeline are refused", () => {
  refusal("name_taken", () => numbers().to("a", keep).to("a", keep).toSink(sink()), 'stage "a"', "a name of its own");
  // In two pipelines the name is free again, until a merge makes one of them.
  assert.ok(planOf(() => [numbers("x").to("a", keep).toSink(sink()), numbers("y").to("a", keep).toSink(sink())]));
  const merged = () => numbers("x").to("a", keep).merge(numbers("y").to("a", keep));
  assert.ok(planOf(() => merged().toSink(sink())));
  refusal("name_taken", () => merged().to("a", keep).toSink(sink()), 'stage "a"');
});

test("ids that meet by chance are refused too", () => {
  const chance = () => [numbers("a/b").to("c", keep).toSink(sink()), numbers("a").to("b/c", keep).toSink(sink())];
  refusal("name_taken", chance, "a/b/c");
  const like = () => numbers("n").to("key by before x", keep).keyBy(String).to("x", keep).toSink(sink());
  refusal("name_taken", like, "rename the stage");
});

test("two sources of one name are refused", () => {
  refusal("source_name_taken", () => [numbers("a").toSink(sink()), texts("a").toSink(sink())], '"a"');
  refusal("source_name_taken", () => numbers("a").merge(numbers("a")).toSink(sink()), '"a"');
});

test("two sinks of a pipeline with one output are refused", () => {
  refusal("name_taken", () => numbers().toSinks([sink(1), sink()]), "entry 1 of --out");
});

test("an exchange right behind an exchange is refused", () => {
  refusal("exchange_without_effect", () => numbers().rebalance().keyBy(String).toSink(sink()), "leave rebalance() out");
  const both = () => numbers("a").keyBy(String).merge(numbers("b").keyBy(String)).keyBy(String).toSink(sink());
  refusal("exchange_without_effect", both, "leave keyBy() out");
});

test("merging what was collected is refused", () => {
  const build = () => numbers("a").collect().merge(numbers("b").collect()).toStateful("s", count).toSink(sink());
  refusal("merge_of_collected", build, "merge() first, then collect()");
});

test("a build function that returns no pipeline is refused", () => {
  refusal("no_sink", () => numbers(), "toSink()");
  refusal("no_sink", () => undefined, "undefined");
  refusal("no_sink", () => [numbers().toSink(sink()), 7], "a number");
  refusal("no_pipeline", () => [], "one or more");
});

test("what a build function throws is told with its cause", () => {
  const cause = new Error("no such table");
  const build = () => {
    throw cause;
  };
  assert.throws(
    () => planOf(build),
    (error) => error instanceof PlanError && error.message.includes("no such table") && error.cause === cause,
  );
});

test("streams made outside of the build function are refused at the second start", () => {
  const shared = numbers();
  const app = application("app", () => shared.toSink(sink()));
  assert.ok(planApplication(app, contextOf()));
  assert.throws(() => planApplication(app, contextOf()), /make streams inside the function given to application\(\)/);
});

const TWO_WAYS = (decode: (text: string) => string, rate: number): Application =>
  application("two ways", () => [
    source("lines", tcpSource({ framing: framed.u16, decode: (payload) => decode(payload.text()) }))
      .to('say "hi"', keep)
      .keyBy(keep)
      .toStateful("count", count)
      .toSink(sink()),
    source("made", generatorSource({ initial: () => 0, next: (n) => n + 1, rate }))
      .rebalance()
      .to("costly", keep)
      .toSinks([sink(), sink(5)]),
  ]);

test("the fingerprint text has names, ids, kinds and connections", () => {
  const text = planFingerprintText(planApplication(TWO_WAYS(keep, 0), contextOf()));
  assert.equal(
    text,
    `application "two ways"
source tcp "lines" to "lines/say \\"hi\\""
source generator "made" to "made/rebalance before costly"
stage stateless "lines/say \\"hi\\"" to "lines/key by before count"
stage stateful keyed "lines/count" to "lines/sink 0"
stage stateless "made/costly" to "made/sink 1" "made/sink 5"
exchange key "lines/key by before count" to "lines/count"
exchange rebalance "made/rebalance before costly" to "made/costly"
sink tcp "lines/sink 0" at 0
sink tcp "made/sink 1" at 1
sink tcp "made/sink 5" at 5
`,
  );
});

test("the fingerprint text is the same for other option values and on other workers", () => {
  const here = planFingerprintText(planApplication(TWO_WAYS(keep, 0), contextOf()));
  const there = planFingerprintText(
    planApplication(
      TWO_WAYS((text) => text, 50),
      contextOf("worker1", 3),
    ),
  );
  assert.equal(here, there);
});
