import type { Framing, LineFraming } from "./framing.ts";
import type { Payload } from "./payload.ts";
import type { Frames } from "./tcp_source.ts";

/** Longest record that a file source takes unless it says otherwise: 16 MiB. */
export const FILE_RECORD_LENGTH_MAX = 16 * 1024 * 1024;

interface FileSourceCommon<T> {
  /** How the file is cut into records: `lines`, or `framed.u32` and its like. */
  readonly framing: Framing | LineFraming;
  /** One record to one value; `undefined` drops it. A throw costs this record only. */
  readonly decode: (payload: Payload) => T | undefined;
  /** Many records at once, as for `tcpSource`. */
  readonly decodeBatch?: (bytes: Uint8Array, frames: Frames) => readonly (T | undefined)[];
  /** Event time of a value, whole microseconds since the Unix epoch. Default: when it was read. */
  readonly eventTime?: (value: T) => number;
  /**
   * Longest record in bytes, 1 to 16,777,216 (the default). A longer line is left out, and said; a longer frame stops the
   * worker, since nothing behind it can be found.
   */
  readonly lengthMax?: number;
  /** Goes on at the end: waits for what is appended, and for new files of a folder. Default: false, it ends there. */
  readonly follow?: boolean;
  /** Records a second. 0 or left out: as fast as they are taken. */
  readonly rate?: number;
}

export type FileSourceSettings<T> = FileSourceCommon<T> &
  (
    | {
        /** The file. Relative: to the folder that the worker was started in. It may be another one on every worker. */
        readonly path: string;
        readonly directory?: undefined;
      }
    | {
        /** A folder: its files in the order of their names; those that begin with a dot are left alone. */
        readonly directory: string;
        readonly path?: undefined;
      }
  );

/** A source that reads files of the worker's machine. Made by `fileSource`. */
export interface FileSource<T> {
  readonly kind: "file";
  readonly place: { readonly kind: "directory" | "path"; readonly path: string };
  readonly framing: Framing | LineFraming;
  readonly decode: (payload: Payload) => T | undefined;
  readonly decodeBatch: ((bytes: Uint8Array, frames: Frames) => readonly (T | undefined)[]) | undefined;
  readonly eventTime: ((value: T) => number) | undefined;
  readonly lengthMax: number;
  readonly follow: boolean;
  /** Records a second; 0: unpaced. */
  readonly rate: number;
}

/**
 * Records from a file, or from all files of a folder. Its position is part of every checkpoint, so that a restarted worker
 * goes on where the last one stopped. A file whose name ends in `.gz` is decompressed.
 *
 * ```ts
 * source("transfers", fileSource({ path: options.input, framing: lines, decode: (line) => JSON.parse(line.text()) }))
 * ```
 */
export function fileSource<T>(settings: FileSourceSettings<T>): FileSource<T> {
  return {
    kind: "file",
    place:
      settings.directory === undefined
        ? { kind: "path", path: settings.path }
        : { kind: "directory", path: settings.path === undefined ? settings.directory : "" },
    framing: settings.framing,
    decode: settings.decode,
    decodeBatch: settings.decodeBatch,
    eventTime: settings.eventTime,
    lengthMax: settings.lengthMax ?? FILE_RECORD_LENGTH_MAX,
    follow: settings.follow ?? false,
    rate: settings.rate ?? 0,
  };
}
