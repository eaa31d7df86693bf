import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SinkWorld } from "./sink_world.ts";

type Step =
  | { kind: "write"; sizes: number[] }
  | { kind: "pump" | "up" | "down" | "old"; pieces: number }
  | { kind: "connect" | "lose" | "crash_sink" | "restart_worker" | "roll_back" }
  | { kind: "prepare" | "decide" | "abandon" | "tell" | "round" };

const kind = <K extends Step["kind"]>(name: K) => fc.constant(name);
const pieces = fc.oneof(fc.integer({ min: 1, max: 3 }), fc.constant(1_000));

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: kind("write"),
      sizes: fc.array(fc.nat({ max: 20 }), { minLength: 1, maxLength: 5 }),
    }),
  },
  { weight: 40, arbitrary: fc.record({ kind: fc.constantFrom("pump", "up", "down"), pieces }) },
  { weight: 3, arbitrary: fc.record({ kind: kind("old"), pieces }) },
  { weight: 10, arbitrary: fc.record({ kind: kind("connect") }) },
  { weight: 8, arbitrary: fc.record({ kind: kind("round") }) },
  { weight: 4, arbitrary: fc.record({ kind: kind("lose") }) },
  { weight: 12, arbitrary: fc.record({ kind: kind("prepare") }) },
  { weight: 20, arbitrary: fc.record({ kind: fc.constantFrom<"decide" | "tell">("decide", "tell") }) },
  { weight: 2, arbitrary: fc.record({ kind: kind("abandon") }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom<"crash_sink" | "restart_worker" | "roll_back">("crash_sink", "restart_worker", "roll_back"),
    }),
  },
);

function apply(world: SinkWorld, each: Step): void {
  switch (each.kind) {
    case "write":
      return world.write(each.sizes);
    case "pump":
      return world.pump(each.pieces);
    case "up":
    case "down":
      return world.deliver(each.kind, each.pieces);
    case "old":
      return world.deliverOld(each.pieces);
    case "connect":
      return world.connect();
    case "lose":
      return world.lose();
    case "crash_sink":
      return world.crashSink();
    case "restart_worker":
      return world.restartWorker();
    case "roll_back":
      return world.rollBack();
    case "prepare":
      return world.prepare();
    case "decide":
      return world.decide();
    case "abandon":
      return world.abandon();
    case "tell":
      return world.tell();
    case "round":
      world.connect();
      for (let i = 0; i < 3; i++) {
        world.pump(10);
        world.deliver("up", 10);
        world.deliver("down", 10);
      }
  }
}

test("a sink commits the output of the complete checkpoints, in order, and nothing else, whatever is cut or dies", {
  timeout: 300_000,
}, () => {
  let committed = 0;
  let rollBacks = 0;
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 10, maxLength: 200, size: "max" }),
      // Enough for all, or so little that a lost connection costs a rollback.
      fc.constantFrom(1 << 20, 60),
      (steps, keepBytesMax) => {
        const world = new SinkWorld(keepBytesMax);
        for (const each of steps) {
          apply(world, each);
          world.check();
        }
        world.settle();
        committed += world.expected.length;
        rollBacks += world.rollBacks;
      },
    ),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 500) },
  );
  // Else nothing was tried.
  assert.ok(committed > 1_000 && rollBacks > 500);
});
