// What `tammar store show`, `verify` and `clean` do: look at worker folders from outside.
//
//   I1. Looking changes nothing, but for taking a lock that exists for an instant to see whether somebody holds it.
//   I2. A folder is ours when its `LOCK` or its `cluster` file says so, and not by its place: resilience directories are
//       often `/tmp`, where programs of all kinds have files called LOCK.
//   I3. Symbolic links are never followed, and files of unknown names never touched.
//   I4. Rotated segments beside the folders belong to the folder of their worker, also when that is gone.

import { ConfigError, EnvironmentError, ResilienceError } from "../base/errors.ts";
import { type Epoch, WORKER_NAME } from "../base/ids.ts";
import { type DirEntry, type Disk, DiskError } from "../runtime/runtime.ts";
import { isDeadLettersName } from "./dead_letter_file.ts";
import { readDeadLetters } from "./dead_letters_read.ts";
import { DECISION_FILE_BYTES_MAX, type Decision, decisionNames, decodeDecision } from "./decision_file.ts";
import { decodeFolderName } from "./folder_name.ts";
import {
  baseOf,
  CLUSTER_FILE,
  isDecisionName,
  isKnown,
  isKnownFolder,
  isStrange,
  join,
  LOCK_FILE,
  NEW_SUFFIX,
  parentOf,
  REMOVING_FILE,
  STATE_FOLDER,
  STOPS_FILE,
} from "./folders.ts";
import { type Holder, isOurLock, readHolder } from "./holder.ts";
import { hasMagic } from "./record_file.ts";
import { emptyFolder } from "./remove_files.ts";
import { isResentName } from "./resent_file.ts";
import { CLUSTER_FILE_BYTES_MAX, decodeSavedCluster, type SavedCluster } from "./saved_cluster.ts";
import { type CheckpointReport, inspectState, type StateReport } from "./state_log/inspect_state.ts";
import { isRotated, listSegments, rotatedOwner } from "./state_log/state_folder.ts";
import { removeFolderIfEmpty } from "./store.ts";

export interface StoreReport {
  readonly directory: string;
  /** By path. */
  readonly workers: readonly WorkerFolder[];
  /** Folders that could not be looked into, with the reason, where they could be ours by their names. */
  readonly unreadable: readonly { readonly path: string; readonly why: string }[];
}

export interface WorkerFolder {
  readonly path: string;
  /** From the folder's name; null: it was moved. What the file says is in `saved`. */
  readonly application: string | null;
  readonly worker: string;
  readonly held: "held" | "free" | "cannot_tell";
  /** Who wrote that it holds the lock; only of meaning when `held`. */
  readonly holder: Holder | null;
  /** Null: nothing saved, or not readable (see `files`). */
  readonly saved: SavedCluster | null;
  /** Files of known names, the lock too; those of the state as `state/...`, or, in the resilience directory, `....evlog`. */
  readonly files: readonly FileReport[];
  /** The initializer's: which checkpoint exists. */
  readonly decision: Decision | null;
  /** Is there a folder of state? */
  readonly hasState: boolean;
  /** What can be restored, ascending; null: it was not looked at, or cannot be told (see `files`). */
  readonly checkpoints: readonly CheckpointReport[] | null;
  /** Its files of dead letters, by name. No removal takes them away unless it is told to. */
  readonly deadLetters: readonly DeadLettersReport[];
  /** Names in the folder that are not ours. */
  readonly unknown: readonly string[];
}

export interface DeadLettersReport extends FileReport {
  /** As many as could be read. */
  readonly letters: number;
}

export interface FileReport {
  readonly name: string;
  readonly bytes: number;
  readonly outcome:
    | { readonly kind: "ok" }
    /** Of a save that a crash cut off. Harmless: the next start removes it. */
    | { readonly kind: "unfinished" }
    /** What was written last was cut off; the next start takes it away. */
    | { readonly kind: "torn"; readonly offset: number; readonly why: string }
    /** A part of the state that nothing needs any more. */
    | { readonly kind: "unneeded" }
    /** Whole, but it does not fit to the other files. */
    | { readonly kind: "refused"; readonly why: string }
    | { readonly kind: "other_version"; readonly version: number }
    | { readonly kind: "damaged"; readonly offset: number; readonly why: string }
    | { readonly kind: "unreadable"; readonly why: string };
}

