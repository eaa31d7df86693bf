/**
 * Lets dead letters in again, which a tool has sent: each enters the operator that refused it, at the owner of its key. The
 * tool is answered when a checkpoint has them.
 *
 *   tool ──batch──▶ this worker ──letters──▶ owner (this one, or another) ──in──▶ operator
 *                       ▲  └────◀── letters_taken: `cut` was the last cut there ──┘
 *                       └── checkpoints that exist, and what recoveries went back to ──▶ the answer
 *
 *   L1. A letter goes in where a source could hand on a record: not between a barrier and its cut, not in a recovery. So it is
 *       in the state of every checkpoint that is cut behind it, with all that came of it, and of none before.
 *   L2. In a checkpoint is what came in at a worker before that worker cut it: it has the letters whose `cut` is below its
 *       epoch. This holds for one that a recovery goes back to as well: what it has is in, what it does not have is not.
 *   L3. Where the word of the owner is missing, as its death may have it, that is said: nobody knows.
 *   L4. One batch is under way at a time, a few wait; a letter that can't go in for a while is given up. A stop takes none.
 *   L5. An owner is sent as much as leaves room for everything else that it must hear, and the next when it has dealt with that.
 */
import { ProtocolError } from "../base/errors.ts";
import type { Epoch, Generation, WorkerName } from "../base/ids.ts";
import { type Log, printable } from "../base/log.ts";
import type { Plan } from "../plan/plan.ts";
import type { Clock, Millis } from "../runtime/runtime.ts";
import type { ControlMessage, LettersMessage, RefusedLetter } from "../wire/control.ts";
import {
  decodeResendBatch,
  decodeResentLetters,
  encodeResentLetters,
  type LeftLetters,
  type ResendBatch,
  type ResendOutcome,
  type ResentLetter,
} from "../wire/resend.ts";
import { entryOf, type LetterEntry, ownerOf } from "./letter_entry.ts";

export interface ResendOptions {
  readonly name: WorkerName;
  readonly clusterId: string;
  readonly members: readonly WorkerName[];
  readonly keyGroupCount: number;
  readonly plan: Plan;
  readonly log: Log;
  readonly clock: Clock;
  readonly turn: (run: () => void) => void;
  readonly generation: () => Generation;
  readonly send: (to: WorkerName, message: ControlMessage) => void;
  /** What may wait for another worker; beyond it messages are dropped, these and all others. */
  readonly queueBytes: number;
  /** Does the cluster work, as far as this worker knows? In words why not. */
  readonly hindrance: () => string | null;
  readonly dataflow: {
    /** Could a source hand on what reaches as far as this? */
    mayTake(entry: LetterEntry): boolean;
    /** @returns Why it can't go in; null: it is in. */
    take(entry: LetterEntry, letter: ResentLetter): string | null;
    /** It stops: nothing is taken in any more. */
    readonly ending: boolean;
    /** There is something to let in: `flush` is to be called. */
    wake(): void;
  };
  /** Null: none are taken. */
  readonly checkpoints: {
    readonly lastComplete: Epoch;
    /** The last that was cut here, or gone back to. */
    readonly lastCut: Epoch;
    readonly recovering: boolean;
    ask(answer: (epoch: Epoch, reason: string) => void): void;
  } | null;
}

/** Batches that wait for the one that is under way. */
const WAITING_MAX = 8;
/** So long a letter may wait at its owner. */
const TAKE_MS: Millis = 30_000;
/** Of a batch. Beyond it nobody is waited for. */
const BATCH_MS: Millis = 120_000;
/** When a checkpoint has failed. */
const ASK_AGAIN_MS: Millis = 1_000;
const WHY_LENGTH_MAX = 500;
/** Of `queueBytes`, for one portion. */
const PORTION_SHARE = 1 / 8;
/** Of a letter, around what it holds. */
const LETTER_BYTES = 256;

type Fate =
  /** On its way to its owner. */
  | { readonly kind: "sent" }
  /** It is in; `cut` was the last one there. */
  | { readonly kind: "in"; readonly cut: Epoch }
  | { readonly kind: "saved"; readonly epoch: Epoch }
  | { readonly kind: "left"; readonly why: string }
  | { readonly kind: "unsure"; readonly why: string };

interface Batch {
  readonly request: number;
  readonly fates: Fate[];
  readonly sent: Map<WorkerName, Sent>;
  /** The last checkpoint when they were sent. */
  readonly completeBefore: Epoch;
  readonly cancel: () => void;
  readonly answer: (outcome: ResendOutcome) => void;
  asked: boolean;
}

