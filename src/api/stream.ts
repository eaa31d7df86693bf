/**
 * Streams: what an author chains. Each call gives a new stream and uses up the old one, since a pipeline is a tree that
 * ends in sinks; several sinks are `toSinks`.
 */
import { PlanError } from "../base/errors.ts";
import { checkSink, checkSource } from "./definitions.ts";
import {
  checkFunction,
  checkName,
  describeNode,
  ERROR_POLICIES,
  type ErrorPolicy,
  EXCHANGE_CALLS,
  type ExchangeKind,
  GRAPH,
  type GraphNode,
  type SinkDefinition,
  type SourceDefinition,
  type StateCodec,
  type StateContext,
  type StatefulDefinition,
  showType,
} from "./graph.ts";

/**
 * What a function's result means for the stream: `undefined`, `null` and `void` are nothing, an array is each of its elements
 * (but `undefined` and `null`), anything else is itself. (An array that is one value: return it inside an array.)
 */
export type Output<R> = R extends undefined | null
  ? never
  : R extends PromiseLike<unknown>
    ? PromisesAreRefused
    : R extends readonly (infer E)[]
      ? NonNullable<E>
      : R;

/** Stands where an `async` function was given: the compiler then says so at the next stage. */
export interface PromisesAreRefused {
  readonly error: "a stage must not return a promise: work on records is synchronous";
}

/** What `toStateful` takes. */
export interface Stateful<T, S extends object, R> {
  /** The state of a key that is seen for the first time. An object: `apply` changes it in place. */
  readonly initial: (key: string) => S;
  /**
   * One record of a key, with the state of that key; called in the order of the key's records. Returns what goes on: nothing,
   * one value, or an array of values. The context is valid during the call only.
   */
  readonly apply: (value: T, state: S, context: StateContext) => R;
  /**
   * Says what the states look like: another number whenever `apply` expects another form. Whole, from 1; default 1. A
   * checkpoint with states of another version is refused, unless there is `migrate`.
   */
  readonly version?: number;
  /**
   * Makes a state of this version from one of `fromVersion`, when a checkpoint is restored. It may be called for the same key
   * several times, with older states first; it may change what it is given, whose type is for its author to say.
   */
  migrate?(state: unknown, fromVersion: number): S;
  /**
   * Makes bytes of a state, and a state of bytes. Without it states are plain data, and encoded as such. With it a state may be
   * anything that `apply` likes to work on: an instance of a class, a sketch, a message of a schema. Of states of another version
   * that a codec wrote, `migrate` is given the bytes.
   */
  readonly codec?: StateCodec<S>;
  /** What becomes of a record on which `apply` or `initial` threw. Default `dead_letter`. */
  readonly onError?: ErrorPolicy;
}

/** What `to` takes beside its function. */
export interface StageSettings {
  /** What becomes of a record on which the stage threw. Default `dead_letter`. */
  readonly onError?: ErrorPolicy;
}

/**
 * The end of a pipeline, what `build` returns. Nothing can follow it.
 */
export interface Pipeline {
  readonly [GRAPH]: PipelineGraph;
}

export interface PipelineGraph {
  readonly input: GraphNode;
  readonly sinks: readonly SinkDefinition<unknown>[];
}

/** Records without a key: they stay on the worker of their source, in order. */
export class Stream<T> {
  readonly keyed = false;
  readonly [GRAPH]: Upstream;

  /** For the engine. Authors begin with `source`. */
  constructor(node: GraphNode) {
    this[GRAPH] = new Upstream(node);
  }

  /**
   * A stateless stage: each record through `apply`.
   *
   * @param name Unique in its pipeline; part of the operator's id, so keep it from release to release.
   * @param apply Gives nothing (`undefined`), one value, or an array of values. A throw costs this record only.
   */
  to<R>(name: string, apply: (value: T) => R, settings: StageSettings = {}): Stream<Output<R>> {
    return new Stream(stateless(this[GRAPH], name, apply, settings));
  }

  /**
   * Sends each record to the worker that owns its key. From here on order is kept for each key.
   *
   * @param keyOf A text of at most 4,096 UTF-16 code units, or as many bytes; the empty one is a key too. Of bytes, stages see
   *   the text that has a unit for each of them; `keyBytes` makes bytes of it again.
   */
  keyBy(keyOf: (value: T) => string | Uint8Array): KeyedStream<T> {
    return new KeyedStream(keyed(this[GRAPH], keyOf));
  }

  /** Sends all records to one worker, under one key: for a state that is one for all. */
  collect(): KeyedStream<T> {
    return new KeyedStream(exchange(this[GRAPH], "collect"));
  }

