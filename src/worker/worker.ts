/**
 * One worker, from its configuration to its exit status: opens the folder, binds the ports, joins the cluster, runs, and
 * leaves. Everything that happens to it comes in as a *turn*: a completion is handled by plain calls, then everything that
 * has something to send is flushed once.
 */
import { showAddress } from "../base/address.ts";
import { EXIT, type ExitStatus, StorageError, TammarError, UserCodeError } from "../base/errors.ts";
import { type Epoch, INITIALIZER, type WorkerName } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { planFingerprintText } from "../plan/fingerprint_text.ts";
import { type Plan, planApplication } from "../plan/plan.ts";
import type { ClusterInformation } from "../protocol/membership/membership.ts";
import { type FilesAfterStop, NO_LAST_CHECKPOINT } from "../protocol/stop/stop.ts";
import type { Address, Millis, Runtime } from "../runtime/runtime.ts";
import { isDeadLettersName } from "../store/dead_letter_file.ts";
import { shellWord } from "../store/folders.ts";
import { isResentName } from "../store/resent_file.ts";
import { countStop } from "../store/stops_file.ts";
import { openStore, otherFingerprintError, type Store } from "../store/store.ts";
import type { DrainReport, Phase } from "../wire/control.ts";
import { bytesToHex } from "../wire/hello.ts";
import type { BatchLinks } from "./batch_links.ts";
import { ControlChannel } from "./channels/control_channel.ts";
import { DataChannel } from "./channels/data_channel.ts";
import type { LinkKind, LinkOwner } from "./channels/link_owner.ts";
import { CheckpointFiles } from "./checkpoint_files.ts";
import { Checkpoints } from "./checkpoints.ts";
import { Cluster, type ClusterOptions } from "./cluster.ts";
import type { WorkerConfig } from "./config.ts";
import { NO_HOOKS, type WorkerHooks, type WorkerStatus } from "./crash_points.ts";
import { DataflowShell } from "./dataflow_shell.ts";
import { DEAD_LETTERS, DeadLetters } from "./dead_letters.ts";
import { ExternalServer } from "./external/external_server.ts";
import { listenError } from "./listen_error.ts";
import { MemoryGuard } from "./memory_guard.ts";
import { Queries } from "./queries.ts";
import { Resend } from "./resend.ts";
import { SlowTurns } from "./slow_turns.ts";
import { Streams } from "./streams.ts";
import { WorkerMetrics } from "./worker_metrics.ts";

/** Time for the last words to reach peers and tools before the process leaves. */
const FAREWELL_MS: Millis = 1_000;
/** From so many stops at one record on it is said that starting again won't help. */
const STOPS_TOLD = 3;
/** Time for a record that is on its way to a sink to arrive whole when the worker leaves at once. */
const RECORD_GRACE_MS: Millis = 300;

/**
 * Runs a worker until the cluster is stopped, or this worker cannot go on.
 *
 * @throws {TammarError} Why it cannot go on, with the exit status; anything else is a bug of ours.
 */
export async function runWorker(
  config: WorkerConfig,
  runtime: Runtime,
  log: Log,
  hooks: WorkerHooks = NO_HOOKS,
): Promise<ExitStatus> {
  for (;;) {
    const worker = new Worker(config, runtime, log, hooks);
    const status = await worker.run();
    if (!worker.beginsAnew) return status;
  }
}

export class Worker {
  readonly #config: WorkerConfig;
  readonly #runtime: Runtime;
  readonly #log: Log;
  readonly #hooks: WorkerHooks;
  readonly #plan: Plan;
  readonly #shell: DataflowShell;
  readonly #metrics: WorkerMetrics;
  readonly #memory: MemoryGuard;
  readonly #slowTurns: SlowTurns;
  #store: Store | null = null;
  #cluster: Cluster | null = null;
  #control: ControlChannel | null = null;
  #data: DataChannel | null = null;
  #external: ExternalServer | null = null;
  #queries: Queries | null = null;
  /** Null with `--checkpoint-interval off`, and before the cluster is known. */
  #checkpoints: Checkpoints | null = null;
  /** Of connector sources. Null before the cluster is known. */
  #streams: Streams | null = null;
  /** Of dead letters. Null before the cluster is known. */
  #resend: Resend | null = null;
  readonly #checkpointFiles: CheckpointFiles;
  /** All that this checkpoint and earlier ones decide is visible, and that was told. */
  #settledEpoch: Epoch = 0;
  #depth = 0;
  #ending = false;
  #signals = 0;
  #stoppedInOrder = false;
  #gaveWay = false;
  #failure: { readonly error: unknown } | null = null;
  /** The record that user code wants to stop at. */
  #failedAt: string | null = null;
  readonly #exited: Promise<ExitStatus>;
  #exit: (status: ExitStatus) => void = () => {};

