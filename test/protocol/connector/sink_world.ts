/**
 * One worker's sink machine, a sink program that keeps to the protocol, a network between them and a coordinator, step by
 * step in the hands of a test. After a rollback other bytes are written than before, so that nothing that was taken back can
 * pass for what took its place.
 */
import assert from "node:assert/strict";
import { HeldOutput } from "../../../src/connectors/held_output.ts";
import { outputName, SinkCommit } from "../../../src/protocol/connector/sink_commit.ts";
import {
  SinkBook,
  type SinkLogEntry,
  type SinkRule,
  SinkSession,
} from "../../../src/simulation/environment/sink_book.ts";
import { FrameSplitter } from "../../../src/wire/frame.ts";

export const COOKIE = "Dragons-Love-Tacos";
export const OUTPUT = outputName("app", "w1", "cluster", "p/sink 0");

/** The sink program: what is on its disk, and what would be lost with it. */
export class ModelSink {
  readonly rules: readonly SinkRule[];
  readonly bytes: number[] = [];
  readonly log: SinkLogEntry[] = [];
  /** Durable part of both. */
  #syncedBytes: number[] = [];
  #syncedLog = 0;
  #book: SinkBook | null = null;
  #session: SinkSession | null = null;

  constructor(rules: readonly SinkRule[] = []) {
    this.rules = rules;
  }

  get committed(): string {
    const book = new SinkBook(this.log, this.bytes.length);
    return Buffer.from(this.bytes.slice(0, book.committed)).toString();
  }

  session(): SinkSession {
    const session = new SinkSession({
      cookie: COOKIE,
      open: () => {
        this.#session = session;
        this.#book ??= new SinkBook(this.log, this.bytes.length, this.rules);
        return this.#book;
      },
    });
    return session;
  }

  /** A session that a later one of the same worker has taken over from hears nothing more. */
  isCurrent(session: SinkSession): boolean {
    return session.instance === "" || this.#session === session;
  }

  /** @returns What it sends, and whether it closes. */
  perform(session: SinkSession, frame: Uint8Array): { sent: Uint8Array[]; closes: boolean } {
    const sent: Uint8Array[] = [];
    for (const action of session.receive(frame)) {
      switch (action.kind) {
        case "append":
          this.bytes.push(...action.bytes);
          break;
        case "truncate":
          this.bytes.length = action.length;
          break;
        case "log":
          this.log.push(action.entry);
          break;
        case "sync":
          this.#syncedBytes = [...this.bytes];
          this.#syncedLog = this.log.length;
          break;
        case "send":
          sent.push(action.bytes);
          break;
        case "close":
          return { sent, closes: true };
        case "fatal":
          assert.fail(`the worker has broken the protocol: ${action.text}`);
      }
    }
    return { sent, closes: false };
  }

  crash(): void {
    this.bytes.length = 0;
    this.bytes.push(...this.#syncedBytes);
    this.log.length = this.#syncedLog;
    this.#book = null;
    this.#session = null;
  }

  decisions(): string[] {
    return this.log.flatMap((entry) =>
      entry.event === "phase2" ? [`${entry.id.slice(entry.id.lastIndexOf("=") + 1)} ${entry.decision}`] : [],
    );
  }
}

class Connection {
  readonly up: Uint8Array[] = [];
  readonly down: Uint8Array[] = [];
  readonly splitterUp = new FrameSplitter({ lengthMax: 1 << 20 });
  readonly splitterDown = new FrameSplitter({ lengthMax: 1 << 20 });
  readonly session: SinkSession;
  /** The sink has closed it, behind what is on its way down. */
  closed = false;

  constructor(session: SinkSession) {
    this.session = session;
  }
}

interface Vote {
  readonly epoch: number;
  readonly commit: boolean;
  readonly rollBack: boolean;
}

export class SinkWorld {
  readonly sink: ModelSink;
  readonly keepBytesMax: number;
  commit!: SinkCommit;
  held = new HeldOutput();
  /** The worker's end of it; null: it has none. */
  connection: Connection | null = null;
  /** Given up by the worker; what is on its way may still arrive. */
  #old: Connection[] = [];
  /** What the worker has written, and is still valid. */
  output = "";
  expected = "";
  generation = 0;
  #records = 0;
  #used = 0;
  #decided: { epoch: number; offset: number; position: number } = { epoch: 0, offset: 0, position: 0 };
  /** In flight. */
  #checkpoint: { epoch: number; offset: number; position: number; vote: Vote | null; decided: boolean } | null = null;
  /** Verdicts that the worker was not told yet. */
  #untold: { epoch: number; commit: boolean }[] = [];
  rollBackWanted = false;
  readonly closes: string[] = [];
  readonly warnings: string[] = [];
  rollBacks = 0;