/** What one owner is sent, portion by portion (L5): letters and their indexes, in order, and how many of them it has dealt with. */
interface Sent {
  readonly letters: readonly ResentLetter[];
  readonly indexes: readonly number[];
  done: number;
  /** The portion that is on its way. */
  from: number;
  until: number;
}

interface Job {
  readonly from: WorkerName;
  readonly request: number;
  readonly letters: readonly ResentLetter[];
  next: number;
  readonly until: Millis;
  readonly cancel: () => void;
}

export class Resend {
  readonly #options: ResendOptions;
  readonly #waiting: { readonly batch: ResendBatch; readonly answer: (outcome: ResendOutcome) => void }[] = [];
  #batch: Batch | null = null;
  /** Letters that are to go in here, by who sent them. */
  readonly #jobs = new Map<WorkerName, Job>();
  #requests = 0;
  #closed = false;
  /** Since the start of this process. */
  taken = 0;

  constructor(options: ResendOptions) {
    this.#options = options;
  }

  /** A tool's batch. `answer` is called once. */
  request(bytes: Uint8Array, answer: (outcome: ResendOutcome) => void): void {
    let batch: ResendBatch;
    try {
      batch = decodeResendBatch(bytes);
    } catch (error) {
      const why = printable((error as Error).message, WHY_LENGTH_MAX);
      return answer({ taken: [], left: [{ letters: [], why }], unsure: [], epoch: 0 });
    }
    const why = this.#whyNot(batch);
    if (why !== null) return answer(refuseAll(batch, why));
    this.#waiting.push({ batch, answer });
    this.#beginNext();
  }

  received(from: WorkerName, message: LettersMessage): void {
    const { generation, log } = this.#options;
    if (message.generation !== generation()) return;
    if (message.kind === "letters_taken") return this.#told(from, message);
    try {
      this.#queue(from, message.request, decodeResentLetters(message.letters));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      log.warn("letters_malformed", `Dead letters from worker ${from} are dropped: ${error.message}`);
    }
  }

