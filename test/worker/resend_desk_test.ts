/** Dead letters that are let in again: what one worker makes of checkpoints, recoveries and what owners say. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { application, framed, source, tcpSink, tcpSource } from "../../mod.ts";
import { assignOwners, hashKey, keyGroupOf } from "../../src/plan/key_groups.ts";
import { planApplication } from "../../src/plan/plan.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import type { LettersMessage } from "../../src/wire/control.ts";
import {
  decodeResentLetters,
  encodeResendBatch,
  encodeResentLetters,
  type ResendOutcome,
  type ResentLetter,
} from "../../src/wire/resend.ts";
import { encodeValues } from "../../src/wire/values.ts";
import { Resend } from "../../src/worker/resend.ts";

const CLUSTER = "0".repeat(32);
const MEMBERS = ["initializer", "w1"];

const plan = planApplication(
  application("Words", () =>
    source("words", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }))
      .to("twice", (word) => word)
      .keyBy((word) => word)
      .toStateful("count", { initial: () => ({ n: 0 }), apply: (word) => word })
      .toSink(tcpSink({ encode: (word) => word })),
  ),
  { args: [], options: {}, worker: "initializer", workers: 2, inputs: [] },
);

function keyOf(owner: number): string {
  const owners = assignOwners(2, 1024);
  for (let i = 0; ; i++) if (owners[keyGroupOf(hashKey(`k${i}`), 1024)] === owner) return `k${i}`;
}

function letter(change: Partial<ResentLetter> = {}): ResentLetter {
  const out = new ByteWriter();
  encodeValues(["x"], 1, out);
  return {
    ...{ stage: "words/count", during: "apply", source: null, place: null, key: keyOf(0), time: 5 },
    ...{ bytes: null, head: null, value: out.take() },
    ...change,
  };
}

class Found {
  outcome: ResendOutcome | null = null;

  /** There must be one by now. */
  get answer(): ResendOutcome {
    assert.ok(this.outcome !== null);
    return this.outcome;
  }
}

/** Worker `initializer` of two, whose surroundings are what a test says. */
class Scene {
  readonly world = new VirtualWorld({ seed: 1 });
  mayTake = true;
  ending = false;
  readonly taken: string[] = [];
  readonly sent: [string, LettersMessage][] = [];
  asked = 0;
  readonly checkpoints = {
    lastComplete: 3,
    lastCut: 4,
    recovering: false,
    ask: () => {
      this.asked++;
    },
  };
  readonly desk: Resend;

  constructor(queueBytes = 1 << 20) {
    const { clock } = this.world.host("a").startProcess(() => {}).runtime;
    const scene = this;
    this.desk = new Resend({
      ...{ name: "initializer", clusterId: CLUSTER, members: MEMBERS, keyGroupCount: 1024, plan, clock },
      log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
      turn: (run) => run(),
      generation: () => 2,
      send: (to, message) => this.sent.push([to, message as LettersMessage]),
      queueBytes,
      hindrance: () => null,
      dataflow: {
        get ending() {
          return scene.ending;
        },
        mayTake: () => this.mayTake,
        take: (_, { stage, key }) => {
          this.taken.push(`${stage} ${key}`);
          return null;
        },
        wake: () => {},
      },
      checkpoints: this.checkpoints,
    });
  }

  send(letters: readonly ResentLetter[], clusterId = CLUSTER): Found {
    const found = new Found();
    this.desk.request(encodeResendBatch({ clusterId, another: false, letters }), (outcome) => {
      assert.equal(found.outcome, null, "answered once");
      found.outcome = outcome;
    });
    this.desk.flush();
    return found;
  }

  told(count: number, cut: number, refused: { index: number; why: string }[] = []): void {
    this.desk.received("w1", { kind: "letters_taken", generation: 2, request: 1, count, cut, refused });
  }
}

test("a letter waits until it may go in, and counts with the checkpoint that is cut behind it", () => {
  const scene = new Scene();
  scene.mayTake = false;
  const found = scene.send([letter(), letter({ stage: "words/nowhere" })]);
  assert.deepEqual(scene.taken, []);
  scene.mayTake = true;
  scene.desk.flush();
  assert.deepEqual(scene.taken, [`words/count ${keyOf(0)}`]);
  assert.equal(scene.asked, 1);
  scene.desk.completed(4);
  assert.equal(found.outcome, null, "checkpoint 4 was cut before");
  scene.desk.completed(5);
  assert.deepEqual(found.answer.taken, [0]);
  assert.equal(found.answer.epoch, 5);
  assert.match(found.answer.left[0]!.why, /no stage words\/nowhere/);
});

