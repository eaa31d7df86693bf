import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CreditGranter, CreditSpender } from "../../../src/protocol/session/credit.ts";
import { LinkReceiver } from "../../../src/protocol/session/link_receiver.ts";
import { LinkSender } from "../../../src/protocol/session/link_sender.ts";
import { Liveness } from "../../../src/protocol/session/liveness.ts";
import { comesBefore, designatedDialler, standingOf } from "../../../src/protocol/session/peer_process.ts";
import { Backoff } from "../../../src/protocol/session/reconnect.ts";

const ack = { delayMs: 10, bytesMax: 1_000 };

test("Backoff doubles from the first delay to the largest, with jitter below, and begins anew after a reset", () => {
  const backoff = new Backoff(50, 1_000);
  assert.deepEqual(
    Array.from({ length: 7 }, () => backoff.next(1 - Number.EPSILON)).map(Math.round),
    [50, 100, 200, 400, 800, 1_000, 1_000],
  );
  assert.equal(backoff.failures, 7);
  backoff.reset();
  assert.equal(backoff.next(0), 25);
  for (let i = 0; i < 5_000; i++) {
    const delay = backoff.next(0.5);
    assert.ok(delay > 0 && delay <= 1_000);
  }
});

test("Liveness says a heartbeat after quiet, and silence after the limit, not before", () => {
  const liveness = new Liveness({ heartbeatMs: 1_000, silenceMs: 5_000 }, 0);
  assert.equal(liveness.nextLookAt, 1_000);
  assert.equal(liveness.look(999, 0), "fine");
  assert.equal(liveness.look(1_000, 0), "heartbeat_due");
  liveness.said(1_000);
  assert.equal(liveness.look(1_500, 0), "fine");
  liveness.heard(2_000);
  assert.equal(liveness.look(6_999, 0), "heartbeat_due");
  assert.equal(liveness.look(7_000, 0), "silent");
});

test("Liveness listens first when it looks late, and does not wait for ever", () => {
  const liveness = new Liveness({ heartbeatMs: 1_000, silenceMs: 5_000 }, 0);
  assert.notEqual(liveness.look(60_000, 59_000), "silent");
  assert.equal(liveness.look(62_500, 0), "silent", "half the limit was left");
});

test("standingOf orders the processes of a worker by start number, then calls another incarnation newer", () => {
  const known = { incarnation: "a", startNumber: 3 };
  assert.equal(standingOf(null, known), "first");
  assert.equal(standingOf(known, { incarnation: "a", startNumber: 3 }), "same");
  assert.equal(standingOf(known, { incarnation: "b", startNumber: 3 }), "newer");
  assert.equal(standingOf(known, { incarnation: "b", startNumber: 4 }), "newer");
  assert.equal(standingOf(known, { incarnation: "b", startNumber: 2 }), "older");
});

test("the designated dialler of a pair is the later in the order of workers, whoever asks", () => {
  assert.ok(comesBefore("initializer", "a"));
  assert.ok(!comesBefore("a", "initializer"));
  assert.ok(comesBefore("w1", "w10"));
  assert.equal(designatedDialler("initializer", "a"), "a");
  assert.equal(designatedDialler("w2", "w10"), "w2");
  const name = fc.constantFrom("initializer", "a", "b", "w1", "w10", "z");
  fc.assert(
    fc.property(name, name, (a, b) => {
      fc.pre(a !== b);
      return designatedDialler(a, b) === designatedDialler(b, a) && comesBefore(a, b) !== comesBefore(b, a);
    }),
  );
});

test("LinkSender refuses an ack of what was never sent, and stays as it was", () => {
  const sender = new LinkSender<"x">();
  sender.append("x", 0, 1, new Uint8Array(3));
  assert.throws(() => sender.ack(2), { code: "acked_unsent" });
  assert.throws(() => sender.resume(2), { code: "acked_unsent" });
  assert.equal(sender.unackedFrames, 1);
  assert.equal(sender.next(), null, "not connected");
});

test("LinkSender gives back the memory of a long queue as it is acknowledged", () => {
  const sender = new LinkSender<"x">();
  for (let i = 0; i < 10_000; i++) sender.append("x", 0, 1, new Uint8Array(1));
  sender.resume(0);
  for (let i = 1; i <= 9_999; i++) {
    assert.equal(sender.next()!.sequence, i);
    sender.ack(i);
    assert.equal(sender.oldestUnacked, i + 1);
  }
  assert.equal([...sender.unacked()].length, 1);
  assert.equal(sender.next()!.sequence, 10_000);
  assert.equal(sender.unsentBytes, 0);
});

