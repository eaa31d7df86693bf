/** Checks what an author hands to `source` and `toSink`; the compiler has done most of it for those who use it. */
import { PlanError } from "../base/errors.ts";
import { checkFunction, checkName, type SinkDefinition, type SourceDefinition, showType } from "./graph.ts";
import { TCP_PAYLOAD_LENGTH_MAX } from "./tcp_source.ts";

/** @throws {PlanError} Naming the source. */
export function checkSource(name: unknown, definition: SourceDefinition<unknown>): void {
  checkName("a source", name);
  const where = `source ${JSON.stringify(name)}`;
  switch (definition?.kind) {
    case "tcp": {
      if (/[,@]/.test(name)) {
        throw new PlanError("name_invalid", `${where}: a TCP source is named in --in, so leave out "," and "@"`);
      }
      const { framing, lengthMax } = definition;
      if (!isIntegerWithin(framing?.headerBytes, 1, 8)) {
        const given = framing === undefined ? "undefined" : `${framing?.headerBytes} bytes of header`;
        throw new PlanError("definition_invalid", `${where}: framing is ${given}: take framed.u32, or 1 to 8 bytes`);
      }
      if (!isIntegerWithin(lengthMax, 1, TCP_PAYLOAD_LENGTH_MAX)) {
        const limits = `1 to ${TCP_PAYLOAD_LENGTH_MAX} bytes`;
        throw new PlanError("definition_invalid", `${where}: lengthMax is ${lengthMax}: give it ${limits}`);
      }
      checkFunction(where, "decode", definition.decode);
      if (definition.decodeBatch !== undefined) checkFunction(where, "decodeBatch", definition.decodeBatch);
      if (definition.eventTime !== undefined) checkFunction(where, "eventTime", definition.eventTime);
      return;
    }
    case "generator": {
      checkFunction(where, "initial", definition.initial);
      checkFunction(where, "next", definition.next);
      if (definition.emit !== undefined) checkFunction(where, "emit", definition.emit);
      if (
        typeof definition.rate !== "number" ||
        !(definition.rate >= 0 && definition.rate < Number.POSITIVE_INFINITY)
      ) {
        const remedy = "give it records a second, 0 for as fast as they are taken";
        throw new PlanError("definition_invalid", `${where}: rate is ${String(definition.rate)}: ${remedy}`);
      }
      return;
    }
    default:
      throw new PlanError(
        "definition_invalid",
        `${where}: its definition is ${showType(definition)}: make one with tcpSource() or generatorSource()`,
      );
  }
}

/** @throws {PlanError} Naming the pipeline by what comes before the sink. */
export function checkSink(after: string, definition: SinkDefinition<never>): void {
  const where = `sink after ${after}`;
  if (definition?.kind !== "tcp") {
    throw new PlanError("definition_invalid", `${where}: it is ${showType(definition)}: make one with tcpSink()`);
  }
  checkFunction(where, "encode", definition.encode);
  if (definition.encodeBatch !== undefined) checkFunction(where, "encodeBatch", definition.encodeBatch);
  if (definition.output !== undefined && !isIntegerWithin(definition.output, 0, 1023)) {
    const remedy = "give it the place in --out, counted from 0";
    throw new PlanError("definition_invalid", `${where}: output is ${String(definition.output)}: ${remedy}`);
  }
}

function isIntegerWithin(value: unknown, min: number, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}
