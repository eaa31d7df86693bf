/**
 * O-LIN: what the operator asks and is answered is the history of one small thing that takes one step at a time. The model of a
 * process: it reaches phase IV once, and stops once; the model of a cluster: its members are those of the scenario, and it
 * stops only if somebody asked for that.
 *
 *   done      the answer is what was true at some moment between question and answer; what was to be done was done, once
 *   refused   in words
 *   unknown   no answer, or a connection that was lost: it may have been done, or be done later, once
 *
 * A question goes to one worker and is answered from what that one knows: that the cluster stops may reach another one later.
 * A worker that leaves, for a stop or for an error, takes no further request, and closes connections in order all the same:
 * whoever asked it meanwhile for something without an answer does not know whether it was done. So it is with one that is killed
 * meanwhile: a connection on which nothing was left unread is closed in order by the system.
 */
import { EXIT } from "../../base/errors.ts";
import type { Millis } from "../../runtime/runtime.ts";
import type { CommandRecord, LogEntry, Observation, ProcessRecord } from "../observation.ts";
import type { CommandName, FaultKind, Scenario } from "../scenario.ts";
import { heldBackMs } from "./disturbances.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const oLin: Oracle = { id: "O-LIN", check };

/** A stop ends by then, with what comes before and behind it: asking the initializer, last words to peers and tools. */
const STOP_MS: Millis = 15_000;
/** After it has begun to leave, a worker is gone by then. */
const LEAVING_MS: Millis = 5_000;
const HOLDING_BACK: readonly FaultKind[] = ["pause", "disk_stall"];
const SILENCING: readonly FaultKind[] = ["pause", "blackhole", "partition", "isolate"];
/** A worker says something within so long, whatever others do. */
const ANSWER_MS: Millis = 10_000;

/** What answers a question that is always answered. */
const ANSWERS: Partial<Record<CommandName, readonly string[]>> = {
  status: ["cluster_status_query_response", "cluster_status_query_response_not_initialized"],
  rich_status: ["status_query_response"],
  shrink: ["shrink_error_response"],
  shrink_query: ["shrink_query_response", "shrink_error_response"],
  partitions: ["partition_query_response"],
  partition_counts: ["partition_count_query_response"],
  stateless_partitions: ["stateless_partition_query_response"],
  stateless_partition_counts: ["stateless_partition_count_query_response"],
  source_ids: ["source_ids_query_response"],
  entities: ["state_entity_query_response"],
  entity_counts: ["state_entity_count_query_response"],
  cluster_entity_counts: ["cluster_state_entity_count_query_response"],
  checkpoint: ["checkpoint_response"],
};

function check(observation: Observation, scenario: Scenario): Violation[] {
  const history = new History(observation, scenario);
  const violations: Violation[] = [];
  for (const command of observation.commands) {
    const why = history.judge(command);
    if (why === null) continue;
    const { worker, what, askedMs } = command;
    const text = `${what} to ${worker} at ${Math.round(askedMs)} ms: ${why}`;
    violations.push({ oracle: "O-LIN", timeMs: command.endedMs ?? observation.timeMs, text });
  }
  violations.push(...history.judgeStops());
  return violations.slice(0, REPORTED_MAX);
}

/** What one process has been through. */
interface Life {
  readonly process: ProcessRecord;
  /** When it worked, and when it knew of a stop; infinite: never. */
  readonly worksMs: Millis;
  readonly stopsMs: Millis;
  readonly endedMs: Millis;
}

class History {
  readonly #observation: Observation;
  readonly #scenario: Scenario;
  readonly #lives: readonly Life[];
  readonly #prints: readonly LogEntry[];
  readonly #stops: readonly LogEntry[];
  readonly #drains: readonly LogEntry[];