/** What `clean` means to do with one worker's folder. */
export interface CleanStep {
  readonly folder: WorkerFolder;
  readonly decision: "remove" | "held" | "cannot_tell" | "other_user" | "only_dead_letters";
  /** Dead letters go as well. */
  readonly withDeadLetters: boolean;
}

export interface CleanResult {
  readonly path: string;
  readonly outcome:
    | { readonly kind: "removed" }
    /** Our files are gone; these others keep the folder alive: dead letters, and what is not ours. */
    | { readonly kind: "removed_but"; readonly deadLetters: readonly string[]; readonly left: readonly string[] }
    | { readonly kind: "skipped"; readonly why: string };
}

/**
 * How much of the state is read. `checkpoints`: all records are there and whole; `contents`: and what the newest checkpoint
 * holds makes sense, each key and value.
 */
export type ReadState = "nothing" | "checkpoints" | "contents";

/** Looks at a state that its worker goes on writing: how often, until it has not changed meanwhile. */
const TRIES = 3;

/**
 * Looks at every worker's folder in a resilience directory. `directory` may also be the folder of one application or of one
 * worker. Reads every file back; those of the state as far as wanted.
 *
 * @throws {ConfigError} `no_such_directory`. @throws {EnvironmentError} It cannot be read.
 */
export async function inspectStore(
  disk: Disk,
  directory: string,
  readState: ReadState = "checkpoints",
): Promise<StoreReport> {
  const found = await disk.stat(directory);
  if (found?.kind !== "folder") {
    const is = found === null ? "there is no such folder" : "it is not a folder";
    throw new ConfigError(
      "no_such_directory",
      `Cannot look into ${directory}: ${is}; give the --resilience-dir of a worker`,
    );
  }
  const workers: WorkerFolder[] = [];
  const unreadable: { path: string; why: string }[] = [];
  const look = async (path: string): Promise<readonly DirEntry[]> => {
    try {
      return await disk.list(path);
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      if (error.code !== "not_found") unreadable.push({ path, why: error.message });
      return [];
    }
  };
  let entries: readonly DirEntry[];
  try {
    entries = await disk.list(directory);
  } catch (cause) {
    if (!(cause instanceof DiskError)) throw cause;
    throw new EnvironmentError(`store_${cause.code}`, `Cannot look into ${directory}: ${cause.message}`, { cause });
  }
  if (await isWorkerFolder(disk, directory, entries)) {
    workers.push(await inspectFolder(disk, directory, entries, readState));
    return { directory, workers: await withoutDecided(disk, workers, readState), unreadable };
  }
  if ((await rotatedFiles(disk, directory)).length > 0) {
    workers.push(await inspectFolder(disk, directory, entries, readState));
    return { directory, workers: await withoutDecided(disk, workers, readState), unreadable };
  }
  for (const entry of folders(entries)) {
    const path = join(directory, entry.name);
    const inside = await look(path);
    if (await isWorkerFolder(disk, path, inside)) {
      workers.push(await inspectFolder(disk, path, inside, readState));
      continue;
    }
    if (decodeFolderName(entry.name) === null) continue;
    for (const worker of folders(inside)) {
      if (!WORKER_NAME.test(worker.name)) continue;
      const workerPath = join(path, worker.name);
      const files = await look(workerPath);
      if (await isWorkerFolder(disk, workerPath, files)) {
        workers.push(await inspectFolder(disk, workerPath, files, readState));
      }
    }
  }
  for (const path of ownersOf(directory, entries)) {
    if (!workers.some((worker) => worker.path === path)) {
      workers.push(await inspectFolder(disk, path, await look(path), readState));
    }
  }
  return { directory, workers: await withoutDecided(disk, workers, readState), unreadable };
}

/**
 * A checkpoint that exists was durable at every worker: who has it no more has lost it, or has a damaged file. Where no folder of
 * the cluster's initializer is, nobody can tell. A running worker was not refused, so it has it.
 */
async function withoutDecided(
  disk: Disk,
  workers: readonly WorkerFolder[],
  readState: ReadState,
): Promise<readonly WorkerFolder[]> {
  if (readState === "nothing") return workers;
  const judged: WorkerFolder[] = [];
  for (const folder of workers) {
    const { saved, held } = folder;
    const initializer = workers.find((other) => other.decision !== null && other.saved?.clusterId === saved?.clusterId);
    const decided = saved === null || held !== "free" ? 0 : (initializer?.decision?.epoch ?? 0);
    judged.push(decided === 0 ? folder : await lacking(disk, folder, decided, readState));
  }
  return judged;
}

