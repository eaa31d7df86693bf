/** From a sink's definition to its connector: the one place that knows all kinds. */
import { sinkAddress } from "../api/connector_sink.ts";
import type { SinkDefinition } from "../api/graph.ts";
import { assert, unreachable } from "../base/assert.ts";
import { ConfigError } from "../base/errors.ts";
import type { Epoch } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { outputName, type SinkStep } from "../protocol/connector/sink_commit.ts";
import type { Address, Runtime } from "../runtime/runtime.ts";
import type { SinkConnector, Vote } from "./connector.ts";
import { ConnectorSinkConnector } from "./connector_sink.ts";
import { FileSinkConnector } from "./file_sink.ts";
import { TcpSinkConnector } from "./tcp_sink.ts";

/** What a sink gets from its worker, whatever its kind. */
export interface SinkSurroundings {
  readonly runtime: Runtime;
  readonly log: Log;
  /** Name of the application. */
  readonly application: string;
  /** Of this worker. */
  readonly worker: string;
  /** Known when the sink is started. */
  readonly clusterId: () => string;
  /** For people: the operator id of the sink. */
  readonly name: string;
  /** Its entry in `outputs`, from 0; null: it needs none. */
  readonly output: number | null;
  /** `--out`, by position. */
  readonly outputs: readonly Address[];
  /** It is blocked above this, and free again at half of it. */
  readonly queueBytesMax: number;
  /** Are checkpoints taken? Without them `prepare` and `commit` never come. */
  readonly checkpoints: boolean;
  /** Wraps every completion, so that the worker flushes once behind it. An error thrown inside ends the worker. */
  readonly turn: (run: () => void) => void;
  /** Its `blocked` changed, or it connected for the first time, or it finished. */
  readonly changed: () => void;
  /** Answers `SinkTransactions.prepare`, once, in a turn. */
  readonly voted: (epoch: Epoch, vote: Vote) => void;
  /** Steps of a commit in two phases, for whoever watches. */
  readonly reached: (step: SinkStep) => void;
}

/** @throws {ConfigError} If `--out` has no entry for it. */
export function makeSink(definition: SinkDefinition<unknown>, surroundings: SinkSurroundings): SinkConnector {
  const { runtime, log, name, queueBytesMax, checkpoints, turn, changed, voted } = surroundings;
  switch (definition.kind) {
    case "tcp": {
      const address = outputAddress(surroundings);
      return new TcpSinkConnector({ runtime, log, name, address, queueBytesMax, checkpoints, turn, changed, voted });
    }
    case "connector": {
      const { application, worker, clusterId } = surroundings;
      const fixed = definition.address === undefined ? null : sinkAddress(definition.address);
      assert(definition.address === undefined || fixed !== null, "a plan has addresses that are");
      return new ConnectorSinkConnector({
        runtime,
        log,
        name,
        address: fixed ?? outputAddress(surroundings),
        cookie: definition.cookie,
        application,
        worker,
        output: () => outputName(application, worker, clusterId(), name),
        queueBytesMax,
        checkpoints,
        turn,
        changed,
        voted,
        reached: surroundings.reached,
      });
    }
    case "file":
      return new FileSinkConnector({
        runtime,
        log,
        worker: surroundings.worker,
        name,
        directory: definition.directory,
        extension: definition.extension,
        queueBytesMax,
        checkpoints,
        turn,
        changed,
        voted,
      });
    default:
      return unreachable(definition);
  }
}

/** The entry of `--out` that the sink takes. */
function outputAddress({ name, output, outputs }: SinkSurroundings): Address {
  const address = output === null ? undefined : outputs[output];
  if (address !== undefined) return address;
  throw new ConfigError(
    "sink_without_address",
    `Sink "${name}" takes address ${(output ?? 0) + 1} of --out, which has ${outputs.length}: add --out HOST:PORT`,
  );
}
