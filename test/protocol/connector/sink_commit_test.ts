/** Transcripts of the sink's machine: what it is told, and everything that it says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { outputName, SinkCommit } from "../../../src/protocol/connector/sink_commit.ts";
import { ByteWriter } from "../../../src/wire/byte_writer.ts";
import {
  type ConnectorFrame,
  decodeConnectorFrame,
  decodeTransactionMessage,
  encodeConnectorFrame,
  encodeTransactionMessage,
  type TransactionMessage,
} from "../../../src/wire/connector.ts";
import { FrameSplitter } from "../../../src/wire/frame.ts";
import { fromHex, vectors } from "../../wire/vectors.ts";

const OUTPUT = "app-w-w1-id-7";

class Bench {
  readonly commit: SinkCommit;
  readonly steps: string[] = [];
  constructor(options: { checkpoints?: boolean; keepBytesMax?: number; output?: string; program?: string } = {}) {
    this.commit = new SinkCommit({
      cookie: new TextEncoder().encode("Dragons-Love-Tacos"),
      program: options.program ?? "app",
      instance: options.program === undefined ? "w1" : "initializer",
      output: options.output ?? OUTPUT,
      checkpoints: options.checkpoints ?? true,
      keepBytesMax: options.keepBytesMax ?? 1_000,
    });
    this.commit.rollBack(0, 0);
  }

  /** Everything that was said since the last call: frames and effects. */
  heard(): string[] {
    const { commit } = this;
    const lines: string[] = framesOf(commit.out.take()).map(show);
    for (const effect of commit.takeEffects()) {
      if (effect.kind === "vote") {
        const { epoch } = effect;
        lines.push(
          effect.commit ? `vote ${epoch}` : `vote against ${epoch}${effect.rollBack ? ", only a rollback helps" : ""}`,
        );
      } else if (effect.kind === "close") lines.push(`close ${effect.code}`);
      else if (effect.kind === "warn") lines.push(`warn ${effect.code}`);
      else this.steps.push(effect.point);
    }
    return lines;
  }

  hear(frame: ConnectorFrame): this {
    const out = new ByteWriter();
    encodeConnectorFrame(frame, out);
    this.commit.received(out.take().subarray(4));
    return this;
  }

  hearTransaction(message: TransactionMessage): this {
    const out = new ByteWriter();
    encodeTransactionMessage(message, out);
    this.commit.received(out.take().subarray(4));
    return this;
  }

  /** Up to the answer of the sink, which has these open. */
  introduced(...ids: string[]): this {
    this.commit.connected();
    const list = framesOf(this.commit.out.take()).at(-1)!;
    assert.ok(list.kind === "message");
    const message = decodeTransactionMessage(list.body);
    assert.ok(message.kind === "list_uncommitted");
    this.hear({ kind: "ok", credits: 500 }).hear({ kind: "notify_ack", success: true, stream: 1n, point: 0n });
    return this.hearTransaction({ kind: "uncommitted", request: message.request, ids });
  }

  /** Output, and as much of it sent as may be. */
  write(bytes: number): this {
    this.commit.wrote(bytes);
    return this.send();
  }

  send(): this {
    if (this.commit.sendable > this.commit.sent) this.commit.gaveOut(this.commit.sendable);
    return this;
  }

  vote(epoch: number, commit: boolean): this {
    return this.hearTransaction({ kind: "vote", id: `${OUTPUT}:c_id=${epoch}`, commit });
  }

  /** Sent, committed. */
  get place(): string {
    return `${this.commit.sent} ${this.commit.committed}`;
  }
}

function framesOf(bytes: Uint8Array): ConnectorFrame[] {
  const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
  assert.equal(splitter.push(bytes), "ok");
  return Array.from({ length: splitter.count }, (_, i) =>
    decodeConnectorFrame(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!)),
  );
}

function show(frame: ConnectorFrame): string {
  switch (frame.kind) {
    case "hello":
      return `hello ${frame.version} ${frame.program} ${frame.instance}`;
    case "notify":
      return `notify ${frame.stream} ${new TextDecoder().decode(frame.name)} ${frame.point}`;
    case "error":
      return `error ${frame.text}`;
    case "message": {
      const message = decodeTransactionMessage(frame.body);
      if (message.kind === "list_uncommitted") return `list ${message.request}`;
      if (message.kind === "phase1") {
        const [range] = message.ranges;
        return `phase1 ${message.id.slice(message.id.lastIndexOf(":") + 1)} ${range!.start} to ${range!.end}`;
      }
      if (message.kind === "phase2") {
        const id = message.id.slice(message.id.lastIndexOf(":") + 1);
        return `phase2 ${id} ${message.commit ? "commit" : "abort"}`;
      }
      return message.kind;
    }
    default:
      return frame.kind;
  }
}

