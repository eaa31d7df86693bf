// A connection is cut at every byte of an exchange, in both directions, and resumed. The oracle is in `link_world.ts`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LinkWorld, other, type Side } from "./link_world.ts";

const TEXTS = ["", "one", "x".repeat(700), "four", "y".repeat(90)];

/** The exchange that is cut: both directions where both can send, with releases between. */
function exchange(world: LinkWorld): void {
  TEXTS.forEach((text, index) => {
    world.append("a", `a${index}${text}`, index % 2);
    if (world.kinds.b === "control") world.append("b", `b${index}${text}`);
  });
}

/** Runs the exchange until `byteCount` bytes of `side` have arrived; what the other side says arrives whole, or not at all. */
function runUpTo(world: LinkWorld, side: Side, byteCount: number, othersArrive: boolean): boolean {
  exchange(world);
  world.connect("a");
  let delivered = 0;
  for (let round = 0; round < 200; round++) {
    world.fill(side);
    delivered += world.deliver(side, byteCount - delivered);
    if (delivered === byteCount && round > 3) return true;
    world.fill(other(side));
    // Before the dialler's resume arrived there is nothing that the listener could say.
    if (othersArrive || side === "b") world.deliver(other(side), Number.POSITIVE_INFINITY);
    world.releaseAll("b");
    world.nowMs += 4;
  }
  return delivered === byteCount;
}

for (const kind of ["control", "data"] as const) {
  for (const side of ["a", "b"] as const) {
    for (const othersArrive of [true, false]) {
      for (const after of ["the same processes", "a new process of a", "a new process of b"] as const) {
        const way = `from ${side}${othersArrive ? "" : " with its answers lost"}`;
        test(`a ${kind} link cut at every byte ${way} and resumed by ${after} loses and doubles nothing`, () => {
          const whole = new LinkWorld(kind, 600);
          exchange(whole);
          whole.settle();
          whole.checkSettled();
          const total = whole.totals[side];
          assert.ok(total > 40, "there is something to cut");
          let cuts = 0;
          for (let byteCount = 0; byteCount <= total; byteCount++) {
            const world = new LinkWorld(kind, 600);
            if (runUpTo(world, side, byteCount, othersArrive)) cuts++;
            world.checkAlways();
            if (after === "the same processes") world.cut();
            else world.restart(after === "a new process of a" ? "a" : "b");
            world.append("a", "after the cut");
            if (kind === "control") world.append("b", "after the cut too");
            world.settle(kind === "control" && byteCount % 2 === 1 ? "b" : "a");
            world.checkSettled();
          }
          assert.ok(cuts > total / 4, `most of ${total} places were reached, ${cuts} were`);
        });
      }
    }
  }
}
