/**
 * What happened in a run, as seen from outside: all that oracles know. Filled by the cluster and its environment, in the
 * simulator and against real processes alike; times are milliseconds since the run began.
 */
import type { WorkerName } from "../base/ids.ts";
import type { Millis } from "../runtime/runtime.ts";
import type { ResendOutcome } from "../wire/resend.ts";
import type { SinkLogEntry } from "./environment/sink_book.ts";
import type { CommandName, FaultKind, StrangerKind } from "./scenario.ts";

/** Why a process ended. `exit`: by itself, with a status. */
export type EndCause = "exit" | "kill" | "power_loss" | "signal" | "end_of_run";

/** A start that must be refused: what is wrong with it. */
export type BadStart =
  | "folder_in_use"
  | "other_application"
  | "other_checkpoints"
  | "other_cluster"
  | "other_worker"
  | "port_in_use";

/** Of what a worker has saved, without what counts for nothing: the lock's text, and files that never took their place. */
export interface SavedDigest {
  /** Byte for byte. */
  readonly exact: string;
  /** Of the cluster, as it is meant: without what says when and how often this worker was started. Null: none is formed. */
  readonly cluster: string | null;
}

export interface ProcessRecord {
  readonly worker: WorkerName;
  /** Of all processes of workers, from 0, in the order of their starts. */
  readonly number: number;
  readonly startedMs: Millis;
  endedMs: Millis | null;
  cause: EndCause | null;
  /** Null: it was killed, or runs. */
  status: number | null;
  /** Of the error it ended with; null: none. */
  errorCode: string | null;
  errorText: string | null;
  /** How far it came: 1 to 4; 0 before phase I. */
  phase: number;
  /** When it said so. */
  phaseMs: Millis;
  /** Null: it was started as it should be. */
  readonly provoked: BadStart | null;
  /** When it began to leave; null: it did not, or nobody can know. */
  leavingMs: Millis | null;
  readonly savedBefore: SavedDigest;
  /** When it had left by itself because of an error. */
  savedAfter: SavedDigest | null;
}

/** One connection that the sink accepted. */
export interface SinkConnection {
  /** In order of acceptance, over all lives of the sink. */
  readonly number: number;
  /** Whose it is; null when that cannot be told. */
  readonly worker: WorkerName | null;
  readonly openedMs: Millis;
  /** `ended`: all that was sent has come. `cut`: some may not have. Null: open. */
  end: "ended" | "cut" | null;
  endedMs: Millis | null;
  readonly lines: string[];
  readonly timesMs: Millis[];
  /** What came of a line that never became whole. */
  rest: string;
}

/** One connection of a sender, with keys of its own; or the generator of one process. */
export interface StreamRecord {
  /** Keys are `<id>.k0`, `<id>.k1`, ... */
  readonly id: string;
  readonly keys: number;
  readonly worker: WorkerName;
  /** Name of the source. */
  readonly source: string;
  /** The process at the other end: its `number`. */
  readonly process: number;
  readonly openedMs: Millis;
  /** Records given to the system, the last write whole or in part. */
  written: number;
  /** `[time, records]` before each write. */
  readonly writes: [Millis, number][];
  /** `done`: the worker has taken all. `cut`: it may have taken any prefix. Null: it goes on. */
  end: "done" | "cut" | null;
  endedMs: Millis | null;
  /** Sent after everything was mended: all of it must come out. */
  readonly probe: boolean;
}

export interface LogEntry {
  readonly timeMs: Millis;
  readonly worker: WorkerName;
  readonly process: number;
  readonly level: "debug" | "info" | "warn" | "error";
  readonly code: string;
  readonly text: string;
}

export interface CommandRecord {
  readonly worker: WorkerName;
  /** The process that was there when it was asked: its `number`; null: none. */
  readonly process: number | null;
  readonly what: CommandName;
  /** How often it was asked, one behind the other. */
  readonly times: number;
  /** What a `print` prints, and the reason of a stop: no other command's. */
  readonly text: string;
  readonly askedMs: Millis;
  /** Null: nothing came of it by the end of the run. */
  endedMs: Millis | null;
  outcome: "answer" | "ended" | "cut" | "timeout" | "no_connection" | "fault" | null;
  /** Kinds of the answers, in order. */
  readonly answers: { readonly timeMs: Millis; readonly kind: string; readonly body: unknown }[];
}

export interface StrangerRecord {
  readonly worker: WorkerName;
  readonly port: string;
  /** The process that it connected to: its `number`. */
  readonly process: number;
  readonly what: StrangerKind;
  openedMs: Millis;
  /** When the worker closed it, or cut it; null: the stranger lost its patience, or the run ended. */
  endedMs: Millis | null;
  /** Bytes it was sent. */
  received: number;
  /** Of the cluster information that the worker had saved when it came, and when it was closed; null: there is none. */
  savedBefore: string | null;
  savedAfter: string | null;
}

