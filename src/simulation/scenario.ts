/**
 * A scenario: everything a simulated run does, as plain JSON. A run draws only latencies and ties from the seed, so that a
 * scenario file replays though the generator has changed since, and a shrinker works on what happens instead of on numbers.
 *
 * Virtual times are milliseconds since the world began; workers are `initializer`, `w1`, `w2`, ... in that order.
 */
import { ConfigError } from "../base/errors.ts";
import { INITIALIZER, WORKER_NAME, type WorkerName } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import type { DiskErrorCode, Millis, SignalName } from "../runtime/runtime.ts";
import type { DiskOperation, DiskOptions } from "../runtime/virtual/disk.ts";
import type { NetworkOptions, Way } from "../runtime/virtual/network.ts";
import { parsePlainJson } from "../wire/plain_json.ts";
import type { Limits } from "../worker/config.ts";
import { CRASH_POINTS, type CrashPoint } from "../worker/crash_points.ts";
import type { BadStart } from "./observation.ts";

export const SCENARIO_FORMAT = 1;
export const WORKERS_MAX = 7;

export const ORACLE_IDS = [
  "O-SEQ",
  "O-MODEL",
  "O-OWN",
  "O-LIN",
  "O-LIVE",
  "O-FAILCLEAR",
  "O-STAYUP",
  "O-MEM",
  "O-AUTH",
  "O-BANK",
  "O-2PC",
  "O-ACK",
  "O-LETTERS",
  "O-DET",
  "O-REACH",
] as const;
export type OracleId = (typeof ORACLE_IDS)[number];

export const APPLICATION_NAMES = [
  "last_four",
  "two_hops",
  "merge_two",
  "rebalance",
  "generated",
  "transfers",
  "bank",
  "two_phase",
  "programs",
  "acknowledged",
  "letters",
] as const;
export type ApplicationName = (typeof APPLICATION_NAMES)[number];

export interface Scenario {
  readonly format: typeof SCENARIO_FORMAT;
  readonly name: string;
  /** 64 bits: `0x` and hexadecimal digits, or decimal. Of latencies and ties. */
  readonly seed: string;
  /** 1 to 7, the initializer included. */
  readonly workers: number;
  readonly application: ApplicationName;
  /** Keys of each sender (of each worker's generator). */
  readonly keys: number;
  /** Records of each sender, over all its connections. */
  readonly messages: number;
  readonly senders: readonly SenderPlan[];
  /** When each worker starts, in the order of workers. Default: all at 0. */
  readonly starts?: readonly Millis[];
  /** A checkpoint so often. Default: none at all. Only of `generated` and those whose output is exactly once: their
   * input can be read again. */
  readonly checkpointMs?: Millis;
  /** The workers rotate their logs, at `limits.logSegmentBytes` and when asked. Default: they do not. */
  readonly rotation?: boolean;
  readonly limits?: Partial<Limits>;
  readonly network?: Partial<NetworkOptions>;
  readonly disk?: Partial<DiskOptions>;
  readonly faults: readonly Fault[];
  readonly expect: readonly OracleId[];
  /** When triggers that never came are given up, and everything is mended. */
  readonly limitMs: Millis;
}

/** A client of one worker's source. It connects again when its connection is lost, and goes on under new keys. */
export interface SenderPlan {
  readonly worker: WorkerName;
  /** Place among the sources of the application. */
  readonly source: number;
  /** Records a write, and how long until the next one. */
  readonly batch: number;
  readonly everyMs: Millis;
  readonly startMs: Millis;
}

export type Trigger =
  | { readonly ms: Millis }
  /** So long after the fault before this one in the list was applied. */
  | { readonly after: "prev"; readonly ms: Millis }
  /** When the sink has so many lines. */
  | { readonly received: number }
  /** When this worker gets to this point for the n-th time, over all its processes. Synchronous: nothing comes between. */
  | { readonly point: CrashPoint; readonly worker: WorkerName; readonly n: number };

export type ChannelName = "control" | "data" | "source" | "sink" | "external";
/** `other_cluster`: a hello of a worker of another cluster. `mutated`: what would be legal on that port, with changed bytes. */
export type StrangerKind =
  | "garbage"
  | "http"
  | "tls"
  | "huge"
  | "slow"
  | "idle"
  | "zeros"
  | "flood"
  | "other_cluster"
  | "mutated";
export type CommandName =
  | "status"
  | "rich_status"
  | "print"
  | "stop"
  | "stop_and_report"
  | "report_status"
  | "rotate"
  | "rotate_w1"
  | "shrink"
  | "shrink_query"
  | "partitions"
  | "partition_counts"
  | "stateless_partitions"
  | "stateless_partition_counts"
  | "source_ids"
  | "entities"
  | "entity_counts"
  | "cluster_entity_counts"
  | "checkpoint";