  /** Spreads records evenly over all workers: for costly stateless work. Their order is lost. */
  rebalance(): Stream<T> {
    return new Stream(exchange(this[GRAPH], "rebalance"));
  }

  /** Records of both, each in its own order. Both must be keyed, or neither. */
  merge<U>(other: Stream<U>): Stream<T | U> {
    return new Stream(merge(this, other));
  }

  /** Ends the pipeline. */
  toSink(sink: SinkDefinition<T>): Pipeline {
    return end(this[GRAPH], [sink]);
  }

  /** Ends the pipeline; each record goes to each of the sinks. */
  toSinks(sinks: readonly SinkDefinition<T>[]): Pipeline {
    return end(this[GRAPH], sinks);
  }
}

/** Records on the worker that owns their key, for each key in order. */
export class KeyedStream<T> {
  readonly keyed = true;
  readonly [GRAPH]: Upstream;

  /** For the engine. Authors get one from `keyBy` or `collect`. */
  constructor(node: GraphNode) {
    this[GRAPH] = new Upstream(node);
  }

  /**
   * A stateful stage: each record meets the state of its key.
   *
   * @param name Unique in its pipeline; the state is stored under it, so keep it from release to release.
   * @param stateful `initial` makes a key's state, `apply` changes it in place. A throw costs this record only; what `apply`
   *   had changed by then stays changed.
   */
  toStateful<S extends object, R>(name: string, stateful: Stateful<T, S, R>): KeyedStream<Output<R>> {
    checkName(`a stage after ${this[GRAPH].describe()}`, name);
    const where = `stage ${JSON.stringify(name)}`;
    checkFunction(where, "initial", stateful?.initial);
    checkFunction(where, "apply", stateful?.apply);
    if (stateful.version !== undefined && !isStateVersion(stateful.version)) {
      const remedy = `give it a whole number from 1 to ${STATE_VERSION_MAX}`;
      throw new PlanError("definition_invalid", `${where}: version is ${String(stateful.version)}: ${remedy}`);
    }
    if (stateful.migrate !== undefined) checkFunction(where, "migrate", stateful.migrate);
    if (stateful.codec !== undefined) {
      checkFunction(where, "codec.encode", stateful.codec?.encode);
      checkFunction(where, "codec.decode", stateful.codec?.decode);
    }
    checkErrorPolicy(where, stateful.onError);
    const definition = stateful as unknown as StatefulDefinition;
    return new KeyedStream({ kind: "stateful", name, definition, input: this[GRAPH].use(where) });
  }

  /** A stateless stage where the key's owner is; results keep the key of their record. See `Stream.to`. */
  to<R>(name: string, apply: (value: T) => R, settings: StageSettings = {}): KeyedStream<Output<R>> {
    return new KeyedStream(stateless(this[GRAPH], name, apply, settings));
  }

  /** A new key instead of the old one. See `Stream.keyBy`. */
  keyBy(keyOf: (value: T) => string | Uint8Array): KeyedStream<T> {
    return new KeyedStream(keyed(this[GRAPH], keyOf));
  }

  /** See `Stream.collect`. */
  collect(): KeyedStream<T> {
    return new KeyedStream(exchange(this[GRAPH], "collect"));
  }

  /** Gives up the key. See `Stream.rebalance`. */
  rebalance(): Stream<T> {
    return new Stream(exchange(this[GRAPH], "rebalance"));
  }

  /** Records of both, each under its own key and in its own order. */
  merge<U>(other: KeyedStream<U>): KeyedStream<T | U> {
    return new KeyedStream(merge(this, other));
  }

  /** Ends the pipeline. */
  toSink(sink: SinkDefinition<T>): Pipeline {
    return end(this[GRAPH], [sink]);
  }

  /** Ends the pipeline; each record goes to each of the sinks. */
  toSinks(sinks: readonly SinkDefinition<T>[]): Pipeline {
    return end(this[GRAPH], sinks);
  }
}

/**
 * Begins a pipeline.
 *
 * @param name Unique in the application: `--in` and the metrics name the source by it, operator ids begin with it.
 * @param definition From `tcpSource`, `fileSource` or `generatorSource`.
 * @throws {PlanError} If the definition can't be used, naming the source.
 */
export function source<T>(name: string, definition: SourceDefinition<T>): Stream<T> {
  checkSource(name, definition as SourceDefinition<unknown>);
  return new Stream({ kind: "source", name, definition: definition as SourceDefinition<unknown> });
}