test("a connection begins with the introduction; output follows when the sink has answered all of it", () => {
  const bench = new Bench();
  bench.commit.connected();
  assert.deepEqual(bench.heard(), ["hello v0.0.1 app w1", `notify 1 ${OUTPUT} 0`, "list 77778"]);
  bench.commit.wrote(10);
  bench.hear({ kind: "ok", credits: 2 });
  assert.equal(bench.commit.sendable, 0);
  bench.hear({ kind: "notify_ack", success: true, stream: 1n, point: 99n });
  assert.equal(bench.commit.sendable, 0);
  bench.hearTransaction({ kind: "uncommitted", request: 77778n, ids: [] });
  assert.deepEqual(bench.heard(), []);
  assert.equal(bench.commit.phase, "ready");
  assert.equal(bench.commit.sendable, 10);
});

test("a round: all of its output, PHASE1, the vote, PHASE2; what comes meanwhile waits", () => {
  const bench = new Bench().introduced().write(10);
  bench.commit.wrote(2);
  bench.commit.prepare(1);
  assert.deepEqual(bench.heard(), []);
  bench.send();
  assert.deepEqual(bench.heard(), ["phase1 c_id=1 0 to 12"]);
  bench.commit.wrote(5);
  assert.equal(bench.commit.sendable, 12);
  assert.deepEqual(bench.vote(1, true).heard(), ["vote 1"]);
  assert.equal(bench.commit.undecided, true);
  assert.equal(bench.commit.sendable, 12);
  bench.commit.commit(1);
  assert.deepEqual(bench.heard(), ["phase2 c_id=1 commit"]);
  assert.equal(bench.commit.undecided, false);
  bench.send();
  assert.equal(bench.place, "17 12");
  bench.commit.prepare(2);
  assert.deepEqual(bench.heard(), ["phase1 c_id=2 12 to 17"]);
});

test("every step of a commit is told to whoever watches", () => {
  const bench = new Bench().introduced().write(3);
  bench.commit.prepare(1);
  bench.commit.lost();
  bench.introduced(`${OUTPUT}:c_id=1`);
  bench.send().commit.prepare(2);
  bench.vote(2, true);
  bench.commit.lost();
  bench.commit.commit(2);
  bench.introduced(`${OUTPUT}:c_id=2`);
  bench.commit.prepare(3);
  bench.vote(3, true).commit.commit(3);
  bench.heard();
  assert.deepEqual(bench.steps, [
    ...["asked", "lost_before_vote", "listed", "decided_again"],
    ...["asked", "voted", "lost_behind_vote", "listed", "decided_again"],
    ...["asked", "voted", "decided"],
  ]);
});

test("asked once more what is open, the sink shows that it has heard the verdict; what it was told it does not list", () => {
  const bench = new Bench().introduced();
  bench.commit.prepare(1);
  bench.vote(1, true).commit.commit(1);
  bench.heard();
  assert.equal(bench.commit.unconfirmed, true);
  bench.commit.confirm();
  bench.commit.confirm();
  assert.deepEqual(bench.heard(), ["list 77779"]);
  // A round that begins meanwhile is not confirmed by the answer.
  bench.commit.prepare(2);
  bench.hearTransaction({ kind: "uncommitted", request: 77779n, ids: [] });
  assert.deepEqual(bench.heard(), ["phase1 c_id=2 0 to 0"]);
  assert.equal(bench.commit.unconfirmed, true);
  bench.vote(2, true).commit.commit(2);
  bench.commit.confirm();
  bench.hearTransaction({ kind: "uncommitted", request: 77780n, ids: [] });
  assert.equal(bench.commit.unconfirmed, false);
  bench.heard();
  bench.commit.prepare(3);
  bench.vote(3, true).commit.commit(3);
  bench.commit.confirm();
  bench.heard();
  bench.hearTransaction({ kind: "uncommitted", request: 77781n, ids: [`${OUTPUT}:c_id=3`] });
  assert.deepEqual(bench.heard(), ["error Bad msg uncommitted", "close sink_protocol_error"]);
  bench.commit.lost();
  bench.introduced(`${OUTPUT}:c_id=3`);
  assert.deepEqual(bench.heard(), ["phase2 c_id=3 commit"]);
});