async function lacking(disk: Disk, folder: WorkerFolder, decided: Epoch, readState: ReadState): Promise<WorkerFolder> {
  const has = ({ checkpoints }: WorkerFolder) => checkpoints?.some(({ epoch }) => epoch === decided) === true;
  if (folder.files.some(isBad) || has(folder)) return folder;
  // It may have been started, and have left, since it was looked at.
  const now = await inspectFolder(disk, folder.path, await disk.list(folder.path), readState);
  if (now.held !== "free" || now.files.some(isBad) || has(now)) return now;
  const is = `checkpoint ${decided}, which exists and was whole here, is not in it`;
  const torn = now.files.find(({ outcome }) => outcome.kind === "torn");
  const newest = now.files.findLast(({ name }) => name.startsWith(`${STATE_FOLDER}/`) || isRotated(name));
  const bad: FileReport =
    torn?.outcome.kind === "torn"
      ? { ...torn, outcome: { ...torn.outcome, kind: "damaged", why: `${torn.outcome.why}, and ${is}` } }
      : {
          name: newest?.name ?? STATE_FOLDER,
          bytes: newest?.bytes ?? 0,
          outcome: { kind: "refused", why: `${is}: it was cut short, or these files are an old copy` },
        };
  return { ...now, files: [...now.files.filter(({ name }) => name !== bad.name), bad] };
}

function isBad({ outcome }: FileReport): boolean {
  return !["ok", "unfinished", "torn", "unneeded"].includes(outcome.kind);
}

/** I4. The folders that rotated segments in this directory belong to. */
function ownersOf(directory: string, entries: readonly DirEntry[]): ReadonlySet<string> {
  const paths = new Set<string>();
  for (const { name, kind } of entries) {
    const owner = kind === "file" ? rotatedOwner(name) : null;
    if (owner !== null && WORKER_NAME.test(owner.worker)) {
      paths.add(join(join(directory, owner.application), owner.worker));
    }
  }
  return paths;
}

/** Of a worker; empty where its folder's place in the tree says that there are none. */
async function rotatedFiles(disk: Disk, workerFolder: string): Promise<readonly string[]> {
  try {
    const files = await listSegments(disk, join(workerFolder, STATE_FOLDER));
    return files.map(({ path }) => path).filter(isRotated);
  } catch (error) {
    if (error instanceof DiskError) return [];
    throw error;
  }
}

/** How many files did not read back as what was written. */
export function damagedFiles(report: StoreReport): number {
  return report.workers.reduce(
    (sum, { files, deadLetters }) => sum + [...files, ...deadLetters].filter(isBad).length,
    0,
  );
}

/** What `clean` would do; changes nothing. Dead letters stay unless they are asked for. */
export async function planClean(disk: Disk, directory: string, withDeadLetters = false): Promise<CleanStep[]> {
  const report = await inspectStore(disk, directory, "nothing");
  const steps: CleanStep[] = [];
  for (const folder of report.workers) {
    // I4. Without its folder, its segments say whose it is.
    const [segment] = await rotatedFiles(disk, folder.path);
    const found = (await disk.stat(folder.path)) ?? (segment === undefined ? null : await disk.stat(segment));
    const ours = found?.ownedByUs ?? false;
    const isEmptyOtherwise = folder.files.length === 0 && !folder.hasState && segment === undefined;
    const isAsked = folder.deadLetters.length === 0 || withDeadLetters;
    const removal = isEmptyOtherwise && !isAsked ? "only_dead_letters" : "remove";
    const decision = !ours ? "other_user" : folder.held === "free" ? removal : folder.held;
    steps.push({ folder, decision, withDeadLetters });
  }
  return steps;
}

/**
 * Removes what the plan says, each folder under its lock and after a second look. To be called once a person (or `--yes`)
 * has agreed to the plan.
 *
 * @throws {ResilienceError} `clean_failed`: the disk refuses. What was removed before stays removed.
 */
export async function carryOutClean(disk: Disk, plan: readonly CleanStep[]): Promise<CleanResult[]> {
  const results: CleanResult[] = [];
  for (const step of plan) {
    const { path } = step.folder;
    try {
      results.push({ path, outcome: await cleanFolder(disk, step) });
    } catch (cause) {
      if (!(cause instanceof DiskError)) throw cause;
      throw new ResilienceError("clean_failed", `Cannot clean ${path}: ${cause.message}`, { cause });
    }
  }
  return results;
}

