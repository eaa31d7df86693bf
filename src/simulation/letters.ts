/** Dead letters of a simulated cluster: who sends them again, when, and what is left of them in the end. */
import type { WorkerName } from "../base/ids.ts";
import type { Prng } from "../base/prng.ts";
import type { Millis } from "../runtime/runtime.ts";
import { DEAD_LETTERS_HEADER_BYTES, decodeDeadLetter, isDeadLettersName } from "../store/dead_letter_file.ts";
import { baseOf } from "../store/folders.ts";
import { recordOf, runResender } from "./environment/resender.ts";
import type { Observation, ResendRecord } from "./observation.ts";
import type { StageDisk, StageMachine, StageProcess, StageWorld } from "./stage.ts";

/** Between two rounds at the end. */
const ROUND_MS: Millis = 300;

export interface LettersOptions {
  readonly world: StageWorld;
  readonly machines: ReadonlyMap<WorkerName, StageMachine>;
  readonly observation: Observation;
  readonly externalPort: number;
  /** Of all workers, on each machine. */
  readonly directory: string;
}

export class Letters {
  readonly #options: LettersOptions;
  readonly #running = new Map<WorkerName, { readonly process: StageProcess; readonly record: ResendRecord }>();
  /** The application refuses nothing any more. */
  corrected = false;

  constructor(options: LettersOptions) {
    this.#options = options;
  }

  /** @returns How to kill it; null: another one is at it on that machine, or it has no power. */
  send(worker: WorkerName, through: WorkerName): (() => void) | null {
    const { world, machines, observation, externalPort, directory } = this.#options;
    const machine = machines.get(worker)!;
    if (this.#isAtIt(worker) || !machine.powered) return null;
    const record: ResendRecord = {
      worker,
      through,
      startedMs: world.now(),
      endedMs: null,
      status: null,
      said: "",
      batches: [],
    };
    observation.resends.push(record);
    const address = { host: through, port: externalPort };
    const process = machine.startProcess(async (runtime) => {
      await runResender(runtime, address, directory, record);
      record.endedMs = world.now();
    });
    this.#running.set(worker, { process, record });
    return () => process.kill();
  }

  /** Again and again on every machine, through any worker, until `isDone`. */
  sendAll(prng: Prng, isDone: () => boolean): void {
    const { world, machines } = this.#options;
    const names = [...machines.keys()];
    const round = (): void => {
      if (isDone()) return;
      for (const name of names) this.send(name, names[prng.int(names.length)]!);
      world.at(world.now() + ROUND_MS, round);
    };
    round();
  }

  /** Whoever is at it gives up. */
  end(): void {
    for (const { process } of this.#running.values()) process.kill();
    this.#running.clear();
  }

  get atIt(): boolean {
    return [...this.#running.keys()].some((worker) => this.#isAtIt(worker));
  }

  #isAtIt(worker: WorkerName): boolean {
    const running = this.#running.get(worker);
    return running?.process.alive === true && running.record.endedMs === null;
  }

  /** Letters in files of which nothing says that they were let in again. */
  noteLeft(): void {
    for (const { disk } of this.#options.machines.values()) {
      for (const path of disk.paths()) {
        if (isDeadLettersName(baseOf(path))) this.#options.observation.lettersLeft.push(...leftIn(disk, path));
      }
    }
  }
}

function leftIn(disk: StageDisk, path: string): string[] {
  const bytes = disk.peek(path)!;
  const resent = disk.peek(`${path}.resent`);
  const marks = new Set(resent === null ? [] : new TextDecoder().decode(resent).split("\n"));
  const records: string[] = [];
  for (let at = DEAD_LETTERS_HEADER_BYTES; at < bytes.length; ) {
    const read = decodeDeadLetter(bytes.subarray(at));
    if (read.kind !== "letter") break;
    const mark = `${at} ${read.checksum.toString(16).padStart(8, "0")}`;
    if (!marks.has(mark)) records.push(recordOf(read.letter.bytes, read.letter.value));
    at += read.end;
  }
  return records;
}