test("a recovery to a checkpoint that has it is an answer, and one to an earlier one says that it is not in", () => {
  for (const epoch of [4, 5]) {
    const scene = new Scene();
    const found = scene.send([letter()]);
    scene.desk.standStill();
    assert.equal(found.outcome, null);
    scene.desk.recovered(epoch);
    if (epoch === 5) assert.deepEqual(found.answer.taken, [0]);
    else assert.match(found.answer.left[0]?.why ?? "", /went back to checkpoint 4, which does not have it/);
  }
});

test("letters go to the owners of their keys, and what an owner has not said before a recovery is said to be unknown", () => {
  const scene = new Scene();
  const found = scene.send([letter({ key: keyOf(1) }), letter(), letter({ key: keyOf(1) }), letter({ key: keyOf(1) })]);
  const [[to, message] = []] = scene.sent;
  assert.ok(to === "w1" && message?.kind === "letters");
  assert.equal(decodeResentLetters(message.letters).length, 3);
  assert.equal(scene.asked, 0, "not before all are in");
  scene.told(1, 4);
  scene.told(1, 5, [{ index: 1, why: "not now" }]);
  scene.desk.recovered(5);
  assert.deepEqual(found.answer.taken, [0, 1]);
  assert.deepEqual(found.answer.left, [{ letters: [2], why: "not now" }]);
  assert.deepEqual(found.answer.unsure[0]?.letters, [3]);
  // Back at the checkpoint that there was before: it can't have what was sent behind it.
  const other = new Scene();
  const back = other.send([letter({ key: keyOf(1) })]);
  other.desk.recovered(3);
  assert.deepEqual(back.answer.left[0]?.letters, [0]);
});

test("an owner is sent as much as leaves room for other messages, and the next when it has dealt with that", () => {
  const scene = new Scene(8 * 1_000);
  const found = scene.send(Array.from({ length: 8 }, () => letter({ key: keyOf(1) })));
  const portions = () =>
    scene.sent.map(([, message]) => decodeResentLetters((message as { letters: Uint8Array }).letters).length);
  assert.deepEqual(portions(), [3]);
  scene.told(2, 4);
  assert.deepEqual(portions(), [3]);
  scene.told(1, 4, [{ index: 2, why: "not now" }]);
  assert.deepEqual(portions(), [3, 3]);
  scene.told(1, 5, [{ index: 0, why: "not now either" }]);
  // What was not sent yet is not in; of what was sent and not answered nobody knows.
  scene.desk.recovered(5);
  assert.deepEqual(found.answer.taken, [0, 1]);
  assert.deepEqual(
    found.answer.left.map(({ letters }) => letters),
    [[2], [3], [6, 7]],
  );
  assert.deepEqual(found.answer.unsure[0]?.letters, [4, 5]);
});

test("as an owner it tells how far it is, with its last cut, and drops what a rollback overtakes", () => {
  const scene = new Scene();
  scene.mayTake = false;
  const letters = encodeResentLetters([letter(), letter({ stage: "words/twice", key: null })]);
  scene.desk.received("w1", { kind: "letters", generation: 1, request: 9, letters });
  scene.desk.received("w1", { kind: "letters", generation: 2, request: 9, letters });
  scene.desk.received("w1", { kind: "letters", generation: 2, request: 9, letters: Uint8Array.of(9) });
  scene.desk.flush();
  assert.deepEqual(scene.sent, []);
  scene.mayTake = true;
  scene.desk.flush();
  const taken = { kind: "letters_taken", generation: 2, request: 9, count: 2, cut: 4, refused: [] } as const;
  assert.deepEqual(scene.sent, [["w1", taken]]);
  scene.mayTake = false;
  scene.desk.received("w1", { kind: "letters", generation: 2, request: 10, letters });
  scene.desk.standStill();
  scene.mayTake = true;
  scene.desk.flush();
  assert.equal(scene.sent.length, 1);
});

test("a stop, a recovery and another cluster refuse a batch in words, and what is no batch as well", () => {
  const scene = new Scene();
  assert.match(scene.send([letter()], "1".repeat(32)).answer.left[0]!.why, /of cluster 1{32}.*--another-cluster/);
  scene.checkpoints.recovering = true;
  assert.match(scene.send([letter()]).answer.left[0]!.why, /recovers/);
  scene.checkpoints.recovering = false;
  scene.mayTake = false;
  const waiting = scene.send([letter()]);
  scene.ending = true;
  scene.desk.flush();
  assert.match(waiting.answer.left[0]!.why, /is being stopped/);
  assert.match(scene.send([letter()]).answer.left[0]!.why, /is being stopped/);
  scene.desk.request(Uint8Array.of(1, 2, 3), ({ left }) => assert.match(left[0]!.why, /is refused/));
});