/** A worker that is none of the cluster's, and asked to be let in. */
export interface NewcomerRecord {
  readonly name: string;
  readonly startedMs: Millis;
  /** Null: it waited until the end. */
  endedMs: Millis | null;
  status: number | null;
  errorCode: string | null;
  errorText: string | null;
  /** It said that it has come so far: it was let in. */
  phase: number;
  /** Wants a folder that is in use, instead of a place in the cluster. */
  readonly wantsFolder: boolean;
  /** Of the folder that it wants. */
  readonly savedBefore: SavedDigest;
  savedAfter: SavedDigest | null;
  /** Lines of level error that it logged before its last words. */
  errorLines: number;
}

/** One checkpoint of a bank, as somebody read it from the files of all workers. */
export interface Audit {
  readonly timeMs: Millis;
  readonly epoch: number;
  readonly generation: number;
  /** States of the accounts that have given, and of those that were given. */
  readonly debits: Map<string, unknown>;
  readonly credits: Map<string, unknown>;
  /** Accounts that two workers have. */
  readonly twice: string[];
}

/** Of one worker's output, while it came. */
export interface Reading {
  readonly worker: WorkerName;
  timeMs: Millis;
  text: string;
}

export interface FaultRecord {
  readonly timeMs: Millis;
  /** Place in the scenario. */
  readonly index: number;
  readonly kind: FaultKind;
  /** Until when it lasts, if nothing mends it before. */
  readonly untilMs: Millis;
  /** What was hit, in words; empty: it had no effect at that moment. */
  readonly effect: string;
}

/** What one worker says of itself, once a virtual second. */
export interface Sample {
  readonly timeMs: Millis;
  readonly worker: WorkerName;
  readonly process: number;
  readonly clusterId: string;
  readonly members: readonly WorkerName[];
  readonly status: RichStatus;
  /** Of batches from each peer that are not processed; null where nobody can look inside. */
  readonly heldBytes: ReadonlyMap<WorkerName, number> | null;
  /** What the process holds of its system: sockets, listeners, files, locks; null where nobody can count. */
  readonly descriptors: number | null;
  /** Timers that it waits for; null where nobody can count. */
  readonly timers: number | null;
}

/** While one process processed a key. */
export interface KeySpan {
  readonly worker: WorkerName;
  /** `number` of the process. */
  readonly process: number;
  readonly firstMs: Millis;
  lastMs: Millis;
}

/** One worker when nothing moved any more. */
export interface AtRest {
  readonly worker: WorkerName;
  readonly process: number;
  readonly clusterId: string;
  readonly members: readonly WorkerName[];
  readonly phase: number;
  readonly generation: number;
  readonly routingVersion: number;
  readonly keyGroupCount: number;
  /** Keys that it has state of, of each stateful stage. */
  readonly keys: readonly (readonly string[])[];
  readonly descriptors: number | null;
}

/** The parts of a rich status that oracles read; see `Queries` in `src/worker/queries.ts`. */
export interface RichStatus {
  readonly phase: number;
  readonly stopping: boolean;
  readonly waiting_for: string;
  readonly generation: number;
  readonly start_number: number;
  readonly peers: readonly {
    readonly name: string;
    readonly control: boolean;
    readonly data_out: boolean;
    readonly data_in: boolean;
    readonly unacked_bytes: number;
  }[];
  readonly muted: readonly { readonly input: string; readonly by: readonly string[] }[];
  readonly sinks: readonly {
    readonly connected: boolean;
    readonly queued_bytes: number;
    readonly sent_bytes: number;
    readonly connections_lost: number;
    readonly at_risk_bytes: number;
  }[];
  readonly checkpoint: { readonly epoch: number; readonly aligning?: number };
  readonly user_errors: number;
  readonly malformed_batches: number;
  readonly channels: readonly Readonly<Record<string, unknown>>[];
}

/** What a sink that commits in two phases wrote into its log, as it wrote it. A power cut may have taken it back. */
export interface TransactionRecord {
  readonly timeMs: Millis;
  readonly worker: WorkerName;
  readonly entry: SinkLogEntry;
}

/** A connector program. */
export interface ProgramRecord {
  readonly name: string;
  /** What workers did that they must not do, in words. */
  readonly violations: readonly string[];
  /** It was told that all of its records are safe. */
  readonly finished: boolean;
}

/** Dead letters that were sent to a worker together, and what it said became of them. */
export interface ResentBatch {
  /** `key value` of each. */
  readonly records: readonly string[];
  /** Null: it said nothing. */
  outcome: ResendOutcome | null;
  /** Which of them were let in is in a file, so that nobody sends them again. */
  remembered: boolean;
}

/** One run of the tool that sends the dead letters of a worker again. */
export interface ResendRecord {
  readonly worker: WorkerName;
  readonly through: WorkerName;
  readonly startedMs: Millis;
  /** Null: it was killed, or lost its power. */
  endedMs: Millis | null;
  status: number | null;
  /** What it printed. */
  said: string;
  readonly batches: ResentBatch[];
}

