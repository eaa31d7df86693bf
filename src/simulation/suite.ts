/**
 * The applications that are simulated, each with its model: a pure function from the values of a key to the lines that an
 * undisturbed, single-threaded run puts out for it.
 *
 * Input is numbered: each stream (one connection of a sender, one generator of one process) has keys of its own, and each
 * key the values 1, 2, 3, ... So a line tells what it is made of, and what is missing, doubled or out of order shows.
 */
import { type Application, application } from "../api/application.ts";
import { connectorSink } from "../api/connector_sink.ts";
import { connectorSource } from "../api/connector_source.ts";
import { fileSink } from "../api/file_sink.ts";
import { fileSource } from "../api/file_source.ts";
import { framed, lines as framedLines } from "../api/framing.ts";
import { generatorSource } from "../api/generator_source.ts";
import type { Payload } from "../api/payload.ts";
import { type Stream, source } from "../api/stream.ts";
import { tcpSink } from "../api/tcp_sink.ts";
import { tcpSource } from "../api/tcp_source.ts";
import { assignOwners, DEFAULT_KEY_GROUP_COUNT, hashKey, keyGroupOf } from "../plan/key_groups.ts";
import { bank, transferOf } from "./bank.ts";
import type { ApplicationName } from "./scenario.ts";

export interface SuiteApplication {
  readonly name: ApplicationName;
  /** Its TCP sources, in the order of `SenderPlan.source`; none: it makes its input itself. */
  readonly sources: readonly string[];
  /** A fresh one for each start of a worker. */
  readonly build: (shape: StreamShape, watch?: WatchStage, refuses?: () => boolean) => Application;
  /** User code refuses some of its records, until the application is corrected: what `refuses` of `build` says. */
  readonly refuses?: true;
  /** Keys under which a record is exchanged on its way, in order; null: it may pass any worker. */
  readonly path: (key: string) => readonly string[] | null;
  /**
   * Keys under which its stateful stages keep what they know of the first so many values of this key, in the order of stages.
   * @param keys Of each stream.
   */
  readonly stateKeys: (key: string, values: number, keys: number) => readonly (readonly string[])[];
  /** First word of a line, and back. */
  readonly outputKey: (key: string) => string;
  readonly inputKey: (outputKey: string) => string;
  /** It reads a file of each worker's machine, and writes files there. */
  readonly files: boolean;
  /** Its sink is a program that commits in two phases. */
  readonly commits?: true;
  /** Its records come from connector programs, one for each worker, instead of files. */
  readonly programs?: true;
  /** These are plain senders to a TCP source that acknowledges. */
  readonly acknowledged?: true;
  /** Lines of a key come in the order of its values. */
  readonly ordered: boolean;
  /** Its lines are the histories of accounts, which O-BANK knows; those of the model are as many, and not these. */
  readonly bank?: true;
  /** Lines are windows: `key a b c d`. */
  readonly windows: boolean;
  readonly model: (key: string, values: readonly number[]) => string[];
}

/** Told once of each stateful stage; what it returns is called with the key of each record that the stage processes. */
export type WatchStage = (stage: number) => (key: string) => void;

const UNWATCHED: WatchStage = () => () => {};

export interface StreamShape {
  readonly keys: number;
  readonly messages: number;
}

interface NumberedRecord {
  readonly key: string;
  readonly value: number;
}

/** Records a second of each generator. */
const GENERATOR_RATE = 150;

/** Which key the `index`-th record of a stream has: a quarter goes to the first one, as real keys are skewed. */
function keyIndex(index: number, keys: number): number {
  return Math.imul(index + 1, 0x9e37_79b1) >>> 30 === 0 ? 0 : index % keys;
}

/** Where a stream is: plain data, as the state of a generator must be. */
interface SequenceState {
  readonly id: string;
  readonly values: number[];
  index: number;
}

function beginSequence(id: string, keys: number): SequenceState {
  return { id, values: new Array<number>(keys).fill(0), index: 0 };
}

function nextRecord(state: SequenceState): NumberedRecord {
  const key = keyIndex(state.index++, state.values.length);
  const value = state.values[key]! + 1;
  state.values[key] = value;
  return { key: `${state.id}.k${key}`, value };
}

/** The records of a stream, one after the other. */
export class RecordSequence {
  readonly #state: SequenceState;

  constructor(id: string, keys: number) {
    this.#state = beginSequence(id, keys);
  }

