/** Draws a trace as a message-sequence chart: a column for each machine, a row for each event, time downwards. */
import type { Millis } from "../runtime/runtime.ts";
import type { TraceEvent } from "./trace.ts";

export interface TimelineOptions {
  /** The middle of what is drawn. Default: the first violation, or the end. */
  readonly aroundMs?: Millis;
  /** Rows at most: three quarters of them before, a quarter behind the middle. */
  readonly rows: number;
}

interface Row {
  readonly t: Millis;
  readonly text: string;
  readonly what:
    | { readonly kind: "arrow"; readonly from: number; readonly to: number }
    | { readonly kind: "mark"; readonly at: number; readonly sign: "●" | "✱" | "✗" }
    | { readonly kind: "rule"; readonly failed: boolean };
}

export interface Timeline {
  readonly columns: readonly string[];
  readonly rows: readonly Row[];
  /** Rows that are not drawn, before and behind. */
  readonly before: number;
  readonly behind: number;
}

/** What says nothing but that nothing happens. */
const QUIET_FRAMES: ReadonlySet<string> = new Set(["ack", "credit", "heartbeat"]);
const QUIET_LOG: ReadonlySet<string> = new Set(["sink_blocked", "sink_free"]);
const TEXT_LENGTH_MAX = 110;
const PIECES_MS: Millis = 5;

export function layOut(events: readonly TraceEvent[], options: TimelineOptions): Timeline {
  const first = events.find((event) => event.kind === "scenario");
  const machines = first?.kind === "scenario" ? first.machines : [];
  const used = new Set(events.flatMap((event) => machinesOf(event)));
  const columns = machines.filter((machine) => used.has(machine));
  const rows = events.flatMap((event) => rowOf(event, columns) ?? []);
  // In order of time, since a violation is written at the end; equal times keep their order.
  const sorted = rows
    .map((row, place) => ({ row, place }))
    .sort((a, b) => a.row.t - b.row.t || a.place - b.place)
    .map(({ row }) => row)
    .filter((row, i, all) => !continues(row, all[i - 1]));
  const violation = sorted.findIndex(({ what }) => what.kind === "rule" && what.failed);
  const { aroundMs } = options;
  let middle = violation >= 0 ? violation : sorted.length;
  if (aroundMs !== undefined) {
    const at = sorted.findIndex(({ t }) => t >= aroundMs);
    middle = at >= 0 ? at : sorted.length;
  }
  const from = Math.max(0, Math.min(middle - Math.ceil(options.rows * 0.75), sorted.length - options.rows));
  const drawn = sorted.slice(from, from + options.rows);
  return { columns, rows: drawn, before: from, behind: sorted.length - from - drawn.length };
}

function machinesOf(event: TraceEvent): string[] {
  switch (event.kind) {
    case "message":
      return [event.from, event.to];
    case "log":
    case "process":
      return [event.worker];
    default:
      return [];
  }
}

function rowOf(event: TraceEvent, columns: readonly string[]): Row | null {
  switch (event.kind) {
    case "scenario":
    case "step":
      return null;
    case "message": {
      const what = event.what.filter((name) => !QUIET_FRAMES.has(name));
      const [from, to] = [columns.indexOf(event.from), columns.indexOf(event.to)];
      if (what.length === 0 || from < 0 || to < 0) return null;
      const text = `${event.channel}: ${counted(what)}`;
      return {
        t: event.t,
        text,
        what: from === to ? { kind: "mark", at: from, sign: "●" } : { kind: "arrow", from, to },
      };
    }
    case "log": {
      const at = columns.indexOf(event.worker);
      if (at < 0 || QUIET_LOG.has(event.code)) return null;
      return { t: event.t, text: `${event.worker} says ${event.text}`, what: { kind: "mark", at, sign: "●" } };
    }
    case "process": {
      const at = columns.indexOf(event.worker);
      const sign = event.what === "starts" ? "✱" : "✗";
      return { t: event.t, text: `${event.worker} ${event.what}`, what: { kind: "mark", at, sign } };
    }
    case "fault":
      return {
        t: event.t,
        text: `FAULT ${event.what} ${event.effect || "(no effect)"}`,
        what: { kind: "rule", failed: false },
      };
    case "violation":
      return { t: event.t, text: `VIOLATION ${event.oracle}: ${event.text}`, what: { kind: "rule", failed: true } };
  }
}

