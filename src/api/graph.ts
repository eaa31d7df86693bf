/**
 * What the author's calls build: a tree of nodes, from the sinks back to the sources. `src/plan/plan.ts` reads it. Plain
 * data; made anew by each call of `build`, so nothing is shared between two workers of one process.
 */
import { PlanError } from "../base/errors.ts";
import type { ConnectorSink } from "./connector_sink.ts";
import type { ConnectorSource } from "./connector_source.ts";
import type { FileSink } from "./file_sink.ts";
import type { FileSource } from "./file_source.ts";
import type { GeneratorSource } from "./generator_source.ts";
import type { TcpSink } from "./tcp_sink.ts";
import type { TcpSource } from "./tcp_source.ts";

/** What `source` takes. */
export type SourceDefinition<T> = TcpSource<T> | ConnectorSource<T> | GeneratorSource<T> | FileSource<T>;
/** What `toSink` takes. */
export type SinkDefinition<T> = TcpSink<T> | ConnectorSink<T> | FileSink<T>;

/** What user code may know about the record at hand. Valid during the call only. */
export interface StateContext {
  readonly key: string;
  /** Whole microseconds since the Unix epoch. */
  readonly eventTime: number;
}

/** How the states of a stage become bytes, and back. */
export interface StateCodec<S extends object> {
  /** Called for each changed state at a checkpoint. What it returns is copied: the same array may be returned again. */
  encode(state: S): Uint8Array;
  /** Gives back what `encode` was given; `bytes` are its own. */
  decode(bytes: Uint8Array): S;
}

export interface StatefulDefinition {
  readonly initial: (key: string) => object;
  readonly apply: (value: unknown, state: object, context: StateContext) => unknown;
  /** What the states look like. Default 1. */
  readonly version?: number;
  readonly migrate?: (state: object, fromVersion: number) => object;
  readonly codec?: StateCodec<object>;
  readonly onError?: ErrorPolicy;
}

/**
 * What becomes of a record on which a stage threw: `dead_letter`: it is kept in the worker's file of dead letters, to be looked at
 * and sent again; `skip`: it is counted and dropped; `fail`: the worker ends (exit status 21), and so it does at each start
 * until the code can take the record.
 */
export type ErrorPolicy = "dead_letter" | "skip" | "fail";
export const ERROR_POLICIES: readonly ErrorPolicy[] = ["dead_letter", "skip", "fail"];

export type ExchangeKind = "key" | "rebalance" | "collect";

export interface SourceNode {
  readonly kind: "source";
  readonly name: string;
  readonly definition: SourceDefinition<unknown>;
}
export interface StatelessNode {
  readonly kind: "stateless";
  readonly name: string;
  readonly apply: (value: unknown) => unknown;
  readonly onError: ErrorPolicy;
  readonly input: GraphNode;
}
export interface StatefulNode {
  readonly kind: "stateful";
  readonly name: string;
  readonly definition: StatefulDefinition;
  readonly input: GraphNode;
}
export interface ExchangeNode {
  readonly kind: "exchange";
  readonly exchange: ExchangeKind;
  /** `key` alone. */
  readonly keyOf: ((value: unknown) => string | Uint8Array) | undefined;
  readonly input: GraphNode;
}
export interface MergeNode {
  readonly kind: "merge";
  readonly left: GraphNode;
  readonly right: GraphNode;
}
export type GraphNode = SourceNode | StatelessNode | StatefulNode | ExchangeNode | MergeNode;

/** The graph behind a stream or a pipeline; not for authors. */
export const GRAPH: unique symbol = Symbol("graph");

/** How messages call a place in the graph: `stage "split"`, `source "words"`. */
export function describeNode(node: GraphNode): string {
  switch (node.kind) {
    case "source":
      return `source ${JSON.stringify(node.name)}`;
    case "stateless":
    case "stateful":
      return `stage ${JSON.stringify(node.name)}`;
    case "exchange":
      return `${EXCHANGE_CALLS[node.exchange]} after ${describeNode(node.input)}`;
    case "merge":
      return `merge of ${describeNode(node.left)} and ${describeNode(node.right)}`;
  }
}

/** The method that makes each kind of exchange. */
export const EXCHANGE_CALLS: Readonly<Record<ExchangeKind, string>> = {
  key: "keyBy()",
  rebalance: "rebalance()",
  collect: "collect()",
};

/** Longest name of an application, a source or a stage, in UTF-16 code units. */
export const NAME_LENGTH_MAX = 200;

/** @throws {PlanError} `name_invalid`. */
export function checkName(what: string, name: unknown): asserts name is string {
  if (typeof name !== "string") {
    throw new PlanError("name_invalid", `The name of ${what} is ${showType(name)}: give it a text`);
  }
  if (name.length === 0 || name.length > NAME_LENGTH_MAX || hasControlCharacter(name)) {
    throw new PlanError(
      "name_invalid",
      `The name of ${what} is ${JSON.stringify(name.slice(0, NAME_LENGTH_MAX))}: ` +
        `give it 1 to ${NAME_LENGTH_MAX} characters without control characters`,
    );
  }
}

/** @throws {PlanError} `definition_invalid`, when `value` is no function. */
export function checkFunction(where: string, name: string, value: unknown): void {
  if (typeof value === "function") return;
  throw new PlanError("definition_invalid", `${where}: ${name} is ${showType(value)}: give it a function`);
}

/** A value's type for messages: `undefined`, `a string`, `an array`. */
export function showType(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (Array.isArray(value)) return "an array";
  if (value instanceof Promise) return "a promise";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function hasControlCharacter(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x20 || unit === 0x7f) return true;
  }
  return false;
}
