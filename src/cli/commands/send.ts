import { ConfigError, EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import { type Address, type Conn, type Disk, type DiskFile, NetError, type Runtime } from "../../runtime/runtime.ts";
import { writeFrameHeader } from "../../wire/frame.ts";
import { type PositionAck, PositionAckReader } from "../../wire/position_ack.ts";
import { connectReason } from "../external_client.ts";
import {
  addressText,
  integerOf,
  isGiven,
  type OptionSpec,
  type ParsedArguments,
  parseAddress,
  required,
  textOf,
} from "../options.ts";
import { complain, pause, print } from "../terminal.ts";
import { defineTool } from "../tool.ts";
import { countingMessages, fileMessages, type Messages } from "./send_messages.ts";

const OPTIONS: readonly OptionSpec[] = [
  { name: "host", letter: "h", value: "HOST:PORT,...", help: "Where to send to; several get the messages in turn" },
  { name: "messages", letter: "m", value: "N", help: "How many messages in all" },
  {
    name: "file",
    letter: "f",
    value: "FILE,...",
    help: "Send the lines of these files, one after the other; otherwise the numbers 1, 2, 3, ... as text",
  },
  { name: "batch-size", letter: "s", value: "N", help: "Messages an interval", default: "500" },
  { name: "interval", letter: "i", value: "NS", help: "Nanoseconds from one batch to the next", default: "5_000_000" },
  { name: "repeat", letter: "r", value: null, help: "Begin again when the files are at their end" },
  {
    name: "binary",
    letter: "y",
    value: null,
    help: "The files hold ready-made frames: give --msg-size or --variable-size",
  },
  { name: "msg-size", letter: "g", value: "BYTES", help: "With --binary: size of every frame, its header included" },
  { name: "variable-size", letter: "z", value: null, help: "With --binary: each frame begins with its 4-byte length" },
  { name: "u64", letter: "u", value: null, help: "Send numbers as 8 bytes, big-endian, instead of text" },
  { name: "start-from", letter: "v", value: "N", help: "The first number is N + 1", default: "0" },
  { name: "partition", letter: "p", value: "TEXT", help: "With --u64: text behind each number" },
  {
    name: "vary-by",
    letter: "j",
    value: "N",
    help: "Up to N more messages a batch, drawn anew every 1,000 batches",
    default: "0",
  },
  {
    name: "acks",
    value: "SECONDS",
    help: "Wait until all is acknowledged, at most so long behind the last message; the source must have `acks: true`",
  },
  {
    name: "no-write",
    letter: "w",
    value: null,
    help: "Keep no copy of what was sent (else: `sent.txt` in the working directory)",
  },
];

const CONNECT_TIMEOUT_MS = 5_000;
/** A batch is handed over in pieces of this size. */
const WRITE_BYTES_MAX = 64 << 10;
/** Batches between two draws of `--vary-by`. */
const VARY_EVERY = 1_000;

interface SendOptions {
  readonly targets: readonly Address[];
  readonly count: number;
  readonly batchSize: number;
  readonly intervalMs: number;
  readonly varyBy: number;
  readonly keepsCopy: boolean;
  /** Null: what the source says is read and dropped. */
  readonly acksMs: number | null;
}

/** Paced load for TCP sources: the original's `sender`. */
export const send = defineTool({
  name: "send",
  calledAs: ["sender"],
  summary: "Send messages to TCP sources at a steady pace",
  usage: "--host HOST:PORT --messages N [options]",
  options: OPTIONS,
  examples: [
    "--host 127.0.0.1:7010 --messages 1_000 --file words.txt --repeat --no-write",
    "--host 127.0.0.1:7010 --messages 10 --u64 --partition key_1 --no-write",
  ],
  takesWords: false,
  async run(parsed, { runtime }) {
    const options = readOptions(parsed);
    const messages = await openMessages(parsed, runtime);
    const conns: Conn[] = [];
    for (const target of options.targets) {
      try {
        conns.push(await runtime.net.connect(target, { timeoutMs: CONNECT_TIMEOUT_MS }));
        await print(runtime.host, "Connected\n");
      } catch (error) {
        if (!(error instanceof NetError)) throw error;
        complain(runtime.host, `Error: Unable to connect to ${addressText(target)}: ${connectReason(error)}`);
        for (const conn of conns) conn.abort();
        return EXIT.failed;
      }
    }
    return sendAll(runtime, options, messages, conns);
  },
});

function readOptions(parsed: ParsedArguments): SendOptions {
  const hosts = textOf(parsed, "host");
  if (hosts === null) throw required("host", "--host 127.0.0.1:7010");
  const count = integerOf(parsed, "messages", { min: 0 });
  if (count === null) throw required("messages", "--messages 1000");
  const acksSeconds = integerOf(parsed, "acks", { min: 1, max: 86_400 });
  return {
    targets: hosts.split(",").map((text) => parseAddress(parsed.given.get("host")!.spelling, text, "connect")),
    count,
    batchSize: integerOf(parsed, "batch-size", { min: 1, max: 1_000_000 }) ?? 500,
    intervalMs: (integerOf(parsed, "interval", { min: 0, max: 3_600e9 }) ?? 5_000_000) / 1e6,
    varyBy: integerOf(parsed, "vary-by", { min: 0, max: 1_000_000 }) ?? 0,
    keepsCopy: !isGiven(parsed, "no-write"),
    acksMs: acksSeconds === null ? null : acksSeconds * 1_000,
  };
}

async function openMessages(parsed: ParsedArguments, runtime: Runtime): Promise<Messages> {
  const files = textOf(parsed, "file");
  const frameBytes = integerOf(parsed, "msg-size", { min: 1, max: 16 << 20 });
  const variable = isGiven(parsed, "variable-size");
  const binary = isGiven(parsed, "binary");
  const u64 = isGiven(parsed, "u64");
  const startFrom = integerOf(parsed, "start-from", { min: 0 }) ?? 0;
  const conflict = (text: string) => new ConfigError("options_conflict", text);
  if (frameBytes !== null && variable) throw conflict("--msg-size and --variable-size exclude each other: give one");
  if (binary && frameBytes === null && !variable) {
    throw conflict("--binary needs --msg-size BYTES or --variable-size: how long is each frame in the file?");
  }
  if (!binary && (frameBytes !== null || variable)) {
    throw conflict(
      `${variable ? "--variable-size" : "--msg-size"} has a meaning only together with --binary: give both`,
    );
  }
  if (binary && files === null) throw conflict("--binary needs --file: where are the frames?");
  if (u64 && files !== null) throw conflict("--u64 sends numbers and --file the content of files: give one of them");
  if (isGiven(parsed, "partition") && !u64) throw conflict("--partition has a meaning only together with --u64");
  if (files === null) return countingMessages({ u64, startFrom, partition: textOf(parsed, "partition") ?? "" });
  const layout = variable ? "variable" : frameBytes === null ? "lines" : frameBytes;
  return fileMessages(await openFiles(runtime, files), layout, isGiven(parsed, "repeat"));
}

async function openFiles({ disk, host }: Runtime, list: string): Promise<readonly DiskFile[]> {
  const files: DiskFile[] = [];
  for (const name of list.split(",")) {
    const path = name.startsWith("/") ? name : `${host.workingDir}/${name}`;
    if ((await disk.stat(path))?.kind !== "file") {
      throw new ConfigError("file_not_found", `--file ${printable(name)}: there is no file ${printable(path)}`);
    }
    files.push(await disk.open(path, "read"));
  }
  return files;
}

async function sendAll(
  { clock, random, disk, host }: Runtime,
  options: SendOptions,
  messages: Messages,
  conns: readonly Conn[],
): Promise<ExitStatus> {
  const safe = conns.map((conn) => new Acknowledged(conn));
  const copy = options.keepsCopy ? await SentFile.open(disk, `${host.workingDir}/sent.txt`) : null;
  const sentTo = conns.map(() => 0);
  let sent = 0;
  let more = 0;
  let due = clock.monotonicMs();
  for (let batch = 0; sent < options.count; batch++) {
    if (options.varyBy > 0 && batch % VARY_EVERY === 0) more = Math.floor(random.next() * (options.varyBy + 1));
    const size = Math.min(options.batchSize + more, options.count - sent);
    const turns = conns.map(() => [] as Uint8Array[]);
    let taken = 0;
    for (; taken < size; taken++) {
      const message = await messages.next();
      if (message === null) break;
      turns[(sent + taken) % conns.length]!.push(message.framed ? message.bytes : frame(message.bytes));
      copy?.add(clock.wallMs(), message.bytes);
    }
    for (const [at, conn] of conns.entries()) {
      try {
        // Waits while the other side pushes back.
        for (const piece of joined(turns[at]!)) await conn.write(piece);
        sentTo[at]! += turns[at]!.length;
      } catch (error) {
        if (!(error instanceof NetError)) throw error;
        const target = addressText(options.targets[at]!);
        complain(
          host,
          `Error: Connection to ${target} was lost after ${sent} of ${options.count} messages: ${error.message}`,
        );
        if (options.acksMs !== null) reportSafe(host, options, safe, sentTo);
        return EXIT.failed;
      }
    }
    await copy?.write();
    sent += taken;
    if (taken < size) break;
    // The pace is kept over the whole run, but a long stall is not made up for by a burst.
    due = Math.max(due + options.intervalMs, clock.monotonicMs());
    if (sent < options.count) await pause(clock, due - clock.monotonicMs());
  }
  await copy?.close();
  if (options.acksMs !== null) {
    const untilMs = clock.monotonicMs() + options.acksMs;
    const isWaiting = () => safe.some((each, at) => !each.isOver && each.records < sentTo[at]!);
    while (isWaiting() && clock.monotonicMs() < untilMs) await pause(clock, ACKS_LOOK_MS);
    if (!reportSafe(host, options, safe, sentTo)) {
      for (const conn of conns) conn.abort();
      return EXIT.failed;
    }
    await print(host, `All ${sent} messages are acknowledged: a durable checkpoint covers them\n`);
  }
  for (const conn of conns) conn.end();
  return EXIT.done;
}

const ACKS_LOOK_MS = 10;

/** @returns Whether all that was sent is safe. If not, says how far. */
function reportSafe(
  host: Runtime["host"],
  { targets }: SendOptions,
  safe: readonly Acknowledged[],
  sentTo: readonly number[],
): boolean {
  let isAll = true;
  for (const [at, { position, records, trouble }] of safe.entries()) {
    const sent = sentTo[at]!;
    if (records >= sent) continue;
    isAll = false;
    const why =
      position === null && trouble === null
        ? "; the source has said nothing: does its application have acks: true, and are checkpoints on?"
        : trouble === null
          ? ""
          : `; ${trouble}`;
    complain(
      host,
      `Error: ${addressText(targets[at]!)} has acknowledged ${records} of ${sent} messages: send the others again${why}`,
    );
  }
  return isAll;
}

/** Reads what a source says of a connection, so that it does not wait in the system either. */
class Acknowledged {
  readonly #reader = new PositionAckReader();
  isOver = false;
  /** Why there will be no more. */
  trouble: string | null = null;

  constructor(conn: Conn) {
    this.#read(conn);
  }

  get position(): PositionAck | null {
    return this.#reader.position;
  }

  get records(): number {
    return this.position?.records ?? 0;
  }

  async #read(conn: Conn): Promise<void> {
    try {
      for (let bytes = await conn.read(); bytes !== null; bytes = await conn.read()) {
        this.trouble ??= this.#reader.push(bytes);
      }
      this.trouble ??= "the source has closed the connection";
    } catch (error) {
      this.trouble ??= `the connection was lost: ${error instanceof Error ? error.message : String(error)}`;
    }
    this.isOver = true;
  }
}

