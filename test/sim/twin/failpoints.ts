/**
 * What a test build is told and what it tells, in words that both sides share.
 *
 * `TAMMAR_FAILPOINT`: crash points and what happens there, `point#n=stop,point#n=kill`: when this process gets to the point
 * for the n-th time it stops itself (SIGSTOP, until it is told to go on) or kills itself (SIGKILL).
 *
 * `TAMMAR_TWIN`: JSON, see `TwinSettings`. Reports go to standard error, one line each, beginning with `@twin `; orders come
 * on standard input, one line each.
 */
import type { WorkerName } from "../../../src/base/ids.ts";
import type { Address, DiskErrorCode, Millis, NetErrorCode } from "../../../src/runtime/runtime.ts";
import type { DiskOperation } from "../../../src/runtime/virtual/disk.ts";
import type { NetCall } from "../../../src/runtime/virtual/network.ts";
import type { Limits } from "../../../src/worker/config.ts";
import { CRASH_POINTS, type CrashPoint, type WorkerStatus } from "../../../src/worker/crash_points.ts";

export const FAILPOINT_VARIABLE = "TAMMAR_FAILPOINT";
export const TWIN_VARIABLE = "TAMMAR_TWIN";
export const REPORT_PREFIX = "@twin ";
/** Why a call fails that would not have. */
export const WANTED = "the scenario wants it to fail";

export interface Failpoint {
  readonly point: CrashPoint;
  /** Passages in this process, from 1. */
  readonly n: number;
  readonly action: "stop" | "kill";
}

export interface TwinSettings {
  readonly machine: string;
  /** All connections go through it. */
  readonly proxy: Address;
  readonly limits: Partial<Limits>;
  /** It tells of each passage. */
  readonly tellsOf: readonly CrashPoint[];
  /** How often it says how it is. */
  readonly statusMs: Millis;
  /** Its wall clock is off. */
  readonly wallOffsetMs: Millis;
  /** It asks before each disk operation below this folder: what is to become of it. Null: never. */
  readonly asksDiskOf: string | null;
  /** It asks about each call to the network. */
  readonly asksNet: boolean;
}

export type TwinReport =
  /** It got to a point that it was to tell of. */
  | { readonly kind: "passed"; readonly point: CrashPoint; readonly stops: boolean }
  /** It had stopped itself, and was told to go on. */
  | { readonly kind: "continued" }
  | { readonly kind: "disk"; readonly id: number; readonly operation: DiskOperation; readonly path: string }
  | { readonly kind: "net"; readonly id: number; readonly call: NetCall }
  | { readonly kind: "status"; readonly status: PlainStatus };

/** What a worker says of itself, as JSON can carry it. */
export type PlainStatus = Omit<WorkerStatus, "inside"> & {
  /** Null: it has too many keys to say them this often. */
  readonly inside: {
    readonly routingVersion: number;
    readonly keyGroupCount: number;
    readonly heldBytes: readonly (readonly [WorkerName, number])[];
    readonly keys: readonly (readonly string[])[];
  } | null;
};

const KEYS_TOLD_MAX = 1_000;

export function flattenStatus({ clusterId, members, status, inside }: WorkerStatus): PlainStatus {
  const keys = inside?.keys() ?? [];
  const isTold = inside !== undefined && keys.reduce((sum, list) => sum + list.length, 0) <= KEYS_TOLD_MAX;
  const { routingVersion = 0, keyGroupCount = 0 } = inside ?? {};
  return {
    clusterId,
    members,
    status,
    inside: isTold ? { routingVersion, keyGroupCount, heldBytes: [...inside.heldBytes], keys } : null,
  };
}

export function readStatus({ inside, ...status }: PlainStatus): WorkerStatus {
  if (inside === null) return status;
  const { keys, heldBytes, ...versions } = inside;
  return { ...status, inside: { ...versions, heldBytes: new Map(heldBytes), keys: () => keys } };
}

export type TwinOrder =
  /** What it asked: is this call of its disk or its network to fail? */
  | { readonly kind: "answer"; readonly id: number; readonly code: DiskErrorCode | NetErrorCode | null }
  | { readonly kind: "wall"; readonly offsetMs: Millis };

/** @throws {Error} Which entry is wrong. */
export function parseFailpoints(text: string): Failpoint[] {
  return text
    .split(",")
    .filter((entry) => entry !== "")
    .map((entry) => {
      const [, point = "", n = "", action = ""] = /^([a-z0-9_.]+)#([1-9][0-9]*)=(stop|kill)$/.exec(entry) ?? [];
      if (!(CRASH_POINTS as readonly string[]).includes(point)) {
        throw new Error(
          `${FAILPOINT_VARIABLE}: ${entry} is not POINT#N=stop or POINT#N=kill with a crash point's name`,
        );
      }
      return { point: point as CrashPoint, n: Number(n), action: action as "stop" | "kill" };
    });
}

export function showFailpoints(failpoints: readonly Failpoint[]): string {
  return failpoints.map(({ point, n, action }) => `${point}#${n}=${action}`).join(",");
}