test("an epoch without output has a round too", () => {
  const bench = new Bench().introduced();
  bench.commit.prepare(1);
  assert.deepEqual(bench.heard(), ["phase1 c_id=1 0 to 0"]);
});

test("a sink that is away delays the round; nobody votes for it", () => {
  const bench = new Bench();
  bench.commit.wrote(4);
  bench.commit.prepare(1);
  assert.deepEqual(bench.heard(), []);
  bench.introduced().send();
  assert.deepEqual(bench.heard(), ["phase1 c_id=1 0 to 4"]);
});

test("a vote against: the connection is closed, the sink lists the transaction on the next one, and all is sent again", () => {
  const bench = new Bench().introduced().write(10);
  bench.commit.prepare(3);
  bench.heard();
  assert.deepEqual(bench.vote(3, false).heard(), ["vote against 3", "close sink_votes_against"]);
  bench.commit.lost();
  bench.commit.abort(3);
  bench.introduced(`${OUTPUT}:c_id=3`);
  assert.deepEqual(bench.heard(), ["phase2 c_id=3 abort"]);
  assert.equal(bench.place, "0 0");
  bench.send().commit.prepare(4);
  assert.deepEqual(bench.heard(), ["phase1 c_id=4 0 to 10"]);
});

test("a connection that is lost before the vote is here votes against, whatever the sink has promised", () => {
  const bench = new Bench().introduced().write(10);
  bench.commit.prepare(3);
  bench.heard();
  bench.commit.lost();
  assert.deepEqual(bench.heard(), ["vote against 3"]);
  bench.introduced(`${OUTPUT}:c_id=3`);
  assert.deepEqual(bench.heard(), ["phase2 c_id=3 abort"]);
});

test("a connection that is lost behind the vote: the transaction waits for the verdict, output with it", () => {
  for (const verdict of ["commit", "abort"] as const) {
    for (const when of ["before the list", "behind the list"] as const) {
      const bench = new Bench().introduced().write(10);
      bench.commit.prepare(3);
      bench.vote(3, true).heard();
      bench.commit.wrote(5);
      bench.commit.lost();
      if (when === "before the list") bench.commit[verdict](3);
      bench.introduced(`${OUTPUT}:c_id=3`);
      if (when === "behind the list") {
        assert.deepEqual(bench.heard(), []);
        assert.equal(bench.commit.phase, "deciding");
        assert.equal(bench.commit.sendable, 10);
        bench.commit[verdict](3);
      }
      assert.deepEqual(bench.heard(), [`phase2 c_id=3 ${verdict}`]);
      assert.equal(bench.place, verdict === "commit" ? "10 10" : "0 0");
      assert.equal(bench.commit.sendable, 15);
    }
  }
});

test("an epoch that is aborted elsewhere closes the connection when the sink was asked, and only then", () => {
  const bench = new Bench().introduced();
  bench.commit.wrote(10);
  bench.commit.prepare(1);
  bench.commit.abort(1);
  assert.deepEqual(bench.heard(), []);
  bench.send().commit.prepare(2);
  assert.deepEqual(bench.heard(), ["phase1 c_id=2 0 to 10"]);
  bench.commit.abort(2);
  assert.deepEqual(bench.heard(), ["vote against 2", "close sink_aborted"].slice(1));
  assert.equal(bench.place, "0 0");
});

test("after the death of the worker the sink is told to commit the epoch that the cluster is at, and to abort others", () => {
  for (const [listed, verdict] of [
    [4, "commit"],
    [5, "abort"],
  ]) {
    const bench = new Bench();
    bench.commit.rollBack(4, 40);
    bench.introduced(`${OUTPUT}:c_id=${listed}`);
    assert.deepEqual(bench.heard(), [`phase2 c_id=${listed} ${verdict}`]);
    bench.write(3).commit.prepare(6);
    assert.deepEqual(bench.heard(), ["phase1 c_id=6 40 to 43"]);
  }
});

test("a transaction of another output is aborted, and so is every one before the first checkpoint", () => {
  const bench = new Bench();
  bench.introduced("app-w-w1-id-8:c_id=4", `${OUTPUT}:c_id=0`, `${OUTPUT}:c_id=1`);
  assert.deepEqual(bench.heard(), ["phase2 c_id=4 abort", "phase2 c_id=0 abort", "phase2 c_id=1 abort"]);
});

