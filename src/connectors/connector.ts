/**
 * Sources and sinks as the worker sees them, whatever they speak to. A source or sink that has nothing to save or to
 * decide leaves the optional part out: it takes no part in checkpoints, and what that costs is said in `docs/guarantees.md`.
 *
 * Everything is called inside of a turn, and returns at once; what takes time is told by the callbacks that the connector
 * was made with. Positions are plain data, as the value codec takes it.
 */
import type { Epoch } from "../base/ids.ts";
import type { Millis } from "../runtime/runtime.ts";
import type { LocateRecord } from "../wire/record_place.ts";
import type { OutputRecords } from "./output_queue.ts";

/** Facts for `tammar query status`: short plain values under names in snake case; `kind` is the first. */
export type ConnectorStatus = Readonly<Record<string, string | number | boolean>>;

/** Takes `count` records, number `i` from `starts[i]` to `ends[i]` of `bytes`; all of it is valid during the call. */
export type HandOver = (
  bytes: Uint8Array,
  starts: Uint32Array,
  ends: Uint32Array,
  count: number,
  locate: LocateRecord,
) => void;

export interface SourceConnector {
  /** The cluster works: hand records on from now on. */
  open(): void;
  /** What was blocked may be free again. */
  resume(): void;
  /** No more input. What was read whole is handed on first, or, without `takeHeld`, dropped. */
  close(takeHeld: boolean): void;
  status(): ConnectorStatus;
  readonly checkpoints?: SourceCheckpoints;
}

export interface SourceCheckpoints {
  /** Covers exactly what was handed on so far. Taken while the source stands still. */
  snapshot(epoch: Epoch): unknown;
  /**
   * Goes back to a position that `snapshot` gave, on this or an earlier process; null: to the beginning. Before the first
   * `open` of a process, and at every rollback. What was read beyond it is dropped and read again.
   *
   * @param restarted This process has taken in nothing yet, and there was one before it that may have. Default: false.
   */
  seek(position: unknown | null, restarted?: boolean): void;
  /** What the snapshot of this epoch covers is durable, in the whole cluster: say so upstream. */
  acknowledge(epoch: Epoch): void;
}

export interface SinkConnector {
  readonly name: string;
  /** It can't take more: sources that reach it stand still. */
  readonly blocked: boolean;
  readonly blockedSinceMs: Millis | null;
  /** Ready for output once, since the start of this process. */
  readonly everConnected: boolean;
  /** All that was given to it is out, after `end`. */
  readonly finished: boolean;
  /** Is there anybody or anything to give output to at this moment? One that is away is not waited for at a stop. */
  readonly connected: boolean;
  /** For people: `127.0.0.1:7200`, a folder. */
  readonly target: string;
  readonly queuedBytes: number;
  countQueuedRecords(): number;
  /** What is special about its kind; what all sinks have comes beside it. */
  status(): ConnectorStatus;
  start(): void;
  write(records: OutputRecords): void;
  /** At the end of a turn. */
  flush(): void;
  /** No more will be written. */
  end(): void;
  /** The cluster stops without what it could not give out, which was counted: checkpoints do not wait for it. */
  giveUp?(): void;
  /** Now; a record that is on its way gets `graceMs` to arrive whole. */
  close(graceMs: Millis): Promise<void>;
  readonly transactions?: SinkTransactions;
}

/** Of a sink whose output becomes visible with checkpoints, exactly once. */
export interface SinkTransactions {
  /** Whatever was decided of its output is visible, or taken back. */
  readonly settled: boolean;
  /**
   * The cut of this epoch is here: what was written so far belongs to it, what comes next does not. Answers once, later, by
   * `voted(epoch, vote)`: `commit` promises that a later `commit` will succeed, also after the death of this process and of
   * the other side.
   */
  prepare(epoch: Epoch): void;
  /** Output up to the cut, for the checkpoint: where a rollback to this epoch goes on. Right behind `prepare`. */
  snapshot(): unknown;
  /** The epoch exists: its output becomes visible. */
  commit(epoch: Epoch): void;
  /** The epoch will not exist. What was prepared for it becomes part of the next one, or is taken back by a rollback. */
  abort(epoch: Epoch): void;
  /**
   * Goes back to what was written up to a position, whose epoch exists: what was prepared for that epoch is committed, what
   * was written or prepared later is taken back. Before anything is written, and at every rollback; null: to the empty
   * output.
   */
  rollBack(epoch: Epoch, position: unknown | null): void;
}

/** A sink's answer to `prepare`. */
export type Vote =
  | { readonly kind: "commit" }
  /**
   * `rollBack`: what was written since the last checkpoint can't be made visible any more, as by a lost connection; this is
   * so unless it is false: then all is kept, and belongs to the next one.
   */
  | { readonly kind: "abort"; readonly reason: string; readonly rollBack?: boolean };
