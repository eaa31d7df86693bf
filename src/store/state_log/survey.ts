// What there is in the folder of a state log, found by reading all of it; nothing is changed.
//
//   V1. Only the newest segment may end in what cannot be read: the next one is begun after everything before is durable.
//   V2. In the newest one, what cannot be read is a torn tail, unless some record behind it tells that it was durable
//       when that one was written: then it is damage, and refused. So it is when that cannot be told.
//   V3. What the last end needs must be there, from its base on. Segments before that are leftovers, whatever is in them.
//   V4. A segment without a byte counts as not there: what was in it was taken back, or a power cut kept only its name. If it
//       had something, the chain has a hole, as with one that is missing.

import type { Epoch, Generation } from "../../base/ids.ts";
import { type Disk, DiskError, type DiskFile } from "../../runtime/runtime.ts";
import { baseOf } from "../folders.ts";
import { wellFormed } from "../saved_cluster.ts";
import { damagedSegment, refused, type SegmentError, unreadableSegment } from "./log_errors.ts";
import { decodeEnd, RECORD, type SegmentHeader } from "./segment_format.ts";
import { type ReadRecord, SegmentReader } from "./segment_reader.ts";
import { isRotated, listSegments, rotatedPath, type SegmentFile, segmentPath, shownName } from "./state_folder.ts";

/** An epoch that is complete. */
export interface LogEnd {
  readonly epoch: Epoch;
  readonly generation: Generation;
  readonly segment: number;
  /** Where in the segment it ends. */
  readonly offset: number;
  readonly sequence: number;
  readonly checksum: number;
  /** The first segment that is needed to restore it. */
  readonly base: number;
  readonly wallMs: number;
  readonly about: unknown;
}

export interface LogIdentity {
  readonly clusterId: string;
  readonly application: string;
  readonly worker: string;
}

export interface Survey {
  /** Segments that belong together, ascending; those that were taken back have no byte. */
  readonly segments: readonly (SegmentFile & { readonly length: number })[];
  /** What can be restored, ascending by epoch. */
  readonly ends: readonly LogEnd[];
  /** The highest epoch that anything was written of. */
  readonly written: Epoch;
  /** What was not known to be durable and is not whole, at the end of the newest segment. */
  readonly torn: TornTail | null;
  /** Segments that nothing needs. */
  readonly leftovers: readonly SegmentFile[];
}

export interface TornTail {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
  readonly why: string;
  /** Epochs whose end is whole, but behind what is not. */
  readonly lostEpochs: readonly Epoch[];
}

export interface ReadSegment {
  readonly number: number;
  readonly path: string;
  readonly length: number;
  readonly header: SegmentHeader | null;
  readonly ends: readonly LogEnd[];
  readonly written: Epoch;
  /** Of the last whole record in order, or of what the header says is before. */
  readonly sequence: number;
  readonly checksum: number;
  readonly bad: {
    readonly offset: number;
    readonly why: string;
    readonly wasDurable: "yes" | "no" | "cannot_tell";
  } | null;
  readonly lostEpochs: readonly Epoch[];
}

/** @throws {ResilienceError} Damaged, incomplete, unreadable, of another version, or another's. */
export async function survey(disk: Disk, folder: string, identity: LogIdentity | null): Promise<Survey> {
  const { run, before } = await neededSegments(disk, folder);
  const read: ReadSegment[] = [];
  for (const { number, path } of run) {
    read.push(await readSegment(disk, path, number, identity, read.at(-1)?.sequence ?? 0));
  }
  return judge(folder, read, before);
}

/** Segments in a row up to the newest, from the first that may be needed on, and those before, which nothing needs. */
export interface FoundSegments {
  readonly run: readonly SegmentFile[];
  readonly before: readonly SegmentFile[];
}

/** @throws {SegmentError} Two of the same number. */
export async function neededSegments(disk: Disk, folder: string): Promise<FoundSegments> {
  const files = await listSegments(disk, folder);
  let first = Math.max(0, files.length - 1);
  for (; first > 0 && files[first - 1]!.number >= files[first]!.number - 1; first--) {
    const [one, other] = [files[first - 1]!, files[first]!];
    if (one.number === other.number) {
      const why = `${shownName(other.path)} has the same number: one of the two is an old copy`;
      throw refused("resilience_damaged", one.path, why);
    }
  }
  // Where segments are not kept, what is not needed has gone.
  const needed = files.some(({ path }) => isRotated(path)) ? await firstNeeded(disk, files.slice(first)) : 1;
  while (first < files.length && files[first]!.number < needed) first++;
  return { run: files.slice(first), before: files.slice(0, first) };
}

