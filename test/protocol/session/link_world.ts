// Two ends of one link in memory, without a runtime: bytes that one end gives lie in a pipe until they are delivered, and
// a connection can be cut at any of them. Around it stands the oracle of what a link promises.

import assert from "node:assert/strict";
import type { PeerProcess } from "../../../src/protocol/session/peer_process.ts";
import { standingOf } from "../../../src/protocol/session/peer_process.ts";
import { type LinkFrames, LinkReader, type PayloadKind } from "../../../src/wire/link.ts";
import { Link, type LinkEvents } from "../../../src/worker/channels/link.ts";
import type { LinkKind } from "../../../src/worker/channels/link_owner.ts";

export type Side = "a" | "b";
export const other = (side: Side): Side => (side === "a" ? "b" : "a");

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface Appended {
  readonly text: string;
  readonly exchange: number;
  /** It need not arrive: a process of the receiver that is dead now acknowledged it, or the sender gave it up. */
  excused: boolean;
}

/** One process of one side. */
export class End implements LinkEvents {
  readonly process: PeerProcess;
  readonly link: Link;
  /** Everything it has sent, in order, since it began. */
  readonly appended: Appended[] = [];
  /** What it has received of each process of the other side, by start number. */
  readonly received = new Map<number, string[]>();
  readonly world: LinkWorld;
  readonly kind: LinkKind;
  /** Received and not yet released, in order. */
  readonly held: { from: number; exchange: number; byteCount: number }[] = [];

  constructor(world: LinkWorld, side: Side, kind: LinkKind, startNumber: number) {
    this.world = world;
    this.kind = kind;
    this.process = { incarnation: `${side}${startNumber}`, startNumber };
    const settings = {
      ack: { delayMs: 10, bytesMax: 2_000 },
      creditWindowBytes: world.creditWindowBytes,
      unackedBytesMax: 1 << 20,
    };
    this.link = new Link(other(side), kind, settings, this);
  }

  generation(): number {
    return 1;
  }

  now(): number {
    return this.world.nowMs;
  }

  dropped(): void {}

  delivered(link: Link, kind: PayloadKind, exchange: number, bytes: Uint8Array): void {
    const from = link.process!.startNumber;
    if (!this.received.has(from)) this.received.set(from, []);
    const text = decoder.decode(bytes);
    this.received.get(from)!.push(text);
    this.world.note(`${this.process.incarnation} got ${show(text)}`);
    if (kind === "batch") this.held.push({ from, exchange, byteCount: bytes.length });
  }

  left(): void {}
}

function show(text: string): string {
  return text.length > 12 ? `${text.slice(0, 12)}… (${text.length})` : text;
}

/** One direction of one connection. */
interface Pipe {
  bytes: number[];
  /** Bytes that went in since the connection began. */
  filled: number;
  delivered: number;
  readonly reader: LinkReader;
}

interface Connection {
  readonly a: Pipe;
  readonly b: Pipe;
  /** The listener has seen the dialler's resume. */
  confirmed: boolean;
  readonly dialler: Side;
  readonly hello: PeerProcess;
}

export class LinkWorld {
  nowMs = 0;
  readonly creditWindowBytes: number;
  readonly lines: string[] = [];
  readonly kinds: Readonly<Record<Side, LinkKind>>;
  ends: Record<Side, End>;
  /** Processes that are gone. */
  readonly dead: { side: Side; end: End }[] = [];
  connection: Connection | null = null;
  /** The connection that the dialler has left, and the listener has not: until it is confirmed, bytes still come from it. */
  old: Connection | null = null;
  bufferBytes = 512;
  totals: Record<Side, number> = { a: 0, b: 0 };

  constructor(kind: "control" | "data", creditWindowBytes = 4_000) {
    this.creditWindowBytes = creditWindowBytes;
    this.kinds = kind === "control" ? { a: "control", b: "control" } : { a: "data_out", b: "data_in" };
    this.ends = { a: new End(this, "a", this.kinds.a, 1), b: new End(this, "b", this.kinds.b, 1) };
  }

  note(line: string): void {
    this.lines.push(line);
  }

