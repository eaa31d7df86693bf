/**
 * Exchanges: where records may change workers. What stays goes on in the same call; what goes to another worker is handed
 * to the hooks, one batch a target. With one worker nothing is parted.
 *
 *   E1. Records of one key that leave one exchange of one worker keep their order: they have one target.
 *   E2. Values are checked to be data that can travel whether or not they do (the first ones, then samples), so that an
 *       application that runs on one worker runs on forty.
 */

import { textOfByteKey } from "../api/byte_key.ts";
import { showType } from "../api/graph.ts";
import { assert } from "../base/assert.ts";
import { hashKey, KEY_LENGTH_MAX, keyGroupOf } from "../plan/key_groups.ts";
import type { PlannedExchange } from "../plan/plan.ts";
import type { Batch } from "./batch.ts";
import { dropRecord, keepRecords, NO_HASHES, Outbox } from "./columns.ts";
import type { DataflowHooks } from "./dataflow_hooks.ts";
import type { Lineage } from "./lineage.ts";
import { type Operator, OperatorBase, refusePromise } from "./operator.ts";
import { SlowRecords } from "./slow_code.ts";

/** Throws when a value can't travel. */
export type CheckValue = (value: unknown) => void;

/** So many records are checked each, and from then on one in `CHECK_INTERVAL`. */
const CHECKED_FIRST = 64;
const CHECK_INTERVAL = 1024;

abstract class Exchange extends OperatorBase {
  readonly index: number;
  readonly #check: CheckValue;
  readonly #box = new Outbox();
  /** Grown as needed. */
  #targets = new Uint16Array(0);
  #order = new Uint32Array(0);
  readonly #ends: Uint32Array;
  readonly #keyed: boolean;
  #seen = 0;
  #nextCheck = 0;

  constructor(exchange: PlannedExchange, hooks: DataflowHooks, lineage: Lineage, next: Operator, check: CheckValue) {
    super(exchange.id, hooks, lineage, next);
    this.index = exchange.index;
    this.#keyed = exchange.kind !== "rebalance";
    this.#check = check;
    this.#ends = new Uint32Array(hooks.workerCount + 1);
  }

  receive(batch: Batch): void {
    this.counts.recordsIn += batch.count;
    this.prepare(batch);
    this.#checkSamples(batch);
    if (this.hooks.workerCount > 1) {
      this.lineage.forget();
      if (batch.count > 0) this.#distribute(batch);
    }
    this.counts.recordsOut += batch.count;
    this.next.receive(batch);
  }

  /** Gives the batch its keys, or takes them away. */
  protected abstract prepare(batch: Batch): void;
  /** Says for each record to which worker it goes: `targets[record]`. */
  protected abstract direct(batch: Batch, targets: Uint16Array): void;

  /** Sends away what is not for this worker and leaves the rest in the batch. */
  #distribute(batch: Batch): void {
    const { count } = batch;
    const { self, workerCount } = this.hooks;
    if (this.#targets.length < count) {
      this.#targets = new Uint16Array(count * 2);
      this.#order = new Uint32Array(count * 2);
    }
    const targets = this.#targets;
    const order = this.#order;
    const ends = this.#ends;
    this.direct(batch, targets);
    // The records by target, and as they came for each (a counting sort): from the end of the target before it to its own.
    ends.fill(0);
    for (let i = 0; i < count; i++) {
      const target = targets[i]!;
      assert(target < workerCount, "a key group is owned by a worker that isn't there");
      ends[target + 1]!++;
    }
    if (ends[self + 1] === count) return;
    for (let worker = 1; worker < workerCount; worker++) ends[worker]! += ends[worker - 1]!;
    for (let i = 0; i < count; i++) order[ends[targets[i]!]!++] = i;
    for (let worker = 0; worker < workerCount; worker++) {
      const from = worker === 0 ? 0 : ends[worker - 1]!;
      const to = ends[worker]!;
      if (worker === self || from === to) continue;
      this.#box.fill(batch, order, from, to, this.#keyed);
      this.counts.recordsOut += to - from;
      this.hooks.sendRemote(this.index, worker, this.#box.take(batch));
    }
    keepRecords(batch, order, self === 0 ? 0 : ends[self - 1]!, ends[self]!, this.#keyed);
  }

  #checkSamples(batch: Batch): void {
    while (this.#nextCheck < this.#seen + batch.count) {
      const record = this.#nextCheck - this.#seen;
      try {
        this.#check(batch.values[record]);
        this.#nextCheck += this.#nextCheck < CHECKED_FIRST ? 1 : CHECK_INTERVAL;
      } catch (error) {
        this.userError("exchange", error, batch, record, batch.keys[record] ?? null);
        this.lineage.dropped([record], batch.count);
        dropRecord(batch, record);
      }
    }
    this.#seen += batch.count;
  }
}