  constructor(observation: Observation, scenario: Scenario) {
    this.#observation = observation;
    this.#scenario = scenario;
    const stops = new Map<number, Millis>();
    for (const { process, code, timeMs } of observation.log) {
      if (code !== "external_stop" && code !== "signal" && code !== "stopping") continue;
      if (!stops.has(process)) stops.set(process, timeMs);
    }
    this.#lives = observation.processes.map((process) => ({
      process,
      worksMs: process.phase === 4 ? process.phaseMs : Infinity,
      stopsMs: stops.get(process.number) ?? Infinity,
      endedMs: process.endedMs ?? Infinity,
    }));
    this.#prints = observation.log.filter(({ code }) => code === "external_print");
    this.#stops = observation.log.filter(({ code }) => code === "external_stop");
    this.#drains = observation.log.filter(({ code }) => code === "stopping");
  }

  /** Why no order of things allows what became of this command; null: one does. */
  judge(command: CommandRecord): string | null {
    const { what, outcome, answers, times } = command;
    if (outcome === "fault") return "it was answered with bytes that are no answer";
    if (what === "print") return this.#judgeDone(command, this.#prints);
    if (what === "stop") return this.#judgeDone(command, this.#stops);
    if (what === "stop_and_report") return this.#judgeDone(command, this.#stops) ?? this.#judgeReports(command);
    const kinds = ANSWERS[what];
    if (kinds === undefined) return answers.length === 0 ? null : `${answers[0]!.kind}, where nothing is answered`;
    if (answers.length > times) return `${answers.length} answers to ${times} questions`;
    // A checkpoint may take longer than the patience of who asks for it: whoever is away is waited for.
    if (outcome === "timeout") return what === "checkpoint" ? null : this.#judgeSilence(command);
    for (const answer of answers) {
      if (!kinds.includes(answer.kind)) return `it was answered with ${answer.kind}`;
      const why = this.#judgeAnswer(command, answer);
      if (why !== null) return why;
    }
    return null;
  }

  /** Whoever leaves has stopped: once, within its time, and because somebody asked for it. */
  judgeStops(): Violation[] {
    const violations: Violation[] = [];
    const { stopsAskedMs, timeMs: nowMs } = this.#observation;
    const say = (timeMs: Millis, text: string): void => void violations.push({ oracle: "O-LIN", timeMs, text });
    const clusters = new Set<string>();
    const seen = new Set<number>();
    for (const { process, worker, timeMs } of this.#drains) {
      if (seen.has(process)) say(timeMs, `${worker} stops a second time`);
      seen.add(process);
      const cluster = this.#clusterOf(process);
      if (cluster !== null) clusters.add(cluster);
      const asked = stopsAskedMs.filter((askedMs) => askedMs <= timeMs).length;
      if (asked < clusters.size)
        say(timeMs, `${worker} stops: stop ${clusters.size} of a cluster, and ${asked} asked for`);
      const endedMs = this.#lives[process]!.endedMs;
      const untilMs = Math.min(endedMs, nowMs);
      const heldMs = heldBackMs(HOLDING_BACK, worker, timeMs, untilMs, this.#observation, this.#scenario);
      if (untilMs - timeMs > STOP_MS + heldMs)
        say(untilMs, `${worker} stops at ${Math.round(timeMs)} ms and is still there`);
    }
    return violations;
  }

  #clusterOf(process: number): string | null {
    const sample = this.#observation.samples.findLast((entry) => entry.process === process);
    return sample === undefined || sample.status.phase === 0 ? null : sample.clusterId;
  }

  /** Processes that may have answered: those that lived at some moment of it. */
  #candidates({ worker, askedMs }: CommandRecord, answeredMs: Millis): Life[] {
    return this.#lives.filter(
      ({ process, endedMs }) => process.worker === worker && process.startedMs <= answeredMs && endedMs >= askedMs,
    );
  }

  #judgeAnswer(command: CommandRecord, { timeMs, kind, body }: CommandRecord["answers"][number]): string | null {
    const { askedMs } = command;
    const { workers, stopsAskedMs } = this.#observation;
    const lives = this.#candidates(command, timeMs);
    if (lives.length === 0) return "it was answered, and there was no process";
    switch (kind) {
      case "cluster_status_query_response": {
        const { worker_count: count, worker_names: names, processing_messages: processing } = body as ClusterStatus;
        const members = names.join(" ");
        if (members !== workers.join(" ") || count !== workers.length) return `it has the workers ${members}, ${count}`;
        if (!lives.some(({ worksMs }) => worksMs <= timeMs)) return "it works, and has not said so";
        if (processing && !lives.some(({ stopsMs }) => stopsMs >= askedMs))
          return "it processes, and has stopped before";
        if (processing) return null;
        if (!stopsAskedMs.some((stopMs) => stopMs <= timeMs)) return "it stops, and nobody asked for that";
        return lives.some(({ stopsMs }) => stopsMs <= timeMs) ? null : "it stops, and has not said so";
      }
      case "cluster_status_query_response_not_initialized":
        return lives.some(({ worksMs }) => worksMs >= askedMs) ? null : "it does not work, and did before";
      case "shrink_query_response": {
        const { node_names: names } = body as { readonly node_names: readonly string[] };
        return names.join(" ") === workers.slice(1).join(" ") ? null : `who could leave is ${names.join(" ")}`;
      }
      case "checkpoint_response": {
        const { epoch, reason } = body as { readonly epoch: number; readonly reason: string };
        return epoch > 0 || reason.length > 10 ? null : "it was refused without a reason";
      }
      case "shrink_error_response":
        return typeof body === "string" && body.length > 10 ? null : "it was refused without a reason";
      default:
        return null;
    }
  }

  /** Nothing came for longer than a worker may be silent. */
  #judgeSilence({ worker, askedMs, endedMs, process }: CommandRecord): string | null {
    if (process === null || this.#lives[process]!.endedMs <= endedMs!) return null;
    const heldMs = heldBackMs(SILENCING, worker, askedMs, endedMs!, this.#observation, this.#scenario);
    return endedMs! - askedMs - heldMs > ANSWER_MS ? "it was never answered" : null;
  }

  /** Done as often as it was asked, or less often where nobody can know; each at one process, and not before. */
  #judgeDone(command: CommandRecord, log: readonly LogEntry[]): string | null {
    const { text, times, askedMs, endedMs, outcome, worker } = command;
    const done = log.filter((entry) => new RegExp(`${text}\\b`).test(entry.text));
    if (done.length > times) return `it was done ${done.length} times, and asked for ${times} times`;
    for (const entry of done) {
      if (entry.timeMs < askedMs) return "it was done before it was asked for";
      if (entry.worker !== worker) return `it was done at ${entry.worker}`;
    }
    if (outcome !== "answer" || done.length === times) return null;
    const mayHaveGone = this.#candidates(command, endedMs!).some(
      ({ stopsMs, process, ...life }) =>
        stopsMs <= endedMs! ||
        life.endedMs <= endedMs! ||
        (process.cause === "exit" && process.status !== EXIT.done && life.endedMs <= endedMs! + LEAVING_MS),
    );
    return mayHaveGone ? null : `it was taken, and done ${done.length} of ${times} times`;
  }

  /** For each question: who stops, how each has stopped, and whether all is well; then nothing. */
  #judgeReports(command: CommandRecord): string | null {
    const { answers, times } = command;
    let questions = 0;
    let expected: "draining" | "stopped" | "next" = "next";
    let named = new Set<string>();
    for (const { kind, body, timeMs } of answers) {
      if (kind !== "shutdown_report") return `it was answered with ${kind}`;
      const report = body as Report;
      if ("done" in report) {
        if (expected === "next") return "it is done before it has begun";
        expected = "next";
        const why = report.ok ? this.#judgeLeft(named, timeMs) : null;
        if (why !== null) return why;
        continue;
      }
      const { worker, status } = report;
      if (status === "draining") {
        if (expected === "stopped") return `${worker} drains after another one has stopped`;
        if (expected === "next") {
          questions++;
          named = new Set();
        }
        expected = "draining";
        if (!this.#observation.workers.includes(worker)) return `${worker} drains, and nobody started it`;
        named.add(worker);
      } else {
        if (expected === "next") return `${worker} has stopped before it was told to`;
        expected = "stopped";
      }
    }
    return questions <= times ? null : `${questions} reports of ${times} stops`;
  }

  /** All is well only if everybody leaves. */
  #judgeLeft(workers: ReadonlySet<string>, timeMs: Millis): string | null {
    for (const worker of workers) {
      const life = this.#lives.findLast(
        ({ process }) => process.worker === worker && process.startedMs <= timeMs - LEAVING_MS,
      );
      if (life === undefined) continue;
      const untilMs = Math.min(life.endedMs, this.#observation.timeMs);
      const heldMs = heldBackMs(HOLDING_BACK, worker, timeMs, untilMs, this.#observation, this.#scenario);
      if (untilMs - timeMs > LEAVING_MS + heldMs) return `all is well, it says, and ${worker} does not leave`;
    }
    return null;
  }
}

interface ClusterStatus {
  readonly worker_count: number;
  readonly worker_names: readonly string[];
  readonly processing_messages: boolean;
}

type Report = { readonly worker: string; readonly status: string } | { readonly done: true; readonly ok: boolean };
