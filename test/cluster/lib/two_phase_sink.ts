/** The two-phase sink of the rule files with real sockets and files, in the process of the test. */
import { readFileSync } from "node:fs";
import { SINK_COOKIE_DEFAULT } from "../../../src/api/connector_sink.ts";
import { readSinkLog, type SinkLogEntry, type SinkRule } from "../../../src/simulation/environment/sink_book.ts";
import { TwoPhaseSink } from "../../../src/simulation/environment/two_phase_sink.ts";
import { realRuntime } from "../../lib/real_runtime.ts";
import { epochOf } from "../../lib/two_phase_sink.ts";
import { host } from "./ports.ts";

export class RealTwoPhaseSink {
  /** How often a worker broke the protocol, in words. */
  readonly fatal: string[] = [];
  readonly #path: string;
  readonly #log = new Map<string, SinkLogEntry[]>();
  #sink: TwoPhaseSink | null = null;

  private constructor(path: string) {
    this.#path = path;
  }

  /** @param path Absolute: what its files are called before the dot and the worker's name. */
  static async open(path: string, port: number, rules: readonly SinkRule[] = []): Promise<RealTwoPhaseSink> {
    const opened = new RealTwoPhaseSink(path);
    opened.#sink = new TwoPhaseSink({
      runtime: await realRuntime(),
      path,
      cookie: SINK_COOKIE_DEFAULT,
      rulesOf: () => rules,
      logged: (instance, entry) => {
        const entries = opened.#log.get(instance);
        if (entries === undefined) opened.#log.set(instance, [entry]);
        else entries.push(entry);
      },
      fatal: (instance, text) => opened.fatal.push(`${instance}: ${text}`),
    });
    await opened.#sink.listen({ host, port });
    return opened;
  }

  log(instance: string): readonly SinkLogEntry[] {
    return this.#log.get(instance) ?? [];
  }

  /** Decisions by checkpoint, as it heard them. */
  decisions(instance: string): Map<number, string> {
    const decided = new Map<number, string>();
    for (const entry of this.log(instance)) {
      if (entry.event === "phase2") decided.set(epochOf(entry.id), entry.decision);
    }
    return decided;
  }

  /** How many bytes of this worker's output count. */
  committedBytes(instance: string): number {
    return this.#sink!.committed(instance);
  }

  /** What counts of this worker's output. */
  committed(instance: string): string {
    const length = this.committedBytes(instance);
    return length === 0 ? "" : readFileSync(`${this.#path}.${instance}`).subarray(0, length).toString("utf8");
  }

  /** Its log as it is in its file. */
  savedLog(instance: string): SinkLogEntry[] {
    return readSinkLog(readFileSync(`${this.#path}.${instance}.txnlog`)).entries;
  }

  cutAll(): void {
    this.#sink!.cutAll();
  }

  close(): void {
    this.#sink!.close();
  }
}
