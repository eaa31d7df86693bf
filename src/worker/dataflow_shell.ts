/**
 * Puts the dataflow of one worker between its connectors and the data channel: sources hand chunks in, exchanges go to and
 * come from other workers, sinks take what comes out. It composes what has files of its own: the sources (`sources.ts`), dead
 * letters that come again (`letters_in.ts`), user code that throws (`user_errors.ts`), who must wait (`back_pressure.ts`), and
 * the end (`drain.ts`).
 *
 *   W1. An input (a source, or an exchange from one peer) is taken in only while everything that it reaches can take more:
 *       what stays here at an exchange goes on behind it in the same call, up to the sinks. What a peer has sent meanwhile
 *       is bounded by its credit. Graphs have no cycles, so that the last to be held back is freed by a sink alone.
 *   W2. Batches of one exchange from one peer are taken in the order they came.
 */

import { assert } from "../base/assert.ts";
import type { Epoch, WorkerName } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { SinkConnector, Vote } from "../connectors/connector.ts";
import { makeSink } from "../connectors/make_sink.ts";
import type { Batch } from "../operators/batch.ts";
import { Dataflow } from "../operators/dataflow.ts";
import { encodeSinkBatch } from "../operators/sink_encoder.ts";
import { SLOW_CODE_MS, type SlowCode } from "../operators/slow_code.ts";
import { assignOwners } from "../plan/key_groups.ts";
import type { Plan, PlannedSink, Reach } from "../plan/plan.ts";
import type { RegistryRequest } from "../protocol/connector/stream_registry.ts";
import type { ClusterInformation } from "../protocol/membership/membership.ts";
import type { Millis, Runtime } from "../runtime/runtime.ts";
import type { DrainReport } from "../wire/control.ts";
import { ColumnSpace, type DataBatchColumns, decodeDataBatch } from "../wire/data_batch.ts";
import { BackPressure } from "./back_pressure.ts";
import type { BatchLinks } from "./batch_links.ts";
import type { WorkerConfig } from "./config.ts";
import type { WorkerHooks } from "./crash_points.ts";
import { DEAD_LETTERS, type DeadLetters } from "./dead_letters.ts";
import { Drain } from "./drain.ts";
import { FineWallClock } from "./fine_wall_clock.ts";
import { Inlet } from "./inlet.ts";
import { LettersIn } from "./letters_in.ts";
import { Outlet } from "./outlet.ts";
import { type SourceMeter, Sources } from "./sources.ts";
import { UserErrors } from "./user_errors.ts";

/** Who decides what is held back for a barrier: the checkpoints (`checkpointing.ts`). */
export interface BarrierGate {
  /**
   * Sources must hand on nothing: between a barrier and its cut it would be behind the barrier, and within the position that
   * is saved; in a recovery it would go into state that is being restored.
   */
  readonly closed: "for_a_cut" | "for_a_recovery" | null;
  holds(from: WorkerName, exchange: number): boolean;
  barrier(from: WorkerName, exchange: number, epoch: Epoch): void;
}

const OPEN_GATE: BarrierGate = { closed: null, holds: () => false, barrier: () => {} };

/** Where sources and sinks of a worker stand at a cut; plain data, by source name and by sink id. */
export interface Positions {
  readonly sources: Readonly<Record<string, unknown>>;
  readonly sinks: Readonly<Record<string, unknown>>;
  /** Of the file of dead letters. */
  readonly deadLetters: unknown;
}

/** What is timed, once a batch. Nanoseconds are per record. */
export interface DataflowMeter extends SourceMeter {
  stage(stage: number, pipeline: number, records: number, nanos: number): void;
  /** Records reached a sink: since their source read them. */
  finished(pipeline: number, records: number, nanos: number): void;
  /** Records left this worker, to a sink or another worker: since they came in here. */
  left(pipeline: number, records: number, nanos: number): void;
}

