/**
 * The streams of one connector source on one worker: how far each was taken in, how far a complete checkpoint covers it,
 * and which connection brings it. `SourceConnection` speaks with one client; `StreamRegistry` knows the whole cluster.
 *
 *   idle ──NOTIFY──▶ claiming ──granted──▶ open ──EOS──▶ closing ──covered──▶ idle
 *     ▲                 │ refused            │              │
 *     └─────────────────┴─── connection gone ┴──────────────┘
 *
 * S1. A record is handed on once: its id is above `seen`, which only grows, whichever connection the record comes on. Only a
 *     rollback takes `seen` back, together with the state that the records went into.
 * S2. What a client is told to be covered is covered: by a checkpoint that is complete in the whole cluster, whose barrier
 *     came behind these records. Without checkpoints: at the end of a stream, what was taken in.
 * S3. A client is told about messages alone that it has sent on this connection, or was told about on it before: strict
 *     clients take more for an error.
 * S4. At the end of a stream it stays closed until the first checkpoint is complete whose barrier came behind the end.
 * S5. Every worker saves all streams that it ever took in, also those that others have by now. So the point of a stream in a
 *     checkpoint is the highest that a worker saved: the worker that took in the last record before its barrier either
 *     still owned the stream then, or had given it up (G2 of the registry), and saved it all the same.
 * S6. A worker hands on a record of a stream only while it owns the stream, so that S1 on each worker and G1, G2 of the
 *     registry together are "once" in the cluster: a stream moves when `seen` is covered, and the next owner starts there.
 *
 * Requests for the registry are collected in `takeRequests`; answers come back through `answered`, in any later call.
 */
import { ResilienceError } from "../../base/errors.ts";
import type { Epoch } from "../../base/ids.ts";
import { ByteReader } from "../../wire/byte_reader.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import { NOTHING, type Point } from "../../wire/point.ts";
import type { SourceConnection } from "./source_connection.ts";
import type { CoveredStream, RegistryAnswer, RegistryRequest, RestoredStream } from "./stream_registry.ts";

/** Of one source on one worker; more are refused. */
export const SOURCE_STREAMS_MAX = 65_536;

export interface SourceStreamsOptions {
  /** Off: nothing is covered but by an end of stream, and a reconnecting client begins again. */
  readonly checkpoints: boolean;
  /** Default: `SOURCE_STREAMS_MAX`. */
  readonly streamsMax?: number;
}

/** What is saved with a checkpoint, as plain data for CBOR, which has no integers of 64 bits. */
export interface SourcePosition {
  /** For each stream: u64 id, u64 the last message that was taken in. */
  readonly streams: Uint8Array;
}

const SAVED_STREAM_BYTES = 16;

type StreamState =
  | { readonly kind: "idle" }
  | { readonly kind: "claiming"; readonly claim: number; readonly connection: SourceConnection }
  | { readonly kind: "open"; readonly claim: number; readonly connection: SourceConnection }
  | {
      readonly kind: "closing";
      readonly claim: number;
      readonly connection: SourceConnection;
      /** The end came before the barrier of the last snapshot. */
      inCut: boolean;
    };

const IDLE: StreamState = { kind: "idle" };

/** One stream. A message id is compared with every record, so it is kept in halves: no bigint is made for it. */
export class SourceStream {
  readonly id: bigint;
  state: StreamState = IDLE;
  covered: Point = NOTHING;
  /** `seen` at the barrier of the last snapshot. */
  cut: Point = NOTHING;
  /** Highest message that was handed on; -1, 0: none. */
  seenHigh = -1;
  seenLow = 0;
  /** Highest message that came on the present connection, or the point that it was opened with (S3). */
  throughHigh = -1;
  throughLow = 0;

  constructor(id: bigint) {
    this.id = id;
  }

  get seen(): Point {
    return join(this.seenHigh, this.seenLow);
  }

  set seen(point: Point) {
    this.seenHigh = high(point);
    this.seenLow = low(point);
  }

  get through(): Point {
    return join(this.throughHigh, this.throughLow);
  }

