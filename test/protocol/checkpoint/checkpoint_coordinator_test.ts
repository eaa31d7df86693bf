import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CheckpointCoordinator,
  type CheckpointEffect,
  type CheckpointEvent,
} from "../../../src/protocol/checkpoint/checkpoint_coordinator.ts";

function coordinator(workers = ["initializer", "w1"]) {
  const machine = new CheckpointCoordinator({ workers, intervalMs: 1_000, deadlineMs: 5_000 }, 0, 0);
  const at = (now: number, event: CheckpointEvent) => machine.handle(event, now).map(show);
  at(0, { kind: "resume", complete: 0, used: 0 });
  return { machine, at };
}

function show(effect: CheckpointEffect): string {
  switch (effect.kind) {
    case "complete":
      return `complete ${effect.epoch} in ${effect.summary.durationMs} ms, ${effect.summary.stateBytes} bytes`;
    case "answer":
      return `answer ${effect.request}: ${effect.complete ?? effect.reason}`;
    case "abort":
      return `abort ${effect.epoch} (${effect.failures}): ${effect.reason}`;
    case "roll_back":
      return `roll back: ${effect.reason}`;
    default:
      return `${effect.kind} ${effect.epoch}`;
  }
}

function stored(from: string, epoch: number): CheckpointEvent {
  return { kind: "stored", from, epoch, stateBytes: 10, writtenBytes: 1 };
}

test("a checkpoint is complete only when its decision is durable", () => {
  const { at } = coordinator();
  assert.deepEqual(at(999, { kind: "tick" }), []);
  assert.deepEqual(at(1_000, { kind: "tick" }), ["begin 1"]);
  assert.deepEqual(at(1_010, stored("w1", 1)), []);
  assert.deepEqual(at(1_020, stored("initializer", 1)), ["decide 1"]);
  assert.deepEqual(at(1_030, { kind: "tick" }), []);
  assert.deepEqual(at(1_040, { kind: "decided", epoch: 1 }), ["complete 1 in 40 ms, 20 bytes"]);
  assert.deepEqual(at(2_039, { kind: "tick" }), [], "the interval counts from the completion");
  assert.deepEqual(at(2_040, { kind: "tick" }), ["begin 2"]);
});

test("whoever asks while one is in flight gets the one behind it, begun at once, whatever becomes of the first", () => {
  const { at } = coordinator(["initializer"]);
  assert.deepEqual(at(10, { kind: "asked", request: 7 }), ["begin 1"]);
  assert.deepEqual(at(11, { kind: "asked", request: 8 }), []);
  at(12, stored("initializer", 1));
  assert.deepEqual(at(13, { kind: "decided", epoch: 1 }), ["complete 1 in 3 ms, 10 bytes", "answer 7: 1", "begin 2"]);
  at(14, { kind: "asked", request: 9 });
  assert.deepEqual(at(15, { kind: "lost", worker: "w1" }).slice(1), ["answer 8: worker w1 is lost", "begin 3"]);
  at(16, stored("initializer", 3));
  assert.deepEqual(at(17, { kind: "decided", epoch: 3 }), ["complete 3 in 2 ms, 10 bytes", "answer 9: 3"]);
});

test("while the cluster stops, only those that are asked for are begun", () => {
  const { at } = coordinator(["initializer"]);
  assert.deepEqual(at(10, { kind: "stopping" }), []);
  assert.deepEqual(at(99_000, { kind: "tick" }), []);
  assert.deepEqual(at(99_001, { kind: "asked", request: 1 }), ["begin 1"]);
});

test("one that does not complete is aborted with whom it waited for, and its epoch is never used again", () => {
  const { at, machine } = coordinator();
  at(1_000, { kind: "tick" });
  at(1_001, stored("w1", 1));
  assert.deepEqual(at(6_000, { kind: "tick" }), ["abort 1 (1): not complete within 5000 ms: waits for initializer"]);
  assert.deepEqual(at(6_001, stored("initializer", 1)), [], "a straggler");
  assert.equal(machine.stragglers, 1);
  assert.deepEqual(at(7_000, { kind: "tick" }), ["begin 2"]);
});

test("a vote against it aborts, and rolls back where output cannot be kept", () => {
  const { at } = coordinator();
  at(1_000, { kind: "tick" });
  assert.deepEqual(at(1_001, { kind: "failed", from: "w1", epoch: 1, reason: "sink voted no", rollBack: true }), [
    "abort 1 (1): worker w1: sink voted no",
    "roll back: worker w1: sink voted no",
  ]);
});

test("a lost worker aborts what is being collected, not what is being decided", () => {
  const { at } = coordinator();
  at(1_000, { kind: "tick" });
  assert.deepEqual(at(1_001, { kind: "lost", worker: "w1" }), ["abort 1 (1): worker w1 is lost"]);
  at(2_001, { kind: "tick" });
  at(2_002, stored("w1", 2));
  at(2_003, stored("initializer", 2));
  assert.deepEqual(at(2_004, { kind: "lost", worker: "w1" }), []);
  assert.deepEqual(at(2_005, { kind: "decided", epoch: 2 }), ["complete 2 in 4 ms, 20 bytes"]);
});

test("nothing starts while it is suspended, and whoever asks is told why", () => {
  const { at } = coordinator();
  at(1_000, { kind: "tick" });
  assert.deepEqual(at(1_001, { kind: "suspend", reason: "recovery" }), ["abort 1 (0): recovery"]);
  assert.deepEqual(at(9_000, { kind: "tick" }), []);
  assert.deepEqual(at(9_000, { kind: "asked", request: 1 }), ["answer 1: recovery"]);
  at(9_001, { kind: "resume", complete: 0, used: 0 });
  assert.deepEqual(at(10_001, { kind: "tick" }), ["begin 2"]);
});
