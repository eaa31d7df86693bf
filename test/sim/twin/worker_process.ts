/** One process of a worker: the test build, started with the operator's own options, watched and ended by its id. */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import { EXIT } from "../../../src/base/errors.ts";
import type { Log } from "../../../src/base/log.ts";
import type { Millis, SignalName } from "../../../src/runtime/runtime.ts";
import type { Failure, StageProcess, WorkerWatch } from "../../../src/simulation/stage.ts";
import type { WorkerStatus } from "../../../src/worker/crash_points.ts";
import type { AskDisk } from "./asked_disk.ts";
import type { AskNet } from "./asked_net.ts";
import { byLine } from "./by_line.ts";
import { descriptorsOf } from "./descriptors.ts";
import { REPORT_PREFIX, readStatus, type TwinOrder, type TwinReport } from "./failpoints.ts";

/** What it said of itself counts for so long. */
const STATUS_MS_MAX: Millis = 1_000;
const GO_ON_MS: Millis = 5;
const OUTPUT_KEPT_MAX = 64 * 1024;

export interface WorkerCommand {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
}

/** What is to become of a call that it asks about. */
export interface Answers {
  readonly disk: AskDisk;
  readonly net: AskNet;
}

interface LogLine {
  readonly level: keyof Log;
  readonly code: string;
  readonly text: string;
}

export class WorkerProcess implements StageProcess {
  /** Resolves when it is gone and all that it said was read. */
  readonly gone: Promise<void>;
  readonly #watch: WorkerWatch;
  readonly #answers: Answers;
  #child: ChildProcess | null = null;
  #folder = "";
  #alive = true;
  #exited: { readonly status: number } | null = null;
  #killed = false;
  #holdsItself = false;
  #signalled = false;
  /** The last line of level error, while it may be what it ends with. */
  #held: LogLine | null = null;
  #status: { readonly at: Millis; readonly status: WorkerStatus } | null = null;
  #paused: ReturnType<typeof setTimeout> | null = null;
  #stderr = "";

  /**
   * @param command Asked for when its predecessor is gone.
   * @param ready Of its predecessor: ports, locks and files are free.
   */
  constructor(ready: Promise<void>, command: () => Promise<WorkerCommand>, watch: WorkerWatch, answers: Answers) {
    this.#watch = watch;
    this.#answers = answers;
    this.gone = this.#run(ready, command);
  }

  get alive(): boolean {
    return this.#alive;
  }

  get exited(): { readonly status: number } | null {
    return this.#exited;
  }

  /** Undefined: it can't be known here. */
  get held(): { readonly size: number } | undefined {
    const pid = this.#child?.pid;
    const size = pid === undefined || !this.#alive ? null : descriptorsOf(pid, this.#folder);
    return size === null ? undefined : { size };
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#killed = true;
    this.#send("SIGKILL");
  }

  signal(name: SignalName): void {
    this.#signalled = true;
    this.#send(name);
  }

  pause(durationMs: Millis): void {
    if (!this.#alive) return;
    if (this.#paused !== null) clearTimeout(this.#paused);
    this.#send("SIGSTOP");
    this.#paused = setTimeout(() => {
      this.#paused = null;
      this.#goOn();
    }, durationMs);
  }

  order(order: TwinOrder): void {
    if (this.#alive) this.#child?.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  async #run(ready: Promise<void>, command: () => Promise<WorkerCommand>): Promise<void> {
    await ready;
    const { file, args, env, workingDir } = await command();
    // Killed before it was there.
    if (this.#killed) return;
    const child = spawn(file, args, {
      cwd: workingDir,
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child = child;
    this.#folder = workingDir;
    // It may be gone when something is said to it.
    child.stdin!.on("error", () => {});
    byLine(child.stdout!, (line) => this.#logged(line));
    byLine(child.stderr!, (line) => this.#said(line));
    await new Promise<void>((resolve) => {
      child.once("error", (error) => {
        this.#stderr += `${error.message}\n`;
        this.#left(127, null);
        resolve();
      });
      child.once("close", (status, signal) => {
        this.#left(status, signal);
        resolve();
      });
    });
  }

  /** It says that it stops itself before it does: what comes too early is said again. */
  #goOn(): void {
    this.#send("SIGCONT");
    if (this.#holdsItself && this.#alive && this.#paused === null) setTimeout(() => this.#goOn(), GO_ON_MS);
  }

  #send(name: NodeJS.Signals): void {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(name);
  }

  #logged(line: string): void {
    let entry: LogLine;
    try {
      entry = JSON.parse(line) as LogLine;
    } catch {
      this.#stderr = `${this.#stderr}${line}\n`.slice(-OUTPUT_KEPT_MAX);
      return;
    }
    this.#tellHeld();
    if (entry.level === "error") this.#held = entry;
    else this.#watch.log[entry.level](entry.code, entry.text);
  }

  /** The error that a process ends with is no line of its log: what was held back was another one. */
  #tellHeld(): void {
    const held = this.#held;
    this.#held = null;
    if (held !== null) this.#watch.log.error(held.code, held.text);
  }

  #said(line: string): void {
    if (!line.startsWith(REPORT_PREFIX)) {
      this.#stderr = `${this.#stderr}${line}\n`.slice(-OUTPUT_KEPT_MAX);
      return;
    }
    const report = JSON.parse(line.slice(REPORT_PREFIX.length)) as TwinReport;
    if (report.kind === "status") {
      if (this.#status === null) this.#watch.hooks.observable(() => this.#fresh());
      this.#status = { at: performance.now(), status: readStatus(report.status) };
      return;
    }
    if (report.kind === "disk" || report.kind === "net") {
      const { disk, net } = this.#answers;
      const answer = report.kind === "disk" ? disk(report.operation, report.path) : net(report.call);
      void answer.then((code) => this.order({ kind: "answer", id: report.id, code }));
      return;
    }
    if (report.kind === "continued") {
      this.#holdsItself = false;
      return;
    }
    this.#holdsItself = report.stops;
    this.#watch.hooks.reached(report.point);
    if (report.stops && this.#paused === null) this.#goOn();
  }

  #fresh(): WorkerStatus | null {
    const last = this.#status;
    return last === null || performance.now() - last.at > STATUS_MS_MAX ? null : last.status;
  }

  #left(status: number | null, signal: NodeJS.Signals | null): void {
    if (this.#paused !== null) clearTimeout(this.#paused);
    this.#paused = null;
    if (this.#killed) return;
    const byUs = signal !== null && this.#signalled;
    const code = status ?? (byUs ? 128 + constants.signals[signal] : EXIT.bug);
    this.#exited = { status: code };
    if (code === EXIT.done || byUs) this.#tellHeld();
    this.#watch.left(byUs ? null : code, code === EXIT.done || byUs ? null : this.#failureOf(code, signal));
    this.#alive = false;
  }

  #failureOf(status: number | null, signal: NodeJS.Signals | null): Failure {
    const text = this.#held?.text ?? (this.#stderr.trim() || `ended by ${signal ?? status} without a word`);
    const code = this.#held?.code ?? "bug";
    return { code, text, uncaught: status === EXIT.bug ? text : null };
  }
}
