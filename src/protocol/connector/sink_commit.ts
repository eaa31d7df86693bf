/**
 * A worker's side of one sink program: the introduction on each connection, the two-phase commit, and how far output may
 * go. It knows output by its offsets alone; whoever owns the connection keeps the bytes.
 *
 *   away ──connected──▶ greeting ──OK──▶ opening ──NOTIFY_ACK──▶ listing ──REPLY_UNCOMMITTED──▶ deciding ──▶ ready
 *     ▲                     └─────────────────┴───────────────────────┴───────────────────────────┴───────────┤
 *     └──────lost────── closing ◀── a fault of the sink's, a vote against, an abort, a rollback ──────────────┘
 *
 * An epoch's cut: waiting ──its output is sent──▶ asked (PHASE1) ──▶ voted ──verdict──▶ over (PHASE2)
 *
 * T1. Output leaves in order. After each introduction it starts at the last committed offset, whatever was sent before:
 *     a sink takes back what it has no vote for. Between PHASE1 and PHASE2 none leaves.
 * T2. Each `prepare` is answered once: for the epoch if the sink has voted for it, against it if the sink has voted against
 *     it or is lost before its vote is here. A cut that was voted against is over: its output belongs to the next one.
 * T3. The sink is told to commit what exists (`commit`, or the epoch of a rollback), and to abort what will not exist. A
 *     transaction that it has voted for waits for the verdict, over any number of connections.
 * T4. An aborted transaction is aborted on a connection of its own, as sinks of old know it: this one is closed, the sink
 *     lists the transaction on the next.
 * T5. What is not committed is kept, to be sent again, up to `keepBytesMax`. If more was sent, a lost connection costs a
 *     rollback: until then output is dropped, and every epoch voted against.
 *
 * Frames to send are appended to `out`. They go before any output that was not yet given out.
 */
import { assert } from "../../base/assert.ts";
import { ProtocolError } from "../../base/errors.ts";
import type { Epoch } from "../../base/ids.ts";
import { printable } from "../../base/log.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import {
  COMMIT_STREAM,
  type ConnectorFrame,
  decodeConnectorFrame,
  decodeTransactionMessage,
  encodeConnectorFrame,
  encodeTransactionMessage,
  OUTPUT_STREAM,
  SINK_VERSION,
  type TransactionMessage,
} from "../../wire/connector.ts";

export interface SinkCommitOptions {
  readonly cookie: Uint8Array;
  /** Name of the application. */
  readonly program: string;
  /** Name of the worker. */
  readonly instance: string;
  /** Name of the output: the same after every restart, and of no other sink. See `outputName`. */
  readonly output: string;
  /** Without them there are no cuts: `taken` says what need not be sent again. */
  readonly checkpoints: boolean;
  /** T5. */
  readonly keepBytesMax: number;
}

export type SinkEffect =
  /** The answer to `prepare`. `rollBack`: what was given out since the last checkpoint can't be sent again. */
  | { readonly kind: "vote"; readonly epoch: Epoch; readonly commit: true }
  | {
      readonly kind: "vote";
      readonly epoch: Epoch;
      readonly commit: false;
      readonly reason: string;
      readonly rollBack: boolean;
    }
  /** Send `out`, then close the connection, and make a new one. `fault`: the sink has broken the protocol. */
  | { readonly kind: "close"; readonly code: string; readonly text: string; readonly fault: boolean }
  /** Got here, for whoever watches. */
  | { readonly kind: "reached"; readonly point: SinkStep }
  /** For people. */
  | { readonly kind: "warn"; readonly code: string; readonly text: string };

/** Steps of the commit: PHASE1 is said, a vote for it is heard, PHASE2 is said; a connection is lost, and what is done on the next. */
export type SinkStep =
  | "asked"
  | "decided"
  | "decided_again"
  | "listed"
  | "lost_before_vote"
  | "lost_behind_vote"
  | "voted";

/** An epoch that was cut and has no verdict. Its output begins where the one before it ends. */
interface Cut {
  readonly epoch: Epoch;
  /** Offset behind its last byte. */
  readonly end: number;
  phase: "asked" | "voted" | "waiting";
}

