/** What `tammar store` sees of a state log, from outside. Nothing is changed, and nothing that is wrong ends the looking. */
import type { Epoch, Generation } from "../../base/ids.ts";
import { type Disk, DiskError } from "../../runtime/runtime.ts";
import { baseOf } from "../folders.ts";
import { SegmentError } from "./log_errors.ts";
import { readCheckpoint } from "./read_checkpoint.ts";
import { readAbout, type SavedStage } from "./saved_about.ts";
import { listSegments, segmentName, segmentPath } from "./state_folder.ts";
import { judge, type LogEnd, newestRun, type ReadSegment, readSegment, type Survey } from "./survey.ts";

export interface CheckpointReport {
  readonly epoch: Epoch;
  readonly generation: Generation;
  /** When it was written, in milliseconds since the Unix epoch. */
  readonly wallMs: number;
  readonly stages: readonly SavedStage[];
}

export interface SegmentReport {
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
  let numbers: number[];
  try {
    numbers = await listSegments(disk, folder);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    return { files: [], checkpoints: null };
  }
  const { run, before } = newestRun(numbers);
  const read: ReadSegment[] = [];
  const problems = new Map<string, string>();
  for (const number of run) {
    const name = segmentName(number);
    try {
      const sequenceBefore = read.at(-1)?.sequence ?? 0;
      read.push(await readSegment(disk, segmentPath(folder, number), number, null, sequenceBefore));
    } catch (error) {
      if (!(error instanceof SegmentError)) throw error;
      problems.set(name, error.why);
    }
  }
  let found: Survey | null = null;
  if (problems.size === 0) {
    try {
      found = judge(folder, read, before);
      if (contents) await readCheckpoint(disk, folder, null, { entries: () => {}, removed: () => {} });
    } catch (error) {
      if (!(error instanceof SegmentError)) throw error;
      problems.set(baseOf(error.path), error.why);
    }
  }
  const files: SegmentReport[] = [];
  for (const number of before) {
    const name = segmentName(number);
    files.push({
      name,
      bytes: (await disk.stat(segmentPath(folder, number)))?.length ?? 0,
      outcome: { kind: "unneeded" },
    });
  }
  for (const number of run) {
    const name = segmentName(number);
    const segment = read.find((candidate) => candidate.number === number);
    const why = problems.get(name);
    problems.delete(name);
    files.push({
      name,
      bytes: segment?.length ?? 0,
      outcome:
        why !== undefined
          ? { kind: "refused", why }
          : segment!.bad !== null
            ? { kind: "torn", offset: segment!.bad.offset, why: segment!.bad.why }
            : { kind: "ok" },
    });
  }
  // One that is missing.
  for (const [name, why] of problems) files.push({ name, bytes: 0, outcome: { kind: "refused", why } });
  return { files, checkpoints: found?.ends.map(checkpointOf) ?? null };
}

function checkpointOf({ epoch, generation, wallMs, about }: LogEnd): CheckpointReport {
  return { epoch, generation, wallMs, stages: readAbout(about).stages };
}