/** How the run was wound up, after everything was mended. */
export interface Ending {
  /** Everything was mended: power, network, disks, the sink; and every worker started. */
  mendedMs: Millis;
  /** All workers work; null: they never did. */
  workingMs: Millis | null;
  /** All that the probes sent has come out. */
  probedMs: Millis | null;
  /** All senders are done, and nothing moves any more. */
  quietMs: Millis | null;
  /** The stop at the end was asked for, and when the last process had left. */
  stopAskedMs: Millis | null;
  leftMs: Millis | null;
  /** Files in resilience directories after that, as `machine:path`. */
  filesLeft: string[];
  /** A stop during the faults has ended the cluster: nothing comes behind it. */
  forGood: boolean;
}

export class Observation {
  readonly workers: readonly WorkerName[];
  /** Now. */
  timeMs: Millis = 0;
  readonly processes: ProcessRecord[] = [];
  readonly connections: SinkConnection[] = [];
  readonly streams: StreamRecord[] = [];
  readonly log: LogEntry[] = [];
  readonly commands: CommandRecord[] = [];
  readonly strangers: StrangerRecord[] = [];
  readonly transactions: TransactionRecord[] = [];
  /** A worker has broken the protocol of such a sink, which insists: it has ended. */
  readonly sinkRefusals: { readonly timeMs: Millis; readonly worker: WorkerName; readonly text: string }[] = [];
  readonly newcomers: NewcomerRecord[] = [];
  readonly programs: ProgramRecord[] = [];
  readonly resends: ResendRecord[] = [];
  /** Of `letters` behind a stop that ended the cluster: `key value` of each letter that nobody is known to have let in again. */
  readonly lettersLeft: string[] = [];
  readonly faults: FaultRecord[] = [];
  readonly samples: Sample[] = [];
  /** How often each machine tried to connect to each other one, for every second in which it did. */
  readonly connects: { readonly from: string; readonly to: string; readonly secondMs: Millis; count: number }[] = [];
  /** Whenever somebody asked for a stop of the cluster. */
  readonly stopsAskedMs: Millis[] = [];
  /** Rare states (`rare.<name>`), crash points (`point.<name>`), log codes (`log.<code>`), failed calls: how often. */
  readonly reached = new Map<string, number>();
  /** How often each worker passed each crash point before everything was mended, as `worker point`. */
  readonly passed = new Map<string, number>();
  /** Rejections nobody handled and exceptions nobody caught, of the code under test. */
  readonly uncaught: { readonly timeMs: Millis; readonly worker: WorkerName | null; readonly text: string }[] = [];
  /** Lines at the sink so far; where output is exactly once, lines that are visible. */
  lineCount = 0;
  /** What is visible of each worker's output: files in the order of their names, or what the sink was told to commit. */
  readonly visible = new Map<WorkerName, string>();
  /** What somebody read of it meanwhile. One is made longer for as long as what is read begins with what was read before. */
  readonly readings: Reading[] = [];
  /** Of a bank: each checkpoint whenever it was read. */
  readonly audits: Audit[] = [];
  /** By stateful stage and key: who has processed it, as the application saw it, the earliest first. */
  readonly owners: Map<string, KeySpan[]>[] = [];
  /** Each worker at the end of the run, before the stop; empty where nobody can look inside. */
  readonly atRest: AtRest[] = [];
  ending: Ending | null = null;

  readonly #latestConnects = new Map<string, { readonly secondMs: Millis; count: number }>();

  constructor(workers: readonly WorkerName[]) {
    this.workers = workers;
  }

  reach(state: string, times = 1): void {
    this.reached.set(state, (this.reached.get(state) ?? 0) + times);
  }

  /** One more try to connect. */
  tried(from: string, to: string, timeMs: Millis): void {
    const secondMs = Math.floor(timeMs / 1000) * 1000;
    const key = `${from} ${to}`;
    const latest = this.#latestConnects.get(key);
    if (latest !== undefined && latest.secondMs === secondMs) {
      latest.count++;
      return;
    }
    const entry = { from, to, secondMs, count: 1 };
    this.#latestConnects.set(key, entry);
    this.connects.push(entry);
  }

  /** The latest process of a worker. */
  latest(worker: WorkerName): ProcessRecord | null {
    return this.processes.findLast((process) => process.worker === worker) ?? null;
  }

  /** The process of a worker that ran at that time; the one that began last if none did. */
  processAt(worker: WorkerName, timeMs: Millis): ProcessRecord | null {
    return this.processes.findLast((process) => process.worker === worker && process.startedMs <= timeMs) ?? null;
  }

  /** Did this worker have the same process over all of this time? */
  livedThrough(worker: WorkerName, fromMs: Millis, untilMs: Millis): boolean {
    const process = this.processAt(worker, fromMs);
    return process !== null && (process.endedMs === null || process.endedMs > untilMs);
  }
}
