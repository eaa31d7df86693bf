/**
 * Answers what the external channel asks: from this worker's own facts, or by asking the other workers over the control
 * channel. Also keeps those informed who wait for the end of the cluster.
 */
import { showAddress } from "../base/address.ts";
import type { WorkerName } from "../base/ids.ts";
import { type Log, printable } from "../base/log.ts";
import type { Plan } from "../plan/plan.ts";
import type { Millis, Runtime } from "../runtime/runtime.ts";
import type { ClusterQuery, ControlMessage, DrainReport } from "../wire/control.ts";
import { CHECKPOINTS_OFF } from "../wire/external.ts";
import type { ResendOutcome } from "../wire/resend.ts";
import type { ControlChannel } from "./channels/control_channel.ts";
import type { DataChannel } from "./channels/data_channel.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { Cluster } from "./cluster.ts";
import type { WorkerConfig } from "./config.ts";
import type { DataflowShell } from "./dataflow_shell.ts";
import type { ExternalCounts } from "./external/external_server.ts";
import type { ClusterEntityCounts, ClusterStatus, ExternalHandler, Partitions, StopEvent } from "./external/handler.ts";
import { groupId, partitionsOf, sourceIdsOf, stateStepId } from "./external/step_lists.ts";
import type { Resend } from "./resend.ts";
import type { SlowTurns } from "./slow_turns.ts";

/** Whoever has not answered by then is left out. */
const ANSWER_MS: Millis = 2_000;
/** Questions to the cluster under way at once; more are answered from this worker alone. */
const ASKING_MAX = 64;

export interface QueriesOptions {
  readonly config: WorkerConfig;
  readonly runtime: Runtime;
  readonly log: Log;
  readonly plan: Plan;
  readonly cluster: Cluster;
  readonly shell: DataflowShell;
  readonly slowTurns: Pick<SlowTurns, "slowCode">;
  /** Null: none are taken, or not yet. */
  readonly checkpoints: () => Pick<Checkpoints, "ask" | "status"> | null;
  /** Null: the cluster is not known yet. */
  readonly resend: () => Pick<Resend, "request"> | null;
  readonly control: ControlChannel;
  readonly data: DataChannel;
  /** Null: there is no external channel. */
  readonly external: () => ExternalCounts | null;
  readonly fingerprint: string;
  /** Begins a new file of this worker's event log. */
  readonly rotateLog: () => void;
  readonly turn: (run: () => void) => void;
}

interface Asking {
  readonly bodies: Map<WorkerName, unknown>;
  readonly waiting: Set<WorkerName>;
  readonly done: (bodies: ReadonlyMap<WorkerName, unknown>) => void;
  readonly cancel: () => void;
}

/** One worker's keys, as it tells them to another: group → step → count. What is of another shape is left out. */
export function readEntityCounts(body: unknown): Map<string, Map<string, number>> {
  const counts = new Map<string, Map<string, number>>();
  for (const [group, steps] of entriesOf(body)) {
    const known = entriesOf(steps).filter((entry): entry is [string, number] => typeof entry[1] === "number");
    counts.set(group, new Map(known));
  }
  return counts;
}

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === "object" && value !== null ? Object.entries(value) : [];
}

export class Queries implements ExternalHandler {
  readonly worker: string;
  readonly #options: QueriesOptions;
  readonly #asking = new Map<number, Asking>();
  readonly #watchers: ((event: StopEvent) => void)[] = [];
  #requests = 0;

  constructor(options: QueriesOptions) {
    this.#options = options;
    this.worker = options.config.name;
  }

  clusterStatus(): ClusterStatus {
    const { membership, stopping } = this.#options.cluster;
    if (membership.phase < 4) return { ready: false };
    const names = membership.memberNames;
    return { ready: true, worker_count: names.length, worker_names: names, processing_messages: !stopping };
  }