test("a rollback in the middle of a round closes the connection, and goes on where the epoch ends", () => {
  const bench = new Bench().introduced().write(10);
  bench.commit.prepare(1);
  bench.vote(1, true).commit.commit(1);
  bench.write(7).commit.prepare(2);
  bench.vote(2, true).heard();
  bench.commit.rollBack(1, 10);
  assert.deepEqual(bench.heard(), ["close sink_rolled_back"]);
  bench.commit.wrote(3);
  bench.commit.lost();
  // What the cluster had decided before is known no more.
  bench.commit.commit(2);
  bench.introduced(`${OUTPUT}:c_id=2`);
  assert.deepEqual(bench.heard(), ["phase2 c_id=2 abort"]);
  assert.equal(bench.place, "10 10");
  assert.equal(bench.commit.sendable, 13);
});

test("an epoch that is cut before the verdict of the one before is here waits for it", () => {
  for (const verdict of ["commit", "abort"] as const) {
    const bench = new Bench().introduced().write(10);
    bench.commit.prepare(1);
    bench.vote(1, true).heard();
    bench.commit.wrote(4);
    bench.commit.prepare(2);
    bench.commit.wrote(9);
    assert.equal(bench.commit.sendable, 10);
    bench.commit[verdict](1);
    if (verdict === "abort") {
      assert.deepEqual(bench.heard(), ["close sink_aborted"]);
      bench.commit.lost();
      bench.introduced(`${OUTPUT}:c_id=1`);
      assert.deepEqual(bench.heard(), ["phase2 c_id=1 abort"]);
      assert.deepEqual(bench.send().heard(), ["phase1 c_id=2 0 to 14"]);
    } else {
      assert.deepEqual(bench.heard(), ["phase2 c_id=1 commit"]);
      assert.deepEqual(bench.send().heard(), ["phase1 c_id=2 10 to 14"]);
    }
  }
});

test("more output than is kept: a lost connection costs a rollback, and until then every epoch is voted against", () => {
  const bench = new Bench({ keepBytesMax: 100 }).introduced().write(101);
  assert.equal(bench.commit.keptFrom, 101);
  bench.commit.prepare(1);
  bench.heard();
  bench.commit.lost();
  assert.deepEqual(bench.heard(), ["vote against 1, only a rollback helps"]);
  assert.ok(bench.commit.spoiled);
  bench.introduced(`${OUTPUT}:c_id=1`);
  assert.deepEqual(bench.heard(), ["phase2 c_id=1 abort"]);
  bench.commit.wrote(5);
  assert.deepEqual([bench.commit.unsent, bench.commit.sendable - bench.commit.sent], [0, 0]);
  bench.commit.prepare(2);
  assert.deepEqual(bench.heard(), ["vote against 2, only a rollback helps"]);
  bench.commit.rollBack(0, 0);
  assert.deepEqual(bench.heard(), ["close sink_rolled_back"]);
  assert.equal(bench.commit.spoiled, false);
});

test("output that is no longer kept, for the room that it takes, costs the same as too much of it", () => {
  const bench = new Bench().introduced().write(5);
  bench.commit.keepNothing();
  bench.commit.lost();
  assert.ok(bench.commit.spoiled);
});

test("more output than is kept costs nothing when its epoch completes", () => {
  const bench = new Bench({ keepBytesMax: 100 }).introduced().write(101);
  bench.commit.prepare(1);
  bench.vote(1, true).heard();
  bench.commit.lost();
  bench.introduced(`${OUTPUT}:c_id=1`);
  bench.commit.commit(1);
  assert.deepEqual(bench.heard(), ["phase2 c_id=1 commit"]);
  assert.equal(bench.commit.spoiled, false);
});

test("a sink that forgets what it has voted for is told of in the log", () => {
  const bench = new Bench().introduced().write(10);
  bench.commit.prepare(1);
  bench.vote(1, true).heard();
  bench.commit.lost();
  bench.introduced();
  bench.commit.commit(1);
  assert.deepEqual(bench.heard(), ["warn sink_promise_broken"]);
});

