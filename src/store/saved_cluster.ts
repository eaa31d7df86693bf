import { type Generation, INITIALIZER, type RoutingVersion, WORKER_NAME, type WorkerName } from "../base/ids.ts";
import type { Address, Millis } from "../runtime/runtime.ts";
import { decodeCbor, encodeCbor } from "../wire/cbor.ts";
import type { MemberAddress } from "../wire/control.ts";
import { FieldReader } from "./read_fields.ts";
import { CONTENT, type Damage, decodeRecord, encodeRecord, HEADER_BYTES } from "./record_file.ts";

/** What a worker must know to come back into its cluster: the content of the file `cluster`. */
export interface SavedCluster {
  /**
   * `forming` until every worker has saved it; then it is worth nothing at the next start. `stopping`: formed, and this
   * worker has said in a stop that it is done; whether the cluster still exists the initializer knows. `suspended`: formed, and
   * stopped with a last checkpoint, from which another build may go on.
   */
  readonly state: "forming" | "formed" | "stopping" | "suspended";
  /** 32 lower-case hex digits, chosen by the initializer. */
  readonly clusterId: string;
  readonly application: string;
  /** Of the application's code and plan. */
  readonly fingerprint: string;
  readonly worker: WorkerName;
  readonly role: "initializer" | "worker";
  readonly generation: Generation;
  readonly routingVersion: RoutingVersion;
  readonly keyGroupCount: number;
  /** Initializer first, the others sorted by name. */
  readonly members: readonly MemberAddress[];
  /** Where this worker listened. */
  readonly control: Address;
  readonly data: Address;
  /** Where its command line says that the initializer is, as text; "" at the initializer. */
  readonly initializerAt: string;
  /** This member's random id, 32 lower-case hex digits. */
  readonly incarnation: string;
  /** Counts the starts of this incarnation, from 1. */
  readonly startNumber: number;
  readonly workerCount: number;
  /** Milliseconds since the Unix epoch. For people only. */
  readonly savedAtMs: Millis;
}

export type SavedClusterOutcome =
  | { readonly kind: "ok"; readonly saved: SavedCluster }
  | { readonly kind: "other_version"; readonly version: number }
  | Damage;

/** More than 256 members need. A longer file is none of ours. */
export const CLUSTER_FILE_BYTES_MAX = 1 << 20;

const MEMBERS_MAX = 256;
const KEY_GROUPS_MAX = 32_768;
const ID = /^[0-9a-f]{32}$/;
const PRINTABLE = /^[\x21-\x7e]{1,256}$/;
/** Empty: the address its peers see it at. */
const HOST = /^[\x21-\x7e]{0,255}$/;

/** The whole file. */
export function encodeSavedCluster(saved: SavedCluster): Uint8Array {
  const body = encodeCbor({
    state: saved.state,
    clusterId: saved.clusterId,
    application: wellFormed(saved.application),
    fingerprint: saved.fingerprint,
    worker: saved.worker,
    role: saved.role,
    generation: saved.generation,
    routingVersion: saved.routingVersion,
    keyGroupCount: saved.keyGroupCount,
    members: saved.members.map((member) => ({
      name: member.name,
      control: address(member.control),
      data: address(member.data),
    })),
    control: address(saved.control),
    data: address(saved.data),
    initializerAt: wellFormed(saved.initializerAt),
    incarnation: saved.incarnation,
    startNumber: saved.startNumber,
    workerCount: saved.workerCount,
    // A wall clock may be set to before 1970; the time is for people only.
    savedAtMs: Math.max(0, Math.floor(saved.savedAtMs)),
  });
  return encodeRecord(CONTENT.cluster, body);
}

/** Reads back what {@link encodeSavedCluster} wrote, and nothing else. */
export function decodeSavedCluster(bytes: Uint8Array): SavedClusterOutcome {
  const record = decodeRecord(CONTENT.cluster, bytes);
  if (record.kind !== "ok") return record;
  try {
    return { kind: "ok", saved: readSavedCluster(decodeCbor(record.body)) };
  } catch (error) {
    // The checksum was right, so this was written so: by a fault of ours, or by somebody's hand.
    const why = error instanceof Error ? error.message : String(error);
    return { kind: "damaged", offset: HEADER_BYTES, why: `its content makes no sense: ${why}` };
  }
}

/** A broken surrogate pair cannot be saved; the name that is compared with what was saved must have lost it too. */
export function wellFormed(name: string): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(name));
}

function address(of: Address): Address {
  return { host: of.host, port: of.port };
}

function readSavedCluster(value: unknown): SavedCluster {
  const reader = new FieldReader("the record", value);
  const saved: SavedCluster = {
    state: reader.oneOf("state", ["forming", "formed", "stopping", "suspended"]),
    clusterId: reader.text("clusterId", ID),
    application: reader.text("application", anyText),
    fingerprint: reader.text("fingerprint", PRINTABLE),
    worker: reader.text("worker", WORKER_NAME),
    role: reader.oneOf("role", ["initializer", "worker"]),
    generation: reader.whole("generation", 1, Number.MAX_SAFE_INTEGER),
    routingVersion: reader.whole("routingVersion", 1, Number.MAX_SAFE_INTEGER),
    keyGroupCount: reader.whole("keyGroupCount", 1, KEY_GROUPS_MAX),
    members: reader.list("members", MEMBERS_MAX).map((member, index) => {
      const fields = new FieldReader(`member ${index + 1}`, member);
      const read = {
        name: fields.text("name", WORKER_NAME),
        control: readAddress(fields.fields("control")),
        data: readAddress(fields.fields("data")),
      };
      fields.end();
      return read;
    }),
    control: readAddress(reader.fields("control")),
    data: readAddress(reader.fields("data")),
    initializerAt: reader.text("initializerAt", anyText),
    incarnation: reader.text("incarnation", ID),
    startNumber: reader.whole("startNumber", 1, 0xffff_ffff),
    workerCount: reader.whole("workerCount", 1, MEMBERS_MAX),
    savedAtMs: reader.whole("savedAtMs", 0, Number.MAX_SAFE_INTEGER),
  };
  reader.end();
  const names = saved.members.map((member) => member.name);
  if (new Set(names).size !== names.length) throw new Error("a member is named twice");
  if (names[0] !== INITIALIZER) throw new Error("the first member is not the initializer");
  if (!names.includes(saved.worker)) throw new Error("the worker itself is not among the members");
  if ((saved.worker === INITIALIZER) !== (saved.role === "initializer")) throw new Error("name and role do not fit");
  if (names.length !== saved.workerCount) throw new Error("the number of members is not the number of workers");
  return saved;
}

function readAddress(fields: FieldReader): Address {
  const read = { host: fields.text("host", HOST), port: fields.whole("port", 0, 65_535) };
  fields.end();
  return read;
}

function anyText(): boolean {
  return true;
}
