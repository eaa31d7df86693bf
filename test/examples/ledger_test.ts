/** The ledger, run through its plan without a file, against a plain model. */
import assert from "node:assert/strict";
import { test } from "node:test";
import ledger from "../../examples/ledger.ts";
import { Payload } from "../../mod.ts";
import { readOptionValues } from "../../src/api/options.ts";
import { encodeSinkBatch } from "../../src/operators/sink_encoder.ts";
import { SourceDecoder } from "../../src/operators/source_decoder.ts";
import { batchOf, type TestWorker, world } from "../operators/world.ts";

function workers(options: Record<string, string>): TestWorker[] {
  return world(ledger, { context: { options: readOptionValues(ledger.options, options) }, workers: 2 });
}

test("the ledger gives a line for each transfer: the account's balance, and the how-manieth it is", () => {
  const all = workers({ input: "in", output: "out" });
  const balances = new Map<string, { balance: number; n: number }>();
  const expected: string[] = [];
  all.forEach((worker, w) => {
    const { definition, index, name } = worker.plan.sources[0]!;
    assert.ok(definition.kind === "file");
    const decoder = new SourceDecoder({ index, name, definition }, (error) => assert.fail(String(error.error)));
    for (let i = 0; i < 200; i++) {
      const transfer = { account: `a${(i * 7 + w) % 13}`, amount: ((i * 31) % 50) - 20.5 };
      const bytes = new TextEncoder().encode(JSON.stringify(transfer));
      const frames = { count: 1, starts: Uint32Array.of(0), ends: Uint32Array.of(bytes.length) };
      worker.dataflow.fromSource(index, decoder.decode(bytes, frames, 0));
      const { balance, n } = balances.get(transfer.account) ?? { balance: 0, n: 0 };
      const entry = { balance: balance + transfer.amount, n: n + 1 };
      balances.set(transfer.account, entry);
      expected.push(`{"account":"${transfer.account}","balance":${entry.balance},"n":${entry.n}}`);
    }
  });
  const lines = all.flatMap((worker) => {
    const sink = worker.plan.sinks[0]!;
    const encoded = encodeSinkBatch(sink, batchOf(worker.output(0)), (error) => assert.fail(String(error.error)));
    return new TextDecoder().decode(encoded.bytes).split("\n").slice(0, -1);
  });
  assert.deepEqual(lines.sort(), expected.sort());
});

test("the ledger takes an empty line for no transfer, and says what is wrong with one that is none", () => {
  const { definition } = workers({ input: "in", output: "out" })[0]!.plan.sources[0]!;
  assert.ok(definition.kind === "file");
  assert.equal(definition.decode(Payload.of("")), undefined);
  assert.throws(() => definition.decode(Payload.of("a1 5")), SyntaxError);
  assert.throws(() => definition.decode(Payload.of('{"account":1,"amount":1}')), /the account is 1: expected a text/);
  assert.throws(() => definition.decode(Payload.of('{"account":"a"}')), /the amount is undefined: expected a number/);
});

test("the ledger asks for its two paths; its rate is unlimited, and its input is not followed, unless told", () => {
  assert.throws(() => readOptionValues(ledger.options, { input: "in" }), /--output is missing/);
  assert.throws(() => readOptionValues(ledger.options, { output: "out" }), /--input is missing/);
  const [worker] = workers({ input: "in", output: "out" });
  const { definition } = worker!.plan.sources[0]!;
  assert.ok(definition.kind === "file");
  assert.deepEqual([definition.place, definition.rate, definition.follow], [{ kind: "path", path: "in" }, 0, false]);
  assert.equal(worker!.plan.sinks[0]!.id, "transfers/sink files");
});