  /** What was blocked may be free: lets in what can go in. */
  flush(): void {
    for (const job of [...this.#jobs.values()]) this.#letIn(job);
  }

  /** The cluster rolls back: what waits here is dropped, and whoever sent it knows. */
  standStill(): void {
    for (const job of this.#jobs.values()) job.cancel();
    this.#jobs.clear();
  }

  /** L2. */
  completed(epoch: Epoch): void {
    const batch = this.#batch;
    if (batch === null) return;
    save(batch, epoch);
    this.#answerIfDone(batch);
  }

  /** L2, L3. */
  recovered(epoch: Epoch): void {
    const batch = this.#batch;
    if (batch === null) return;
    save(batch, epoch);
    const back = `the cluster went back to checkpoint ${epoch}, which does not have it: send it again`;
    for (const [owner, sent] of batch.sent) {
      // This worker says at once what it takes in; and a checkpoint that was there when another was sent it can't have it.
      const isKnown = owner === this.#options.name || epoch <= batch.completeBefore;
      const lost = `worker ${owner} had not said whether it had taken it in when the cluster went back to checkpoint ${epoch}`;
      for (let i = sent.done; i < sent.indexes.length; i++) {
        const isHere = isKnown || i >= sent.until;
        batch.fates[sent.indexes[i]!] = isHere ? { kind: "left", why: back } : { kind: "unsure", why: lost };
      }
    }
    batch.sent.clear();
    batch.fates.forEach((fate, index) => {
      if (fate.kind === "in") batch.fates[index] = { kind: "left", why: back };
    });
    this.#answerIfDone(batch);
  }

  /** This worker leaves: whoever waits hears what is known. */
  close(): void {
    this.#closed = true;
    for (const { batch, answer } of this.#waiting.splice(0)) answer(refuseAll(batch, "the worker has ended"));
    this.standStill();
    if (this.#batch !== null) this.#giveUp(this.#batch, "the worker ended before it heard of a checkpoint that has it");
  }

  #whyNot({ clusterId, another }: ResendBatch): string | null {
    const { clusterId: ours, name, hindrance, dataflow, checkpoints } = this.#options;
    if (clusterId !== ours && !another) {
      const remedy = "give --another-cluster to let them in nevertheless";
      return `they are of cluster ${clusterId}, and worker ${name} is of cluster ${ours}: ${remedy}`;
    }
    if (this.#closed || dataflow.ending) return "the cluster is being stopped: send them when it works again";
    if (this.#waiting.length >= WAITING_MAX) return `${WAITING_MAX} others wait already: send them again in a while`;
    if (checkpoints?.recovering === true) return "the cluster recovers: send them again in a moment";
    return hindrance();
  }

  #beginNext(): void {
    while (this.#batch === null) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const why = this.#whyNot(next.batch);
      if (why === null) this.#begin(next.batch.letters, next.answer);
      else next.answer(refuseAll(next.batch, why));
    }
  }

  #begin(letters: readonly ResentLetter[], answer: (outcome: ResendOutcome) => void): void {
    const { clock, turn, checkpoints } = this.#options;
    const request = ++this.#requests;
    const giveUp = () => this.#giveUp(batch, `no checkpoint had it within ${BATCH_MS / 1000} s`);
    const cancel = clock.startTimer(BATCH_MS, () => turn(giveUp));
    const fates: Fate[] = [];
    const owners = new Map<WorkerName, number[]>();
    for (const [index, letter] of letters.entries()) {
      const owner = this.#ownerOf(letter);
      fates.push(owner.kind === "none" ? { kind: "left", why: owner.why } : { kind: "sent" });
      if (owner.kind === "none") continue;
      const indexes = owners.get(owner.worker);
      if (indexes === undefined) owners.set(owner.worker, [index]);
      else indexes.push(index);
    }
    const sent = new Map<WorkerName, Sent>();
    for (const [owner, indexes] of owners) {
      const theirs = indexes.map((index) => letters[index]!);
      sent.set(owner, { letters: theirs, indexes, done: 0, from: 0, until: 0 });
    }
    const completeBefore = checkpoints?.lastComplete ?? 0;
    const batch: Batch = { request, fates, sent, completeBefore, cancel, answer, asked: false };
    this.#batch = batch;
    for (const [owner, theirs] of sent) this.#sendPortion(batch, owner, theirs);
    this.#answerIfDone(batch);
  }

  /** L5. */
  #sendPortion({ request }: Batch, owner: WorkerName, sent: Sent): void {
    const { name, generation, send, queueBytes } = this.#options;
    const { letters } = sent;
    sent.from = sent.done;
    let until = sent.from + 1;
    if (owner === name) until = letters.length;
    for (let bytes = sizeOf(letters[sent.from]!); until < letters.length; until++) {
      bytes += sizeOf(letters[until]!);
      if (bytes > queueBytes * PORTION_SHARE) break;
    }
    sent.until = until;
    const portion = letters.slice(sent.from, until);
    if (owner === name) this.#queue(name, request, portion);
    else send(owner, { kind: "letters", generation: generation(), request, letters: encodeResentLetters(portion) });
  }

  #ownerOf(letter: ResentLetter): { kind: "worker"; worker: WorkerName } | { kind: "none"; why: string } {
    const { plan, members, keyGroupCount, name } = this.#options;
    const entry = entryOf(plan, letter);
    if (typeof entry === "string") return { kind: "none", why: printable(entry, WHY_LENGTH_MAX) };
    const owner = ownerOf(entry, letter, members.length, keyGroupCount);
    return { kind: "worker", worker: owner === null ? name : members[owner]! };
  }

  /** An owner has dealt with some of what it was sent. */
  #told(from: WorkerName, { request, count, cut, refused }: Taken): void {
    const batch = this.#batch;
    const sent = batch?.sent.get(from);
    if (batch === null || batch.request !== request || sent === undefined) return;
    const whys = new Map(refused.map(({ index, why }) => [index, why]));
    for (let i = 0; i < count && sent.done < sent.until; i++) {
      const why = whys.get(sent.done - sent.from);
      batch.fates[sent.indexes[sent.done++]!] = why === undefined ? { kind: "in", cut } : { kind: "left", why };
    }
    if (sent.done === sent.indexes.length) batch.sent.delete(from);
    else if (sent.done === sent.until) this.#sendPortion(batch, from, sent);
    const { checkpoints } = this.#options;
    // A checkpoint that was cut behind it may exist already.
    if (checkpoints !== null) save(batch, checkpoints.lastComplete);
    this.#answerIfDone(batch);
  }

  #answerIfDone(batch: Batch): void {
    if (this.#batch !== batch || batch.sent.size > 0) return;
    const isOpen = batch.fates.some(({ kind }) => kind === "in");
    if (isOpen && this.#options.checkpoints !== null) return this.#ask(batch);
    this.#answer(batch);
  }

  /** Takes a checkpoint that has them, again and again: one may fail. */
  #ask(batch: Batch): void {
    const { checkpoints, clock, turn } = this.#options;
    if (batch.asked || this.#batch !== batch || checkpoints === null) return;
    batch.asked = true;
    checkpoints.ask((epoch) => {
      if (epoch !== 0) return;
      clock.startTimer(ASK_AGAIN_MS, () =>
        turn(() => {
          batch.asked = false;
          // In a recovery it is answered when that is over.
          if (!checkpoints.recovering) this.#answerIfDone(batch);
        }),
      );
    });
  }

  #giveUp(batch: Batch, why: string): void {
    if (this.#batch !== batch) return;
    batch.sent.clear();
    batch.fates.forEach(({ kind }, index) => {
      if (kind === "in" || kind === "sent") batch.fates[index] = { kind: "unsure", why };
    });
    this.#answer(batch);
  }

  #answer(batch: Batch): void {
    this.#batch = null;
    batch.cancel();
    const outcome = outcomeOf(batch);
    const { taken, epoch } = outcome;
    if (taken.length > 0) {
      const where = this.#options.checkpoints === null ? "without checkpoints" : `checkpoint ${epoch} has them`;
      this.#options.log.info("letters_taken", `Dead letters that were let in again: ${taken.length}; ${where}`);
    }
    batch.answer(outcome);
    this.#beginNext();
  }

  // ---- owner

  #queue(from: WorkerName, request: number, letters: readonly ResentLetter[]): void {
    const { clock, turn, dataflow } = this.#options;
    // Whoever sends another list has given up the one before: its process has started anew.
    this.#jobs.get(from)?.cancel();
    if (letters.length === 0) return;
    const cancel = clock.startTimer(TAKE_MS, () => turn(() => this.#letIn(job)));
    const job: Job = { from, request, letters, next: 0, until: clock.monotonicMs() + TAKE_MS, cancel };
    this.#jobs.set(from, job);
    dataflow.wake();
  }

  /** L1. */
  #letIn(job: Job): void {
    if (this.#jobs.get(job.from) !== job) return;
    const { checkpoints, generation, name, send } = this.#options;
    const first = job.next;
    const refused: RefusedLetter[] = [];
    for (; job.next < job.letters.length; job.next++) {
      const why = this.#letInOne(job.letters[job.next]!, job.until);
      if (why === "later") break;
      if (why === null) this.taken++;
      else refused.push({ index: job.next, why: printable(why, WHY_LENGTH_MAX) });
    }
    if (job.next === job.letters.length) {
      job.cancel();
      this.#jobs.delete(job.from);
    }
    if (job.next === first) return;
    const { request } = job;
    const told: Taken = { request, count: job.next - first, cut: checkpoints?.lastCut ?? 0, refused };
    if (job.from === name) this.#told(name, told);
    else send(job.from, { kind: "letters_taken", generation: generation(), ...told });
  }

  /** @returns Why it is not in; null: it is. */
  #letInOne(letter: ResentLetter, until: Millis): string | null {
    const { clock, dataflow, plan } = this.#options;
    const entry = entryOf(plan, letter);
    if (typeof entry === "string") return entry;
    if (dataflow.ending) return "the cluster is being stopped: send it when it works again";
    if (dataflow.mayTake(entry)) return dataflow.take(entry, letter);
    if (clock.monotonicMs() < until) return "later";
    return `it could not go in within ${TAKE_MS / 1000} s: what it reaches is held back; tammar query status says by whom`;
  }
}

type Taken = Omit<LettersMessage & { kind: "letters_taken" }, "kind" | "generation">;

/** L2. */
function save(batch: Batch, epoch: Epoch): void {
  batch.fates.forEach((fate, index) => {
    if (fate.kind === "in" && fate.cut < epoch) batch.fates[index] = { kind: "saved", epoch };
  });
}

function sizeOf({ bytes, head, value, key, stage }: ResentLetter): number {
  const held = (bytes?.length ?? 0) + (head?.length ?? 0) + (value?.length ?? 0);
  return held + 3 * ((key?.length ?? 0) + stage.length) + LETTER_BYTES;
}

function refuseAll({ letters }: ResendBatch, why: string): ResendOutcome {
  return { taken: [], left: [{ letters: [...letters.keys()], why }], unsure: [], epoch: 0 };
}

function outcomeOf({ fates }: Batch): ResendOutcome {
  const taken: number[] = [];
  let epoch: Epoch = 0;
  fates.forEach((fate, index) => {
    if (fate.kind !== "saved" && fate.kind !== "in") return;
    taken.push(index);
    if (fate.kind === "saved") epoch = Math.max(epoch, fate.epoch);
  });
  return { taken, left: byReason(fates, "left"), unsure: byReason(fates, "unsure"), epoch };
}

function byReason(fates: readonly Fate[], kind: "left" | "unsure"): LeftLetters[] {
  const found = new Map<string, number[]>();
  fates.forEach((fate, index) => {
    if (fate.kind !== kind) return;
    const letters = found.get(fate.why);
    if (letters === undefined) found.set(fate.why, [index]);
    else letters.push(index);
  });
  return [...found].map(([why, letters]) => ({ letters, why }));
}
