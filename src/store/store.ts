// The resilience folder of one worker: `<resilience-dir>/<application>/<worker>/`, and the segments of its state log that lie
// beside it, in the resilience directory itself (`state_log/state_folder.ts`): they belong to the folder, and to its lock.
//
//   S1. At most one process uses a folder: it holds the lock on `LOCK` from `openStore` to `close` or `removeAll`.
//   S2. What is refused stays as it was: nothing is written or removed before everything was looked at.
//   S3. A saved record is durable when `save` resolves; a crash at any moment leaves the old record or the new one.
//   S4. Only files of known names are removed, and folders only when they are empty.
//   S5. What was saved as `forming` counts as nothing saved; what a removal that was cut off has left, too.
//   S6. State without the cluster information that it belongs to is refused: something was lost.

import { assert } from "../base/assert.ts";
import { ConfigError, EnvironmentError, ResilienceError, StorageError } from "../base/errors.ts";
import type { WorkerName } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import { type Clock, type Disk, DiskError, type Lock } from "../runtime/runtime.ts";
import { FOLDER_NAME_BYTES_MAX } from "./folder_name.ts";
import {
  baseOf,
  CLUSTER_FILE,
  isDecisionName,
  isStrange,
  join,
  LOCK_FILE,
  NEW_SUFFIX,
  parentOf,
  REMOVING_FILE,
  STATE_FOLDER,
  type StorePaths,
  shellWord,
  storePaths,
} from "./folders.ts";
import { readHolder, writeHolder } from "./holder.ts";
import { emptyFolder, mark, removeKnown } from "./remove_files.ts";
import { removeIfThere, replaceFile } from "./replace_file.ts";
import {
  CLUSTER_FILE_BYTES_MAX,
  decodeSavedCluster,
  encodeSavedCluster,
  type SavedCluster,
  wellFormed,
} from "./saved_cluster.ts";
import { isRotated, listSegments, rotatedName, rotatedOf, shownName } from "./state_log/state_folder.ts";

export interface StoreOptions {
  readonly disk: Disk;
  /** Waits a moment for a lock that is held; `tammar store show` takes it for an instant. */
  readonly clock: Clock;
  /** Told to a second process that wants the folder. */
  readonly pid: number;
  /** `--resilience-dir`, absolute. Made if it is missing. */
  readonly directory: string;
  /** The application's name as its author gave it. */
  readonly application: string;
  readonly worker: WorkerName;
  /** The state log's segments are to lie in `directory`: their names must be possible. Default false. */
  readonly rotates?: boolean;
}

const LINK = "it is a symbolic link or a device, not a folder";
const NO_FOLDER = "it is not a folder";
const LOCK_TRIES = 6;
const LOCK_RETRY_MS = 50;
/** A clean shutdown beside us may remove the folder between making it and locking in it. */
const FOLDER_TRIES = 20;

