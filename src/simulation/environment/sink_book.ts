/**
 * A sink program that commits in two phases, without its sockets and files: what it keeps of one worker's output, what it
 * answers on one connection, and how it insists on the protocol. Whoever breaks it gets no second chance: a gap, a step
 * back, output between the two phases, a commit of what it voted against end the program with status 66, as the sink of old.
 *
 *   B1. Actions are done in order, each before the next: bytes and vote are on stable storage before the vote is sent.
 *   B2. On each connection output goes on at the end of what it has voted for, or else at the end of what is committed.
 *   B3. At most one transaction has a vote and no decision.
 */
import { ProtocolError } from "../../base/errors.ts";
import { crc32c } from "../../store/crc32c.ts";
import { ByteWriter } from "../../wire/byte_writer.ts";
import {
  COMMIT_STREAM,
  type ConnectorFrame,
  decodeConnectorFrame,
  decodeTransactionMessage,
  encodeConnectorFrame,
  encodeTransactionMessage,
  OUTPUT_STREAM,
  SINK_VERSION,
  type TransactionMessage,
} from "../../wire/connector.ts";

/** How it is to vote on transactions whose id ends in `transaction`. */
export interface SinkRule {
  readonly transaction: string;
  readonly vote: "commit" | "abort";
  /** Closes the connection before or after it has answered. */
  readonly close?: "before" | "after";
}

/** One line of its transaction log. */
export type SinkLogEntry =
  | { readonly event: "opened"; readonly output: string; readonly offset: number }
  | {
      readonly event: "phase1";
      readonly id: string;
      readonly start: number;
      readonly end: number;
      readonly vote: "commit" | "abort";
    }
  | { readonly event: "phase2"; readonly id: string; readonly decision: "commit" | "abort"; readonly end: number }
  | { readonly event: "error"; readonly text: string };

/** A line of the log: the entry as JSON, a tab, its checksum in hex. */
export function sinkLogLine(entry: SinkLogEntry): Uint8Array {
  const json = JSON.stringify(entry);
  return encoder.encode(`${json}\t${checksum(json)}\n`);
}

/** Entries in order, up to the first line that is not whole: what was never synced may be damaged, and was never promised. */
export function readSinkLog(bytes: Uint8Array): { readonly entries: SinkLogEntry[]; readonly wholeBytes: number } {
  const entries: SinkLogEntry[] = [];
  let wholeBytes = 0;
  for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, wholeBytes)) {
    const [json = "", sum] = decoder.decode(bytes.subarray(wholeBytes, end)).split("\t");
    if (sum !== checksum(json)) break;
    entries.push(JSON.parse(json) as SinkLogEntry);
    wholeBytes = end + 1;
  }
  return { entries, wholeBytes };
}

