/** What one checkpoint of a state log holds, read from outside: nothing is changed. */
import type { Epoch } from "../../base/ids.ts";
import { type Disk, DiskError, type DiskFile } from "../../runtime/runtime.ts";
import { damagedSegment, unreadableSegment } from "./log_errors.ts";
import { decodeEnd, decodeEntries, decodeStage, type Entries, RECORD, type StageNumber } from "./segment_format.ts";
import { type ReadRecord, SegmentReader } from "./segment_reader.ts";
import { isTakenBack, type LogEnd, survey } from "./survey.ts";

/** Takes what is read, in the order in which it was written: what comes later counts. */
export interface CheckpointReader {
  /** @param bytes Of these entries in the log. */
  entries(stage: StageNumber, entries: Entries, bytes: number): void;
  removed(stage: StageNumber, entries: Entries): void;
}

/**
 * Reads a checkpoint, everything in it.
 *
 * @param epoch `null`: the newest.
 * @returns `null`: it is not there.
 * @throws {SegmentError} Something that it needs is damaged, missing or makes no sense.
 */
export async function readCheckpoint(
  disk: Disk,
  folder: string,
  epoch: Epoch | null,
  to: CheckpointReader,
): Promise<LogEnd | null> {
  const { ends, segments } = await survey(disk, folder, null);
  const end = epoch === null ? ends.at(-1) : ends.find((candidate) => candidate.epoch === epoch);
  if (end === undefined) return null;
  for (const segment of segments) {
    const { number, path } = segment;
    if (number < end.base || number > end.segment || isTakenBack(segment)) continue;
    await readSegment(disk, path, number === end.segment ? end.offset : undefined, to);
  }
  return end;
}

async function readSegment(
  disk: Disk,
  path: string,
  lengthMax: number | undefined,
  to: CheckpointReader,
): Promise<void> {
  let file: DiskFile | null = null;
  let reader: SegmentReader | null = null;
  try {
    file = await disk.open(path, "read");
    reader = await SegmentReader.of(file, lengthMax);
    const start = await reader.header();
    if (start.kind !== "ok") throw damagedSegment(path, 0, "why" in start ? start.why : "it has another version");
    const stages = new Map<number, StageNumber>();
    for (;;) {
      const read = await reader.next();
      if (read.outcome === "end") return;
      if (read.outcome === "bad") throw damagedSegment(path, read.offset, read.why);
      try {
        take(read.record, stages, to);
      } catch (error) {
        throw damagedSegment(path, read.record.offset, `a record makes no sense: ${(error as Error).message}`);
      }
    }
  } catch (error) {
    if (error instanceof DiskError) throw unreadableSegment(path, reader?.offset ?? 0, error);
    throw error;
  } finally {
    await file?.close();
  }
}

function take(record: ReadRecord, stages: Map<number, StageNumber>, to: CheckpointReader): void {
  if (record.kind === RECORD.end) {
    decodeEnd(record.body);
    return;
  }
  if (record.kind === RECORD.stage) {
    const stage = decodeStage(record.body);
    stages.set(stage.number, stage);
    return;
  }
  const entries = decodeEntries(record.kind, record.body);
  const stage = stages.get(entries.stage);
  if (stage === undefined) throw new Error(`stage ${entries.stage} was not introduced`);
  if (record.kind === RECORD.entries) to.entries(stage, entries, record.body.length);
  else to.removed(stage, entries);
}
