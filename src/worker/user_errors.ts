/**
 * What becomes of a record whose user code threw, as the stage's `onError` says: the worker ends, or the record is put among
 * the dead letters, or it is dropped. Each is said with where the record came from, as far as that is known.
 */
import type { ErrorPolicy } from "../api/graph.ts";
import { UserCodeError } from "../base/errors.ts";
import type { WorkerName } from "../base/ids.ts";
import { type Log, printable } from "../base/log.ts";
import type { UserError } from "../operators/dataflow_hooks.ts";
import type { Plan, PlannedSource } from "../plan/plan.ts";
import type { Clock } from "../runtime/runtime.ts";
import type { DeadLetter } from "../store/dead_letter_file.ts";
import { type LocateRecord, placeText } from "../wire/record_place.ts";

/** Where records come from that are being taken in. */
export interface Reading {
  /** Null: it went in again, and is of nobody knows whom. */
  readonly source: string | null;
  /** Of a record by its index among those that the source handed over. */
  readonly locate: LocateRecord;
  readonly headOf: ((record: number) => Uint8Array) | null;
}

export interface UserErrorsOptions {
  readonly plan: Plan;
  readonly worker: WorkerName;
  readonly clock: Clock;
  readonly log: Log;
  /** @returns Is it kept? */
  readonly keep: (letter: DeadLetter) => boolean;
}

/** Where a record comes from, as far as it is known. */
type Whence = Pick<DeadLetter, "source" | "place" | "head">;

const NOWHERE: Whence = { source: null, place: null, head: null };
/** Of what a dead letter says was thrown. */
const ERROR_TEXT_MAX = 4_096;

export class UserErrors {
  readonly #options: UserErrorsOptions;
  readonly #policies: ReadonlyMap<string, ErrorPolicy>;
  /** Null: nothing is taken in at this moment, or it comes from another worker. */
  reading: Reading | null = null;
  count = 0;

  constructor(options: UserErrorsOptions) {
    this.#options = options;
    this.#policies = new Map(options.plan.stages.map(({ id, onError }) => [id, onError]));
  }

  /** @throws {UserCodeError} If the worker is to end. */
  threw(error: UserError): void {
    this.count++;
    const whence = this.#whence(error);
    const what = error.error instanceof Error ? `${error.error.name}: ${error.error.message}` : String(error.error);
    const key = error.key === null ? "" : `, key "${printable(error.key, 64)}"`;
    const policy = this.#policies.get(error.stage) ?? "dead_letter";
    const threw = `${error.stage}: user code threw in ${error.during}${key}, ${whenceText(whence)}: ${printable(what)}`;
    if (policy === "fail") {
      const remedy = "the stage's onError is fail, so the worker ends: correct the code, or choose another onError";
      // A connection that sends it again is another one.
      const place = whence.place === null || whence.place.kind === "tcp" ? "" : placeText(whence.place);
      const at = `${error.stage} ${error.during} ${error.key ?? ""} ${whence.source ?? ""} ${place} ${what}`;
      throw new UserCodeError("user_code_failed", `${threw}; ${remedy}`, { at: printable(at, 2_000) });
    }
    const isKept = policy === "dead_letter" && this.#keep(error, whence, what);
    const text = `${threw}; the record was ${isKept ? "put among the dead letters" : "dropped"}`;
    const marker = error.during === "decode" ? `Unable to decode message at ${whence.source} source; ` : "";
    this.#options.log.error(`user_error_${error.during}`, `${marker}${text}`);
  }

  #whence({ origin }: UserError): Whence {
    if (this.reading === null || origin === null) return NOWHERE;
    const { source, locate, headOf } = this.reading;
    return { source, place: locate(origin), head: headOf === null ? null : headOf(origin) };
  }

  #keep({ stage, during, key, time, record }: UserError, whence: Whence, what: string): boolean {
    if (record === null) return false;
    const { plan, worker, clock, keep } = this.#options;
    const isRaw = "bytes" in record;
    const planned = isRaw ? plan.sources.find(({ name }) => name === whence.source) : undefined;
    return keep({
      atMs: clock.wallMs(),
      worker,
      source: whence.source,
      place: whence.place,
      framing: framingOf(planned),
      stage,
      during,
      key,
      time,
      error: what.slice(0, ERROR_TEXT_MAX),
      bytes: isRaw ? record.bytes : null,
      head: isRaw ? whence.head : null,
      value: "value" in record ? record.value : undefined,
      unfit: null,
    });
  }
}

function whenceText({ source, place }: Whence): string {
  if (source === null) return "source not known behind an exchange";
  return place === null ? `source ${source}` : `source ${source}, ${printable(placeText(place))}`;
}

/** How records are framed on a connection to this source; null: it has none, or a protocol around them. */
function framingOf(planned: PlannedSource | undefined): DeadLetter["framing"] {
  if (planned?.definition.kind !== "tcp") return null;
  const { headerBytes, littleEndian } = planned.definition.framing;
  return { headerBytes, littleEndian };
}
