/** Lets dead letters in again, through any worker of their cluster: batch by batch, and what was confirmed is remembered. */
import { ConfigError, EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import { DiskError, type Millis, type Runtime } from "../../runtime/runtime.ts";
import { clusterOfDeadLetters, type DeadLetter } from "../../store/dead_letter_file.ts";
import { isLetterThere, readDeadLetters } from "../../store/dead_letters_read.ts";
import { baseOf } from "../../store/folders.ts";
import { type LetterMark, ResentLetters } from "../../store/resent_file.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import { CHECKPOINTS_OFF } from "../../wire/external.ts";
import {
  encodeResendBatch,
  RESEND_BYTES_MAX,
  RESEND_LETTERS_MAX,
  RESEND_PIECE_BYTES_MAX,
  type ResendOutcome,
  type ResentLetter,
  readResendOutcome,
} from "../../wire/resend.ts";
import { encodeValues } from "../../wire/values.ts";
import { type ExternalClient, ExternalError, fieldsOf } from "../external_client.ts";
import { complain, print } from "../terminal.ts";

/** What is needed of the connection to a worker. */
export type ResendClient = Pick<ExternalClient, "address" | "send" | "receive">;

export interface ResendSettings {
  readonly files: readonly string[];
  readonly isWanted: (letter: DeadLetter) => boolean;
  /** Also what was confirmed before. */
  readonly again: boolean;
  readonly anotherCluster: boolean;
  readonly timeoutMs: Millis;
}

/** A batch is sent when it has so much. */
const BATCH_BYTES = 1024 * 1024;
/** Of what is around a record in a batch. */
const OVERHEAD_BYTES = 64 * 1024;

interface Waiting {
  readonly letter: ResentLetter;
  readonly mark: LetterMark;
}

/** Why this one can't be let in again, whoever is asked; null: it may be. */
export function whyNotResend({ bytes, value, unfit }: DeadLetter): string | null {
  if (bytes !== null || value !== undefined) return null;
  return `the record was not kept: ${printable(unfit ?? "there was none", 200)}`;
}

export async function resendLetters(
  runtime: Runtime,
  client: ResendClient,
  settings: ResendSettings,
): Promise<ExitStatus> {
  const run = new Resending(runtime, client, settings);
  try {
    await run.all();
  } catch (error) {
    // What was confirmed until then is worth knowing.
    await print(runtime.host, run.summary());
    if (!(error instanceof DiskError)) throw error;
    complain(
      runtime.host,
      `Error: Cannot remember what was let in again: ${error.message}; another run sends it again`,
    );
    return EXIT.failed;
  }
  await print(runtime.host, run.summary());
  return run.status;
}

class Resending {
  readonly #runtime: Runtime;
  readonly #client: ResendClient;
  readonly #settings: ResendSettings;
  #taken = 0;
  #epoch = 0;
  #before = 0;
  /** By the reason: how many. */
  readonly #left = new Map<string, number>();
  readonly #unsure = new Map<string, number>();
  status: ExitStatus = EXIT.done;

  constructor(runtime: Runtime, client: ResendClient, settings: ResendSettings) {
    this.#runtime = runtime;
    this.#client = client;
    this.#settings = settings;
  }

  async all(): Promise<void> {
    const { files } = this.#settings;
    const lasts = new Map<string, LetterMark>();
    for (const path of files) {
      const last = await this.#lastOf(path);
      if (last !== null) lasts.set(path, last);
    }
    if (lasts.size === 0) return;
    // A letter that no checkpoint has may be taken back by a rollback, and its record come again from its source.
    await this.#checkpoint();
    for (const [path, last] of lasts) await this.#file(path, last);
  }

  summary(): string {
    const lines = (counts: ReadonlyMap<string, number>, what: string) =>
      [...counts].map(([why, count]) => `${count} ${what}: ${why}\n`).join("");
    const where =
      this.#epoch === 0 ? "without checkpoints, which would keep what they change" : `checkpoint ${this.#epoch}`;
    const kept = this.#taken === 0 ? "" : this.#epoch === 0 ? ` (${where})` : ` (${where} has them)`;
    const before = this.#before === 0 ? "" : `${this.#before} left out: let in before (--again sends them, too)\n`;
    return `${this.#taken} let in again${kept}\n${before}${lines(this.#left, "not let in")}${lines(this.#unsure, "perhaps let in")}`;
  }

  async #lastOf(path: string): Promise<LetterMark | null> {
    let last: LetterMark | null = null;
    const bad = await readDeadLetters(this.#runtime.disk, path, async (_, mark) => {
      last = mark;
    });
    if (bad?.kind === "damaged") {
      complain(this.#runtime.host, `Error: ${path}: damaged at offset ${bad.offset}: ${bad.why}`);
      this.status = EXIT.resilience;
    }
    return last;
  }

  async #checkpoint(): Promise<void> {
    await this.#client.send({ kind: "checkpoint_request" });
    const received = await this.#client.receive(this.#settings.timeoutMs);
    if (received.kind !== "answer" || received.answer.kind !== "checkpoint_response")
      throw this.#noAnswer(received.kind);
    const { epoch, reason } = fieldsOf(received.answer.body);
    if (typeof epoch === "number" && epoch > 0) return;
    if (reason === CHECKPOINTS_OFF) return;
    throw new ExternalError(
      "checkpoint_failed",
      `Nothing was sent: letters go in when a checkpoint has them, and the cluster of ${this.#client.address} took none: ` +
        printable(String(reason), 1_000),
    );
  }

  async #file(path: string, last: LetterMark): Promise<void> {
    const { disk } = this.#runtime;
    if (!(await isLetterThere(disk, path, last))) {
      return this.#count(this.#left, "a rollback took letters back meanwhile: run this again", 1);
    }
    const resent = await ResentLetters.open(disk, path);
    const clusterId = clusterOfDeadLetters(baseOf(path))!;
    let waiting: Waiting[] = [];
    let bytes = 0;
    await readDeadLetters(disk, path, async (letter, mark) => {
      if (mark.at > last.at || !this.#settings.isWanted(letter)) return;
      if (!this.#settings.again && resent.has(mark)) {
        this.#before++;
        return;
      }
      const made = resentLetter(letter);
      if (typeof made === "string") {
        this.#left.set(made, (this.#left.get(made) ?? 0) + 1);
        return;
      }
      const size = sizeOf(made);
      if (waiting.length === RESEND_LETTERS_MAX || (waiting.length > 0 && bytes + size > BATCH_BYTES)) {
        await this.#send(clusterId, waiting, resent);
        waiting = [];
        bytes = 0;
      }
      waiting.push({ letter: made, mark });
      bytes += size;
    });
    if (waiting.length > 0) await this.#send(clusterId, waiting, resent);
  }

  async #send(clusterId: string, waiting: readonly Waiting[], resent: ResentLetters): Promise<void> {
    const letters = waiting.map(({ letter }) => letter);
    const bytes = encodeResendBatch({ clusterId, another: this.#settings.anotherCluster, letters });
    for (let at = 0; at < bytes.length; at += RESEND_PIECE_BYTES_MAX) {
      const piece = bytes.subarray(at, at + RESEND_PIECE_BYTES_MAX);
      await this.#client.send({ kind: "letters_resend", total: bytes.length, at, piece });
    }
    const received = await this.#client.receive(this.#settings.timeoutMs);
    if (received.kind !== "answer") {
      this.#count(this.#unsure, `the worker gave no answer (${received.kind})`, letters.length);
      throw this.#noAnswer(received.kind);
    }
    const { answer } = received;
    const outcome = answer.kind === "letters_response" ? readResendOutcome(answer.body, letters.length) : null;
    if (outcome === null) throw this.#noAnswer("answer");
    await resent.add(outcome.taken.map((index) => waiting[index]!.mark));
    this.#book(outcome, letters.length);
  }

  #book({ taken, left, unsure, epoch }: ResendOutcome, count: number): void {
    this.#taken += taken.length;
    this.#epoch = Math.max(this.#epoch, epoch);
    let said = taken.length;
    for (const { letters, why } of left) {
      // None of them by index: the batch as a whole was refused.
      const these = letters.length === 0 ? count : letters.length;
      said += these;
      this.#count(this.#left, why, these);
    }
    for (const { letters, why } of unsure) {
      said += letters.length;
      this.#count(this.#unsure, why, letters.length);
    }
    if (said < count) this.#count(this.#unsure, "the worker did not say", count - said);
  }

  #count(counts: Map<string, number>, why: string, count: number): void {
    const shown = printable(why, 1_000);
    counts.set(shown, (counts.get(shown) ?? 0) + count);
    if (this.status === EXIT.done) this.status = EXIT.failed;
  }

  #noAnswer(kind: "answer" | "ended" | "timeout"): ExternalError {
    const { address } = this.#client;
    const what = {
      answer: "what it said is none to what was asked",
      ended: "it ended the connection",
      timeout: `no answer within ${this.#settings.timeoutMs / 1_000} s`,
    }[kind];
    return new ExternalError(
      "no_answer",
      `Cannot go on through the worker at ${address}: ${what}; see tammar query status`,
    );
  }
}

