import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  RecoveryCoordinator,
  type RecoveryEffect,
  type RecoveryEvent,
} from "../../../src/protocol/recovery/recovery_coordinator.ts";
import { resolve, type WorkerFacts } from "../../../src/protocol/recovery/resolve.ts";

const facts = (epochs: number[], written = epochs.at(-1) ?? 0, unreadable = ""): WorkerFacts => ({
  epochs,
  written,
  unreadable,
});

function decide(decided: number, workers: Record<string, WorkerFacts>, acceptStateLoss = false) {
  return resolve({ decided, workers: new Map(Object.entries(workers)), acceptStateLoss });
}

test("before the first decision everyone returns to the empty state, whatever is on disk", () => {
  assert.deepEqual(decide(0, { a: facts([]), b: facts([1], 2) }), { kind: "restore", epoch: 0, empty: [], used: 2 });
});

test("everyone returns to the decided checkpoint, although some have a newer one", () => {
  assert.deepEqual(decide(4, { a: facts([3, 4, 5], 6), b: facts([4]) }), {
    kind: "restore",
    epoch: 4,
    empty: [],
    used: 6,
  });
});

test("a worker without the decided checkpoint is refused in words that say what it has", () => {
  const outcome = decide(4, { a: facts([4]), b: facts([2, 3]), c: facts([]), d: facts([5]) });
  assert.ok(outcome.kind === "refuse");
  assert.deepEqual(
    outcome.refusals.map(({ worker, code }) => `${worker} ${code}`),
    ["b state_stale", "c state_lost", "d state_ahead"],
  );
  assert.match(outcome.refusals[0]!.sentence, /at checkpoint 4.*"b" has is 3.*--accept-state-loss/);
});

test("where a decided checkpoint can't be read, damage is said, with its place; an old copy only if it may be one", () => {
  const place = "/r/a/b/state/segment-1 cannot be read from offset 812 on: the checksum of a record is wrong";
  const outcome = decide(4, { a: facts([4], 5, place), b: facts([3], 4, place), c: facts([2, 3], 3, place) });
  assert.ok(outcome.kind === "refuse");
  const [b, c] = outcome.refusals;
  assert.deepEqual([b?.worker, b?.code, c?.worker, c?.code], ["b", "state_damaged", "c", "state_damaged"]);
  assert.match(
    b!.sentence,
    /from offset 812 on.*Checkpoint 4, .*, was whole there: the file was damaged\. .*store verify/,
  );
  assert.match(c!.sentence, /the file was damaged, unless its files are an old copy\. /);
  const nothing = decide(4, { a: facts([], 0, place) });
  assert.ok(nothing.kind === "refuse" && nothing.refusals[0]?.code === "state_damaged");
});

test("accepted state loss starts that worker empty and the others at the checkpoint", () => {
  assert.deepEqual(decide(4, { a: facts([4]), b: facts([]) }, true), {
    kind: "restore",
    epoch: 4,
    empty: ["b"],
    used: 4,
  });
});

test("what is restored is always on the disk of everyone who restores it", () => {
  const worker = fc.record({
    epochs: fc.uniqueArray(fc.integer({ min: 1, max: 8 })),
    written: fc.integer({ min: 0, max: 9 }),
    unreadable: fc.constantFrom("", "a file is torn"),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 8 }),
      fc.array(worker, { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      (decided, list, accept) => {
        const workers = new Map(
          list.map((entry, i) => [`w${i}`, { ...entry, epochs: [...entry.epochs].sort((a, b) => a - b) }]),
        );
        const outcome = resolve({ decided, workers, acceptStateLoss: accept });
        if (outcome.kind === "refuse") {
          assert.ok(
            !accept && outcome.refusals.every(({ worker: name }) => !workers.get(name)!.epochs.includes(decided)),
          );
          return;
        }
        assert.equal(outcome.epoch, decided);
        for (const [name, { epochs, written }] of workers) {
          assert.ok(decided === 0 || epochs.includes(decided) || outcome.empty.includes(name));
          assert.ok(outcome.used >= written);
        }
      },
    ),
  );
});

function recovery() {
  const machine = new RecoveryCoordinator({ workers: ["initializer", "w1"], acceptStateLoss: false }, 3);
  return { machine, say: (event: RecoveryEvent) => machine.handle(event).map(show) };
}

