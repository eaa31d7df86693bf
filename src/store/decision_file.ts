/** The initializer's record of which checkpoint exists: the file `decision`, replaced as a whole. */
import { ResilienceError, StorageError } from "../base/errors.ts";
import type { Epoch, Generation } from "../base/ids.ts";
import { type Disk, DiskError } from "../runtime/runtime.ts";
import { decodeCbor, encodeCbor } from "../wire/cbor.ts";
import { DECISION_FILE, join, shellWord } from "./folders.ts";
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
  | Damage;

export const DECISION_FILE_BYTES_MAX = 4096;

/**
 * What was decided, in a worker's folder; `null`: there is no such file.
 *
 * @throws {ResilienceError} Damaged, of another version, or another cluster's. Nothing was touched.
 */
export async function readDecision(disk: Disk, folder: string, clusterId: string): Promise<Decision | null> {
  const path = join(folder, DECISION_FILE);
  let bytes: Uint8Array;
  try {
    bytes = await disk.readFile(path, DECISION_FILE_BYTES_MAX);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    if (error.code === "not_found") return null;
    throw refused("resilience_unreadable", folder, path, `it cannot be read: ${error.message}`);
  }
  const outcome = decodeDecision(bytes);
  switch (outcome.kind) {
    case "damaged":
      throw refused(
        "resilience_damaged",
        folder,
        path,
        `the file is damaged at offset ${outcome.offset}: ${outcome.why}`,
      );
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

/**
 * Replaces the decision; durable when it resolves. One call at a time.
 *
 * @throws {StorageError} `decision_failed`. The old one or the new one is there.
 */
export async function writeDecision(disk: Disk, folder: string, clusterId: string, decision: Decision): Promise<void> {
  try {
    await replaceFile(disk, folder, DECISION_FILE, encodeDecision(clusterId, decision));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StorageError(
      "decision_failed",
      `Cannot save in ${folder} that checkpoint ${decision.epoch} exists: ${why}; see to that disk, then start again`,
      { cause },
    );
  }
}

/** The whole file. */
export function encodeDecision(clusterId: string, { epoch, used, generation }: Decision): Uint8Array {
  return encodeRecord(CONTENT.decision, encodeCbor({ clusterId, epoch, used, generation }));
}

/** Reads back what {@link encodeDecision} wrote, and nothing else. */
export function decodeDecision(bytes: Uint8Array): DecisionOutcome {
  const record = decodeRecord(CONTENT.decision, bytes);
  if (record.kind !== "ok") return record;
  try {
    const most = Number.MAX_SAFE_INTEGER;
    const fields = new FieldReader("the record", decodeCbor(record.body));
    const clusterId = fields.text("clusterId", /^[0-9a-f]{32}$/);
    const decision: Decision = {
      epoch: fields.whole("epoch", 0, most),
      used: fields.whole("used", 0, most),
      generation: fields.whole("generation", 0, most),
    };
    fields.end();
    if (decision.epoch > decision.used) throw new Error("an epoch exists that was not used");
    return { kind: "ok", decision, clusterId };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { kind: "damaged", offset: HEADER_BYTES, why: `its content makes no sense: ${why}` };
  }
}

function refused(code: string, folder: string, path: string, why: string): ResilienceError {
  return new ResilienceError(
    code,
    `Cannot use ${path}: ${why}. Nothing was changed. To look at it: tammar store verify ${shellWord(folder)}; ` +
      `to give up what was saved there: tammar store clean ${shellWord(folder)}`,
  );
}
