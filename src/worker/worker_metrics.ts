/** What a worker measures, once a batch, and where it sends it. */
import type { DataflowMeter } from "./dataflow_shell.ts";

export class WorkerMetrics implements DataflowMeter {
  start(): void {}
  close(): void {}
  decoded(_pipeline: number, _records: number, _nanos: number): void {}
  ingested(_pipeline: number, _records: number): void {}
  stage(_stage: number, _pipeline: number, _records: number, _nanos: number): void {}
  finished(_pipeline: number, _records: number, _nanos: number): void {}
  left(_pipeline: number, _records: number, _nanos: number): void {}
}