  partitions(): Partitions {
    if (this.#options.shell.dataflow === null) return { state: new Map(), stateless: new Map() };
    return partitionsOf(this.#options.plan, this.worker);
  }

  sourceIds(): readonly string[] {
    return sourceIdsOf(this.#options.plan, this.worker);
  }

  stateEntities(): ReadonlyMap<string, readonly string[]> {
    return this.#perStatefulStage((stage) => [...(this.#options.shell.dataflow?.keysOf(stage) ?? [])]);
  }

  stateEntityCounts(): ReadonlyMap<string, number> {
    return this.#perStatefulStage((stage) => this.#options.shell.dataflow?.keyCount(stage) ?? 0);
  }

  clusterStateEntityCounts(answer: (counts: ClusterEntityCounts) => void): void {
    this.#ask("state_entity_count", (bodies) => {
      const counts = new Map<string, Map<string, Map<string, number>>>();
      for (const [worker, body] of bodies) {
        counts.set(worker, readEntityCounts(body));
      }
      answer(counts);
    });
  }

  print(text: string): void {
    this.#options.log.info("external_print", `$$$ ExternalPrint: ${printable(text)} $$$`);
  }

  reportStatus(code: string): void {
    const { log, cluster } = this.#options;
    if (code !== "boundary-count-status") {
      log.warn("report_status_unknown", `No such status to report: ${printable(code)}; there is boundary-count-status`);
      return;
    }
    const peers = [...cluster.peers].map(
      ([name, peer]) => `${name}: out ${peer.data_out ? 1 : 0}, in ${peer.data_in ? 1 : 0}`,
    );
    log.info(
      "boundary_count_status",
      `boundary-count-status of ${this.worker}: ${peers.join("; ") || "no other workers"}`,
    );
  }

  stop(reason: string, keep: boolean, report: (event: StopEvent) => void): void {
    const { cluster, turn } = this.#options;
    this.#watchers.push(report);
    const why =
      reason === "" ? "External Clean Shutdown received" : `External Clean Shutdown received: ${printable(reason)}`;
    this.#options.log.info("external_stop", `${why}.`);
    const names = cluster.membership.memberNames;
    report({ kind: "stopping", reason: why, workers: names.length > 0 ? names : [this.worker] });
    turn(() => cluster.requestStop(`${why} at worker ${this.worker}`, keep));
  }

  rotateLog(worker: string): void {
    const { cluster, log, rotateLog, turn } = this.#options;
    if (worker === this.worker) return turn(rotateLog);
    const member = cluster.membership.memberNames.find((name) => name === worker);
    if (member !== undefined) return turn(() => cluster.send(member, { kind: "rotate_log" }));
    log.warn(
      "rotation_refused",
      `WARNING: LogRotation requested for non-existent worker: ${printable(worker, 80)}; this is ${this.worker}, and the ` +
        `cluster has ${cluster.membership.memberNames.join(", ") || "not been formed yet"}`,
    );
  }

  checkpoint(answer: (epoch: number, reason: string) => void): void {
    const { checkpoints, turn } = this.#options;
    const taking = checkpoints();
    if (taking === null) return answer(0, CHECKPOINTS_OFF);
    turn(() => taking.ask(answer));
  }

  resend(batch: Uint8Array, answer: (outcome: ResendOutcome) => void): void {
    const { resend, turn } = this.#options;
    const desk = resend();
    if (desk !== null) return turn(() => desk.request(batch, answer));
    const why = "the cluster is not formed yet: send them when it works";
    answer({ taken: [], left: [{ letters: [], why }], unsure: [], epoch: 0 });
  }

  richStatus(answer: (status: unknown) => void): void {
    this.#ask("status", (bodies) => {
      const { cluster, config } = this.#options;
      answer({
        cluster_id: cluster.clusterId,
        application: config.application.name,
        worker_names: cluster.membership.memberNames,
        absent: cluster.membership.memberNames.filter((name) => !bodies.has(name)),
        workers: Object.fromEntries(bodies),
      });
    });
  }

  /** The cluster has stopped: each worker's report is known. */
  stopped(reports: readonly DrainReport[]): void {
    for (const watcher of this.#watchers) for (const report of reports) watcher({ kind: "stopped", ...report });
  }

  /** This worker is about to leave, the others have. */
  finished(complete: boolean): void {
    for (const watcher of this.#watchers) watcher({ kind: "finished", complete });
    this.#watchers.length = 0;
  }

  /** Another worker asks. */
  asked(from: WorkerName, { query, request }: ControlMessage & { kind: "query" }): void {
    this.#options.cluster.send(from, { kind: "answer", request, body: this.#own(query) });
  }

  answered(from: WorkerName, { request, body }: ControlMessage & { kind: "answer" }): void {
    const asking = this.#asking.get(request);
    if (asking === undefined || !asking.waiting.delete(from)) return;
    asking.bodies.set(from, body);
    if (asking.waiting.size === 0) this.#conclude(request, asking);
  }

  #ask(query: ClusterQuery, done: (bodies: ReadonlyMap<WorkerName, unknown>) => void): void {
    const { cluster, runtime, turn } = this.#options;
    const bodies = new Map<WorkerName, unknown>([[this.worker, this.#own(query)]]);
    const waiting = new Set(this.#asking.size < ASKING_MAX ? cluster.connectedPeers() : []);
    if (waiting.size === 0) return done(bodies);
    const request = ++this.#requests;
    const cancel = runtime.clock.startTimer(ANSWER_MS, () => turn(() => this.#conclude(request, asking)));
    const asking: Asking = { bodies, waiting, done, cancel };
    this.#asking.set(request, asking);
    turn(() => {
      for (const peer of waiting) cluster.send(peer, { kind: "query", query, request });
    });
  }

  #conclude(request: number, asking: Asking): void {
    if (!this.#asking.delete(request)) return;
    asking.cancel();
    // In the order of members, as people expect it.
    const names = this.#options.cluster.membership.memberNames;
    asking.done(new Map([...asking.bodies].sort(([a], [b]) => names.indexOf(a) - names.indexOf(b))));
  }

  #own(query: ClusterQuery): unknown {
    if (query === "status") return this.ownStatus();
    const { plan, shell } = this.#options;
    const counts: Record<string, Record<string, number>> = {};
    for (const stage of plan.stages) {
      if (stage.kind !== "stateful") continue;
      const keys = shell.dataflow?.keyCount(stage.index) ?? 0;
      counts[groupId(stage.id)] = { [stateStepId(stage.id, this.worker)]: keys };
    }
    return counts;
  }

  /** What this worker says of itself, in the form that travels. */
  ownStatus(): unknown {
    const { checkpoints, cluster, config, data, control, external, fingerprint, plan, runtime, shell, slowTurns } =
      this.#options;
    const now = runtime.clock.monotonicMs();
    const { dataflow } = shell;
    return {
      phase: cluster.membership.phase,
      stopping: cluster.stopping,
      waiting_for: (cluster.waitingFor() ?? "").replace(/^waiting for /, ""),
      generation: cluster.membership.cluster?.generation ?? 0,
      start_number: cluster.startNumber,
      build_id: config.buildId,
      fingerprint,
      resident_bytes: runtime.host.residentBytes(),
      cpu_micros: Math.round(runtime.host.cpuMicros()),
      peers: [...cluster.peers].map(([name, peer]) => ({
        name,
        control: peer.control,
        data_out: peer.data_out,
        data_in: peer.data_in,
        address: peer.observed === null ? "" : showAddress(peer.observed),
        since_ms: Math.round(peer.sinceMs),
        last_loss: printable(peer.lastLoss),
        unacked_bytes: data.unacked(name).bytes,
      })),
      muted: shell.muted(),
      checkpoint: checkpoints()?.status ?? { epoch: 0 },
      sources: shell.sources.status(),
      sinks: shell.sinks.map((sink) => ({
        name: sink.name,
        address: sink.target,
        connected: sink.connected,
        muted_ms: sink.blockedSinceMs === null ? 0 : Math.round(now - sink.blockedSinceMs),
        queued_bytes: sink.queuedBytes,
        ...sink.status(),
      })),
      stages: plan.stages.map((stage) => ({
        id: stage.id,
        group: groupId(stage.id),
        kind: stage.kind,
        keys: dataflow?.keyCount(stage.index) ?? 0,
        records_in: dataflow?.stageCounts(stage.index).recordsIn ?? 0,
        records_out: dataflow?.stageCounts(stage.index).recordsOut ?? 0,
      })),
      user_errors: shell.userErrors,
      user_code_slow: slowTurns.slowCode,
      malformed_batches: shell.malformedBatches,
      channels: [control, data].map(({ stats }) => ({
        ...stats,
        strangersClosed: Object.fromEntries(stats.strangersClosed),
      })),
      external: external(),
    };
  }

  #perStatefulStage<T>(value: (stage: number) => T): Map<string, T> {
    const { plan, shell } = this.#options;
    const found = new Map<string, T>();
    if (shell.dataflow === null) return found;
    for (const stage of plan.stages) if (stage.kind === "stateful") found.set(groupId(stage.id), value(stage.index));
    return found;
  }
}