test("LinkSender tells of each payload once when it is acknowledged, and of none that it keeps", () => {
  const released: number[] = [];
  const sender = new LinkSender<"x">(({ sequence }) => released.push(sequence));
  for (let i = 0; i < 5; i++) sender.append("x", 0, 1, new Uint8Array(1));
  sender.resume(1);
  sender.next();
  sender.lost();
  assert.deepEqual(released, [1]);
  sender.resume(0);
  sender.ack(3);
  sender.ack(2);
  assert.deepEqual(released, [1, 2, 3]);
  sender.discard();
  assert.deepEqual(released, [1, 2, 3, 4, 5]);
});

test("LinkReceiver delivers each payload once and refuses a gap", () => {
  const receiver = new LinkReceiver(ack);
  assert.ok(receiver.isNew(1));
  assert.ok(receiver.isNew(1), "until it is delivered");
  receiver.received(1, 10, 0);
  assert.ok(!receiver.isNew(1));
  assert.throws(() => receiver.isNew(3), { code: "sequence_gap" });
  assert.equal(receiver.ackDueAt, 10);
  receiver.received(2, 990, 4);
  assert.equal(receiver.ackDueAt, 4, "a thousand bytes are enough");
  receiver.acked();
  assert.equal(receiver.ackDueAt, Number.POSITIVE_INFINITY);
});

test("LinkReceiver goes on where it was for the same sender, and begins anew for another", () => {
  const receiver = new LinkReceiver(ack);
  receiver.resume(1);
  for (let i = 1; i <= 5; i++) receiver.received(i, 1, 0);
  receiver.resume(3);
  assert.equal(receiver.receivedThrough, 5, "more than the sender knows");
  receiver.resume(9);
  assert.equal(receiver.receivedThrough, 8, "the sender keeps no more");
  assert.equal(receiver.resumedThrough(4, true), 3);
  receiver.restart();
  receiver.resume(4);
  assert.equal(receiver.receivedThrough, 3);
});

test("credit: both ends begin with the window, and no order of messages leaves a sender waiting for nothing", () => {
  const step = fc.record({ send: fc.nat({ max: 600 }), release: fc.nat({ max: 4 }), tell: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(step, { size: "max", maxLength: 100 }),
      fc.integer({ min: 1, max: 1_000 }),
      (steps, window) => {
        const granter = new CreditGranter(window);
        const spender = new CreditSpender(window);
        const held: number[] = [];
        const tell = () =>
          granter.tellDue((exchange, limit) => {
            spender.grant(exchange, limit);
            return true;
          });
        assert.ok(spender.has(7));
        for (const { send, release, tell: tells } of steps) {
          if (spender.has(7)) {
            const outstanding = held.reduce((sum, each) => sum + each, 0);
            assert.ok(outstanding < window, "no credit beyond the window");
            spender.spend(7, send);
            granter.received(7, send);
            held.push(send);
          }
          for (let i = 0; i < release && held.length > 0; i++) granter.release(7, held.shift()!);
          if (tells) tell();
        }
        for (const each of held.splice(0)) granter.release(7, each);
        tell();
        assert.ok(spender.has(7));
        assert.equal(granter.heldBytes, 0);
      },
    ),
  );
});

test("credit: limits that come twice or late change nothing", () => {
  const spender = new CreditSpender(100);
  spender.spend(1, 250);
  spender.grant(1, 300);
  spender.grant(1, 200);
  assert.ok(spender.has(1));
  spender.spend(1, 50);
  assert.ok(!spender.has(1));
});

test("credit: more exchanges than a buffer has room for are told in several", () => {
  const granter = new CreditGranter(100);
  for (let exchange = 0; exchange < 5; exchange++) {
    granter.received(exchange, 50);
    granter.release(exchange, 50);
  }
  const told: number[] = [];
  for (let round = 0; round < 3; round++) {
    let room = 2;
    granter.tellDue((exchange) => {
      if (room === 0) return false;
      room--;
      told.push(exchange);
      return true;
    });
  }
  assert.deepEqual(told, [0, 1, 2, 3, 4]);
  assert.ok(!granter.anyDue);
});