  next(): NumberedRecord {
    return nextRecord(this.#state);
  }
}

/** Index of a worker by the key it owns. */
export function ownerIndex(key: string, workers: number): number {
  return assignOwners(workers, DEFAULT_KEY_GROUP_COUNT)[keyGroupOf(hashKey(key), DEFAULT_KEY_GROUP_COUNT)]!;
}

function decodeRecord(payload: Payload): NumberedRecord {
  const text = payload.text();
  const at = text.indexOf(" ");
  const digits = text.slice(at + 1);
  // Exactly: of the garbage that strangers send, an empty or blank number would pass now and then.
  if (at <= 0 || !/^[1-9]\d*$/.test(digits)) throw new Error(`not "key value"`);
  const value = Number(digits);
  return { key: text.slice(0, at), value };
}

function numberedSource(name: string) {
  return source(name, tcpSource({ framing: framed.u32, decode: decodeRecord }));
}

const lines = () => tcpSink<string>({ encode: (line) => `${line}\n` });

type Windows = { key: string; value: number; window: number[] };

function lastFour(processed: (key: string) => void) {
  return {
    initial: () => ({ window: [0, 0, 0, 0] }),
    apply(record: NumberedRecord, state: { window: number[] }): Windows | undefined {
      processed(record.key);
      state.window = [state.window[1]!, state.window[2]!, state.window[3]!, record.value];
      return { key: record.key, value: record.value, window: state.window };
    },
  };
}

/** The windows of records that may come again: as often as they do, each counts once. */
function onceEach(processed: (key: string) => void) {
  const { initial, apply } = lastFour(processed);
  return {
    initial,
    apply: (record: NumberedRecord, state: { window: number[] }) =>
      record.value <= state.window[3]! ? undefined : apply(record, state),
  };
}

function countOf(processed: (key: string) => void) {
  return ({ key, value }: NumberedRecord, state: { count: number }): string => {
    processed(key);
    return `${key} ${value} ${++state.count}`;
  };
}

function windowLine({ key, window }: { readonly key: string; readonly window: readonly number[] }): string {
  return `${key} ${window.join(" ")}`;
}

function windowModel(key: string, values: readonly number[]): string[] {
  return values.map((_, i) => `${key} ${[i - 3, i - 2, i - 1, i].map((at) => values[at] ?? 0).join(" ")}`);
}

/** The windows of one state a key, and what is known of such an application. */
const ONE_STATE = {
  path: (key: string) => [key],
  stateKeys: (key: string) => [[key]],
  outputKey: (key: string) => key,
  inputKey: (key: string) => key,
  ordered: true,
  windows: true,
  model: windowModel,
};

/** Two states on the way, mostly on different workers: the second has keys of its own, one for each of the first. */
function twoStates(records: Stream<NumberedRecord>, watch: WatchStage, first = lastFour) {
  return records
    .keyBy((record) => record.key)
    .toStateful("first", first(watch(0)))
    .to("second key", ({ key, value }): NumberedRecord => ({ key: `${key}'`, value }))
    .keyBy((record) => record.key)
    .toStateful("second", lastFour(watch(1)))
    .to("line", windowLine);
}

const TWO_STATES = {
  path: (key: string) => [key, `${key}'`],
  stateKeys: (key: string) => [[key], [`${key}'`]],
  outputKey: (key: string) => `${key}'`,
  inputKey: (key: string) => key.slice(0, -1),
  ordered: true,
  windows: true,
  model: (key: string, values: readonly number[]) => windowModel(`${key}'`, values),
};

const LAST_FOUR: SuiteApplication = {
  name: "last_four",
  sources: ["numbers"],
  build: (_shape, watch = UNWATCHED) =>
    application("Last four", () =>
      numberedSource("numbers")
        .keyBy((record) => record.key)
        .toStateful("last four", lastFour(watch(0)))
        .to("line", windowLine)
        .toSink(lines()),
    ),
  ...ONE_STATE,
  files: false,
};

const TWO_HOPS: SuiteApplication = {
  name: "two_hops",
  sources: ["numbers"],
  build: (_shape, watch = UNWATCHED) =>
    application("Two hops", () => twoStates(numberedSource("numbers"), watch).toSink(lines())),
  ...TWO_STATES,
  files: false,
};

const MERGE_TWO: SuiteApplication = {
  name: "merge_two",
  sources: ["numbers", "others"],
  build: (_shape, watch = UNWATCHED) =>
    application("Merge two", () =>
      numberedSource("numbers")
        .keyBy((record) => record.key)
        .merge(numberedSource("others").keyBy((record) => record.key))
        .toStateful("last four", lastFour(watch(0)))
        .to("line", windowLine)
        .toSink(lines()),
    ),
  ...ONE_STATE,
  files: false,
};

/** Order is lost on the way; the count and the sum of what a key has seen are not. */
const REBALANCE: SuiteApplication = {
  name: "rebalance",
  sources: ["numbers"],
  build: (_shape, watch = UNWATCHED) =>
    application("Rebalance", () =>
      numberedSource("numbers")
        .rebalance()
        .to("pass", (record) => record)
        .keyBy((record) => record.key)
        .toStateful("count", {
          initial: () => ({ count: 0 }),
          apply: countOf(watch(0)),
        })
        .toSink(lines()),
    ),
  path: () => null,
  stateKeys: (key) => [[key]],
  outputKey: (key) => key,
  inputKey: (key) => key,
  files: false,
  ordered: false,
  windows: false,
  model: (key, values) => values.map((value, i) => `${key} ${value} ${i + 1}`),
};

function generatedNumbers(keys: number, messages: number) {
  return generatorSource({
    initial: ({ worker }) => {
      if (messages === 0) return undefined;
      const records = beginSequence(generatedId(worker), keys);
      return { left: messages - 1, records, record: nextRecord(records) };
    },
    next: (state) => {
      if (state.left === 0) return undefined;
      state.left--;
      state.record = nextRecord(state.records);
      return state;
    },
    emit: (state) => state.record,
    rate: GENERATOR_RATE,
  });
}

/** Each worker makes its own input. A worker that starts again makes it from the beginning. */
const GENERATED: SuiteApplication = {
  name: "generated",
  sources: [],
  build: ({ keys, messages }, watch = UNWATCHED) =>
    application("Generated", () =>
      source("numbers", generatedNumbers(keys, messages))
        .keyBy((record) => record.key)
        .toStateful("last four", lastFour(watch(0)))
        .to("line", windowLine)
        .toSink(lines()),
    ),
  ...ONE_STATE,
  files: false,
};

/** Each worker makes its own input, two states are on the way, and what comes out counts at a sink that commits in two phases. */
const TWO_PHASE: SuiteApplication = {
  name: "two_phase",
  sources: [],
  build: ({ keys, messages }, watch = UNWATCHED) =>
    application("Two phases", () =>
      twoStates(source("numbers", generatedNumbers(keys, messages)), watch).toSink(
        connectorSink({ encode: (line) => `${line}\n` }),
      ),
    ),
  ...TWO_STATES,
  files: false,
  commits: true,
};

/** Is its output exactly once, and in `Observation.visible`? */
export function isExact(suite: SuiteApplication): boolean {
  return suite.files || suite.commits === true;
}

function twoStatesToFiles(records: Stream<NumberedRecord>, watch: WatchStage, first = lastFour) {
  return twoStates(records, watch, first).toSink(
    fileSink({ directory: OUTPUT_FOLDER.slice(1), encode: (line) => `${line}\n` }),
  );
}

function recordsOfFile() {
  return source(
    "records",
    fileSource({ path: INPUT_FILE.slice(1), framing: framedLines, decode: decodeRecord, rate: GENERATOR_RATE }),
  );
}

/** From a file of each machine to files of each machine, with two states on the way: nothing is lost or doubled. */
const TRANSFERS: SuiteApplication = {
  name: "transfers",
  sources: [],
  build: (_shape, watch = UNWATCHED) => application("Transfers", () => twoStatesToFiles(recordsOfFile(), watch)),
  ...TWO_STATES,
  files: true,
};

/** From files to files as well: money from one account to another one. */
const BANK: SuiteApplication = {
  name: "bank",
  sources: [],
  build: ({ keys }, watch = UNWATCHED) => bank(keys, recordsOfFile, OUTPUT_FOLDER.slice(1), watch),
  path: () => null,
  stateKeys: (key, values, keys) => {
    const transfers = Array.from({ length: values }, (_, i) => transferOf({ key, value: i + 1 }, keys));
    return [transfers.slice(0, 1).map(({ from }) => from), transfers.map(({ to }) => to)];
  },
  outputKey: (key) => key,
  inputKey: (key) => key,
  files: true,
  bank: true,
  ordered: false,
  windows: false,
  model: (key, values) => values.map((value) => `${key} ${value}`),
};

export const PROGRAM_SOURCE = "records";
export const PROGRAM_COOKIE = "a secret of simulated programs";

/** As `transfers`, from connector programs, which wander from worker to worker. */
const PROGRAMS: SuiteApplication = {
  ...TRANSFERS,
  name: "programs",
  build: (_shape, watch = UNWATCHED) =>
    application("Programs", () =>
      twoStatesToFiles(
        source(
          PROGRAM_SOURCE,
          connectorSource({ cookie: PROGRAM_COOKIE, maxCredits: 60, refillCredits: 20, decode: decodeRecord }),
        ),
        watch,
      ),
    ),
  programs: true,
};

/**
 * As `programs`, from senders that speak plain TCP, are told what is safe, and send the rest again on the next connection. So
 * records may come twice: the first state, which knows the last value of its key, lets each in once. A value that is lost would
 * leave a gap for ever.
 */
const ACKNOWLEDGED: SuiteApplication = {
  ...TRANSFERS,
  name: "acknowledged",
  build: (_shape, watch = UNWATCHED) =>
    application("Acknowledged", () =>
      twoStatesToFiles(
        source(PROGRAM_SOURCE, tcpSource({ framing: framed.u32, acks: true, decode: decodeRecord })),
        watch,
        onceEach,
      ),
    ),
  programs: true,
  acknowledged: true,
};

/** Where records of `letters` are refused: whatever can have a dead letter behind a source of lines. */
const REFUSING = ["decode", "before", "key", "first", "between", "second key", "second", "line", "encode"] as const;
type Refusing = (typeof REFUSING)[number];
/** A third of them, each at one place, by its key and value. */
const REFUSED_OF = 3 * REFUSING.length;

function refusedAt({ key, value }: NumberedRecord): Refusing | undefined {
  let hash = Math.imul(value, 0x9e37_79b1);
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x85eb_ca6b);
  return REFUSING[((hash ^ (hash >>> 15)) >>> 0) % REFUSED_OF];
}