/** As the newest whole header says; what cannot be read is for whoever reads all of it. */
async function firstNeeded(disk: Disk, run: readonly SegmentFile[]): Promise<number> {
  for (const { number, path } of run.toReversed()) {
    let file: DiskFile | null = null;
    try {
      file = await disk.open(path, "read");
      const start = await (await SegmentReader.of(file)).header();
      if (start.kind === "ok" && start.header.number === number) return start.header.base;
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
    } finally {
      await file?.close();
    }
  }
  return 1;
}

/** What the segments of a run are worth together. @throws {SegmentError} */
export function judge(folder: string, all: readonly ReadSegment[], before: readonly SegmentFile[]): Survey {
  const segments = all.map(({ number, path, length }) => ({ number, path, length }));
  const run = all.filter((segment) => !isTakenBack(segment));
  const newest = run.at(-1);
  if (newest === undefined) return { segments, ends: [], written: 0, torn: null, leftovers: before };
  const last = run.findLast((segment) => segment.ends.length > 0)?.ends.at(-1);
  const oldest = run[0]!;
  const needed = last?.base ?? oldest.header?.base ?? 1;
  if (oldest.number > needed) throw missing(folder, oldest, needed);
  let previous: ReadSegment | null = null;
  let usableFrom = oldest.number;
  for (const segment of run) {
    const fault = faultOf(segment, segment === newest);
    if (fault !== null && segment.number >= needed) throw damagedSegment(segment.path, fault.offset, fault.why);
    if (fault !== null) usableFrom = segment.number + 1;
    else if (previous !== null && !continues(segment, previous)) {
      const hole = segment.number - previous.number > 1 ? " and what was between the two is gone, or" : "";
      const why = `it does not continue ${shownName(previous.path)}:${hole} one of the two is an old copy`;
      if (segment.number > needed) throw damagedSegment(segment.path, 0, why);
      usableFrom = segment.number;
    }
    previous = fault === null ? segment : null;
  }
  const { bad } = newest;
  return {
    segments,
    ends: run.flatMap((segment) => segment.ends).filter((end) => end.base >= usableFrom),
    written: Math.max(...run.map((segment) => segment.written)),
    torn:
      bad === null
        ? null
        : {
            path: newest.path,
            offset: bad.offset,
            bytes: newest.length - bad.offset,
            why: bad.why,
            lostEpochs: newest.lostEpochs,
          },
    leftovers: before,
  };
}

/** V4. */
export function isTakenBack({ length }: { readonly length: number }): boolean {
  return length === 0;
}

/** What is wrong with a segment that cannot be excused by a power cut. */
function faultOf({ bad }: ReadSegment, isNewest: boolean): { offset: number; why: string } | null {
  if (bad === null || (isNewest && bad.wasDurable === "no")) return null;
  const proof = !isNewest
    ? "there are later segments"
    : bad.wasDurable === "yes"
      ? "what was written later says that it was whole"
      : "too much behind it looks like records to tell whether any of them is whole";
  return { offset: bad.offset, why: `${bad.why}, and ${proof}` };
}

function continues({ header }: ReadSegment, previous: ReadSegment): boolean {
  if (header === null) return true;
  return header.previousSequence === previous.sequence && header.previousChecksum === previous.checksum;
}

/** What is missing was called like what is there, as far as can be told. */
function missing(folder: string, oldest: SegmentFile, from: number): SegmentError {
  const path = (number: number) => (isRotated(oldest.path) ? rotatedPath : segmentPath)(folder, number);
  const to = oldest.number - 1;
  const names = from === to ? baseOf(path(from)) : `${baseOf(path(from))} to ${baseOf(path(to))}`;
  return refused(
    "resilience_incomplete",
    path(from),
    `it is missing: ${names} ${from === to ? "holds" : "hold"} state that the last checkpoint needs`,
  );
}

