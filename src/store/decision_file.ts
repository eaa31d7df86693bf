/**
 * The initializer's record of which checkpoint exists. It is the name of a file:
 *
 *   decision-<epoch>-<used>-<generation>-<8 hex digits>        the digits: CRC-32C of `<cluster id>-<epoch>-<used>-<generation>`
 *
 *   D1. A decision is made by one rename and one sync of the folder: a rename inside a folder is all or nothing, whatever happens.
 *       So what it costs a checkpoint is one sync.
 *   D2. The file holds the cluster's id and never changes. A name that does not fit to it was not given by us.
 *   D3. There is one. Two are refused: one of them was put there from a copy.
 */
import { ResilienceError, StorageError } from "../base/errors.ts";
import type { Epoch, Generation } from "../base/ids.ts";
import { type Disk, DiskError } from "../runtime/runtime.ts";
import { decodeCbor, encodeCbor } from "../wire/cbor.ts";
import { crc32c } from "./crc32c.ts";
import { DECISION_FILE, isDecisionName, join, NEW_SUFFIX, shellWord } from "./folders.ts";
import { FieldReader } from "./read_fields.ts";
import { CONTENT, type Damage, decodeRecord, encodeRecord, HEADER_BYTES } from "./record_file.ts";
import { replaceFile } from "./replace_file.ts";

export interface Decision {
  /** The last checkpoint that exists; 0: the empty one before the first. */
  readonly epoch: Epoch;
  /** No epoch up to this one is used again. */
  readonly used: Epoch;
  readonly generation: Generation;
}

/** Of a cluster that is being formed. */
export const NOTHING_DECIDED: Decision = { epoch: 0, used: 0, generation: 0 };

export type DecisionOutcome =
  | { readonly kind: "ok"; readonly decision: Decision; readonly clusterId: string }
  | { readonly kind: "other_version"; readonly version: number }
  /** The file is whole, but its name is not ours. `why` continues "it cannot be used: ". */
  | { readonly kind: "refused"; readonly why: string }
  | Damage;

export const DECISION_FILE_BYTES_MAX = 4096;

export class DecisionFile {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #clusterId: string;
  /** What is decided; `null`: there is no such file. */
  #decision: Decision | null;

  /**
   * What was decided, in a worker's folder.
   *
   * @throws {ResilienceError} Damaged, of another version, or another cluster's. Nothing was touched.
   */
  static async open(disk: Disk, folder: string, clusterId: string): Promise<DecisionFile> {
    return new DecisionFile(disk, folder, clusterId, await read(disk, folder, clusterId));
  }

  /** @param decision As it is on the disk; `null`: there is none there. */
  constructor(disk: Disk, folder: string, clusterId: string, decision: Decision | null) {
    this.#disk = disk;
    this.#folder = folder;
    this.#clusterId = clusterId;
    this.#decision = decision;
  }

  get decision(): Decision | null {
    return this.#decision;
  }

