/**
 * Runs one scenario from beginning to end:
 *
 *   1. The faults: until all were applied and what they did for a time is over, or `limitMs`.
 *   2. Everything is mended, every worker started. An operator restarts whoever leaves with a message that asks for it.
 *   3. New input through every source; then all old input has come out and nothing moves.
 *   4. A stop in order.
 *
 * Then the oracles look at what was observed.
 */
import { EXIT } from "../base/errors.ts";
import type { WorkerName } from "../base/ids.ts";
import { Prng } from "../base/prng.ts";
import type { Millis } from "../runtime/runtime.ts";
import { SimulatedCluster } from "./cluster.ts";
import { FaultPlan } from "./faults.ts";
import { guardGlobals } from "./guards.ts";
import type { Ending, LogEntry, Observation } from "./observation.ts";
import type { Oracle, Violation } from "./oracles/oracle.ts";
import { countRareStates } from "./rare_states.ts";
import { type FaultKind, parseSeed, type Scenario } from "./scenario.ts";
import type { Stage } from "./stage.ts";
import type { Tracer } from "./trace.ts";
import { virtualStage } from "./virtual_stage.ts";

export interface RunOptions {
  readonly oracles: readonly Oracle[];
  /** Ends the run before the step of this number. */
  readonly untilStep?: number;
  /** Where it takes place. Default: a virtual world. */
  readonly stage?: Stage;
  readonly onLog?: (entry: LogEntry) => void;
  /** Told of every call of a worker to its disk and to its network. */
  readonly onCall?: (worker: WorkerName, call: "disk" | "net", timeMs: Millis) => void;
  /** Writes down everything that happens. */
  readonly tracer?: Tracer;
  /**
   * Told how to report a rejection that nobody handled or an exception that nobody caught in the real process around the
   * run; returns how to end that. Left out: they end the process.
   */
  readonly watchUncaught?: (report: (error: unknown) => void) => () => void;
}

export interface RunResult {
  readonly scenario: Scenario;
  readonly violations: readonly Violation[];
  /** Of every step, and of all that was observed: equal for equal scenarios and code, on every runtime. */
  readonly traceHash: string;
  readonly virtualMs: Millis;
  readonly steps: number;
  /** Those that had an effect. */
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly reached: ReadonlyMap<string, number>;
  /** A worker was killed, or lost power. */
  readonly crashed: boolean;
  readonly observation: Observation;
}

/** Convergence after the last fault (O-LIVE). */
export const CONVERGE_MS: Millis = 30_000;
/**
 * For what was sent before, beyond the pace of its senders: longer than a sender waits for the last word of a peer that has
 * lost its power (`LAST_WORD_MS` in `environment/sender.ts`), which is the environment's time and not the cluster's.
 */
const QUIET_MS: Millis = 180_000;
const ONE_BY_ONE_MS: Millis = 900_000;
const STOP_MS: Millis = 15_000;
/** After so long an operator gives up, and what it asked for does not happen any more. */
const COMMAND_MS: Millis = 21_000;
const SAMPLE_MS: Millis = 1_000;
/** Nothing moved for so long: nothing will. */
const STILL_MS: Millis = 600;
const STILL_LONG_MS: Millis = 3_000;
/** What a real process has said of itself counts for so long. */
const TOLD_MS_MAX: Millis = 1_000;
/** Three barriers that are not yet acknowledged. */
const BARRIERS_BYTES = 3 * 72;
/** Lines that come within this are progress; and how long there may be nothing but progress. */
const MOVING_MS: Millis = 5_000;
/** Where lines are seen with a checkpoint only, and its barriers wait behind records that go one at a time. */
const MOVING_ONE_BY_ONE_MS: Millis = 120_000;
const PATIENCE_MS: Millis = 600_000;
const RESTART_MS: Millis = 500;

export async function runScenario(scenario: Scenario, options: RunOptions): Promise<RunResult> {
  const run = new Run(scenario, options);
  const stopWatching = options.watchUncaught?.((error) => run.uncaught(error));
  const restoreGlobals = options.stage?.isReal === true ? () => {} : guardGlobals();
  try {
    await run.run();
  } finally {
    restoreGlobals();
    stopWatching?.();
  }
  return run.result();
}

