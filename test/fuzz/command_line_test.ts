import assert from "node:assert/strict";
import { test } from "node:test";
import { application, framed, option, source, tcpSink, tcpSource } from "../../mod.ts";
import { ConfigError, EXIT, TammarError } from "../../src/base/errors.ts";
import { printable } from "../../src/base/log.ts";
import { COMMANDS } from "../../src/cli/main.ts";
import type { OptionSpec } from "../../src/cli/options.ts";
import {
  applicationModuleOf,
  checkApplication,
  LATER_OPTIONS,
  readWorkerOptions,
  WORKER_OPTIONS,
  wantsHelp,
} from "../../src/cli/worker_options.ts";
import { NetError } from "../../src/runtime/runtime.ts";
import { generateScenario } from "../../src/simulation/generate.ts";
import { parseScenario, type Scenario, showScenario } from "../../src/simulation/scenario.ts";
import type { Chance } from "./chance.ts";
import { emptyDisk, toolRuntime } from "./fakes.ts";
import { fuzz } from "./fuzz.ts";

const TOTALS = application(
  "Totals",
  {
    options: {
      rate: option.number({ default: 1000 }),
      loud: option.boolean({}),
      label: option.string({ default: "" }),
    },
  },
  () =>
    source("numbers", tcpSource({ framing: framed.u32, decode: (payload) => payload.byteLength }))
      .keyBy(String)
      .toSink(tcpSink({ encode: String })),
);

const VALUES = [
  "127.0.0.1:7000",
  "[::1]:7001",
  "localhost:0",
  "host",
  ":7000",
  "127.0.0.1:65536",
  "numbers@127.0.0.1:7010",
  "numbers@127.0.0.1:7010:1_000,other@[::1]:7011",
  "0",
  "1",
  "-1",
  "1_000",
  "1e3",
  "9999999999999999999999",
  "true",
  "alerts.ts",
  "initializer",
  "w1",
  "../x",
  "",
  "debug",
  "json",
  "größe \u001b[31m",
  "__proto__",
  "a=b",
  "status",
  "show",
  "/tmp",
];

/** An option as people write them, with its value or without. */
function someOption(chance: Chance, specs: readonly OptionSpec[]): string[] {
  const spec = chance.pick(specs);
  const value = chance.pick(VALUES);
  const long = `--${spec.name}`;
  const spelling = spec.letter !== undefined && chance.below(3) === 0 ? `-${spec.letter}` : long;
  if (spec.value === null && chance.below(8) > 0) return [spelling];
  return chance.below(2) === 0 ? [spelling, value] : [`${spelling}=${value}`];
}

/** Arguments in one piece, as they lie in memory: a zero byte behind each. */
function bytesOf(args: readonly string[]): Uint8Array {
  return new TextEncoder().encode(args.map((arg) => `${arg}\0`).join(""));
}

function argumentsOf(bytes: Uint8Array): string[] {
  return new TextDecoder().decode(bytes).split("\0").slice(0, -1);
}

const isTammarError = (error: unknown) => error instanceof TammarError;