export interface DataflowShellOptions {
  readonly config: WorkerConfig;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly plan: Plan;
  readonly meter: DataflowMeter;
  /** User code ran for long, while nothing else could happen. */
  readonly slowCode: (slow: SlowCode) => void;
  readonly turn: (run: () => void) => void;
  /** Every sink has connected once. */
  readonly sinksConnected: () => void;
  readonly drained: (report: DrainReport) => void;
  /** A sink answers `prepare`. */
  readonly voted: (sink: string, epoch: Epoch, vote: Vote) => void;
  readonly reached: WorkerHooks["reached"];
  /** Something may be free again: dead letters that wait may go in. */
  readonly letIn: () => void;
  /** To the registry of a connector source's streams; the answer comes back through `sources.answered`. */
  readonly toRegistry: (source: number, request: RegistryRequest) => void;
}

export class DataflowShell {
  readonly #options: DataflowShellOptions;
  readonly sources: Sources;
  readonly letters: LettersIn;
  readonly drain: Drain;
  readonly #pressure: BackPressure;
  readonly #sinks: SinkConnector[];
  readonly #inlets: Inlet[];
  /** Batches from peers are taken in one after the other. */
  readonly #space = new ColumnSpace();
  #dataflow: Dataflow | null = null;
  #links: BatchLinks | null = null;
  #outlet: Outlet | null = null;
  #members: readonly WorkerName[] = [];
  /** Something became free, or arrived: look again at the end of the turn. */
  #lookAgain = false;
  #sinksStarted = false;
  #sinksToldConnected = false;
  readonly #wallClock: FineWallClock;
  /** When what is being processed came into this worker; wall clock. */
  #ingressMs: Millis = 0;
  /** Sources stand still: for a cut, or while the cluster recovers. */
  #still = false;
  #opened = false;
  readonly #userErrors: UserErrors;
  #cluster: ClusterInformation | null = null;
  gate: BarrierGate = OPEN_GATE;
  #deadLetters: DeadLetters | null = null;
  malformedBatches = 0;

