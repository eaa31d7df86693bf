/** A file source on a virtual machine, or on this one, and what it hands on. */
import { lines } from "../../mod.ts";
import { FileSourceConnector, type FileSourceOptions } from "../../src/connectors/file_source.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import { VirtualWorld } from "../../src/runtime/virtual/world.ts";
import { CollectedLog } from "./fakes.ts";

export class Reading {
  readonly records: string[] = [];
  readonly log = new CollectedLog();
  readonly connector: FileSourceConnector;
  /** What ended the worker. */
  failure: unknown = null;
  blocked = false;
  /** Blocks by itself once so many records are there. */
  stopAt: number;

  constructor(
    runtime: Runtime,
    { stopAt, ...options }: Pick<FileSourceOptions, "place"> & Partial<FileSourceOptions> & { stopAt?: number },
  ) {
    this.stopAt = stopAt ?? Number.POSITIVE_INFINITY;
    const decoder = new TextDecoder();
    this.connector = new FileSourceConnector({
      runtime,
      log: this.log,
      name: "numbers",
      framing: lines,
      lengthMax: 1 << 20,
      follow: false,
      rate: 0,
      turn: (run) => {
        if (this.failure !== null) return;
        try {
          run();
        } catch (error) {
          this.failure = error;
        }
      },
      blocked: () => this.blocked || this.records.length >= this.stopAt,
      frames: (bytes, starts, ends, count) => {
        for (let i = 0; i < count; i++) this.records.push(decoder.decode(bytes.subarray(starts[i], ends[i])));
      },
      ...options,
    });
  }

  get done(): boolean {
    return this.connector.ended || this.failure !== null;
  }

  /** A position as it comes back from a checkpoint. */
  snapshot(): unknown {
    return structuredClone(this.connector.checkpoints.snapshot(1));
  }

  /** From a position of an earlier one, or from the beginning. */
  start(position: unknown = null): this {
    if (position !== null) this.connector.checkpoints.seek(position);
    this.connector.open();
    return this;
  }
}

export interface Place {
  readonly world: VirtualWorld;
  readonly host: VirtualHost;
  readonly runtime: Runtime;
}

export function place(seed = 1): Place {
  const world = new VirtualWorld({ seed });
  const host = world.host("machine");
  return { world, host, runtime: host.startProcess(() => {}).runtime };
}

export function numbered(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, i) => `record ${from + i}`);
}

export function text(records: readonly string[]): string {
  return records.map((record) => `${record}\n`).join("");
}
