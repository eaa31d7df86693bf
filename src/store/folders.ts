import { ConfigError } from "../base/errors.ts";
import { WORKER_NAME, type WorkerName } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import { encodeFolderName, FOLDER_NAME_BYTES_MAX } from "./folder_name.ts";

/** The file that is locked. Its text says that it is Tammar's, and who holds it. */
export const LOCK_FILE = "LOCK";
/** The saved cluster information. */
export const CLUSTER_FILE = "cluster";
/** The initializer's: which checkpoint exists, as its name says: `decision-...`, see `decision_file.ts`. */
export const DECISION_FILE = "decision";
const DECISION_NAME = /^decision-\d{1,16}-\d{1,16}-\d{1,16}-[0-9a-f]{8}$/;
/** The folder of the state log. */
export const STATE_FOLDER = "state";
/** How often one record has ended the worker: for people. */
export const STOPS_FILE = "stops";
/** Says that everything here is being removed: what is left counts for nothing. */
export const REMOVING_FILE = "removing";
/** What is being written; a crash may leave it behind, and the next save writes over it. */
export const NEW_SUFFIX = ".new";

/** With `isDecisionName`, every name that this program gives to a file in a worker's folder. Nothing else is ever touched. */
const KNOWN_FILES: readonly string[] = [
  CLUSTER_FILE,
  CLUSTER_FILE + NEW_SUFFIX,
  DECISION_FILE + NEW_SUFFIX,
  STOPS_FILE,
  STOPS_FILE + NEW_SUFFIX,
  REMOVING_FILE,
  LOCK_FILE,
];
/** And to folders. */
export const KNOWN_FOLDERS: readonly string[] = [STATE_FOLDER];

/** Is a decision called like this? Whether the name is a right one, its file tells. */
export function isDecisionName(name: string): boolean {
  return DECISION_NAME.test(name);
}

/** Is this what we would call so, and not a link or a folder in the place of a file? */
export function isKnown(entry: { readonly name: string; readonly kind: string }): boolean {
  return entry.kind === "file" ? isKnownFileName(entry.name) : isKnownFolder(entry);
}

function isKnownFileName(name: string): boolean {
  return KNOWN_FILES.includes(name) || isDecisionName(name);
}

export function isKnownFolder(entry: { readonly name: string; readonly kind: string }): boolean {
  return entry.kind === "folder" && KNOWN_FOLDERS.includes(entry.name);
}

/** Something that has a name of ours and isn't ours. */
export function isStrange(entry: { readonly name: string; readonly kind: string }): boolean {
  return !isKnown(entry) && (isKnownFileName(entry.name) || KNOWN_FOLDERS.includes(entry.name));
}

export interface StorePaths {
  /** `--resilience-dir`. */
  readonly directory: string;
  readonly applicationFolder: string;
  readonly workerFolder: string;
}

/** @throws {ConfigError} `application_name_too_long`, `bad_worker_name`. */
export function storePaths(directory: string, application: string, worker: WorkerName): StorePaths {
  const encoded = encodeFolderName(application);
  if (encoded.length > FOLDER_NAME_BYTES_MAX) {
    throw new ConfigError(
      "application_name_too_long",
      `Cannot make a folder for the application "${printable(application, 80)}": its name needs ${encoded.length} bytes ` +
        `as a folder name, and ${FOLDER_NAME_BYTES_MAX} is the most; give the application a shorter name`,
    );
  }
  if (!WORKER_NAME.test(worker)) {
    throw new ConfigError(
      "bad_worker_name",
      `Cannot make a folder for the worker "${printable(worker)}": not a worker name`,
    );
  }
  const applicationFolder = join(directory, encoded);
  return { directory, applicationFolder, workerFolder: join(applicationFolder, worker) };
}

export function join(folder: string, name: string): string {
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}

/** `/` for a path without folders. */
export function parentOf(path: string): string {
  const trimmed = path.replace(/\/+$/, "");
  return trimmed.slice(0, trimmed.lastIndexOf("/")) || "/";
}

export function baseOf(path: string): string {
  const trimmed = path.replace(/\/+$/, "");
  return trimmed.slice(trimmed.lastIndexOf("/") + 1);
}

/** A path as one word of a command line. */
export function shellWord(path: string): string {
  return /^[A-Za-z0-9._/%@:+=,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
