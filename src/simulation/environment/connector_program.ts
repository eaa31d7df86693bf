/**
 * A connector program, as the worker's peer: a strict one, which notices when a worker says what it must not say. In two
 * parts: `ClientSession` is one connection without I/O, `ConnectorClient` drives it over a `Runtime`, real or virtual, with
 * the habits of the reference's client: it reconnects after a cut, and starts again after a RESTART.
 *
 *   - It sends MESSAGE only with credit, NOTIFY always; its count may become negative.
 *   - A refused NOTIFY is tried again when the next ACK arrives.
 *   - A stream is finished when an ACK carries exactly the point that it had at its end; a larger one is an error.
 *   - What was ever acknowledged is forgotten: it must never be asked for again.
 */
import type { Address, Conn, Runtime } from "../../runtime/runtime.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import {
  type ConnectorFrame,
  decodeConnectorFrame,
  encodeConnectorFrame,
  NOTHING_COVERED,
  SOURCE_VERSION,
} from "../../wire/connector.ts";
import { FrameSplitter } from "../../wire/frame.ts";

/** One stream and all its records, which a program can make again whenever it is asked to. */
export interface ClientStream {
  readonly id: bigint;
  readonly name: string;
  /** Ids of the records, ascending. */
  readonly ids: readonly bigint[];
  readonly key?: string;
  body(index: number): Uint8Array;
  /** Whether the end may be said behind the last record. Default: yes. */
  readonly ends?: () => boolean;
}

/** What a program remembers of a stream between connections; a restarted program has a new one. */
export interface StreamMemory {
  /** Acknowledged, and so forgotten. -1: nothing. */
  acked: bigint;
  finished: boolean;
}

export interface ClientOptions {
  readonly cookie: string;
  readonly program?: string;
  readonly instance?: string;
  readonly streams: readonly ClientStream[];
}

type StreamPhase = "closed" | "notified" | "refused" | "open" | "ended";

interface StreamState {
  readonly spec: ClientStream;
  readonly memory: StreamMemory;
  phase: StreamPhase;
  /** Index of the record to send next. */
  next: number;
  /** Highest id that was sent on this connection, or the point that it was opened with. */
  through: bigint;
}

const UTF8 = new TextEncoder();

export class ClientMemory {
  readonly #streams = new Map<bigint, StreamMemory>();

  of(stream: bigint): StreamMemory {
    let memory = this.#streams.get(stream);
    if (memory === undefined) {
      memory = { acked: -1n, finished: false };
      this.#streams.set(stream, memory);
    }
    return memory;
  }
}

export class ClientSession {
  readonly out = new ByteWriter();
  readonly #splitter = new FrameSplitter({ lengthMax: 1 << 20 });
  readonly #streams = new Map<bigint, StreamState>();
  #phase: "handshake" | "streaming" | "over" = "handshake";
  credits = 0;
  /** Set by RESTART: where to connect; empty: to the same address. */
  restart: string | null = null;
  /** What the worker said in ERROR. */
  error: string | null = null;
  /** What the worker did that it must not do. */
  readonly violations: string[] = [];
  /** Frames that came, for tests that look at them. */
  readonly received: ConnectorFrame[] = [];
  keepReceived = false;
  /** Called for each NOTIFY_ACK that succeeds and each point of an ACK, with the point, -1 for none. */
  told: (stream: bigint, point: bigint) => void = () => {};

  constructor(options: ClientOptions, memory: ClientMemory) {
    for (const spec of options.streams) {
      this.#streams.set(spec.id, { spec, memory: memory.of(spec.id), phase: "closed", next: 0, through: -1n });
    }
    const { cookie, program = "program", instance = "instance" } = options;
    this.#send({ kind: "hello", version: SOURCE_VERSION, cookie: UTF8.encode(cookie), program, instance });
  }

  get over(): boolean {
    return this.#phase === "over";
  }

  get streaming(): boolean {
    return this.#phase === "streaming";
  }

