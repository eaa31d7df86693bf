/**
 * Whoever reads the checkpoints of a bank while it works, from the files of all workers, as `tammar store show` reads them:
 * sometimes all at one moment, sometimes one piece after the other, while the workers go on writing.
 */
import type { Prng } from "../../base/prng.ts";
import { type Clock, type DirEntry, type Disk, DiskError, type DiskFile, type Millis } from "../../runtime/runtime.ts";
import { DECISION_FILE_BYTES_MAX, decisionNames, decodeDecision } from "../../store/decision_file.ts";
import { join, STATE_FOLDER } from "../../store/folders.ts";
import { readCheckpoint } from "../../store/state_log/read_checkpoint.ts";
import { type LogEnd, survey } from "../../store/state_log/survey.ts";
import { CREDIT_STAGE, DEBIT_STAGE } from "../bank.ts";
import type { Audit } from "../observation.ts";

/** What can be read of the disk of a machine. */
export interface ReadableDisk {
  paths(): string[];
  peek(path: string): Uint8Array | null;
}

/** The folder of a worker, the initializer's first. */
export interface AuditedFolder {
  readonly disk: ReadableDisk;
  readonly path: string;
}

/** From one reading to the next at first, and in the end: reading all of a log takes long. */
const PAUSE_MS_FIRST: Millis = 200;
const PAUSE_MS_MAX: Millis = 10_000;
const PAUSE_GROWTH = 1.2;
/** Checkpoints of one reading. */
const READ_MAX = 3;
/** From one piece to the next. */
const BETWEEN_MS_MAX: Millis = 1;

/** Reads again and again. `seen` gets each checkpoint that could be read from all folders. */
export async function audit(
  clock: Clock,
  prng: Prng,
  folders: readonly AuditedFolder[],
  seen: (audit: Omit<Audit, "timeMs">) => void,
  unreadable: () => void,
): Promise<void> {
  const wait = (ms: Millis): Promise<void> => new Promise((resolve) => void clock.startTimer(ms, resolve));
  for (let pauseMs = PAUSE_MS_FIRST; ; pauseMs = Math.min(PAUSE_MS_MAX, pauseMs * PAUSE_GROWTH)) {
    await wait(prng.between(1, pauseMs));
    const between = prng.chance(2) ? () => wait(prng.between(0, BETWEEN_MS_MAX)) : async () => {};
    try {
      for (const found of await readAll(folders, between)) seen(found);
    } catch {
      // What is read while it changes is not always whole; what is damaged is for others to judge.
      unreadable();
    }
  }
}

async function readAll(
  folders: readonly AuditedFolder[],
  between: () => Promise<void>,
): Promise<Omit<Audit, "timeMs">[]> {
  const disks = folders.map(({ disk }) => readOnly(disk, between));
  const [initializer] = folders;
  const [name] = await decisionNames(disks[0]!, initializer!.path);
  if (name === undefined) return [];
  const decided = decodeDecision(
    name,
    await disks[0]!.readFile(join(initializer!.path, name), DECISION_FILE_BYTES_MAX),
  );
  if (decided.kind !== "ok") return [];
  const states = folders.map(({ path }) => join(path, STATE_FOLDER));
  const ends: (readonly LogEnd[])[] = [];
  for (const [i, disk] of disks.entries()) ends.push((await survey(disk, states[i]!, null)).ends);
  const common = ends[0]!.filter(
    ({ epoch, generation }) =>
      epoch <= decided.decision.epoch &&
      ends.every((list) => list.some((end) => end.epoch === epoch && end.generation === generation)),
  );
  const audits: Omit<Audit, "timeMs">[] = [];
  for (const { epoch, generation } of common.slice(-READ_MAX)) {
    const found: Omit<Audit, "timeMs"> = { epoch, generation, debits: new Map(), credits: new Map(), twice: [] };
    let isThere = true;
    for (const [i, disk] of disks.entries()) {
      const own = { debits: new Map<string, unknown>(), credits: new Map<string, unknown>() };
      const of = (stage: string) => (stage === DEBIT_STAGE ? own.debits : stage === CREDIT_STAGE ? own.credits : null);
      const end = await readCheckpoint(disk, states[i]!, epoch, {
        entries: ({ id }, { count, keys, values }) => {
          for (let at = 0; at < count; at++) of(id)?.set(keys[at]!, values[at]);
        },
        removed: ({ id }, { count, keys }) => {
          for (let at = 0; at < count; at++) of(id)?.delete(keys[at]!);
        },
      });
      if (end === null || end.generation !== generation) isThere = false;
      for (const name of ["debits", "credits"] as const) {
        for (const [key, value] of own[name]) {
          if (found[name].has(key)) found.twice.push(key);
          found[name].set(key, value);
        }
      }
    }
    if (isThere) audits.push(found);
  }
  return audits;
}

/** A disk on which nothing can be changed, and whose user is no process of that machine. */
function readOnly(disk: ReadableDisk, between: () => Promise<void>): Disk {
  const missing = (path: string) => new DiskError("not_found", path, `Cannot read ${path}: it does not exist`);
  const peek = async (path: string): Promise<Uint8Array> => {
    await between();
    const bytes = disk.peek(path);
    if (bytes === null) throw missing(path);
    return bytes;
  };
  const refuse = (path: string): never => {
    throw new DiskError("read_only", path, `Cannot change ${path}: it is only read`);
  };
  return {
    readFile: async (path, lengthMax) => {
      const bytes = await peek(path);
      if (bytes.length > lengthMax) throw new DiskError("too_large", path, `Cannot read ${path}: it is too large`);
      return bytes;
    },
    open: async (path, mode) => (mode === "read" ? openFile(disk, path, await peek(path), between) : refuse(path)),
    list: async (path) => {
      await between();
      const inside = disk.paths().filter((each) => each.startsWith(`${path}/`) && each.length > path.length + 1);
      const names = inside.map((each) => each.slice(path.length + 1));
      return names
        .filter((name) => !/\/./.test(name))
        .map(
          (name): DirEntry =>
            name.endsWith("/") ? { name: name.slice(0, -1), kind: "folder" } : { name, kind: "file" },
        );
    },
    stat: async (path) => refuse(path),
    rename: async (from) => refuse(from),
    remove: async (path) => refuse(path),
    makeDir: async (path) => refuse(path),
    removeDir: async (path) => refuse(path),
    syncDir: async (path) => refuse(path),
    lock: async (path) => refuse(path),
  };
}

function openFile(disk: ReadableDisk, path: string, opened: Uint8Array, between: () => Promise<void>): DiskFile {
  const refuse = async (): Promise<never> => {
    throw new DiskError("read_only", path, `Cannot change ${path}: it is only read`);
  };
  /** As it is now; whoever has opened a file goes on reading it when it is removed. */
  const content = () => disk.peek(path) ?? opened;
  return {
    append: refuse,
    sync: refuse,
    truncate: refuse,
    readAt: async (offset, length) => {
      await between();
      return content().slice(offset, offset + length);
    },
    length: async () => content().length,
    close: async () => {},
  };
}