/** What is done. Where `ms` is given, it is undone after so long; at the end of a scenario everything is undone. */
export type Action =
  | { readonly do: "kill"; readonly worker: WorkerName }
  | { readonly do: "kill_all" }
  /** With the same command line. Does nothing while it runs; gives power first where there is none. */
  | { readonly do: "start"; readonly worker: WorkerName }
  | { readonly do: "start_all" }
  | { readonly do: "power_loss"; readonly worker: WorkerName }
  | { readonly do: "power_loss_all" }
  /** SIGSTOP, then SIGCONT. */
  | { readonly do: "pause"; readonly worker: WorkerName; readonly ms: Millis }
  /** `a` and `b`: workers, or `sink`. */
  | { readonly do: "partition"; readonly a: string; readonly b: string; readonly way: Way; readonly ms: Millis }
  | { readonly do: "isolate"; readonly worker: WorkerName; readonly ms: Millis }
  | { readonly do: "heal" }
  /** Resets connections of this worker, towards `peer` only if it is given. */
  | { readonly do: "cut"; readonly worker: WorkerName; readonly peer?: string; readonly channel: ChannelName | "any" }
  | {
      readonly do: "blackhole";
      readonly worker: WorkerName;
      readonly peer?: string;
      readonly channel: ChannelName | "any";
      readonly way: Way;
      readonly ms: Millis;
    }
  | {
      readonly do: "latency";
      readonly a: string;
      readonly b: string;
      readonly minMs: Millis;
      readonly maxMs: Millis;
      readonly ms: Millis;
    }
  /** Attempts to connect to this worker get a reset, or no answer. */
  | {
      readonly do: "refuse_connects";
      readonly worker: WorkerName;
      readonly how: "refuse" | "drop";
      readonly ms: Millis;
    }
  | { readonly do: "disk_stall"; readonly worker: WorkerName; readonly ms: Millis }
  /** So many bytes are free, until `ms` later all are. */
  | { readonly do: "disk_full"; readonly worker: WorkerName; readonly bytes: number; readonly ms: Millis }
  /** The n-th sync of a file from now on (whose path has this in it, if it is given) fails, and a part of it is lost. */
  | { readonly do: "fail_sync"; readonly worker: WorkerName; readonly n: number; readonly path?: string }
  /** The n-th disk operation from now on (of this kind only, if one is given) fails. */
  | {
      readonly do: "fail_operation";
      readonly worker: WorkerName;
      readonly n: number;
      readonly code: DiskErrorCode;
      readonly operation?: DiskOperation;
    }
  /** Flips a bit in a saved file of a worker that is down. Positions wrap around. `restore` puts the file back. */
  | { readonly do: "rot"; readonly worker: WorkerName; readonly file: number; readonly bit: number }
  /** The state of a worker that is down is gone, and what it knows of the cluster stays. `restore` gives it back. */
  | { readonly do: "lose_state"; readonly worker: WorkerName }
  | { readonly do: "restore"; readonly worker: WorkerName }
  /** The n-th call to the network from now on (listen, connect, accept, read, write) fails. */
  | { readonly do: "fail_call"; readonly worker: WorkerName; readonly n: number }
  /** A worker of this name, on a machine of its own, asks the cluster to let it in. Does nothing before that is formed. */
  | { readonly do: "newcomer"; readonly name: string }
  /**
   * A start that is wrong: with another application, with the files of another cluster or of another worker in its folder, while
   * its port is in use (these of a worker that is down), or while its folder is in use (of one that runs). It is over by
   * `ms` later, and what was wrong is mended.
   */
  | { readonly do: "bad_start"; readonly worker: WorkerName; readonly how: BadStart; readonly ms: Millis }
  | { readonly do: "clock_jump"; readonly worker: WorkerName; readonly byMs: Millis }
  | { readonly do: "sink_pause"; readonly ms: Millis }
  | { readonly do: "sink_close"; readonly ms: Millis }
  | { readonly do: "stranger"; readonly worker: WorkerName; readonly port: ChannelName; readonly what: StrangerKind }
  | { readonly do: "command"; readonly worker: WorkerName; readonly what: CommandName; readonly times: number }
  /**
   * On the machine of this worker, its dead letters are sent again through that one; who does it is killed `ms` later, if he is not
   * done by then. Does nothing while another one is at it there. Of `letters`.
   */
  | { readonly do: "resend"; readonly worker: WorkerName; readonly through: WorkerName; readonly ms: Millis }
  /** From now on the user code of `letters` refuses nothing, as if the application had been corrected. */
  | { readonly do: "correct" }
  | { readonly do: "signal"; readonly worker: WorkerName; readonly signal: SignalName };