  append(side: Side, text: string, exchange = 0): void {
    const end = this.ends[side];
    assert.notEqual(end.kind, "data_in");
    const kind = end.kind === "control" ? "control_message" : "batch";
    end.link.append(kind, kind === "batch" ? exchange : 0, encoder.encode(text));
    end.appended.push({ text, exchange, excused: false });
    this.note(`${end.process.incarnation} sends ${show(text)} as ${end.link.sender.lastSequence}`);
  }

  /** Hello and welcome as the hub does them; then bytes may flow. Replaces the connection that was there. */
  connect(dialler: Side): void {
    if (this.kinds.b === "data_in") assert.equal(dialler, "a");
    const listener = other(dialler);
    const from = this.ends[dialler];
    const to = this.ends[listener];
    const oldest = from.link.sender.oldestUnacked;
    const standing = standingOf(to.link.process, from.process);
    assert.notEqual(standing, "older");
    const through = to.link.receiver.resumedThrough(oldest, standing !== "same");
    const before = this.connection;
    // The listener stays where it is, unless it was that connection's dialler and the connection was never its own.
    const attached = before !== null && (before.confirmed || before.dialler === listener);
    if (before === null || !attached) this.cut();
    else from.link.lost();
    this.old = attached ? before : null;
    const pipe = (): Pipe => ({ bytes: [], filled: 0, delivered: 0, reader: new LinkReader(1 << 20) });
    this.connection = { a: pipe(), b: pipe(), confirmed: false, dialler, hello: from.process };
    from.link.connected(to.process, standingOf(from.link.process, to.process), through, 1);
    this.note(`${from.process.incarnation} dials ${to.process.incarnation}: resends from ${through + 1}`);
  }

  /** `side` gives its next bytes to the connection. @returns How many. */
  fill(side: Side): number {
    const isAttached = this.connection?.confirmed === true || this.connection?.dialler === side;
    const connection = isAttached ? this.connection : this.old;
    if (connection === null) return 0;
    const buffer = new Uint8Array(this.bufferBytes);
    const { link } = this.ends[side];
    if (link.sendableBytes(this.nowMs) === 0) return 0;
    const count = link.fill(buffer, new DataView(buffer.buffer), this.nowMs);
    const pipe = connection[side];
    for (let i = 0; i < count; i++) pipe.bytes.push(buffer[i]!);
    pipe.filled += count;
    this.totals[side] += count;
    return count;
  }