  /** Every stream's end was acknowledged. */
  get finished(): boolean {
    for (const { memory } of this.#streams.values()) if (!memory.finished) return false;
    return true;
  }

  phaseOf(stream: bigint): StreamPhase {
    return this.#streams.get(stream)!.phase;
  }

  receive(bytes: Uint8Array): void {
    this.#splitter.push(bytes);
    const splitter = this.#splitter;
    for (let i = 0; i < splitter.count && this.#phase !== "over"; i++) {
      const frame = decodeConnectorFrame(splitter.bytes.slice(splitter.starts[i]!, splitter.ends[i]!));
      if (this.keepReceived) this.received.push(frame);
      this.#frame(frame);
    }
  }

  /** Sends at most so many records, in turn from all streams, and the ends that are due. */
  pump(messagesMax: number): void {
    if (this.#phase !== "streaming") return;
    let left = messagesMax;
    let progress = true;
    while (progress) {
      progress = false;
      for (const state of this.#streams.values()) {
        if (state.phase !== "open") continue;
        const { spec } = state;
        if (state.next === spec.ids.length) {
          if (spec.ends !== undefined && !spec.ends()) continue;
          this.#send({ kind: "end_of_stream", stream: spec.id });
          state.phase = "ended";
          progress = true;
        } else if (left > 0 && this.credits > 0) {
          const id = spec.ids[state.next]!;
          const key = UTF8.encode(spec.key ?? "");
          this.#send({ kind: "message", stream: spec.id, id, eventTime: 0n, key, body: spec.body(state.next) });
          state.next++;
          state.through = id;
          this.credits--;
          left--;
          progress = true;
        }
      }
    }
  }

  #frame(frame: ConnectorFrame): void {
    switch (frame.kind) {
      case "ok":
        if (this.#phase !== "handshake") return this.#violation("OK came twice");
        this.#phase = "streaming";
        this.credits = frame.credits;
        for (const state of this.#streams.values()) if (!state.memory.finished) this.#notify(state);
        return;
      case "error":
        this.error = frame.text;
        this.#phase = "over";
        return;
      case "restart":
        this.restart = frame.address;
        this.#phase = "over";
        return;
      case "notify_ack":
        if (this.#phase !== "streaming") return this.#violation("NOTIFY_ACK came before OK");
        return this.#notifyAck(frame);
      case "ack":
        if (this.#phase !== "streaming") return this.#violation("ACK came before OK");
        this.credits += frame.credits;
        for (const { stream, point } of frame.points) this.#acked(stream, point);
        for (const state of this.#streams.values()) if (state.phase === "refused") this.#notify(state);
        return;
      default:
        this.#violation(`${frame.kind} came`);
    }
  }

  #notify(state: StreamState): void {
    const { id, name } = state.spec;
    const point = state.memory.acked < 0n ? 0n : state.memory.acked;
    this.#send({ kind: "notify", stream: id, name: UTF8.encode(name), point });
    this.credits--;
    state.phase = "notified";
  }

  #notifyAck({ success, stream, point }: ConnectorFrame & { kind: "notify_ack" }): void {
    const state = this.#streams.get(stream);
    if (state?.phase !== "notified") return this.#violation(`NOTIFY_ACK of stream ${stream}, which was not notified`);
    if (!success) {
      state.phase = "refused";
      return;
    }
    const covered = point === NOTHING_COVERED ? -1n : point;
    this.told(stream, covered);
    if (covered < state.memory.acked) {
      return this.#violation(`stream ${stream} begins behind ${covered}, and ${state.memory.acked} was acknowledged`);
    }
    state.memory.acked = covered;
    state.phase = "open";
    state.through = covered;
    const next = state.spec.ids.findIndex((id) => id > covered);
    state.next = next < 0 ? state.spec.ids.length : next;
  }

  #acked(stream: bigint, wire: bigint): void {
    const state = this.#streams.get(stream);
    const point = wire === NOTHING_COVERED ? -1n : wire;
    if (state === undefined || (state.phase !== "open" && state.phase !== "ended")) {
      return this.#violation(`ACK of stream ${stream}, which is ${state?.phase ?? "unknown"}`);
    }
    if (wire === NOTHING_COVERED && state.phase === "open") {
      return this.#violation(`ACK says that nothing is covered of the open stream ${stream}`);
    }
    this.told(stream, point);
    if (point < state.memory.acked)
      this.#violation(`stream ${stream} was acknowledged to ${state.memory.acked}, then ${point}`);
    if (point > state.through)
      this.#violation(`stream ${stream} was acknowledged to ${point} and sent to ${state.through}`);
    state.memory.acked = point;
    if (state.phase === "ended" && point === state.through) {
      state.memory.finished = true;
    }
  }

  #violation(what: string): void {
    this.violations.push(what);
    this.#phase = "over";
  }

  #send(frame: ConnectorFrame): void {
    encodeConnectorFrame(frame, this.out);
  }
}

/** The reference's multi-source client, over a `Runtime`: runs until all streams are finished, or `stop`. */
export class ConnectorClient {
  readonly #runtime: Runtime;
  readonly #options: ClientOptions;
  #memory = new ClientMemory();
  #stopped = false;
  #paused = false;
  #conn: Conn | null = null;
  session: ClientSession | null = null;
  /** Records in a write at most. */
  messagesMax = 100;
  /** Between writes. */
  paceMs = 1;
  /** A worker that says nothing for so long is taken for gone: its machine may be without power. */
  silenceMs = Number.POSITIVE_INFINITY;
  #heardMs = 0;
  #tries = 0;
  connections = 0;
  restarts = 0;
  readonly violations: string[] = [];
  readonly errors: string[] = [];
  told: ClientSession["told"] = () => {};
  /** Where its n-th connection goes, from 0; null: to `address`. */
  addressOf: ((connection: number) => Address) | null = null;
  /** Where it goes; changed by a RESTART that names an address, if `follows`. */
  address: Address;
  follows = false;