function frame(payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + payload.length);
  writeFrameHeader(bytes, 0, payload.length);
  bytes.set(payload, 4);
  return bytes;
}

function* joined(parts: readonly Uint8Array[]): Generator<Uint8Array> {
  let from = 0;
  while (from < parts.length) {
    let to = from;
    let length = 0;
    while (to < parts.length && (to === from || length + parts[to]!.length <= WRITE_BYTES_MAX))
      length += parts[to++]!.length;
    const piece = new Uint8Array(length);
    let at = 0;
    for (; from < to; from++) {
      piece.set(parts[from]!, at);
      at += parts[from]!.length;
    }
    yield piece;
  }
}

/** The copy of what was sent: `<nanoseconds>, <payload>` a line. */
class SentFile {
  readonly #file: DiskFile;
  #waiting: Uint8Array[] = [];

  private constructor(file: DiskFile) {
    this.#file = file;
  }

  static async open(disk: Disk, path: string): Promise<SentFile> {
    if ((await disk.stat(path)) !== null) await disk.remove(path);
    return new SentFile(await disk.open(path, "create"));
  }

  add(wallMs: number, payload: Uint8Array): void {
    const stamp = new TextEncoder().encode(`${BigInt(Math.round(wallMs * 1_000)) * 1_000n}, `);
    this.#waiting.push(stamp, payload, NEWLINE);
  }

  async write(): Promise<void> {
    for (const piece of joined(this.#waiting)) await this.#file.append(piece);
    this.#waiting = [];
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

const NEWLINE = new Uint8Array([0x0a]);
