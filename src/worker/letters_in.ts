/** The way in of dead letters that are sent again: each enters the dataflow at the operator that refused it, as if it came now. */
import type { Batch } from "../operators/batch.ts";
import { NO_HASHES } from "../operators/columns.ts";
import type { Dataflow } from "../operators/dataflow.ts";
import { hashKey } from "../plan/key_groups.ts";
import type { Plan, Reach } from "../plan/plan.ts";
import type { ResentLetter } from "../wire/resend.ts";
import { decodeValues } from "../wire/values.ts";
import type { FineWallClock } from "./fine_wall_clock.ts";
import { type LetterEntry, reachOf } from "./letter_entry.ts";
import type { Sources } from "./sources.ts";
import type { UserErrors } from "./user_errors.ts";

export interface LettersInOptions {
  readonly plan: Plan;
  readonly sources: Pick<Sources, "takeAgain">;
  readonly userErrors: Pick<UserErrors, "reading">;
  readonly wallClock: FineWallClock;
  /** Could a source that reaches this hand on a record now? */
  readonly mayHandOn: (reach: Reach) => boolean;
  readonly handOn: (batch: Batch, into: (dataflow: Dataflow) => void) => void;
  /** Has a stop begun? */
  readonly ending: () => boolean;
  readonly wake: () => void;
}

export class LettersIn {
  readonly #options: LettersInOptions;

  constructor(options: LettersInOptions) {
    this.#options = options;
  }

  /** A stop has begun: none goes in any more. */
  get ending(): boolean {
    return this.#options.ending();
  }

  /** Letters wait: the worker is asked to let them in at the end of this turn. */
  wake(): void {
    this.#options.wake();
  }

  /** Could a record go in there now? As for sources: not between a barrier and its cut, nor in a recovery. */
  mayTake(entry: LetterEntry): boolean {
    return this.#options.mayHandOn(reachOf(this.#options.plan, entry));
  }

  /** @returns Why it can't go in; null: it is in. If user code refuses it once more, it is a dead letter again. */
  take(entry: LetterEntry, letter: ResentLetter): string | null {
    const { sources, userErrors } = this.#options;
    const { source, place, head } = letter;
    let value: unknown;
    try {
      if (letter.value !== null) [value] = decodeValues(letter.value, 0, letter.value.length, 1);
    } catch (error) {
      return `its value can't be read: ${error instanceof Error ? error.message : String(error)}`;
    }
    userErrors.reading = { source, locate: () => place, headOf: head === null ? null : () => head };
    if (entry.kind === "source") sources.takeAgain(entry.source.index, letter, value);
    else this.#enter(entry, letter, value);
    userErrors.reading = null;
    return null;
  }

  #enter(entry: Exclude<LetterEntry, { kind: "source" }>, letter: ResentLetter, value: unknown): void {
    const { stage: id, source, key, time } = letter;
    const { plan, wallClock, handOn } = this.#options;
    const nowMs = wallClock.nowMs();
    const keyed = key !== null && (entry.kind === "sink" || (entry.kind === "stage" && entry.stage.keyed));
    const batch: Batch = {
      count: 1,
      values: [value],
      times: Float64Array.of(time ?? Math.trunc(nowMs * 1000)),
      keys: keyed ? [key] : [],
      hashes: keyed ? Uint32Array.of(hashKey(key)) : NO_HASHES,
      watermark: Number.NEGATIVE_INFINITY,
      arrivalMs: nowMs,
      pipeline: Math.max(
        0,
        plan.pipelines.findIndex((name) => (source === null ? id.startsWith(`${name}/`) : name === source)),
      ),
    };
    handOn(batch, (dataflow) => {
      if (entry.kind === "stage") dataflow.intoStage(entry.stage.index, batch);
      else if (entry.kind === "exchange") dataflow.intoExchange(entry.exchange.index, batch);
      else dataflow.intoSink(entry.sink.index, batch);
    });
  }
}
