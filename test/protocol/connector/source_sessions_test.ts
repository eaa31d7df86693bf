/**
 * The recorded conversations of the reference's source client, with our worker in the place of the scripted one: what the
 * client sent goes in, and what comes out is compared with what the worker said there.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SourceConnection } from "../../../src/protocol/connector/source_connection.ts";
import type { SourcePosition } from "../../../src/protocol/connector/source_streams.ts";
import { fromHex, vectors } from "../../wire/vectors.ts";
import { decodeAll, SourceBench } from "./source_bench.ts";

interface Step {
  from?: "client" | "worker";
  hex: string;
  event?: string;
  frame: { type: string };
}

const DRAGONS = "Dragons-Love-Tacos";

/** `ours` is asked for what the worker says next, after all that the client said before it. */
function replay(
  name: string,
  bench: SourceBench,
  prompt: (connection: SourceConnection, step: Step) => void,
  same: (ours: string, theirs: string) => void = (ours, theirs) => assert.equal(ours, theirs),
  heard: (step: Step) => void = () => {},
): SourceConnection {
  const { decoded } = vectors("connector-sessions.json").find((vector) => vector.name === name)!;
  let connection = bench.connect();
  let said = Buffer.alloc(0);
  for (const step of decoded.steps as Step[]) {
    if (step.from === "client") {
      // A HELLO is the first frame of a connection.
      if (step.frame.type === "HELLO") {
        connection.disconnected();
        bench.exchange();
        connection = bench.connect();
      }
      bench.sendBytes(connection, fromHex(step.hex));
      heard(step);
      continue;
    }
    if (step.from !== "worker") continue;
    const wanted = step.hex.length / 2;
    said = Buffer.concat([said, connection.out.take()]);
    // What it does not say by itself.
    if (said.length === 0) {
      prompt(connection, step);
      said = Buffer.from(connection.out.take());
    }
    same(said.subarray(0, wanted).toString("hex"), step.hex);
    said = said.subarray(wanted);
  }
  assert.equal(said.length, 0);
  return connection;
}

test("conversation source-happy-path, byte for byte, without checkpoints", () => {
  const bench = new SourceBench({ checkpoints: false, cookie: DRAGONS, credits: 10 });
  replay("source-happy-path", bench, () => assert.fail("the worker has to speak by itself"));
  assert.equal(bench.records.length, 3);
});

test("conversation source-credits-exhausted, byte for byte, with a checkpoint before each ACK", () => {
  const bench = new SourceBench({ cookie: DRAGONS, credits: 2 });
  replay("source-credits-exhausted", bench, (connection) => {
    bench.streams.cover(bench.barrier());
    connection.acknowledge();
    bench.exchange();
  });
  assert.equal(bench.records.length, 3);
});

test("conversation source-notify-rejected-then-resumed, byte for byte", () => {
  const bench = new SourceBench({ checkpoints: false, cookie: DRAGONS, credits: 10 });
  const id = 13630618416057149338n;
  // Another worker has the stream at first.
  bench.registry.handle("other", { kind: "claim", claim: 1, stream: id });
  const connection = replay("source-notify-rejected-then-resumed", bench, (present) => {
    bench.registry.handle("other", { kind: "release", claim: 1, stream: id, covered: 1n, seen: 1n });
    present.remind();
  });
  assert.equal(connection.closing, null);
  assert.equal(bench.records.length, 2);
});

test("conversation source-bad-cookie: refused, but for the cookie that was wanted", () => {
  const bench = new SourceBench({ cookie: "cookie" });
  const connection = replay(
    "source-bad-cookie",
    bench,
    () => assert.fail("the worker has to speak by itself"),
    (ours) => {
      const [frame] = decodeAll(fromHex(ours));
      assert.deepEqual(frame, { kind: "error", text: "Bad cookie" });
    },
  );
  assert.equal(connection.closing?.code, "bad_cookie");
});

test("conversation source-reconnect-resume: the same points; credits are given back, where the script gave none", () => {
  const bench = new SourceBench({ cookie: DRAGONS, credits: 10 });
  let messages = 0;
  let epoch = 0;
  let position: SourcePosition | null = null;
  replay(
    "source-reconnect-resume",
    bench,
    (connection) => {
      if (messages > 3) epoch = bench.barrier();
      bench.streams.cover(epoch);
      connection.acknowledge();
      bench.exchange();
      if (messages > 3) return;
      // The cluster rolls back to what was just acknowledged; in the script its connection is cut.
      bench.registry.reset(["w"]);
      bench.streams.seek(position);
      bench.exchange();
    },
    (ours, theirs) => {
      const withoutCredits = (hex: string) => decodeAll(fromHex(hex)).map((frame) => ({ ...frame, credits: 0 }));
      assert.deepEqual(withoutCredits(ours), withoutCredits(theirs));
    },
    (step) => {
      if (step.frame.type !== "MESSAGE" || ++messages > 1) return;
      epoch = 1;
      position = bench.streams.snapshot(epoch);
    },
  );
  assert.equal(bench.records.length, 3 + 3);
});