async function cleanFolder(disk: Disk, step: CleanStep): Promise<CleanResult["outcome"]> {
  const { path } = step.folder;
  switch (step.decision) {
    case "held":
      return { kind: "skipped", why: "a worker is running there" };
    case "cannot_tell":
      return { kind: "skipped", why: "whether a worker is running there cannot be told" };
    case "other_user":
      return { kind: "skipped", why: "it belongs to another user; clean it as that user" };
    case "only_dead_letters":
      return { kind: "skipped", why: "it has nothing but dead letters" };
    case "remove":
      break;
  }
  if ((await rotatedFiles(disk, path)).length > 0) await disk.makeDir(path);
  const still = await disk.stat(path);
  const linked = (await disk.list(parentOf(path))).some(
    (entry) => entry.name === baseOf(path) && entry.kind !== "folder",
  );
  if (still === null || linked || !still.ownedByUs)
    return { kind: "skipped", why: "it is not what it was a moment ago" };
  const entries = await disk.list(path);
  if (entries.some(isStrange)) {
    return { kind: "skipped", why: "one of its files is a symbolic link or no plain file" };
  }
  const lock = await disk.lock(join(path, LOCK_FILE));
  if (lock === null) return { kind: "skipped", why: "a worker has started there in the meantime" };
  const isOfLetters = (entry: DirEntry) => isDeadLetters(entry) || isResent(entry);
  const also = step.withDeadLetters ? entries.filter(isOfLetters).map(({ name }) => name) : [];
  const left = await emptyFolder(disk, path, lock, also);
  if (!(await removeFolderIfEmpty(disk, path))) {
    const letters = left.filter((name) => isDeadLettersName(name) || isResentName(name));
    return { kind: "removed_but", deadLetters: letters, left: left.filter((name) => !letters.includes(name)) };
  }
  const above = parentOf(path);
  const folder = await disk.stat(above);
  const isApplication = decodeFolderName(baseOf(above)) !== null && folder?.ownedByUs === true && folder.mode === 0o700;
  if (isApplication) await removeFolderIfEmpty(disk, above);
  return { kind: "removed" };
}

async function isWorkerFolder(disk: Disk, path: string, entries: readonly DirEntry[]): Promise<boolean> {
  const has = (name: string) => entries.some((entry) => entry.name === name && entry.kind === "file");
  if (has(LOCK_FILE) && (await isOurLock(disk, join(path, LOCK_FILE)))) return true;
  // All that a shutdown leaves.
  for (const entry of entries) {
    if (!isDeadLetters(entry)) continue;
    const { outcome } = await inspectDeadLetters(disk, path, entry.name);
    if (outcome.kind === "ok" || ("offset" in outcome && outcome.offset > 0)) return true;
  }
  if (!has(CLUSTER_FILE)) return false;
  try {
    return hasMagic(await disk.readFile(join(path, CLUSTER_FILE), CLUSTER_FILE_BYTES_MAX));
  } catch (error) {
    if (error instanceof DiskError) return false;
    throw error;
  }
}

async function inspectFolder(
  disk: Disk,
  path: string,
  entries: readonly DirEntry[],
  readState: ReadState,
): Promise<WorkerFolder> {
  const files: FileReport[] = [];
  let saved: SavedCluster | null = null;
  let decision: Decision | null = null;
  let checkpoints: readonly CheckpointReport[] | null = null;
  const deadLetters: DeadLettersReport[] = [];
  for (const entry of entries) {
    if (isDeadLetters(entry)) deadLetters.push(await inspectDeadLetters(disk, path, entry.name));
    if (!isKnown(entry)) continue;
    if (entry.kind === "folder" || isDecisionName(entry.name)) continue;
    const read = await inspectFile(disk, join(path, entry.name), entry.name);
    if (read === null) continue;
    files.push(read.report);
    saved ??= read.saved;
  }
  for (const read of await inspectDecisions(disk, path)) {
    files.push(read.report);
    decision ??= read.decision;
  }
  if (readState !== "nothing") {
    const state = await inspectStateOf(disk, join(path, STATE_FOLDER), path, readState);
    files.push(...state.files);
    if (state.files.length > 0 || entries.some(isKnownFolder)) checkpoints = state.checkpoints;
  }
  const lockPath = join(path, LOCK_FILE);
  const hasLock = files.some((file) => file.name === LOCK_FILE);
  return {
    path,
    application: decodeFolderName(baseOf(parentOf(path))),
    worker: baseOf(path),
    held: hasLock ? await isHeld(disk, lockPath) : "free",
    holder: hasLock ? await readHolder(disk, lockPath) : null,
    saved,
    decision,
    checkpoints,
    hasState: entries.some(isKnownFolder),
    files,
    deadLetters,
    unknown: entries
      .filter((entry) => !isKnown(entry) && !isDeadLetters(entry) && !isResent(entry))
      .map((entry) => entry.name),
  };
}

