/** Bytes of many records, and where each ends. */
export interface EncodedRecords {
  readonly bytes: Uint8Array;
  /** `ends[i]`: the byte behind record `i`; ascending, the last one is `bytes.length`. */
  readonly ends: Uint32Array;
}

export interface TcpSinkSettings<T> {
  /** The bytes of one record, or text, which is sent as UTF-8. Nothing is added: write the `\n` or the header yourself. */
  readonly encode: (value: T) => string | Uint8Array;
  /** Many records at once, the same bytes as `encode` gives; when it throws, the batch goes through `encode`. */
  readonly encodeBatch?: (values: readonly T[]) => EncodedRecords;
  /** Which entry of `--out`, from 0. Default: the place of this sink among the TCP sinks of the application. */
  readonly output?: number;
}

/** A sink that connects to an address of `--out`. Made by `tcpSink`. */
export interface TcpSink<in T> {
  readonly kind: "tcp";
  readonly encode: (value: T) => string | Uint8Array;
  readonly encodeBatch: ((values: readonly T[]) => EncodedRecords) | undefined;
  readonly output: number | undefined;
}

/**
 * Records to a TCP connection. Addresses are the operator's: `--out HOST:PORT,HOST:PORT`, by position.
 *
 * ```ts
 * stream.toSink(tcpSink({ encode: (count) => `${count.word} => ${count.times}\n` }))
 * ```
 */
export function tcpSink<T>(settings: TcpSinkSettings<T>): TcpSink<T> {
  return { kind: "tcp", encode: settings.encode, encodeBatch: settings.encodeBatch, output: settings.output };
}
