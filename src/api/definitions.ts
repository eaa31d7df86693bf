/** Checks what an author hands to `source` and `toSink`; the compiler has done most of it for those who use it. */
import { PlanError } from "../base/errors.ts";
import { checkConnectorSink } from "./connector_sink.ts";
import { checkConnectorSource } from "./connector_source.ts";
import type { Framing, LineFraming } from "./framing.ts";
import { checkFunction, checkName, type SinkDefinition, type SourceDefinition, showType } from "./graph.ts";
import { TCP_PAYLOAD_LENGTH_MAX, TCP_SOURCE_CONNECTIONS_MAX } from "./tcp_source.ts";

/** @throws {PlanError} Naming the source. */
export function checkSource(name: unknown, definition: SourceDefinition<unknown>): void {
  checkName("a source", name);
  const where = `source ${JSON.stringify(name)}`;
  switch (definition?.kind) {
    case "tcp": {
      checkInputName(where, name, "a TCP source");
      checkFraming(where, definition.framing);
      checkDecoding(where, definition);
      checkConnectionsMax(where, definition.connectionsMax);
      if (typeof definition.acks !== "boolean") {
        const given = showType(definition.acks);
        throw new PlanError("definition_invalid", `${where}: acks is ${given}: give it true or false`);
      }
      return;
    }
    case "connector":
      checkInputName(where, name, "a connector source");
      checkConnectorSource(where, definition);
      return;
    case "file": {
      const { place, framing, follow } = definition;
      if (typeof place.path !== "string" || place.path === "") {
        throw new PlanError(
          "definition_invalid",
          `${where}: the ${place.kind} of its fileSource is ${showPath(place.path)}: give it either a path or a directory`,
        );
      }
      if (!isLines(framing)) checkFraming(where, framing, "lines, framed.u32");
      if (typeof follow !== "boolean") {
        throw new PlanError("definition_invalid", `${where}: follow is ${showType(follow)}: give it true or false`);
      }
      checkDecoding(where, definition);
      checkRate(where, definition.rate);
      return;
    }
    case "generator": {
      checkFunction(where, "initial", definition.initial);
      checkFunction(where, "next", definition.next);
      if (definition.emit !== undefined) checkFunction(where, "emit", definition.emit);
      checkRate(where, definition.rate);
      return;
    }
    default:
      throw new PlanError(
        "definition_invalid",
        `${where}: its definition is ${showType(definition)}: make one with tcpSource(), connectorSource(), fileSource() or generatorSource()`,
      );
  }
}

/** @throws {PlanError} Naming the pipeline by what comes before the sink. */
export function checkSink(after: string, definition: SinkDefinition<never>): void {
  const where = `sink after ${after}`;
  switch (definition?.kind) {
    case "tcp":
      checkEncoding(where, definition);
      checkOutput(where, definition.output);
      return;
    case "connector":
      checkEncoding(where, definition);
      checkOutput(where, definition.output);
      checkName(`the connector sink after ${after}`, definition.name);
      checkConnectorSink(where, definition);
      return;
    case "file": {
      const { directory, extension, name } = definition;
      checkEncoding(where, definition);
      checkName(`the file sink after ${after}`, name);
      if (typeof directory !== "string" || directory === "") {
        throw new PlanError("definition_invalid", `${where}: directory is ${showPath(directory)}: give it a folder`);
      }
      if (typeof extension !== "string" || !/^(?!\.)[A-Za-z0-9.]{1,16}$/.test(extension)) {
        const remedy = "give it 1 to 16 letters, digits or dots, such as ndjson";
        throw new PlanError("definition_invalid", `${where}: extension is ${JSON.stringify(extension)}: ${remedy}`);
      }
      return;
    }
    default:
      throw new PlanError(
        "definition_invalid",
        `${where}: it is ${showType(definition)}: make one with tcpSink(), connectorSink() or fileSink()`,
      );
  }
}

function checkOutput(where: string, output: number | undefined): void {
  if (output === undefined || isIntegerWithin(output, 0, 1023)) return;
  const remedy = "give it the place in --out, counted from 0";
  throw new PlanError("definition_invalid", `${where}: output is ${String(output)}: ${remedy}`);
}

/** `--in` gives its address by this name. */
function checkInputName(where: string, name: string, what: string): void {
  if (!/[,@]/.test(name)) return;
  throw new PlanError("name_invalid", `${where}: ${what} is named in --in, so leave out "," and "@"`);
}

function checkFraming(where: string, framing: Framing | undefined, offered = "framed.u32"): void {
  if (isIntegerWithin(framing?.headerBytes, 1, 8)) return;
  const given = framing === undefined ? "undefined" : `${framing?.headerBytes} bytes of header`;
  throw new PlanError("definition_invalid", `${where}: framing is ${given}: take ${offered}, or 1 to 8 bytes`);
}

function isLines(framing: Framing | LineFraming | undefined): framing is LineFraming {
  return (framing as Partial<LineFraming> | undefined)?.kind === "lines";
}

interface Decoding {
  readonly decode: unknown;
  readonly decodeBatch: unknown;
  readonly eventTime: unknown;
  readonly lengthMax: unknown;
}

function checkDecoding(where: string, { decode, decodeBatch, eventTime, lengthMax }: Decoding): void {
  if (!isIntegerWithin(lengthMax, 1, TCP_PAYLOAD_LENGTH_MAX)) {
    const limits = `1 to ${TCP_PAYLOAD_LENGTH_MAX} bytes`;
    throw new PlanError("definition_invalid", `${where}: lengthMax is ${String(lengthMax)}: give it ${limits}`);
  }
  checkFunction(where, "decode", decode);
  if (decodeBatch !== undefined) checkFunction(where, "decodeBatch", decodeBatch);
  if (eventTime !== undefined) checkFunction(where, "eventTime", eventTime);
}

function checkConnectionsMax(where: string, count: unknown): void {
  if (count === undefined || isIntegerWithin(count, 1, TCP_SOURCE_CONNECTIONS_MAX)) return;
  const remedy = `give it 1 to ${TCP_SOURCE_CONNECTIONS_MAX}, or leave it out`;
  throw new PlanError("definition_invalid", `${where}: connectionsMax is ${String(count)}: ${remedy}`);
}

function checkEncoding(where: string, definition: { readonly encode: unknown; readonly encodeBatch: unknown }): void {
  checkFunction(where, "encode", definition.encode);
  if (definition.encodeBatch !== undefined) checkFunction(where, "encodeBatch", definition.encodeBatch);
}

function checkRate(where: string, rate: unknown): void {
  if (typeof rate === "number" && rate >= 0 && rate < Number.POSITIVE_INFINITY) return;
  const remedy = "give it records a second, 0 for as fast as they are taken";
  throw new PlanError("definition_invalid", `${where}: rate is ${String(rate)}: ${remedy}`);
}

function showPath(path: unknown): string {
  return typeof path === "string" ? JSON.stringify(path) : showType(path);
}

function isIntegerWithin(value: unknown, min: number, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}
