/** The two-phase sink of a run: a process on a machine of its own, whose disk outlives it, and what of its files counts. */
import type { WorkerName } from "../../base/ids.ts";
import { DEFAULT_COOKIE } from "../../wire/connector.ts";
import type { Observation } from "../observation.ts";
import type { StageMachine, StageProcess, StageWorld } from "../stage.ts";
import type { SinkLogEntry } from "./sink_book.ts";
import { TwoPhaseSink } from "./two_phase_sink.ts";

const FOLDER = "/data";

export class TwoPhaseHost {
  readonly #machine: StageMachine;
  readonly #world: StageWorld;
  readonly #observation: Observation;
  #process: StageProcess | null = null;
  #sink: TwoPhaseSink | null = null;
  #paused = false;
  #deaths = 0;
  /** Bytes of each worker's output that count. */
  readonly #committed = new Map<WorkerName, number>();

  constructor(machine: StageMachine, world: StageWorld, observation: Observation) {
    this.#machine = machine;
    this.#world = world;
    this.#observation = observation;
  }

  open(port: number): void {
    if (this.#process?.alive === true) return;
    this.#machine.powerOn();
    this.#process = this.#machine.startProcess(async (runtime) => {
      await runtime.disk.makeDir(FOLDER);
      await runtime.disk.syncDir("/");
      const sink = new TwoPhaseSink({
        runtime,
        path: `${FOLDER}/out`,
        cookie: DEFAULT_COOKIE,
        logged: (worker, entry) => this.#logged(worker, entry),
        fatal: (worker, text) => {
          this.#observation.sinkRefusals.push({ timeMs: this.#world.now(), worker, text });
        },
      });
      this.#sink = sink;
      if (this.#paused) sink.pause();
      await sink.listen({ host: "0.0.0.0", port });
    });
  }

  /** Every other death takes the power along, and what was not synced. */
  close(): boolean {
    if (this.#process?.alive !== true) return false;
    if (this.#deaths++ % 2 === 0) this.#process.kill();
    else this.#machine.powerLoss();
    this.#process = null;
    this.#sink = null;
    return true;
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    if (paused) this.#sink?.pause();
    else this.#sink?.resume();
  }

  /** What counts of this worker's output at this moment, as anybody reads it who trusts the log alone. */
  visible(worker: WorkerName): string {
    const committed = this.#committed.get(worker) ?? 0;
    const bytes = this.#machine.disk.peek(`${FOLDER}/out.${worker}`) ?? new Uint8Array(0);
    return new TextDecoder().decode(bytes.subarray(0, committed));
  }

  #logged(worker: WorkerName, entry: SinkLogEntry): void {
    this.#observation.transactions.push({ timeMs: this.#world.now(), worker, entry });
    if (entry.event === "phase2" && entry.decision === "commit") this.#committed.set(worker, entry.end);
  }
}
