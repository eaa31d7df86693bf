import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../../src/base/errors.ts";
import { crc32c } from "../../src/store/crc32c.ts";
import type { ControlMessage } from "../../src/wire/control.ts";
import { decodeControlMessage, encodeControlMessage } from "../../src/wire/control_codec.ts";
import {
  decodeBarrier,
  encodeBarrier,
  type LinkFrames,
  LinkReader,
  PAYLOAD_HEADER_BYTES,
  PAYLOAD_KINDS,
  SMALL_FRAME_BYTES_MAX,
  writeAck,
  writeCredit,
  writeGoodbye,
  writeHeartbeat,
  writePayloadHeader,
  writeResume,
} from "../../src/wire/link.ts";
import { readEntityCounts } from "../../src/worker/queries.ts";
import type { Chance } from "./chance.ts";
import { inPieces, joined } from "./damage.ts";
import { fuzz } from "./fuzz.ts";
import { plain, TEXTS } from "./some_values.ts";

const isProtocolError = (error: unknown) => error instanceof ProtocolError;

const COUNTS = [0, 1, 2, 255, 65_536, 2 ** 32, Number.MAX_SAFE_INTEGER];
const BODY_BYTES_MAX = 4096;

/** One frame of a link. */
function linkFrame(chance: Chance): Uint8Array {
  const small = new Uint8Array(SMALL_FRAME_BYTES_MAX);
  const view = new DataView(small.buffer);
  const count = () => chance.pick(COUNTS);
  switch (chance.below(9)) {
    case 0:
      return small.slice(0, writeAck(view, 0, count()));
    case 1:
      return small.slice(0, writeCredit(view, 0, chance.below(65_536), count()));
    case 2:
      return small.slice(0, writeHeartbeat(view, 0));
    case 3:
      return small.slice(0, writeGoodbye(view, 0, chance.pick(TEXTS)));
    case 4:
      return small.slice(0, writeResume(view, 0, Math.max(1, count()), count()));
    default: {
      const kind = chance.pick(PAYLOAD_KINDS);
      const body =
        kind === "barrier"
          ? encodeBarrier(1 + chance.below(1000))
          : chance.bytes(kind === "end_of_input" ? 0 : chance.below(chance.pick([2, 40, 400])));
      const head = new Uint8Array(PAYLOAD_HEADER_BYTES);
      const exchange = kind === "control_message" ? 0 : chance.below(65_536);
      writePayloadHeader(new DataView(head.buffer), 0, kind, exchange, chance.below(2 ** 32), count(), body.length);
      return joined(head, body);
    }
  }
}

/** What a reader made of a stream, in words. */
class Taken implements LinkFrames {
  readonly said: string[] = [];
  /** Wants no more from here on. */
  readonly #closesAt: number;
  constructor(closesAt: number) {
    this.#closesAt = closesAt;
  }
  get open(): boolean {
    return this.said.length < this.#closesAt;
  }
  payload(kind: string, exchange: number, generation: number, sequence: number, bytes: Uint8Array): void {
    if (kind !== "batch") assert.equal(bytes.byteOffset, 0);
    if (kind === "barrier") assert.ok(readBarrier(bytes));
    this.said.push(`${kind} ${exchange} ${generation} ${sequence} ${bytes.length} ${crc32c(bytes)}`);
  }
  ack(through: number): void {
    this.said.push(`ack ${through}`);
  }
  credit(exchange: number, limit: number): void {
    this.said.push(`credit ${exchange} ${limit}`);
  }
  heartbeat(): void {
    this.said.push("heartbeat");
  }
  goodbye(reason: string): void {
    this.said.push(`goodbye ${reason}`);
  }
  resume(oldestUnacked: number, receivedThrough: number): void {
    this.said.push(`resume ${oldestUnacked} ${receivedThrough}`);
  }
}

function readBarrier(bytes: Uint8Array): boolean {
  try {
    assert.ok(decodeBarrier(bytes) >= 1);
  } catch (error) {
    assert.ok(isProtocolError(error));
  }
  return true;
}

/** Reads a stream in one piece or as it comes; what ended it is the last word. */
function readLink(stream: Uint8Array, closesAt: number, cut: ((take: (piece: Uint8Array) => void) => void) | null) {
  const reader = new LinkReader(BODY_BYTES_MAX);
  const taken = new Taken(closesAt);
  let ended = "open";
  const push = (piece: Uint8Array) => {
    if (ended !== "open") return;
    try {
      reader.push(piece, taken);
    } catch (error) {
      assert.ok(error instanceof ProtocolError, String(error));
      ended = error.code;
    }
  };
  if (cut === null) push(stream);
  else cut(push);
  return [...taken.said, ended];
}

test("fuzz: the frames of a link are the same however the stream is cut", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "link frames",
    make: (chance) => joined(...chance.some(6, () => linkFrame(chance))),
    decode: (bytes, chance) => {
      const closesAt = chance.pick([1, 3, 1000, 1000]);
      const cut = readLink(bytes, closesAt, (push) => inPieces(bytes, chance, push));
      return { closesAt, cut };
    },
    check: ({ closesAt, cut }, bytes) => {
      assert.deepEqual(cut, readLink(new Uint8Array(bytes), closesAt, null));
    },
    large: [() => joined(...Array.from({ length: 4000 }, (_, i) => payload(i, 250)))],
  });
});

