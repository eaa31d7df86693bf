/** The sink program of the simulator, against the recorded conversations of the reference's sink. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  readSinkLog,
  type SinkAction,
  SinkBook,
  type SinkLogEntry,
  SinkSession,
  sinkLogLine,
} from "../../src/simulation/environment/sink_book.ts";
import { fromHex, vectors } from "../wire/vectors.ts";

const COOKIE = "Dragons-Love-Tacos";

interface Step {
  from?: "worker" | "sink";
  hex: string;
  event?: string;
}

test("our sink says what the reference's sink said, byte for byte", () => {
  const book = new SinkBook([], 0);
  let session = new SinkSession({ cookie: COOKIE, open: () => book });
  let said: Uint8Array[] = [];
  // Of the gap alone nothing is here: the one of old dropped what came behind it, ours ends.
  for (const name of ["sink-introduction", "sink-commit-round", "sink-uncommitted-then-commit"]) {
    for (const step of vectors("connector-sessions.json").find((vector) => vector.name === name)!.decoded
      .steps as Step[]) {
      if (step.event !== undefined) {
        session = new SinkSession({ cookie: COOKIE, open: () => book });
        said = [];
      } else if (step.from === "worker") {
        const actions = session.receive(fromHex(step.hex).subarray(4));
        assert.ok(!actions.some((action) => action.kind === "fatal"));
        said.push(...actions.flatMap((action) => (action.kind === "send" ? [action.bytes] : [])));
      } else assert.equal(Buffer.from(said.shift() ?? []).toString("hex"), step.hex, name);
    }
    assert.equal(said.length, 0);
  }
  assert.equal(book.committed, 18);
});

/** A session behind its introduction, with 10 bytes that are committed. */
function open(): { book: SinkBook; give: (vector: string) => SinkAction[]; session: SinkSession } {
  const book = new SinkBook([], 0);
  const session = new SinkSession({ cookie: COOKIE, open: () => book });
  const give = (hex: string) => session.receive(fromHex(hex));
  const steps = vectors("connector-sessions.json").find(({ name }) => name === "sink-introduction")!.decoded.steps;
  for (const step of steps as Step[]) if (step.from === "worker") give(step.hex.slice(8));
  return { book, give, session };
}

function outcome(actions: readonly SinkAction[]): string {
  return actions.map((action) => (action.kind === "fatal" ? `fatal: ${action.text}` : action.kind)).join(", ");
}

const message = (stream: number, id: number, body: string): string =>
  `05${stream.toString(16).padStart(16, "0")}${id.toString(16).padStart(16, "0")}${"0".repeat(16)}0000${body}`;
const str16 = (text: string): string => text.length.toString(16).padStart(4, "0") + Buffer.from(text).toString("hex");
const u64 = (value: number): string => value.toString(16).padStart(16, "0");
const ID = "myapp-w-initializer-id-12345:c_id=2";
const phase1 = (start: number, end: number, id = ID): string =>
  message(0, 0, `cb${str16(id)}00000001${u64(1)}${u64(start)}${u64(end)}`);
const phase2 = (commit: boolean, id = ID): string => message(0, 0, `cd${str16(id)}0${commit ? 1 : 0}`);

test("it insists: gaps, steps back, output between the phases, other ranges, a commit of what it voted against", () => {
  const cases: [string[], RegExp][] = [
    [[message(1, 5, "aa")], /message id 5 where 0 is due/],
    [[message(1, 0, "aaaa"), message(1, 1, "bb")], /message id 1 where 2 is due/],
    [[message(1, 0, "aa"), phase1(0, 1), message(1, 1, "bb")], /output between the phases/],
    [[message(1, 0, "aa"), phase1(0, 2)], /ends at 2, and 1 bytes are here/],
    [[phase1(0, 0), phase1(0, 0, `${ID}9`)], /phase 1 of .* before phase 2/],
    [[phase1(0, 0, "other:c_id=1")], /transaction other:c_id=1 on the output/],
    [[message(2, 0, "aa")], /a message on stream 2/],
    [[message(1, 0, "aa"), phase1(1, 1), phase2(true)], /a commit of .* after a vote against it/],
  ];
  for (const [frames, expected] of cases) {
    const { give } = open();
    let last = "";
    for (const frame of frames) last = outcome(give(frame));
    assert.match(last, expected);
  }
});

test("a range that does not begin at what is committed is voted against, and said in the log", () => {
  const { give } = open();
  give(message(1, 0, "aa"));
  const actions = give(phase1(1, 1));
  assert.equal(outcome(actions), "log, log, sync, send");
  const entries = actions.flatMap((action) => (action.kind === "log" ? [action.entry.event] : []));
  assert.deepEqual(entries, ["error", "phase1"]);
});

test("a vote is sent behind the sync, never before it", () => {
  const { give } = open();
  give(message(1, 0, "aa"));
  assert.equal(outcome(give(phase1(0, 1))), "log, sync, send");
});

test("phase 2 of what is not open is put down, and ignored", () => {
  const { give, book } = open();
  assert.equal(outcome(give(phase2(true))), "log");
  assert.equal(book.committed, 0);
});

test("a wrong version or cookie is told so", () => {
  for (const [version, cookie] of [
    ["0.0.1", COOKIE],
    ["v0.0.1", "Dragons"],
  ]) {
    const session = new SinkSession({ cookie: COOKIE, open: () => new SinkBook([], 0) });
    const hello = `00${str16(version!)}${str16(cookie!)}${str16("p")}${str16("i")}`;
    assert.equal(outcome(session.receive(fromHex(hello))), "send, close");
  }
});

test("a log is read up to the first line that is not whole, and knows what is open and what counts", () => {
  const entries: SinkLogEntry[] = [
    { event: "opened", output: "o", offset: 0 },
    { event: "phase1", id: "o:c_id=1", start: 0, end: 5, vote: "commit" },
    { event: "phase2", id: "o:c_id=1", decision: "commit", end: 5 },
    { event: "phase1", id: "o:c_id=2", start: 5, end: 9, vote: "commit" },
  ];
  const bytes = Buffer.concat(entries.map(sinkLogLine));
  assert.deepEqual(readSinkLog(bytes), { entries, wholeBytes: bytes.length });
  const book = new SinkBook(readSinkLog(bytes).entries, 20);
  assert.deepEqual([book.committed, book.offset, book.pending?.id], [5, 9, "o:c_id=2"]);
  // Each way to lose its end, and each damaged byte in it.
  const before = bytes.length - sinkLogLine(entries[3]!).length;
  for (let length = before; length < bytes.length; length++) {
    assert.equal(readSinkLog(bytes.subarray(0, length)).wholeBytes, before);
    const damaged = Buffer.from(bytes);
    damaged[length] = damaged[length]! ^ 1;
    assert.equal(readSinkLog(damaged).wholeBytes, before, `byte ${length}`);
  }
});