  constructor(config: WorkerConfig, runtime: Runtime, log: Log, hooks: WorkerHooks) {
    this.#hooks = hooks;
    this.#config = config;
    this.#runtime = runtime;
    this.#log = log;
    this.#plan = planApplication(config.application, {
      args: config.rawArguments,
      options: config.applicationOptions as never,
      worker: config.name,
      workers: config.workerCount,
      inputs: [...config.inputs.keys()],
    });
    this.#exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
    const turn = (run: () => void) => this.#turn(run);
    this.#checkpointFiles = new CheckpointFiles({ config, runtime, log, hooks });
    this.#metrics = new WorkerMetrics(config, runtime, log, this.#plan);
    this.#memory = new MemoryGuard({
      limitBytes: config.limits.memoryBytes,
      residentBytes: () => runtime.host.residentBytes(),
      high: (resident) =>
        log.warn("memory_high", `${this.#memoryText(resident)}. At that limit the worker leaves, with exit status 21`),
      exceeded: (resident) => this.#leaveForMemory(resident),
    });
    this.#slowTurns = new SlowTurns({
      clock: runtime.clock,
      log,
      silenceMs: config.timing.silenceMs,
      hasPeers: () => this.#cluster!.membership.memberNames.length > 1,
    });
    this.#shell = new DataflowShell({
      config,
      runtime,
      log,
      plan: this.#plan,
      meter: this.#metrics,
      slowCode: (slow) => this.#slowTurns.code(slow),
      turn,
      sinksConnected: () => this.#cluster?.sinksConnected(),
      drained: (report) => this.#cluster?.drained(report),
      voted: (sink, epoch, vote) => this.#checkpoints?.voted(sink, epoch, vote),
      reached: (point) => this.#hooks.reached(point),
      letIn: () => this.#resend?.flush(),
      toRegistry: (source, request) => this.#streams?.toRegistry(source, request),
    });
  }

  /** It has given up what it had saved of a cluster that is no more, and wants a place in the one that is. */
  get beginsAnew(): boolean {
    return this.#gaveWay;
  }

  async run(): Promise<ExitStatus> {
    try {
      await this.#start();
    } catch (error) {
      await this.#fail(error);
    }
    const status = await this.#exited;
    if (this.#failure !== null) throw this.#failure.error;
    return status;
  }

  async #start(): Promise<void> {
    const { role, resilienceDir } = this.#config;
    const log = this.#log;
    log.info("resilience_directory", `||| Resilience directory: ${resilienceDir}|||`);
    if (this.#config.checkpoints.rotation !== null) {
      log.warn(
        "rotation_keeps_files",
        `||| Log-rotation: true||| No file of the event log in ${resilienceDir} goes before the cluster is shut down: see that ` +
          `there is room, about as much as changes. Started without --log-rotation, the worker removes those it doesn't need`,
      );
    }
    this.#listenToSignals();
    this.#hooks.reached("start.begin");
    const fingerprint = await this.#fingerprint();
    this.#store = await openStore({
      disk: this.#runtime.disk,
      clock: this.#runtime.clock,
      pid: this.#runtime.host.pid,
      directory: resilienceDir,
      application: this.#config.application.name,
      worker: this.#config.name,
      rotates: this.#config.checkpoints.rotation !== null,
    });
    this.#hooks.reached("start.folder_locked");
    if (this.#ending) return;
    const { saved, folder } = this.#store;
    const { acceptOtherVersion } = this.#config.checkpoints;
    if (saved !== null && saved.state !== "suspended" && saved.fingerprint !== fingerprint && !acceptOtherVersion)
      throw otherFingerprintError(folder, saved, fingerprint);
    if (saved !== null) await this.#checkpointFiles.read(saved.clusterId, folder);
    if (this.#ending) return;
    if (saved !== null && role === "initializer" && saved.workerCount !== this.#config.workerCount) {
      log.warn(
        "option_ignored",
        `Ignoring --worker-count ${this.#config.workerCount}: the cluster that is saved in ${folder} has ${saved.workerCount} ` +
          `workers, and goes on with them; for one of another size, shut it down first`,
      );
    }
    await this.#shell.sources.bind();
    this.#hooks.reached("start.sources_bound");
    if (role === "initializer") log.info("initializer", "Running as Initializer...");
    const { control, data } = await this.#openChannels(fingerprint);
    if (this.#ending) return;
    this.#metrics.start();
    this.#turn(() => this.#cluster!.start(control, data));
  }

  /** Of the code and the plan: what must be the same on every worker. */
  async #fingerprint(): Promise<string> {
    const text = `${this.#config.applicationCodeDigest}\n${planFingerprintText(this.#plan)}`;
    return bytesToHex(await this.#runtime.host.digest(new TextEncoder().encode(text)));
  }

  async #openChannels(fingerprint: string): Promise<{ control: Address; data: Address }> {
    const config = this.#config;
    const { runtime, log } = { runtime: this.#runtime, log: this.#log };
    const mine = (option: string) => (config.role === "initializer" ? `--${option}` : `--my-${option}`);
    const common = { runtime, log, owner: this.#linkOwner(), timing: config.timing, limits: config.limits };
    this.#control = new ControlChannel({ ...common, listen: config.controlListen });
    this.#data = new DataChannel({ ...common, listen: config.dataListen });
    // Before the channels listen: whoever dials at that moment must find somebody who answers.
    const cluster: ClusterOptions = {
      config,
      runtime,
      log,
      store: this.#store!,
      fingerprint,
      hooks: this.#hooks,
      turn: (run) => this.#turn(run),
      owner: {
        install: (cluster) => this.#install(cluster),
        beforeFormed: (clusterId) => this.#checkpointFiles.beforeFormed(clusterId, this.#store!.folder),
        reached: (phase) => this.#reached(phase),
        beginDrain: (withinMs) => this.#beginDrain(withinMs),
        finish: (reports, files) => this.#finish(reports, files),
        lastCheckpoint: (answer) => this.#lastCheckpoint(answer),
        giveWay: () => this.#giveWay(),
        fail: (error) => void this.#fail(error),
        query: (from, message) => this.#queries!.asked(from, message),
        rotateLog: () => this.#rotateLog(),
        answer: (from, message) => this.#queries!.answered(from, message),
        checkpoint: (from, message) => this.#checkpoints?.received(from, message),
        streams: (from, message) => this.#streams?.received(from, message),
        letters: (from, message) => this.#resend?.received(from, message),
        ready: (workers) => (this.#checkpoints === null ? this.#cluster!.release() : this.#checkpoints.ready(workers)),
        peerLost: (peer) => this.#checkpoints?.peerLost(peer),
        ticked: () => {
          // A recovery needs more for a moment, and nothing could be saved in it that is not there already.
          if (this.#checkpoints?.recovering !== true) this.#memory.look(this.#runtime.clock.monotonicMs());
        },
        waitingFor: () => this.#checkpoints?.waitingFor() ?? this.#shell.waitingFor(),
      },
    };
    this.#cluster = new Cluster(cluster, this.#control, this.#data);
    this.#queries = new Queries({
      config,
      runtime,
      log,
      plan: this.#plan,
      cluster: this.#cluster,
      shell: this.#shell,
      slowTurns: this.#slowTurns,
      checkpoints: () => this.#checkpoints,
      resend: () => this.#resend,
      fingerprint,
      control: this.#control,
      data: this.#data,
      external: () => this.#external?.counts ?? null,
      rotateLog: () => this.#rotateLog(),
      turn: (run) => this.#turn(run),
    });
    this.#hooks.observable?.(() => this.#observed());
    // An initializer without --control listens beside --data, on a free port: that is what was given, and is to be mended.
    const { controlListen, dataListen } = config;
    const beside = config.role === "initializer" && controlListen.port === 0 && controlListen.host === dataListen.host;
    const control = beside
      ? await this.#bind(mine("data"), dataListen, () => this.#control!.listen())
      : await this.#bind(mine("control"), controlListen, () => this.#control!.listen());
    this.#hooks.reached("start.control_listening");
    const data = await this.#bind(mine("data"), dataListen, () => this.#data!.listen());
    this.#hooks.reached("start.data_listening");
    log.info("control_listening", `${config.name} control: listening on ${showAddress(control)}`);
    log.info("data_listening", `${config.name} data channel: listening on ${showAddress(data)}`);
    await this.#openExternal();
    return { control, data };
  }

  async #openExternal(): Promise<void> {
    const { runtime, log, config } = { runtime: this.#runtime, log: this.#log, config: this.#config };
    if (config.externalListen === null) return;
    this.#external = new ExternalServer({ runtime, limits: config.limits, log, handler: this.#queries! });
    const external = await this.#bind("--external", config.externalListen, () =>
      this.#external!.listen(config.externalListen!),
    );
    this.#hooks.reached("start.external_listening");
    log.info("external_listening", `${config.name} external: listening on ${showAddress(external)}`);
  }

  #observed(): WorkerStatus {
    const { clusterId, membership } = this.#cluster!;
    const heldBytes = new Map<WorkerName, number>();
    for (const { peer, link, heldBytes: bytes } of this.#data!.status()) {
      if (link === "data_in") heldBytes.set(peer, bytes);
    }
    const stateful = this.#plan.stages.filter((stage) => stage.kind === "stateful");
    return {
      clusterId,
      members: membership.memberNames,
      status: this.#queries!.ownStatus(),
      inside: {
        routingVersion: membership.cluster?.routingVersion ?? 0,
        keyGroupCount: membership.cluster?.keyGroupCount ?? 0,
        heldBytes,
        keys: () => stateful.map(({ index }) => [...(this.#shell.dataflow?.keysOf(index) ?? [])]),
      },
    };
  }

  async #bind(option: string, address: Address, listen: () => Promise<Address>): Promise<Address> {
    try {
      return await listen();
    } catch (error) {
      throw listenError(option, showAddress(address), error);
    }
  }

  #linkOwner(): LinkOwner {
    const lost = (peer: WorkerName, link: LinkKind, why: string) => {
      this.#cluster!.peerLost(peer, link, why);
      if (link !== "control") return;
      if (this.#cluster!.hasLeft(peer)) this.#shell.drain.peerGone(peer);
      else this.#shell.drain.peerAway(peer);
    };
    return {
      identity: () => this.#cluster!.identity(),
      admit: (hello, facts) => this.#cluster!.admit(hello, facts),
      peerConnected: (peer, link, info) => {
        this.#cluster!.peerConnected(peer, link, info);
        if (link === "control") this.#shell.drain.peerBack(peer, !info.newIncarnation);
        // With checkpoints a recovery follows, which says it all.
        const isNewRegistry = peer === INITIALIZER && link === "control" && info.newIncarnation;
        if (isNewRegistry && this.#streams !== null && this.#checkpoints === null) this.#shell.sources.registryBegan();
      },
      peerLost: lost,
      peerSuperseded: (peer, link) => {
        lost(peer, link, "another process of that worker has started");
        if (link === "control") this.#shell.drain.peerGone(peer);
      },
      peerLeft: (peer, link, reason) => this.#cluster!.peerLeft(peer, link, reason),
      refused: (peer, by, code, sentence) => this.#cluster!.refused(peer, by, code, sentence),
      control: (from, message) => this.#cluster!.received(from, message),
      batch: (from, exchange, bytes) => {
        this.#hooks.reached("data.batch_received");
        this.#shell.batch(from, exchange, bytes);
      },
      endOfInput: (from, exchange) => this.#shell.endOfInput(from, exchange),
      barrier: (from, exchange, epoch) => this.#shell.barrier(from, exchange, epoch),
      creditChanged: () => this.#shell.creditChanged(),
      turn: (run) => this.#turn(run),
    };
  }

  #turn(run: () => void): void {
    this.#depth++;
    try {
      if (this.#depth > 1) return run();
      this.#slowTurns.begin();
      run();
      this.#shell.flush();
      this.#tellSettled();
      this.#data?.flush();
      this.#control?.flush();
      this.#slowTurns.end();
    } catch (error) {
      void this.#fail(error);
    } finally {
      this.#depth--;
    }
  }

  #install(cluster: ClusterInformation): void {
    const data = this.#data!;
    const links: BatchLinks = {
      sendBatch: (to, exchange, bytes) => {
        data.sendBatch(to, exchange, bytes);
        this.#hooks.reached("data.batch_sent");
      },
      sendEnd: (to, exchange) => data.sendEnd(to, exchange),
      hasCredit: (to, exchange) => data.hasCredit(to, exchange),
      release: (from, exchange, byteCount) => data.release(from, exchange, byteCount),
      unacked: (to) => data.unacked(to),
    };
    const deadLetters = new DeadLetters({
      disk: this.#runtime.disk,
      log: this.#log,
      folder: this.#store!.folder,
      clusterId: cluster.clusterId,
      // Sources that stood still for it may go on.
      turn: (run) => {
        this.#turn(() => {
          this.#shell.wake();
          run();
        });
      },
      voted: (epoch, vote) => this.#checkpoints?.voted(DEAD_LETTERS, epoch, vote),
      failed: (error) => void this.#fail(error),
    });
    this.#shell.install(cluster, links, deadLetters);
    this.#streams = new Streams({
      name: this.#config.name,
      members: cluster.members.map((member) => member.name),
      generation: () => this.#cluster!.generation,
      send: (to, message) => this.#cluster!.send(to, message),
      answered: (source, answer) => this.#shell.sources.answered(source, answer),
    });
    if (this.#config.checkpoints.intervalMs !== null) this.#takeCheckpoints(cluster);
    this.#resend = this.#makeResend(cluster);
    if (this.#checkpoints !== null) return;
    if (this.#store!.saved !== null && this.#plan.stages.some((stage) => stage.kind === "stateful")) {
      this.#log.warn(
        "state_starts_empty",
        `The keyed state of worker ${this.#config.name} starts empty: without checkpoints it was in memory only`,
      );
    }
  }

  #makeResend(cluster: ClusterInformation): Resend {
    return new Resend({
      name: this.#config.name,
      clusterId: cluster.clusterId,
      members: cluster.members.map((member) => member.name),
      keyGroupCount: cluster.keyGroupCount,
      plan: this.#plan,
      log: this.#log,
      clock: this.#runtime.clock,
      turn: (run) => this.#turn(run),
      generation: () => this.#cluster!.generation,
      send: (to, message) => this.#cluster!.send(to, message),
      queueBytes: this.#config.limits.linkUnackedBytes,
      hindrance: () => (this.#cluster!.membership.phase < 4 ? NOT_YET : null),
      dataflow: this.#shell.letters,
      checkpoints: this.#checkpoints,
    });
  }

  #rotateLog(): void {
    if (this.#config.checkpoints.rotation === null) {
      this.#log.warn(
        "rotation_off",
        "WARNING: LogRotation requested, but log_rotation is off! Start this worker with --log-rotation",
      );
    } else if (this.#checkpoints === null) {
      this.#log.warn(
        "rotation_refused",
        "Cannot rotate the event log: the cluster is not formed yet; ask again when it is",
      );
    } else this.#checkpoints.rotate();
  }

  #takeCheckpoints(cluster: ClusterInformation): void {
    const store = this.#store!;
    const { name, checkpoints: settings } = this.#config;
    this.#checkpoints = new Checkpoints({
      settings,
      name,
      runtime: this.#runtime,
      log: this.#log,
      plan: this.#plan,
      shell: this.#shell,
      turn: (run) => this.#turn(run),
      send: (to, message) => this.#cluster!.send(to, message),
      sendBarrier: (to, exchange, epoch) => this.#data!.sendBarrier(to, exchange, epoch),
      members: cluster.members.map((member) => member.name),
      generation: () => this.#cluster!.generation,
      enterGeneration: (generation, durable) => this.#cluster!.enterGeneration(generation, durable),
      release: () => this.#cluster!.release(),
      fail: (error) => void this.#fail(error),
      openState: () => this.#checkpointFiles.state(cluster.clusterId, store.folder),
      decisions: this.#checkpointFiles.decisions,
      letters: {
        standStill: () => this.#resend?.standStill(),
        completed: (epoch) => this.#resend?.completed(epoch),
        recovered: (epoch) => this.#resend?.recovered(epoch),
      },
      restarted: store.saved !== null,
      hooks: this.#hooks,
    });
  }

  #reached(phase: Phase): void {
    this.#hooks.reached(`phase.${phase}`);
    const log = this.#log;
    const restarted = this.#store!.saved !== null;
    switch (phase) {
      case 1:
        return log.info("phase_1", "|~~ INIT PHASE I: Application is created! ~~|");
      case 2:
        log.info("phase_2", "|~~ INIT PHASE II: Application is initialized! ~~|");
        return this.#shell.startSinks();
      case 3:
        return log.info("phase_3", "|~~ INIT PHASE III: Application is ready to work! ~~|");
      case 4:
        log.info("phase_4", "|~~ INIT PHASE IV: Cluster is ready to work! ~~|");
        if (restarted && this.#checkpoints === null) {
          log.info("recovery_complete", "|~~ - Recovery COMPLETE - ~~|");
          log.info("resuming", "~~~Resuming message processing.~~~");
        }
        return this.#shell.open();
    }
  }

  #listenToSignals(): void {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      // Heard until the process is gone: one that comes while it leaves must not end it half-way.
      this.#runtime.host.onSignal(signal, () => this.#turn(() => this.#signalled(signal)));
    }
    this.#runtime.host.onUncaught((error) => void this.#fail(error));
  }

  #signalled(signal: string): void {
    this.#gaveWay = false;
    if (this.#ending) return;
    this.#signals++;
    if (this.#signals === 1) {
      this.#log.info("signal", `${signal} received`);
      if (this.#cluster === null) return void this.#leave(EXIT.done, "abandon");
      return this.#cluster.requestStop(`${signal} to worker ${this.#config.name}`);
    }
    this.#log.warn("second_signal", `${signal} again: leaving at once, without waiting for what is on its way`);
    const isAlone = (this.#cluster?.membership.memberNames.length ?? 0) <= 1;
    void this.#leave(EXIT.done, isAlone && this.#checkpoints === null ? "remove" : "abandon");
  }

  #beginDrain(withinMs: Millis): void {
    const { connected, absent } = this.#cluster!.stopPeers();
    this.#shell.drain.begin(withinMs, connected, absent);
    this.#checkpoints?.stopping();
  }

  #lastCheckpoint(answer: (epoch: Epoch | null, reason: string) => void): void {
    const checkpoints = this.#checkpoints;
    if (checkpoints === null || checkpoints.hasNothing) return answer(null, "");
    checkpoints.ask((epoch, reason) => this.#turn(() => answer(epoch, reason)));
  }

  /** Tells, once for each checkpoint, that all it decides is visible here. */
  #tellSettled(): void {
    const epoch = this.#checkpoints?.committed ?? 0;
    if (epoch <= this.#settledEpoch || !this.#cluster!.stopping || !this.#shell.settled) return;
    this.#settledEpoch = epoch;
    this.#hooks.reached("stop.settled");
    this.#cluster!.settled(epoch);
  }

  /** What is saved is of a cluster that was stopped while this worker was away. */
  #giveWay(): void {
    const { saved } = this.#store!;
    this.#log.warn(
      "cluster_gone",
      `Cluster ${saved?.clusterId} has been shut down: this worker was ready for that, and away when it was decided. ` +
        `What it had saved goes, and it asks for a place in the cluster that is there now.`,
    );
    this.#gaveWay = !this.#cluster!.stopping;
    void this.#leave(EXIT.done, "remove");
  }

  #finish(reports: readonly DrainReport[], files: FilesAfterStop): void {
    const incomplete = reports.filter((report) => !report.complete);
    // Without the initializer's word it is not known whether the others stop at all: it may be back, and know of no stop.
    this.#stoppedInOrder = incomplete.length === 0 && files !== "undecided";
    this.#queries!.stopped(reports);
    void this.#leave(EXIT.done, files === "remove" ? "remove" : "abandon", () => {
      const left = incomplete.map((report) => `${report.worker}: ${report.leftBehind}`).join("; ");
      const stay =
        files === "remove" || !this.#cluster!.membership.formed
          ? ""
          : ` ${filesStay(files, this.#store!.folder, this.#checkpoints?.lastComplete ?? 0, left)}`;
      if (left === "") this.#log.info("stopped", `Shut down in order: all that was taken in came out.${stay}`);
      else this.#log.warn("stopped", `Shut down. What stayed behind: ${left}.${stay}`);
    });
  }

  /** Leaves because of an error; `run` rejects with it, and whoever started the worker says it once. */
  async #fail(error: unknown): Promise<void> {
    if (this.#ending) return;
    this.#failure = { error };
    if (error instanceof UserCodeError && error.at !== null) this.#failedAt = error.at;
    // In a formed cluster the others count on this worker to come back with what it has saved, whatever ends it.
    const isMember = this.#cluster?.membership.formed === true;
    const isOurBug = !(error instanceof TammarError);
    await this.#leave(EXIT.failed, isMember || isOurBug || error instanceof StorageError ? "keep" : "abandon");
  }

  /**
   * Everything off, in order: connectors, the last words to peers and tools, files, status.
   *
   * @param files `remove`: a clean end. `abandon`: remove them, but for those of a cluster that may go on. `keep`: as after a
   * crash.
   */
  async #leave(status: ExitStatus, files: "abandon" | "keep" | "remove", lastWords?: () => void): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    let end = status;
    this.#hooks.reached("leave.begin");
    try {
      this.#resend?.close();
      await this.#shell.close(RECORD_GRACE_MS);
      await this.#checkpoints?.close();
      await this.#checkpointFiles.close();
      this.#hooks.reached("leave.connectors_closed");
      this.#metrics.close();
      await this.#farewell();
      this.#hooks.reached("leave.goodbye_said");
      await this.#cluster?.settle();
      if (this.#failedAt !== null && this.#store !== null) await this.#countStop(this.#store.folder, this.#failedAt);
      if (files === "remove") await this.#removeFiles();
      else if (files === "abandon") await this.#store?.abandon();
      else await this.#store?.close();
      this.#hooks.reached("leave.files_removed");
    } catch (error) {
      const failure = error instanceof TammarError ? error : null;
      // Who leaves with an error has one: what else goes wrong on the way out is said beside it.
      const say = end === EXIT.done ? this.#log.error : this.#log.warn;
      say.call(
        this.#log,
        failure?.code ?? "leaving_failed",
        failure?.message ?? `The worker could not leave in order: ${String(error)}. Its files stay as they are.`,
      );
      if (end === EXIT.done) end = failure?.exitStatus ?? EXIT.failed;
    }
    lastWords?.();
    this.#exit(end);
  }

  /** How much there is, and of which keys. */
  #memoryText(resident: number): string {
    const { memoryBytes } = this.#config.limits;
    const stages = this.#plan.stages.filter((stage) => stage.kind === "stateful");
    const keys = stages.map(({ id, index }) => `${id}: ${this.#shell.dataflow?.keyCount(index) ?? 0} keys`);
    const bytes = Number(this.#checkpoints?.status["state_bytes"] ?? 0);
    const saved = bytes === 0 ? "" : ` (as saved: ${megabytes(bytes)})`;
    const state = keys.length === 0 ? "no keyed state" : `${keys.join(", ")}${saved}`;
    return `Resident memory is ${megabytes(resident)} of at most ${megabytes(memoryBytes)} (--memory-limit): ${state}`;
  }

  /** What has come in is kept by a checkpoint; then the worker leaves, before the system kills it. */
  #leaveForMemory(resident: number): void {
    if (this.#ending || this.#cluster?.stopping === true) return;
    const text = this.#memoryText(resident);
    const checkpoints = this.#checkpoints;
    const leave = (epoch: Epoch, reason: string) => {
      const kept = epoch > 0 ? `checkpoint ${epoch} was taken` : `no checkpoint could be taken (${reason})`;
      const remedy =
        "start it again with a higher --memory-limit, or on a machine with more memory; what was taken in behind the last " +
        "checkpoint is treated as in any crash";
      this.#turn(
        () => void this.#fail(new UserCodeError("memory_limit", `${text}; ${kept}, and the worker leaves: ${remedy}`)),
      );
    };
    if (checkpoints === null) return leave(0, "they are off, or the cluster is not formed yet");
    this.#log.error(
      "memory_limit_reached",
      `${text}; sources stand still, a checkpoint is taken, then the worker leaves`,
    );
    checkpoints.standStillForGood();
    checkpoints.ask(leave);
  }

  /** A record that ended it at each of its last starts will do so at the next. */
  async #countStop(folder: string, at: string): Promise<void> {
    const { error } = this.#failure!;
    const count = await countStop(this.#runtime.disk, folder, at);
    if (count < STOPS_TOLD || !(error instanceof UserCodeError)) return;
    const sentence =
      `It is the ${count}${count === 3 ? "rd" : "th"} time in a row that this record ends this worker, and starting it again won't help: ` +
      `to get past the record, correct the code, or give the stage onError: "dead_letter" (the record is kept aside) or ` +
      `onError: "skip" (it is dropped), and start all workers with --accept-other-version beside their options`;
    this.#failure = { error: new UserCodeError("user_code_fails_again", `${error.message}. ${sentence}`, { at }) };
  }

  /** Says goodbye to peers, waits for theirs where the cluster has stopped, and tells the tools. */
  async #farewell(): Promise<void> {
    const { clock } = this.#runtime;
    this.#data?.close(false);
    await new Promise<void>((resolve) => {
      clock.startTimer(FAREWELL_MS, resolve);
      if (this.#control === null) resolve();
      else this.#control.close(true, resolve);
    });
    this.#queries?.finished(this.#stoppedInOrder);
    await this.#external?.close();
  }

  async #removeFiles(): Promise<void> {
    if (this.#store === null) return;
    this.#log.info("removing_files", "Removing recovery files");
    const left = await this.#store.removeAll();
    this.#log.info("files_removed", "Recovery files removed.");
    const letters = left.filter(isDeadLettersName);
    if (letters.length > 0) {
      this.#log.warn(
        "dead_letters_left",
        `Records that user code refused stay in ${this.#store.folder}; to look at them: ` +
          `tammar dead-letters ${shellWord(this.#config.resilienceDir)}`,
      );
    }
    const unknown = left.filter((name) => !isDeadLettersName(name) && !isResentName(name));
    if (unknown.length > 0) {
      this.#log.warn(
        "files_left",
        `${this.#store.folder} has files that are not Tammar's, so the folder stays: ${unknown.join(", ")}`,
      );
    }
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

const NOT_YET = "the cluster does not work yet: send them when it does";

/** @param epoch The last complete checkpoint. @param left What stayed behind. */
function filesStay(files: FilesAfterStop, folder: string, epoch: Epoch, left: string): string {
  if (files === "suspend") {
    return `The files stay with the last checkpoint: start all workers again to go on from there, also with another build.`;
  }
  if (files === "keep" && left.includes(NO_LAST_CHECKPOINT)) {
    const from = epoch === 0 ? "anew, as there is none yet" : `from checkpoint ${epoch}`;
    return (
      `The files stay: start all workers with the same commands to go on ${from}, as after a crash; or, when the cluster is to be gone, ` +
      `on each machine: tammar store clean ${shellWord(folder)}. Where there is too much to write for a stop, tammar checkpoint takes ` +
      `one before it, without haste`
    );
  }
  const why =
    files === "keep"
      ? "The files stay, because the cluster was not stopped as a whole"
      : "The files stay, because the initializer did not say that every worker took part";
  return (
    `${why}: start all workers with the same commands to go on, or, when the cluster is to be gone, on each machine: ` +
    `tammar store clean ${shellWord(folder)}`
  );
}