export type Fault = Action & { readonly at: Trigger };
export type FaultKind = Action["do"];

/** `initializer`, `w1`, `w2`, ... */
export function workerNames(count: number): WorkerName[] {
  return [INITIALIZER, ...Array.from({ length: count - 1 }, (_, i) => `w${i + 1}`)];
}

export function parseSeed(text: string): bigint {
  if (!/^(0x[0-9a-f]{1,16}|[0-9]{1,20})$/.test(text)) {
    throw invalid("seed", text, "it is 0x and up to 16 hexadecimal digits, or a decimal number of 64 bits");
  }
  return BigInt.asUintN(64, BigInt(text));
}

export function showSeed(seed: bigint): string {
  return `0x${seed.toString(16)}`;
}

/** Can the run of this scenario end the cluster in order, on purpose? */
export function hasStop(scenario: Scenario): boolean {
  return scenario.faults.some(
    (fault) =>
      (fault.do === "command" && (fault.what === "stop" || fault.what === "stop_and_report")) || fault.do === "signal",
  );
}

// Validation: every field by name, nothing that is not known, every number within bounds.

type Check = (value: unknown, where: string, scenario: Names) => void;
interface Names {
  readonly workers: readonly string[];
}
type Fields = Readonly<Record<string, Check>>;

function invalid(where: string, value: unknown, why: string): ConfigError {
  const shown = printable(JSON.stringify(value) ?? String(value), 80);
  return new ConfigError("scenario_invalid", `The scenario's ${where} is ${shown}: ${why}`);
}

const number =
  (min: number, max: number): Check =>
  (value, where) => {
    if (typeof value === "number" && value >= min && value <= max) return;
    throw invalid(where, value, `it is a number from ${min} to ${max}`);
  };
const integer =
  (min: number, max: number): Check =>
  (value, where) => {
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return;
    throw invalid(where, value, `it is an integer from ${min} to ${max}`);
  };
const flag: Check = (value, where) => {
  if (typeof value !== "boolean") throw invalid(where, value, "it is true or false");
};
const oneOf =
  (values: readonly string[]): Check =>
  (value, where) => {
    if (!values.includes(value as string)) throw invalid(where, value, `it is one of ${values.join(", ")}`);
  };
const worker: Check = (value, where, { workers }) => {
  if (!workers.includes(value as string)) throw invalid(where, value, `it is one of ${workers.join(", ")}`);
};
const machine: Check = (value, where, { workers }) => {
  if (value !== "sink" && !workers.includes(value as string)) {
    throw invalid(where, value, `it is one of ${workers.join(", ")}, sink`);
  }
};
const workerName: Check = (value, where) => {
  if (typeof value === "string" && WORKER_NAME.test(value)) return;
  throw invalid(where, value, "it is a worker's name: letters, digits, and . _ - behind the first");
};
const text: Check = (value, where) => {
  if (typeof value !== "string" || value.length < 1 || value.length > 200) {
    throw invalid(where, value, "it is a text of 1 to 200 characters");
  }
};
const optional =
  (check: Check): Check =>
  (value, where, names) => {
    if (value !== undefined) check(value, where, names);
  };

const DURATION_MS_MAX = 600_000;
const ms = number(0, DURATION_MS_MAX);
const n = integer(1, 100_000);
const way = oneOf(["both", "forward", "back"]);
const channel = oneOf(["control", "data", "source", "sink", "external", "any"]);
const DISK_OPERATIONS: readonly DiskOperation[] = [
  "append",
  "list",
  "lock",
  "make_dir",
  "open",
  "read",
  "remove",
  "remove_dir",
  "rename",
  "stat",
  "sync",
  "sync_dir",
  "truncate",
];
const COMMAND_NAMES: readonly CommandName[] = [
  "status",
  "rich_status",
  "print",
  "stop",
  "stop_and_report",
  "report_status",
  "rotate",
  "rotate_w1",
  "shrink",
  "shrink_query",
  "partitions",
  "partition_counts",
  "stateless_partitions",
  "stateless_partition_counts",
  "source_ids",
  "entities",
  "entity_counts",
  "cluster_entity_counts",
  "checkpoint",
];
export const STRANGER_KINDS: readonly StrangerKind[] = [
  "garbage",
  "http",
  "tls",
  "huge",
  "slow",
  "idle",
  "zeros",
  "flood",
  "other_cluster",
  "mutated",
];