  constructor(runtime: Runtime, address: Address, options: ClientOptions) {
    this.#runtime = runtime;
    this.address = address;
    this.#options = options;
  }

  get finished(): boolean {
    return this.session?.finished === true;
  }

  /** Until it is finished or stopped. */
  async run(): Promise<void> {
    while (!this.#stopped && !this.finished) {
      const { session } = this;
      if (!this.#paused) await this.#connectOnce();
      // At once after a first cut, then every second, as the reference does.
      if (!this.finished && !this.#stopped) await this.#sleep(this.session === session ? 1_000 : 100);
    }
  }

  /** Cuts the present connection. */
  cut(): void {
    this.#conn?.abort();
  }

  /** The program dies and is started again, with nothing that it knew. */
  forget(): void {
    this.#memory = new ClientMemory();
    this.cut();
  }

  /** Goes away, and stays away until `resume`. */
  pause(): void {
    this.#paused = true;
    this.cut();
  }

  resume(): void {
    this.#paused = false;
  }

  stop(): void {
    this.#stopped = true;
    this.cut();
  }

  async #connectOnce(): Promise<void> {
    let conn: Conn;
    if (this.addressOf !== null) this.address = this.addressOf(this.#tries++);
    try {
      conn = await this.#runtime.net.connect(this.address, { timeoutMs: 2_000 });
    } catch {
      return;
    }
    this.#conn = conn;
    this.connections++;
    const session = new ClientSession(this.#options, this.#memory);
    session.told = (stream, point) => this.told(stream, point);
    this.session = session;
    this.#heardMs = this.#runtime.clock.monotonicMs();
    const reading = this.#read(conn, session);
    try {
      while (!session.over && !session.finished && !this.#stopped && this.#conn === conn) {
        session.pump(this.messagesMax);
        if (session.out.length > 0) await conn.write(session.out.take());
        await this.#sleep(this.paceMs);
        if (this.#runtime.clock.monotonicMs() - this.#heardMs > this.silenceMs) break;
      }
      if (session.finished) conn.end();
    } catch {
      // Cut: it connects anew.
    }
    conn.abort();
    await reading;
    this.#conn = null;
    this.violations.push(...session.violations);
    if (session.error !== null) this.errors.push(session.error);
    if (session.restart === null) return;
    this.restarts++;
    const at = session.restart.lastIndexOf(":");
    if (this.follows && at > 0) {
      this.address = { host: session.restart.slice(0, at), port: Number(session.restart.slice(at + 1)) };
    }
  }

  async #read(conn: Conn, session: ClientSession): Promise<void> {
    try {
      for (;;) {
        const bytes = await conn.read();
        if (bytes === null) break;
        this.#heardMs = this.#runtime.clock.monotonicMs();
        session.receive(bytes);
      }
    } catch {
      // As above.
    }
    if (this.#conn === conn) this.#conn = null;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#runtime.clock.startTimer(ms, resolve);
    });
  }
}