type Link =
  | { readonly kind: "away" }
  | { readonly kind: "greeting" }
  | { readonly kind: "opening" }
  | { readonly kind: "listing" }
  | { readonly kind: "deciding"; readonly listed: readonly string[] }
  | { readonly kind: "ready" }
  /** Nothing is taken from it any more. */
  | { readonly kind: "closing" };

/** As sinks of old saw it: the first request of a worker is 77778. */
const REQUEST_BEFORE_FIRST = 77_777n;
/** As sinks of old saw it, always. */
const NOBODY_REQUEST = 7n;
/** Fewer make no sense, as sinks of old were told. */
const CREDITS_MIN = 2;

export class SinkCommit {
  readonly #options: SinkCommitOptions;
  readonly out = new ByteWriter();
  #effects: SinkEffect[] = [];
  #link: Link = { kind: "away" };
  #request = REQUEST_BEFORE_FIRST;
  /** Offsets in the output of this worker, in bytes. committed <= sent <= written. */
  #written = 0;
  #sent = 0;
  #committed = 0;
  #committedEpoch: Epoch = 0;
  #keptFrom = 0;
  #spoiled = false;
  /** Epochs without a verdict, in order. Those behind the first one are waiting. */
  #cuts: Cut[] = [];
  /** It was asked once more what is open. */
  #confirming = false;
  /** PHASE1 was sent on this connection. */
  #askedHere = false;
  /** The sink may have a transaction that it was not told the verdict of. */
  #mayBeOpen: boolean;

  constructor(options: SinkCommitOptions) {
    this.#options = options;
    // An earlier process may have left one.
    this.#mayBeOpen = options.checkpoints;
  }

