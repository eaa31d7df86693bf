/** What a worker is told at its start, checked by the command line (`src/cli/worker_options.ts`) before anything begins. */

import type { Application } from "../api/application.ts";
import type { ConnectorTerms } from "../api/connector_source.ts";
import type { WorkerName } from "../base/ids.ts";
import type { Address, Millis } from "../runtime/runtime.ts";

export interface WorkerConfig {
  readonly role: "initializer" | "worker";
  /** `initializer` for the initializer. */
  readonly name: WorkerName;
  /** How many workers the cluster has, the initializer included; only the initializer knows at first. */
  readonly workerCount: number;
  /**
   * Where this worker's control channel listens (`--control` of the initializer, `--my-control` of others; port 0 and the
   * loopback host where none was given).
   */
  readonly controlListen: Address;
  /** `--data` of the initializer, `--my-data` of others. */
  readonly dataListen: Address;
  /** `--control` of a worker that is not the initializer: where the initializer listens. */
  readonly initializerControl: Address | null;
  /** `--external`. */
  readonly externalListen: Address | null;
  /** `--metrics`. */
  readonly metrics: Address | null;
  /** `--in`, by source name. */
  readonly inputs: ReadonlyMap<string, SourceAddress>;
  /** `--out`, by position. */
  readonly outputs: readonly Address[];
  /** `--resilience-dir`, absolute. */
  readonly resilienceDir: string;
  readonly application: Application;
  /** Values of the application's own options, checked against its specs. */
  readonly applicationOptions: Readonly<Record<string, unknown>>;
  /** Everything that followed the command, for applications that ask for it. */
  readonly rawArguments: readonly string[];
  /** Of the library's sources, lock file and build settings. Hex. */
  readonly buildId: string;
  /** Of every file the application statically imports, packages included; hex. The plan is mixed in by the worker. */
  readonly applicationCodeDigest: string;
  readonly checkpoints: CheckpointSettings;
  readonly timing: Timing;
  readonly limits: Limits;
}

export interface CheckpointSettings {
  /** From the completion of one to the start of the next; null: no checkpoints at all. Only the initializer's counts. */
  readonly intervalMs: Millis | null;
  /** One that is not complete by then is aborted. */
  readonly deadlineMs: Millis;
  /** After so many aborted ones in a row sources stand still, rather than what is not acknowledged growing. */
  readonly failuresMax: number;
  /** `--accept-state-loss`: a worker whose files are lost starts empty. */
  readonly acceptStateLoss: boolean;
  /** `--accept-other-version`: goes on from the last checkpoint of another version of the application, as behind a suspend. */
  readonly acceptOtherVersion: boolean;
  /** `--log-rotation`: the segments of the state log lie in the resilience directory, and none goes before the cluster's end. */
  readonly rotation: LogRotation | null;
}

export interface LogRotation {
  /** `--event-log-file-size`; null: a new file on request alone. */
  readonly fileBytes: number | null;
}

export const DEFAULT_CHECKPOINT_MS: Millis = 1_000;

export const NO_CHECKPOINTS: CheckpointSettings = {
  intervalMs: null,
  deadlineMs: 30_000,
  failuresMax: 5,
  acceptStateLoss: false,
  acceptOtherVersion: false,
  rotation: null,
};

export interface SourceAddress extends Address {
  /** `NAME@HOST:PORT:MAX`: largest frame in bytes; `null`: the source's own. */
  readonly frameBytesMax: number | null;
  /** `NAME@HOST:PORT:COOKIE:MAXCREDITS:REFILLCREDITS`; left out: as the source says. For connector sources alone. */
  readonly connector?: ConnectorTerms;
}

export interface Timing {
  /** A link with nothing to say says so this often. */
  readonly heartbeatMs: Millis;
  /** Silence on a link for so long: the connection is given up and made anew. */
  readonly silenceMs: Millis;
  /** First and last delay between two tries to connect; doubled each time, with jitter. */
  readonly reconnectFirstMs: Millis;
  readonly reconnectMaxMs: Millis;
  /** A handshake must be complete by then, in total. */
  readonly handshakeMs: Millis;
  /** Who waits says for whom, this often. */
  readonly waitingMs: Millis;
  /** A shutdown ends by then, whoever is absent. */
  readonly shutdownMs: Millis;
}

export const DEFAULT_TIMING: Timing = {
  heartbeatMs: 1_000,
  silenceMs: 5_000,
  reconnectFirstMs: 50,
  reconnectMaxMs: 1_000,
  handshakeMs: 5_000,
  waitingMs: 5_000,
  shutdownMs: 8_000,
};

/** Bounds of reliability 5.4 and of the queues; bytes unless said otherwise. */
export interface Limits {
  readonly controlFrameBytes: number;
  readonly dataFrameBytes: number;
  readonly externalFrameBytes: number;
  readonly sourceFrameBytes: number;
  /** Credit of one exchange from one sender: unprocessed batches at the receiver. */
  readonly exchangeCreditBytes: number;
  /** A sink's queue above this mutes the sources that feed it; below half of it they go on. */
  readonly sinkQueueBytes: number;
  /** Frames sent on a link and not yet acknowledged. */
  readonly linkUnackedBytes: number;
  /** A segment of the log of keyed state that has grown beyond it is followed by a new one. */
  readonly logSegmentBytes: number;
  /** What that log may grow by, beside multiples of the state, before it is written anew in turn. */
  readonly logSlackBytes: number;
  /** `--memory-limit`, of resident memory: beyond it the worker takes a checkpoint and leaves. Infinity: off. */
  readonly memoryBytes: number;
  /** Keys that a checkpoint writes before everything else has its turn. */
  readonly sliceKeys: number;
  readonly sourceConnections: number;
  /** Of all TCP and connector sources of the worker together; each takes an equal part. */
  readonly allSourceConnections: number;
  readonly externalConnections: number;
  /** Connections on one listener that have not yet completed a first frame: the oldest goes. Per foreign address: 8. */
  readonly strangers: number;
}

export const DEFAULT_LIMITS: Limits = {
  controlFrameBytes: 4 << 20,
  dataFrameBytes: 16 << 20,
  externalFrameBytes: 16_384,
  sourceFrameBytes: 16 << 20,
  exchangeCreditBytes: 4 << 20,
  sinkQueueBytes: 1 << 20,
  linkUnackedBytes: 16 << 20,
  logSegmentBytes: 16 << 20,
  logSlackBytes: 40 << 20,
  memoryBytes: Number.POSITIVE_INFINITY,
  sliceKeys: 8_192,
  sourceConnections: 1_024,
  allSourceConnections: Number.POSITIVE_INFINITY,
  externalConnections: 32,
  strangers: 64,
};

/**
 * Every connection takes one of the descriptors that the process may have open: strangers must leave enough for links and
 * files, or a checkpoint could not be written.
 *
 * @param descriptorsMax `Host.descriptorsMax`.
 */
export function limitsWithin(descriptorsMax: number | null): Limits {
  if (descriptorsMax === null) return DEFAULT_LIMITS;
  const part = (divisor: number) => Math.max(1, Math.floor(descriptorsMax / divisor));
  return {
    ...DEFAULT_LIMITS,
    allSourceConnections: part(2),
    externalConnections: Math.min(DEFAULT_LIMITS.externalConnections, part(16)),
    strangers: Math.min(DEFAULT_LIMITS.strangers, part(16)),
  };
}
