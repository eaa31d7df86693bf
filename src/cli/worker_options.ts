/**
 * The options of `tammar worker`: names, letters, units and defaults of the original, and the rules of its roles.
 *
 * Wrong usage is found here, in one process, before anything is started: one `ConfigError`, which names the option, its
 * value and what to do. What needs the application (its own options, its sources and sinks) is checked by
 * `checkApplication`, once the module is loaded.
 */
import type { Application } from "../api/application.ts";
import { type ConnectorTerms, CREDITS_MAX, isCookie } from "../api/connector_source.ts";
import { type OptionSpecs, optionFlag, readOptionValues } from "../api/options.ts";
import { absolutePath } from "../base/absolute_path.ts";
import { ConfigError } from "../base/errors.ts";
import { INITIALIZER, WORKER_NAME, type WorkerName } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import { type Plan, planApplication } from "../plan/plan.ts";
import type { Address, Millis } from "../runtime/runtime.ts";
import { DEFAULT_CHECKPOINT_MS, type LogRotation, type SourceAddress } from "../worker/config.ts";
import type { LogFormat, LogLevel } from "./logger.ts";
import { parseMemoryLimit } from "./memory_limit.ts";
import { nearest } from "./nearest.ts";
import {
  addressOf,
  choiceOf,
  type Given,
  integerOf,
  isGiven,
  type OptionSpec,
  type ParsedArguments,
  parseAddress,
  parseArguments,
  parsePort,
  readDuration,
  refuseUnknown,
  splitHost,
  textOf,
  unknownOption,
} from "./options.ts";
import { withoutPonyOptions } from "./pony_options.ts";

/** Options that do something. */
const WORKING: readonly OptionSpec[] = [
  {
    name: "application-module",
    value: "MODULE",
    help: "The application: a path, or a name looked for here, in TAMMAR_PATH and in PYTHONPATH",
  },
  {
    name: "in",
    letter: "i",
    value: "NAME@HOST:PORT[:MAX],...",
    help:
      "Where each TCP or connector source listens; MAX is its largest frame in bytes. " +
      "A connector source also takes NAME@HOST:PORT:COOKIE:MAXCREDITS:REFILLCREDITS",
  },
  {
    name: "out",
    letter: "o",
    value: "HOST:PORT,...",
    help: "Where each TCP or connector sink connects to, by position",
  },
  {
    name: "cluster-initializer",
    letter: "t",
    value: null,
    help: "This worker coordinates the cluster; its name is `initializer`",
  },
  {
    name: "worker-count",
    letter: "w",
    value: "N",
    help: "Initializer: how many workers the cluster has, this one included",
    default: "1",
  },
  { name: "name", letter: "n", value: "NAME", help: "Name of any other worker: 1 to 64 of A-Z a-z 0-9 . _ -" },
  {
    name: "control",
    letter: "c",
    value: "HOST:PORT",
    help: "Initializer: where its control channel listens; others: where to find it",
  },
  { name: "data", letter: "d", value: "HOST:PORT", help: "Initializer: where its data channel listens" },
  {
    name: "my-control",
    letter: "x",
    value: "HOST:PORT",
    help: "Others: where the control channel listens (default: a free port)",
  },
  {
    name: "my-data",
    letter: "y",
    value: "HOST:PORT",
    help: "Others: where the data channel listens (default: a free port)",
  },
  {
    name: "external",
    letter: "e",
    value: "HOST:PORT",
    help: "Where the external channel listens, for `tammar shutdown` and `tammar query` (default: none)",
  },
  {
    name: "metrics",
    letter: "m",
    value: "HOST:PORT",
    help: "Where metrics are sent every 2 seconds (default: nowhere)",
  },
  {
    name: "resilience-dir",
    letter: "r",
    value: "DIR",
    help: "Where this worker keeps its folder; made if it is missing",
    default: "/tmp",
  },
  {
    name: "checkpoint-interval",
    value: "TIME",
    help: "Pause between two checkpoints, as 1s or 250ms; off: none are taken, and state is lost with its process",
    default: "1s",
  },
  { name: "time-between-checkpoints", value: "NS", help: "The same in nanoseconds" },
  { name: "run-with-resilience", value: null, help: "Changes nothing: checkpoints are taken unless they are off" },
  {
    name: "accept-state-loss",
    value: null,
    help: "Go on without what was lost of the saved state, instead of refusing to start",
  },
  {
    name: "accept-other-version",
    value: null,
    help: "Go on from the last checkpoint of another version of the application, though it was not suspended",
  },
  {
    name: "memory-limit",
    value: "BYTES",
    help: "Of resident memory: beyond it the worker takes a checkpoint and leaves, with exit status 21; off: none (default: nine tenths of what there is)",
  },
  {
    name: "log-rotation",
    value: null,
    help: "Keep the event log in numbered files in the resilience folder, and begin a new one when rotate-log asks for it",
  },
  {
    name: "event-log-file-size",
    letter: "l",
    value: "BYTES",
    help: "With --log-rotation: begin a new file, too, when one has so many bytes (default: only when asked)",
  },
  { name: "log-level", value: "LEVEL", help: "error, warn, info or debug", default: "info" },
  { name: "log-format", value: "FORMAT", help: "text, or json: one object a line", default: "text" },
];