  set through(point: Point) {
    this.throughHigh = high(point);
    this.throughLow = low(point);
  }

  /** What the client may be told now (S2, S3). */
  get acknowledgeable(): Point {
    const { covered, through } = this;
    if (covered > through) return through;
    return covered;
  }
}

export class SourceStreams {
  readonly checkpoints: boolean;
  readonly #streamsMax: number;
  readonly #streams = new Map<bigint, SourceStream>();
  #requests: RegistryRequest[] = [];
  readonly #wanted = new Set<SourceConnection>();
  #claim = 0;
  #cutEpoch: Epoch | null = null;
  /** Messages that had been taken in before. */
  duplicates = 0;
  /** NOTIFYs that were refused. */
  refusals = 0;

  constructor(options: SourceStreamsOptions) {
    this.checkpoints = options.checkpoints;
    this.#streamsMax = options.streamsMax ?? SOURCE_STREAMS_MAX;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Streams that a connection has. */
  countActive(): number {
    let count = 0;
    for (const { state } of this.#streams.values()) if (state.kind !== "idle") count++;
    return count;
  }

  /** What is to be sent to the registry, in order; afterwards it is no longer here. */
  takeRequests(): RegistryRequest[] {
    const requests = this.#requests;
    if (requests.length > 0) this.#requests = [];
    return requests;
  }

  /** Connections with streams that somebody else asks for; afterwards they are no longer here. */
  takeWanted(): SourceConnection[] {
    if (this.#wanted.size === 0) return [];
    const wanted = [...this.#wanted];
    this.#wanted.clear();
    return wanted;
  }

  /**
   * Tells the registry all that is known here: after `seek` by itself, otherwise at the start and when the registry has begun
   * anew. Claims that wait for an answer are made again.
   */
  announce(): void {
    const streams: RestoredStream[] = [];
    const claims: RegistryRequest[] = [];
    for (const stream of this.#streams.values()) {
      const { id, state, covered } = stream;
      const active = state.kind === "open" || state.kind === "closing";
      streams.push({ stream: id, covered, seen: this.#uncovered(stream), claim: active ? state.claim : 0 });
      if (state.kind === "claiming") claims.push({ kind: "claim", claim: state.claim, stream: id });
    }
    this.#requests = [{ kind: "restored", streams }, ...claims];
  }

  /** A connection wants to open a stream. @returns `false`: refused at once. `true`: an answer follows. */
  claim(connection: SourceConnection, id: bigint): boolean {
    let stream = this.#streams.get(id);
    if (stream === undefined) {
      if (this.#streams.size >= this.#streamsMax) return false;
      stream = new SourceStream(id);
      this.#streams.set(id, stream);
    }
    if (stream.state.kind !== "idle") {
      if (stream.state.connection !== connection) this.#wanted.add(stream.state.connection);
      return false;
    }
    const claim = ++this.#claim;
    stream.state = { kind: "claiming", claim, connection };
    this.#requests.push({ kind: "claim", claim, stream: id });
    return true;
  }

  /** The registry's word on a claim. What nobody waits for any more was released already. */
  answered(answer: RegistryAnswer): void {
    const stream = this.#streams.get(answer.stream);
    if (answer.kind === "wanted") {
      if (stream === undefined || stream.state.kind === "idle" || stream.state.claim !== answer.claim) return;
      this.#wanted.add(stream.state.connection);
      return;
    }
    if (stream?.state.kind !== "claiming" || stream.state.claim !== answer.claim) return;
    const { claim, connection } = stream.state;
    if (answer.kind === "refused") {
      stream.state = IDLE;
      this.#dropIfUnknown(stream);
      connection.refused(answer.stream, answer.reason);
      return;
    }
    stream.covered = highest(stream.covered, answer.covered);
    stream.seen = highest(stream.seen, stream.covered);
    stream.through = stream.covered;
    stream.state = { kind: "open", claim, connection };
    connection.granted(stream);
  }

  /** The client ended the stream. @returns whether it is over already, as without checkpoints. */
  end(stream: SourceStream): boolean {
    const { state } = stream;
    if (state.kind !== "open") return false;
    if (this.checkpoints) {
      stream.state = { kind: "closing", claim: state.claim, connection: state.connection, inCut: false };
      return false;
    }
    stream.covered = stream.seen;
    this.release(stream);
    return true;
  }

  /** No connection has it any more. */
  release(stream: SourceStream): void {
    const { state } = stream;
    if (state.kind === "idle") return;
    stream.state = IDLE;
    const { id, covered } = stream;
    this.#requests.push({
      kind: "release",
      claim: state.claim,
      stream: id,
      covered,
      seen: this.#uncovered(stream),
    });
    this.#dropIfUnknown(stream);
  }

  /** A connection is gone. */
  releaseAll(connection: SourceConnection): void {
    this.#wanted.delete(connection);
    for (const stream of this.#streams.values()) {
      if (stream.state.kind !== "idle" && stream.state.connection === connection) this.release(stream);
    }
  }

  /** The barrier of a checkpoint: behind what was handed on, before what follows. */
  snapshot(epoch: Epoch): SourcePosition {
    this.#cutEpoch = epoch;
    const saved = new ByteWriter();
    for (const stream of this.#streams.values()) {
      const point = stream.seen;
      stream.cut = point;
      if (stream.state.kind === "closing") stream.state.inCut = true;
      if (point === NOTHING) continue;
      saved.u64(stream.id);
      saved.u64(point);
    }
    return { streams: saved.take() };
  }

  /**
   * The checkpoint is complete in the whole cluster.
   *
   * @returns whether it is the one of the last snapshot: its connections say so to their clients (`acknowledge`).
   */
  cover(epoch: Epoch): boolean {
    if (epoch !== this.#cutEpoch) return false;
    this.#cutEpoch = null;
    const covered: CoveredStream[] = [];
    for (const stream of this.#streams.values()) {
      if (stream.cut <= stream.covered) continue;
      stream.covered = stream.cut;
      if (stream.state.kind === "idle") covered.push({ stream: stream.id, covered: stream.covered });
    }
    if (covered.length > 0) this.#requests.push({ kind: "covered", streams: covered });
    return true;
  }

  /** A rollback, or the start: goes back to what a snapshot saved. The connections have been told to start again. */
  seek(position: SourcePosition | null): void {
    this.#streams.clear();
    this.#wanted.clear();
    this.#cutEpoch = null;
    const saved = new ByteReader("the position of a connector source", position?.streams ?? new Uint8Array(0));
    while (saved.remaining > 0) {
      const stream = new SourceStream(saved.u64());
      stream.seen = saved.u64();
      stream.covered = stream.seen;
      this.#streams.set(stream.id, stream);
    }
    this.announce();
  }

  /** Without checkpoints nothing that was taken in can be taken back, and a stream may go where it wants. */
  #uncovered(stream: SourceStream): Point {
    return this.checkpoints ? stream.seen : stream.covered;
  }

  #dropIfUnknown(stream: SourceStream): void {
    if (stream.state.kind === "idle" && stream.seenHigh < 0) this.#streams.delete(stream.id);
  }
}

/**
 * Reads what `snapshot` saved, in this or an earlier process.
 *
 * @throws {ResilienceError} `position_invalid`: it is something else.
 */
export function readSourcePosition(saved: unknown): SourcePosition | null {
  if (saved === null) return null;
  const { streams } = (saved ?? {}) as Partial<SourcePosition>;
  if (streams instanceof Uint8Array && streams.length % SAVED_STREAM_BYTES === 0) return { streams };
  throw new ResilienceError(
    "position_invalid",
    "Cannot go on with the streams of a connector source: the saved position is not one of this version",
  );
}

function high(point: Point): number {
  return point < 0n ? -1 : Number(point >> 32n);
}

function low(point: Point): number {
  return point < 0n ? 0 : Number(point & 0xffff_ffffn);
}

function join(high: number, low: number): Point {
  return high < 0 ? NOTHING : (BigInt(high) << 32n) | BigInt(low);
}

function highest(a: Point, b: Point): Point {
  return a > b ? a : b;
}