function payload(sequence: number, length: number): Uint8Array {
  const head = new Uint8Array(PAYLOAD_HEADER_BYTES);
  writePayloadHeader(new DataView(head.buffer), 0, "batch", 1, 1, sequence, length);
  return joined(head, new Uint8Array(length));
}

function someMessage(chance: Chance): ControlMessage {
  const name = () => chance.pick(["initializer", "w1", "a.b_c-d"]);
  const address = () => ({ host: chance.pick(["10.0.0.1", "::1", "h"]), port: 1 + chance.below(65_535) });
  const count = () => chance.pick(COUNTS);
  const text = () => chance.pick(TEXTS.filter((text) => text !== "\ud800"));
  const generation = 1 + chance.below(9);
  const epoch = count();
  const member = () => ({ name: name(), control: address(), data: address() });
  const report = () => ({ worker: name(), complete: chance.below(2) === 0, leftBehind: text() });
  const flag = chance.below(2) === 0;
  return chance.pick<() => ControlMessage>([
    () => ({
      kind: "form",
      clusterId: "0123456789abcdef".repeat(2),
      generation,
      routingVersion: 1,
      keyGroupCount: 1024,
      members: chance.some(4, member),
      checkpoints: flag,
    }),
    () => ({ kind: chance.pick(["form_saved", "formed", "work"] as const) }),
    () => ({ kind: "phase_reached", phase: chance.pick([1, 2, 3, 4] as const) }),
    () => ({ kind: "stop_requested", reason: text(), keep: flag }),
    () => ({ kind: "stop", reason: text(), keep: flag, deadlineMs: chance.pick([0, 1.5, 1e9]) }),
    () => ({ kind: "drained", ...report() }),
    () => ({ kind: "exit", reports: chance.some(4, report), remove: flag, suspended: !flag }),
    () => ({ kind: "settled", epoch }),
    () => ({
      kind: "stream_request",
      generation,
      source: chance.below(9),
      request: { kind: "claim", claim: 1, stream: 7n },
    }),
    () => ({
      kind: "stream_answer",
      generation,
      source: chance.below(9),
      answer: { kind: "granted", claim: 1, stream: 7n, covered: -1n },
    }),
    () => ({ kind: "moved", members: chance.some(4, member) }),
    () => ({ kind: "query", query: chance.pick(["status", "state_entity_count"] as const), request: count() }),
    () => ({ kind: "answer", request: count(), body: plain(chance, 3) }),
    () => ({ kind: chance.pick(["checkpoint_begin", "checkpoint_complete"] as const), generation, epoch }),
    () => ({ kind: "checkpoint_stored", generation, epoch, stateBytes: count(), writtenBytes: count() }),
    () => ({ kind: "checkpoint_failed", generation, epoch, reason: text(), rollBack: flag }),
    () => ({ kind: "checkpoint_abort", generation, epoch, reason: text(), failures: count() }),
    () => ({ kind: "checkpoint_asked", request: count() }),
    () => ({ kind: "letters", generation, request: count(), letters: chance.bytes(chance.below(40)) }),
    () => ({
      kind: "letters_taken",
      generation,
      request: count(),
      count: 1 + chance.below(256),
      cut: epoch,
      refused: chance.some(4, (index) => ({ index, why: text() })),
    }),
    () => ({ kind: "rotate_log" }),
    () => ({ kind: "checkpoint_answered", request: count(), epoch, reason: text() }),
    () => ({ kind: chance.pick(["roll_back_wanted", "recover"] as const), generation, reason: text() }),
    () => ({
      kind: "recovery_facts",
      generation,
      epochs: chance.some(5, (i) => i * 7 + 1),
      written: epoch,
      unreadable: chance.pick(["", "a file is torn"]),
    }),
    () => ({ kind: "restore", generation, epoch, empty: flag }),
    () => ({ kind: "restored", generation, entries: count() }),
    () => ({ kind: "recovered", generation, epoch }),
    () => ({ kind: "recovery_refused", generation, code: "no_checkpoint", sentence: text() }),
  ])();
}

test("fuzz: a control message means something and comes back, or is refused", { timeout: 300_000 }, async () => {
  await fuzz({
    name: "control message",
    make: (chance) => encodeControlMessage(someMessage(chance)),
    decode: decodeControlMessage,
    check: (message) => {
      if (message.kind === "answer") {
        for (const steps of readEntityCounts(message.body).values()) {
          for (const count of steps.values()) assert.equal(typeof count, "number");
        }
      }
      const again = encodeControlMessage(decodeControlMessage(encodeControlMessage(message)));
      assert.deepEqual(again, encodeControlMessage(message));
    },
    announced: isProtocolError,
    large: [
      (chance) =>
        encodeControlMessage({
          kind: "recovery_facts",
          generation: 1,
          epochs: ascending(chance),
          written: 2 ** 50,
          unreadable: "",
        }),
    ],
  });
});

function ascending(chance: Chance): number[] {
  let epoch = 0;
  return Array.from({ length: 4096 }, () => {
    epoch += 1 + chance.below(2 ** 30);
    return epoch;
  });
}