async function inspectStateOf(
  disk: Disk,
  folder: string,
  workerPath: string,
  readState: ReadState,
): Promise<StateReport> {
  for (let left = TRIES - 1; ; left--) {
    const state = await inspectState(disk, folder, readState === "contents");
    const isFine = !state.files.some(({ outcome }) => outcome.kind === "refused");
    if (isFine || left === 0 || (await isHeld(disk, join(workerPath, LOCK_FILE))) !== "held") return state;
  }
}

/** There is one at most; a running worker gives it a new name again and again. */
async function inspectDecisions(disk: Disk, folder: string): Promise<readonly InspectedFile[]> {
  for (let left = TRIES - 1; ; left--) {
    const found: InspectedFile[] = [];
    let names: readonly string[] = [];
    try {
      names = await decisionNames(disk, folder);
    } catch (error) {
      // Without its folder: I4.
      if (!(error instanceof DiskError)) throw error;
    }
    for (const name of names) {
      const read = await inspectFile(disk, join(folder, name), name);
      if (read !== null) found.push(read);
    }
    if (names.length === 0 || (names.length === 1 && found.length === 1)) return found;
    if (left > 0) continue;
    const why = "only one of these can say which checkpoint exists: the others are of an old copy";
    return found.map(({ report }) => ({
      report: { ...report, outcome: { kind: "refused", why } },
      saved: null,
      decision: null,
    }));
  }
}

interface InspectedFile {
  readonly report: FileReport;
  readonly saved: SavedCluster | null;
  readonly decision: Decision | null;
}

async function inspectFile(disk: Disk, path: string, name: string): Promise<InspectedFile | null> {
  let bytes = 0;
  const reported = (outcome: FileReport["outcome"], saved: SavedCluster | null, decision: Decision | null) => ({
    report: { name, bytes, outcome },
    saved,
    decision,
  });
  try {
    const stat = await disk.stat(path);
    if (stat === null) return null;
    bytes = stat.length;
    if (name.endsWith(NEW_SUFFIX) || name === REMOVING_FILE) return reported({ kind: "unfinished" }, null, null);
    if (name === LOCK_FILE || name === STOPS_FILE) return reported({ kind: "ok" }, null, null);
    if (isDecisionName(name)) {
      const outcome = decodeDecision(name, await disk.readFile(path, DECISION_FILE_BYTES_MAX));
      if (outcome.kind === "ok") return reported({ kind: "ok" }, null, outcome.decision);
      return reported(outcome, null, null);
    }
    const outcome = decodeSavedCluster(await disk.readFile(path, CLUSTER_FILE_BYTES_MAX));
    if (outcome.kind === "ok") return reported({ kind: "ok" }, outcome.saved, null);
    return reported(outcome, null, null);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    if (error.code === "not_found") return null;
    return reported({ kind: "unreadable", why: error.message }, null, null);
  }
}

function isDeadLetters(entry: DirEntry): boolean {
  return entry.kind === "file" && isDeadLettersName(entry.name);
}

/** Which of them were let in again. */
function isResent(entry: DirEntry): boolean {
  return entry.kind === "file" && isResentName(entry.name);
}

async function inspectDeadLetters(disk: Disk, folder: string, name: string): Promise<DeadLettersReport> {
  const path = join(folder, name);
  let letters = 0;
  let bytes = 0;
  try {
    bytes = (await disk.stat(path))?.length ?? 0;
    const bad = await readDeadLetters(disk, path, async () => {
      letters++;
    });
    return { name, bytes, letters, outcome: bad ?? { kind: "ok" } };
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    return { name, bytes, letters, outcome: { kind: "unreadable", why: error.message } };
  }
}

async function isHeld(disk: Disk, lockPath: string): Promise<"held" | "free" | "cannot_tell"> {
  try {
    const lock = await disk.lock(lockPath);
    if (lock === null) return "held";
    await lock.release();
    return "free";
  } catch (error) {
    if (error instanceof DiskError) return "cannot_tell";
    throw error;
  }
}

function folders(entries: readonly DirEntry[]): DirEntry[] {
  return entries.filter((entry) => entry.kind === "folder");
}