/** Bytes of one write come in pieces; the first stands for those that follow it at once. */
function continues(row: Row, before: Row | undefined): boolean {
  const isPiece = (text: string) => /: \d+ bytes$/.test(text);
  if (before?.what.kind !== "arrow" || row.what.kind !== "arrow") return false;
  const sameWay = before.what.from === row.what.from && before.what.to === row.what.to;
  return sameWay && isPiece(before.text) && isPiece(row.text) && row.t - before.t < PIECES_MS;
}

/** `batch ×3, end_of_input` */
function counted(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, n]) => (n === 1 ? name : `${name} ×${n}`)).join(", ");
}

function short(text: string): string {
  return text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX)}…` : text;
}

const LANE = 8;

/** For a terminal. */
export function drawText({ columns, rows, before, behind }: Timeline): string {
  const width = columns.length * LANE;
  const lines: string[] = [];
  lines.push(`${" ".repeat(13)}${columns.map((name) => name.slice(0, LANE - 1).padEnd(LANE)).join("")}`);
  if (before > 0) lines.push(`${" ".repeat(13)}${before} events before`);
  for (const { t, text, what } of rows) {
    const lanes: string[] = Array.from({ length: width }, (_, x) => (x % LANE === 2 ? "│" : " "));
    if (what.kind === "mark" && what.at >= 0) lanes[what.at * LANE + 2] = what.sign;
    if (what.kind === "rule") lanes.fill(what.failed ? "═" : "┄");
    if (what.kind === "arrow") {
      const [left, right] = [Math.min(what.from, what.to) * LANE + 2, Math.max(what.from, what.to) * LANE + 2];
      for (let x = left + 1; x < right; x++) if (lanes[x] === " ") lanes[x] = "─";
      lanes[what.from * LANE + 2] = "├";
      if (what.from > what.to) lanes[what.from * LANE + 2] = "┤";
      if (what.to > what.from) lanes[right - 1] = "▶";
      else lanes[left + 1] = "◀";
    }
    lines.push(`${(t / 1000).toFixed(4).padStart(10)}   ${lanes.join("")} ${short(text)}`);
  }
  if (behind > 0) lines.push(`${" ".repeat(13)}${behind} events behind`);
  return `${lines.join("\n")}\n`;
}

const ROW_PX = 18;
const LANE_PX = 110;
const LEFT_PX = 90;
const TOP_PX = 40;

/** For a browser. */
export function drawSvg({ columns, rows }: Timeline): string {
  const height = TOP_PX + rows.length * ROW_PX + 20;
  const textX = LEFT_PX + columns.length * LANE_PX;
  const x = (column: number) => LEFT_PX + column * LANE_PX + LANE_PX / 2;
  const parts: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${textX + 900}" height="${height}" font-family="monospace" font-size="12">`,
    `<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>`,
    `<rect width="100%" height="100%" fill="white"/>`,
  ];
  for (const [i, name] of columns.entries()) {
    parts.push(`<text x="${x(i)}" y="20" text-anchor="middle" font-weight="bold">${escaped(name)}</text>`);
    parts.push(`<line x1="${x(i)}" y1="28" x2="${x(i)}" y2="${height - 10}" stroke="#bbb"/>`);
  }
  for (const [i, { t, text, what }] of rows.entries()) {
    const y = TOP_PX + i * ROW_PX;
    parts.push(`<text x="${LEFT_PX - 10}" y="${y + 4}" text-anchor="end" fill="#666">${(t / 1000).toFixed(4)}</text>`);
    const colour = text.startsWith("VIOLATION") ? "#c00" : text.startsWith("FAULT") ? "#b60" : "#000";
    parts.push(`<text x="${textX}" y="${y + 4}" fill="${colour}">${escaped(short(text))}</text>`);
    if (what.kind === "arrow") {
      parts.push(
        `<line x1="${x(what.from)}" y1="${y}" x2="${x(what.to)}" y2="${y}" stroke="#069" marker-end="url(#a)"/>`,
      );
    } else if (what.kind === "mark" && what.at >= 0) {
      const fill = what.sign === "✗" ? "#c00" : what.sign === "✱" ? "#080" : "#444";
      parts.push(`<circle cx="${x(what.at)}" cy="${y}" r="${what.sign === "●" ? 3 : 5}" fill="${fill}"/>`);
    } else {
      parts.push(
        `<line x1="${LEFT_PX}" y1="${y}" x2="${textX - 10}" y2="${y}" stroke="${colour}" stroke-dasharray="4 3"/>`,
      );
    }
  }
  parts.push("</svg>");
  return `${parts.join("\n")}\n`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
