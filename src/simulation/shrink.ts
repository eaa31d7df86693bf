/**
 * Makes a failing scenario small: drops faults, then senders, messages, keys, workers, then what is out of the ordinary, then
 * rounds times; keeps each change with which the same oracle still fails (Zeller and Hildebrandt, "Simplifying and Isolating
 * Failure-Inducing Input", IEEE TSE 2002).
 */
import type { RunResult } from "./run.ts";
import { type Fault, type OracleId, type Scenario, type Trigger, workerNames } from "./scenario.ts";

export interface ShrinkOptions {
  readonly run: (scenario: Scenario) => Promise<RunResult>;
  /** Enough: gives back what it has. */
  readonly expired: () => boolean;
  readonly progress?: (text: string) => void;
}

export interface Shrunk {
  readonly scenario: Scenario;
  readonly result: RunResult;
  readonly runs: number;
}

/** @returns Null when the scenario does not fail. */
export async function shrinkScenario(scenario: Scenario, options: ShrinkOptions): Promise<Shrunk | null> {
  const first = await options.run(scenario);
  const oracle = first.violations[0]?.oracle;
  if (oracle === undefined) return null;
  const shrinker = new Shrinker(scenario, first, oracle, options);
  await shrinker.shrink();
  return shrinker.best;
}

class Shrinker {
  readonly #oracle: OracleId;
  readonly #options: ShrinkOptions;
  #scenario: Scenario;
  #result: RunResult;
  #runs = 1;

  constructor(scenario: Scenario, result: RunResult, oracle: OracleId, options: ShrinkOptions) {
    this.#scenario = scenario;
    this.#result = result;
    this.#oracle = oracle;
    this.#options = options;
  }

