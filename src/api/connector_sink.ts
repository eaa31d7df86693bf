import { PlanError } from "../base/errors.ts";
import { isCookie } from "./connector_source.ts";
import { showType } from "./graph.ts";
import type { EncodedRecords } from "./tcp_sink.ts";

/** What sink programs expect in a HELLO unless told otherwise: as Wallaroo's. */
export const SINK_COOKIE_DEFAULT = "Dragons-Love-Tacos";
const NAME_DEFAULT = "connector";

export interface ConnectorSinkSettings<T> {
  /** The bytes of one record, or text, which is sent as UTF-8. A record without bytes is not sent. */
  readonly encode: (value: T) => string | Uint8Array;
  /** Many records at once, as for `tcpSink`. */
  readonly encodeBatch?: (values: readonly T[]) => EncodedRecords;
  /** What the sink program wants to hear; at most 65,535 bytes. Default: `Dragons-Love-Tacos`. */
  readonly cookie?: string;
  /** Which entry of `--out`, from 0. Default: the place of this sink among those of the application that take one. */
  readonly output?: number;
  /** `HOST:PORT` of a sink program whose place never changes: `--out` has no entry for it then. */
  readonly address?: string;
  /** With `address`: part of the operator's id, needed when a pipeline has two of them. Default: `connector`. */
  readonly name?: string;
}

/** A sink that speaks the connector protocol to a program, which commits in two phases. Made by `connectorSink`. */
export interface ConnectorSink<in T> {
  readonly kind: "connector";
  readonly encode: (value: T) => string | Uint8Array;
  readonly encodeBatch: ((values: readonly T[]) => EncodedRecords) | undefined;
  readonly cookie: string;
  readonly output: number | undefined;
  readonly address: string | undefined;
  readonly name: string;
}

/**
 * Records to a sink program, exactly once with checkpoints: the program keeps what it is sent, and makes it count when it
 * is told that the checkpoint that covers it exists. `docs/protocol/connector.md` says what it has to do.
 *
 * ```ts
 * stream.toSink(connectorSink({ encode: (reading) => `${reading.fahrenheit}\n` }))
 * ```
 */
export function connectorSink<T>(settings: ConnectorSinkSettings<T>): ConnectorSink<T> {
  const { encode, encodeBatch, output, address } = settings;
  const { cookie = SINK_COOKIE_DEFAULT, name = NAME_DEFAULT } = settings;
  return { kind: "connector", encode, encodeBatch, cookie, output, address, name };
}

/** @throws {PlanError} `definition_invalid`. `where` names the pipeline. */
export function checkConnectorSink(where: string, { cookie, output, address }: ConnectorSink<never>): void {
  if (!isCookie(cookie)) {
    throw new PlanError("definition_invalid", `${where}: its cookie is no text of at most 65,535 bytes: give it one`);
  }
  if (address === undefined) return;
  if (output !== undefined) {
    throw new PlanError("definition_invalid", `${where}: it has an address and an output: give it one of both`);
  }
  if (typeof address === "string" && sinkAddress(address) !== null) return;
  const shown = typeof address === "string" ? JSON.stringify(address) : showType(address);
  throw new PlanError("definition_invalid", `${where}: its address is ${shown}: give it HOST:PORT`);
}

/** `HOST:PORT` or `[IPV6]:PORT`; null: it is neither. */
export function sinkAddress(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:[\]]+)):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) return null;
  return { host: (match[1] ?? match[2])!, port };
}
