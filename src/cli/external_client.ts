/** The tools' side of the external channel: one connection, requests out, answers in, nothing waited for without end. */
import { EXIT, TammarError } from "../base/errors.ts";
import { printable } from "../base/log.ts";
import { type Address, type Clock, type Conn, type Millis, NetError, type Runtime } from "../runtime/runtime.ts";
import {
  decodeExternalAnswer,
  EXTERNAL_ANSWER_LENGTH_MAX,
  type ExternalRequest,
  encodeExternal,
  type ReceivedAnswer,
} from "../wire/external.ts";
import { FrameSplitter } from "../wire/frame.ts";
import { addressText } from "./options.ts";
import { within } from "./terminal.ts";

export const CONNECT_TIMEOUT_MS = 5_000;

/** The worker at the other end can't be reached, doesn't answer, or is no worker. */
export class ExternalError extends TammarError {
  override readonly name = "ExternalError";
  override readonly exitStatus = EXIT.failed;
}

/** What the next answer is: one of a worker, or the end of the connection, or nothing in time. */
export type Received =
  | { readonly kind: "answer"; readonly answer: ReceivedAnswer }
  | { readonly kind: "ended" }
  | { readonly kind: "timeout" };

export class ExternalClient {
  readonly address: string;
  readonly #conn: Conn;
  readonly #clock: Clock;
  readonly #splitter = new FrameSplitter({ lengthMax: EXTERNAL_ANSWER_LENGTH_MAX });
  #answers: ReceivedAnswer[] = [];
  /** A read that a `receive` before gave up waiting for: at most one may be outstanding. */
  #reading: Promise<"more" | "ended"> | null = null;

  private constructor(conn: Conn, address: string, clock: Clock) {
    this.#conn = conn;
    this.address = address;
    this.#clock = clock;
  }

  /**
   * @param attempt How the message about a failure begins: `Unable to connect`.
   * @throws {ExternalError} `no_connection`.
   */
  static async connect(runtime: Runtime, address: Address, attempt: string): Promise<ExternalClient> {
    const shown = addressText(address);
    try {
      const conn = await runtime.net.connect(address, { timeoutMs: CONNECT_TIMEOUT_MS });
      return new ExternalClient(conn, shown, runtime.clock);
    } catch (cause) {
      if (!(cause instanceof NetError)) throw cause;
      throw new ExternalError(
        "no_connection",
        `${attempt} to ${shown}: ${connectReason(cause)}; is this a worker's --external address?`,
        { cause },
      );
    }
  }

  /** @throws {ExternalError} `connection_lost`. */
  async send(request: ExternalRequest): Promise<void> {
    try {
      await this.#conn.write(encodeExternal(request));
    } catch (cause) {
      throw this.#lost(cause);
    }
  }

  /**
   * The next answer.
   *
   * @throws {ExternalError} `connection_lost`; `not_a_worker`: something else came.
   */
  async receive(timeoutMs: Millis): Promise<Received> {
    const until = this.#clock.monotonicMs() + timeoutMs;
    for (;;) {
      const answer = this.#answers.shift();
      if (answer !== undefined) return { kind: "answer", answer };
      this.#reading ??= this.#read();
      const outcome = await within(this.#clock, Math.max(0, until - this.#clock.monotonicMs()), this.#reading);
      if (outcome === undefined) return { kind: "timeout" };
      this.#reading = null;
      if (outcome === "ended") return { kind: "ended" };
    }
  }

  /** Says that nothing more comes from here, and forgets the connection. */
  close(): void {
    this.#conn.end();
  }

  async #read(): Promise<"more" | "ended"> {
    let chunk: Uint8Array | null;
    try {
      chunk = await this.#conn.read();
    } catch (cause) {
      // A worker that ends at once has cut the connection: to a tool that is an end as any other.
      if (cause instanceof NetError && (cause.code === "reset" || cause.code === "closed")) return "ended";
      throw this.#lost(cause);
    }
    if (chunk === null) return "ended";
    const outcome = this.#splitter.push(chunk);
    const { bytes, starts, ends, count } = this.#splitter;
    for (let i = 0; i < count; i++) {
      if (starts[i] === ends[i]) continue;
      const answer = decodeExternalAnswer(bytes.subarray(starts[i], ends[i]));
      if (answer.kind === "fault") throw this.#stranger(answer.sentence);
      this.#answers.push(answer);
    }
    if (outcome !== "ok") throw this.#stranger(`it announces a frame of ${outcome.length} bytes`);
    return "more";
  }

  #lost(cause: unknown): unknown {
    if (!(cause instanceof NetError)) return cause;
    return new ExternalError("connection_lost", `The connection to ${this.address} was lost: ${cause.message}`, {
      cause,
    });
  }

  #stranger(why: string): ExternalError {
    return new ExternalError(
      "not_a_worker",
      `Received invalid message from ${this.address}: ${printable(why)}; this is not the external channel of a worker`,
    );
  }
}

/** Fields of a body whose shape nobody has checked; none if it has none. */
export function fieldsOf(body: unknown): Readonly<Record<string, unknown>> {
  return typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
}

/** Why nobody was reached, behind words that say whom we tried to reach. */
export function connectReason(error: NetError): string {
  return CONNECT_REASONS[error.code] ?? error.message;
}

const CONNECT_REASONS: Readonly<Record<string, string>> = {
  refused: "nobody listens there",
  timeout: `no answer within ${CONNECT_TIMEOUT_MS / 1000} s`,
  unresolvable: "there is no host of this name",
  unreachable: "there is no way to this host",
};