/** `keyBy`: each record to the owner of its key. */
export class KeyExchange extends Exchange {
  readonly #keyOf: (value: unknown) => string | Uint8Array;
  readonly #slow: SlowRecords;

  /** The column of each batch in turn, grown as needed: making one costs more than filling it. */
  #hashes = new Uint32Array(0);

  constructor(exchange: PlannedExchange, hooks: DataflowHooks, lineage: Lineage, next: Operator, check: CheckValue) {
    super(exchange, hooks, lineage, next, check);
    assert(exchange.keyOf !== undefined);
    this.#keyOf = exchange.keyOf;
    this.#slow = new SlowRecords(() => hooks.nowMs());
  }

  readonly #timed = (value: unknown): string | Uint8Array => this.#slow.timed(() => this.#keyOf(value));

  protected prepare(batch: Batch): void {
    const started = this.hooks.nowMs();
    const keyOf = this.#slow.begin() ? this.#timed : this.#keyOf;
    const { values, times, count } = batch;
    const keys: string[] = new Array(count);
    if (this.#hashes.length < count) this.#hashes = new Uint32Array(count * 2);
    const hashes = this.#hashes;
    const refused: number[] = [];
    let at = 0;
    let i = 0;
    while (i < count) {
      try {
        for (; i < count; i++) {
          const given = keyOf(values[i]);
          const key = typeof given === "string" ? given : ofBytes(given);
          if (key.length > KEY_LENGTH_MAX) throw unfitKey(key);
          keys[at] = key;
          hashes[at] = hashKey(key);
          if (at !== i) {
            values[at] = values[i];
            times[at] = times[i]!;
          }
          at++;
        }
      } catch (error) {
        this.userError("key", error, batch, i);
        refused.push(i);
        i++;
      }
    }
    this.lineage.dropped(refused, count);
    const ms = this.hooks.nowMs() - started;
    const slow = this.#slow.end(ms, this.id, "key", count, refused.length > 0 ? [] : keys);
    if (slow !== null) this.hooks.slowCode(slow);
    batch.keys = keys;
    batch.hashes = hashes;
    batch.count = at;
  }

  protected direct({ hashes, count }: Batch, targets: Uint16Array): void {
    const { owners } = this.hooks;
    const keyGroupCount = owners.length;
    for (let i = 0; i < count; i++) targets[i] = owners[keyGroupOf(hashes[i]!, keyGroupCount)]!;
  }
}

/** `collect`: all records under one key to its owner. */
export class CollectExchange extends Exchange {
  readonly #key: string;
  readonly #hash: number;

  constructor(exchange: PlannedExchange, hooks: DataflowHooks, lineage: Lineage, next: Operator, check: CheckValue) {
    super(exchange, hooks, lineage, next, check);
    assert(exchange.collectKey !== undefined);
    this.#key = exchange.collectKey;
    this.#hash = hashKey(exchange.collectKey);
  }

  protected prepare(batch: Batch): void {
    batch.keys = new Array(batch.count).fill(this.#key);
    batch.hashes = new Uint32Array(batch.count).fill(this.#hash);
  }

  protected direct({ count }: Batch, targets: Uint16Array): void {
    const { owners } = this.hooks;
    targets.fill(owners[keyGroupOf(this.#hash, owners.length)]!, 0, count);
  }
}

/** `rebalance`: records in turn to each worker. */
export class RebalanceExchange extends Exchange {
  #turn = 0;

  protected prepare(batch: Batch): void {
    batch.keys = [];
    batch.hashes = NO_HASHES;
  }

  protected direct({ count }: Batch, targets: Uint16Array): void {
    const { workerCount, self } = this.hooks;
    for (let i = 0; i < count; i++) {
      // Each worker begins with itself, so that they don't all serve the same one at the same time.
      targets[i] = (self + this.#turn) % workerCount;
      this.#turn = (this.#turn + 1) % workerCount;
    }
  }
}

function ofBytes(key: unknown): string {
  if (!(key instanceof Uint8Array) || key.length > KEY_LENGTH_MAX) throw unfitKey(key);
  return textOfByteKey(key);
}

function unfitKey(key: unknown): Error {
  if (typeof key === "string") {
    return new RangeError(`The key has ${key.length} UTF-16 code units: at most ${KEY_LENGTH_MAX} are possible`);
  }
  if (key instanceof Uint8Array) {
    return new RangeError(`The key has ${key.length} bytes: at most ${KEY_LENGTH_MAX} are possible`);
  }
  if (key instanceof Promise) return refusePromise("keyBy", key);
  return new TypeError(`The key is ${showType(key)}: return a text, such as String(id), or a Uint8Array`);
}
