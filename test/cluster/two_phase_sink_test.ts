/** A sink program that commits in two phases, and real workers: kill -9 of either side. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readSinkLog, SinkBook, type SinkLogEntry } from "../../src/simulation/environment/sink_book.ts";
import { withFolder } from "../lib/real_runtime.ts";
import { epochOf } from "../lib/two_phase_sink.ts";
import { freePorts, host } from "./lib/ports.ts";
import { Program, root } from "./lib/process.ts";
import { waitFor } from "./lib/wait.ts";

const APPLICATION = join(root, "test/compat/apps/aloc_sink_celsius.ts");
const INSTANCE = "initializer";

/** One worker and one sink, each a process, in a folder of their own. */
class Pair {
  readonly folder: string;
  readonly #ports: readonly number[];
  readonly #extra: readonly string[];
  readonly programs: Program[] = [];
  worker!: Program;
  sink!: Program;

  constructor(folder: string, ports: readonly number[], extra: readonly string[]) {
    this.folder = folder;
    this.#ports = ports;
    this.#extra = extra;
  }

  get out(): string {
    return join(this.folder, "out");
  }

  startSink(): void {
    const [port] = this.#ports;
    const command = [process.execPath, join(root, "test/compat/aloc_sink.ts")];
    this.sink = new Program("sink", [this.out, join(this.folder, "rules"), `${port}`], { command });
    this.programs.push(this.sink);
  }

  /** As the original's own test does it: `--in` and `--out` are not given, and nothing listens at `--metrics`. */
  startWorker(): void {
    const [sink, metrics, data, external, control] = this.#ports.map((port) => `${host}:${port}`);
    this.worker = new Program("worker", [
      ...["worker", "--application-module", APPLICATION, "--sink-address", sink!, "--run-with-resilience"],
      ...["--metrics", metrics!, "--resilience-dir", join(this.folder, "resilience"), "--name", "worker-name"],
      ...["--worker-count", "1", "--data", data!, "--external", external!, "--cluster-initializer"],
      ...["--control", control!, "--ponythreads=1", "--ponynoblock", ...this.#extra],
    ]);
    this.programs.push(this.worker);
  }

  log(): SinkLogEntry[] {
    const path = `${this.out}.${INSTANCE}.txnlog`;
    return existsSync(path) ? readSinkLog(new Uint8Array(readFileSync(path))).entries : [];
  }

  decisions(): Map<number, string> {
    const decided = this.log().flatMap((entry): [number, string][] =>
      entry.event === "phase2" ? [[epochOf(entry.id), entry.decision]] : [],
    );
    return new Map(decided);
  }

  /** Lines that count. */
  committed(): string[] {
    const book = new SinkBook(this.log(), 0);
    const text = readFileSync(`${this.out}.${INSTANCE}`).subarray(0, book.committed).toString();
    assert.ok(text === "" || text.endsWith("\n"));
    return text.split("\n").slice(0, -1);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    await waitFor(
      () => {
        if (this.sink.end?.status === 66) throw new Error(`the sink says: ${this.sink.stderr}`);
        return condition();
      },
      { what, everyMs: 50, seen: () => this.programs.map((each) => each.tail()).join("\n") },
    );
  }

  async close(): Promise<void> {
    for (const program of this.programs) if (program.end === null) await program.kill();
  }
}

async function withPair(extra: readonly string[], body: (pair: Pair) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const pair = new Pair(folder, await freePorts(5), extra);
    try {
      await body(pair);
    } finally {
      await pair.close();
    }
  });
}

/** -40.0, -39.0, ... in Fahrenheit. */
function checkNumbers(lines: readonly string[]): void {
  lines.forEach((line, at) => {
    const fahrenheit = (at - 40) * 1.8 + 32;
    if (line !== `${fahrenheit}${Number.isInteger(fahrenheit) ? ".0" : ""}`) {
      assert.fail(`line ${at} is ${line} instead of ${fahrenheit}`);
    }
  });
}

test("worker and sink are killed again and again: what counts is every number once, in order", {
  timeout: 300_000,
}, async () => {
  await withPair(["--checkpoint-interval", "100ms"], async (pair) => {
    pair.startSink();
    pair.startWorker();
    let before = 0;
    for (const dies of ["worker", "sink", "both", "sink", "worker", "both"]) {
      await pair.until("another checkpoint", () => {
        const last = Math.max(
          0,
          ...[...pair.decisions()].filter(([, what]) => what === "commit").map(([epoch]) => epoch),
        );
        if (last < before + 2) return false;
        before = last;
        return true;
      });
      if (dies !== "sink") await pair.worker.kill();
      if (dies !== "worker") await pair.sink.kill();
      checkNumbers(pair.committed());
      if (dies !== "worker") pair.startSink();
      if (dies !== "sink") pair.startWorker();
    }
    await pair.until("all numbers", () => {
      const lines = pair.committed();
      checkNumbers(lines);
      return lines.length === 1_000_040;
    });
  });
});