/**
 * From files to files, with two counting states on the way. A third of the records is refused, each by one operator, until the
 * application is corrected; so they come by dead letters that are sent again, in any order. A line says the how-manieth of its key
 * its record was in each state: `key value first second`.
 */
const LETTERS: SuiteApplication = {
  name: "letters",
  sources: [],
  build: (_shape, watch = UNWATCHED, refuses = () => false) => {
    const check = <T extends NumberedRecord>(at: Refusing, record: T): T => {
      if (refuses() && refusedAt(record) === at) throw new Error(`no ${at} of ${record.key} ${record.value}`);
      return record;
    };
    const [first, second] = [watch(0), watch(1)];
    const input = fileSource({
      path: INPUT_FILE.slice(1),
      framing: framedLines,
      decode: (payload) => check("decode", decodeRecord(payload)),
      rate: GENERATOR_RATE,
    });
    return application("Letters", () =>
      source("records", input)
        .to("before", (record) => check("before", record))
        .keyBy((record) => check("key", record).key)
        .toStateful("first", {
          initial: () => ({ count: 0 }),
          apply(record, state: { count: number }) {
            const { key, value } = check("first", record);
            first(key);
            return { key, value, first: ++state.count };
          },
        })
        .to("between", (record) => check("between", record))
        .keyBy((record) => `${check("second key", record).key}'`)
        .toStateful("second", {
          initial: () => ({ count: 0 }),
          apply(record, state: { count: number }) {
            check("second", record);
            second(`${record.key}'`);
            return { ...record, second: ++state.count };
          },
        })
        .to("line", (record) => check("line", record))
        .toSink(
          fileSink({
            directory: OUTPUT_FOLDER.slice(1),
            encode: (record) => `${record.key} ${record.value} ${check("encode", record).first} ${record.second}\n`,
          }),
        ),
    );
  },
  path: (key) => [key, `${key}'`],
  stateKeys: (key) => [[key], [`${key}'`]],
  outputKey: (key) => key,
  inputKey: (key) => key,
  files: true,
  refuses: true,
  ordered: false,
  windows: false,
  model: (key, values) => values.map((value, i) => `${key} ${value} ${i + 1} ${i + 1}`),
};

/** Of `transfers`, on each machine, whose root is the working folder. */
export const INPUT_FILE = "/data/input";
export const OUTPUT_FOLDER = "/data/output";

/** The input of a worker's machine. */
export function inputText(worker: string, { keys, messages }: StreamShape): string {
  const records = new RecordSequence(fileStreamId(worker), keys);
  const lines: string[] = [];
  for (let i = 0; i < messages; i++) {
    const { key, value } = records.next();
    lines.push(`${key} ${value}\n`);
  }
  return lines.join("");
}

export function fileStreamId(worker: string): string {
  return `f-${worker}`;
}

/** The stream of a worker's generator, in every process of it. */
export function generatedId(worker: string): string {
  return `g-${worker}`;
}

export const SUITE: Readonly<Record<ApplicationName, SuiteApplication>> = {
  last_four: LAST_FOUR,
  two_hops: TWO_HOPS,
  merge_two: MERGE_TWO,
  rebalance: REBALANCE,
  generated: GENERATED,
  transfers: TRANSFERS,
  bank: BANK,
  two_phase: TWO_PHASE,
  programs: PROGRAMS,
  acknowledged: ACKNOWLEDGED,
  letters: LETTERS,
};
