import { printable } from "../../base/log.ts";
import { jsonText } from "../terminal.ts";

/** Nesting that is shown; what lies deeper is shown as JSON. */
const DEPTH_MAX = 6;

/** A worker's status as indented `name: value` lines. Its fields are the worker's business; whatever comes is shown. */
export function statusText(body: unknown): string {
  return lines(body, 0)
    .map((line) => `${line}\n`)
    .join("");
}

function lines(value: unknown, depth: number): string[] {
  const indent = "  ".repeat(depth);
  if (typeof value !== "object" || value === null || depth >= DEPTH_MAX) return [`${indent}${inline(value)}`];
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      if (isInline(item)) return [`${indent}- ${inline(item)}`];
      const [first, ...rest] = lines(item, depth + 1);
      return [`${indent}- ${(first ?? "").trimStart()}`, ...rest];
    });
  }
  return Object.entries(value).flatMap(([name, item]) => {
    const label = `${indent}${printable(name)
      .replaceAll("_", " ")
      .replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`)}:`;
    return isInline(item) ? [`${label} ${inline(item)}`] : [label, ...lines(item, depth + 1)];
  });
}

function isInline(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (Array.isArray(value)) return value.length === 0 || value.every((item) => typeof item !== "object");
  return Object.keys(value).length === 0;
}

function inline(value: unknown): string {
  if (typeof value === "string") return printable(value, 1_000);
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map((item) => inline(item)).join(", ");
  if (typeof value === "object" && value !== null && Object.keys(value).length === 0) return "none";
  return jsonText(value);
}
