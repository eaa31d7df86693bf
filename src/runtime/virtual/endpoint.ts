/**
 * One end of a virtual connection: the socket in a kernel, and the `Conn` of the process that holds it.
 *
 *     write ──▶ send queue ──▶ in transit ──▶ received, at the other end ──▶ read
 *
 * A segment in transit has an arrival event; the event delivers whatever is first in transit, so order is kept. An arrival
 * on a blocked way is counted as stalled and happens again when the way is open.
 *
 * Bytes are copied out of a writer's array only when the kernel takes them, and a piece that was read is overwritten by
 * the next read: whoever touches bytes against the contract of `Conn` finds out.
 */

import { addressText, netError } from "../_net_error.ts";
import type { Address, Conn, Millis, NetError } from "../runtime.ts";
import type { ConnectionView, NetMachine, VirtualNetwork } from "./network.ts";
import type { Held, VirtualProcess } from "./process.ts";
import { segmentLength } from "./segment.ts";

const PIECE_BYTES_MAX = 64 * 1024;
/** What a piece is overwritten with once it is no longer valid. */
const STALE_BYTE = 0xdb;

/** `open` is the answer to a connection attempt, `end` a FIN. */
type Segment = Uint8Array | "open" | "end";

interface Reader {
  readonly resolve: (bytes: Uint8Array | null) => void;
  readonly reject: (error: Error) => void;
}