test("without checkpoints output goes on where the system had taken it, and every transaction is aborted", () => {
  const bench = new Bench({ checkpoints: false }).introduced("x:c_id=1");
  assert.deepEqual(bench.heard(), ["phase2 c_id=1 abort"]);
  bench.write(10).commit.taken(6);
  bench.commit.lost();
  bench.commit.taken(8);
  bench.introduced();
  assert.equal(bench.place, "8 8");
  assert.equal(bench.commit.sendable, 10);
});

test("a sink that breaks the protocol gets an ERROR and loses its connection, at every point of it", () => {
  const tooMuch: ConnectorFrame[] = [
    { kind: "hello", version: "v0.0.1", cookie: new Uint8Array(0), program: "", instance: "" },
    { kind: "notify", stream: 1n, name: new Uint8Array(0), point: 0n },
    { kind: "error", text: "no" },
    { kind: "ack", credits: 1, points: [] },
    { kind: "end_of_stream", stream: 1n },
    { kind: "message", stream: 1n, id: 0n, eventTime: 0n, key: new Uint8Array(0), body: new Uint8Array(1) },
    { kind: "message", stream: 0n, id: 0n, eventTime: 0n, key: new Uint8Array(0), body: new Uint8Array(0) },
    { kind: "message", stream: 0n, id: 0n, eventTime: 0n, key: new Uint8Array(0), body: Uint8Array.of(207) },
  ];
  const ok: ConnectorFrame = { kind: "ok", credits: 500 };
  const opened: ConnectorFrame = { kind: "notify_ack", success: true, stream: 1n, point: 0n };
  const points: [string, (bench: Bench) => unknown, ConnectorFrame[]][] = [
    ["greeting", (bench) => bench.commit.connected(), [{ kind: "ok", credits: 1 }, opened]],
    [
      "opening",
      (bench) => {
        bench.commit.connected();
        bench.hear(ok);
      },
      [ok, { ...opened, success: false }, { ...opened, stream: 2n }],
    ],
    [
      "listing",
      (bench) => {
        bench.commit.connected();
        bench.hear(ok).hear(opened);
      },
      [ok, opened],
    ],
    ["ready", (bench) => bench.introduced(), [ok, opened]],
  ];
  for (const [phase, go, wrong] of points) {
    for (const frame of [...tooMuch, ...wrong]) {
      const bench = new Bench();
      go(bench);
      assert.equal(bench.commit.phase, phase);
      bench.heard();
      bench.hear(frame);
      const [error, close, ...more] = bench.heard();
      assert.match(error!, /^error /, `${frame.kind} at ${phase}`);
      assert.deepEqual([close, more], ["close sink_protocol_error", []]);
      // Nothing is taken from it any more.
      bench.hear(ok).vote(1, true);
      assert.deepEqual(bench.heard(), []);
    }
  }
});

test("two-phase-commit messages in the wrong state cost the connection, and a vote that was not asked for counts nothing", () => {
  const wrong: ((bench: Bench) => unknown)[] = [
    (bench) => bench.vote(1, true),
    (bench) => bench.hearTransaction({ kind: "uncommitted", request: 77778n, ids: [] }),
    (bench) => bench.hearTransaction({ kind: "list_uncommitted", request: 1n }),
    (bench) => {
      bench.commit.prepare(1);
      bench.heard();
      bench.vote(2, true);
    },
    (bench) => {
      bench.commit.prepare(1);
      bench.vote(1, true).heard();
      bench.vote(1, true);
    },
  ];
  for (const go of wrong) {
    const bench = new Bench().introduced();
    go(bench);
    assert.deepEqual(
      bench.heard().filter((line) => !line.startsWith("vote against") && !line.startsWith("error Bad msg")),
      ["close sink_protocol_error"],
    );
  }
});

test("an answer to an older list is none", () => {
  const bench = new Bench().introduced();
  bench.commit.lost();
  bench.commit.connected();
  bench.hear({ kind: "ok", credits: 2 }).hear({ kind: "notify_ack", success: true, stream: 1n, point: 0n });
  bench.hearTransaction({ kind: "uncommitted", request: 77778n, ids: [] });
  assert.deepEqual(bench.heard().slice(-2), ["error Bad msg uncommitted", "close sink_protocol_error"]);
});

test("a RESTART costs the connection, without an ERROR", () => {
  const bench = new Bench().introduced().hear({ kind: "restart", address: "elsewhere:1" });
  assert.deepEqual(bench.heard(), ["close sink_restarts"]);
});

