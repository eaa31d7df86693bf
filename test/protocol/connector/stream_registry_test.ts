import assert from "node:assert/strict";
import { test } from "node:test";
import { SourceConnection } from "../../../src/protocol/connector/source_connection.ts";
import { SourceStreams } from "../../../src/protocol/connector/source_streams.ts";
import { type RegistryAnswer, StreamRegistry } from "../../../src/protocol/connector/stream_registry.ts";
import { utf8 } from "./source_bench.ts";

const granted = (claim: number, covered: bigint): RegistryAnswer => ({ kind: "granted", claim, stream: 1n, covered });
const refused = (claim: number, reason: string) => ({ kind: "refused", claim, stream: 1n, reason });

function registry(...workers: string[]): StreamRegistry {
  const made = new StreamRegistry(workers);
  for (const worker of workers) made.handle(worker, { kind: "restored", streams: [] });
  return made;
}

const claim = (number: number) => ({ kind: "claim", claim: number, stream: 1n }) as const;
const release = (number: number, covered: bigint, seen: bigint) =>
  ({ kind: "release", claim: number, stream: 1n, covered, seen }) as const;

test("a stream has one owner at a time, wherever the claims come from", () => {
  const streams = registry("a", "b");
  assert.deepEqual(streams.handle("a", claim(1)), granted(1, -1n));
  assert.deepEqual(streams.handle("a", claim(2)), refused(2, "active"));
  assert.deepEqual(streams.handle("b", claim(1)), refused(1, "active"));
  // A claim that was refused is released by whoever made it, and nothing comes of it.
  assert.equal(streams.handle("a", release(2, -1n, -1n)), null);
  assert.equal(streams.handle("b", release(1, 90n, 90n)), null);
  assert.deepEqual(streams.handle("b", claim(3)), refused(3, "active"));
  const wanted = { worker: "a", answer: { kind: "wanted", claim: 1, stream: 1n } };
  assert.deepEqual(streams.takeWanted(), [wanted, wanted, wanted]);
  streams.handle("a", release(1, 4n, 4n));
  assert.deepEqual(streams.handle("b", claim(4)), granted(4, 4n));
  assert.deepEqual(streams.takeWanted(), []);
});

test("a stream changes workers when all that was taken in is covered", () => {
  const streams = registry("a", "b");
  streams.handle("a", claim(1));
  streams.handle("a", release(1, 4n, 9n));
  assert.deepEqual(streams.handle("b", claim(1)), refused(1, "uncovered"));
  streams.handle("a", { kind: "covered", streams: [{ stream: 1n, covered: 8n }] });
  assert.deepEqual(streams.handle("b", claim(2)), refused(2, "uncovered"));
  // Its last worker may go on with it.
  assert.deepEqual(streams.handle("a", claim(2)), granted(2, 8n));
  streams.handle("a", release(2, 8n, 9n));
  streams.handle("a", { kind: "covered", streams: [{ stream: 1n, covered: 9n }] });
  assert.deepEqual(streams.handle("b", claim(3)), granted(3, 9n));
});

test("after a rollback nothing is granted before all have restored, and the highest point counts", () => {
  const streams = registry("a", "b", "c");
  streams.handle("a", claim(1));
  streams.reset(["a", "b", "c"]);
  const restored = (covered: bigint) =>
    ({ kind: "restored", streams: [{ stream: 1n, covered, seen: covered, claim: 0 }] }) as const;
  streams.handle("a", restored(20n));
  streams.handle("b", restored(10n));
  assert.deepEqual(streams.awaited, ["c"]);
  assert.deepEqual(streams.handle("a", claim(2)), refused(2, "restoring"));
  streams.handle("c", { kind: "restored", streams: [] });
  assert.deepEqual(streams.handle("c", claim(1)), granted(1, 20n));
});

test("a registry that begins anew learns who has what; a worker that is gone has nothing", () => {
  const streams = new StreamRegistry(["a", "b"]);
  streams.handle("a", { kind: "restored", streams: [{ stream: 1n, covered: 3n, seen: 5n, claim: 7 }] });
  streams.handle("b", { kind: "restored", streams: [] });
  assert.deepEqual(streams.handle("b", claim(1)), refused(1, "active"));
  streams.handle("a", release(7, 3n, 5n));
  assert.deepEqual(streams.handle("b", claim(2)), refused(2, "uncovered"));
  streams.gone("a");
  assert.deepEqual(streams.handle("b", claim(3)), granted(3, 3n));
});

test("streams that never brought anything are forgotten, and there is a bound for the others", () => {
  const streams = new StreamRegistry([], 2);
  for (let stream = 0n; stream < 5n; stream++) {
    assert.equal(streams.handle("a", { kind: "claim", claim: 1, stream })?.kind, "granted");
    streams.handle("a", { kind: "release", claim: 1, stream, covered: -1n, seen: -1n });
  }
  assert.equal(streams.size, 0);
  streams.handle("a", { kind: "claim", claim: 1, stream: 10n });
  streams.handle("a", { kind: "claim", claim: 2, stream: 11n });
  const answer = streams.handle("a", { kind: "claim", claim: 3, stream: 12n });
  assert.ok(answer?.kind === "refused" && answer.reason === "too_many_streams");
});

test("an answer that was meant for an older connection is dropped, as its claim was released", () => {
  const streams = new SourceStreams({ checkpoints: true });
  const options = { cookie: utf8(""), maxCredits: 5, refillCredits: 0 };
  const old = new SourceConnection(options, streams);
  const next = new SourceConnection(options, streams);
  assert.ok(streams.claim(old, 1n));
  streams.releaseAll(old);
  assert.ok(streams.claim(next, 1n));
  assert.deepEqual(
    streams.takeRequests().map((request) => [request.kind, "claim" in request ? request.claim : 0]),
    [
      ["claim", 1],
      ["release", 1],
      ["claim", 2],
    ],
  );
  streams.answered(granted(1, 40n));
  assert.equal(next.out.length, 0);
  streams.answered(refused(2, "active") as RegistryAnswer);
  assert.ok(next.out.length > 0 && next.owesAck);
  assert.equal(streams.size, 0);
});

test("a worker takes in so many streams and no more", () => {
  const streams = new SourceStreams({ checkpoints: true, streamsMax: 2 });
  const connection = new SourceConnection({ cookie: utf8(""), maxCredits: 5, refillCredits: 0 }, streams);
  assert.deepEqual(
    [1n, 2n, 3n].map((id) => streams.claim(connection, id)),
    [true, true, false],
  );
});

test("when the registry begins anew it is told of open streams, and asked again what it did not answer", () => {
  const streams = new SourceStreams({ checkpoints: true });
  const connection = new SourceConnection({ cookie: utf8(""), maxCredits: 5, refillCredits: 0 }, streams);
  streams.claim(connection, 1n);
  streams.answered(granted(1, 40n));
  streams.claim(connection, 2n);
  streams.takeRequests();
  streams.announce();
  assert.deepEqual(streams.takeRequests(), [
    {
      kind: "restored",
      streams: [
        { stream: 1n, covered: 40n, seen: 40n, claim: 1 },
        { stream: 2n, covered: -1n, seen: -1n, claim: 0 },
      ],
    },
    { kind: "claim", claim: 2, stream: 2n },
  ]);
});