interface Writer {
  readonly bytes: Uint8Array;
  taken: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Endpoint implements Conn, Held {
  readonly local: Address;
  readonly peer: Address;
  /** What this end sends is held back. */
  blackholed = false;
  readonly #side: "client" | "server";
  readonly #network: VirtualNetwork;
  readonly #machine: NetMachine;
  readonly #process: VirtualProcess;
  #other!: Endpoint;
  #connection!: ConnectionView;
  /** Called when the other end has answered the attempt to connect. */
  #opened: (() => void) | null;

  // Sending.
  readonly #sendQueue: Segment[] = [];
  readonly #transit: Segment[] = [];
  #stalledArrivals = 0;
  /** Taken from the writer and not yet acknowledged by the other kernel. */
  #unackedBytes = 0;
  /** Acknowledged by the other kernel, but the way back was blocked. */
  #ackHeldBytes = 0;
  #lastArrivalMs: Millis = 0;
  #writer: Writer | null = null;
  #writerScheduled = false;
  #endAsked = false;
  #endDelivered = false;

  // Receiving.
  readonly #received: Uint8Array[] = [];
  #receivedBytes = 0;
  /** Sent by the other end, not yet arrived here. */
  #inFlightBytes = 0;
  #endReceived = false;
  #reader: Reader | null = null;
  #readerScheduled = false;
  #lastPiece: Uint8Array | null = null;

  /** Why nothing goes any more: cut by the peer (`reset`) or aborted by us (`closed`). */
  #over: "reset" | "closed" | null = null;
  /** Nobody receives here any more: whatever arrives is answered with a reset. */
  #gone = false;
  /** And nothing is sent any more either, not even again. */
  #vanished = false;
  /** A reset of this end went on a blocked way. */
  #resetLost = false;

  constructor(
    network: VirtualNetwork,
    machine: NetMachine,
    process: VirtualProcess,
    local: Address,
    peer: Address,
    opened: (() => void) | null,
  ) {
    this.#network = network;
    this.#machine = machine;
    this.#process = process;
    this.local = local;
    this.peer = peer;
    this.#opened = opened;
    this.#side = opened === null ? "server" : "client";
    process.held.add(this);
  }

  join(other: Endpoint, connection: ConnectionView): void {
    this.#other = other;
    this.#connection = connection;
  }

  // The process's side: `Conn`.

  read(): Promise<Uint8Array | null> {
    return new Promise((resolve, reject) => {
      if (!this.#process.alive) return;
      this.#lastPiece?.fill(STALE_BYTE);
      this.#lastPiece = null;
      if (this.#reader !== null) throw new Error(`Cannot read from ${addressText(this.peer)}: another read is pending`);
      this.#reader = { resolve, reject };
      if (this.#received.length > 0 || this.#endReceived || this.#over !== null) this.#wakeReader();
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.#process.alive) return;
      if (this.#writer !== null) throw new Error(`Cannot write to ${addressText(this.peer)}: another write is pending`);
      if (this.#endAsked && this.#over === null) throw this.#error("write to", 0);
      this.#writer = { bytes, taken: 0, resolve, reject };
      this.#wakeWriter();
    });
  }

  end(): void {
    if (!this.#process.alive || this.#endAsked || this.#over !== null) return;
    this.#endAsked = true;
    if (this.#writer === null) this.#sendEnd();
  }

  abort(): void {
    if (!this.#process.alive || this.#over === "closed") return;
    this.#over = "closed";
    this.#closeSocket();
    this.#wakeReader();
    this.#wakeWriter();
  }

  // The kernel's side.

  processDied(): void {
    this.#over = "closed";
    this.#reader = null;
    this.#writer = null;
    // Power loss says nothing to anybody.
    if (this.#machine.powered) this.#closeSocket();
    else this.#vanish();
  }

  /** An end that never got to its process: the attempt timed out, or the listener was closed first. */
  abandon(): void {
    this.#over ??= "closed";
    this.#process.held.delete(this);
    this.#vanish();
    this.#sendReset();
  }

  /** The answer to the attempt to connect; it goes ahead of all data. */
  sendOpen(): void {
    this.#sendQueue.push("open");
    this.#transmit();
  }

  /** The other end was cut off: undelivered bytes vanish, sometimes the received ones too. */
  resetArrived(): void {
    if (this.#gone && this.#over !== null) return;
    this.#over ??= "reset";
    this.#vanish();
    if (this.#network.prng.chance(2)) this.#dropReceived();
    if (this.#reader !== null) this.#wakeReader();
    if (this.#writer !== null) this.#wakeWriter();
  }

  /** Sends again what a blocked way held back. Does nothing while it is still blocked. */
  resend(delayMs: Millis): void {
    if (this.#isBlocked()) return;
    // What the other end still has to send it sends again, and that is answered with another reset.
    if (this.#resetLost && this.#other.#unackedBytes > 0) {
      this.#resetLost = false;
      this.#sendReset();
    }
    if (this.#vanished && this.#stalledArrivals > 0) this.#transit.length = 0;
    const stalled = this.#transit.length === 0 ? 0 : this.#stalledArrivals;
    this.#stalledArrivals = 0;
    for (let count = 0; count < stalled; count++) this.#scheduleArrival(delayMs);
    if (this.#other.#ackHeldBytes > 0) {
      // What this end acknowledged in vain.
      const bytes = this.#other.#ackHeldBytes;
      this.#other.#ackHeldBytes = 0;
      this.#other.#acked(bytes);
    }
    this.#transmit();
    this.#other.#transmit();
  }

  /** Closing as a kernel does: with what is still to send, or at once if there is something unread or by chance. */
  #closeSocket(): void {
    // Whoever has ended its direction in order leaves a kernel that goes on sending, after the process too.
    const abrupt = this.#receivedBytes > 0 || (!this.#endAsked && this.#network.prng.chance(2));
    this.#process.held.delete(this);
    if (this.#gone) return;
    if (abrupt) {
      this.#vanish();
      this.#sendReset();
      return;
    }
    this.#gone = true;
    if (!this.#endAsked || this.#writer !== null) this.#sendEnd();
    this.#endAsked = true;
    this.#forgetWhenDone();
  }

  /** From now on the kernel knows nothing of this socket. */
  #vanish(): void {
    this.#gone = true;
    this.#vanished = true;
    this.#sendQueue.length = 0;
    this.#process.held.delete(this);
    if (this.#over === "closed") this.#dropReceived();
    this.#forgetWhenDone();
  }

  #dropReceived(): void {
    this.#received.length = 0;
    this.#receivedBytes = 0;
  }

  #forgetWhenDone(): void {
    const other = this.#other;
    if (this.#endDelivered && other.#endDelivered) {
      this.#process.held.delete(this);
      other.#process.held.delete(other);
    } else if (!this.#gone || !other.#gone) return;
    this.#network.forget(this.#connection);
  }

  #sendEnd(): void {
    this.#sendQueue.push("end");
    this.#transmit();
  }

  /** A reset is sent once. On a blocked way it is lost, and only what the other end sends (again) brings another. */
  #sendReset(): void {
    const other = this.#other;
    const atMs = Math.max(this.#lastArrivalMs, this.#network.scheduler.nowMs + this.#latencyMs());
    this.#network.scheduler.at(atMs, null, "reset", () => {
      if (this.#isBlocked()) {
        this.#resetLost = true;
        return;
      }
      this.#network.onArrival?.(this.#connection, this.#side, "reset");
      other.resetArrived();
    });
  }

  #isBlocked(): boolean {
    return this.blackholed || this.#network.isBlocked(this.#machine, this.#other.#machine);
  }

  #latencyMs(): Millis {
    return this.#network.latencyMs(this.#machine, this.#other.#machine);
  }

  /** Puts on the way what the other end's receive buffer has room for. */
  #transmit(): void {
    const { prng, options } = this.#network;
    const other = this.#other;
    while (this.#sendQueue.length > 0) {
      const first = this.#sendQueue[0]!;
      if (typeof first === "string") {
        this.#sendQueue.shift();
        this.#launch(first);
        continue;
      }
      const room = other.#gone
        ? first.length
        : options.receiveBufferBytes - other.#receivedBytes - other.#inFlightBytes;
      if (room <= 0) return;
      const length = segmentLength(prng, Math.min(first.length, room, PIECE_BYTES_MAX), options.cutOneIn);
      other.#inFlightBytes += length;
      if (length === first.length) {
        this.#sendQueue.shift();
        this.#launch(first);
      } else {
        this.#sendQueue[0] = first.subarray(length);
        this.#launch(first.subarray(0, length));
      }
    }
  }

  #launch(segment: Segment): void {
    this.#transit.push(segment);
    this.#scheduleArrival(0);
  }

  #scheduleArrival(delayMs: Millis): void {
    const { scheduler } = this.#network;
    const atMs = Math.max(this.#lastArrivalMs, scheduler.nowMs + delayMs + this.#latencyMs());
    this.#lastArrivalMs = atMs;
    scheduler.at(atMs, null, "segment", this.#arrive);
  }

  readonly #arrive = (): void => {
    if (this.#isBlocked()) {
      this.#stalledArrivals++;
      return;
    }
    const segment = this.#transit.shift();
    if (segment === undefined) return;
    this.#network.onArrival?.(this.#connection, this.#side, segment);
    this.#deliver(segment);
  };

  #deliver(segment: Segment): void {
    const other = this.#other;
    if (segment === "open") {
      const opened = other.#opened;
      other.#opened = null;
      if (other.#gone) other.#sendReset();
      else opened?.();
      return;
    }
    if (segment === "end") {
      this.#endDelivered = true;
      other.#endReceived = true;
      this.#forgetWhenDone();
      if (other.#reader !== null) other.#wakeReader();
      return;
    }
    this.#network.scheduler.noteBytes(segment);
    other.#inFlightBytes -= segment.length;
    if (other.#gone) {
      other.#sendReset();
      return;
    }
    other.#received.push(segment);
    other.#receivedBytes += segment.length;
    if (other.#reader !== null) other.#wakeReader();
    if (other.#isBlocked()) this.#ackHeldBytes += segment.length;
    else this.#acked(segment.length);
  }

  #acked(bytes: number): void {
    this.#unackedBytes -= bytes;
    if (this.#writer !== null) this.#wakeWriter();
  }

  #wakeReader(): void {
    if (this.#readerScheduled || this.#reader === null) return;
    this.#readerScheduled = true;
    this.#process.later("read", this.#handOut);
  }

  readonly #handOut = (): void => {
    this.#readerScheduled = false;
    const reader = this.#reader;
    if (reader === null) return;
    if (this.#over === "closed") {
      this.#reader = null;
      reader.reject(this.#error("read from", 0));
    } else if (this.#receivedBytes > 0) {
      if (this.#callFails("read")) return;
      this.#reader = null;
      const piece = this.#takePiece();
      this.#network.onRead?.(this.#connection, this.#side, piece);
      this.#lastPiece = piece;
      // Room in the receive buffer lets the other end go on, if it hears of it.
      if (!this.#isBlocked()) this.#other.#transmit();
      reader.resolve(piece);
    } else if (this.#over === "reset") {
      this.#reader = null;
      reader.reject(this.#error("read from", 0));
    } else if (this.#endReceived) {
      this.#reader = null;
      reader.resolve(null);
    }
  };

  /** All that is there up to 64 KiB, now and then less. */
  #takePiece(): Uint8Array {
    const { prng } = this.#network;
    let length = Math.min(this.#receivedBytes, PIECE_BYTES_MAX);
    if (length > 1 && prng.chance(8)) length = 1 + prng.int(length - 1);
    // Segments are copies that belong to nobody else, so a whole one can be handed out as it is.
    if (this.#received[0]!.length === length) {
      this.#receivedBytes -= length;
      return this.#received.shift() as Uint8Array;
    }
    const piece = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const first = this.#received[0]!;
      const part = first.length <= length - filled ? first : first.subarray(0, length - filled);
      piece.set(part, filled);
      filled += part.length;
      if (part === first) this.#received.shift();
      else this.#received[0] = first.subarray(part.length);
    }
    this.#receivedBytes -= length;
    return piece;
  }

  #wakeWriter(): void {
    if (this.#writerScheduled || this.#writer === null) return;
    this.#writerScheduled = true;
    this.#process.later("write", this.#take);
  }

  /** The kernel takes from the writer what the send buffer has room for. */
  readonly #take = (): void => {
    this.#writerScheduled = false;
    const writer = this.#writer;
    if (writer === null) return;
    if (this.#over !== null || this.#gone) {
      this.#writer = null;
      writer.reject(this.#error("write to", writer.taken));
      return;
    }
    if (this.#callFails("write")) return;
    const room = this.#network.options.sendBufferBytes - this.#unackedBytes;
    const length = Math.min(room, writer.bytes.length - writer.taken);
    if (length > 0) {
      const isWhole = length === writer.bytes.length;
      const part = isWhole ? writer.bytes : writer.bytes.subarray(writer.taken, writer.taken + length);
      this.#sendQueue.push(new Uint8Array(part));
      writer.taken += length;
      this.#unackedBytes += length;
      this.#transmit();
    }
    if (writer.taken < writer.bytes.length) return;
    this.#writer = null;
    if (this.#endAsked) this.#sendEnd();
    writer.resolve();
  };

  /** A call that fails leaves a connection that is of no use: both ends find it cut. */
  #callFails(call: "read" | "write"): boolean {
    const { callFault } = this.#network;
    if (callFault === null || callFault(this.#machine.name, call) === null) return false;
    this.#network.cut((connection) => connection === this.#connection);
    return true;
  }

  #error(attempt: string, bytesTaken: number): NetError {
    return netError(this.#over ?? "closed", `Cannot ${attempt} ${addressText(this.peer)}`, bytesTaken);
  }
}
