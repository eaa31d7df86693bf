/**
 * The cluster of one scenario: workers, each on a machine of its own, and the environment around them: sink, senders,
 * operator, strangers. It starts and ends processes and writes down what it sees; what is done to it is `faults.ts`.
 */
import { INITIALIZER, type WorkerName } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { Prng } from "../base/prng.ts";
import { isDeadLettersName } from "../store/dead_letter_file.ts";
import { baseOf, CLUSTER_FILE, NEW_SUFFIX, REMOVING_FILE, storePaths } from "../store/folders.ts";
import { isResentName } from "../store/resent_file.ts";
import { decodeSavedCluster, type SavedCluster } from "../store/saved_cluster.ts";
import { DEFAULT_LIMITS, DEFAULT_TIMING, NO_CHECKPOINTS, type WorkerConfig } from "../worker/config.ts";
import type { CrashPoint, WorkerStatus } from "../worker/crash_points.ts";
import { type BadStartPlan, badStart } from "./bad_starts.ts";
import { BANK_NAME } from "./bank.ts";
import { runAcknowledgedSender } from "./environment/acknowledged_sender.ts";
import { audit } from "./environment/auditor.ts";
import { ConnectorClient } from "./environment/connector_program.ts";
import { runCommand } from "./environment/operator.ts";
import { PlainSink } from "./environment/plain_sink.ts";
import { beginReading, type VisibleOutput } from "./environment/reader.ts";
import { runSender, type SenderOptions } from "./environment/sender.ts";
import { runStranger } from "./environment/stranger.ts";
import { TwoPhaseHost } from "./environment/two_phase_host.ts";
import { LengthCuts } from "./length_cuts.ts";
import { Letters } from "./letters.ts";
import {
  type Audit,
  type BadStart,
  type CommandRecord,
  type EndCause,
  type KeySpan,
  type LogEntry,
  type NewcomerRecord,
  Observation,
  type ProcessRecord,
  type Reading,
  type RichStatus,
  type SinkConnection,
  type StrangerRecord,
  type StreamRecord,
} from "./observation.ts";
import { digestBytes, digestSaved } from "./saved_digest.ts";
import {
  type ChannelName,
  type CommandName,
  parseSeed,
  type Scenario,
  type StrangerKind,
  workerNames,
} from "./scenario.ts";
import type { Failure, Stage, StageDisk, StageMachine, StageProcess, StageWorld, WorkerWatch } from "./stage.ts";
import {
  fileStreamId,
  generatedId,
  INPUT_FILE,
  inputText,
  isExact,
  OUTPUT_FOLDER,
  PROGRAM_COOKIE,
  PROGRAM_SOURCE,
  RecordSequence,
  SUITE,
  type SuiteApplication,
  type WatchStage,
} from "./suite.ts";

export const PORTS = { control: 7000, data: 7001, external: 7002, source: 7010, sink: 7100 } as const;
/** Digest of the code of an application of the suite. */
export const SUITE_CODE = "code";
/** Points by which it follows a process, whatever the scenario waits for. */
export const FOLLOWED_POINTS: readonly CrashPoint[] = [
  "start.folder_locked",
  "leave.begin",
  "decision.durable",
  "checkpoint.complete.after",
];
const SINK = "sink";
const RESILIENCE_DIR = "/tmp";
const NEWCOMER = "newcomer";

/** How long a newcomer waits for an answer. */
const NEWCOMER_MS = 3_000;
const PROBE_KEYS = 3;
const PROBE_MESSAGES = 30;

export interface ClusterHooks {
  readonly pointReached: (point: CrashPoint, worker: WorkerName) => void;
  readonly lineReceived: (count: number) => void;
  readonly logged: (entry: LogEntry) => void;
  /** A process started or ended. */
  readonly processChanged: (process: ProcessRecord) => void;
}

/** Names in `--in`. */
function listeningSources({ sources, programs }: SuiteApplication): readonly string[] {
  return programs === true ? [PROGRAM_SOURCE] : sources;
}

/** One worker's latest process. */
interface Running {
  readonly record: ProcessRecord;
  readonly process: StageProcess;
  /** A file that is not whole was there when it started. */
  readonly torn: boolean;
  /** A checkpoint is decided, and nobody was told. */
  undisclosed: boolean;
  /** What is wrong with it; null: nothing. */
  readonly bad: BadStartPlan | null;
  /** Its folder is its own: from when it has the lock until it begins to leave. */
  hasFolder: boolean;
  /** Another one that wants its folder. */
  intruder: StageProcess | null;
  status: (() => WorkerStatus | null) | null;
}