class Run {
  readonly #scenario: Scenario;
  readonly #options: RunOptions;
  readonly #cluster: SimulatedCluster;
  readonly #faults: FaultPlan;
  readonly #during: (() => Violation[])[];
  readonly #violations: Violation[] = [];
  #sampledMs: Millis = 0;
  #movedMs: Millis = 0;

  constructor(scenario: Scenario, options: RunOptions) {
    this.#scenario = scenario;
    this.#options = options;
    const stage = options.stage ?? virtualStage(scenario, options.tracer?.step);
    this.#cluster = new SimulatedCluster(scenario, stage, {
      pointReached: (point, worker) => this.#faults.pointReached(point, worker),
      lineReceived: (count) => {
        this.#movedMs = this.#cluster.world.now();
        this.#faults.received(count);
      },
      logged: (entry) => {
        options.onLog?.(entry);
        options.tracer?.log(entry);
      },
      processChanged: (process) => options.tracer?.process(process),
    });
    this.#faults = new FaultPlan(this.#cluster, {
      applied: (fault) => options.tracer?.fault(fault),
      called: (worker, call) => options.onCall?.(worker, call, this.#cluster.world.now()),
    });
    const { observation } = this.#cluster;
    const asked = options.oracles.filter((oracle) => scenario.expect.includes(oracle.id));
    this.#during = asked.flatMap((oracle) => oracle.during?.(observation, scenario) ?? []);
  }

  uncaught(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#cluster.observation.uncaught.push({ timeMs: this.#cluster.world.now(), worker: null, text });
  }

  async run(): Promise<void> {
    this.#options.tracer?.begin(this.#cluster);
    this.#cluster.begin();
    this.#faults.begin();
    const { world } = this.#cluster;
    await this.#until(() => this.#faults.over, this.#scenario.limitMs);
    if (this.#cut()) return;
    this.#faults.mend();
    const ending: Ending = {
      mendedMs: world.now(),
      workingMs: null,
      probedMs: null,
      quietMs: null,
      stopAskedMs: null,
      leftMs: null,
      filesLeft: [],
      forGood: false,
    };
    this.#cluster.observation.ending = ending;
    if (this.#cluster.observation.stopsAskedMs.length > 0) {
      await this.#afterStop(ending);
      // Whoever begins anew needs another folder for its output.
      if (this.#cluster.suite.files && this.#cluster.isGone) return this.#endForGood(ending);
    }
    await this.#windUp(ending);
  }

  result(): RunResult {
    const { observation, world } = this.#cluster;
    countRareStates(observation);
    const violations = [...this.#violations];
    if (violations.length === 0 && this.#options.untilStep === undefined) {
      for (const oracle of this.#options.oracles) {
        if (this.#scenario.expect.includes(oracle.id)) violations.push(...oracle.check(observation, this.#scenario));
      }
    }
    this.#options.tracer?.end(violations);
    const faults = new Map<FaultKind, number>();
    for (const { kind, effect } of observation.faults) {
      if (effect !== "") faults.set(kind, (faults.get(kind) ?? 0) + 1);
    }
    return {
      scenario: this.#scenario,
      violations,
      traceHash: hashRun(world.traceHash(), observation),
      virtualMs: world.now(),
      steps: world.steps,
      faults,
      reached: observation.reached,
      crashed: observation.processes.some(({ cause }) => cause === "kill" || cause === "power_loss"),
      observation,
    };
  }

  /**
   * After a stop of the cluster, until nothing comes of it any more. Whom it did not reach goes on. Nobody's files are
   * touched: those that left and those that did not must find together again.
   */
  async #afterStop(ending: Ending): Promise<void> {
    const { names } = this.#cluster;
    const stopped = (): boolean =>
      names.every((name) => !this.#cluster.running(name)) && this.#cluster.commandsPending === 0;
    await this.#until(stopped, STOP_MS + COMMAND_MS);
    ending.mendedMs = this.#cluster.world.now();
  }

  #endForGood(ending: Ending): void {
    for (const name of this.#cluster.names) this.#cluster.end(name, "kill");
    ending.forGood = true;
    this.#cluster.sample();
    if (this.#cluster.suite.refuses === true) this.#cluster.letters.noteLeft();
    for (const look of this.#during) this.#violations.push(...look());
  }

  async #windUp(ending: Ending): Promise<void> {
    const { names, world, observation } = this.#cluster;
    if (!(await this.#untilWorking())) return;
    ending.workingMs = world.now();
    this.#movedMs = world.now();
    if (this.#cluster.suite.refuses === true) {
      const prng = new Prng(parseSeed(this.#scenario.seed), "letters");
      this.#cluster.letters.sendAll(prng, () => this.#cluster.allVisible || ending.stopAskedMs !== null);
    }
    this.#cluster.probe();
    const probes = () => observation.streams.filter((stream) => stream.probe);
    const expected = names.length * this.#cluster.suite.sources.length;
    const probed = () => probes().length === expected && probes().every((stream) => stream.end === "done");
    if (!(await this.#untilMoved(probed, CONVERGE_MS))) return;
    this.#movedMs = world.now();
    const patient = isNarrow(this.#scenario) || !this.#cluster.inputDone;
    if (!(await this.#untilMoved(() => this.#still(), CONVERGE_MS, patient))) return;
    ending.probedMs = world.now();
    const paceMs = Math.max(0, ...this.#scenario.senders.map((sender) => this.#paceMs(sender)));
    // Where one record at a time may be on its way, and its output is seen with a checkpoint only, a thousand take minutes.
    const quietMs = isOneByOne(this.#scenario) ? ONE_BY_ONE_MS : QUIET_MS;
    if (!(await this.#untilMoved(() => this.#cluster.inputDone, quietMs + paceMs))) return;
    this.#movedMs = world.now();
    if (!(await this.#untilMoved(() => this.#still(), QUIET_MS))) return;
    if (this.#options.stage?.isReal === true) {
      // What real processes have said may be so old, and from before the last record; those that have little time say it late.
      await this.#until(() => false, TOLD_MS_MAX);
      await this.#until(() => this.#cluster.allTell, CONVERGE_MS);
    }
    ending.quietMs = world.now();
    this.#cluster.noteAtRest();
    ending.stopAskedMs = world.now();
    const asked = names[new Prng(parseSeed(this.#scenario.seed), "stop").int(names.length)]!;
    this.#cluster.signal(asked, "SIGTERM");
    if (!(await this.#until(() => names.every((name) => !this.#cluster.running(name)), STOP_MS))) return;
    ending.leftMs = world.now();
    // The sink learns of the last lines after the workers have left.
    await this.#until(() => observation.connections.every((connection) => connection.end !== null), STOP_MS);
    for (const name of names) {
      for (const path of this.#cluster.filesOf(name)) ending.filesLeft.push(`${name}:${path}`);
    }
  }

  #paceMs({ batch, everyMs }: { batch: number; everyMs: number }): Millis {
    return this.#cluster.suite.sources.length === 0
      ? this.#scenario.messages * 10
      : (this.#scenario.messages / batch) * (everyMs + 20);
  }

  /** Starts everyone, and whoever leaves again for a reason that passes; until all are in phase IV. */
  async #untilWorking(): Promise<boolean> {
    const { world, names, observation } = this.#cluster;
    const untilMs = world.now() + CONVERGE_MS;
    for (const name of names) this.#cluster.start(name);
    const working = () => names.every((name) => this.#cluster.running(name) && observation.latest(name)!.phase === 4);
    while (world.now() < untilMs && !this.#cut()) {
      if (await this.#until(working, RESTART_MS)) return true;
      for (const name of names) {
        const { endedMs, status } = observation.latest(name)!;
        if (endedMs === null || status === EXIT.bug || world.now() - endedMs < RESTART_MS) continue;
        this.#restart(name);
      }
    }
    return false;
  }

  #restart(name: WorkerName): void {
    this.#cluster.observation.reach("operator.restarted");
    // Whoever was told of a damaged file puts it back from where it has another one.
    this.#faults.restore(name);
    this.#cluster.start(name);
  }

  /**
   * No line for a while, nothing waits in any worker, and all are connected: a stop that cannot reach everybody keeps
   * all files, by design, and this run is to end with none.
   */
  #still(): boolean {
    const { world, observation, names } = this.#cluster;
    const now = world.now();
    // Barriers are always on their way, so what waits is never nothing; then nothing else has moved for longer.
    const [stillMs, unackedMax] =
      this.#scenario.checkpointMs === undefined ? [STILL_MS, 0] : [STILL_LONG_MS, BARRIERS_BYTES];
    if (now - this.#movedMs < stillMs) return false;
    const fresh = observation.samples.slice(-names.length);
    return (
      fresh.length === names.length &&
      fresh.every(
        ({ timeMs, status }) =>
          timeMs > this.#movedMs &&
          status.sinks.every((sink) => sink.queued_bytes === 0) &&
          status.peers.every(
            (peer) => peer.unacked_bytes <= unackedMax && peer.control && peer.data_out && peer.data_in,
          ),
      )
    );
  }

  /**
   * With queues, credits and windows of a few bytes or a slow network, what waits may take long, by design, and while senders
   * go on nothing is ever still: then it is enough that lines keep coming, for a while. Everybody else keeps the limit.
   */
  async #untilMoved(condition: () => boolean, limitMs: Millis, patient = isNarrow(this.#scenario)): Promise<boolean> {
    const { world } = this.#cluster;
    const untilMs = world.now() + PATIENCE_MS;
    if (await this.#until(condition, limitMs)) return true;
    if (!patient) return false;
    const movingMs = isOneByOne(this.#scenario) ? MOVING_ONE_BY_ONE_MS : MOVING_MS;
    while (world.now() < untilMs && world.now() - this.#movedMs < movingMs && !this.#cut()) {
      if (await this.#until(condition, movingMs)) return true;
    }
    return false;
  }

  #cut(): boolean {
    const { untilStep } = this.#options;
    return this.#violations.length > 0 || (untilStep !== undefined && this.#cluster.world.steps >= untilStep);
  }

  /** Runs until the condition holds, sampling each virtual second. @returns Whether it came to hold. */
  async #until(condition: () => boolean, limitMs: Millis): Promise<boolean> {
    const { world } = this.#cluster;
    const { untilStep } = this.#options;
    const untilMs = world.now() + limitMs;
    let met = false;
    const stop =
      untilStep === undefined
        ? () => {
            met = condition();
            return met;
          }
        : () => {
            met = condition();
            return met || world.steps >= untilStep;
          };
    while (!stop() && world.now() < untilMs && !this.#cut()) {
      const sliceMs = Math.min(untilMs, this.#sampledMs + SAMPLE_MS) - world.now();
      await world.runUntilOrFor(stop, sliceMs);
      if (world.now() - this.#sampledMs < SAMPLE_MS) continue;
      this.#sampledMs = world.now();
      this.#cluster.sample();
      for (const look of this.#during) this.#violations.push(...look());
    }
    return met;
  }
}

/** Are there checkpoints, and one record at a time on its way? */
function isOneByOne({ limits, checkpointMs }: Scenario): boolean {
  return checkpointMs !== undefined && (limits?.exchangeCreditBytes ?? Number.POSITIVE_INFINITY) < 1_000;
}

/** Is it slow by design? */
function isNarrow({ limits, network }: Scenario): boolean {
  const small = (bytes: number | undefined) => bytes !== undefined && bytes <= 10_000;
  return (
    small(limits?.exchangeCreditBytes) ||
    small(limits?.sinkQueueBytes) ||
    small(limits?.dataFrameBytes) ||
    small(network?.sendBufferBytes) ||
    small(network?.receiveBufferBytes) ||
    network?.latencyMaxMs !== undefined
  );
}

/** The world's own hash, and what the environment saw of it. */
function hashRun(traceHash: string, observation: Observation): string {
  let a = Number.parseInt(traceHash.slice(0, 8), 16) | 0;
  let b = Number.parseInt(traceHash.slice(8), 16) | 0;
  const mix = (text: string) => {
    for (let at = 0; at < text.length; at++) {
      a = Math.imul(a ^ text.charCodeAt(at), 0x0100_0193);
      b = Math.imul(((b << 13) | (b >>> 19)) ^ text.charCodeAt(at), 0x85eb_ca6b);
    }
  };
  for (const { lines, end } of observation.connections) {
    for (const line of lines) mix(line);
    mix(end ?? "open");
  }
  for (const { worker, entry } of observation.transactions) mix(`${worker} ${JSON.stringify(entry)}`);
  for (const { code, text } of observation.log) mix(`${code} ${text}`);
  for (const { status } of observation.processes) mix(String(status));
  return (a >>> 0).toString(16).padStart(8, "0") + (b >>> 0).toString(16).padStart(8, "0");
}