test("fuzz: a worker's command line is taken, or refused in words", { timeout: 300_000 }, async () => {
  const specs = [
    ...WORKER_OPTIONS,
    ...LATER_OPTIONS,
    { name: "rate", value: "N", help: "" },
    { name: "loud", value: null, help: "" },
    { name: "ponythreads", value: "N", help: "" },
  ];
  await fuzz({
    name: "worker command line",
    make: (chance) => {
      const enough =
        chance.below(2) === 0
          ? ["--cluster-initializer", "--data", "127.0.0.1:7001", "--control", "127.0.0.1:7000"]
          : ["--name", "w1", "--control", "127.0.0.1:7000"];
      const application = ["--application-module", "x", "--in", "numbers@127.0.0.1:7010", "--out", "127.0.0.1:7200"];
      const base = chance.below(16) > 0 ? [...enough, ...application] : [];
      return bytesOf([...base, ...chance.some(2, () => someOption(chance, specs)).flat()]);
    },
    decode: (bytes) => {
      const args = argumentsOf(bytes);
      wantsHelp(args);
      applicationModuleOf(args);
      const options = readWorkerOptions(args, { workingDir: "/work", applicationCompiledIn: false });
      return { options, checked: checkApplication(args, options, TOTALS) };
    },
    check: ({ options, checked }) => {
      assert.ok(options.role === "initializer" || options.initializerControl !== null);
      assert.ok(options.resilienceDir.startsWith("/"));
      assert.ok(Number.isFinite(checked.values["rate"]));
    },
    announced: (error) => {
      if (!isTammarError(error)) return false;
      const { message, exitStatus } = error as TammarError;
      // What was typed may end on a terminal.
      assert.equal(printable(message, 100_000), message);
      return exitStatus === EXIT.usage;
    },
  });
});

test("fuzz: a tool's command line does what it says, or is refused in words", { timeout: 300_000 }, async () => {
  const tools = COMMANDS.filter(({ name }) => name !== "worker");
  await fuzz({
    name: "tool command line",
    make: (chance) => {
      const tool = chance.pick(tools);
      const words = chance.some(3, () => chance.pick(VALUES));
      return bytesOf([tool.name, ...words, ...chance.some(4, () => someOption(chance, tool.options)).flat()]);
    },
    decode: async (bytes) => {
      const [name, ...args] = argumentsOf(bytes);
      const tool = tools.find((candidate) => candidate.name === name);
      if (tool === undefined) return null;
      // Nobody is there, nothing can be listened on, there are no files: what is legal ends at once as well.
      const runtime = toolRuntime({ connect: null, disk: emptyDisk() });
      return await tool.run({ runtime, args, program: `tammar ${name}` });
    },
    check: (status) => {
      if (status !== null) assert.ok(Object.values(EXIT).includes(status) && status !== EXIT.bug);
    },
    announced: (error) => isTammarError(error) || error instanceof NetError,
  });
});

/** What somebody may write into a scenario by hand. */
const JSON_PIECES = [
  "null",
  "[]",
  "{}",
  "-1",
  "1e400",
  '"w9"',
  '{"do":"kill","worker":"w1","at":{"ms":1}}',
  "__proto__",
];

test("fuzz: a scenario file is taken, or refused with the field that is wrong", { timeout: 300_000 }, async () => {
  const scenarios = Array.from({ length: 40 }, (_, i) => generateScenario(BigInt(i)));
  await fuzz({
    name: "scenario",
    make: (chance) => {
      const scenario = chance.pick(scenarios);
      const fewer: Scenario = { ...scenario, faults: scenario.faults.slice(0, chance.below(4)) };
      const text = showScenario(fewer);
      if (chance.below(3) > 0) return new TextEncoder().encode(text);
      const values = [...text.matchAll(/[:[] ?("[^"]*"|-?[\d.]+|\[\]|true)/g)];
      const found = chance.pick(values);
      const at = found.index + found[0].indexOf(found[1]!);
      return new TextEncoder().encode(text.slice(0, at) + chance.pick(JSON_PIECES) + text.slice(at + found[1]!.length));
    },
    decode: (bytes) => parseScenario(new TextDecoder().decode(bytes)),
    check: (scenario) => {
      assert.deepEqual(parseScenario(showScenario(scenario)), scenario);
    },
    announced: (error) => error instanceof ConfigError && error.code === "scenario_invalid",
    large: [
      () => new TextEncoder().encode("[".repeat(1 << 20)),
      () => new TextEncoder().encode(`{"workers":${"[".repeat(1 << 18)}${"]".repeat(1 << 18)}}`),
      () => new TextEncoder().encode(`{"workers":2,"faults":${"[".repeat(1 << 18)}${"]".repeat(1 << 18)}}`),
    ],
  });
});
