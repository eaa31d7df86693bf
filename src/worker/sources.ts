/**
 * The sources of one worker: makes their connectors, decodes what they read, and hands batches on, each with where its
 * records were read. What connectors have in common with checkpoints and with the registry of streams goes through here.
 */
import type { Frames } from "../api/tcp_source.ts";
import { showAddress } from "../base/address.ts";
import { ConfigError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { ConnectorStatus, SourceConnector } from "../connectors/connector.ts";
import { ConnectorSourceConnector } from "../connectors/connector_source.ts";
import { makeSource } from "../connectors/make_source.ts";
import { TcpSourceConnector } from "../connectors/tcp_source.ts";
import type { Batch } from "../operators/batch.ts";
import { GeneratorRunner } from "../operators/generator_runner.ts";
import { SLOW_CODE_MS, type SlowCode } from "../operators/slow_code.ts";
import { SourceBatches } from "../operators/source_batch.ts";
import { SourceDecoder } from "../operators/source_decoder.ts";
import type { Plan, PlannedSource } from "../plan/plan.ts";
import type { RegistryAnswer, RegistryRequest } from "../protocol/connector/stream_registry.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { MESSAGE_AT } from "../wire/connector.ts";
import type { LocateRecord, RecordPlace } from "../wire/record_place.ts";
import type { ResentLetter } from "../wire/resend.ts";
import type { WorkerConfig } from "./config.ts";
import type { FineWallClock } from "./fine_wall_clock.ts";
import { listenError } from "./listen_error.ts";
import type { Reading, UserErrors } from "./user_errors.ts";

/** What is timed, once a read. Nanoseconds are per record. */
export interface SourceMeter {
  decoded(pipeline: number, records: number, nanos: number): void;
  ingested(pipeline: number, records: number): void;
}

export interface SourcesOptions {
  readonly config: WorkerConfig;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly plan: Plan;
  readonly meter: SourceMeter;
  readonly turn: (run: () => void) => void;
  readonly wallClock: FineWallClock;
  readonly userErrors: UserErrors;
  readonly slowCode: (slow: SlowCode) => void;
  /** To the registry of a connector source's streams; the answer comes back through `answered`. */
  readonly toRegistry: (source: number, request: RegistryRequest) => void;
  /** Must this source hand on nothing now? */
  readonly blocked: (source: number) => boolean;
  readonly handOn: (source: number, batch: Batch) => void;
  /** How many workers the cluster has: asked for when a generator opens. */
  readonly workerCount: () => number;
}

interface Source {
  readonly planned: PlannedSource;
  /** Null: it decodes nothing. */
  readonly decoder: SourceDecoder | null;
  readonly connector: SourceConnector;
}

export class Sources {
  readonly #options: SourcesOptions;
  readonly #sources: readonly Source[];

  constructor(options: SourcesOptions) {
    this.#options = options;
    this.#sources = options.plan.sources.map((planned) => {
      const { definition, index, name } = planned;
      const userError: UserErrors["threw"] = (error) => options.userErrors.threw(error);
      const decoder =
        definition.kind === "generator" ? null : new SourceDecoder({ index, name, definition }, userError);
      return { planned, decoder, connector: this.#makeConnector(planned, decoder) };
    });
  }

  /** For `tammar query status`: of each, its name and what its connector says. */
  status(): (ConnectorStatus & { readonly name: string })[] {
    return this.#sources.map(({ planned, connector }) => ({ name: planned.name, ...connector.status() }));
  }

  /** Binds addresses, so that a port in use is told before anything else happens. Nothing is read yet. */
  async bind(): Promise<void> {
    const { config, log } = this.#options;
    for (const { planned, connector } of this.#sources) {
      if (!isListening(connector)) continue;
      const address = config.inputs.get(planned.name);
      if (address === undefined) {
        const message = `Source "${planned.name}" has no address: add --in "${planned.name}@HOST:PORT"`;
        throw new ConfigError("source_without_address", message);
      }
      try {
        await connector.listen(address);
      } catch (error) {
        throw listenError("--in", `${planned.name}@${showAddress(address)}`, error);
      }
      log.info(
        "source_bound",
        `${planned.name} source will listen (but not yet) on ${showAddress(connector.address!)}`,
      );
    }
  }

  /** Says where they listen. */
  announce(): void {
    for (const { planned, connector } of this.#sources) {
      if (!isListening(connector)) continue;
      const address = showAddress(connector.address!);
      this.#options.log.info("source_listening", `${planned.name} source is listening on ${address}`);
    }
  }

  open(): void {
    for (const { connector } of this.#sources) connector.open();
  }

  /** What was blocked may be free again. */
  resume(): void {
    for (const { connector } of this.#sources) connector.resume();
  }

  /** No more input; a second time: nothing to say to clients either. See `SourceConnector.close`. */
  close(takeHeld: boolean): void {
    for (const { connector } of this.#sources) connector.close(takeHeld);
  }

  /** Where they stand at the cut of this epoch, by name. */
  snapshot(epoch: Epoch): Record<string, unknown> {
    const positions: Record<string, unknown> = {};
    for (const { planned, connector } of this.#sources) {
      if (connector.checkpoints !== undefined) positions[planned.name] = connector.checkpoints.snapshot(epoch);
    }
    return positions;
  }

  /** @param positions As `snapshot` gave them; null: to the beginning. @param restarted See `SourceCheckpoints.seek`. */
  goBack(positions: Readonly<Record<string, unknown>> | null, restarted: boolean): void {
    for (const { planned, connector } of this.#sources) {
      connector.checkpoints?.seek(positions?.[planned.name] ?? null, restarted);
    }
  }

  acknowledge(epoch: Epoch): void {
    for (const { connector } of this.#sources) connector.checkpoints?.acknowledge(epoch);
  }

  /** The word of the registry on a claim of this source. */
  answered(source: number, answer: RegistryAnswer): void {
    const connector = this.#sources[source]?.connector;
    if (connector instanceof ConnectorSourceConnector) connector.answered(answer);
  }

  /** The registries of streams know nothing of this worker: they have begun anew, without a rollback. */
  registryBegan(): void {
    for (const { connector } of this.#sources) {
      if (connector instanceof ConnectorSourceConnector) connector.registryBegan();
    }
  }

  /**
   * Takes the record of a dead letter in again, as if this source had read it now. Where it was read is for the caller to say.
   *
   * @param value What `letter.value` holds.
   */
  takeAgain(source: number, { bytes, head, time }: ResentLetter, value: unknown): void {
    const { meter, wallClock, handOn } = this.#options;
    const { planned, decoder } = this.#sources[source]!;
    const nowMs = wallClock.nowMs();
    const arrivalMs = time === null ? nowMs : time / 1000;
    let batch: Batch;
    if (bytes === null) batch = decoder!.toBatch([value], arrivalMs);
    else {
      const start = head?.length ?? 0;
      const whole = new Uint8Array(start + bytes.length);
      if (head !== null) whole.set(head);
      whole.set(bytes, start);
      const { definition } = planned;
      if (definition.kind === "connector") definition.message.openChunk(whole, new Uint32Array(1));
      const frame = { count: 1, starts: Uint32Array.of(start), ends: Uint32Array.of(whole.length) };
      batch = decoder!.decode(whole, frame, arrivalMs);
    }
    // For how long it was on its way here.
    batch.arrivalMs = nowMs;
    meter.ingested(source, 1);
    handOn(source, batch);
  }

  #makeConnector(planned: PlannedSource, decoder: SourceDecoder | null): SourceConnector {
    const { config, runtime, log, turn, meter, wallClock, userErrors, blocked, toRegistry } = this.#options;
    const { definition, index, name } = planned;
    const batches = new SourceBatches(index);
    const lengthMax = "lengthMax" in definition ? definition.lengthMax : config.limits.sourceFrameBytes;
    const input = config.inputs.get(name);
    return makeSource(definition, {
      runtime,
      log,
      name,
      turn,
      blocked: () => blocked(index),
      frameBytesMax: input?.frameBytesMax ?? Math.min(lengthMax, config.limits.sourceFrameBytes),
      connectionsMax: this.#connectionsMax(planned),
      // Asked for at Phase IV, when the members are known.
      maker: (generator) =>
        new GeneratorRunner(
          { name, definition: generator },
          { worker: config.name, workers: this.#options.workerCount() },
          // What its functions throw, they throw before anything is handed over.
          (error) => {
            const step = error.origin;
            const locate = (): RecordPlace | null => (step === null ? null : { kind: "generator", step });
            userErrors.reading = { source: name, locate, headOf: null };
            userErrors.threw(error);
            userErrors.reading = null;
          },
        ),
      values: (values, locate) => {
        meter.ingested(index, values.length);
        const batch = batches.byArrival(values, wallClock.nowMs());
        this.#handOn(index, batch, { source: name, locate, headOf: null });
      },
      frames: (bytes, starts, ends, count, locate) =>
        this.#decode(planned, decoder!, bytes, { count, starts, ends }, { source: name, locate, headOf: null }),
      messages: (message, bytes, { count, frames: places, starts, ends }) => {
        message.openChunk(bytes, places);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        const idAt = (at: number) => view.getBigUint64(at).toString();
        const locate: LocateRecord = (record) => {
          const at = places[record]!;
          return { kind: "connector", stream: idAt(at + MESSAGE_AT.stream), message: idAt(at + MESSAGE_AT.id) };
        };
        const headOf = (record: number) => bytes.slice(places[record], starts[record]);
        this.#decode(planned, decoder!, bytes, { count, starts, ends }, { source: name, locate, headOf });
      },
      ...(input?.connector === undefined ? {} : { terms: input.connector }),
      checkpoints: config.checkpoints.intervalMs !== null,
      toRegistry: (request) => toRegistry(index, request),
    });
  }

  #decode(
    { index, name }: PlannedSource,
    decoder: SourceDecoder,
    bytes: Uint8Array,
    frames: Frames,
    reading: Reading,
  ): void {
    const { runtime, meter, userErrors, slowCode, wallClock } = this.#options;
    const { count } = frames;
    const before = runtime.clock.monotonicMs();
    userErrors.reading = reading;
    const batch = decoder.decode(bytes, frames, wallClock.nowMs());
    const ms = runtime.clock.monotonicMs() - before;
    meter.decoded(index, count, (ms * 1e6) / count);
    if (ms >= SLOW_CODE_MS) slowCode({ stage: `${name}/decode`, during: "decode", records: count, ms, slowest: null });
    meter.ingested(index, count);
    const locate: LocateRecord = (record) => reading.locate(decoder.frameOf(record));
    this.#handOn(index, batch, { source: name, locate, headOf: null });
  }

  #handOn(source: number, batch: Batch, reading: Reading): void {
    const { userErrors, handOn } = this.#options;
    userErrors.reading = reading;
    handOn(source, batch);
    userErrors.reading = null;
  }

  #connectionsMax({ definition, name }: PlannedSource): number {
    const { config, plan, log } = this.#options;
    const { sourceConnections, allSourceConnections } = config.limits;
    const wanted = (definition.kind === "tcp" ? definition.connectionsMax : undefined) ?? sourceConnections;
    const listening = plan.sources.filter((source) => listens(source.definition)).length;
    const most = Math.max(1, Math.floor(allSourceConnections / listening));
    if (!listens(definition) || most >= wanted) return wanted;
    log.warn(
      "source_connections_reduced",
      `${name} source: takes at most ${most} connections instead of ${wanted}, since the system lets this process have few ` +
        "files and sockets open: raise the hard limit (ulimit -Hn) for more",
    );
    return most;
  }
}

/** Does the operator give it an address with `--in`? */
function listens({ kind }: PlannedSource["definition"]): boolean {
  return kind === "tcp" || kind === "connector";
}

function isListening(connector: SourceConnector): connector is ConnectorSourceConnector | TcpSourceConnector {
  return connector instanceof TcpSourceConnector || connector instanceof ConnectorSourceConnector;
}
