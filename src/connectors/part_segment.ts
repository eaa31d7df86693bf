import type { DiskFile } from "../runtime/runtime.ts";
import { OutputQueue, type OutputRecords } from "./output_queue.ts";

/** What was given to a file sink between two cuts: still in memory, or in a file that is not visible yet. */
export class PartSegment {
  readonly queue = new OutputQueue();
  /** Given to it so far. */
  bytes = 0;
  records = 0;
  /** In the file. */
  written = 0;
  /** Of its file in the folder; null: it has none yet. */
  name: string | null = null;
  /** While it is written. */
  file: DiskFile | null = null;
  /** A write failed half-way: the file is longer than what is known to be in it. */
  torn = false;
  synced = false;
  /** A sync failed: nobody knows what is in the file. */
  spoiled = false;

  push(records: OutputRecords): void {
    this.queue.push(records);
    this.bytes += records.bytes.length;
    this.records += records.ends.length;
  }

  get isWritten(): boolean {
    return this.written === this.bytes;
  }
}