  constructor(keepBytesMax = 1 << 20, rules: readonly SinkRule[] = []) {
    this.keepBytesMax = keepBytesMax;
    this.sink = new ModelSink(rules);
    this.restartWorker();
  }

  /** A new process: memory is gone, and it goes back to what was decided. */
  restartWorker(): void {
    if (this.connection !== null) this.#old.push(this.connection);
    this.connection = null;
    this.commit = new SinkCommit({
      cookie: new TextEncoder().encode(COOKIE),
      program: "app",
      instance: "w1",
      output: OUTPUT,
      checkpoints: true,
      keepBytesMax: this.keepBytesMax,
    });
    this.held = new HeldOutput();
    this.rollBack();
  }

  rollBack(): void {
    // Whatever was decided is what everybody returns to, told or not.
    const { epoch, offset } = this.#decided;
    this.#checkpoint = null;
    this.#untold = [];
    this.rollBackWanted = false;
    this.rollBacks++;
    this.generation++;
    this.output = this.output.slice(0, offset);
    this.#records = this.#decided.position;
    this.held.reset(offset);
    this.commit.rollBack(epoch, offset);
    this.#settle();
    assert.equal(this.commit.spoiled, false);
  }

  write(sizes: readonly number[]): void {
    const texts = sizes.map((size) => `${this.generation}.${this.#records++}${".".repeat(size)}\n`);
    const bytes = Buffer.from(texts.join(""));
    let end = 0;
    const ends = Uint32Array.from(texts, (text) => {
      end += text.length;
      return end;
    });
    this.output += texts.join("");
    this.commit.wrote(bytes.length);
    if (!this.commit.spoiled) this.held.push({ bytes: new Uint8Array(bytes), ends });
  }

  connect(): void {
    if (this.connection !== null) return;
    this.connection = new Connection(this.sink.session());
    this.commit.connected();
    this.#settle();
  }

  /** The worker writes what it may, up to so many pieces. */
  pump(pieces: number): void {
    for (let i = 0; i < pieces && this.connection !== null; i++) {
      const { connection, commit } = this;
      if (commit.out.length > 0) connection.up.push(commit.out.take());
      else if (commit.phase === "closing") return this.lose();
      else {
        const frames = commit.sent < commit.sendable ? this.held.frames(commit.sendable) : null;
        if (frames === null) return;
        commit.gaveOut(frames.through);
        connection.up.push(frames.bytes);
        this.#settle();
      }
    }
  }

  /** The connection is lost to the worker; what is on its way to the sink may arrive. */
  lose(): void {
    if (this.connection === null) return;
    this.#old.push(this.connection);
    this.connection = null;
    this.commit.lost();
    this.#settle();
  }

