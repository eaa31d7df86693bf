import type { Framing } from "./framing.ts";
import type { Payload } from "./payload.ts";

/** Longest payload that a TCP source takes unless it says otherwise: 16 MiB. */
export const TCP_PAYLOAD_LENGTH_MAX = 16 * 1024 * 1024;

/** Most connections that a TCP source takes at a time. */
export const TCP_SOURCE_CONNECTIONS_MAX = 1_024;

/** Where the payloads of one chunk lie: payload `i` from byte `starts[i]` up to, not including, byte `ends[i]`. */
export interface Frames {
  readonly count: number;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

export interface TcpSourceSettings<T> {
  /** How the stream is cut into records: `framed.u32` is the usual one. */
  readonly framing: Framing;
  /** One payload to one value; `undefined` drops it. A throw costs this record only. */
  readonly decode: (payload: Payload) => T | undefined;
  /**
   * Many payloads at once, where that is cheaper. Returns one value for each frame, `undefined` for a dropped one, the same
   * as `decode` would; when it throws, the chunk goes through `decode` so that only the culprit is lost. The bytes are
   * valid during the call only.
   */
  readonly decodeBatch?: (bytes: Uint8Array, frames: Frames) => readonly (T | undefined)[];
  /** Event time of a value, whole microseconds since the Unix epoch. Default: when it arrived. */
  readonly eventTime?: (value: T) => number;
  /** Longest payload in bytes, 1 to 16,777,216 (the default). A longer one costs the client its connection. */
  readonly lengthMax?: number;
  /**
   * Connections at a time on each worker, 1 to 1,024 (the default); who comes beyond it is turned away. The answer to
   * `source-ids-query` has an id for each; ten where this is left out.
   */
  readonly connectionsMax?: number;
  /**
   * Tells each client on its own connection, behind each checkpoint, how many of its records are safe: see
   * `docs/protocol/tcp.md`. Clients have to read what they are told. Default: false, and the source never writes.
   */
  readonly acks?: boolean;
}

/** A source that listens on the address that `--in NAME@HOST:PORT` gives it. Made by `tcpSource`. */
export interface TcpSource<T> {
  readonly kind: "tcp";
  readonly framing: Framing;
  readonly decode: (payload: Payload) => T | undefined;
  readonly decodeBatch: ((bytes: Uint8Array, frames: Frames) => readonly (T | undefined)[]) | undefined;
  readonly eventTime: ((value: T) => number) | undefined;
  readonly lengthMax: number;
  readonly connectionsMax: number | undefined;
  readonly acks: boolean;
}

/**
 * Records from TCP connections. The address is the operator's: `--in "NAME@HOST:PORT"`, where `NAME` is the source's name.
 *
 * ```ts
 * source("celsius", tcpSource({ framing: framed.u32, decode: (payload) => payload.getFloat32(0) }))
 * ```
 */
export function tcpSource<T>(settings: TcpSourceSettings<T>): TcpSource<T> {
  return {
    kind: "tcp",
    framing: settings.framing,
    decode: settings.decode,
    decodeBatch: settings.decodeBatch,
    eventTime: settings.eventTime,
    lengthMax: settings.lengthMax ?? TCP_PAYLOAD_LENGTH_MAX,
    connectionsMax: settings.connectionsMax,
    acks: settings.acks ?? false,
  };
}