export const BAD_STARTS: readonly BadStart[] = [
  "folder_in_use",
  "other_application",
  "other_cluster",
  "other_worker",
  "other_checkpoints",
  "port_in_use",
];

const ACTIONS: Readonly<Record<FaultKind, Fields>> = {
  kill: { worker },
  kill_all: {},
  start: { worker },
  start_all: {},
  power_loss: { worker },
  power_loss_all: {},
  pause: { worker, ms },
  partition: { a: machine, b: machine, way, ms },
  isolate: { worker, ms },
  heal: {},
  cut: { worker, peer: optional(machine), channel },
  blackhole: { worker, peer: optional(machine), channel, way, ms },
  latency: { a: machine, b: machine, minMs: number(0, 60_000), maxMs: number(0, 60_000), ms },
  refuse_connects: { worker, how: oneOf(["refuse", "drop"]), ms },
  disk_stall: { worker, ms },
  disk_full: { worker, bytes: integer(0, 1 << 20), ms },
  fail_sync: { worker, n, path: optional(text) },
  fail_operation: {
    worker,
    n,
    code: oneOf(["full", "io", "permission", "read_only", "too_many_files"]),
    operation: optional(oneOf(DISK_OPERATIONS)),
  },
  fail_call: { worker, n },
  newcomer: { name: workerName },
  bad_start: { worker, how: oneOf(BAD_STARTS), ms },
  rot: { worker, file: integer(0, 1000), bit: integer(0, 1 << 24) },
  lose_state: { worker },
  restore: { worker },
  clock_jump: { worker, byMs: number(-1e13, 1e13) },
  sink_pause: { ms },
  sink_close: { ms },
  stranger: {
    worker,
    port: oneOf(["control", "data", "source", "external"]),
    what: oneOf(STRANGER_KINDS),
  },
  command: { worker, what: oneOf(COMMAND_NAMES), times: integer(1, 100) },
  resend: { worker, through: worker, ms },
  correct: {},
  signal: { worker, signal: oneOf(["SIGTERM", "SIGINT", "SIGHUP"]) },
};

export const FAULT_KINDS = Object.keys(ACTIONS) as FaultKind[];

const LIMITS: Readonly<Record<keyof Limits, Check>> = {
  controlFrameBytes: optional(integer(1024, 1 << 30)),
  dataFrameBytes: optional(integer(256, 1 << 30)),
  externalFrameBytes: optional(integer(64, 1 << 30)),
  sourceFrameBytes: optional(integer(16, 1 << 30)),
  exchangeCreditBytes: optional(integer(1, 1 << 30)),
  sinkQueueBytes: optional(integer(1, 1 << 30)),
  linkUnackedBytes: optional(integer(1, 1 << 30)),
  logSegmentBytes: optional(integer(1, 1 << 30)),
  logSlackBytes: optional(integer(0, 1 << 30)),
  memoryBytes: optional(integer(1, Number.MAX_SAFE_INTEGER)),
  sliceKeys: optional(integer(1, 1 << 30)),
  sourceConnections: optional(integer(1, 100_000)),
  externalConnections: optional(integer(1, 100_000)),
  strangers: optional(integer(1, 100_000)),
  allSourceConnections: optional(integer(1, 100_000)),
};
const NETWORK: Fields = {
  latencyMinMs: optional(number(0, 60_000)),
  latencyMaxMs: optional(number(0, 60_000)),
  slowOneIn: optional(integer(1, 1 << 30)),
  cutOneIn: optional(integer(1, 1 << 30)),
  sendBufferBytes: optional(integer(1, 1 << 30)),
  receiveBufferBytes: optional(integer(1, 1 << 30)),
};
const DISK: Fields = {
  latencyMinMs: optional(number(0, 60_000)),
  latencyMaxMs: optional(number(0, 60_000)),
  syncMinMs: optional(number(0, 60_000)),
  syncMaxMs: optional(number(0, 60_000)),
  slowOneIn: optional(integer(1, 1 << 30)),
};
const SENDER: Fields = {
  worker,
  source: integer(0, 7),
  batch: integer(1, 10_000),
  everyMs: ms,
  startMs: ms,
};