export class SimulatedCluster {
  readonly scenario: Scenario;
  readonly names: readonly WorkerName[];
  readonly world: StageWorld;
  readonly observation: Observation;
  readonly suite: SuiteApplication;
  readonly machines: ReadonlyMap<WorkerName, StageMachine>;
  readonly letters: Letters;
  readonly #stage: Stage;
  readonly #hooks: ClusterHooks;
  readonly #running = new Map<WorkerName, Running>();
  readonly #sinkMachine: StageMachine;
  readonly #operatorMachine: StageMachine;
  readonly #strangerMachine: StageMachine;
  readonly #newcomerMachine: StageMachine;
  readonly #newcomers: StageProcess[] = [];
  readonly #badStarts = new Set<() => void>();
  readonly #workerOfIp = new Map<string, WorkerName>();
  #sink: { readonly process: StageProcess; readonly sink: PlainSink } | null = null;
  #sinkPaused = false;
  readonly #twoPhase: TwoPhaseHost | null;
  #sendersLeft = 0;

  constructor(scenario: Scenario, stage: Stage, hooks: ClusterHooks) {
    this.scenario = scenario;
    this.#stage = stage;
    this.#hooks = hooks;
    this.names = workerNames(scenario.workers);
    this.suite = SUITE[scenario.application];
    this.world = stage.world;
    this.observation = new Observation(this.names);
    this.machines = new Map(
      this.names.map((name) => [name, this.world.host(name, { disk: scenario.disk ?? {} })] as const),
    );
    for (const [name, machine] of this.machines) {
      this.#workerOfIp.set(machine.ip, name);
      if (this.suite.files) machine.disk.put(INPUT_FILE, new TextEncoder().encode(inputText(name, scenario)));
    }
    this.#sinkMachine = this.world.host(SINK);
    this.#twoPhase =
      this.suite.commits === true ? new TwoPhaseHost(this.#sinkMachine, this.world, this.observation) : null;
    this.#operatorMachine = this.world.host("operator");
    this.#strangerMachine = this.world.host("stranger");
    this.#newcomerMachine = this.world.host(NEWCOMER);
    this.letters = new Letters({
      world: this.world,
      machines: this.machines,
      observation: this.observation,
      externalPort: PORTS.external,
      directory: RESILIENCE_DIR,
    });
    this.#watchReads();
  }

  /** Starts everything, each worker and sender at its time. */
  begin(): void {
    this.openSink();
    if (isExact(this.suite)) this.#beginReading();
    if (this.suite.bank === true) this.#beginAudits();
    for (const [i, name] of this.names.entries()) {
      this.world.at(this.scenario.starts?.[i] ?? 0, () => this.start(name));
    }
    if (this.suite.programs === true) for (const name of this.names) this.#program(name);
    const { senders, keys, messages } = this.scenario;
    for (const [i, plan] of senders.entries()) {
      if (this.suite.sources.length === 0 || messages === 0) break;
      const source = plan.source % this.suite.sources.length;
      this.world.at(plan.startMs, () =>
        this.#send(`sender${i}`, plan.worker, source, false, {
          keys,
          messages,
          batch: plan.batch,
          everyMs: plan.everyMs,
          streamId: (n) => `s${i}.${n}`,
        }),
      );
    }
  }

  // Processes.

  running(name: WorkerName): boolean {
    return this.#running.get(name)?.process.alive === true;
  }

  processOf(name: WorkerName): StageProcess | null {
    const running = this.#running.get(name);
    return running?.process.alive === true ? running.process : null;
  }

  /** @returns Whether it did anything: not while the worker runs. */
  start(name: WorkerName, bad: BadStartPlan | null = null): boolean {
    if (this.running(name)) return false;
    // Behind a stop it would begin anew, and refuse the folder that has the output of the cluster before.
    if (this.suite.files && this.observation.stopsAskedMs.length > 0 && this.isGone) return false;
    const machine = this.machines.get(name)!;
    machine.powerOn();
    const record: ProcessRecord = {
      worker: name,
      number: this.observation.processes.length,
      startedMs: this.world.now(),
      endedMs: null,
      cause: null,
      status: null,
      errorCode: null,
      errorText: null,
      phase: 0,
      phaseMs: 0,
      provoked: bad?.how ?? null,
      leavingMs: null,
      savedBefore: digestSaved(machine.disk, RESILIENCE_DIR),
      savedAfter: null,
    };
    this.observation.processes.push(record);
    this.#hooks.processChanged(record);
    const torn = this.#hasTornFile(name);
    const config = {
      ...this.#config(name, (stage) => this.#watchStage(name, record.number, stage)),
      ...bad?.config,
    };
    const process = this.#stage.startWorker(
      machine,
      config,
      this.#watch(() => running),
    );
    const running: Running = {
      record,
      process,
      torn,
      undisclosed: false,
      bad,
      hasFolder: false,
      intruder: null,
      status: null,
    };
    this.#running.set(name, running);
    return true;
  }

  /** Kills and notes why. */
  end(name: WorkerName, cause: EndCause): boolean {
    const running = this.#running.get(name);
    if (running === undefined || !running.process.alive) return false;
    if (running.undisclosed) this.observation.reach("rare.died_between_commit_and_its_news");
    if (running.record.phase === 0 && this.#saved(name)?.state === "forming") {
      this.observation.reach("rare.died_between_forming_and_formed");
    }
    if (cause === "power_loss") this.machines.get(name)!.powerLoss();
    else running.process.kill();
    this.#ended(running, cause, null);
    return true;
  }

  /** A signal without a handler ends the process, so its end is looked for at once. */
  signal(name: WorkerName, signal: "SIGTERM" | "SIGINT" | "SIGHUP"): boolean {
    const process = this.processOf(name);
    if (process === null) return false;
    process.signal(signal);
    if (signal !== "SIGHUP") this.#stopAsked();
    if (!process.alive) this.#ended(this.#running.get(name)!, "signal", process.exited?.status ?? null);
    return true;
  }

  /** Of the cluster whose information is saved on the disk of this worker as formed; null: none. */
  savedClusterId(name: WorkerName): string | null {
    const saved = this.#saved(name);
    return saved !== null && saved.state !== "forming" ? saved.clusterId : null;
  }

  #saved(name: WorkerName): SavedCluster | null {
    const path = this.filesOf(name).find((file) => file.endsWith(`/${CLUSTER_FILE}`));
    if (path === undefined) return null;
    const outcome = decodeSavedCluster(this.machines.get(name)!.disk.peek(path)!);
    return outcome.kind === "ok" ? outcome.saved : null;
  }

  /** Is there a file that was to take the place of the saved one, and never became whole? */
  #hasTornFile(name: WorkerName): boolean {
    const path = this.filesOf(name).find((file) => file.endsWith(`/${CLUSTER_FILE}${NEW_SUFFIX}`));
    return path !== undefined && decodeSavedCluster(this.machines.get(name)!.disk.peek(path)!).kind !== "ok";
  }

  /** Of the saved cluster information of a worker, byte for byte; null: there is none. */
  #savedDigest(name: WorkerName): string | null {
    const path = this.filesOf(name).find((file) => file.endsWith(`/${CLUSTER_FILE}`));
    return path === undefined ? null : digestBytes(this.machines.get(name)!.disk.peek(path)!);
  }

  /** Has the initializer decided that the cluster is no more? */
  get isGone(): boolean {
    const removing = this.filesOf(INITIALIZER).some((path) => path.endsWith(`/${REMOVING_FILE}`));
    return removing || this.savedClusterId(INITIALIZER) === null;
  }

  /** What the worker has saved to come back with. (Dead letters, of what strangers send, stay when a cluster is gone.) */
  filesOf(name: WorkerName): string[] {
    return this.machines
      .get(name)!
      .disk.paths()
      .filter(
        (path) =>
          path.startsWith(`${RESILIENCE_DIR}/`) &&
          !path.endsWith("/") &&
          !isDeadLettersName(baseOf(path)) &&
          !isResentName(baseOf(path)),
      );
  }

  /** Somebody reads the output of each worker while it comes. */
  #beginReading(): void {
    for (const name of this.names) {
      const { disk } = this.machines.get(name)!;
      const twoPhase = this.#twoPhase;
      const output: VisibleOutput =
        twoPhase === null
          ? { parts: () => visiblePaths(disk), read: (path) => disk.peek(path) }
          : { parts: () => [name], read: () => new TextEncoder().encode(twoPhase.visible(name)) };
      let reading: Reading | null = null;
      const prng = new Prng(parseSeed(this.scenario.seed), `reader.${name}`);
      beginReading(this.world, prng, output, (text) => {
        const timeMs = this.world.now();
        if (reading !== null && (reading.text === "" || reading.text.endsWith("\n")) && text.startsWith(reading.text)) {
          Object.assign(reading, { timeMs, text });
          return;
        }
        reading = { worker: name, timeMs, text };
        this.observation.readings.push(reading);
      });
    }
  }

  /** Somebody reads the checkpoints of all workers while they work. */
  #beginAudits(): void {
    const folders = [...this.machines].map(([name, { disk }]) => ({
      disk,
      path: storePaths(RESILIENCE_DIR, BANK_NAME, name).workerFolder,
    }));
    const prng = new Prng(parseSeed(this.scenario.seed), "auditor");
    const seen = (found: Omit<Audit, "timeMs">): void => {
      this.observation.audits.push({ timeMs: this.world.now(), ...found });
      this.observation.reach("audit.read");
    };
    const unreadable = () => this.observation.reach("audit.unreadable");
    this.world.host("auditor").startProcess(({ clock }) => audit(clock, prng, folders, seen, unreadable));
  }

  /** Whoever reads the output at this moment. */
  #readVisible(): void {
    let count = 0;
    let changed = false;
    for (const name of this.names) {
      const text = this.#twoPhase === null ? this.#filesText(name) : this.#twoPhase.visible(name);
      changed ||= this.observation.visible.get(name) !== text;
      this.observation.visible.set(name, text);
      if (this.suite.refuses === true) continue;
      for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
    }
    // A letter may come twice, if nobody could say whether it was in: what counts is that its record has come.
    if (this.suite.refuses === true) {
      count = changed ? recordsIn(this.observation.visible.values()) : this.observation.lineCount;
    }
    if (count === this.observation.lineCount) return;
    this.observation.lineCount = count;
    this.#hooks.lineReceived(count);
  }

  #filesText(name: WorkerName): string {
    const { disk } = this.machines.get(name)!;
    return visiblePaths(disk)
      .map((path) => new TextDecoder().decode(disk.peek(path)!))
      .join("");
  }

  /** Once a virtual second: what each worker says, and who died without a word. */
  sample(): void {
    const timeMs = this.world.now();
    this.observation.timeMs = timeMs;
    if (isExact(this.suite)) this.#readVisible();
    for (const [worker, running] of this.#running) {
      if (!running.process.alive) {
        this.#ended(running, "exit", running.process.exited?.status ?? null);
        continue;
      }
      const said = running.status?.() ?? null;
      if (said === null) continue;
      const { clusterId, members, inside } = said;
      this.observation.samples.push({
        timeMs,
        worker,
        process: running.record.number,
        clusterId,
        members,
        status: said.status as RichStatus,
        heldBytes: inside?.heldBytes ?? null,
        descriptors: running.process.held?.size ?? null,
        timers: running.process.timers ?? null,
      });
    }
  }

  /** Does every worker that runs say how it is? */
  get allTell(): boolean {
    return [...this.#running.values()].every(({ process, status }) => !process.alive || (status?.() ?? null) !== null);
  }

  /** What each worker knows and has, now that nothing moves. */
  noteAtRest(): void {
    for (const [worker, running] of this.#running) {
      const said = running.process.alive ? running.status?.() : null;
      if (said?.inside === undefined) continue;
      const { phase, generation } = said.status as RichStatus;
      this.observation.atRest.push({
        worker,
        process: running.record.number,
        clusterId: said.clusterId,
        members: said.members,
        phase,
        generation,
        routingVersion: said.inside.routingVersion,
        keyGroupCount: said.inside.keyGroupCount,
        keys: said.inside.keys(),
        descriptors: running.process.held?.size ?? null,
      });
    }
  }

  /** Notes who processes which key, outside of the system: as its application. Called for every record. */
  #watchStage(worker: WorkerName, process: number, stage: number): (key: string) => void {
    const { owners } = this.observation;
    owners[stage] ??= new Map();
    const all = owners[stage];
    const own = new Map<string, KeySpan>();
    return (key) => {
      const now = this.world.now();
      const span = own.get(key);
      if (span !== undefined) {
        span.lastMs = now;
        return;
      }
      const first: KeySpan = { worker, process, firstMs: now, lastMs: now };
      own.set(key, first);
      const spans = all.get(key);
      if (spans === undefined) all.set(key, [first]);
      else spans.push(first);
    };
  }

  #ended(running: Running, cause: EndCause, status: number | null): void {
    const { record } = running;
    if (record.endedMs !== null) return;
    record.endedMs = this.world.now();
    record.cause = cause;
    record.status = status;
    running.bad?.over();
    running.intruder?.kill();
    this.#hooks.processChanged(record);
    for (const stream of this.observation.streams) {
      if (stream.process === record.number && stream.end === null && this.suite.sources.length === 0) {
        stream.end = "cut";
        stream.endedMs = record.endedMs;
      }
    }
  }

  #watch(running: () => Running): WorkerWatch {
    return {
      log: this.#log(running),
      hooks: {
        reached: (point) => {
          const { process, record, torn } = running();
          if (!process.alive) return;
          this.#followFolder(running(), point);
          if (point === "start.folder_locked" && torn) this.observation.reach("rare.saved_file_torn");
          if (point === "decision.durable") running().undisclosed = true;
          else if (point === "checkpoint.complete.after") running().undisclosed = false;
          this.#passed(point, record.worker);
          this.#hooks.pointReached(point, record.worker);
        },
        observable: (read) => {
          running().status = read;
        },
      },
      left: (status, failure) => this.#left(running(), status, failure),
    };
  }

  #left(running: Running, status: number | null, failure: Failure | null): void {
    const { record } = running;
    if (failure !== null) {
      record.errorCode = failure.code;
      record.errorText = failure.text;
      record.savedAfter = digestSaved(this.machines.get(record.worker)!.disk, RESILIENCE_DIR);
      if (failure.uncaught !== null) {
        const text = failure.uncaught;
        this.observation.uncaught.push({ timeMs: this.world.now(), worker: record.worker, text });
      }
    }
    if (status === null) this.#ended(running, "signal", running.process.exited?.status ?? null);
    else this.#ended(running, "exit", status);
  }

  #passed(point: CrashPoint, worker: WorkerName): void {
    const { passed, ending } = this.observation;
    this.observation.reach(`point.${point}`);
    if (ending !== null) return;
    const name = `${worker} ${point}`;
    passed.set(name, (passed.get(name) ?? 0) + 1);
  }

  #log(running: () => Running): Log {
    const say = (level: LogEntry["level"]) => (code: string, text: string) => {
      const { record, process } = running();
      if (!process.alive) return;
      const timeMs = this.world.now();
      const entry: LogEntry = { timeMs, worker: record.worker, process: record.number, level, code, text };
      this.observation.log.push(entry);
      this.observation.reach(`log.${code}`);
      this.#hooks.logged(entry);
      if (!code.startsWith("phase_")) return;
      record.phase = Number(code.slice("phase_".length));
      record.phaseMs = timeMs;
      if (record.phase === 4 && this.suite.sources.length === 0 && !isExact(this.suite)) this.#generatorOpened(record);
    };
    return { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") };
  }

  #config(name: WorkerName, watch?: WatchStage): WorkerConfig {
    const isInitializer = name === INITIALIZER;
    const own = { host: name, port: 0 };
    const { keys, messages, workers, limits } = this.scenario;
    return {
      role: isInitializer ? "initializer" : "worker",
      name,
      workerCount: isInitializer ? workers : 1,
      controlListen: isInitializer ? { host: "0.0.0.0", port: PORTS.control } : own,
      dataListen: isInitializer ? { host: "0.0.0.0", port: PORTS.data } : own,
      initializerControl: isInitializer ? null : { host: INITIALIZER, port: PORTS.control },
      externalListen: { host: "0.0.0.0", port: PORTS.external },
      metrics: null,
      inputs: new Map(
        listeningSources(this.suite).map((source, i) => [
          source,
          { host: "0.0.0.0", port: PORTS.source + i, frameBytesMax: null },
        ]),
      ),
      outputs: [{ host: SINK, port: PORTS.sink }],
      resilienceDir: RESILIENCE_DIR,
      application: this.suite.build({ keys, messages }, watch, () => !this.letters.corrected),
      applicationOptions: {},
      rawArguments: [],
      buildId: "build",
      applicationCodeDigest: SUITE_CODE,
      checkpoints: {
        ...NO_CHECKPOINTS,
        intervalMs: this.scenario.checkpointMs ?? null,
        rotation: this.scenario.rotation === true ? { fileBytes: limits?.logSegmentBytes ?? null } : null,
      },
      timing: DEFAULT_TIMING,
      limits: { ...DEFAULT_LIMITS, ...limits },
    };
  }

  /** Sends what the file of this worker would have, to one worker after the other. */
  #program(name: WorkerName): void {
    const { keys, messages } = this.scenario;
    if (messages === 0) return;
    const records = new RecordSequence(fileStreamId(name), keys);
    const texts = Array.from({ length: messages }, () => {
      const { key, value } = records.next();
      return `${key} ${value}`;
    });
    const number = this.names.indexOf(name);
    const addressOf = (connection: number) => ({
      host: this.names[(number + connection) % this.names.length]!,
      port: PORTS.source,
    });
    const record = { name: `program${number}`, violations: [] as string[], finished: false };
    this.observation.programs.push(record);
    if (this.suite.acknowledged === true) {
      this.world.host(record.name).startProcess(async (runtime) => {
        await runAcknowledgedSender(runtime, { texts, addressOf, violations: record.violations });
        record.finished = true;
      });
      return;
    }
    this.world.host(record.name).startProcess(async (runtime) => {
      const client = new ConnectorClient(runtime, addressOf(0), {
        cookie: PROGRAM_COOKIE,
        streams: [
          {
            id: BigInt(number),
            name: record.name,
            ids: texts.map((_, at) => BigInt(at)),
            body: (at) => new TextEncoder().encode(texts[at]!),
          },
        ],
      });
      Object.assign(client, { messagesMax: 3, paceMs: 20, silenceMs: 5_000, addressOf });
      record.violations = client.violations;
      await client.run();
      record.finished = true;
    });
  }

  // Newcomers.

  /** @returns Whether it did anything: not while there is no cluster that could refuse it. */
  newcomer(name: WorkerName): boolean {
    if (this.observation.stopsAskedMs.length > 0 || this.#newcomers.some(({ alive }) => alive)) return false;
    if (!this.running(INITIALIZER) || this.savedClusterId(INITIALIZER) === null) return false;
    // Without its files it is let in under a name whose worker has not been seen since the initializer came back.
    if (this.names.includes(name) && !this.#works(name)) return false;
    const anywhere = { host: NEWCOMER, port: 0 };
    const config: WorkerConfig = {
      ...this.#config(name),
      role: "worker",
      controlListen: anywhere,
      dataListen: anywhere,
      initializerControl: { host: INITIALIZER, port: PORTS.control },
      externalListen: null,
      inputs: new Map(listeningSources(this.suite).map((source) => [source, { ...anywhere, frameBytesMax: null }])),
    };
    const process = this.#startNewcomer(this.#newcomerMachine, config, false);
    this.#newcomers.push(process);
    this.world.at(this.world.now() + NEWCOMER_MS, () => process.kill());
    return true;
  }

  /** A second process of a worker that runs, as if somebody had started it twice. @returns How to end it. */
  intrude(name: WorkerName): (() => void) | null {
    const running = this.#running.get(name);
    if (running === undefined || !running.process.alive || !running.hasFolder || running.intruder?.alive) return null;
    const machine = this.machines.get(name)!;
    const intruder = this.#startNewcomer(machine, this.#config(name), true);
    running.intruder = intruder;
    return () => intruder.kill();
  }

  #startNewcomer(machine: StageMachine, config: WorkerConfig, wantsFolder: boolean): StageProcess {
    const record: NewcomerRecord = {
      name: config.name,
      startedMs: this.world.now(),
      endedMs: null,
      status: null,
      errorCode: null,
      errorText: null,
      phase: 0,
      wantsFolder,
      savedBefore: digestSaved(machine.disk, RESILIENCE_DIR),
      savedAfter: null,
      errorLines: 0,
    };
    this.observation.newcomers.push(record);
    return this.#stage.startWorker(machine, config, this.#watchNewcomer(record, machine));
  }

  badStart(name: WorkerName, how: BadStart): (() => void) | null {
    const end = this.observation.stopsAskedMs.length > 0 ? null : badStart(this, name, how);
    if (end !== null) this.#badStarts.add(end);
    return end;
  }

  /** Ends the process of a bad start, if it is still there. */
  endBadStart(name: WorkerName): void {
    if (this.#running.get(name)?.record.provoked != null) this.end(name, "kill");
  }

  endBadStarts(): void {
    for (const end of this.#badStarts) end();
    this.#badStarts.clear();
  }

  /** Nobody may take a folder that is about to be given up: it would be a worker that nobody knows of. */
  #followFolder(running: Running, point: CrashPoint): void {
    if (point === "start.folder_locked") running.hasFolder = true;
    if (point !== "leave.begin") return;
    running.record.leavingMs = this.world.now();
    running.hasFolder = false;
    running.intruder?.kill();
  }

  #watchNewcomer(record: NewcomerRecord, machine: StageMachine): WorkerWatch {
    const say = (code: string) => {
      if (code.startsWith("phase_")) record.phase = Number(code.slice("phase_".length));
    };
    return {
      log: { debug: say, info: say, warn: say, error: () => void record.errorLines++ },
      hooks: { reached: () => {}, observable: () => {} },
      left: (status, failure) => {
        record.endedMs = this.world.now();
        record.status = status;
        record.errorCode = failure?.code ?? null;
        record.errorText = failure?.text ?? null;
        record.savedAfter = digestSaved(machine.disk, RESILIENCE_DIR);
      },
    };
  }

  /** Those that still wait go home. */
  endNewcomers(): void {
    for (const process of this.#newcomers.splice(0)) process.kill();
  }

  /** The next cluster would take whoever comes first. */
  #stopAsked(): void {
    this.observation.stopsAskedMs.push(this.world.now());
    this.endNewcomers();
  }

  #works(name: WorkerName): boolean {
    return this.names.every((other) => this.running(other)) && this.observation.latest(name)?.phase === 4;
  }

  /** What workers read of each other. */
  #watchReads(): void {
    const cuts = new LengthCuts();
    this.world.network.onRead = (connection, reader, piece) => {
      if (!this.machines.has(connection.client) || !this.machines.has(connection.server)) return;
      if (cuts.read(connection, reader, piece)) this.observation.reach("rare.frame_cut_in_length");
    };
  }

  // The sink.

  openSink(): void {
    if (this.#twoPhase !== null) return this.#twoPhase.open(PORTS.sink);
    if (this.#sink !== null) return;
    const sink = new PlainSink({
      opened: (peer) => this.#sinkOpened(peer.host),
      line: (connection, line) => this.#line(connection, line),
      closed: (connection, how, rest) => this.#sinkClosed(this.observation.connections[connection]!, how, rest),
    });
    if (this.#sinkPaused) sink.pause();
    const process = this.#sinkMachine.startProcess(async (runtime) => {
      await sink.listen(runtime, { host: "0.0.0.0", port: PORTS.sink });
    });
    this.#sink = { process, sink };
  }

  /** As if its process had been killed. */
  closeSink(): boolean {
    if (this.#twoPhase !== null) return this.#twoPhase.close();
    if (this.#sink === null) return false;
    this.#sink.process.kill();
    this.#sink = null;
    for (const connection of this.observation.connections) {
      if (connection.end === null) this.#sinkClosed(connection, "cut", "");
    }
    return true;
  }

  pauseSink(paused: boolean): void {
    this.#sinkPaused = paused;
    this.#twoPhase?.pause(paused);
    if (paused) this.#sink?.sink.pause();
    else this.#sink?.sink.resume();
  }

  #sinkOpened(ip: string): number {
    const connection: SinkConnection = {
      number: this.observation.connections.length,
      worker: this.#workerOfIp.get(ip) ?? null,
      openedMs: this.world.now(),
      end: null,
      endedMs: null,
      lines: [],
      timesMs: [],
      rest: "",
    };
    this.observation.connections.push(connection);
    return connection.number;
  }

  #line(number: number, line: string): void {
    const connection = this.observation.connections[number]!;
    connection.lines.push(line);
    connection.timesMs.push(this.world.now());
    this.#hooks.lineReceived(++this.observation.lineCount);
  }

  #sinkClosed(connection: SinkConnection, how: "ended" | "cut", rest: string): void {
    connection.end = how;
    connection.endedMs = this.world.now();
    connection.rest = rest;
  }

  // Input.

  /** Where output is exactly once: is there all of it? */
  get allVisible(): boolean {
    return this.observation.lineCount === this.scenario.messages * this.names.length;
  }

  /** Have all senders of the scenario handed over their records, or all generators made them? */
  get inputDone(): boolean {
    if (isExact(this.suite)) {
      return this.allVisible && this.observation.programs.every(({ finished }) => finished) && !this.letters.atIt;
    }
    if (this.suite.sources.length > 0) return this.#sendersLeft === 0;
    return this.names.every((name) => {
      const process = this.observation.latest(name);
      return this.observation.log.some(
        (entry) => entry.process === process?.number && entry.code === "generator_ended",
      );
    });
  }

  /** New input for every source of every worker, all of which must come out. Returns the streams as they open. */
  probe(): readonly StreamRecord[] {
    const first = this.observation.streams.length;
    for (const [w, worker] of this.names.entries()) {
      for (const source of this.suite.sources.keys()) {
        this.#send(`probe${w}.${source}`, worker, source, true, {
          keys: PROBE_KEYS,
          messages: PROBE_MESSAGES,
          batch: 7,
          everyMs: 10,
          streamId: (n) => `p${w}.${source}.${n}`,
        });
      }
    }
    return this.observation.streams.slice(first);
  }

  #send(
    machine: string,
    worker: WorkerName,
    source: number,
    probe: boolean,
    options: Omit<SenderOptions, "address">,
  ): void {
    if (!probe) this.#sendersLeft++;
    const address = { host: worker, port: PORTS.source + source };
    this.world.host(machine).startProcess((runtime) =>
      runSender(
        runtime,
        { ...options, address },
        {
          opened: (id) => this.#streamOpened(id, worker, source, options.keys, probe),
          finished: () => {
            if (!probe) this.#sendersLeft--;
          },
        },
      ),
    );
  }

  #streamOpened(id: string, worker: WorkerName, source: number, keys: number, probe: boolean) {
    const stream: StreamRecord = {
      id,
      keys,
      worker,
      source: this.suite.sources[source]!,
      process: this.observation.latest(worker)!.number,
      openedMs: this.world.now(),
      written: 0,
      writes: [],
      end: null,
      endedMs: null,
      probe,
    };
    this.observation.streams.push(stream);
    return {
      writing: (count: number) => {
        stream.writes.push([this.world.now(), stream.written]);
        stream.written += count;
      },
      closed: (how: "done" | "cut") => {
        stream.end = how;
        stream.endedMs = this.world.now();
      },
    };
  }

  /** A generator begins anew in each process. What it makes is known: it ends with its last record, or its process. */
  #generatorOpened(record: ProcessRecord): void {
    this.observation.streams.push({
      id: generatedId(record.worker),
      keys: this.scenario.keys,
      worker: record.worker,
      source: "numbers",
      process: record.number,
      openedMs: this.world.now(),
      written: this.scenario.messages,
      writes: [[this.world.now(), 0]],
      end: null,
      endedMs: null,
      probe: false,
    });
  }

  // Operator and strangers.

  command(worker: WorkerName, what: CommandName, times: number): void {
    const record: CommandRecord = {
      worker,
      process: this.running(worker) ? this.observation.latest(worker)!.number : null,
      what,
      times,
      text: `hello ${this.observation.commands.length}`,
      askedMs: this.world.now(),
      endedMs: null,
      outcome: null,
      answers: [],
    };
    this.observation.commands.push(record);
    if (what === "stop" || what === "stop_and_report") this.#stopAsked();
    const address = { host: worker, port: PORTS.external };
    this.#operatorMachine.startProcess((runtime) =>
      runCommand(runtime, address, record, {
        answered: (kind, body) => void record.answers.push({ timeMs: this.world.now(), kind, body }),
        ended: (outcome) => {
          record.outcome = outcome;
          record.endedMs = this.world.now();
        },
      }),
    );
  }

  /** Commands of which nothing has come yet. */
  get commandsPending(): number {
    return this.observation.commands.filter(({ outcome }) => outcome === null).length;
  }

  stranger(worker: WorkerName, port: ChannelName, what: StrangerKind): boolean {
    const number = this.portOf(worker, port);
    if (number === null) return false;
    const process = this.observation.latest(worker)!.number;
    const record: StrangerRecord = {
      worker,
      process,
      port,
      what,
      openedMs: 0,
      endedMs: null,
      received: 0,
      savedBefore: null,
      savedAfter: null,
    };
    this.#strangerMachine.startProcess((runtime) =>
      runStranger(runtime, { host: worker, port: number }, port, what, {
        opened: () => {
          record.openedMs = this.world.now();
          record.savedBefore = this.#savedDigest(worker);
          this.observation.strangers.push(record);
        },
        received: (bytes) => {
          record.received += bytes;
        },
        closed: () => {
          record.endedMs = this.world.now();
          record.savedAfter = this.#savedDigest(worker);
        },
      }),
    );
    return true;
  }

  /** Where a worker listens now; null while it does not. */
  portOf(worker: WorkerName, port: ChannelName): number | null {
    if (!this.running(worker)) return null;
    if (port === "external") return PORTS.external;
    if (port === "source") return listeningSources(this.suite).length > 0 ? PORTS.source : null;
    if (port === "sink") return null;
    if (worker === INITIALIZER) return PORTS[port];
    // Drawn by the system, so it is what the worker says in its log.
    const { record } = this.#running.get(worker)!;
    const said = this.observation.log.findLast(
      (entry) => entry.process === record.number && entry.code === `${port}_listening`,
    );
    const found = said === undefined ? null : /:(\d+)$/.exec(said.text);
    return found === null ? null : Number(found[1]);
  }
}

/** Records of `letters` of which there is a line. */
function recordsIn(texts: Iterable<string>): number {
  const seen = new Set<string>();
  for (const text of texts) {
    for (const line of text.split("\n").slice(0, -1)) seen.add(line.split(" ", 2).join(" "));
  }
  return seen.size;
}

/** Output files of a machine, in order. */
function visiblePaths(disk: StageDisk): string[] {
  return disk
    .paths()
    .filter(
      (path) => path.startsWith(`${OUTPUT_FOLDER}/`) && !path.startsWith(`${OUTPUT_FOLDER}/.`) && !path.endsWith("/"),
    )
    .sort();
}