function show(effect: RecoveryEffect): string {
  switch (effect.kind) {
    case "fence":
    case "recover":
      return `${effect.kind} ${effect.generation}`;
    case "restore":
      return `restore ${effect.to} to ${effect.epoch}`;
    case "recovered":
      return `recovered to ${effect.epoch}, ${effect.entries} entries`;
    case "refuse":
      return `refuse ${effect.refusal.worker}: ${effect.refusal.code}`;
  }
}

test("a recovery goes through generation, facts, restore, and then lets everyone go on at once", () => {
  const { say, machine } = recovery();
  assert.deepEqual(say({ kind: "begin", reason: "w1 restarted", decided: 2 }), ["fence 4"]);
  assert.deepEqual(say({ kind: "fenced", generation: 4 }), ["recover 4"]);
  assert.deepEqual(say({ kind: "facts", from: "w1", generation: 4, facts: facts([1, 2]) }), []);
  assert.match(machine.waitingFor()!, /from: initializer/);
  assert.deepEqual(say({ kind: "facts", from: "initializer", generation: 4, facts: facts([2]) }), [
    "restore initializer to 2",
    "restore w1 to 2",
  ]);
  assert.deepEqual(say({ kind: "restored", from: "w1", generation: 4, entries: 5 }), []);
  assert.match(machine.waitingFor()!, /checkpoint 2 waits for: initializer/);
  assert.deepEqual(say({ kind: "restored", from: "initializer", generation: 4, entries: 6 }), [
    "recovered to 2, 11 entries",
  ]);
  assert.equal(machine.recovering, false);
});

test("a failure at any moment starts the decision again, and what comes of the old one is dropped", () => {
  const { say, machine } = recovery();
  const story: RecoveryEvent[] = [
    { kind: "begin", reason: "one", decided: 2 },
    { kind: "fenced", generation: 4 },
    { kind: "facts", from: "w1", generation: 4, facts: facts([2]) },
    { kind: "facts", from: "initializer", generation: 4, facts: facts([2]) },
    { kind: "restored", from: "w1", generation: 4, entries: 1 },
  ];
  for (const event of story) {
    say(event);
    if (event.kind === "begin") continue;
  }
  assert.deepEqual(say({ kind: "begin", reason: "two", decided: 2 }), ["fence 5"]);
  assert.deepEqual(say({ kind: "restored", from: "initializer", generation: 4, entries: 1 }), []);
  assert.equal(machine.stragglers, 1);
  assert.deepEqual(say({ kind: "fenced", generation: 5 }), ["recover 5"]);
  assert.equal(machine.tries, 2);
});

test("a worker whose files do not do is refused, and the others wait for it", () => {
  const { say, machine } = recovery();
  say({ kind: "begin", reason: "all restarted", decided: 2 });
  say({ kind: "fenced", generation: 4 });
  say({ kind: "facts", from: "w1", generation: 4, facts: facts([]) });
  assert.deepEqual(say({ kind: "facts", from: "initializer", generation: 4, facts: facts([2]) }), [
    "refuse w1: state_lost",
  ]);
  assert.match(machine.waitingFor()!, /from: w1/);
});

test("a recovery that begins anew says which try it is, and the next one counts from one", () => {
  const { say, machine } = recovery();
  const restore = (generation: number) => {
    for (const from of ["initializer", "w1"]) say({ kind: "facts", from, generation, facts: facts([2]) });
  };
  say({ kind: "begin", reason: "one", decided: 2 });
  say({ kind: "fenced", generation: 4 });
  assert.doesNotMatch(machine.waitingFor()!, /try/);
  say({ kind: "begin", reason: "two", decided: 2 });
  say({ kind: "fenced", generation: 5 });
  assert.match(machine.waitingFor()!, /on disk from: initializer, w1 \(try 2\)$/);
  say({ kind: "begin", reason: "three", decided: 2 });
  say({ kind: "fenced", generation: 6 });
  restore(6);
  assert.equal(machine.waitingFor(), "recovery to checkpoint 2 waits for: initializer, w1 (try 3)");
  for (const from of ["initializer", "w1"]) say({ kind: "restored", from, generation: 6, entries: 0 });
  assert.equal(machine.waitingFor(), null);
  say({ kind: "begin", reason: "four", decided: 2 });
  say({ kind: "fenced", generation: 7 });
  assert.doesNotMatch(machine.waitingFor()!, /try/);
});
