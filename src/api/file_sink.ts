import type { EncodedRecords } from "./tcp_sink.ts";

export interface FileSinkSettings<T> {
  /**
   * The folder; made if it is missing. Relative: to the folder that the worker was started in. Several workers may share
   * one, and each may have its own.
   */
  readonly directory: string;
  /** The bytes of one record, or text, which is written as UTF-8. Nothing is added: write the `\n` or the header yourself. */
  readonly encode: (value: T) => string | Uint8Array;
  /** Many records at once, as for `tcpSink`. */
  readonly encodeBatch?: (values: readonly T[]) => EncodedRecords;
  /** What the files' names end in, behind a dot: 1 to 16 letters, digits, dots. Default: `txt`. */
  readonly extension?: string;
  /** Part of the operator's id: needed when a pipeline has two file sinks. Default: `files`. */
  readonly name?: string;
}

/** A sink that writes files on the worker's machine. Made by `fileSink`. */
export interface FileSink<in T> {
  readonly kind: "file";
  readonly directory: string;
  readonly encode: (value: T) => string | Uint8Array;
  readonly encodeBatch: ((values: readonly T[]) => EncodedRecords) | undefined;
  readonly extension: string;
  readonly name: string;
}

/**
 * Records to files of a folder, exactly once: what a checkpoint covers becomes visible when the checkpoint is complete, in
 * whole records, under names that sort in the order of checkpoints. What is not visible yet has a name that begins with a dot.
 *
 * ```ts
 * stream.toSink(fileSink({ directory: options.output, encode: (total) => `${JSON.stringify(total)}\n`, extension: "ndjson" }))
 * ```
 */
export function fileSink<T>(settings: FileSinkSettings<T>): FileSink<T> {
  return {
    kind: "file",
    directory: settings.directory,
    encode: settings.encode,
    encodeBatch: settings.encodeBatch,
    extension: settings.extension ?? "txt",
    name: settings.name ?? "files",
  };
}
