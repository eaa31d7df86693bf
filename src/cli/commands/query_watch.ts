/** `tammar query --watch`: the status of a cluster again and again, until a signal comes or nobody reads it any more. */
import { EXIT, type ExitStatus } from "../../base/errors.ts";
import type { Address, Millis, Runtime } from "../../runtime/runtime.ts";
import { ExternalClient, ExternalError } from "../external_client.ts";
import { addressText } from "../options.ts";
import { type End, jsonText, pause, print, untilSignal } from "../terminal.ts";
import { watchText } from "./watch_text.ts";

export interface WatchOptions {
  readonly address: Address;
  /** One object a line instead of text. */
  readonly json: boolean;
  /** Between the end of one look and the next. */
  readonly intervalMs: Millis;
  /** For one answer. */
  readonly answerMs: Millis;
}

/** What one look gave: a status, or why there is none. */
export type Look =
  | { readonly kind: "status"; readonly body: unknown }
  | { readonly kind: "none"; readonly why: string };

/** Cursor home, and what is left behind the text is wiped away line by line: nothing flickers. */
const HOME = "\u001b[H";
const WIPE_LINE = "\u001b[K";
const WIPE_REST = "\u001b[J";
const WIPE_ALL = "\u001b[2J";

/** Each look is a connection of its own, so a worker that comes back is seen with the next one. Ends with 0. */
export async function watchStatus(runtime: Runtime, options: WatchOptions): Promise<ExitStatus> {
  const { clock, host } = runtime;
  const awaited = new Awaited(untilSignal(runtime));
  const isDrawn = host.terminalOut && !options.json;
  if (isDrawn) await print(host, WIPE_ALL);
  let unreachableSinceMs: Millis | null = null;
  for (;;) {
    const look = await awaited.of(lookOnce(runtime, options));
    if (look === null) return EXIT.done;
    const atMs = clock.wallMs();
    if (look.kind === "status") unreachableSinceMs = null;
    else unreachableSinceMs ??= atMs;
    const text = options.json
      ? jsonLine(look, atMs)
      : block(look, atMs, unreachableSinceMs, addressText(options.address));
    if (!(await print(host, isDrawn ? redrawn(text) : text))) return EXIT.done;
    await awaited.of(pause(clock, options.intervalMs));
    if (awaited.isOver) return EXIT.done;
  }
}

/** What is awaited ends early with the end; only the newest of it hangs on the signal, however long it is watched. */
class Awaited {
  isOver = false;
  #wake = () => {};

  constructor(end: End) {
    void end.wait.then(() => {
      this.isOver = true;
      this.#wake();
    });
  }

  /** `null`: the end came first. */
  of<T>(work: Promise<T>): Promise<T | null> {
    return new Promise((resolve, reject) => {
      this.#wake = () => resolve(null);
      if (this.isOver) resolve(null);
      work.then(resolve, reject);
    });
  }
}

async function lookOnce(runtime: Runtime, { address, answerMs }: WatchOptions): Promise<Look> {
  let client: ExternalClient | null = null;
  try {
    client = await ExternalClient.connect(runtime, address, "Unable to connect");
    await client.send({ kind: "status_query" });
    const received = await client.receive(answerMs);
    if (received.kind === "timeout") return { kind: "none", why: `no answer within ${answerMs / 1_000} s` };
    if (received.kind === "ended") return { kind: "none", why: "it ended the connection: it may be ending just now" };
    if (received.answer.kind !== "status_query_response") return { kind: "none", why: "its answer is no status" };
    return { kind: "status", body: received.answer.body };
  } catch (error) {
    if (!(error instanceof ExternalError)) throw error;
    return { kind: "none", why: error.message };
  } finally {
    client?.close();
  }
}

function jsonLine(look: Look, atMs: number): string {
  const at = new Date(atMs).toISOString();
  return look.kind === "status"
    ? `${jsonText({ at, reachable: true, status: look.body })}\n`
    : `${jsonText({ at, reachable: false, error: look.why })}\n`;
}

function block(look: Look, atMs: number, sinceMs: number | null, address: string): string {
  const time = new Date(atMs).toISOString();
  if (look.kind === "status") return `${time} ${address}\n${watchText(look.body)}\n`;
  const since = sinceMs === null || sinceMs === atMs ? "" : ` since ${new Date(sinceMs).toISOString()}`;
  return `${time} ${address}\nunreachable${since}: ${look.why}; it is tried again\n\n`;
}

function redrawn(text: string): string {
  return HOME + text.replaceAll("\n", `${WIPE_LINE}\n`) + WIPE_REST;
}
