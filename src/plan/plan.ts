/**
 * The plan: the author's graph with names, numbers and connections, the same on every worker. Whatever can be wrong with
 * a graph is found here, before a port is opened, and said with the stage's name and the remedy.
 *
 * Indexes (`source 0`, `exchange 2`) count in the order of records, pipeline by pipeline; they are good between workers that
 * run the same plan. What outlives a plan is stored under ids, which are made of the author's names alone.
 */
import type { Application, BuildContext } from "../api/application.ts";
import {
  type ErrorPolicy,
  EXCHANGE_CALLS,
  type ExchangeKind,
  type ExchangeNode,
  GRAPH,
  type GraphNode,
  type SinkDefinition,
  type SourceDefinition,
  type StatefulDefinition,
  showType,
} from "../api/graph.ts";
import type { Pipeline } from "../api/stream.ts";
import { assert } from "../base/assert.ts";
import { PlanError, TammarError } from "../base/errors.ts";

export interface Plan {
  /** Name of the application. */
  readonly application: string;
  /** One for each source, of the same name and index: metrics are told apart by it. */
  readonly pipelines: readonly string[];
  readonly sources: readonly PlannedSource[];
  readonly stages: readonly PlannedStage[];
  readonly exchanges: readonly PlannedExchange[];
  readonly sinks: readonly PlannedSink[];
}

/** Where records go next: into a stage, through an exchange, or to every one of some sinks. */
export type Target =
  | { readonly kind: "stage"; readonly stage: number }
  | { readonly kind: "exchange"; readonly exchange: number }
  | { readonly kind: "sinks"; readonly sinks: readonly number[] };

/** For back-pressure: what records reach without crossing another exchange. */
export interface Reach {
  readonly reachesSinks: readonly number[];
  readonly reachesExchanges: readonly number[];
}

export interface PlannedSource extends Reach {
  readonly index: number;
  readonly name: string;
  readonly definition: SourceDefinition<unknown>;
  readonly target: Target;
}

export type PlannedStage = PlannedStatelessStage | PlannedStatefulStage;

interface PlannedStageBase {
  readonly index: number;
  /** Operator id: `pipeline/stage name`, where a pipeline that was merged goes on under the name of its left side. */
  readonly id: string;
  readonly name: string;
  /** Do its records have keys? */
  readonly keyed: boolean;
  readonly onError: ErrorPolicy;
  readonly target: Target;
}
export interface PlannedStatelessStage extends PlannedStageBase {
  readonly kind: "stateless";
  readonly apply: (value: unknown) => unknown;
}
export interface PlannedStatefulStage extends PlannedStageBase {
  readonly kind: "stateful";
  readonly definition: StatefulDefinition;
}

/** Where records change workers. */
export interface PlannedExchange extends Reach {
  readonly index: number;
  /** `pipeline/key by before <next stage>`, or `rebalance before`, `collect before`. */
  readonly id: string;
  readonly kind: ExchangeKind;
  /** `key` alone. */
  readonly keyOf: ((value: unknown) => string | Uint8Array) | undefined;
  /** `collect` alone: the one key. It begins with `collect-`. */
  readonly collectKey: string | undefined;
  /** What sends into it, without crossing another exchange. On each worker these share one sender. */
  readonly fromSources: readonly number[];
  readonly fromExchanges: readonly number[];
  readonly target: Target;
}

export interface PlannedSink {
  readonly index: number;
  /** `pipeline/sink <output>`, or `pipeline/sink <name>` for files and for programs whose address is the application's. */
  readonly id: string;
  /** The entry of `--out`, from 0; null: it needs none. */
  readonly output: number | null;
  readonly definition: SinkDefinition<unknown>;
}

/** What `planApplication` hands to the author's `build`; `options` are checked values (`readOptionValues`). */
export type PlanContext = BuildContext;

/**
 * Builds the application's graph and plans it.
 *
 * @throws {PlanError} For a wrong graph; also when the author's `build` throws, with that as the cause.
 */
export function planApplication(application: Application, context: PlanContext): Plan {
  return new Planner(application.name).plan(buildPipelines(application, context));
}

