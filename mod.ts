/**
 * Tammar: keep state over a stream of events, on one worker or many, and trust the numbers.
 *
 * An application is a module whose default export says where records come from, what is done with them, and where
 * the results go:
 *
 * ```ts
 * import { application, framed, source, tcpSink, tcpSource } from "tammar";
 *
 * export default application("Visits", () =>
 *   source("visits", tcpSource({ framing: framed.u32, decode: (payload) => payload.text() }))
 *     .keyBy((page) => page)
 *     .toStateful("count", {
 *       initial: () => ({ visits: 0 }),
 *       apply: (page, state) => ({ page, visits: ++state.visits }),
 *     })
 *     .toSink(tcpSink({ encode: ({ page, visits }) => `${page} ${visits}\n` })));
 * ```
 *
 * ```sh
 * tammar worker --application-module ./visits.ts --cluster-initializer --data 127.0.0.1:7001 \
 *   --in visits@127.0.0.1:7010 --out 127.0.0.1:7002
 * ```
 *
 * What each call does, in the order in which a first application meets them:
 *
 * - `application` names it, declares its options and builds its pipelines;
 * - `source` begins a pipeline with records of a `tcpSource`, `connectorSource`, `fileSource` or `generatorSource`;
 * - `to` transforms, drops or multiplies records;
 * - `keyBy` sends each record to the one worker that keeps the state of its key, `collect` all records to one worker,
 *   `rebalance` spreads costly work evenly;
 * - `toStateful` meets each record with the state of its key;
 * - `merge` joins two streams; `toSink` and `toSinks` end the pipeline in one `tcpSink`, `connectorSink` or `fileSink`, or several.
 *
 * Types flow from the source's decoder to the sink's encoder without annotations. `docs/application.md` is the manual,
 * `examples/` has whole programs.
 *
 * @module
 */
export {
  type Application,
  type ApplicationSettings,
  application,
  type BuildContext,
} from "./src/api/application.ts";
export { keyBytes } from "./src/api/byte_key.ts";
export { type ConnectorSink, type ConnectorSinkSettings, connectorSink } from "./src/api/connector_sink.ts";
export {
  type ConnectorMessage,
  type ConnectorSource,
  type ConnectorSourceSettings,
  connectorSource,
} from "./src/api/connector_source.ts";
export { type FileSink, type FileSinkSettings, fileSink } from "./src/api/file_sink.ts";
export { type FileSource, type FileSourceSettings, fileSource } from "./src/api/file_source.ts";
export { type Framing, framed, type LineFraming, lines } from "./src/api/framing.ts";
export {
  type GeneratorContext,
  type GeneratorSettings,
  type GeneratorSource,
  generatorSource,
  type StateOf,
} from "./src/api/generator_source.ts";
export type { ErrorPolicy, SinkDefinition, SourceDefinition, StateCodec, StateContext } from "./src/api/graph.ts";
export { type OptionSpec, type OptionSpecs, type OptionValue, type OptionValues, option } from "./src/api/options.ts";
export { Payload } from "./src/api/payload.ts";
export {
  type KeyedStream,
  type Output,
  type Pipeline,
  type PromisesAreRefused,
  type StageSettings,
  type Stateful,
  type Stream,
  source,
} from "./src/api/stream.ts";
export { type EncodedRecords, type TcpSink, type TcpSinkSettings, tcpSink } from "./src/api/tcp_sink.ts";
export { type Frames, type TcpSource, type TcpSourceSettings, tcpSource } from "./src/api/tcp_source.ts";
