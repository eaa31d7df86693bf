// All links of one channel: its listener and the strangers at it, its dialled addresses, its peers, and the deadlines of
// all of them on one alarm. Control and data channel differ in three places only: a control peer has one link for both
// directions, a data peer one for each; only control connections can be duplicates of each other; and only the
// designated dialler of a control pair dials for ever.
//
//   H1. A link is switched to a new connection only when both ends have said that they want it: the listener at the
//       dialler's resume, the dialler at the listener's welcome. A connection nobody speaks for any more replaces nothing.
//   H2. Until then an accepted connection is a stranger's: they are few, they have little time, and the oldest goes.
//   H3. Of a name, the younger process wins, on every link.

import { assert } from "../../base/assert.ts";
import { ProtocolError } from "../../base/errors.ts";
import type { WorkerName } from "../../base/ids.ts";
import { type Log, printable } from "../../base/log.ts";
import { designatedDialler, standingOf } from "../../protocol/session/peer_process.ts";
import { Backoff } from "../../protocol/session/reconnect.ts";
import type { Address, Clock, Conn, Listener, Millis, Runtime } from "../../runtime/runtime.ts";
import {
  type Channel,
  compareIdentity,
  encodeHandshake,
  type Handshake,
  type Hello,
  type Identity,
  PROTOCOL_VERSION,
  type Refuse,
  type Welcome,
} from "../../wire/hello.ts";
import type { PayloadKind } from "../../wire/link.ts";
import type { Limits, Timing } from "../config.ts";
import { Alarm } from "./alarm.ts";
import { BoundedLog } from "./bounded_log.ts";
import { Link, type LinkCounters, type LinkEvents } from "./link.ts";
import { type ConnectionHost, type ConnectionPhase, LinkConnection } from "./link_connection.ts";
import type { LinkKind, LinkOwner, LocalIdentity } from "./link_owner.ts";

export interface ChannelOptions {
  readonly runtime: Pick<Runtime, "clock" | "random" | "net">;
  readonly owner: LinkOwner;
  readonly log: Log;
  readonly listen: Address;
  readonly timing: Timing;
  readonly limits: Limits;
}

/** Counts since the start of the process. */
export interface HubStats {
  accepted: number;
  /** Accepted connections that were closed before they were one of ours, by the code of the reason. */
  readonly strangersClosed: Map<string, number>;
  refusedByUs: number;
  refusedByThem: number;
  connectsFailed: number;
  opened: number;
  lost: number;
  superseded: number;
  /** Connections that were one too many between two workers. */
  duplicates: number;
  /** Accepted connections that their dialler gave up before it confirmed them. */
  abandoned: number;
  protocolErrors: number;
  /** Payloads that a peer sent again though they had been received. */
  duplicatesDropped: number;
  /** Payloads of an older generation. */
  stragglersDropped: number;
  bytesSent: number;
  bytesReceived: number;
}

/** How one link stands, for status and metrics. */
export interface LinkStatus {
  readonly peer: WorkerName;
  readonly link: LinkKind;
  readonly connected: boolean;
  /** Where it is connected to, or dialled; `null`: neither. */
  readonly address: Address | null;
  readonly unackedFrames: number;
  readonly unackedBytes: number;
  /** Received and not yet released. */
  readonly heldBytes: number;
  readonly counters: Readonly<LinkCounters>;
}

const STRANGERS_PER_ADDRESS_MAX = 8;
/** An ack may be so late, or that many bytes. */
const ACK_POLICY = { delayMs: 10, bytesMax: 512 * 1024 };
/** After such a life a connection was no failure; one that is shorter may end in the same way again. */
const STEADY_MS = 1_000;
/** How long a goodbye may take. */
const LEAVE_MS = 1_000;

type DialPhase =
  | { readonly kind: "waiting"; readonly until: Millis }
  | { readonly kind: "connecting" }
  | { readonly kind: "shaking"; readonly connection: LinkConnection }
  | { readonly kind: "up" };