function buildPipelines(application: Application, context: PlanContext): readonly Pipeline[] {
  const where = `application ${JSON.stringify(application.name)}`;
  let built: unknown;
  try {
    built = application.build(context);
  } catch (error) {
    if (error instanceof TammarError) throw error;
    const text = error instanceof Error ? error.message : String(error);
    throw new PlanError("build_failed", `${where}: its build function threw: ${text}`, { cause: error });
  }
  const pipelines: readonly unknown[] = Array.isArray(built) ? built : [built];
  if (pipelines.length === 0) {
    throw new PlanError("no_pipeline", `${where}: its build function returned no pipeline: return one or more`);
  }
  for (const pipeline of pipelines) {
    if (!isPipeline(pipeline)) {
      throw new PlanError(
        "no_sink",
        `${where}: its build function returned ${showType(pipeline)}: return what toSink() or toSinks() gives`,
      );
    }
  }
  return pipelines as readonly Pipeline[];
}

function isPipeline(value: unknown): value is Pipeline {
  const graph = (value as Partial<Pipeline> | null | undefined)?.[GRAPH];
  return graph !== undefined && "sinks" in graph;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Loose ends of a graph: whatever comes next becomes their target. */
interface Ends {
  /** The pipeline that what follows belongs to. */
  readonly pipeline: string;
  readonly keyed: "no" | "key" | "collect";
  readonly producers: readonly Producer[];
  /** Sources and exchanges whose records come out here. */
  readonly fromSources: readonly number[];
  readonly fromExchanges: readonly number[];
}

type Producer = Mutable<PlannedSource> | Mutable<PlannedStage> | Mutable<PlannedExchange>;

/** Until the next node is known. */
const NOWHERE: Target = { kind: "sinks", sinks: [] };

class Planner {
  readonly #application: string;
  readonly #sources: Mutable<PlannedSource>[] = [];
  readonly #stages: Mutable<PlannedStage>[] = [];
  readonly #exchanges: Mutable<PlannedExchange>[] = [];
  /** By exchange, the pipeline it stands in: a merge behind it may go on under another name. */
  readonly #exchangePipelines: string[] = [];
  readonly #sinks: PlannedSink[] = [];
  readonly #ids = new Set<string>();
  #outputCount = 0;

  constructor(application: string) {
    this.#application = application;
  }

  plan(pipelines: readonly Pipeline[]): Plan {
    for (const pipeline of pipelines) {
      const { input, sinks } = pipeline[GRAPH];
      this.#end(this.#visit(input), sinks);
    }
    return {
      application: this.#application,
      pipelines: this.#sources.map((source) => source.name),
      sources: this.#sources,
      stages: this.#stages,
      exchanges: this.#exchanges,
      sinks: this.#sinks,
    };
  }

  #visit(node: GraphNode): Ends {
    switch (node.kind) {
      case "source":
        return this.#source(node.name, node.definition);
      case "exchange":
        return this.#exchange(node, this.#visit(node.input));
      case "merge":
        return this.#merge(this.#visit(node.left), this.#visit(node.right));
      case "stateless":
      case "stateful": {
        const input = this.#visit(node.input);
        const id = `${input.pipeline}/${node.name}`;
        this.#claim(id, `stage ${JSON.stringify(node.name)}`, "give each stage of a pipeline a name of its own");
        const base = {
          index: this.#stages.length,
          id,
          name: node.name,
          keyed: input.keyed !== "no",
          onError: (node.kind === "stateless" ? node.onError : node.definition.onError) ?? "dead_letter",
          target: NOWHERE,
        };
        const stage: Mutable<PlannedStage> =
          node.kind === "stateless"
            ? { ...base, kind: "stateless", apply: node.apply }
            : { ...base, kind: "stateful", definition: node.definition };
        this.#stages.push(stage);
        this.#connect(input, { kind: "stage", stage: stage.index }, node.name);
        return { ...input, producers: [stage] };
      }
    }
  }

  #source(name: string, definition: SourceDefinition<unknown>): Ends {
    if (this.#sources.some((other) => other.name === name)) {
      throw new PlanError(
        "source_name_taken",
        `Two sources are called ${JSON.stringify(name)}: --in and metrics tell them apart by name, so give each its own`,
      );
    }
    const index = this.#sources.length;
    const source: Mutable<PlannedSource> = {
      index,
      name,
      definition,
      target: NOWHERE,
      reachesSinks: [],
      reachesExchanges: [],
    };
    this.#sources.push(source);
    return { pipeline: name, keyed: "no", producers: [source], fromSources: [index], fromExchanges: [] };
  }

  #exchange(node: ExchangeNode, input: Ends): Ends {
    this.#refuseExchangeBefore(input, EXCHANGE_CALLS[node.exchange]);
    const index = this.#exchanges.length;
    const exchange: Mutable<PlannedExchange> = {
      index,
      id: "",
      kind: node.exchange,
      keyOf: node.keyOf,
      collectKey: undefined,
      fromSources: input.fromSources,
      fromExchanges: input.fromExchanges,
      target: NOWHERE,
      reachesSinks: [],
      reachesExchanges: [],
    };
    this.#exchanges.push(exchange);
    this.#exchangePipelines.push(input.pipeline);
    this.#connect(input, { kind: "exchange", exchange: index }, "");
    for (const source of input.fromSources) this.#sources[source]!.reachesExchanges = [index];
    for (const before of input.fromExchanges) this.#exchanges[before]!.reachesExchanges = [index];
    const keyed = node.exchange === "rebalance" ? "no" : node.exchange;
    return { pipeline: input.pipeline, keyed, producers: [exchange], fromSources: [], fromExchanges: [index] };
  }

  #merge(left: Ends, right: Ends): Ends {
    if (left.keyed === "collect" || right.keyed === "collect") {
      const names = `${JSON.stringify(left.pipeline)} and ${JSON.stringify(right.pipeline)}`;
      throw new PlanError(
        "merge_of_collected",
        `merge() of ${names}: collect() gives each its own key: call merge() first, then collect()`,
      );
    }
    assert(left.keyed === right.keyed, "merge of keyed and unkeyed");
    return {
      pipeline: left.pipeline,
      keyed: left.keyed,
      producers: [...left.producers, ...right.producers],
      fromSources: [...left.fromSources, ...right.fromSources],
      fromExchanges: [...left.fromExchanges, ...right.fromExchanges],
    };
  }

  #end(input: Ends, definitions: readonly SinkDefinition<unknown>[]): void {
    const sinks = definitions.map((definition) => this.#sink(input.pipeline, definition).index);
    this.#connect(input, { kind: "sinks", sinks }, "the sink");
    for (const source of input.fromSources) this.#sources[source]!.reachesSinks = sinks;
    for (const exchange of input.fromExchanges) this.#exchanges[exchange]!.reachesSinks = sinks;
  }

  #sink(pipeline: string, definition: SinkDefinition<unknown>): PlannedSink {
    if (definition.kind === "file" || (definition.kind === "connector" && definition.address !== undefined)) {
      const id = `${pipeline}/sink ${definition.name}`;
      const kind = `${definition.kind} sink`;
      this.#claim(
        id,
        `${kind} ${JSON.stringify(definition.name)}`,
        `give each ${kind} of a pipeline a name of its own`,
      );
      const sink: PlannedSink = { index: this.#sinks.length, id, output: null, definition };
      this.#sinks.push(sink);
      return sink;
    }
    const output = definition.output ?? this.#outputCount;
    this.#outputCount++;
    const id = `${pipeline}/sink ${output}`;
    this.#claim(id, `entry ${output} of --out (from 0)`, "give each sink its own output");
    const sink: PlannedSink = { index: this.#sinks.length, id, output, definition };
    this.#sinks.push(sink);
    return sink;
  }

  /** Gives all loose ends their target; an exchange is named after the stage that it goes to. */
  #connect(ends: Ends, target: Target, nextName: string): void {
    for (const producer of ends.producers) {
      producer.target = target;
      if (!isExchange(producer)) continue;
      producer.id = `${this.#exchangePipelines[producer.index]!}/${EXCHANGE_NAMES[producer.kind]} before ${nextName}`;
      this.#claim(
        producer.id,
        `stage ${JSON.stringify(producer.id)}`,
        "rename the stage that is called like an exchange",
      );
      if (producer.kind === "collect") producer.collectKey = `collect-${producer.id}`;
    }
  }

  #refuseExchangeBefore(input: Ends, call: string): void {
    const before = input.producers.find(isExchange);
    if (before === undefined) return;
    throw new PlanError(
      "exchange_without_effect",
      `${call} in pipeline ${JSON.stringify(input.pipeline)} follows ${EXCHANGE_CALLS[before.kind]} with no stage between ` +
        `them: leave ${EXCHANGE_CALLS[before.kind]} out`,
    );
  }

  #claim(id: string, what: string, remedy: string): void {
    if (this.#ids.has(id)) {
      throw new PlanError("name_taken", `${what} is there twice in one pipeline (${JSON.stringify(id)}): ${remedy}`);
    }
    this.#ids.add(id);
  }
}

const EXCHANGE_NAMES: Readonly<Record<ExchangeKind, string>> = {
  key: "key by",
  rebalance: "rebalance",
  collect: "collect",
};

function isExchange(producer: Producer): producer is Mutable<PlannedExchange> {
  return "keyOf" in producer;
}
