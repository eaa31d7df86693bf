/** From a source's definition to its connector: the one place that knows all kinds. */
import type { ConnectorMessage, ConnectorTerms } from "../api/connector_source.ts";
import type { GeneratorSource } from "../api/generator_source.ts";
import type { SourceDefinition } from "../api/graph.ts";
import { unreachable } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import type { MessagePlaces } from "../protocol/connector/source_connection.ts";
import type { RegistryRequest } from "../protocol/connector/stream_registry.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { LocateRecord } from "../wire/record_place.ts";
import type { HandOver, SourceConnector } from "./connector.ts";
import { ConnectorSourceConnector } from "./connector_source.ts";
import { FileSourceConnector } from "./file_source.ts";
import { GeneratorSourceConnector, type RecordMaker } from "./generator_source.ts";
import { TcpSourceConnector } from "./tcp_source.ts";

/** What a source gets from its worker, whatever its kind. */
export interface SourceSurroundings {
  readonly runtime: Runtime;
  readonly log: Log;
  /** Of the source, as planned. */
  readonly name: string;
  /** Wraps every completion, so that the worker flushes once behind it. An error thrown inside ends the worker. */
  readonly turn: (run: () => void) => void;
  /** Is anything behind this source unable to take more? Then nothing is read until `resume`. */
  readonly blocked: () => boolean;
  /** Longest payload in bytes: what the operator allows. A definition may allow less. */
  readonly frameBytesMax: number;
  readonly connectionsMax: number;
  /** For a generator: asked for when it opens. */
  readonly maker: (definition: GeneratorSource<unknown>) => RecordMaker;
  /** Takes records of a generator. */
  readonly values: (values: unknown[], locate: LocateRecord) => void;
  /** Takes payloads. */
  readonly frames: HandOver;
  /** As `frames`, for messages of connector programs. */
  readonly messages: (message: ConnectorMessage, bytes: Uint8Array, places: MessagePlaces) => void;
  /** What the operator says of a connector source; left out: as it was declared. */
  readonly terms?: ConnectorTerms;
  /** Are checkpoints taken? */
  readonly checkpoints: boolean;
  /** To the registry of this source's streams. */
  readonly toRegistry: (request: RegistryRequest) => void;
}

export function makeSource(definition: SourceDefinition<unknown>, surroundings: SourceSurroundings): SourceConnector {
  const { runtime, log, name, turn, blocked, frames, values } = surroundings;
  switch (definition.kind) {
    case "generator":
      return new GeneratorSourceConnector({
        clock: runtime.clock,
        log,
        name,
        rate: definition.rate,
        maker: () => surroundings.maker(definition),
        turn,
        blocked,
        values,
      });
    case "tcp":
      return new TcpSourceConnector({
        runtime,
        log,
        name,
        framing: definition.framing,
        frameBytesMax: surroundings.frameBytesMax,
        connectionsMax: surroundings.connectionsMax,
        acks: definition.acks,
        checkpoints: surroundings.checkpoints,
        turn,
        blocked,
        frames,
      });
    case "connector": {
      const { cookie, maxCredits, refillCredits } = surroundings.terms ?? definition;
      return new ConnectorSourceConnector({
        runtime,
        log,
        name,
        cookie,
        maxCredits,
        refillCredits,
        frameBytesMax: surroundings.frameBytesMax,
        connectionsMax: surroundings.connectionsMax,
        checkpoints: surroundings.checkpoints,
        turn,
        blocked,
        records: (bytes, places) => surroundings.messages(definition.message, bytes, places),
        toRegistry: surroundings.toRegistry,
      });
    }
    case "file":
      return new FileSourceConnector({
        runtime,
        log,
        name,
        place: definition.place,
        framing: definition.framing,
        lengthMax: surroundings.frameBytesMax,
        follow: definition.follow,
        rate: definition.rate,
        turn,
        blocked,
        frames,
      });
    default:
      return unreachable(definition);
  }
}
