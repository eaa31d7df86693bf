/** What the state log says when it can't go on. */
import { EnvironmentError, ResilienceError } from "../../base/errors.ts";
import type { DiskError } from "../../runtime/runtime.ts";
import { baseOf, shellWord } from "../folders.ts";
import { workerFolderOf } from "./state_folder.ts";

/** A segment that is damaged where it must not be. */
export function damagedSegment(path: string, offset: number, why: string): SegmentError {
  return refused(
    "resilience_damaged",
    path,
    `the file is damaged at offset ${offset}: ${why}. It is part of the state of worker "${ownerOf(path)}"`,
  );
}

/** @param error From the disk, while reading `path`. */
export function unreadableSegment(path: string, offset: number, error: unknown): SegmentError {
  const why = error instanceof Error ? error.message : String(error);
  return refused(
    "resilience_unreadable",
    path,
    `it cannot be read from offset ${offset} on: ${why}. It is part of the state of worker "${ownerOf(path)}"`,
    error,
  );
}

export function refused(code: string, path: string, why: string, cause?: unknown): SegmentError {
  return new SegmentError(code, path, why, cause);
}

/** What is wrong with one segment. */
export class SegmentError extends ResilienceError {
  readonly path: string;
  /** Continues "it cannot be used: ". */
  readonly why: string;
  constructor(code: string, path: string, why: string, cause?: unknown) {
    const folder = workerFolderOf(path);
    super(
      code,
      `Cannot use ${path}: ${why}. Nothing was changed. To look at it: tammar store verify ${shellWord(folder)}; ` +
        `to give up what was saved there: tammar store clean ${shellWord(folder)}`,
      { cause },
    );
    this.path = path;
    this.why = why;
  }
}

export function environmentError(folder: string, error: DiskError): EnvironmentError {
  return new EnvironmentError(
    `resilience_${error.code}`,
    `Cannot use the state folder ${folder}: ${error.message}; see to that disk, or use another --resilience-dir`,
    { cause: error },
  );
}

/** `path` is that of a segment. */
function ownerOf(path: string): string {
  return baseOf(workerFolderOf(path));
}
