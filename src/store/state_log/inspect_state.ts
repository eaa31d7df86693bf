/** What `tammar store` sees of a state log, from outside. Nothing is changed, and nothing that is wrong ends the looking. */
import type { Epoch, Generation } from "../../base/ids.ts";
import { type Disk, DiskError } from "../../runtime/runtime.ts";
import { SegmentError } from "./log_errors.ts";
import { readCheckpoint } from "./read_checkpoint.ts";
import { readAbout, type SavedStage } from "./saved_about.ts";
import { shownName } from "./state_folder.ts";
import {
  type FoundSegments,
  isTakenBack,
  judge,
  type LogEnd,
  neededSegments,
  type ReadSegment,
  readSegment,
  type Survey,
} from "./survey.ts";

export interface CheckpointReport {
  readonly epoch: Epoch;
  readonly generation: Generation;
  /** When it was written, in milliseconds since the Unix epoch. */
  readonly wallMs: number;
  readonly stages: readonly SavedStage[];
}

export interface SegmentReport {
  /** `state/...`, or of a file beside the folders of applications. */
  readonly name: string;
  readonly bytes: number;
  readonly outcome:
    | { readonly kind: "ok" | "unneeded" }
    | { readonly kind: "torn"; readonly offset: number; readonly why: string }
    | { readonly kind: "refused"; readonly why: string };
}

export interface StateReport {
  readonly files: readonly SegmentReport[];
  /** What can be restored; null: it cannot be told. */
  readonly checkpoints: readonly CheckpointReport[] | null;
}

/** @param contents Is what the newest checkpoint holds to be looked at too, not only its records? */
export async function inspectState(disk: Disk, folder: string, contents = false): Promise<StateReport> {
  let segments: FoundSegments;
  try {
    segments = await neededSegments(disk, folder);
  } catch (error) {
    if (error instanceof SegmentError) {
      const outcome = { kind: "refused", why: error.why } as const;
      return { files: [{ name: shownName(error.path), bytes: 0, outcome }], checkpoints: null };
    }
    if (!(error instanceof DiskError)) throw error;
    return { files: [], checkpoints: null };
  }
  const { run, before } = segments;
  const read: ReadSegment[] = [];
  const problems = new Map<string, string>();
  for (const { number, path } of run) {
    const sequenceBefore = read.at(-1)?.sequence ?? 0;
    try {
      read.push(await readSegment(disk, path, number, null, sequenceBefore));
    } catch (error) {
      if (!(error instanceof SegmentError)) throw error;
      problems.set(path, error.why);
    }
  }
  let found: Survey | null = null;
  if (problems.size === 0) {
    try {
      found = judge(folder, read, before);
      if (contents) await readCheckpoint(disk, folder, null, { entries: () => {}, removed: () => {} });
    } catch (error) {
      if (!(error instanceof SegmentError)) throw error;
      problems.set(error.path, error.why);
    }
  }
  const files: SegmentReport[] = [];
  for (const { path } of before) {
    const bytes = (await disk.stat(path))?.length ?? 0;
    files.push({ name: shownName(path), bytes, outcome: { kind: "unneeded" } });
  }
  for (const { path } of run) {
    const segment = read.find((candidate) => candidate.path === path);
    const why = problems.get(path);
    problems.delete(path);
    files.push({ name: shownName(path), bytes: segment?.length ?? 0, outcome: outcomeOf(why, segment) });
  }
  // One that is missing.
  for (const [path, why] of problems)
    files.push({ name: shownName(path), bytes: 0, outcome: { kind: "refused", why } });
  return { files, checkpoints: found?.ends.map(checkpointOf) ?? null };
}

function checkpointOf({ epoch, generation, wallMs, about }: LogEnd): CheckpointReport {
  return { epoch, generation, wallMs, stages: readAbout(about).stages };
}

function outcomeOf(why: string | undefined, segment: ReadSegment | undefined): SegmentReport["outcome"] {
  if (why !== undefined || segment === undefined) return { kind: "refused", why: why ?? "" };
  if (isTakenBack(segment)) return { kind: "unneeded" };
  return segment.bad === null ? { kind: "ok" } : { kind: "torn", offset: segment.bad.offset, why: segment.bad.why };
}