/** Options that are understood and checked, and refused for now. */
const LATER: readonly OptionSpec[] = [
  { name: "join", letter: "j", value: "HOST:PORT", help: "Join a running cluster through this control address" },
];

/** Options that never did anything, or stand for something that does not exist here. */
const DEAD: readonly OptionSpec[] = [
  { name: "file", letter: "f", value: "FILE", help: "", hidden: true },
  { name: "stop-pause", letter: "u", value: "NS", help: "", hidden: true },
  { name: "resilience-dos-server", value: "HOST:PORT,...", help: "", hidden: true },
  { name: "resilience-enable-io-journal", value: null, help: "", hidden: true },
  { name: "resilience-no-local-file-io", value: null, help: "", hidden: true },
  { name: "spike-seed", value: "N", help: "", hidden: true },
  { name: "spike-prob", value: "P", help: "", hidden: true },
  { name: "spike-margin", value: "N", help: "", hidden: true },
  { name: "spike-drop", value: null, help: "", hidden: true },
  { name: "worker-name", value: "NAME", help: "", hidden: true },
  { name: "stage", value: "NAME", help: "", hidden: true },
];

const HELP: OptionSpec = { name: "help", letter: "h", value: null, help: "Show this text" };

/** Options of the original that come with a later release: shown apart in the help text. */
export const LATER_OPTIONS = LATER;
/** What `--help` shows. */
export const WORKER_OPTIONS: readonly OptionSpec[] = [...WORKING, HELP];
const KNOWN: readonly OptionSpec[] = [...WORKER_OPTIONS, ...LATER, ...DEAD];

/** What the command line alone says: everything but the application. */
export interface WorkerOptions {
  readonly wantsHelp: boolean;
  readonly role: "initializer" | "worker";
  readonly name: WorkerName;
  readonly workerCount: number;
  readonly controlListen: Address;
  readonly dataListen: Address;
  readonly initializerControl: Address | null;
  readonly externalListen: Address | null;
  readonly metrics: Address | null;
  readonly inputs: ReadonlyMap<string, SourceAddress>;
  readonly outputs: readonly Address[];
  readonly resilienceDir: string;
  /** Null: off. */
  readonly checkpointIntervalMs: Millis | null;
  readonly acceptStateLoss: boolean;
  readonly acceptOtherVersion: boolean;
  /** Infinity: off. Null: not given. */
  readonly memoryLimitBytes: number | null;
  /** Null: off. */
  readonly logRotation: LogRotation | null;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** `null`: the application is compiled into this executable. */
  readonly applicationModule: string | null;
}

/** Where a worker finds itself: what the command line leaves open. */
export interface WorkerSurroundings {
  readonly workingDir: string;
  /** Is the application part of this executable? Then `--application-module` has no place. */
  readonly applicationCompiledIn: boolean;
}