  get best(): Shrunk {
    return { scenario: this.#scenario, result: this.#result, runs: this.#runs };
  }

  async shrink(): Promise<void> {
    // The one oracle is enough, and the others may be slower.
    await this.#try({ ...this.#scenario, expect: [this.#oracle] });
    await this.#try(withOwnTimes(this.#scenario, this.#result));
    for (let round = 0; round < 4 && !this.#options.expired(); round++) {
      const before = JSON.stringify(this.#scenario);
      await this.#faults();
      await this.#input();
      await this.#workers();
      await this.#settings();
      await this.#times();
      if (JSON.stringify(this.#scenario) === before) break;
    }
  }

  async #try(candidate: Scenario): Promise<boolean> {
    if (this.#options.expired()) return false;
    if (JSON.stringify(candidate) === JSON.stringify(this.#scenario)) return false;
    this.#runs++;
    const result = await this.#options.run(candidate);
    if (!result.violations.some(({ oracle }) => oracle === this.#oracle)) return false;
    this.#scenario = candidate;
    this.#result = result;
    this.#options.progress?.(
      `${candidate.faults.length} faults, ${candidate.workers} workers, ${candidate.senders.length} senders of ` +
        `${candidate.messages} messages, after ${this.#runs} runs`,
    );
    return true;
  }

  /** Pieces of half the list, then of a quarter, and so on down to single faults. */
  async #faults(): Promise<void> {
    let size = Math.max(1, this.#scenario.faults.length >> 1);
    for (;;) {
      let dropped = false;
      for (let at = 0; at < this.#scenario.faults.length; ) {
        const { faults } = this.#scenario;
        const kept = [...faults.slice(0, at), ...faults.slice(at + size)];
        if (await this.#try({ ...this.#scenario, faults: anchored(kept, at, faults[at]!) })) dropped = true;
        else at += size;
      }
      if (size === 1 && !dropped) return;
      size = Math.max(1, size >> 1);
      if (this.#options.expired()) return;
    }
  }

  async #input(): Promise<void> {
    for (let at = this.#scenario.senders.length - 1; at >= 0; at--) {
      await this.#try({ ...this.#scenario, senders: this.#scenario.senders.filter((_, i) => i !== at) });
    }
    await this.#try({ ...this.#scenario, messages: 0, senders: [] });
    await this.#halve("messages", 1);
    await this.#try({ ...this.#scenario, keys: 1 });
    await this.#halve("keys", 1);
    for (const [at, sender] of this.#scenario.senders.entries()) {
      const senders = this.#scenario.senders.with(at, { ...sender, batch: 1, startMs: 0 });
      await this.#try({ ...this.#scenario, senders });
    }
  }

  async #halve(field: "messages" | "keys", least: number): Promise<void> {
    for (let value = this.#scenario[field]; value > least; ) {
      value = Math.max(least, value >> 1);
      if (!(await this.#try({ ...this.#scenario, [field]: value }))) return;
    }
  }

  /** Takes away the last worker, with what was done to it. */
  async #workers(): Promise<void> {
    while (this.#scenario.workers > 1) {
      const workers = this.#scenario.workers - 1;
      const names = workerNames(workers);
      const gone = workerNames(workers + 1).at(-1)!;
      const faults = this.#scenario.faults.filter((fault) => !JSON.stringify(fault).includes(`"${gone}"`));
      const senders = this.#scenario.senders.map((sender) =>
        sender.worker === gone ? { ...sender, worker: names.at(-1)! } : sender,
      );
      const { starts } = this.#scenario;
      const candidate = { ...this.#scenario, workers, faults, senders };
      if (!(await this.#try(starts === undefined ? candidate : { ...candidate, starts: starts.slice(0, workers) })))
        return;
    }
  }

  /** Back to what is usual. */
  async #settings(): Promise<void> {
    for (const field of ["starts", "limits", "network", "disk"] as const) {
      const { [field]: _, ...rest } = this.#scenario;
      if (await this.#try(rest)) continue;
      if (field === "starts") continue;
      for (const name of Object.keys(this.#scenario[field] ?? {})) {
        const { [name as never]: __, ...others } = this.#scenario[field] as Record<string, never>;
        await this.#try({ ...this.#scenario, [field]: others });
      }
    }
    // That one is simulated without checkpoints only.
    const { checkpointMs: _, ...plain } = this.#scenario;
    if (plain.application !== "last_four") await this.#try({ ...plain, application: "last_four" });
  }

  async #times(): Promise<void> {
    for (const roundTo of [1_000, 100, 10]) {
      for (const [at, fault] of this.#scenario.faults.entries()) {
        const rounded: Record<string, unknown> = { ...fault };
        if ("ms" in fault) rounded["ms"] = Math.max(roundTo, Math.round(fault.ms / roundTo) * roundTo);
        if ("ms" in fault.at) rounded["at"] = { ...fault.at, ms: Math.round(fault.at.ms / roundTo) * roundTo };
        await this.#try({ ...this.#scenario, faults: this.#scenario.faults.with(at, rounded as unknown as Fault) });
      }
      const { limitMs } = this.#scenario;
      await this.#try({ ...this.#scenario, limitMs: Math.ceil(limitMs / 2 / roundTo) * roundTo });
    }
  }
}

/** With the times at which faults really came, so that each stands by itself. What hangs on a point stays there. */
function withOwnTimes(scenario: Scenario, { observation }: RunResult): Scenario {
  const faults: Fault[] = [];
  let onPoint = false;
  for (const [index, fault] of scenario.faults.entries()) {
    const came = observation.faults.find((record) => record.index === index);
    if (came === undefined) continue;
    const follows = "after" in fault.at;
    if (!follows) onPoint = "point" in fault.at;
    faults.push(onPoint ? fault : { ...fault, at: { ms: came.timeMs } });
  }
  return { ...scenario, faults };
}

/** A fault that followed one that was dropped takes over its trigger. */
function anchored(kept: readonly Fault[], at: number, dropped: Fault): Fault[] {
  const follower = kept[at];
  if (follower === undefined || !("after" in follower.at)) return [...kept];
  const { ms } = follower.at;
  const trigger: Trigger = "ms" in dropped.at ? { ...dropped.at, ms: dropped.at.ms + ms } : dropped.at;
  return kept.with(at, { ...follower, at: trigger });
}
