/**
 * The two-phase sink of the six rule files on a virtual machine: a program that can be killed, lose its power and come back,
 * and what counts in its files.
 */
import { SINK_COOKIE_DEFAULT } from "../../src/api/connector_sink.ts";
import type { VirtualHost } from "../../src/runtime/virtual/host.ts";
import type { VirtualProcess } from "../../src/runtime/virtual/process.ts";
import { readSinkLog, SinkBook, type SinkLogEntry, type SinkRule } from "../../src/simulation/environment/sink_book.ts";
import { TwoPhaseSink } from "../../src/simulation/environment/two_phase_sink.ts";

export const TWO_PHASE_PORT = 7200;
const PATH = "/data/out";

/** The six rule files: what is done with the transaction of checkpoint 3, and what is expected of it. */
export const RULE_FILES: readonly {
  readonly number: number;
  readonly rule: SinkRule;
  readonly expected: "commit" | "abort";
}[] = [
  { number: 1, rule: { transaction: ":c_id=3", vote: "abort" }, expected: "abort" },
  { number: 2, rule: { transaction: ":c_id=3", vote: "abort", close: "before" }, expected: "abort" },
  { number: 3, rule: { transaction: ":c_id=3", vote: "abort", close: "after" }, expected: "abort" },
  { number: 4, rule: { transaction: ":c_id=3", vote: "commit" }, expected: "commit" },
  { number: 5, rule: { transaction: ":c_id=3", vote: "commit", close: "before" }, expected: "abort" },
  { number: 6, rule: { transaction: ":c_id=3", vote: "commit", close: "after" }, expected: "commit" },
];

export class VirtualTwoPhaseSink {
  readonly machine: VirtualHost;
  readonly #rules: readonly SinkRule[];
  /** How often a worker broke the protocol, in words. */
  readonly fatal: string[] = [];
  sink: TwoPhaseSink | null = null;
  #process: VirtualProcess | null = null;

  constructor(machine: VirtualHost, rules: readonly SinkRule[] = []) {
    this.machine = machine;
    this.#rules = rules;
    this.start();
  }

  start(): void {
    this.#process = this.machine.startProcess(async (runtime) => {
      await runtime.disk.makeDir("/data");
      await runtime.disk.syncDir("/");
      this.sink = new TwoPhaseSink({
        runtime,
        path: PATH,
        cookie: SINK_COOKIE_DEFAULT,
        rulesOf: () => this.#rules,
        fatal: (instance, text) => this.fatal.push(`${instance}: ${text}`),
      });
      await this.sink.listen({ host: "0.0.0.0", port: TWO_PHASE_PORT });
    });
  }

  kill(): void {
    this.#process?.kill();
    this.#process = null;
  }

  log(instance: string): SinkLogEntry[] {
    const bytes = this.machine.disk.peek(`${PATH}.${instance}.txnlog`);
    return bytes === null ? [] : readSinkLog(bytes).entries;
  }

  /** All that is here of this worker's output. */
  output(instance: string): string {
    return new TextDecoder().decode(this.machine.disk.peek(`${PATH}.${instance}`) ?? new Uint8Array(0));
  }

  /** What counts of it. */
  committed(instance: string): string {
    const bytes = this.machine.disk.peek(`${PATH}.${instance}`) ?? new Uint8Array(0);
    return new TextDecoder().decode(bytes.subarray(0, new SinkBook(this.log(instance), 0).committed));
  }

  /** Its transaction that has a vote and no decision; null: there is none. */
  open(instance: string): string | null {
    return new SinkBook(this.log(instance), 0).pending?.id ?? null;
  }

  /** Decisions by checkpoint, as it heard them. */
  decisions(instance: string): Map<number, string> {
    const decided = new Map<number, string>();
    for (const entry of this.log(instance)) {
      if (entry.event === "phase2") decided.set(epochOf(entry.id), entry.decision);
    }
    return decided;
  }
}

export function epochOf(transaction: string): number {
  return Number(/:c_id=([0-9]+)$/.exec(transaction)![1]);
}