/** Is `--help` among the arguments (and not the value of an option)? */
export function wantsHelp(args: readonly string[]): boolean {
  return isGiven(parseArguments(ownArguments(args), KNOWN), "help");
}

/** `--application-module`, whatever else is wrong: for `--help`. */
export function applicationModuleOf(args: readonly string[]): string | null {
  return textOf(parseArguments(ownArguments(args), KNOWN), "application-module");
}

/**
 * Reads and checks the worker's own options. Options the worker doesn't know are left for `checkApplication`.
 *
 * @throws {ConfigError}
 */
export function readWorkerOptions(args: readonly string[], surroundings: WorkerSurroundings): WorkerOptions {
  const parsed = parseArguments(ownArguments(args), KNOWN);
  try {
    return checkOptions(parsed, surroundings);
  } catch (error) {
    // `--nmae w1` is first of all a typing error, and only then a missing name.
    if (error instanceof ConfigError && error.code === "option_required") {
      const names = WORKING.map((spec) => `--${spec.name}`);
      const mistyped = parsed.unknown.find(
        (spelling) => spelling.startsWith("--") && nearest(spelling, names) !== null,
      );
      if (mistyped !== undefined) throw unknownOption(mistyped, WORKING);
    }
    throw error;
  }
}

function checkOptions(parsed: ParsedArguments, surroundings: WorkerSurroundings): WorkerOptions {
  const isInitializer = isGiven(parsed, "cluster-initializer");
  const workerCount = checkWorkerCount(parsed);
  const name = checkName(parsed);
  const control = addressOf(parsed, "control", isInitializer ? "listen" : "connect");
  const data = addressOf(parsed, "data", "listen");
  const myControl = addressOf(parsed, "my-control", "listen");
  const myData = addressOf(parsed, "my-data", "listen");
  const externalListen = addressOf(parsed, "external", "listen");
  const metrics = addressOf(parsed, "metrics", "connect");
  const inputs = parseInputs(parsed);
  const outputs = parseOutputs(parsed);
  const resilienceDir = absolutePath(textOf(parsed, "resilience-dir") ?? "/tmp", surroundings.workingDir);
  const logLevel = choiceOf(parsed, "log-level", ["error", "warn", "info", "debug"]) ?? "info";
  const logFormat = choiceOf(parsed, "log-format", ["text", "json"]) ?? "text";
  const applicationModule = textOf(parsed, "application-module");
  const checkpointIntervalMs = checkpointInterval(parsed);
  refuseLater(parsed, isInitializer);
  checkModuleOption(parsed, surroundings);

  const common = {
    wantsHelp: isGiven(parsed, "help"),
    externalListen,
    metrics,
    inputs,
    outputs,
    resilienceDir,
    checkpointIntervalMs,
    acceptStateLoss: isGiven(parsed, "accept-state-loss"),
    acceptOtherVersion: isGiven(parsed, "accept-other-version"),
    memoryLimitBytes: parseMemoryLimit(textOf(parsed, "memory-limit")),
    logRotation: logRotation(parsed, checkpointIntervalMs),
    logLevel,
    logFormat,
    applicationModule,
  };
  if (isInitializer) {
    if (data === null) {
      throw required(
        "Cluster initializer needs its data channel address to be specified via --data.",
        "--data 127.0.0.1:7001",
      );
    }
    const count = workerCount ?? 1;
    if (control === null && count > 1) {
      throw required(
        `Cluster initializer of ${count} workers needs the address where they find it to be specified via --control.`,
        "--control 127.0.0.1:7000",
      );
    }
    const controlListen = control ?? { host: data.host, port: 0 };
    return {
      ...common,
      role: "initializer",
      name: INITIALIZER,
      workerCount: count,
      controlListen,
      dataListen: data,
      initializerControl: null,
    };
  }

  if (workerCount !== null) {
    throw notForWorkers(
      parsed,
      "worker-count",
      "Only supply --worker-count to cluster initializer or to joining worker.",
    );
  }
  if (data !== null) {
    throw notForWorkers(parsed, "data", "Only supply --data to cluster initializer.", "a worker listens at --my-data");
  }
  if (name === null) {
    throw required(
      "You must specify a worker name via --name/-n.",
      "--name worker1",
      "the first worker of a cluster is started with --cluster-initializer instead",
    );
  }
  if (control === null) {
    throw required(
      `Worker ${name} needs the control address of the initializer to be specified via --control.`,
      "--control 127.0.0.1:7000",
    );
  }
  // Whoever finds the initializer over a network is to be found over it too.
  const anyPort = { host: defaultListenHost(control.host), port: 0 };
  return {
    ...common,
    role: "worker",
    name,
    workerCount: 0,
    controlListen: myControl ?? anyPort,
    dataListen: myData ?? anyPort,
    initializerControl: control,
  };
}