  deliver(way: "up" | "down", pieces: number): void {
    const { connection } = this;
    if (connection === null) return;
    for (let i = 0; i < pieces; i++) {
      if (way === "up") {
        if (!this.#deliverUp(connection)) return;
      } else {
        const chunk = connection.down.shift();
        if (chunk === undefined) {
          if (connection.closed) this.lose();
          return;
        }
        for (const frame of framesOf(connection.splitterDown, chunk)) {
          this.commit.received(frame);
          this.#settle();
        }
        if (this.connection !== connection) return;
      }
    }
  }

  /** Of connections that the worker has given up. */
  deliverOld(pieces: number): void {
    for (let i = 0; i < pieces && this.#old.length > 0; i++) {
      if (!this.#deliverUp(this.#old[0]!)) this.#old.shift();
    }
  }

  #deliverUp(connection: Connection): boolean {
    const chunk = connection.up.shift();
    if (chunk === undefined || connection.closed) return false;
    for (const frame of framesOf(connection.splitterUp, chunk)) {
      if (!this.sink.isCurrent(connection.session)) {
        connection.closed = true;
        return false;
      }
      const { sent, closes } = this.sink.perform(connection.session, frame);
      connection.down.push(...sent);
      this.check();
      if (!closes) continue;
      connection.closed = true;
      return false;
    }
    return true;
  }

  crashSink(): void {
    this.sink.crash();
    this.#old = [];
    if (this.connection !== null) {
      this.connection.up.length = 0;
      this.connection.closed = true;
    }
  }

  prepare(): void {
    if (this.#checkpoint !== null) return;
    const epoch = ++this.#used;
    const offset = this.output.length;
    this.#checkpoint = { epoch, offset, position: this.#records, vote: null, decided: false };
    this.commit.prepare(epoch);
    this.#settle();
  }

  /** The coordinator decides, if it can. */
  decide(): void {
    const checkpoint = this.#checkpoint;
    if (checkpoint === null || checkpoint.vote === null) return;
    this.#checkpoint = null;
    const { epoch, offset, vote, position } = checkpoint;
    this.#untold.push({ epoch, commit: vote.commit });
    if (!vote.commit) {
      this.rollBackWanted ||= vote.rollBack;
      return;
    }
    this.#decided = { epoch, offset, position };
    this.expected = this.output.slice(0, offset);
  }

  /** The coordinator gives the checkpoint up, for somebody else's sake. */
  abandon(): void {
    const checkpoint = this.#checkpoint;
    if (checkpoint === null) return;
    this.#checkpoint = null;
    this.#untold.push({ epoch: checkpoint.epoch, commit: false });
  }

  tell(): void {
    const verdict = this.#untold.shift();
    if (verdict === undefined) return;
    if (verdict.commit) this.commit.commit(verdict.epoch);
    else this.commit.abort(verdict.epoch);
    this.#settle();
  }

  /** What is committed at the sink is what was decided, or was decided before that. */
  check(): void {
    const committed = this.sink.committed;
    assert.ok(this.expected.startsWith(committed), `committed ${committed}, decided ${this.expected}`);
  }

  /** Everything works again: two more checkpoints, and all is committed. */
  settle(): void {
    for (let round = 0; round < 100; round++) {
      this.#everything();
      if (this.rollBackWanted) this.rollBack();
      if (this.sink.committed === this.output && this.output === this.expected && this.#checkpoint === null) break;
      if (this.#checkpoint === null && !this.rollBackWanted && this.output !== this.expected) this.prepare();
    }
    assert.equal(this.expected, this.output, "the last checkpoint is complete");
    assert.equal(this.sink.committed, this.expected);
    assert.equal(this.commit.undecided, false);
    assert.equal(this.commit.unsent, 0);
    this.#noDoubt();
  }

  #everything(): void {
    for (let i = 0; i < 20; i++) {
      this.deliverOld(100);
      if (this.connection === null) this.connect();
      this.pump(100);
      this.deliver("up", 100);
      this.deliver("down", 100);
      this.decide();
      this.tell();
    }
  }

  /** No transaction was decided both ways, and commits come in the order of epochs. */
  #noDoubt(): void {
    const seen = new Map<string, string>();
    let last = 0;
    for (const entry of this.sink.log) {
      if (entry.event !== "phase2") continue;
      assert.equal(seen.get(entry.id) ?? entry.decision, entry.decision, entry.id);
      seen.set(entry.id, entry.decision);
      if (entry.decision !== "commit") continue;
      const epoch = Number(entry.id.slice(entry.id.lastIndexOf("=") + 1));
      assert.ok(epoch > last, `${epoch} is committed behind ${last}`);
      last = epoch;
    }
  }

  #settle(): void {
    for (const effect of this.commit.takeEffects()) {
      if (effect.kind === "vote") {
        const checkpoint = this.#checkpoint;
        if (checkpoint?.epoch !== effect.epoch) continue;
        assert.equal(checkpoint.vote, null, "a second vote");
        const { epoch, commit } = effect;
        checkpoint.vote = { epoch, commit, rollBack: effect.commit ? false : effect.rollBack };
      } else if (effect.kind === "close") this.closes.push(effect.code);
      else if (effect.kind === "warn") this.warnings.push(effect.code);
    }
    if (this.commit.spoiled) this.held.reset(this.commit.written);
    else {
      this.held.release(this.commit.keptFrom);
      this.held.seek(this.commit.sent);
    }
    assert.ok(this.commit.committed <= this.commit.sent || this.commit.spoiled);
    assert.ok(this.commit.sent <= this.commit.sendable && this.commit.sendable <= this.commit.written);
    assert.equal(this.commit.written, this.output.length);
  }
}

export function framesOf(splitter: FrameSplitter, chunk: Uint8Array): Uint8Array[] {
  assert.equal(splitter.push(chunk), "ok");
  return Array.from({ length: splitter.count }, (_, i) => splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!));
}