function checksum(text: string): string {
  return crc32c(encoder.encode(text)).toString(16).padStart(8, "0");
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export type SinkAction =
  /** To the end of the output. */
  | { readonly kind: "append"; readonly bytes: Uint8Array }
  | { readonly kind: "truncate"; readonly length: number }
  | { readonly kind: "log"; readonly entry: SinkLogEntry }
  /** Output and log. */
  | { readonly kind: "sync" }
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  | { readonly kind: "close" }
  /** The worker has broken the protocol: the program ends. */
  | { readonly kind: "fatal"; readonly text: string };

interface Pending {
  readonly id: string;
  readonly start: number;
  readonly end: number;
  readonly vote: "commit" | "abort";
}

const CREDITS = 500;

/** What is kept of one instance. */
export class SinkBook {
  readonly #rules: readonly SinkRule[];
  committed = 0;
  /** Bytes of output that are here. */
  length: number;
  pending: Pending | null = null;

  /** @param log What was written of it, in order; `length`: of the output as it was found. */
  constructor(log: readonly SinkLogEntry[], length: number, rules: readonly SinkRule[] = []) {
    this.#rules = rules;
    this.length = length;
    for (const entry of log) {
      if (entry.event === "phase1") this.pending = entry;
      else if (entry.event === "phase2" && entry.id === this.pending?.id) this.decided(entry.decision);
    }
  }

  /** B2. */
  get offset(): number {
    return this.pending?.vote === "commit" ? this.pending.end : this.committed;
  }

  rule(id: string): SinkRule | null {
    return this.#rules.find((rule) => id.endsWith(rule.transaction)) ?? null;
  }

  decided(decision: "commit" | "abort"): void {
    if (decision === "commit") this.committed = this.pending!.end;
    this.pending = null;
  }
}

export interface SinkSessionOptions {
  readonly cookie: string;
  /** The book of an instance; a session that had it before is over. */
  readonly open: (instance: string) => SinkBook;
}

/** One connection. */
export class SinkSession {
  readonly #options: SinkSessionOptions;
  #book: SinkBook | null = null;
  #output = "";
  #state: "greeting" | "streaming" | "closed" = "greeting";
  instance = "";

  constructor(options: SinkSessionOptions) {
    this.#options = options;
  }

  /** One frame, without its length. */
  receive(bytes: Uint8Array): SinkAction[] {
    if (this.#state === "closed") return [];
    let frame: ConnectorFrame;
    try {
      frame = decodeConnectorFrame(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return [fatal(error.message)];
    }
    if (frame.kind === "hello") return this.#hello(frame);
    const book = this.#book;
    if (book === null) return [fatal(`${frame.kind} came before hello`)];
    switch (frame.kind) {
      case "notify":
        if (frame.stream !== OUTPUT_STREAM) return [fatal(`it opens stream ${frame.stream}`)];
        this.#output = decoder.decode(frame.name);
        return [
          { kind: "log", entry: { event: "opened", output: this.#output, offset: book.length } },
          send({ kind: "notify_ack", success: true, stream: OUTPUT_STREAM, point: BigInt(book.length) }),
        ];
      case "message":
        if (frame.stream === COMMIT_STREAM) return this.#transaction(book, decodeTransactionMessage(frame.body));
        return this.#record(book, frame);
      case "error":
        this.#state = "closed";
        return [{ kind: "log", entry: { event: "error", text: `the worker says: ${frame.text}` } }, { kind: "close" }];
      case "end_of_stream":
        return [send({ kind: "ack", credits: 1, points: [{ stream: frame.stream, point: BigInt(book.length) }] })];
      default:
        return [fatal(`a worker sent ${frame.kind}`)];
    }
  }

  #hello({ version, cookie, instance }: ConnectorFrame & { kind: "hello" }): SinkAction[] {
    if (this.#state !== "greeting") return [fatal("a second hello came")];
    const isRight = version === SINK_VERSION && decoder.decode(cookie) === this.#options.cookie;
    if (!isRight) {
      this.#state = "closed";
      return [send({ kind: "error", text: "Unknown protocol version or bad cookie" }), { kind: "close" }];
    }
    this.#state = "streaming";
    this.instance = instance;
    const book = this.#options.open(instance);
    this.#book = book;
    book.length = book.offset;
    return [{ kind: "truncate", length: book.length }, send({ kind: "ok", credits: CREDITS })];
  }

  #record(book: SinkBook, { stream, id, body }: ConnectorFrame & { kind: "message" }): SinkAction[] {
    if (stream !== OUTPUT_STREAM) return [fatal(`a message on stream ${stream}`)];
    if (this.#output === "") return [fatal("output before notify")];
    if (book.pending !== null) return [fatal(`output between the phases of ${book.pending.id}`)];
    if (id !== BigInt(book.length)) return [fatal(`message id ${id} where ${book.length} is due`)];
    book.length += body.length;
    return [{ kind: "append", bytes: body.slice() }];
  }

  #transaction(book: SinkBook, message: TransactionMessage): SinkAction[] {
    switch (message.kind) {
      case "list_uncommitted": {
        const ids = book.pending === null ? [] : [book.pending.id];
        return [say({ kind: "uncommitted", request: message.request, ids })];
      }
      case "phase1":
        return this.#phase1(book, message);
      case "phase2":
        return this.#phase2(book, message.id, message.commit ? "commit" : "abort");
      case "workers_left":
        return [];
      default:
        return [fatal(`a worker sent ${message.kind}`)];
    }
  }

  #phase1(book: SinkBook, { id, ranges }: TransactionMessage & { kind: "phase1" }): SinkAction[] {
    const range = ranges[0];
    if (book.pending !== null) return [fatal(`phase 1 of ${id} before phase 2 of ${book.pending.id}`)];
    if (!id.startsWith(`${this.#output}:c_id=`)) return [fatal(`transaction ${id} on the output ${this.#output}`)];
    if (ranges.length !== 1 || range?.stream !== OUTPUT_STREAM) return [fatal(`${id} has not one range of stream 1`)];
    const start = Number(range.start);
    const end = Number(range.end);
    if (end !== book.length) return [fatal(`${id} ends at ${end}, and ${book.length} bytes are here`)];
    const rule = book.rule(id);
    const actions: SinkAction[] = [];
    let vote = rule?.vote ?? "commit";
    if (start !== book.committed) {
      vote = "abort";
      const text = `${id} begins at ${start}, and ${book.committed} bytes are committed`;
      actions.push({ kind: "log", entry: { event: "error", text } });
    }
    book.pending = { id, start, end, vote };
    actions.push({ kind: "log", entry: { event: "phase1", ...book.pending } }, { kind: "sync" });
    if (rule?.close !== "before") actions.push(say({ kind: "vote", id, commit: vote === "commit" }));
    if (rule?.close !== undefined) {
      this.#state = "closed";
      actions.push({ kind: "close" });
    }
    return actions;
  }

  #phase2(book: SinkBook, id: string, decision: "commit" | "abort"): SinkAction[] {
    const { pending } = book;
    if (pending?.id !== id) {
      return [{ kind: "log", entry: { event: "error", text: `phase 2 of ${id}, which is not open` } }];
    }
    if (decision === "commit" && pending.vote === "abort") return [fatal(`a commit of ${id} after a vote against it`)];
    if (decision === "commit" && pending.end !== book.length) {
      return [fatal(`a commit of ${id}, which ends at ${pending.end}, and ${book.length} bytes are here`)];
    }
    book.decided(decision);
    const actions: SinkAction[] = [{ kind: "log", entry: { event: "phase2", id, decision, end: pending.end } }];
    if (decision === "abort") {
      book.length = pending.start;
      actions.push({ kind: "truncate", length: pending.start });
    }
    actions.push({ kind: "sync" });
    return actions;
  }
}

function fatal(text: string): SinkAction {
  return { kind: "fatal", text };
}

function send(frame: ConnectorFrame): SinkAction {
  const out = new ByteWriter();
  encodeConnectorFrame(frame, out);
  return { kind: "send", bytes: out.take() };
}

function say(message: TransactionMessage): SinkAction {
  const out = new ByteWriter();
  encodeTransactionMessage(message, out);
  return { kind: "send", bytes: out.take() };
}