function required(sentence: string, example: string, remark?: string): ConfigError {
  const more = remark === undefined ? "" : `; ${remark}`;
  return new ConfigError("option_required", `${sentence} For example ${example}${more}`);
}

function notForWorkers(parsed: ParsedArguments, name: string, sentence: string, remark?: string): ConfigError {
  const { value } = parsed.given.get(name)!;
  const leaveOut = `Leave "--${name} ${printable(value ?? "")}" out, or add --cluster-initializer`;
  return new ConfigError("option_not_for_role", `${sentence} ${leaveOut}${remark === undefined ? "" : `; ${remark}`}`);
}

function checkWorkerCount(parsed: ParsedArguments): number | null {
  if (/^\+?0[0_]*$/.test(textOf(parsed, "worker-count") ?? "")) {
    throw new ConfigError(
      "option_out_of_range",
      "--worker-count must be at least 1. It counts this worker too, so 0 is none",
    );
  }
  return integerOf(parsed, "worker-count", { min: 1, max: 256 });
}

function checkName(parsed: ParsedArguments): WorkerName | null {
  const name = textOf(parsed, "name");
  if (name === null) return null;
  if (!WORKER_NAME.test(name)) {
    throw new ConfigError(
      "worker_name_invalid",
      `--name ${printable(name)}: a worker's name has 1 to 64 characters of A-Z a-z 0-9 . _ - and does not begin with a dot`,
    );
  }
  if (name === INITIALIZER && !isGiven(parsed, "cluster-initializer")) {
    throw new ConfigError(
      "worker_name_reserved",
      `--name ${INITIALIZER}: this name belongs to the worker that is started with --cluster-initializer; add that, or take another name`,
    );
  }
  return name;
}

const CHECKPOINT_MS_MAX: Millis = 24 * 3_600_000;

/** Of `--checkpoint-interval` or `--time-between-checkpoints`; null: off. */
function checkpointInterval(parsed: ParsedArguments): Millis | null {
  const nanos = integerOf(parsed, "time-between-checkpoints", { min: 0, max: CHECKPOINT_MS_MAX * 1e6 });
  const text = textOf(parsed, "checkpoint-interval");
  if (nanos !== null && text !== null) {
    throw new ConfigError(
      "options_conflict",
      `--time-between-checkpoints ${nanos} and --checkpoint-interval ${printable(text)} say the same thing twice: give one of them`,
    );
  }
  // Shorter than a millisecond is as often as they can be.
  if (nanos !== null) return Math.max(1, Math.round(nanos / 1e6));
  if (text === null) return DEFAULT_CHECKPOINT_MS;
  if (text === "off") return null;
  const ms = readDuration(text);
  if (ms !== null && ms >= 1 && ms <= CHECKPOINT_MS_MAX) return ms;
  throw new ConfigError(
    "option_invalid",
    `--checkpoint-interval ${printable(text)}: give a time from 1ms to 24h, as 250ms, 1s or 5m, or off`,
  );
}

/** `--log-rotation` and `--event-log-file-size`; null: not given. */
function logRotation(parsed: ParsedArguments, intervalMs: Millis | null): LogRotation | null {
  const fileBytes = integerOf(parsed, "event-log-file-size", { min: 1 });
  if (!isGiven(parsed, "log-rotation")) {
    if (fileBytes === null) return null;
    throw new ConfigError(
      "options_conflict",
      "--event-log-file-size has a meaning only together with --log-rotation: give both or neither",
    );
  }
  if (intervalMs === null) {
    throw new ConfigError(
      "options_conflict",
      "--log-rotation has no log to rotate with --checkpoint-interval off: leave one of the two out",
    );
  }
  return { fileBytes };
}