const SCENARIO: Fields = {
  format: (value, where) => {
    if (value !== SCENARIO_FORMAT) throw invalid(where, value, `this tammar reads format ${SCENARIO_FORMAT}`);
  },
  name: text,
  seed: (value, where) => {
    if (typeof value !== "string") throw invalid(where, value, "it is a text, since JSON numbers lose digits");
    parseSeed(value);
  },
  workers: integer(1, WORKERS_MAX),
  application: oneOf(APPLICATION_NAMES),
  keys: integer(1, 100_000),
  messages: integer(0, 10_000_000),
  senders: list(64, fields(SENDER)),
  starts: optional(list(WORKERS_MAX, ms)),
  checkpointMs: optional(integer(1, 600_000)),
  rotation: optional(flag),
  limits: optional(fields(LIMITS)),
  network: optional(fields(NETWORK)),
  disk: optional(fields(DISK)),
  faults: list(1000, fault),
  expect: list(ORACLE_IDS.length, oneOf(ORACLE_IDS)),
  limitMs: number(1, 24 * 3_600_000),
};

function list(lengthMax: number, check: Check): Check {
  return (value, where, names) => {
    if (!Array.isArray(value) || value.length > lengthMax) {
      throw invalid(where, value, `it is a list of at most ${lengthMax}`);
    }
    for (const [i, entry] of value.entries()) check(entry, `${where}[${i}]`, names);
  };
}

function fields(known: Fields): Check {
  return (value, where, names) => checkFields(value, known, where, names);
}

function checkFields(value: unknown, known: Fields, where: string, names: Names): void {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid(where, value, "it is an object");
  const prefix = where === "" ? "" : `${where}.`;
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(known, name))
      throw invalid(`${prefix}${printable(name, 40)}`, "there", "no such field is known");
  }
  const entries = value as Readonly<Record<string, unknown>>;
  for (const [name, check] of Object.entries(known)) {
    check(Object.hasOwn(entries, name) ? entries[name] : undefined, `${prefix}${name}`, names);
  }
}

function fault(value: unknown, where: string, names: Names): void {
  if (typeof value !== "object" || value === null) throw invalid(where, value, "it is an object");
  const kind = (value as { do?: unknown }).do;
  oneOf(FAULT_KINDS)(kind, `${where}.do`, names);
  checkFields(value, { do: () => {}, at: trigger, ...ACTIONS[kind as FaultKind] }, where, names);
}

function trigger(value: unknown, where: string, names: Names): void {
  const given = typeof value === "object" && value !== null ? value : {};
  if ("after" in given) return checkFields(value, { after: oneOf(["prev"]), ms }, where, names);
  if ("received" in given) return checkFields(value, { received: integer(1, 1 << 30) }, where, names);
  if ("point" in given) return checkFields(value, { point: oneOf(CRASH_POINTS), worker, n }, where, names);
  checkFields(value, { ms: number(0, 24 * 3_600_000) }, where, names);
}

/**
 * Reads a scenario file.
 *
 * @throws {ConfigError} `scenario_invalid`: which field, what it is, what it should be.
 */
export function parseScenario(text: string): Scenario {
  let value: unknown;
  try {
    value = parsePlainJson(text);
  } catch (cause) {
    throw new ConfigError("scenario_invalid", `The scenario is no JSON: ${String(cause)}`, { cause });
  }
  return checkScenario(value);
}

/** @throws {ConfigError} As {@link parseScenario}. */
export function checkScenario(value: unknown): Scenario {
  const count = (value as { workers?: unknown } | null)?.workers;
  integer(1, WORKERS_MAX)(count, "workers", { workers: [] });
  checkFields(value, SCENARIO, "", { workers: workerNames(count as number) });
  const scenario = value as Scenario;
  const { application, checkpointMs } = scenario;
  const isExact = ["transfers", "bank", "two_phase", "programs", "acknowledged", "letters"].includes(application);
  if (checkpointMs !== undefined && application !== "generated" && !isExact) {
    throw invalid(
      "checkpointMs",
      checkpointMs,
      "checkpoints are simulated with generated, transfers, bank, two_phase, programs, acknowledged and letters only",
    );
  }
  if (checkpointMs === undefined && isExact) {
    throw invalid(
      "checkpointMs",
      null,
      "transfers, bank, two_phase, programs, acknowledged and letters are simulated with checkpoints only",
    );
  }
  return scenario;
}

/** As a file: one fault a line, so that people can read it and lines can be taken out by hand. */
export function showScenario(scenario: Scenario): string {
  const lines = Object.entries(scenario).map(([name, value]) => {
    if ((name !== "faults" && name !== "senders") || (value as unknown[]).length === 0) {
      return `  ${JSON.stringify(name)}: ${JSON.stringify(value)}`;
    }
    const entries = (value as unknown[]).map((entry) => `    ${JSON.stringify(entry)}`);
    return `  ${JSON.stringify(name)}: [\n${entries.join(",\n")}\n  ]`;
  });
  return `{\n${lines.join(",\n")}\n}\n`;
}
