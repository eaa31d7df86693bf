/** Somebody who sends the dead letters of a machine again: the very tool, and what it told the worker and was told is noted. */
import { resendLetters } from "../../cli/commands/dead_letters_resend.ts";
import { ExternalClient } from "../../cli/external_client.ts";
import type { Address, Host, Millis, Runtime } from "../../runtime/runtime.ts";
import { findDeadLetters } from "../../store/dead_letters_read.ts";
import type { ExternalRequest } from "../../wire/external.ts";
import { decodeResendBatch, type ResentLetter, readResendOutcome } from "../../wire/resend.ts";
import { decodeValues } from "../../wire/values.ts";
import type { ResendRecord, ResentBatch } from "../observation.ts";

/** As the tool has it. */
const TIMEOUT_MS: Millis = 150_000;

/** @param directory Of all workers of the machine. */
export async function runResender(
  runtime: Runtime,
  through: Address,
  directory: string,
  record: ResendRecord,
): Promise<void> {
  const status = await resend(overheard(runtime, record), through, directory, record);
  const last = record.batches.at(-1);
  if (last !== undefined) last.remembered = !record.said.includes("Cannot remember");
  record.status = status;
}

async function resend(runtime: Runtime, through: Address, directory: string, record: ResendRecord): Promise<number> {
  try {
    const files = await findDeadLetters(runtime.disk, directory);
    const client = await ExternalClient.connect(runtime, through, "Unable to connect");
    try {
      return await resendLetters(runtime, new Overheard(client, record.batches), {
        files,
        isWanted: () => true,
        again: false,
        anotherCluster: false,
        timeoutMs: TIMEOUT_MS,
      });
    } finally {
      client.close();
    }
  } catch (error) {
    record.said += `${(error as Error).message}\n`;
    return 1;
  }
}

function overheard(runtime: Runtime, record: ResendRecord): Runtime {
  const hear = (bytes: Uint8Array): void => {
    record.said += new TextDecoder().decode(bytes);
  };
  const host: Host = { ...runtime.host, writeErrNow: hear, writeOut: async (bytes) => hear(bytes) };
  return { ...runtime, host };
}

/** The connection, and whoever listens. */
class Overheard {
  readonly #client: ExternalClient;
  readonly #batches: ResentBatch[];
  #pieces: Uint8Array[] = [];

  constructor(client: ExternalClient, batches: ResentBatch[]) {
    this.#client = client;
    this.#batches = batches;
  }

  get address(): string {
    return this.#client.address;
  }

  async send(request: ExternalRequest): Promise<void> {
    if (request.kind === "letters_resend") {
      // Who goes on has remembered what was confirmed before.
      const last = this.#batches.at(-1);
      if (last !== undefined) last.remembered = true;
      this.#pieces.push(new Uint8Array(request.piece));
      if (request.at + request.piece.length === request.total) this.#sent();
    }
    await this.#client.send(request);
  }

  async receive(timeoutMs: Millis): ReturnType<ExternalClient["receive"]> {
    const received = await this.#client.receive(timeoutMs);
    const last = this.#batches.at(-1);
    if (last !== undefined && received.kind === "answer" && received.answer.kind === "letters_response") {
      last.outcome = readResendOutcome(received.answer.body, last.records.length);
    }
    return received;
  }

  #sent(): void {
    const bytes = new Uint8Array(this.#pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    this.#pieces = [];
    const records = decodeResendBatch(bytes).letters.map(recordOfLetter);
    this.#batches.push({ records, outcome: null, remembered: false });
  }
}

function recordOfLetter({ bytes, value }: ResentLetter): string {
  return recordOf(bytes, value === null ? undefined : decodeValues(value, 0, value.length, 1)[0]);
}

/** `key value` of what a letter holds. */
export function recordOf(bytes: Uint8Array | null, decoded: unknown): string {
  if (bytes !== null) return new TextDecoder().decode(bytes);
  const { key, value } = decoded as { key: string; value: number };
  return `${key} ${value}`;
}