function checkModuleOption(parsed: ParsedArguments, surroundings: WorkerSurroundings): void {
  const module = parsed.given.get("application-module");
  if (surroundings.applicationCompiledIn) {
    if (module === undefined) return;
    throw new ConfigError(
      "option_not_for_program",
      `--application-module ${printable(module.value ?? "")}: this program has its application built in: leave it out`,
    );
  }
  if (module !== undefined) return;
  throw required(
    "You must provide the application with --application-module MODULE.",
    "--application-module ./alerts.ts",
  );
}

/** Options for what a later release brings: checked as they will be, then refused. */
function refuseLater(parsed: ParsedArguments, isInitializer: boolean): void {
  const join = addressOf(parsed, "join", "connect");
  if (join !== null && isInitializer) {
    throw new ConfigError(
      "options_conflict",
      "--join cannot be given together with --cluster-initializer: whoever joins a running cluster does not start one",
    );
  }
  if (join !== null && textOf(parsed, "name") === null) {
    throw new ConfigError(
      "option_required",
      "You must specify a name for the worker via the -n parameter. For example -n worker3",
    );
  }
  for (const { name, value } of LATER) {
    const given = parsed.given.get(name);
    if (given === undefined) continue;
    const shown = value === null ? given.spelling : `${given.spelling} ${printable(given.value ?? "")}`;
    throw new ConfigError(
      "option_later",
      `${shown}: ${LATER_REASONS[name]} with a later release of Tammar; leave the option out`,
    );
  }
}

const LATER_REASONS: Readonly<Record<string, string>> = {
  join: "joining a running cluster comes",
};

function ignoredOptions(
  parsed: ParsedArguments,
  dead: readonly OptionSpec[],
  role: WorkerOptions["role"],
): readonly string[] {
  const spellings = dead.flatMap(({ name }) => parsed.given.get(name)?.spelling ?? []);
  if (role === "initializer")
    spellings.push(...["my-control", "my-data"].flatMap((name) => parsed.given.get(name)?.spelling ?? []));
  if (spellings.length === 0) return [];
  const subject = spellings.length === 1 ? "this option has" : "these options have";
  return [`Ignoring ${spellings.join(", ")}: ${subject} no effect here`];
}

function defaultListenHost(peerHost: string): string {
  if (/^(localhost|127\..*|::1)$/.test(peerHost)) return peerHost === "localhost" ? "127.0.0.1" : peerHost;
  return peerHost.includes(":") ? "::" : "0.0.0.0";
}

/** Largest frame that `--in` may allow, in bytes. */
const FRAME_BYTES_MAX = 16 << 20;

function parseInputs(parsed: ParsedArguments): ReadonlyMap<string, SourceAddress> {
  const inputs = new Map<string, SourceAddress>();
  const text = textOf(parsed, "in");
  if (text === null) return inputs;
  const { spelling } = parsed.given.get("in")!;
  for (const entry of text.split(",")) {
    const refuse = (reason: string) =>
      new ConfigError(
        "input_invalid",
        `${spelling} "${printable(withoutCookie(entry))}": ${reason}; expected NAME@HOST:PORT, NAME@HOST:PORT:MAX or ` +
          "NAME@HOST:PORT:COOKIE:MAXCREDITS:REFILLCREDITS, with commas between several, such as words@127.0.0.1:7010",
      );
    const [name, address, ...more] = entry.split("@");
    if (entry === "") throw refuse("an entry is empty");
    if (address === undefined) throw refuse("there is no @ between the source's name and its address");
    if (more.length > 0) throw refuse("there is more than one @");
    if (name === undefined || name === "") throw refuse("the source's name is missing");
    if (inputs.has(name)) throw refuse("this source already has an address");
    const { host, rest } = splitHost(address, refuse);
    const [, port, ...fields] = rest.split(":");
    if (port === undefined) throw refuse("the port is missing");
    const listen = { host, port: parsePort(port, "listen", refuse) };
    if (fields.length < 2) inputs.set(name, { ...listen, frameBytesMax: parseFrameMax(fields[0], refuse) });
    else inputs.set(name, { ...listen, frameBytesMax: null, connector: parseTerms(fields, refuse) });
  }
  return inputs;
}