  constructor(options: DataflowShellOptions) {
    this.#options = options;
    const { config, log, plan, runtime } = options;
    this.#wallClock = new FineWallClock(runtime.clock);
    this.#userErrors = new UserErrors({
      plan,
      worker: config.name,
      clock: runtime.clock,
      log,
      keep: (letter) => this.#deadLetters?.add(letter) ?? false,
    });
    this.sources = new Sources({
      ...options,
      wallClock: this.#wallClock,
      userErrors: this.#userErrors,
      blocked: (source) => this.#still || this.#pressure.onSource(source),
      handOn: (source, batch) => {
        this.#ingressMs = batch.arrivalMs;
        this.#dataflow!.fromSource(source, batch);
      },
      workerCount: () => this.#members.length,
    });
    this.letters = new LettersIn({
      plan,
      sources: this.sources,
      userErrors: this.#userErrors,
      wallClock: this.#wallClock,
      mayHandOn: (reach) => this.#mayHandOn(reach),
      handOn: (batch, into) => {
        this.#ingressMs = batch.arrivalMs;
        into(this.#dataflow!);
      },
      ending: () => this.drain.begun,
      wake: () => this.wake(),
    });
    this.#sinks = plan.sinks.map((sink) => this.#makeSink(sink));
    this.#inlets = plan.exchanges.map(() => new Inlet());
    this.drain = new Drain({
      worker: config.name,
      plan,
      clock: runtime.clock,
      turn: options.turn,
      inlets: this.#inlets,
      sinks: this.#sinks,
      closeSources: () => this.sources.close(this.gate.closed === null),
      cutting: () => this.gate.closed === "for_a_cut",
      wake: () => this.wake(),
      drained: options.drained,
    });
    this.#pressure = new BackPressure({ plan, sinks: this.#sinks, drain: this.drain });
  }

  /** On how many records user code threw. */
  get userErrors(): number {
    return this.#userErrors.count;
  }

  get dataflow(): Dataflow | null {
    return this.#dataflow;
  }

  get sinks(): readonly SinkConnector[] {
    return this.#sinks;
  }

  /**
   * The cluster is known: makes the operators, with empty state.
   *
   * @param deadLetters Null: what user code refuses is only counted.
   */
  install(cluster: ClusterInformation, links: BatchLinks, deadLetters: DeadLetters | null): void {
    assert(this.#dataflow === null);
    const { config, plan } = this.#options;
    this.#cluster = cluster;
    this.#members = cluster.members.map((member) => member.name);
    const peers = this.#members.filter((name) => name !== config.name);
    this.#links = links;
    this.#outlet = new Outlet({
      plan,
      links,
      userErrors: this.#userErrors,
      frameBytesMax: config.limits.dataFrameBytes,
    });
    this.drain.install(links, peers);
    this.#pressure.install({ links, peers, deadLetters });
    this.#deadLetters = deadLetters;
    this.#dataflow = this.#makeDataflow(cluster);
  }

  #makeDataflow(cluster: ClusterInformation): Dataflow {
    const { config, plan, runtime, meter } = this.#options;
    return new Dataflow(plan, {
      self: this.#members.indexOf(config.name),
      workerCount: this.#members.length,
      owners: assignOwners(this.#members.length, cluster.keyGroupCount),
      sendRemote: (exchange, worker, batch) => {
        meter.left(batch.pipeline, batch.count, this.#nanosSince(this.#ingressMs));
        this.#outlet!.send(this.#members[worker]!, exchange, batch);
      },
      writeSink: (sink, batch) => this.#writeSink(sink, batch),
      userError: (error) => this.#userErrors.threw(error),
      slowCode: (slow) => this.#options.slowCode(slow),
      nowMs: () => runtime.clock.monotonicMs(),
      stageTimed: (stage, pipeline, records, nanos) => meter.stage(stage, pipeline, records, nanos),
    });
  }

  /** Sources stand still, or go on. */
  standStill(still: boolean): void {
    this.#still = still;
    this.#lookAgain = true;
  }

  /** The cut: everything in this worker stands still at this moment. Sinks begin to prepare. */
  cut(epoch: Epoch): Positions {
    const sources = this.sources.snapshot(epoch);
    const sinks: Record<string, unknown> = {};
    for (const sink of this.#sinks) {
      if (sink.transactions === undefined) continue;
      sink.transactions.prepare(epoch);
      sinks[sink.name] = sink.transactions.snapshot();
    }
    this.#deadLetters?.prepare(epoch);
    return { sources, sinks, deadLetters: this.#deadLetters?.snapshot() ?? 0 };
  }

  /** Whoever votes for each cut, by name. */
  get voters(): readonly string[] {
    const sinks = this.#sinks.filter((sink) => sink.transactions !== undefined).map((sink) => sink.name);
    return this.#deadLetters === null ? sinks : [...sinks, DEAD_LETTERS];
  }

  /** The epoch exists in the whole cluster. */
  commit(epoch: Epoch): void {
    for (const sink of this.#sinks) sink.transactions?.commit(epoch);
    this.sources.acknowledge(epoch);
    this.#lookAgain = true;
  }

  /** The epoch will not exist. */
  abort(epoch: Epoch): void {
    for (const sink of this.#sinks) sink.transactions?.abort(epoch);
    this.#lookAgain = true;
  }

  /** Drops what is in flight and what is in memory, and makes operators with empty state. */
  startOver(): Dataflow {
    const links = this.#links!;
    for (const [exchange, inlet] of this.#inlets.entries()) {
      inlet.reset((from, byteCount) => links.release(from, exchange, byteCount));
    }
    this.#dataflow = this.#makeDataflow(this.#cluster!);
    return this.#dataflow;
  }

  /**
   * Sources and sinks go back to where they stood at the cut of this epoch; null: to the beginning.
   *
   * @param restarted Not yet gone back in this process, and there was one before it.
   */
  goBack(epoch: Epoch, positions: Positions | null, restarted: boolean): void {
    this.sources.goBack(positions?.sources ?? null, restarted);
    for (const sink of this.#sinks) sink.transactions?.rollBack(epoch, positions?.sinks[sink.name] ?? null);
    this.#deadLetters?.goBack(positions?.deadLetters ?? 0);
    this.#lookAgain = true;
  }

  /** Phase II: sinks connect. */
  startSinks(): void {
    this.sources.announce();
    this.#sinksStarted = true;
    for (const sink of this.#sinks) sink.start();
    this.#lookAgain = true;
  }

  /** Phase IV: sources read. */
  open(): void {
    if (this.drain.begun) return;
    this.#opened = true;
    this.#lookAgain = true;
    this.sources.open();
  }

  /** Looks again, at the end of this turn, at what was held back. */
  wake(): void {
    this.#lookAgain = true;
  }

  #mayHandOn(reach: Reach): boolean {
    if (this.#dataflow === null || !this.#opened || this.#still || this.gate.closed !== null || this.drain.begun)
      return false;
    return !this.#pressure.on(reach);
  }

  batch(from: WorkerName, exchange: number, bytes: Uint8Array): void {
    const inlet = this.#inlets[exchange];
    if (inlet === undefined) return this.#malformed(from, `exchange ${exchange} is not in the plan`);
    if (inlet.waitsFor(from) || !this.#mayTake(exchange, from)) {
      // Its place is among bytes that will be overwritten.
      inlet.push(from, { kind: "batch", bytes: bytes.slice() });
      return this.#takeIn(exchange);
    }
    this.#fromPeer(exchange, from, bytes);
    this.#links!.release(from, exchange, bytes.length);
  }

  #mayTake(exchange: number, from: WorkerName): boolean {
    return this.#dataflow !== null && !this.gate.holds(from, exchange) && !this.#pressure.onExchange(exchange);
  }

  endOfInput(from: WorkerName, exchange: number): void {
    if (this.#inlets[exchange] !== undefined) this.drain.ended(from, exchange);
  }

  /** Behind everything that this peer has sent on this exchange so far. */
  barrier(from: WorkerName, exchange: number, epoch: Epoch): void {
    const inlet = this.#inlets[exchange];
    if (inlet === undefined) return this.#malformed(from, `exchange ${exchange} is not in the plan`);
    inlet.push(from, { kind: "barrier", epoch });
    this.#lookAgain = true;
  }

  creditChanged(): void {
    this.#lookAgain = true;
  }

  /** At the end of every turn. */
  flush(): void {
    // A drain waits for acknowledgements too, which come with any turn.
    if (this.drain.underWay) this.#lookAgain = true;
    // What is taken in now may fill or free something else, so look until nothing changes; each round consumes input.
    while (this.#lookAgain) {
      this.#lookAgain = false;
      if (this.#dataflow !== null) {
        for (let exchange = 0; exchange < this.#inlets.length; exchange++) this.#takeIn(exchange);
        this.sources.resume();
        this.#options.letIn();
      }
      this.#judgeSinks();
      this.drain.advance();
    }
    for (const sink of this.#sinks) sink.flush();
  }

  /** Is all visible that checkpoints have decided? */
  get settled(): boolean {
    return this.#sinks.every((sink) => sink.transactions?.settled !== false);
  }

  /** Sinks that are away, in words; null: none is. */
  waitingFor(): string | null {
    if (this.#dataflow === null || !this.#sinksStarted) return null;
    const away = this.#sinks.filter((sink) => !sink.connected && !sink.finished).map((sink) => sink.target);
    return away.length === 0 ? null : `waiting for sink ${away.join(", ")}`;
  }

  /** Who is kept from reading, by what; for status. */
  muted(): ReturnType<BackPressure["muted"]> {
    return this.#pressure.muted();
  }

  /** Everything off. A record that is on its way to a sink gets a moment to arrive whole. */
  async close(graceMs: Millis): Promise<void> {
    this.drain.close();
    const closing = this.#sinks.map((sink) => sink.close(graceMs));
    for (const closed of closing) await closed;
    await this.#deadLetters?.close();
  }

  #makeSink({ id, output, definition }: PlannedSink): SinkConnector {
    const { config, plan, runtime, log, turn } = this.#options;
    return makeSink(definition, {
      runtime,
      log,
      application: plan.application,
      worker: config.name,
      clusterId: () => this.#cluster!.clusterId,
      name: id,
      output,
      outputs: config.outputs,
      queueBytesMax: config.limits.sinkQueueBytes,
      checkpoints: config.checkpoints.intervalMs !== null,
      turn,
      changed: () => {
        this.#lookAgain = true;
      },
      voted: (epoch, vote) => this.#options.voted(id, epoch, vote),
      reached: (step) => this.#options.reached(`sink.${step}`),
    });
  }

  #takeIn(exchange: number): void {
    if (this.#dataflow === null) return;
    const inlet = this.#inlets[exchange]!;
    const { gate } = this;
    inlet.drain(
      // A barrier is no record: it goes on whatever is blocked, unless its peer's input is held for an earlier one.
      (from, next) => !gate.holds(from, exchange) && (next.kind === "barrier" || !this.#pressure.onExchange(exchange)),
      (from, arrival) => {
        if (arrival.kind === "barrier") return gate.barrier(from, exchange, arrival.epoch);
        this.#fromPeer(exchange, from, arrival.bytes);
        this.#links!.release(from, exchange, arrival.bytes.length);
      },
    );
  }

  #fromPeer(exchange: number, from: WorkerName, bytes: Uint8Array): void {
    let columns: DataBatchColumns;
    try {
      columns = decodeDataBatch(bytes, undefined, this.#dataflow!.knownKeys(exchange), this.#space);
    } catch (error) {
      return this.#malformed(from, error instanceof Error ? error.message : String(error));
    }
    const keyed = this.#options.plan.exchanges[exchange]!.kind !== "rebalance";
    if (columns.exchange !== exchange || columns.pipeline >= this.#options.plan.sources.length) {
      return this.#malformed(from, `it is for exchange ${columns.exchange}, pipeline ${columns.pipeline}`);
    }
    if (columns.count > 0 && keyed !== columns.keys.length > 0) {
      return this.#malformed(from, keyed ? "it has no keys" : "it has keys");
    }
    this.#ingressMs = this.#wallClock.nowMs();
    this.#dataflow!.fromExchange(exchange, columns);
  }

  #writeSink(sink: number, batch: Batch): void {
    const planned = this.#options.plan.sinks[sink]!;
    const { clock } = this.#options.runtime;
    const before = clock.monotonicMs();
    const records = encodeSinkBatch(planned, batch, (error) =>
      this.#userErrors.threw({ ...error, origin: this.#dataflow!.originOf(error.origin!) }),
    );
    const ms = clock.monotonicMs() - before;
    if (ms >= SLOW_CODE_MS) {
      this.#options.slowCode({ stage: planned.id, during: "encode", records: batch.count, ms, slowest: null });
    }
    this.#sinks[sink]!.write(records);
    const { meter } = this.#options;
    meter.finished(batch.pipeline, batch.count, this.#nanosSince(batch.arrivalMs));
    meter.left(batch.pipeline, batch.count, this.#nanosSince(this.#ingressMs));
  }

  /** Of the wall clock, which may step: never negative. */
  #nanosSince(wallMs: Millis): number {
    return Math.max(0, (this.#wallClock.nowMs() - wallMs) * 1e6);
  }

  #judgeSinks(): void {
    if (this.#sinksToldConnected || !this.#sinks.every((sink) => sink.everConnected)) return;
    if (this.#dataflow === null) return;
    this.#sinksToldConnected = true;
    this.#options.sinksConnected();
  }

  #malformed(from: WorkerName, why: string): void {
    this.malformedBatches++;
    this.#options.log.error("batch_malformed", `A batch from worker ${from} was dropped: ${why}`);
  }
}
