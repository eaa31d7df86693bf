import { test } from "node:test";
import fc from "fast-check";
import { LinkWorld, type Side } from "./link_world.ts";

type Command =
  | { kind: "append"; side: Side; length: number; exchange: number }
  | { kind: "fill"; side: Side; bufferBytes: number }
  | { kind: "deliver"; side: Side; byteCount: number }
  | { kind: "deliver_old"; byteCount: number }
  | { kind: "release"; side: Side }
  | { kind: "discard"; side: Side }
  | { kind: "wait"; ms: number }
  | { kind: "cut" }
  | { kind: "connect"; side: Side }
  | { kind: "restart"; side: Side };

const side = fc.constantFrom<Side>("a", "b");
const command = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      side,
      length: fc.nat({ max: 900 }),
      exchange: fc.nat({ max: 1 }),
    }),
  },
  {
    weight: 16,
    arbitrary: fc.record({
      kind: fc.constant("fill" as const),
      side,
      bufferBytes: fc.integer({ min: 300, max: 2_000 }),
    }),
  },
  {
    weight: 16,
    arbitrary: fc.record({
      kind: fc.constant("deliver" as const),
      side,
      byteCount: fc.oneof(fc.nat({ max: 60 }), fc.nat({ max: 2_000 })),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("deliver_old" as const), byteCount: fc.nat({ max: 1_000 }) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("release" as const), side }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("discard" as const), side }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.nat({ max: 30 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cut" as const) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("connect" as const), side }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const), side }) },
);

function run(kind: "control" | "data", commands: readonly Command[]): void {
  const world = new LinkWorld(kind, 1_000);
  let number = 0;
  for (const each of commands) {
    switch (each.kind) {
      case "append":
        if (kind === "control" || each.side === "a") {
          world.append(each.side, `${number++}:${"z".repeat(each.length)}`, each.exchange);
        }
        break;
      case "fill":
        world.bufferBytes = each.bufferBytes;
        world.fill(each.side);
        break;
      case "deliver":
        world.deliver(each.side, each.byteCount);
        break;
      case "deliver_old":
        world.deliverOld(each.byteCount);
        break;
      case "discard":
        if (kind === "control") world.discard(each.side);
        break;
      case "release":
        world.releaseAll(each.side);
        break;
      case "wait":
        world.nowMs += each.ms;
        break;
      case "cut":
        world.cut();
        break;
      case "connect":
        world.connect(kind === "data" ? "a" : each.side);
        break;
      case "restart":
        world.restart(each.side);
        break;
    }
    world.checkAlways();
  }
  world.settle();
  world.checkSettled();
}

for (const kind of ["control", "data"] as const) {
  test(`a ${kind} link keeps its promises through any order of sends, deliveries, cuts and restarts`, () => {
    fc.assert(
      fc.property(fc.array(command as fc.Arbitrary<Command>, { maxLength: 150, size: "max" }), (commands) =>
        run(kind, commands),
      ),
      { numRuns: 3_000 },
    );
  });
}