/** A cookie is a secret: what comes behind the port is not shown. */
function withoutCookie(entry: string): string {
  const shown = /^([^@]*@)?(\[[^\]]*\]|[^:]*)(:[^:]*)?/.exec(entry)![0];
  return shown.length < entry.length ? `${shown}:...` : entry;
}

function parseTerms(fields: readonly string[], refuse: (reason: string) => ConfigError): ConnectorTerms {
  const [cookie = "", max = "", refill = "", ...more] = fields;
  if (fields.length === 2)
    throw refuse("behind the port there is one number, or there are COOKIE, MAXCREDITS and REFILLCREDITS");
  if (more.length > 0) throw refuse("too many colons: a cookie that is given here has neither colon nor comma");
  if (!isCookie(cookie)) throw refuse("the cookie has more than 65,535 bytes");
  const maxCredits = parseCredits(max, 1, CREDITS_MAX, "MAXCREDITS", refuse);
  return { cookie, maxCredits, refillCredits: parseCredits(refill, 0, maxCredits, "REFILLCREDITS", refuse) };
}

function parseCredits(
  text: string,
  min: number,
  max: number,
  name: string,
  refuse: (reason: string) => ConfigError,
): number {
  const value = /^[0-9][0-9_]{0,12}$/.test(text) ? Number(text.replaceAll("_", "")) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw refuse(`${name} is no whole number from ${min} to ${max}`);
}

function parseFrameMax(text: string | undefined, refuse: (reason: string) => ConfigError): number | null {
  if (text === undefined) return null;
  const value = /^[0-9][0-9_]{0,12}$/.test(text) ? Number(text.replaceAll("_", "")) : Number.NaN;
  if (value >= 1 && value <= FRAME_BYTES_MAX) return value;
  throw refuse(`MAX is no frame size, which is a number of bytes from 1 to ${FRAME_BYTES_MAX}`);
}

function parseOutputs(parsed: ParsedArguments): readonly Address[] {
  const text = textOf(parsed, "out");
  if (text === null) return [];
  const { spelling } = parsed.given.get("out")!;
  return text.split(",").map((entry) => parseAddress(spelling, entry, "connect"));
}

/** The arguments that the tables know about. @throws {ConfigError} `pony_threads`. */
function ownArguments(args: readonly string[]): readonly string[] {
  const { kept, threads } = withoutPonyOptions(args);
  if (threads === null || threads === "1") return kept;
  throw new ConfigError(
    "pony_threads",
    `--ponythreads ${printable(threads)}: a worker has one thread; give --ponythreads 1 or nothing, and start more workers`,
  );
}

/** The application as the command line starts it. */
export interface CheckedApplication {
  readonly values: Readonly<Record<string, unknown>>;
  readonly plan: Plan;
  /** To be said once the log is there: options without effect. */
  readonly warnings: readonly string[];
}

/**
 * Checks what needs the application: its own options, unknown ones, and that each source and sink has its address.
 *
 * @throws {ConfigError} Wrong usage.
 * @throws {PlanError} A wrong graph.
 */
export function checkApplication(
  args: readonly string[],
  options: WorkerOptions,
  application: Application,
): CheckedApplication {
  const specs = applicationOptions(application.options);
  refuseTakenNames(application.name, specs);
  // An option that does nothing may be one of the application's own.
  const dead = DEAD.filter((option) => specs.every((spec) => spec.name !== option.name));
  const known = [...WORKER_OPTIONS, ...LATER, ...dead, ...specs];
  const parsed = parseArguments(ownArguments(args), known);
  if (!application.wantsRawArguments) refuseUnknown(parsed, known);
  const values = readOptionValues(application.options, optionTexts(application.options, parsed));
  const plan = planApplication(application, {
    args: application.wantsRawArguments ? args : [],
    options: values,
    worker: options.name,
    workers: Math.max(1, options.workerCount),
    inputs: [...options.inputs.keys()],
  });
  checkInputs(options, plan);
  checkOutputs(options, plan);
  return { values, plan, warnings: ignoredOptions(parsed, dead, options.role) };
}