/** @throws {SegmentError} Unreadable, of another version, another's, or not what its name says. */
export async function readSegment(
  disk: Disk,
  path: string,
  number: number,
  identity: LogIdentity | null,
  sequenceBefore: number,
): Promise<ReadSegment> {
  let file: DiskFile | null = null;
  let reader: SegmentReader | null = null;
  try {
    file = await disk.open(path, "read");
    reader = await SegmentReader.of(file);
    return await readRecords(reader, path, number, identity, sequenceBefore);
  } catch (error) {
    if (error instanceof DiskError) throw unreadableSegment(path, reader?.offset ?? 0, error);
    throw error;
  } finally {
    await file?.close();
  }
}

async function readRecords(
  reader: SegmentReader,
  path: string,
  number: number,
  identity: LogIdentity | null,
  sequenceBefore: number,
): Promise<ReadSegment> {
  const ends: LogEnd[] = [];
  const lostEpochs: Epoch[] = [];
  let written = 0;
  let bad: ReadSegment["bad"] = null;
  const start = await reader.header();
  let header: SegmentHeader | null = null;
  if (start.kind === "other_version") {
    const reads = "and this tammar reads version 1; use the tammar that wrote it";
    throw refused("resilience_version", path, `it has format version ${start.version}, ${reads}`);
  }
  if (start.kind === "ok") {
    header = start.header;
    if (identity !== null) checkIdentity(path, header, identity);
    if (header.number !== number) throw damagedSegment(path, 0, `it is a copy of segment ${header.number}`);
  } else bad = { offset: 0, why: start.why, wasDurable: "no" };
  let sequence = header?.previousSequence ?? sequenceBefore;
  let checksum = header?.previousChecksum ?? 0;
  while (bad === null) {
    const read = await reader.next();
    if (read.outcome === "end") break;
    if (read.outcome === "bad") {
      bad = { offset: read.offset, why: read.why, wasDurable: "no" };
      break;
    }
    const { record } = read;
    if (record.sequence !== sequence + 1) {
      const why = `record ${record.sequence} stands where record ${sequence + 1} belongs`;
      bad = { offset: record.offset, why, wasDurable: "yes" };
      break;
    }
    sequence = record.sequence;
    checksum = record.checksum;
    written = Math.max(written, record.epoch);
    if (record.kind === RECORD.end) ends.push(endOf(path, number, record));
  }
  if (bad !== null) {
    // A torn tail may hold whole records too: a power cut keeps what it likes of what was not durable.
    for (let found = await reader.resync(); found !== null; found = await reader.resync()) {
      if (found === "cannot_tell") {
        bad = { ...bad, wasDurable: "cannot_tell" };
        break;
      }
      reader.offset = found.end - 1;
      written = Math.max(written, found.epoch);
      if (found.kind === RECORD.end) lostEpochs.push(found.epoch);
      if (found.securedSequence <= sequence) continue;
      bad = { ...bad, wasDurable: "yes" };
      break;
    }
  }
  return { number, path, length: reader.length, header, ends, written, sequence, checksum, bad, lostEpochs };
}

function checkIdentity(path: string, header: SegmentHeader, wanted: LogIdentity): void {
  const fits =
    header.clusterId === wanted.clusterId &&
    header.application === wellFormed(wanted.application) &&
    header.worker === wanted.worker;
  if (fits) return;
  const show = (of: LogIdentity) =>
    `worker "${of.worker}" of ${JSON.stringify(of.application)}, cluster ${of.clusterId}`;
  throw refused("resilience_foreign", path, `it was written by ${show(header)}, and this is ${show(wanted)}`);
}

/** @throws {ResilienceError} */
function endOf(path: string, segment: number, record: ReadRecord): LogEnd {
  try {
    const { fields } = decodeEnd(record.body);
    return {
      epoch: record.epoch,
      generation: fields.generation,
      segment,
      offset: record.end,
      sequence: record.sequence,
      checksum: record.checksum,
      base: fields.base,
      wallMs: fields.wallMs,
      about: fields.about,
    };
  } catch (error) {
    throw damagedSegment(path, record.offset, `the end of an epoch makes no sense: ${(error as Error).message}`);
  }
}