  /** As `deliver`, on the connection that its dialler has left. */
  deliverOld(byteCount: number): number {
    const { connection, old } = this;
    if (connection === null || old === null) return 0;
    const chunk = Uint8Array.from(old[connection.dialler].bytes.splice(0, byteCount));
    if (chunk.length > 0) old[connection.dialler].reader.push(chunk, this.#framesFor(other(connection.dialler), old));
    return chunk.length;
  }

  /** At most so many bytes of what `side` sent arrive, as one chunk. @returns How many. */
  deliver(side: Side, byteCount: number): number {
    const { connection } = this;
    if (connection === null) return 0;
    const pipe = connection[side];
    const chunk = Uint8Array.from(pipe.bytes.splice(0, byteCount));
    pipe.delivered += chunk.length;
    if (chunk.length > 0) pipe.reader.push(chunk, this.#framesFor(other(side), connection));
    return chunk.length;
  }

  #framesFor(side: Side, connection: Connection): LinkFrames {
    const end = this.ends[side];
    const link = end.link;
    return {
      open: true,
      payload: (kind, exchange, generation, sequence, bytes) =>
        link.payload(kind, exchange, generation, sequence, bytes),
      ack: (through) => link.ack(through),
      credit: (exchange, limit) => link.credit(exchange, limit),
      heartbeat: () => link.heartbeat(),
      goodbye: (reason) => link.goodbye(reason),
      resume: (oldest, through) => {
        if (connection.confirmed || side === connection.dialler) {
          link.resume(oldest, through);
          return;
        }
        connection.confirmed = true;
        this.old = null;
        link.lost();
        link.connected(connection.hello, standingOf(link.process, connection.hello), through, oldest);
        link.resumeSeen();
      },
    };
  }

  cut(): void {
    if (this.connection === null) return;
    this.connection = null;
    this.old = null;
    this.ends.a.link.lost();
    this.ends.b.link.lost();
    this.note("cut");
  }

  /** Another process takes the place of this one. */
  restart(side: Side): void {
    this.cut();
    const old = this.ends[side];
    // What the dead one acknowledged is gone with it; whoever sent it does not keep it any more.
    const peer = this.ends[other(side)];
    for (const each of peer.appended.slice(0, peer.link.sender.oldestUnacked - 1)) each.excused = true;
    this.dead.push({ side, end: old });
    this.ends[side] = new End(this, side, this.kinds[side], old.process.startNumber + 1);
    this.note(`${this.ends[side].process.incarnation} starts`);
  }

  releaseAll(side: Side): void {
    const end = this.ends[side];
    for (const { exchange, byteCount } of end.held.splice(0)) end.link.release(exchange, byteCount);
  }

  discard(side: Side): void {
    const end = this.ends[side];
    for (const each of end.appended.slice(end.link.sender.oldestUnacked - 1)) each.excused = true;
    end.link.discard();
    this.note(`${end.process.incarnation} gives up what it keeps`);
  }

  /** Lets everything flow, connecting if need be, until both ends have nothing more to say. */
  settle(dialler: Side = "a"): void {
    if (this.connection === null) this.connect(dialler);
    let idle = 0;
    for (let round = 0; idle < 3; round++) {
      assert.ok(round < 10_000, "the link comes to rest");
      let moved = 0;
      for (const side of ["a", "b"] as const) {
        moved += this.fill(side);
        moved += this.deliver(side, Number.POSITIVE_INFINITY);
        this.releaseAll(side);
      }
      this.nowMs += 11;
      idle = moved === 0 ? idle + 1 : 0;
    }
  }

  /** What holds at every moment: nothing doubled, nothing reordered, nothing left out, and credit within its window. */
  checkAlways(): void {
    for (const side of ["a", "b"] as const) {
      const senders = [this.ends[side], ...this.dead.filter((d) => d.side === side).map((d) => d.end)];
      const receivers = [this.ends[other(side)], ...this.dead.filter((d) => d.side !== side).map((d) => d.end)];
      for (const sender of senders) for (const receiver of receivers) checkOrder(sender, receiver);
    }
    const { a, b } = this.ends;
    if (a.kind !== "data_out") return;
    for (let exchange = 0; exchange < EXCHANGES; exchange++) {
      if (!a.link.hasCredit(exchange)) continue;
      const got = new Set(b.received.get(a.process.startNumber));
      let outstanding = 0;
      for (const each of a.appended) {
        if (each.exchange === exchange && !each.excused && !got.has(each.text)) outstanding += each.text.length;
      }
      for (const each of b.held) {
        if (each.exchange === exchange && each.from === a.process.startNumber) outstanding += each.byteCount;
      }
      assert.ok(outstanding < this.creditWindowBytes, `there is credit, and ${outstanding} bytes are not processed`);
    }
  }

  /** What holds once everything has come to rest. */
  checkSettled(): void {
    this.checkAlways();
    for (const side of ["a", "b"] as const) {
      const sender = this.ends[side];
      const receiver = this.ends[other(side)];
      const got = new Set(receiver.received.get(sender.process.startNumber));
      for (const each of sender.appended) assert.ok(each.excused || got.has(each.text), "everything has arrived");
      assert.equal(sender.link.sender.unackedFrames, 0);
      assert.equal(sender.link.sender.unackedBytes, 0);
      assert.equal(sender.link.sender.unsentBytes, 0);
      assert.equal(receiver.link.heldBytes, 0);
      for (let exchange = 0; exchange < EXCHANGES; exchange++) {
        assert.ok(sender.link.hasCredit(exchange), "credit came back");
      }
    }
  }
}

const EXCHANGES = 4;

function checkOrder(sender: End, receiver: End): void {
  let at = 0;
  for (const text of receiver.received.get(sender.process.startNumber) ?? []) {
    while (at < sender.appended.length && sender.appended[at]!.text !== text) {
      assert.ok(sender.appended[at]!.excused, "nothing is left out, doubled or reordered");
      at++;
    }
    assert.ok(at < sender.appended.length, "nothing is doubled or reordered");
    at++;
  }
}