interface Dial {
  /** `null`: whoever answers. */
  name: WorkerName | null;
  address: Address;
  readonly backoff: Backoff;
  phase: DialPhase;
}

export class LinkHub implements ConnectionHost, LinkEvents {
  readonly clock: Clock;
  readonly timing: Timing;
  readonly payloadBytesMax: number;
  readonly stats: HubStats = {
    accepted: 0,
    strangersClosed: new Map(),
    refusedByUs: 0,
    refusedByThem: 0,
    connectsFailed: 0,
    opened: 0,
    lost: 0,
    superseded: 0,
    duplicates: 0,
    abandoned: 0,
    protocolErrors: 0,
    duplicatesDropped: 0,
    stragglersDropped: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  readonly #channel: Channel;
  readonly #options: ChannelOptions;
  readonly #owner: LinkOwner;
  readonly #log: BoundedLog;
  readonly #delivered: (link: Link, kind: PayloadKind, exchange: number, bytes: Uint8Array) => void;
  readonly #alarm: Alarm;
  /** Links on connections that we dial, and on those that we accept. For control they are the same. */
  readonly #outLinks = new Map<WorkerName, Link>();
  readonly #inLinks: Map<WorkerName, Link>;
  /** The connection of each link that has one. */
  readonly #open = new Map<Link, LinkConnection>();
  /** Accepted and not open, the oldest first. */
  readonly #strangers = new Set<LinkConnection>();
  readonly #dials = new Set<Dial>();
  #listener: Listener | null = null;
  #closing = false;
  #whenClosed: (() => void) | null = null;

  constructor(
    channel: Channel,
    options: ChannelOptions,
    delivered: (link: Link, kind: PayloadKind, exchange: number, bytes: Uint8Array) => void,
  ) {
    this.#channel = channel;
    this.#options = options;
    this.#owner = options.owner;
    this.#delivered = delivered;
    this.clock = options.runtime.clock;
    this.timing = options.timing;
    this.payloadBytesMax = channel === "control" ? options.limits.controlFrameBytes : options.limits.dataFrameBytes;
    this.#inLinks = channel === "control" ? this.#outLinks : new Map();
    this.#log = new BoundedLog(options.log, this.clock);
    this.#alarm = new Alarm(this.clock, (now, lateMs) => this.turn(() => this.#ring(now, lateMs)));
  }

  // ---- for the channel

  /** @throws {NetError} */
  async listen(): Promise<Address> {
    const { host, port } = this.#options.listen;
    const listener = await this.#options.runtime.net.listen({
      host,
      port,
      accept: (conn) => this.turn(() => this.#accept(conn)),
      failed: (error) => this.#log.warn("accept_failed", `${this.#channel} port: ${error.message}`),
    });
    if (this.#closing) listener.close();
    else this.#listener = listener;
    return listener.address;
  }

  /** The link on which payloads go to `peer`. */
  linkTo(peer: WorkerName): Link {
    let link = this.#outLinks.get(peer);
    if (link === undefined) {
      link = this.#newLink(peer, this.#channel === "control" ? "control" : "data_out");
      this.#outLinks.set(peer, link);
    }
    return link;
  }

  /** The link on which payloads come from `peer`. */
  linkFrom(peer: WorkerName): Link {
    if (this.#channel === "control") return this.linkTo(peer);
    let link = this.#inLinks.get(peer);
    if (link === undefined) {
      link = this.#newLink(peer, "data_in");
      this.#inLinks.set(peer, link);
    }
    return link;
  }

  connected(link: Link): boolean {
    return this.#open.has(link);
  }

  /** Connects to `name` (`null`: to whoever answers) at `address`, or moves what was being dialled there. */
  dial(name: WorkerName | null, address: Address): void {
    if (this.#closing) return;
    assert(name !== this.#owner.identity().worker, "no worker dials itself");
    const known = this.#dialOf(name);
    if (known !== null) {
      this.#redirect(known, address);
      return;
    }
    if (name !== null && !this.#dialsForEver(name) && this.connected(this.linkTo(name))) return;
    const { reconnectFirstMs, reconnectMaxMs } = this.timing;
    const backoff = new Backoff(reconnectFirstMs, reconnectMaxMs);
    const up = name !== null && this.connected(this.linkTo(name));
    const dial: Dial = { name, address, backoff, phase: up ? { kind: "up" } : { kind: "waiting", until: 0 } };
    this.#dials.add(dial);
    if (!up) this.#connect(dial);
  }

  /** `name`, if it is dialled at all, is at `address` now. */
  redirect(name: WorkerName, address: Address): void {
    const dial = this.#dialOf(name);
    if (dial !== null) this.#redirect(dial, address);
  }

  /** Sends what has come together in this turn. */
  flush(): void {
    const now = this.clock.monotonicMs();
    for (const [link, connection] of this.#open) {
      connection.flush();
      if (link.receiver.ackDueAt > now) this.#alarm.at(link.receiver.ackDueAt);
    }
    // Credit is used up by appending alone, also while there is no connection.
    if (this.#channel === "data") for (const link of this.#outLinks.values()) this.#noticeCredit(link);
  }

  status(): LinkStatus[] {
    const all: LinkStatus[] = [];
    for (const link of new Set([...this.#outLinks.values(), ...this.#inLinks.values()])) {
      const connection = this.#open.get(link);
      const dialled = link.kind === "data_in" ? null : this.#dialOf(link.peer);
      all.push({
        peer: link.peer,
        link: link.kind,
        connected: connection !== undefined,
        address: connection?.peer ?? dialled?.address ?? null,
        unackedFrames: link.sender.unackedFrames,
        unackedBytes: link.sender.unackedBytes,
        heldBytes: link.heldBytes,
        counters: link.counters,
      });
    }
    return all;
  }

  /**
   * Stops listening and dialling, and closes all connections: with a `reason` after everything that is queued and a
   * goodbye, which takes a second at most; without one now. Calls `done` when no connection is left.
   */
  close(reason: string | null, done: () => void): void {
    assert(!this.#closing, "a channel is closed once");
    this.#closing = true;
    this.#whenClosed = done;
    this.#listener?.close();
    const dials = [...this.#dials];
    this.#dials.clear();
    for (const { phase } of dials) if (phase.kind === "shaking") phase.connection.close("closed", "this worker leaves");
    for (const connection of [...this.#strangers]) connection.close("closed", "this worker leaves");
    const deadline = this.clock.monotonicMs() + LEAVE_MS;
    for (const connection of [...this.#open.values()]) {
      if (reason === null) connection.close("closed", "this worker leaves");
      else connection.leave(reason, deadline);
    }
    if (this.#open.size > 0) this.#alarm.at(deadline);
    this.#perhapsClosed();
  }

  // ---- for connections and links

  turn(run: () => void): void {
    this.#owner.turn(run);
  }

  generation(): number {
    return this.#owner.identity().generation;
  }

  now(): Millis {
    return this.clock.monotonicMs();
  }

  delivered(link: Link, kind: PayloadKind, exchange: number, bytes: Uint8Array): void {
    this.#delivered(link, kind, exchange, bytes);
  }

  dropped(why: "duplicate" | "straggler"): void {
    if (why === "duplicate") this.stats.duplicatesDropped++;
    else this.stats.stragglersDropped++;
  }

  left(link: Link, reason: string): void {
    this.#open.get(link)?.close("left", reason);
  }

  /** Credit that came is told before the owner ends its turn, so that what waited for it goes on in the same turn. */
  received(link: Link): void {
    if (link.kind === "data_out") this.#noticeCredit(link);
  }

  greeted(connection: LinkConnection, message: Handshake): void {
    if (connection.accepted) {
      if (message.kind !== "hello") throw new ProtocolError("bad_handshake", `its first frame is a ${message.kind}`);
      this.#judgeHello(connection, message);
      return;
    }
    const dial = this.#dialWith(connection);
    if (dial === null) return;
    if (message.kind === "hello") throw new ProtocolError("bad_handshake", "our hello was answered by a hello");
    if (message.kind === "refuse") this.#refusedByThem(dial, connection, message);
    else this.#judgeWelcome(dial, connection, message);
  }

  confirmed(connection: LinkConnection, hello: Hello, oldestUnacked: number, receivedThrough: number): void {
    // Time has passed since the hello was judged.
    const link = this.linkFrom(hello.worker);
    if (standingOf(link.process, hello) === "older") {
      connection.close("superseded", this.#supersededSentence(link, hello));
      return;
    }
    if (this.#isDuplicate(link, hello)) {
      connection.close("duplicate", "another connection between the same two workers is open");
      return;
    }
    link.sender.checkAck(receivedThrough);
    this.#strangers.delete(connection);
    if (link.kind === "control") this.#giveUpDialling(hello.worker);
    this.#openLink(link, connection, hello, receivedThrough, oldestUnacked);
  }

  closed(connection: LinkConnection, before: ConnectionPhase, code: string, why: string): void {
    this.stats.bytesSent += connection.bytesSent;
    this.stats.bytesReceived += connection.bytesReceived;
    switch (before.kind) {
      case "greeting":
      case "welcomed":
        this.#strangers.delete(connection);
        if (this.#closing) break;
        if (code === "duplicate") this.stats.duplicates++;
        // It was let in, and its dialler thought better of it: another connection was there first.
        else if (before.kind === "welcomed" && EXPECTED_ENDS.has(code)) this.stats.abandoned++;
        else this.#strangerClosed(connection, code, why);
        break;
      case "leaving":
        this.#strangers.delete(connection);
        break;
      case "shaking": {
        const dial = this.#dialWith(connection);
        if (dial !== null && code === "duplicate") this.#dialLater(dial);
        else if (dial !== null) this.#dialFailed(dial, why);
        break;
      }
      case "open":
        this.#openClosed(connection, before.link, code, why);
        break;
      case "closed":
        break;
    }
    this.#perhapsClosed();
  }

  // ---- accepting

  #accept(conn: Conn): void {
    this.stats.accepted++;
    if (this.#closing) {
      conn.abort();
      return;
    }
    this.#makeRoom(conn.peer.host);
    const connection = new LinkConnection(this, conn, true, this.timing.handshakeMs);
    this.#strangers.add(connection);
    this.#alarm.at(connection.deadline);
  }

  /** Strangers are few: at the cap the oldest goes, per address (but for this machine's own) and overall. */
  #makeRoom(host: string): void {
    if (!isLoopback(host)) {
      const same: LinkConnection[] = [];
      for (const stranger of this.#strangers) if (stranger.peer.host === host) same.push(stranger);
      if (same.length >= STRANGERS_PER_ADDRESS_MAX) {
        same[0]!.close(
          "too_many_strangers",
          `more than ${STRANGERS_PER_ADDRESS_MAX} from its address have said nothing`,
        );
      }
    }
    if (this.#strangers.size < this.#options.limits.strangers) return;
    for (const oldest of this.#strangers) {
      oldest.close("too_many_strangers", `more than ${this.#options.limits.strangers} connections have said nothing`);
      break;
    }
  }

  #judgeHello(connection: LinkConnection, hello: Hello): void {
    const ours = this.#identity();
    if (hello.channel !== this.#channel) {
      const sentence = `this is the ${this.#channel} port, and the hello is for the ${hello.channel} channel`;
      this.#refuse(connection, hello, "wrong_channel", sentence);
      return;
    }
    const difference = compareIdentity(ours, hello);
    if (difference !== null) {
      this.#refuse(connection, hello, difference.code, difference.sentence);
      return;
    }
    if (hello.worker === ours.worker) {
      const same = hello.incarnation === ours.incarnation && hello.startNumber === ours.startNumber;
      const sentence = same
        ? `worker ${ours.worker} dialled its own ${this.#channel} port`
        : `worker name ${ours.worker} is taken: the worker at this address has it`;
      this.#refuse(connection, hello, same ? "own_address" : "name_taken", sentence);
      return;
    }
    // The link is made only for a peer that is let in.
    const known = this.#inLinks.get(hello.worker) ?? null;
    const standing = standingOf(known?.process ?? null, hello);
    if (standing === "older") {
      this.#refuse(connection, hello, "superseded", this.#supersededSentence(known!, hello));
      return;
    }
    const connected = known !== null && this.connected(known);
    const facts = { channel: this.#channel, from: connection.peer, standing, connected };
    const admission = this.#owner.admit(hello, facts);
    if (admission.kind === "refuse") {
      this.#refuse(connection, hello, admission.code, admission.sentence);
      return;
    }
    if (known !== null && this.#isDuplicate(known, hello)) {
      this.stats.duplicates++;
      const sentence = "another connection between the same two workers is open";
      connection.refuse(encodeHandshake({ kind: "refuse", ...ours, code: "duplicate", sentence }));
      return;
    }
    const link = this.linkFrom(hello.worker);
    const receivedThrough = link.receiver.resumedThrough(hello.oldestUnacked, standing !== "same");
    connection.welcome(hello, encodeHandshake({ kind: "welcome", ...ours, receivedThrough }));
  }

  #refuse(connection: LinkConnection, hello: Hello, code: string, sentence: string): void {
    this.stats.refusedByUs++;
    const { host, port } = connection.peer;
    const line = `refused worker ${hello.worker} at ${host}:${port}: ${printable(sentence, 512)}`;
    // It comes again in a moment.
    if (code === "not_ready") this.#options.log.debug("refused", line);
    else this.#log.warn("refused", line);
    connection.refuse(encodeHandshake({ kind: "refuse", ...this.#identity(), code, sentence }));
    this.#owner.refused(hello.worker, "us", code, sentence);
  }

  #strangerClosed(connection: LinkConnection, code: string, why: string): void {
    const { strangersClosed } = this.stats;
    // Codes are ours, so that there are few of them.
    strangersClosed.set(code, (strangersClosed.get(code) ?? 0) + 1);
    const { host, port } = connection.peer;
    this.#log.warn("stranger_closed", `closed a connection from ${host}:${port} to the ${this.#channel} port: ${why}`);
  }

  /** Is an open connection to the same process better than the one that this hello came on? */
  #isDuplicate(link: Link, hello: Hello): boolean {
    if (link.kind !== "control" || !this.connected(link) || standingOf(link.process, hello) !== "same") return false;
    return designatedDialler(this.#owner.identity().worker, hello.worker) !== hello.worker;
  }

  /** Has the designated dialler's own connection been welcomed here? Then it will be confirmed, or ours is tried again. */
  #isExpected(welcome: Welcome): boolean {
    if (this.#channel !== "control" || this.#dialsForEver(welcome.worker)) return false;
    for (const { phase } of this.#strangers) {
      if (phase.kind === "welcomed" && standingOf(phase.hello, welcome) === "same") return true;
    }
    return false;
  }

  #supersededSentence(link: Link, hello: Identity): string {
    return (
      `worker ${hello.worker} was started again: its start ${link.process!.startNumber} is known here, ` +
      `and this is its start ${hello.startNumber}`
    );
  }

  // ---- dialling

  #dialsForEver(name: WorkerName): boolean {
    const own = this.#owner.identity().worker;
    return this.#channel === "data" || designatedDialler(own, name) === own;
  }

  #dialOf(name: WorkerName | null): Dial | null {
    for (const dial of this.#dials) if (dial.name === name) return dial;
    return null;
  }

  #dialWith(connection: LinkConnection): Dial | null {
    for (const dial of this.#dials) {
      if (dial.phase.kind === "shaking" && dial.phase.connection === connection) return dial;
    }
    return null;
  }

  #redirect(dial: Dial, address: Address): void {
    if (dial.address.host === address.host && dial.address.port === address.port) return;
    dial.address = address;
    dial.backoff.reset();
    if (dial.phase.kind === "up") return;
    this.#abandon(dial);
    this.#connect(dial);
  }

  /** Whatever this dial is doing has no effect any more. */
  #abandon(dial: Dial): void {
    const { phase } = dial;
    dial.phase = { kind: "waiting", until: Number.POSITIVE_INFINITY };
    if (phase.kind === "shaking") phase.connection.close("abandoned", "it is not needed any more");
  }

  #connect(dial: Dial): void {
    // Each attempt has a phase of its own, by which its end is recognized.
    const phase: DialPhase = { kind: "connecting" };
    dial.phase = phase;
    const done = (run: () => void) => {
      if (dial.phase === phase && this.#dials.has(dial)) this.turn(run);
    };
    this.#options.runtime.net.connect(dial.address, { timeoutMs: this.timing.handshakeMs }).then(
      (conn) => {
        if (dial.phase !== phase || !this.#dials.has(dial)) conn.abort();
        else this.turn(() => this.#dialled(dial, conn));
      },
      (error) => done(() => this.#dialFailed(dial, error instanceof Error ? error.message : String(error))),
    );
  }

  #dialled(dial: Dial, conn: Conn): void {
    const connection = new LinkConnection(this, conn, false, this.timing.handshakeMs);
    dial.phase = { kind: "shaking", connection };
    this.#alarm.at(connection.deadline);
    const { control, data, workerCount } = this.#owner.identity();
    const oldestUnacked = dial.name === null ? 1 : this.linkTo(dial.name).sender.oldestUnacked;
    const hello: Hello = {
      kind: "hello",
      ...this.#identity(),
      controlHost: control.host,
      controlPort: control.port,
      dataHost: data.host,
      dataPort: data.port,
      oldestUnacked,
      workerCount,
    };
    connection.sendHello(encodeHandshake(hello));
  }

  #dialFailed(dial: Dial, why: string): void {
    this.stats.connectsFailed++;
    if (dial.backoff.failures === 0)
      this.#options.log.info("dialling", `${this.#describe(dial)}: ${why}; trying again`);
    else this.#options.log.debug("dialling", `${this.#describe(dial)}: ${why}`);
    this.#dialLater(dial);
  }

  #dialLater(dial: Dial): void {
    const until = this.clock.monotonicMs() + dial.backoff.next(this.#options.runtime.random.next());
    dial.phase = { kind: "waiting", until };
    this.#alarm.at(until);
  }

  #describe(dial: Dial): string {
    const { host, port } = dial.address;
    return `${this.#channel} link to ${dial.name ?? "the worker"} at ${host}:${port}`;
  }

  #judgeWelcome(dial: Dial, connection: LinkConnection, welcome: Welcome): void {
    const ours = this.#identity();
    const difference = compareIdentity(ours, welcome);
    if (difference !== null) {
      this.#turnAway(dial, connection, welcome, difference.code, difference.sentence);
      return;
    }
    if (welcome.channel !== this.#channel) {
      const sentence = `${this.#describe(dial)}: the ${welcome.channel} channel answered`;
      this.#turnAway(dial, connection, welcome, "wrong_channel", sentence);
      return;
    }
    if (welcome.worker === ours.worker || (dial.name !== null && welcome.worker !== dial.name)) {
      const sentence = `${this.#describe(dial)}: worker ${welcome.worker} answered`;
      this.#turnAway(dial, connection, welcome, "name_differs", sentence);
      return;
    }
    const link = this.linkTo(welcome.worker);
    const standing = standingOf(link.process, welcome);
    if (standing === "older") {
      this.#turnAway(dial, connection, welcome, "superseded", this.#supersededSentence(link, welcome));
      return;
    }
    if (dial.name === null) this.#nameDial(dial, welcome.worker);
    if (this.#isExpected(welcome)) {
      connection.close("duplicate", "the designated dialler's own connection is on its way");
      return;
    }
    // A connection that the peer dialled and that is open already is as good.
    if (this.connected(link) && standing === "same") {
      this.stats.duplicates++;
      this.#settleDial(dial);
      connection.close("duplicate", "another connection between the same two workers is open");
      return;
    }
    link.sender.checkAck(welcome.receivedThrough);
    this.#settleDial(dial);
    this.#openLink(link, connection, welcome, welcome.receivedThrough, 1);
  }

  /** The name of whoever answered is known now, and perhaps it was dialled elsewhere as well. */
  #nameDial(dial: Dial, name: WorkerName): void {
    const other = this.#dialOf(name);
    if (other !== null) {
      this.#abandon(other);
      this.#dials.delete(other);
    }
    dial.name = name;
  }

  /** A link to the dialled worker is open. */
  #settleDial(dial: Dial): void {
    dial.phase = { kind: "up" };
    if (!this.#dialsForEver(dial.name!)) this.#dials.delete(dial);
  }

  /** The peer's own connection came first. */
  #giveUpDialling(name: WorkerName): void {
    const dial = this.#dialOf(name);
    if (dial === null || dial.phase.kind === "up") return;
    this.#abandon(dial);
    this.#settleDial(dial);
  }

  #turnAway(dial: Dial, connection: LinkConnection, welcome: Identity, code: string, sentence: string): void {
    this.stats.refusedByUs++;
    this.#log.warn("refused", printable(sentence, 512));
    connection.close(code, sentence);
    assert(dial.phase.kind === "waiting", "its end has scheduled the next try");
    this.#owner.refused(welcome.worker, "us", code, sentence);
  }

  #refusedByThem(dial: Dial, connection: LinkConnection, refuse: Refuse): void {
    if (refuse.code === "duplicate") {
      connection.close("duplicate", "another connection between the same two workers is open");
      return;
    }
    this.stats.refusedByThem++;
    // Where we see the difference ourselves, our side of it comes first.
    const sentence = compareIdentity(this.#identity(), refuse)?.sentence ?? refuse.sentence;
    connection.close(refuse.code, `refused: ${printable(sentence, 512)}`);
    assert(dial.phase.kind === "waiting", "its end has scheduled the next try");
    this.#owner.refused(refuse.worker, "them", refuse.code, sentence);
  }

  // ---- links

  #newLink(peer: WorkerName, kind: LinkKind): Link {
    const { exchangeCreditBytes, linkUnackedBytes } = this.#options.limits;
    const settings = { ack: ACK_POLICY, creditWindowBytes: exchangeCreditBytes, unackedBytesMax: linkUnackedBytes };
    return new Link(peer, kind, settings, this);
  }

  #openLink(
    link: Link,
    connection: LinkConnection,
    hello: Hello | Welcome,
    receivedThrough: number,
    oldestUnacked: number,
  ): void {
    const standing = standingOf(link.process, hello);
    this.#open.get(link)?.close("replaced", "a newer connection took its place");
    if (standing === "newer") {
      this.stats.superseded++;
      this.#owner.peerSuperseded(link.peer, link.kind);
    }
    const { incarnation, startNumber } = hello;
    link.connected({ incarnation, startNumber }, standing, receivedThrough, oldestUnacked);
    if (connection.accepted) link.resumeSeen();
    connection.opened(link);
    this.#open.set(link, connection);
    this.stats.opened++;
    this.#alarm.at(connection.deadline);
    const { peer, local } = connection;
    const newIncarnation = standing !== "same";
    this.#owner.peerConnected(link.peer, link.kind, { hello, newIncarnation, observed: peer, local });
  }

  #openClosed(connection: LinkConnection, link: Link, code: string, why: string): void {
    assert(this.#open.get(link) === connection);
    this.#open.delete(link);
    link.lost();
    this.stats.lost++;
    const livedMs = this.clock.monotonicMs() - connection.openedAt;
    if (!EXPECTED_ENDS.has(code)) {
      this.stats.protocolErrors++;
      this.#log.warn("link_violation", `${link.kind} link with ${link.peer} closed: ${printable(why, 512)}`);
    }
    const dial = link.kind === "data_in" ? null : this.#dialOf(link.peer);
    if (dial !== null && dial.phase.kind === "up" && !this.#closing) {
      if (livedMs >= STEADY_MS) dial.backoff.reset();
      if (code === "replaced") this.#settleDial(dial);
      else this.#dialLater(dial);
    }
    if (code === "left") this.#owner.peerLeft(link.peer, link.kind, printable(why));
    this.#owner.peerLost(link.peer, link.kind, code === "left" ? `it left: ${printable(why)}` : why);
  }

  #noticeCredit(link: Link): void {
    link.noticeCredit((exchange) => this.#owner.creditChanged(link.peer, exchange));
  }

  // ---- time and the rest

  #ring(now: Millis, lateMs: Millis): void {
    for (const connection of [...this.#open.values(), ...this.#strangers]) {
      if (connection.deadline <= now) connection.look(now, lateMs);
    }
    for (const dial of [...this.#dials]) {
      const { phase } = dial;
      if (phase.kind === "shaking" && phase.connection.deadline <= now) phase.connection.look(now, lateMs);
      else if (phase.kind === "waiting" && phase.until <= now) this.#connect(dial);
    }
    this.#setAlarm(now);
  }

  #setAlarm(now: Millis): void {
    let next = Number.POSITIVE_INFINITY;
    for (const connection of this.#open.values()) {
      // What is due is said in the flush at the end of this turn; a peer that takes nothing is looked at again soon.
      const deadline = connection.deadline;
      next = Math.min(next, deadline > now ? deadline : now + this.timing.heartbeatMs / 4);
    }
    for (const connection of this.#strangers) next = Math.min(next, connection.deadline);
    for (const { phase } of this.#dials) {
      if (phase.kind === "shaking") next = Math.min(next, phase.connection.deadline);
      else if (phase.kind === "waiting") next = Math.min(next, phase.until);
    }
    if (next < Number.POSITIVE_INFINITY) this.#alarm.at(next);
  }

  #identity(): Identity {
    const ours: LocalIdentity = this.#owner.identity();
    const { clusterId, buildId, fingerprint, application, worker, generation, incarnation, startNumber } = ours;
    const { checkpoints } = ours;
    return {
      protocolVersion: PROTOCOL_VERSION,
      channel: this.#channel,
      clusterId,
      buildId,
      fingerprint,
      application,
      worker,
      generation,
      incarnation,
      startNumber,
      checkpoints,
    };
  }

  #perhapsClosed(): void {
    if (!this.#closing || this.#open.size > 0 || this.#strangers.size > 0 || this.#whenClosed === null) return;
    const done = this.#whenClosed;
    this.#whenClosed = null;
    this.#alarm.stop();
    done();
  }
}

/** Ends of an open connection that say nothing bad of the peer's bytes. */
const EXPECTED_ENDS = new Set([
  "closed",
  "ended",
  "left",
  "other",
  "replaced",
  "reset",
  "silent",
  "timeout",
  "unreachable",
]);

export function isLoopback(host: string): boolean {
  return host === "::1" || host === "localhost" || /^(::ffff:)?127\./i.test(host);
}
