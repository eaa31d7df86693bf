import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_LIMITS, limitsWithin } from "../../src/worker/config.ts";

test("limitsWithin() leaves a quarter of the descriptors to links and files, however few there are", () => {
  for (const descriptorsMax of [64, 100, 256, 1_024, 4_096, 20_000, 1_048_576]) {
    const { strangers, externalConnections, allSourceConnections } = limitsWithin(descriptorsMax);
    // Strangers at the control port and at the data port.
    const most = 2 * strangers + externalConnections + allSourceConnections;
    assert.ok(most <= (descriptorsMax * 3) / 4, `${most} of ${descriptorsMax}`);
    assert.ok(strangers >= 4 && externalConnections >= 4 && allSourceConnections >= 32);
    assert.ok(strangers <= DEFAULT_LIMITS.strangers && externalConnections <= DEFAULT_LIMITS.externalConnections);
  }
});

test("limitsWithin() changes nothing where the number is not known", () => {
  assert.deepEqual(limitsWithin(null), DEFAULT_LIMITS);
});