  /**
   * Decides; durable when it resolves. One call at a time.
   *
   * @param renamed Called when the file has its new name, which may not be durable yet.
   * @throws {StorageError} `decision_failed`. The old one or the new one is there.
   */
  async write(decision: Decision, renamed: () => void = () => {}): Promise<void> {
    const name = decisionName(this.#clusterId, decision);
    try {
      if (this.#decision === null) {
        const unfinished = DECISION_FILE + NEW_SUFFIX;
        await replaceFile(this.#disk, this.#folder, name, encodeDecision(this.#clusterId), unfinished);
      } else {
        const before = decisionName(this.#clusterId, this.#decision);
        if (before !== name) await this.#disk.rename(join(this.#folder, before), join(this.#folder, name));
        renamed();
        await this.#disk.syncDir(this.#folder);
      }
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new StorageError(
        "decision_failed",
        `Cannot save in ${this.#folder} that checkpoint ${decision.epoch} exists: ${why}; see to that disk, then start again`,
        { cause },
      );
    }
    this.#decision = decision;
  }
}

async function read(disk: Disk, folder: string, clusterId: string): Promise<Decision | null> {
  let names: readonly string[];
  try {
    names = await decisionNames(disk, folder);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw refused("resilience_unreadable", folder, folder, `it cannot be listed: ${error.message}`);
  }
  const [name, other] = names;
  if (name === undefined) return null;
  const path = join(folder, name);
  if (other !== undefined) {
    const why = `${other} is there too, and only one of them says which checkpoint exists: the other is of an old copy`;
    throw refused("resilience_damaged", folder, path, why);
  }
  let bytes: Uint8Array;
  try {
    bytes = await disk.readFile(path, DECISION_FILE_BYTES_MAX);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw refused("resilience_unreadable", folder, path, `it cannot be read: ${error.message}`);
  }
  const outcome = decodeDecision(name, bytes);
  switch (outcome.kind) {
    case "damaged": {
      const why = `the file is damaged at offset ${outcome.offset}: ${outcome.why}`;
      throw refused("resilience_damaged", folder, path, why);
    }
    case "refused":
      throw refused("resilience_damaged", folder, path, outcome.why);
    case "other_version": {
      const reads = "and this tammar reads version 1; use the tammar that wrote it";
      throw refused("resilience_version", folder, path, `it has format version ${outcome.version}, ${reads}`);
    }
    case "ok":
      break;
  }
  if (outcome.clusterId !== clusterId) {
    const is = `it belongs to cluster ${outcome.clusterId}, and this is cluster ${clusterId}`;
    throw refused("resilience_foreign", folder, path, is);
  }
  return outcome.decision;
}

/** In a worker's folder. */
export async function decisionNames(disk: Disk, folder: string): Promise<readonly string[]> {
  const entries = await disk.list(folder);
  return entries.filter(({ kind, name }) => kind === "file" && isDecisionName(name)).map(({ name }) => name);
}

/** The whole file, whatever is decided. */
export function encodeDecision(clusterId: string): Uint8Array {
  return encodeRecord(CONTENT.decision, encodeCbor({ clusterId }));
}

export function decisionName(clusterId: string, { epoch, used, generation }: Decision): string {
  const numbers = `${epoch}-${used}-${generation}`;
  const checksum = crc32c(new TextEncoder().encode(`${clusterId}-${numbers}`));
  return `${DECISION_FILE}-${numbers}-${checksum.toString(16).padStart(8, "0")}`;
}

/** Reads back what {@link decisionName} and {@link encodeDecision} gave, and nothing else. */
export function decodeDecision(name: string, bytes: Uint8Array): DecisionOutcome {
  const record = decodeRecord(CONTENT.decision, bytes);
  if (record.kind !== "ok") return record;
  let clusterId: string;
  try {
    const fields = new FieldReader("the record", decodeCbor(record.body));
    clusterId = fields.text("clusterId", /^[0-9a-f]{32}$/);
    fields.end();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { kind: "damaged", offset: HEADER_BYTES, why: `its content makes no sense: ${why}` };
  }
  const [epoch, used, generation] = name.split("-").slice(1, 4).map(Number) as [number, number, number];
  const decision: Decision = { epoch, used, generation };
  const isOurs = [epoch, used, generation].every(Number.isSafeInteger) && decisionName(clusterId, decision) === name;
  if (isOurs && epoch <= used) return { kind: "ok", decision, clusterId };
  return { kind: "refused", why: "its name, which says which checkpoint exists, was changed, or is of another file" };
}

function refused(code: string, folder: string, path: string, why: string): ResilienceError {
  return new ResilienceError(
    code,
    `Cannot use ${path}: ${why}. Nothing was changed. To look at it: tammar store verify ${shellWord(folder)}; ` +
      `to give up what was saved there: tammar store clean ${shellWord(folder)}`,
  );
}
