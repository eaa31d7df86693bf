import { PlanError } from "../base/errors.ts";
import { checkFunction } from "./graph.ts";
import type { Payload } from "./payload.ts";

/** Credits of a client to begin with, unless application or operator say otherwise. */
export const MAX_CREDITS_DEFAULT = 1_000;

export interface ConnectorSourceSettings<T> {
  /**
   * One message to one value; `undefined` drops it. The payload is the message's body, `message` tells its key, event time and
   * place. Both are valid during the call only. A throw costs this record only.
   */
  readonly decode: (payload: Payload, message: ConnectorMessage) => T | undefined;
  /** Event time of a value, whole microseconds since the Unix epoch. Default: when it arrived. */
  readonly eventTime?: (value: T) => number;
  /** What clients must say in their HELLO; at most 65,535 bytes. Default: nothing. `--in` may name another one. */
  readonly cookie?: string;
  /** How many frames a client may send before it is given more, 1 to 4,294,967,295. Default: 1,000. */
  readonly maxCredits?: number;
  /** A client is given more when no more than these are left. Default: half of `maxCredits`. */
  readonly refillCredits?: number;
}

/**
 * A source for connector programs: they open named streams, number their messages, and learn which of them are safe. Made
 * by `connectorSource`.
 */
export interface ConnectorSource<T> {
  readonly kind: "connector";
  readonly decode: (payload: Payload) => T | undefined;
  readonly decodeBatch: undefined;
  readonly eventTime: ((value: T) => number) | undefined;
  readonly cookie: string;
  readonly maxCredits: number;
  readonly refillCredits: number;
  /** For the engine: opened on each chunk before its records are decoded. */
  readonly message: ConnectorMessage;
}

/** What clients must say, and how much they may send. */
export type ConnectorTerms = Pick<ConnectorSource<unknown>, "cookie" | "maxCredits" | "refillCredits">;

/**
 * What a connector program says about a message beside its body. One object serves all messages of a source: use it inside
 * the decoder, never keep it.
 */
export class ConnectorMessage {
  #bytes: Uint8Array = NO_BYTES;
  #view: DataView = NO_VIEW;
  #places: Uint32Array = NO_PLACES;
  #next = 0;
  /** Where the present message begins, with its tag. */
  #start = 0;

  /** As UTF-8; bytes that are not become U+FFFD. Empty: it has none. */
  get key(): string {
    const { start, end } = this.#keyPlace();
    return start === end ? "" : UTF8.decode(this.#bytes.subarray(start, end));
  }

  /** A copy of the key's bytes. */
  keyBytes(): Uint8Array {
    const { start, end } = this.#keyPlace();
    return this.#bytes.slice(start, end);
  }

  /** As the client sent it: signed, and without a unit that the protocol knows. 0: none. */
  get eventTime(): bigint {
    return this.#view.getBigInt64(this.#start + EVENT_TIME_AT);
  }

  /** The stream's id, chosen by the client. */
  get stream(): bigint {
    return this.#view.getBigUint64(this.#start + STREAM_AT);
  }

  /** The message's place in its stream. */
  get id(): bigint {
    return this.#view.getBigUint64(this.#start + ID_AT);
  }

  /** For the engine: the messages of a chunk follow, number `i` beginning with its tag at `places[i]`. */
  openChunk(bytes: Uint8Array, places: Uint32Array): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#places = places;
    this.#next = 0;
  }

  /** For the engine: on to the next message. */
  next(): void {
    this.#start = this.#places[this.#next++] ?? 0;
  }

  #keyPlace(): { start: number; end: number } {
    const start = this.#start + KEY_AT;
    return { start, end: start + this.#view.getUint16(this.#start + KEY_LENGTH_AT) };
  }
}

// As in `wire/connector.ts`, counted from the tag.
const STREAM_AT = 1;
const ID_AT = 9;
const EVENT_TIME_AT = 17;
const KEY_LENGTH_AT = 25;
const KEY_AT = 27;

const NO_BYTES = new Uint8Array(KEY_AT);
const NO_VIEW = new DataView(NO_BYTES.buffer);
const NO_PLACES = new Uint32Array(0);
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Records from connector programs, which connect to the address that the operator gives: `--in NAME@HOST:PORT`, or
 * `--in NAME@HOST:PORT:COOKIE:MAXCREDITS:REFILLCREDITS`. With checkpoints each message is processed exactly once, whatever
 * dies: a program is told which messages are safe, and sends the others again after a failure.
 *
 * ```ts
 * source("orders", connectorSource({ cookie: "secret", decode: (payload, { key }) => ({ key, order: payload.text() }) }))
 * ```
 */
export function connectorSource<T>(settings: ConnectorSourceSettings<T>): ConnectorSource<T> {
  const message = new ConnectorMessage();
  const { decode, eventTime, cookie = "", maxCredits = MAX_CREDITS_DEFAULT } = settings;
  return {
    kind: "connector",
    decode:
      typeof decode === "function"
        ? (payload) => {
            message.next();
            return decode(payload, message);
          }
        : decode,
    decodeBatch: undefined,
    eventTime,
    cookie,
    maxCredits,
    refillCredits: settings.refillCredits ?? Math.floor(maxCredits / 2),
    message,
  };
}

/** @throws {PlanError} `definition_invalid`. `where` names the source. */
export function checkConnectorSource(where: string, definition: ConnectorSource<unknown>): void {
  const { decode, eventTime, cookie, maxCredits, refillCredits } = definition;
  checkFunction(where, "decode", decode);
  if (eventTime !== undefined) checkFunction(where, "eventTime", eventTime);
  if (!isCookie(cookie)) {
    throw new PlanError("definition_invalid", `${where}: its cookie is no text of at most 65,535 bytes: give it one`);
  }
  if (!isIntegerWithin(maxCredits, 1, CREDITS_MAX)) {
    const remedy = `give it 1 to ${CREDITS_MAX} frames`;
    throw new PlanError("definition_invalid", `${where}: maxCredits is ${String(maxCredits)}: ${remedy}`);
  }
  if (!isIntegerWithin(refillCredits, 0, maxCredits)) {
    const remedy = "give it 0 to maxCredits frames";
    throw new PlanError("definition_invalid", `${where}: refillCredits is ${String(refillCredits)}: ${remedy}`);
  }
}

/** What the wire has room for. */
export const CREDITS_MAX = 0xffff_ffff;

/** Is it a text that fits a HELLO? */
export function isCookie(cookie: unknown): cookie is string {
  return typeof cookie === "string" && new TextEncoder().encode(cookie).length <= 0xffff;
}

function isIntegerWithin(value: unknown, min: number, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}
