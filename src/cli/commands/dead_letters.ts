import { ConfigError, EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import { type Conn, NetError, type Runtime } from "../../runtime/runtime.ts";
import type { DeadLetter } from "../../store/dead_letter_file.ts";
import { findDeadLetters, readDeadLetters } from "../../store/dead_letters_read.ts";
import { ResentLetters } from "../../store/resent_file.ts";
import { jsonOfValue } from "../../store/value_json.ts";
import { encodeFrame } from "../../wire/frame.ts";
import { placeText } from "../../wire/record_place.ts";
import { connectReason, ExternalClient } from "../external_client.ts";
import { normalize } from "../module_loader.ts";
import { addressOf, addressText, integerOf, isGiven, type OptionSpec, refuseUnknown, textOf } from "../options.ts";
import { complain, jsonText, print } from "../terminal.ts";
import { defineTool } from "../tool.ts";
import { refuseBoth, resendLetters, whyNotResend } from "./dead_letters_resend.ts";

/** A worker answers within two minutes. */
const TIMEOUT_S = 150;

const OPTIONS: readonly OptionSpec[] = [
  { name: "json", letter: "j", value: null, help: "Print one JSON object a line; bytes are in base64" },
  { name: "source", value: "NAME", help: "Only records of this source" },
  {
    name: "resend",
    value: "HOST:PORT",
    help: "Let them in again where they were refused, through the --external address of any worker",
  },
  { name: "again", value: null, help: "With --resend: also those that an earlier run has let in" },
  {
    name: "another-cluster",
    value: null,
    help: "With --resend: let them into a cluster that is not the one they are of",
  },
  {
    name: "timeout",
    value: "SECONDS",
    help: "With --resend: how long to wait for an answer",
    default: String(TIMEOUT_S),
  },
  {
    name: "send-to",
    value: "HOST:PORT",
    help: "Send them again to a TCP source, as they came: those that its decoder refused",
  },
];

const CONNECT_TIMEOUT_MS = 5_000;
/** Of a record in a line for people. */
const SHOWN_MAX = 200;

/** Lists the records that user code refused, and sends them again. */
export const deadLetters = defineTool({
  name: "dead-letters",
  calledAs: [],
  summary: "List the records that user code refused, or send them again",
  usage: "DIR [options]",
  options: OPTIONS,
  examples: [
    "/var/lib/tammar",
    "/var/lib/tammar --json",
    "/var/lib/tammar --resend 127.0.0.1:7002",
    "/var/lib/tammar --source words --send-to 127.0.0.1:7010",
  ],
  takesWords: true,
  async run(parsed, { runtime, program }) {
    const [directory, ...more] = parsed.words;
    if (directory === undefined) {
      throw new ConfigError("usage", `Expected \`${program} DIR\`: DIR is the --resilience-dir of a worker`);
    }
    refuseUnknown({ ...parsed, words: more }, []);
    const { disk, host } = runtime;
    const source = textOf(parsed, "source");
    const sendTo = addressOf(parsed, "send-to", "connect");
    const path = normalize(directory.startsWith("/") ? directory : `${host.workingDir}/${directory}`);
    const resendTo = addressOf(parsed, "resend", "connect");
    if (resendTo !== null && sendTo !== null) refuseBoth();
    const timeoutS = integerOf(parsed, "timeout", { min: 1, max: 86_400 }) ?? TIMEOUT_S;
    const files = await findDeadLetters(disk, path);
    if (resendTo !== null) {
      const client = await ExternalClient.connect(runtime, resendTo, "Unable to connect");
      try {
        return await resendLetters(runtime, client, {
          files,
          isWanted: (letter) => source === null || letter.source === source,
          again: isGiven(parsed, "again"),
          anotherCluster: isGiven(parsed, "another-cluster"),
          timeoutMs: timeoutS * 1_000,
        });
      } finally {
        client.close();
      }
    }
    const conn = sendTo === null ? null : await connect(runtime, sendTo);
    if (conn === "failed") return EXIT.failed;
    let listed = 0;
    let sent = 0;
    /** By the reason: how many could not be sent. */
    const left = new Map<string, number>();
    let status: ExitStatus = EXIT.done;
    for (const file of files) {
      const resent = await ResentLetters.open(disk, file);
      const bad = await readDeadLetters(disk, file, async (letter, mark) => {
        if (source !== null && letter.source !== source) return;
        listed++;
        if (conn === null) {
          const was = resent.has(mark);
          await print(host, isGiven(parsed, "json") ? json(letter, was) : line(letter, was));
        } else if (letter.bytes === null || letter.framing === null) {
          const why = whyNot(letter) ?? "";
          left.set(why, (left.get(why) ?? 0) + 1);
        } else {
          const { headerBytes, littleEndian } = letter.framing;
          await conn.write(encodeFrame(letter.bytes, { bytes: headerBytes, littleEndian }));
          sent++;
        }
      });
      if (bad === null) continue;
      const where = `${file}: ${bad.kind} at offset ${bad.offset}: ${bad.why}`;
      complain(
        host,
        bad.kind === "torn" ? `${where}: it was being written, or its worker was killed` : `Error: ${where}`,
      );
      // The last one of a worker that writes just now, or was killed while it did.
      if (bad.kind === "damaged") status = EXIT.resilience;
    }
    conn?.end();
    if (conn !== null) await print(host, sentText(sent, left));
    else if (!isGiven(parsed, "json")) await print(host, `${listed} dead ${listed === 1 ? "letter" : "letters"}\n`);
    return status;
  },
});

async function connect(runtime: Runtime, address: { host: string; port: number }): Promise<Conn | "failed"> {
  try {
    return await runtime.net.connect(address, { timeoutMs: CONNECT_TIMEOUT_MS });
  } catch (error) {
    if (!(error instanceof NetError)) throw error;
    complain(runtime.host, `Error: Unable to connect to ${addressText(address)}: ${connectReason(error)}`);
    return "failed";
  }
}

function sentText(sent: number, left: ReadonlyMap<string, number>): string {
  const lines = [...left].map(([why, count]) => `${count} not sent: ${why}\n`);
  return `${sent} sent again\n${lines.join("")}`;
}

/** Why this one can't be sent again; `null`: it can. */
function whyNot({ bytes, framing, source, unfit }: DeadLetter): string | null {
  if (bytes !== null && framing !== null) return null;
  if (unfit !== null) return `the record was not kept: ${printable(unfit, 200)}`;
  if (bytes === null) return "it was decoded already";
  return `source ${printable(source ?? "", 200)} is no TCP source`;
}

function line(letter: DeadLetter, wasResent: boolean): string {
  const { atMs, worker, stage, during, key, error, bytes, value, unfit } = letter;
  const of = key === null ? "" : `, key ${JSON.stringify(printable(key, 64))}`;
  const what =
    bytes !== null
      ? `${bytes.length} bytes ${printable(new TextDecoder().decode(bytes.subarray(0, SHOWN_MAX)), SHOWN_MAX)}`
      : unfit !== null
        ? `no record: ${printable(unfit)}`
        : printable(jsonText(jsonOfValue(value)), SHOWN_MAX);
  const from = `; from ${whence(letter)}`;
  const can = whyNotResend(letter) === null ? "can be let in again" : "can only be listed";
  const resend = wasResent ? "was let in again" : can;
  return `${timeText(atMs)} ${worker} ${printable(stage)} (${during}${of}): ${printable(error)}: ${what}${from}; ${resend}\n`;
}

/** Where it comes from, in words. */
function whence({ source, place }: DeadLetter): string {
  if (source === null) return "a source that is not known (behind an exchange)";
  return place === null
    ? `source ${printable(source, 200)}`
    : `source ${printable(source, 200)}, ${printable(placeText(place), 400)}`;
}

function json(whole: DeadLetter, resent: boolean): string {
  const { bytes, head: _, value, ...letter } = whole;
  const why = whyNotResend(whole);
  const base64 = bytes === null ? null : base64Of(bytes);
  const shown = bytes !== null || letter.unfit !== null ? {} : { value: jsonOfValue(value) };
  return `${jsonText({ ...letter, at: timeText(letter.atMs), bytes: base64, ...shown, resendable: why === null, why_not: why, resent })}\n`;
}

function base64Of(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

function timeText(ms: number): string {
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${ms} ms`;
}