  /** The introduction is over: output is taken, or a verdict is awaited. */
  get introduced(): boolean {
    return this.#link.kind === "ready" || this.#link.kind === "deciding";
  }
  get phase(): Link["kind"] {
    return this.#link.kind;
  }
  /** All output so far. */
  get written(): number {
    return this.#written;
  }
  /** Where the next output to send begins. */
  get sent(): number {
    return this.#sent;
  }
  get committed(): number {
    return this.#committed;
  }
  /** Output before this offset is not sent again. */
  get keptFrom(): number {
    return this.#keptFrom;
  }
  /** T5: what is written is dropped, until the rollback. */
  get spoiled(): boolean {
    return this.#spoiled;
  }
  /** In bytes. */
  get unsent(): number {
    return this.#spoiled ? 0 : this.#written - this.#sent;
  }
  /** Output may be sent up to this offset. */
  get sendable(): number {
    if (this.#link.kind !== "ready" || this.#spoiled) return this.#sent;
    return this.#cuts[0]?.end ?? this.#written;
  }
  /** May the sink have a transaction that it was not told the verdict of? */
  get undecided(): boolean {
    if (this.#link.kind !== "ready") return this.#mayBeOpen;
    const first = this.#cuts[0];
    return first !== undefined && first.phase !== "waiting";
  }

  /** May the sink not have heard a verdict that it was told on this connection? Only the next introduction tells. */
  get unconfirmed(): boolean {
    return this.#link.kind === "ready" ? this.#askedHere : this.#mayBeOpen;
  }

  takeEffects(): readonly SinkEffect[] {
    if (this.#effects.length === 0) return NO_EFFECTS;
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  // The output.

  wrote(bytes: number): void {
    this.#written += bytes;
  }

  /** Output up to this offset was given to the connection. */
  gaveOut(through: number): void {
    assert(through > this.#sent && through <= this.sendable, "output leaves in order");
    this.#sent = through;
    if (this.#options.checkpoints && this.#sent - this.#keptFrom > this.#options.keepBytesMax) {
      this.#keptFrom = this.#sent;
    }
    this.#ask();
  }

  /** T5: what was sent so far takes too much room to be kept. */
  keepNothing(): void {
    this.#keptFrom = Math.max(this.#keptFrom, this.#sent);
  }

  /** Without checkpoints: the system has taken output up to this offset. */
  taken(through: number): void {
    this.#committed = through;
    this.#keptFrom = through;
    // It may become known when the connection is gone already.
    this.#sent = Math.max(this.#sent, through);
  }

  // The connection.

  connected(): void {
    assert(this.#link.kind === "away", "one connection at a time");
    const { cookie, program, instance, output } = this.#options;
    this.#link = { kind: "greeting" };
    this.#request++;
    this.#askedHere = false;
    this.#confirming = false;
    this.out.clear();
    this.#send({ kind: "hello", version: SINK_VERSION, cookie, program, instance });
    const name = new TextEncoder().encode(output);
    this.#send({ kind: "notify", stream: OUTPUT_STREAM, name, point: BigInt(this.#written) });
    this.#say({ kind: "list_uncommitted", request: this.#request });
  }

  lost(): void {
    this.out.clear();
    if (this.#link.kind === "away") return;
    if (this.#link.kind !== "closing") this.#leave("the connection was lost before its vote was here");
    this.#link = { kind: "away" };
  }

  /** One frame, without its length. */
  received(bytes: Uint8Array): void {
    if (this.#link.kind === "closing" || this.#link.kind === "away") return;
    let frame: ConnectorFrame;
    try {
      frame = decodeConnectorFrame(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#fault("Unable to decode message", error.message);
    }
    switch (frame.kind) {
      case "ok":
        if (this.#link.kind !== "greeting") return this.#fault("Protocol error: Sink sent us ok", this.#when());
        if (frame.credits < CREDITS_MIN) return this.#fault(`HEY, too few credits: ${frame.credits}`);
        this.#link = { kind: "opening" };
        return;
      case "notify_ack":
        if (this.#link.kind !== "opening") return this.#fault("Protocol error: Sink sent us notify_ack", this.#when());
        if (frame.stream !== OUTPUT_STREAM) return this.#fault("Bad External Connection State: Ea", "a foreign stream");
        if (!frame.success) return this.#fault("Protocol error: NotifyAck was not successful");
        this.#link = { kind: "listing" };
        return;
      case "message":
        if (frame.stream !== COMMIT_STREAM || frame.body.length === 0) {
          return this.#fault("Bad External Connection State: Ea", `a message on stream ${frame.stream}`);
        }
        return this.#transaction(frame.body);
      case "ack":
        return this.#fault("Bad External Connection State: F", "an ack that nobody asked for");
      case "restart":
        return this.#close("sink_restarts", "the sink asks for a new connection", false);
      case "error":
        return this.#fault("Protocol error: Sink sent us error", printable(frame.text));
      case "hello":
      case "notify":
      case "end_of_stream":
      case "workers_left":
        return this.#fault(`Protocol error: Sink sent us ${frame.kind}`);
    }
  }

  /** What its owner can't put up with. */
  giveUp(code: string, text: string): void {
    this.#close(code, text, true);
  }

  /** The epoch whose vote is awaited; 0: none is. */
  get awaited(): Epoch {
    const first = this.#cuts[0];
    return this.#link.kind === "ready" && first?.phase === "asked" ? first.epoch : 0;
  }

  /**
   * Says what needs no answer and changes nothing, that nobody has left. A sink whose machine has lost its power in the middle
   * of a vote is not there to say so: only when something is sent does it turn out that the connection is gone.
   */
  probe(): void {
    this.#say({ kind: "workers_left", request: NOBODY_REQUEST, workers: [] });
  }

  /** Nothing answers a verdict: what the sink lists behind it shows that it has heard it. */
  confirm(): void {
    if (this.#link.kind !== "ready" || this.#confirming) return;
    this.#confirming = true;
    this.#request++;
    this.#say({ kind: "list_uncommitted", request: this.#request });
  }

  /** It does not answer that, as nobody said that it has to: what it lists on another connection has to do. */
  confirmAnew(): void {
    if (!this.#confirming) return;
    this.#close("sink_asked_again", "the next one shows whether it has heard the last verdict", false);
  }

  // Epochs.

  prepare(epoch: Epoch): void {
    assert(
      this.#cuts.every((cut) => cut.epoch < epoch),
      "epochs come in order",
    );
    const cut: Cut = { epoch, end: this.#written, phase: "waiting" };
    this.#cuts.push(cut);
    if (this.#spoiled) this.#refuse(cut, LOST_OUTPUT, true);
    else this.#ask();
  }

  commit(epoch: Epoch): void {
    const index = this.#cuts.findIndex((cut) => cut.epoch === epoch);
    if (index < 0) return;
    const cut = this.#cuts[index]!;
    assert(index === 0 && cut.phase === "voted", "a commit without a vote");
    this.#cuts.shift();
    this.#committed = cut.end;
    this.#committedEpoch = epoch;
    this.#keptFrom = Math.max(this.#keptFrom, cut.end);
    if (this.#link.kind === "ready") {
      this.#say({ kind: "phase2", id: this.#id(epoch), commit: true });
      this.#reached("decided");
      this.#ask();
    } else if (this.#link.kind === "deciding") {
      if (!this.#link.listed.includes(this.#id(epoch))) this.#promiseBroken(epoch);
      this.#settle(this.#link.listed);
    }
  }

  abort(epoch: Epoch): void {
    const index = this.#cuts.findIndex((cut) => cut.epoch === epoch);
    if (index < 0) return;
    const [cut] = this.#cuts.splice(index, 1);
    // Those behind it go on from here.
    if (cut!.phase === "waiting") return this.#ask();
    if (this.#link.kind === "ready") {
      return this.#close("sink_aborted", `checkpoint ${epoch} is aborted: what was sent for it is sent again`, false);
    }
    if (this.#link.kind === "deciding") this.#settle(this.#link.listed);
    else this.#resume();
  }

  /** This epoch exists, and output goes on at this offset; what was written or prepared beyond it is taken back. */
  rollBack(epoch: Epoch, offset: number): void {
    this.#cuts = [];
    this.#committedEpoch = epoch;
    this.#committed = offset;
    this.#written = offset;
    this.#sent = offset;
    this.#keptFrom = offset;
    this.#spoiled = false;
    switch (this.#link.kind) {
      case "away":
      case "closing":
        return;
      case "deciding":
        return this.#settle(this.#link.listed);
      default:
        this.#close("sink_rolled_back", `the cluster rolls back to checkpoint ${epoch}`, false);
    }
  }

  // What the sink says of transactions.

  #transaction(body: Uint8Array): void {
    let message: TransactionMessage;
    try {
      message = decodeTransactionMessage(body);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#fault("Bad msg in a 2PC message", error.message);
    }
    if (message.kind === "uncommitted" && this.#link.kind === "listing") {
      if (message.request !== this.#request) {
        return this.#fault("Bad msg uncommitted", `it answers ${message.request} instead of ${this.#request}`);
      }
      return this.#settle(message.ids);
    }
    const first = this.#cuts[0];
    if (message.kind === "uncommitted" && this.#confirming && message.request === this.#request) {
      this.#confirming = false;
      if (message.ids.length > 0) return this.#fault("Bad msg uncommitted", "it lists what it was told the verdict of");
      this.#askedHere = first !== undefined && first.phase !== "waiting";
      return;
    }
    if (message.kind === "vote" && this.#link.kind === "ready" && first?.phase === "asked") {
      if (message.id !== this.#id(first.epoch)) {
        return this.#fault("Bad msg vote", `it is for ${printable(message.id)}`);
      }
      if (message.commit) {
        first.phase = "voted";
        this.#reached("voted");
        this.#effects.push({ kind: "vote", epoch: first.epoch, commit: true });
        return;
      }
      this.#refuse(first, "the sink votes against it", false);
      const range = `bytes ${this.#committed} to ${first.end}`;
      return this.#close("sink_votes_against", `the sink votes against checkpoint ${first.epoch}, ${range}`, true);
    }
    this.#fault(`Bad msg ${message.kind}`, this.#when());
  }

  /** The sink's open transactions are known. T3. */
  #settle(listed: readonly string[]): void {
    if (this.#link.kind === "listing" && listed.length > 0) this.#reached("listed");
    this.#link = { kind: "deciding", listed };
    if (this.#cuts[0]?.phase === "voted") return;
    // By an empty epoch nobody is meant: no transaction has the id of the empty state.
    const exists = this.#id(this.#committedEpoch);
    for (const id of listed) this.#say({ kind: "phase2", id, commit: this.#committedEpoch > 0 && id === exists });
    if (listed.length > 0) this.#reached("decided_again");
    this.#link = { kind: "ready" };
    this.#mayBeOpen = false;
    this.#askedHere = false;
    this.#resume();
    this.#ask();
  }

  #promiseBroken(epoch: Epoch): void {
    this.#effects.push({
      kind: "warn",
      code: "sink_promise_broken",
      text: `the sink has voted for checkpoint ${epoch} and does not know it any more: its output up to byte ${this.#committed} may be lost there`,
    });
  }

  /** PHASE1, when all that belongs to the first cut is out. */
  #ask(): void {
    const first = this.#cuts[0];
    if (this.#link.kind !== "ready" || this.#spoiled) return;
    if (first === undefined || first.phase !== "waiting" || this.#sent !== first.end) return;
    first.phase = "asked";
    this.#askedHere = true;
    const ranges = [{ stream: OUTPUT_STREAM, start: BigInt(this.#committed), end: BigInt(first.end) }];
    this.#say({ kind: "phase1", id: this.#id(first.epoch), ranges });
    this.#reached("asked");
  }

  /** T2. */
  #refuse(cut: Cut, reason: string, rollBack: boolean): void {
    this.#cuts = this.#cuts.filter((other) => other !== cut);
    this.#effects.push({ kind: "vote", epoch: cut.epoch, commit: false, reason, rollBack });
  }

  /** Nothing more comes from this connection. */
  #leave(why: string): void {
    this.#mayBeOpen ||= this.#askedHere;
    this.#confirming = false;
    const first = this.#cuts[0];
    if (first?.phase === "asked") this.#reached("lost_before_vote");
    if (first?.phase === "voted") this.#reached("lost_behind_vote");
    if (first?.phase === "asked") this.#refuse(first, why, this.#committed < this.#keptFrom);
    this.#resume();
  }

  /** T1: where output goes on. */
  #resume(): void {
    const first = this.#cuts[0];
    this.#sent = first?.phase === "voted" ? first.end : this.#committed;
    if (this.#sent >= this.#keptFrom) return;
    this.#spoiled = true;
    for (const cut of this.#cuts) this.#refuse(cut, LOST_OUTPUT, true);
  }

  #reached(point: SinkStep): void {
    this.#effects.push({ kind: "reached", point });
  }

  #fault(text: string, detail?: string): void {
    this.#send({ kind: "error", text });
    this.#close("sink_protocol_error", detail === undefined ? text : `${text}: ${detail}`, true);
  }

  #close(code: string, text: string, fault: boolean): void {
    if (this.#link.kind === "away" || this.#link.kind === "closing") return;
    this.#link = { kind: "closing" };
    this.#leave(text);
    this.#effects.push({ kind: "close", code, text, fault });
  }

  #when(): string {
    return `at the time it was ${this.#link.kind}`;
  }

  #id(epoch: Epoch): string {
    return `${this.#options.output}:c_id=${epoch}`;
  }

  #send(frame: ConnectorFrame): void {
    encodeConnectorFrame(frame, this.out);
  }

  #say(message: TransactionMessage): void {
    encodeTransactionMessage(message, this.out);
  }
}

const LOST_OUTPUT = "a connection was lost, with more output on it than is kept";
const NO_EFFECTS: readonly SinkEffect[] = [];

/**
 * Name of a worker's output to one sink, `APP-w-WORKER-id-N`: N is the same after every restart, and of no other sink or
 * cluster.
 */
export function outputName(application: string, worker: string, clusterId: string, sink: string): string {
  return `${application}-w-${worker}-id-${fnv128(`${clusterId}\n${sink}`)}`;
}

/** FNV-1a of 128 bits, of a short text. */
function fnv128(text: string): bigint {
  let hash = 0x6c62272e07bb014262b821756295c58dn;
  for (const byte of new TextEncoder().encode(text)) {
    hash = BigInt.asUintN(128, (hash ^ BigInt(byte)) * 0x0000000001000000000000000000013bn);
  }
  return hash;
}
