/** `scripts/sim replay`, `shrink` and `show`: one run, looked at. */
import process from "node:process";
import { drawSvg, drawText, layOut } from "../../../src/simulation/timeline.ts";
import { type TraceEvent, Tracer } from "../../../src/simulation/trace.ts";
import { countOption, parseArguments, UsageError } from "../arguments.ts";
import {
  type Context,
  checkWritable,
  pathFrom,
  readGiven,
  SHRINK_MS,
  scenarioOf,
  shellWord,
  shrinkWithin,
  tellShrunk,
  writeGiven,
} from "../context.ts";
import { execute } from "../execute.ts";
import { showViolation } from "../report.ts";

export async function replay(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seed", "until", "trace"], ["log"]);
  const { scenario, name } = scenarioOf(context, given);
  const { options } = given;
  const trace = options.get("trace");
  const untilStep = options.has("until") ? countOption(given, "until", 1) : undefined;
  checkWritable(context, trace);
  const events: TraceEvent[] = [];
  const result = await execute(scenario, {
    ...(untilStep === undefined ? {} : { untilStep }),
    ...(trace === undefined ? {} : { tracer: new Tracer((event) => void events.push(event)) }),
    onLog: ({ timeMs, worker, process: number, code, text }) => {
      if (options.has("log")) console.log(`${showMs(timeMs)} ${worker}/${number} ${code}: ${text}`);
    },
  });
  for (const { timeMs, kind, effect } of result.observation.faults) {
    console.log(`${showMs(timeMs)} ${kind} ${effect === "" ? "(no effect)" : effect}`);
  }
  if (trace !== undefined) {
    writeGiven(context, trace, events.map((event) => `${JSON.stringify(event)}\n`).join(""));
    console.log(`${events.length} events in ${trace}; scripts/sim show ${shellWord(trace)} draws them`);
  }
  for (const violation of result.violations) console.log(showViolation(violation, `scripts/sim replay ${name}`));
  console.log(
    `${result.steps} steps, ${(result.virtualMs / 1000).toFixed(3)} virtual s, ${result.violations.length} violations, ` +
      `trace ${result.traceHash}`,
  );
  return result.violations.length === 0 ? 0 : 1;
}

function showMs(timeMs: number): string {
  return timeMs.toFixed(3).padStart(12);
}

export async function shrink(context: Context, args: readonly string[]): Promise<number> {
  const given = parseArguments(args, ["seed", "out"], []);
  const { scenario, name } = scenarioOf(context, given);
  const seed = given.options.get("seed");
  const out = given.options.get("out") ?? `${seed ?? given.words[0]!.replace(/\.json$/, "")}.small.json`;
  checkWritable(context, out);
  const shrunk = await shrinkWithin(scenario, SHRINK_MS, (text) => console.log(text));
  if (shrunk === null) {
    console.log(`${name} does not fail: there is nothing to shrink`);
    return 1;
  }
  tellShrunk(shrunk, pathFrom(context, out));
  return 0;
}

export function show(context: Context, args: readonly string[]): number {
  const given = parseArguments(args, ["around", "rows", "svg"], []);
  const [file] = given.words;
  if (file === undefined || given.words.length > 1) {
    throw new UsageError("give one trace file, as scripts/sim replay --trace writes it");
  }
  const events = readTrace(file, readGiven(context, file));
  const around = given.options.get("around");
  if (around !== undefined && !/^[0-9]+(\.[0-9]+)?$/.test(around)) {
    throw new UsageError(`--around is ${around}: it is a virtual time in milliseconds`);
  }
  const timeline = layOut(events, {
    rows: countOption(given, "rows", 120),
    ...(around === undefined ? {} : { aroundMs: Number(around) }),
  });
  process.stdout.write(drawText(timeline));
  const svg = given.options.get("svg");
  if (svg !== undefined) writeGiven(context, svg, drawSvg(timeline));
  return 0;
}

function readTrace(file: string, text: string): TraceEvent[] {
  const lines = text.split("\n").filter((line) => line !== "");
  const events = lines.map((line, i): TraceEvent => {
    try {
      const event = JSON.parse(line) as TraceEvent;
      if (typeof event.kind === "string") return event;
    } catch {
      // Said below.
    }
    throw new UsageError(
      `${file} is no trace: line ${i + 1} is none of its events; scripts/sim replay --trace writes one`,
    );
  });
  if (events[0]?.kind !== "scenario") {
    throw new UsageError(
      `${file} is no trace: it does not begin with a scenario; scripts/sim replay --trace writes one`,
    );
  }
  return events;
}