/**
 * Takes a worker's folder into use and reads what an earlier start saved there.
 *
 * @throws {ResilienceError} The folder is in use, unsafe, damaged, of another version, or another's. Nothing was touched.
 * @throws {EnvironmentError} No permission, no space, a disk that fails.
 * @throws {ConfigError} The application's name is too long for a folder name.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const paths = storePaths(options.directory, options.application, options.worker);
  if (options.rotates === true) checkRotatedName(options, paths);
  try {
    return await open(options, paths);
  } catch (error) {
    if (error instanceof DiskError) throw environmentError(paths, error);
    throw error;
  }
}

export class Store {
  /** This worker's folder. */
  readonly folder: string;
  /** What an earlier start left as `formed` or `stopping`; null: a first start. Does not change. */
  readonly saved: SavedCluster | null;
  readonly #disk: Disk;
  readonly #paths: StorePaths;
  readonly #madeDirectory: boolean;
  readonly #options: StoreOptions;
  #lock: Lock | null;
  #saving = false;
  /** A cluster is saved here that others may have saved too. */
  #holdsCluster: boolean;
  #removing = false;

  /** Use {@link openStore}. */
  constructor(
    options: StoreOptions,
    paths: StorePaths,
    lock: Lock,
    found: { saved: SavedCluster | null; madeDirectory: boolean },
  ) {
    this.#options = options;
    this.#disk = options.disk;
    this.#paths = paths;
    this.#lock = lock;
    this.#madeDirectory = found.madeDirectory;
    this.folder = paths.workerFolder;
    this.saved = found.saved;
    this.#holdsCluster = found.saved !== null;
  }

  /**
   * Replaces the saved cluster information; durable when it resolves. One call at a time.
   *
   * @throws {StorageError} `save_failed`. The old record or the new one is there.
   */
  async save(saved: SavedCluster): Promise<void> {
    assert(this.#lock !== null, "saved to a store that was closed");
    assert(!this.#saving, "two saves at the same time");
    assert(saved.application === this.#options.application && saved.worker === this.#options.worker);
    const bytes = encodeSavedCluster(saved);
    const readBack = decodeSavedCluster(bytes);
    assert(readBack.kind === "ok", `a record that cannot be read again: ${"why" in readBack ? readBack.why : ""}`);
    this.#saving = true;
    // Also when it fails: the record may be there.
    this.#holdsCluster ||= saved.state !== "forming";
    try {
      await replaceFile(this.#disk, this.folder, CLUSTER_FILE, bytes);
    } catch (cause) {
      throw new StorageError(
        "save_failed",
        `Cannot save the cluster information in ${this.folder}: ${because(cause)}; see to that disk, then start again`,
        {
          cause,
        },
      );
    } finally {
      this.#saving = false;
    }
  }

  /** Keeps all files and gives up the lock. The store is of no use afterwards. */
  async close(): Promise<void> {
    const lock = this.#lock;
    this.#lock = null;
    await lock?.release();
  }

  /**
   * Leaves nothing behind, but what a cluster needs to come back: a refused newcomer has saved none, and whoever was part of
   * one keeps what it has.
   */
  async abandon(): Promise<void> {
    if (this.#holdsCluster && !this.#removing) await this.close();
    else await this.removeAll();
  }

  /**
   * From when it resolves on, this folder counts as empty, whatever happens before {@link removeAll} is through.
   *
   * @returns False: there is no room to say so, and nothing has changed.
   * @throws {StorageError} `save_failed`. It counts as empty or not.
   */
  async decideRemoval(): Promise<boolean> {
    assert(this.#lock !== null && !this.#saving);
    this.#saving = true;
    try {
      this.#removing = await mark(this.#disk, this.folder);
    } catch (cause) {
      throw new StorageError(
        "save_failed",
        `Cannot mark ${this.folder} as to be removed: ${because(cause)}; see to that disk, then start again`,
        { cause },
      );
    } finally {
      this.#saving = false;
    }
    return this.#removing;
  }

  /**
   * Removes this worker's files and folder, then the application's folder if it is empty, then the resilience directory if
   * it is empty and this start has made it. The store is of no use afterwards.
   *
   * @returns Names in the worker's folder that are not ours and were left there, with the folder.
   * @throws {StorageError} `remove_failed`.
   */
  async removeAll(): Promise<readonly string[]> {
    const lock = this.#lock;
    if (lock === null) return [];
    assert(!this.#saving, "removed while saving");
    this.#lock = null;
    try {
      const unknown = await emptyFolder(this.#disk, this.folder, lock);
      if (!(await removeFolderIfEmpty(this.#disk, this.folder))) return unknown;
      if (!(await removeFolderIfEmpty(this.#disk, this.#paths.applicationFolder))) return unknown;
      if (this.#madeDirectory) await removeFolderIfEmpty(this.#disk, this.#paths.directory);
      return unknown;
    } catch (cause) {
      throw new StorageError(
        "remove_failed",
        `Cannot remove the files in ${this.folder}: ${because(cause)}; see to that disk, then remove what is left: ` +
          cleanCommand(this.folder),
        { cause },
      );
    }
  }
}

/** For a worker whose saved information is of another cluster than the one it was asked into. */
export function otherClusterError(
  folder: string,
  saved: SavedCluster,
  clusterId: string,
  initializerAt: string,
): ResilienceError {
  const at =
    initializerAt === saved.initializerAt
      ? ""
      : ` That one answered at ${printable(initializerAt)}; the initializer of the saved one was at ${printable(saved.initializerAt)}.`;
  return new ResilienceError(
    "resilience_other_cluster",
    `Cannot use the saved cluster information in ${folder}: it belongs to cluster ${saved.clusterId} (${describe(saved)}), ` +
      `and the cluster that answered is ${clusterId}.${at} Nothing was changed. ` +
      `To go on with the saved cluster, start all of its workers; to give up what it saved here: ${cleanCommand(folder)}`,
  );
}

/** For a worker whose saved information is of an application of the same name with other code or another plan. */
export function otherFingerprintError(folder: string, saved: SavedCluster, fingerprint: string): ResilienceError {
  return new ResilienceError(
    "resilience_other_application",
    `Cannot use the saved cluster information in ${folder}: it belongs to another version of the application: application ` +
      `fingerprint differs: ours ${fingerprint.slice(0, 12)}…, saved ${saved.fingerprint.slice(0, 12)}… (${describe(saved)}). ` +
      `Nothing was changed. Start the version that wrote it (to change it, stop that with tammar shutdown --keep); or, where that ` +
      `is no more possible, start all workers with --accept-other-version, and this one goes on from the last checkpoint; or ` +
      `give up what it saved: ${cleanCommand(folder)}`,
  );
}

/** False: it is not empty. A folder that is gone already is fine. */
export async function removeFolderIfEmpty(disk: Disk, folder: string): Promise<boolean> {
  try {
    await disk.removeDir(folder);
  } catch (error) {
    if (error instanceof DiskError && error.code === "not_empty") return false;
    if (!(error instanceof DiskError) || error.code !== "not_found") throw error;
  }
  return true;
}

async function open(options: StoreOptions, paths: StorePaths): Promise<Store> {
  const { disk } = options;
  const madeDirectory = await checkDirectory(disk, paths.directory);
  for (let attempt = 1; ; attempt++) {
    await checkFolder(disk, paths.applicationFolder);
    await checkFolder(disk, paths.workerFolder);
    // One by one, so that a folder is only ever made inside one that was found to be safe.
    await disk.makeDir(paths.directory);
    await disk.makeDir(paths.applicationFolder);
    await disk.makeDir(paths.workerFolder);
    try {
      return await openFolder(options, paths, madeDirectory);
    } catch (error) {
      const vanished = error instanceof DiskError && error.code === "not_found";
      if (!vanished || attempt === FOLDER_TRIES) throw error;
    }
  }
}

async function openFolder(options: StoreOptions, paths: StorePaths, madeDirectory: boolean): Promise<Store> {
  const { disk } = options;
  const lockPath = join(paths.workerFolder, LOCK_FILE);
  const entries = await disk.list(paths.workerFolder);
  const strange = entries.find(isStrange);
  if (strange !== undefined) {
    const path = join(paths.workerFolder, strange.name);
    const is = strange.name === STATE_FOLDER ? "it is no folder" : "it is no plain file";
    throw unsafe(path, is, "remove it by hand, or use another --resilience-dir");
  }
  await checkRotated(disk, paths);
  const hadLock = entries.some((entry) => entry.name === LOCK_FILE);
  const lock = await takeLock(options, lockPath);
  if (lock === null) throw await inUse(options, paths);
  try {
    if ((await disk.stat(join(paths.workerFolder, REMOVING_FILE))) !== null)
      await removeKnown(disk, paths.workerFolder);
    const saved = await readSaved(options, paths.workerFolder);
    if (saved === null) await refuseOrphans(disk, paths.workerFolder);
    await removeIfThere(disk, join(paths.workerFolder, CLUSTER_FILE + NEW_SUFFIX));
    await writeHolder(disk, lockPath, options.pid, options.clock.wallMs());
    // The names of new folders must outlive a power cut, or what is saved in them would not.
    for (const folder of [paths.workerFolder, paths.applicationFolder, paths.directory]) await disk.syncDir(folder);
    // An earlier start may have made the directory and died before it was durable; nothing was saved in it then.
    if (saved === null) await syncFoldersAbove(disk, paths.directory);
    return new Store(options, paths, lock, { saved, madeDirectory });
  } catch (error) {
    if (!hadLock) await lock.removeAndRelease();
    else await lock.release();
    throw error;
  }
}

function checkRotatedName(options: StoreOptions, paths: StorePaths): void {
  const bytes = rotatedName(paths.workerFolder, 1).length;
  if (bytes <= FOLDER_NAME_BYTES_MAX) return;
  throw new ConfigError(
    "application_name_too_long",
    `Cannot make event logs for the application "${printable(options.application, 80)}" and worker "${options.worker}": their ` +
      `names have ${bytes} bytes, and ${FOLDER_NAME_BYTES_MAX} is the most; give the application or the worker a shorter ` +
      `name, or leave --log-rotation out`,
  );
}

/** Others may have files in the resilience directory: what is called like a segment of ours must be one. */
async function checkRotated(disk: Disk, paths: StorePaths): Promise<void> {
  for (const entry of rotatedOf(paths.workerFolder, await disk.list(paths.directory))) {
    const path = join(paths.directory, entry.name);
    const help = "remove it by hand, or use another --resilience-dir";
    if (entry.kind !== "file") throw unsafe(path, "it is no plain file", help);
    if ((await disk.stat(path))?.ownedByUs === false) throw unsafe(path, "it belongs to another user", help);
  }
}

/** Folders above may be unreadable for us, and then cannot be synced; we have not made those. */
async function syncFoldersAbove(disk: Disk, directory: string): Promise<void> {
  for (let folder = parentOf(directory); ; folder = parentOf(folder)) {
    try {
      await disk.syncDir(folder);
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== "permission") throw error;
    }
    if (folder === "/") return;
  }
}

async function takeLock(options: StoreOptions, path: string): Promise<Lock | null> {
  for (let attempt = 1; ; attempt++) {
    const lock = await options.disk.lock(path);
    if (lock !== null || attempt === LOCK_TRIES) return lock;
    await new Promise<void>((resolve) => options.clock.startTimer(LOCK_RETRY_MS, resolve));
  }
}

/** Returns whether it has to be made. */
async function checkDirectory(disk: Disk, directory: string): Promise<boolean> {
  const found = await disk.stat(directory);
  if (found === null) return true;
  const help = "give a folder, by its real path, with --resilience-dir";
  // Only root makes a link directly in `/`: `/tmp` is one on macOS.
  if (parentOf(directory) !== "/" && (await isLink(disk, directory))) throw unsafe(directory, LINK, help);
  if (found.kind !== "folder") throw unsafe(directory, NO_FOLDER, help);
  const sticky = (found.mode & 0o1000) !== 0;
  if ((found.mode & 0o002) !== 0 && !sticky) {
    throw unsafe(
      directory,
      `everyone may write to it (mode ${octal(found.mode)}), so anyone could put other files in the place of ours`,
      `chmod o-w ${shellWord(directory)}, or use another --resilience-dir`,
    );
  }
  return false;
}

/** The folders we make ourselves: whoever else could write there could make us trust what is not ours. */
async function checkFolder(disk: Disk, folder: string): Promise<void> {
  const help = "move it away if it is not yours, or use another --resilience-dir";
  if (await isLink(disk, folder)) throw unsafe(folder, LINK, help);
  const found = await disk.stat(folder);
  if (found === null) return;
  if (found.kind !== "folder") throw unsafe(folder, NO_FOLDER, help);
  if (!found.ownedByUs) throw unsafe(folder, "it belongs to another user", help);
  if ((found.mode & 0o022) !== 0) {
    throw unsafe(
      folder,
      `others may write to it (mode ${octal(found.mode)})`,
      `if you trust what is in it: chmod 700 ${shellWord(folder)}`,
    );
  }
}

/** `stat` follows links, what a folder lists does not. Where the folder above cannot be listed, nobody can tell. */
async function isLink(disk: Disk, path: string): Promise<boolean> {
  try {
    return (await disk.list(parentOf(path))).some((entry) => entry.kind === "other" && entry.name === baseOf(path));
  } catch (error) {
    if (error instanceof DiskError) return false;
    throw error;
  }
}

async function readSaved(options: StoreOptions, folder: string): Promise<SavedCluster | null> {
  const path = join(folder, CLUSTER_FILE);
  const found = await options.disk.stat(path);
  if (found === null) return null;
  if (found.length > CLUSTER_FILE_BYTES_MAX) {
    throw damagedError(path, CLUSTER_FILE_BYTES_MAX, `it has ${found.length} bytes, which is too long`, folder);
  }
  const outcome = decodeSavedCluster(await options.disk.readFile(path, CLUSTER_FILE_BYTES_MAX));
  switch (outcome.kind) {
    case "damaged":
      throw damagedError(path, outcome.offset, outcome.why, folder);
    case "other_version":
      throw new ResilienceError(
        "resilience_version",
        `Cannot use ${path}: it has format version ${outcome.version}, and this tammar reads version 1. ` +
          `Nothing was changed. Use the tammar that wrote it, or give up what it saved: ${cleanCommand(folder)}`,
      );
    case "ok":
      break;
  }
  const { saved } = outcome;
  if (saved.application !== wellFormed(options.application) || saved.worker !== options.worker) {
    throw new ResilienceError(
      "resilience_foreign",
      `Cannot use ${path}: it was saved for ${describe(saved)} of cluster ${saved.clusterId}, ` +
        `and this is worker "${options.worker}" of "${printable(options.application)}". Nothing was changed. ` +
        `Move the folder back to where it belongs, use another --resilience-dir, or: ${cleanCommand(folder)}`,
    );
  }
  return saved.state === "forming" ? null : saved;
}

/** What an earlier cluster must have left with its information, and without it is worth nothing. */
async function refuseOrphans(disk: Disk, folder: string): Promise<void> {
  const [first] = await listSegments(disk, join(folder, STATE_FOLDER));
  const decisions = (await disk.list(folder)).map(({ name }) => name).filter(isDecisionName);
  const isForming = (await disk.stat(join(folder, CLUSTER_FILE))) !== null;
  if (first === undefined) {
    if (decisions.length === 0) return;
    // Of the cluster that was being formed.
    if (isForming) {
      for (const name of decisions) await removeIfThere(disk, join(folder, name));
      return;
    }
  }
  const held = first === undefined ? decisions[0] : shownName(first.path);
  const beside = first !== undefined && isRotated(first.path) ? ` in ${parentOf(first.path)}` : "";
  throw new ResilienceError(
    "resilience_incomplete",
    `Cannot use ${folder}: it holds ${held}${beside}, but the file ${CLUSTER_FILE} that this belongs to ` +
      `${isForming ? "is of a cluster that was never formed" : "is missing"}. Nothing was changed. ` +
      `Give the folder back what it had, or give up what is left of it: ${cleanCommand(folder)}`,
  );
}

async function inUse(options: StoreOptions, paths: StorePaths): Promise<ResilienceError> {
  const folder = paths.workerFolder;
  const holder = await readHolder(options.disk, join(folder, LOCK_FILE));
  const by = holder === null ? "another process" : `process ${holder.pid}`;
  return new ResilienceError(
    "resilience_in_use",
    `Cannot use ${folder}: worker "${options.worker}" of "${printable(options.application)}" is already running there, ` +
      `in ${by}. Nothing was changed. Stop that one first, give this worker another --name, or use another ` +
      `--resilience-dir; to see who holds what: tammar store show ${shellWord(options.directory)}`,
  );
}

function damagedError(path: string, offset: number, why: string, folder: string): ResilienceError {
  return new ResilienceError(
    "resilience_damaged",
    `Cannot use ${path}: the file is damaged at offset ${offset}: ${why}. It belongs to worker "${baseOf(folder)}". ` +
      `Nothing was changed. To look at it: tammar store verify ${shellWord(folder)}; ${cleanOrElse(folder)}`,
  );
}

function unsafe(path: string, why: string, help: string): ResilienceError {
  return new ResilienceError(
    "resilience_unsafe",
    `Cannot use ${path}: ${why}. Nothing was changed. What helps: ${help}`,
  );
}

function environmentError(paths: StorePaths, error: DiskError): EnvironmentError {
  const help =
    error.code === "permission" || error.code === "read_only"
      ? "give this user write permission there, or use another --resilience-dir"
      : "see to that disk, or use another --resilience-dir";
  return new EnvironmentError(
    `resilience_${error.code}`,
    `Cannot use the resilience folder ${paths.workerFolder}: ${because(error)}; ${help}`,
    { cause: error },
  );
}

function describe(saved: SavedCluster): string {
  return `worker "${saved.worker}" of application "${printable(saved.application)}"`;
}

function cleanCommand(folder: string): string {
  return `tammar store clean ${shellWord(folder)}`;
}

function cleanOrElse(folder: string): string {
  return `to give up what it saved: ${cleanCommand(folder)}`;
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

function because(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