/** @returns A text: why it can't be sent. */
function resentLetter(whole: DeadLetter): ResentLetter | string {
  const why = whyNotResend(whole);
  if (why !== null) return why;
  const { stage, during, source, place, key, time, bytes, head, value } = whole;
  const letter: ResentLetter = {
    ...{ stage, during, source, place, key, time, bytes, head },
    value: value === undefined ? null : blockOf(value),
  };
  const size = sizeOf(letter);
  if (size <= RESEND_BYTES_MAX - OVERHEAD_BYTES) return letter;
  return `it has ${size} bytes, and ${RESEND_BYTES_MAX - OVERHEAD_BYTES} can go in again`;
}

function blockOf(value: unknown): Uint8Array {
  const out = new ByteWriter();
  encodeValues([value], 1, out);
  return out.take();
}

function sizeOf({ bytes, head, value, key, stage }: ResentLetter): number {
  const lengths = [bytes?.length, head?.length, value?.length, (key?.length ?? 0) * 3, stage.length * 3];
  return lengths.reduce<number>((sum, length) => sum + (length ?? 0), 512);
}

/** `--resend` and `--send-to` are two ways. */
export function refuseBoth(): never {
  throw new ConfigError(
    "usage",
    "--resend and --send-to are two ways: --resend HOST:PORT is for any worker's --external address and for all letters, " +
      "--send-to for a TCP source and what its decoder refused; give one of them",
  );
}