for (const vector of vectors("connector-2pc.json").filter(({ malformed }) => malformed)) {
  test(`vector ${vector.name}: an ERROR, and the connection is closed`, () => {
    const bench = new Bench();
    if (vector.name === "bad-sink-ok-credits") bench.commit.connected();
    else bench.introduced();
    bench.heard();
    bench.commit.received(fromHex(vector.hex).subarray(4));
    const [error, close] = bench.heard();
    assert.match(error!, /^error /);
    assert.equal(close, "close sink_protocol_error");
  });
}

/** Recorded conversations of the reference's sink: our worker says what the worker said, byte for byte. */
interface Step {
  from?: "worker" | "sink";
  hex: string;
  event?: string;
  frame: { type: string; stream_id?: string; inner?: { type: string; txn_id: string }; body_hex?: string };
}

test("conversations sink-introduction, sink-commit-round, sink-uncommitted-then-commit, sink-gap-abort-rollback, byte for byte", () => {
  const output = "myapp-w-initializer-id-12345";
  // They follow one another, as they were recorded: the first one's connection goes on in the second.
  const stepsOf = (name: string): Step[] =>
    vectors("connector-sessions.json").find((vector) => vector.name === name)!.decoded.steps;
  const bench = new Bench({ output, program: "myapp" });
  bench.commit.connected();
  play(bench, "sink-introduction");
  play(bench, "sink-commit-round");
  assert.equal(bench.place, "18 12");
  bench.commit.takeEffects();
  play(bench, "sink-uncommitted-then-commit");
  assert.equal(bench.place, "18 18");

  const second = new Bench({ output, program: "myapp" });
  second.commit.rollBack(4, 0);
  second.commit.connected();
  play(second, "sink-introduction");
  // It had a gap to complain of: a worker that has lost count. What matters is behind it.
  second.commit.wrote(112);
  play(second, "sink-gap-abort-rollback");
  assert.equal(second.place, "9 9");

  function play(played: Bench, name: string): void {
    const { commit } = played;
    let said = Buffer.alloc(0);
    for (const step of stepsOf(name)) {
      if (step.event?.startsWith("connection lost")) {
        // The verdict comes with the rollback, to the very epoch that was voted for.
        commit.lost();
        commit.connected();
        commit.commit(3);
        continue;
      }
      if (step.event?.startsWith("worker aborts")) {
        commit.lost();
        commit.connected();
        continue;
      }
      if (step.from === "sink") {
        assert.equal(said.length + commit.out.length, 0, `${name}: more was said`);
        commit.received(fromHex(step.hex).subarray(4));
        continue;
      }
      if (step.from !== "worker") continue;
      // What the cluster does before the worker says this.
      const { frame } = step;
      const epoch = Number(frame.inner?.txn_id?.split("=").at(-1));
      if (frame.stream_id === "1" && frame.type === "MESSAGE") {
        if (frame.body_hex === Buffer.from("replayed\n").toString("hex")) {
          // Ours makes a connection for it, where the one of old went on.
          commit.rollBack(4, 0);
          assert.equal(commit.phase, "closing");
          commit.lost();
          played.introduced();
        }
        const size = frame.body_hex!.length / 2;
        if (commit.unsent === 0) commit.wrote(size);
        if (commit.unsent > 0 && commit.sendable > commit.sent) {
          commit.gaveOut(Math.min(commit.sendable, commit.sent + (size === 12 ? commit.unsent : size)));
        }
        continue;
      }
      if (frame.inner?.type === "PHASE1") commit.prepare(epoch);
      if (frame.inner?.type === "PHASE2" && commit.phase === "ready" && commit.out.length === 0) commit.commit(epoch);
      said = Buffer.concat([said, commit.out.take()]);
      const wanted = step.hex.length / 2;
      assert.equal(said.subarray(0, wanted).toString("hex"), step.hex, name);
      said = said.subarray(wanted);
    }
    assert.equal(said.length, 0, name);
  }
});

test("the name of an output is the same after every restart, and of no other worker, sink or cluster", () => {
  const name = outputName("app", "w1", "cluster", "p/sink 0");
  assert.match(name, /^app-w-w1-id-[0-9]{30,39}$/);
  assert.equal(outputName("app", "w1", "cluster", "p/sink 0"), name);
  const others = [
    outputName("app", "w2", "cluster", "p/sink 0"),
    outputName("app", "w1", "other", "p/sink 0"),
    outputName("app", "w1", "cluster", "p/sink 1"),
  ];
  assert.equal(new Set([name, ...others]).size, 4);
});