/** A node, and what has used it: a second use is refused at the line that tries it. */
class Upstream {
  readonly #node: GraphNode;
  #usedBy: string | null = null;

  constructor(node: GraphNode) {
    this.#node = node;
  }

  describe(): string {
    return describeNode(this.#node);
  }

  use(by: string): GraphNode {
    if (this.#usedBy !== null) {
      throw new PlanError(
        "stream_used_twice",
        `The stream of ${this.describe()} goes to ${this.#usedBy} already and can't go to ${by} as well: ` +
          "use toSinks for several sinks, and make streams inside the function given to application()",
      );
    }
    this.#usedBy = by;
    return this.#node;
  }
}

function stateless(upstream: Upstream, name: unknown, apply: unknown, { onError }: StageSettings): GraphNode {
  checkName(`a stage after ${upstream.describe()}`, name);
  const where = `stage ${JSON.stringify(name)}`;
  checkFunction(where, "what it does", apply);
  checkErrorPolicy(where, onError);
  return {
    kind: "stateless",
    name,
    apply: apply as (value: unknown) => unknown,
    onError: onError ?? "dead_letter",
    input: upstream.use(where),
  };
}

function checkErrorPolicy(where: string, policy: unknown): void {
  if (policy === undefined || ERROR_POLICIES.includes(policy as ErrorPolicy)) return;
  const remedy = `give it one of ${ERROR_POLICIES.join(", ")}`;
  throw new PlanError("definition_invalid", `${where}: onError is ${JSON.stringify(policy)}: ${remedy}`);
}

function keyed(upstream: Upstream, keyOf: unknown): GraphNode {
  checkFunction(`keyBy() after ${upstream.describe()}`, "the key", keyOf);
  return {
    kind: "exchange",
    exchange: "key",
    keyOf: keyOf as (value: unknown) => string | Uint8Array,
    input: upstream.use("keyBy()"),
  };
}

function exchange(upstream: Upstream, kind: Exclude<ExchangeKind, "key">): GraphNode {
  return { kind: "exchange", exchange: kind, keyOf: undefined, input: upstream.use(EXCHANGE_CALLS[kind]) };
}

type AnyStream = Stream<unknown> | KeyedStream<unknown>;

function merge(left: AnyStream, right: AnyStream): GraphNode {
  const where = `merge() after ${left[GRAPH].describe()}`;
  if (!(right instanceof Stream || right instanceof KeyedStream)) {
    throw new PlanError("definition_invalid", `${where}: it merges ${describeEnd(right)}: give it a stream`);
  }
  if (left.keyed !== right.keyed) {
    throw new PlanError(
      "merge_of_keyed",
      `${where}: of it and ${right[GRAPH].describe()} only one has a key: call keyBy() on both before, or behind merge()`,
    );
  }
  return { kind: "merge", left: left[GRAPH].use("merge()"), right: right[GRAPH].use("merge()") };
}

function describeEnd(value: unknown): string {
  return value instanceof EndedPipeline ? "a pipeline that has its sink already" : showType(value);
}

class EndedPipeline implements Pipeline {
  readonly [GRAPH]: PipelineGraph;
  constructor(graph: PipelineGraph) {
    this[GRAPH] = graph;
  }
}

function end(upstream: Upstream, sinks: readonly SinkDefinition<never>[]): Pipeline {
  const after = upstream.describe();
  if (!Array.isArray(sinks) || sinks.length === 0) {
    throw new PlanError("no_sink", `toSinks() after ${after} has no sink: give it one or more`);
  }
  for (const sink of sinks) checkSink(after, sink);
  return new EndedPipeline({ input: upstream.use("its sink"), sinks: [...sinks] as SinkDefinition<unknown>[] });
}

// Authors without a type checker get a sentence instead of "is not a function".
function refuse(prototype: object, methods: readonly string[], message: string): void {
  for (const method of methods) {
    const value = () => {
      throw new PlanError("stage_refused", `${method}(): ${message}`);
    };
    Object.defineProperty(prototype, method, { value, enumerable: false });
  }
}
refuse(
  EndedPipeline.prototype,
  ["to", "toStateful", "keyBy", "collect", "rebalance", "merge", "toSink", "toSinks"],
  "the pipeline has its sink already: put every stage before it",
);
refuse(Stream.prototype, ["toStateful"], "state is kept by key: call keyBy() or collect() before it");

/** Highest `version` of a stage's states. */
const STATE_VERSION_MAX = 1_000_000_000;

function isStateVersion(version: unknown): boolean {
  return Number.isInteger(version) && (version as number) >= 1 && (version as number) <= STATE_VERSION_MAX;
}
