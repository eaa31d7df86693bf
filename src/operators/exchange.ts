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
import { dropRecord, moveRecord, NO_HASHES, Outbox } from "./columns.ts";
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
  readonly #outboxes: Outbox[] = [];
  readonly #keyed: boolean;
  #seen = 0;
  #nextCheck = 0;

  constructor(exchange: PlannedExchange, hooks: DataflowHooks, lineage: Lineage, next: Operator, check: CheckValue) {
    super(exchange.id, hooks, lineage, next);
    this.index = exchange.index;
    this.#keyed = exchange.kind !== "rebalance";
    this.#check = check;
  }

  receive(batch: Batch): void {
    this.counts.recordsIn += batch.count;
    this.prepare(batch);
    this.#checkSamples(batch);
    if (this.hooks.workerCount > 1) {
      this.lineage.forget();
      if (batch.count > 0) this.distribute(batch);
    }
    this.counts.recordsOut += batch.count;
    this.next.receive(batch);
  }

  /** Gives the batch its keys, or takes them away. */
  protected abstract prepare(batch: Batch): void;
  /** Sends away what is not for this worker and leaves the rest in the batch. */
  protected abstract distribute(batch: Batch): void;

  /** Puts a record into the box of its target. */
  protected putInto(worker: number, batch: Batch, record: number): void {
    assert(worker < this.hooks.workerCount, "a key group is owned by a worker that isn't there");
    while (this.#outboxes.length <= worker) this.#outboxes.push(new Outbox());
    this.#outboxes[worker]!.push(batch, record, this.#keyed);
  }

  /** Hands full boxes to the hooks. */
  protected sendAll(like: Batch): void {
    for (let worker = 0; worker < this.#outboxes.length; worker++) {
      const box = this.#outboxes[worker]!;
      if (box.count === 0) continue;
      this.counts.recordsOut += box.count;
      this.hooks.sendRemote(this.index, worker, box.take(like));
    }
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

  constructor(exchange: PlannedExchange, hooks: DataflowHooks, lineage: Lineage, next: Operator, check: CheckValue) {
    super(exchange, hooks, lineage, next, check);
    assert(exchange.keyOf !== undefined);
    this.#keyOf = exchange.keyOf;
    this.#slow = new SlowRecords(() => hooks.nowMs());
  }

  readonly #timed = (value: unknown): string | Uint8Array =>
    this.#slow.timed(this.#slow.next, () => this.#keyOf(value));

  protected prepare(batch: Batch): void {
    const started = this.hooks.nowMs();
    const keyOf = this.#slow.begin() ? this.#timed : this.#keyOf;
    const { values, times, count } = batch;
    const keys: string[] = new Array(count);
    const hashes = new Uint32Array(count);
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
    const slow = this.#slow.end(ms, {
      stage: this.id,
      during: "key",
      records: count,
      keys: refused.length > 0 ? [] : keys,
    });
    if (slow !== null) this.hooks.slowCode(slow);
    batch.keys = keys;
    batch.hashes = hashes;
    batch.count = at;
  }

  protected distribute(batch: Batch): void {
    const { owners, self } = this.hooks;
    const { hashes, count } = batch;
    const keyGroupCount = owners.length;
    let at = 0;
    for (let i = 0; i < count; i++) {
      const owner = owners[keyGroupOf(hashes[i]!, keyGroupCount)]!;
      if (owner !== self) {
        this.putInto(owner, batch, i);
        continue;
      }
      if (at !== i) moveRecord(batch, i, at, true);
      at++;
    }
    batch.count = at;
    this.sendAll(batch);
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

  protected distribute(batch: Batch): void {
    const { owners, self } = this.hooks;
    const owner = owners[keyGroupOf(this.#hash, owners.length)]!;
    if (owner === self) return;
    for (let i = 0; i < batch.count; i++) this.putInto(owner, batch, i);
    batch.count = 0;
    this.sendAll(batch);
  }
}

/** `rebalance`: records in turn to each worker. */
export class RebalanceExchange extends Exchange {
  #turn = 0;

  protected prepare(batch: Batch): void {
    batch.keys = [];
    batch.hashes = NO_HASHES;
  }

  protected distribute(batch: Batch): void {
    const { workerCount, self } = this.hooks;
    let at = 0;
    for (let i = 0; i < batch.count; i++) {
      // Each worker begins with itself, so that they don't all serve the same one at the same time.
      const worker = (self + this.#turn) % workerCount;
      this.#turn = (this.#turn + 1) % workerCount;
      if (worker !== self) {
        this.putInto(worker, batch, i);
        continue;
      }
      if (at !== i) moveRecord(batch, i, at, false);
      at++;
    }
    batch.count = at;
    this.sendAll(batch);
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