/** The table of an application's own options. */
export function applicationOptions(specs: OptionSpecs): readonly OptionSpec[] {
  return Object.entries(specs).map(([name, spec]) => ({
    name: optionFlag(name),
    value: spec.kind === "boolean" ? null : spec.kind === "number" ? "N" : "TEXT",
    help: spec.default === undefined ? `${spec.help} (required)`.trimStart() : spec.help,
    default: spec.default === undefined || spec.default === false ? undefined : String(spec.default),
    isSwitch: spec.kind === "boolean",
  }));
}

function refuseTakenNames(application: string, specs: readonly OptionSpec[]): void {
  const taken = specs.find((spec) => [...WORKER_OPTIONS, ...LATER].some((known) => known.name === spec.name));
  if (taken === undefined) return;
  throw new ConfigError(
    "option_name_taken",
    `Application "${printable(application)}" declares the option --${taken.name}, which is one of the worker's own: rename it`,
  );
}

function optionTexts(specs: OptionSpecs, parsed: ParsedArguments): Record<string, string | true | undefined> {
  const texts: Record<string, string | true | undefined> = Object.create(null);
  for (const name of Object.keys(specs)) {
    const given: Given | undefined = parsed.given.get(optionFlag(name));
    if (given !== undefined) texts[name] = given.value ?? true;
  }
  return texts;
}

function checkInputs(options: WorkerOptions, plan: Plan): void {
  const sources = plan.sources.filter(({ definition }) => LISTENING.has(definition.kind));
  const listening = sources.map((source) => source.name);
  for (const [name, { connector }] of options.inputs) {
    const source = sources.find((each) => each.name === name);
    if (source?.definition.kind === "tcp" && connector !== undefined) {
      throw new ConfigError(
        "input_invalid",
        `--in gives a cookie and credits to "${printable(name)}", which is a TCP source: give it NAME@HOST:PORT or NAME@HOST:PORT:MAX`,
      );
    }
    if (source !== undefined) continue;
    const near = nearest(name, listening);
    const has =
      listening.length === 0
        ? `application "${printable(plan.application)}" has no source that listens, so leave --in out`
        : `the sources that listen of application "${printable(plan.application)}" are ${quoted(listening)}${near === null ? "" : `; did you mean "${printable(near)}"?`}`;
    throw new ConfigError("input_unknown", `--in names the source "${printable(name)}": ${has}`);
  }
  const missing = listening.filter((name) => !options.inputs.has(name));
  if (missing.length === 0) return;
  throw new ConfigError(
    "input_missing",
    `--in gives no address for the source ${quoted(missing)}: say where it listens, for example ` +
      `--in "${[...listening].map((name, at) => `${printable(name)}@127.0.0.1:${7010 + at}`).join(",")}"`,
  );
}

/** Kinds of sources that have an address. */
const LISTENING: ReadonlySet<string> = new Set(["tcp", "connector"]);

function checkOutputs(options: WorkerOptions, plan: Plan): void {
  const needed = Math.max(0, ...plan.sinks.map((sink) => (sink.output === null ? 0 : sink.output + 1)));
  if (options.outputs.length >= needed) return;
  const given = options.outputs.length === 0 ? "is missing" : `has ${options.outputs.length}`;
  const addresses = needed === 1 ? "one address" : `${needed} addresses`;
  throw new ConfigError(
    "output_missing",
    `--out ${given}: application "${printable(plan.application)}" sends to ${addresses}; say where, for example ` +
      `--out ${Array.from({ length: needed }, (_, at) => `127.0.0.1:${7200 + at}`).join(",")}`,
  );
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `"${printable(name)}"`).join(", ");
}
