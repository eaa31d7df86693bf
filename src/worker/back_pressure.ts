/**
 * What can't take more stops the inputs that reach it, and only those: a sink whose queue is full, an exchange without credit
 * at a peer, a file of dead letters that the disk does not keep up with.
 */
import type { WorkerName } from "../base/ids.ts";
import type { SinkConnector } from "../connectors/connector.ts";
import type { Plan, Reach } from "../plan/plan.ts";
import type { BatchLinks } from "./batch_links.ts";
import type { DeadLetters } from "./dead_letters.ts";
import type { Drain } from "./drain.ts";

export interface BackPressureOptions {
  readonly plan: Plan;
  readonly sinks: readonly SinkConnector[];
  readonly drain: Pick<Drain, "leavesOut" | "underWay">;
}

/** Who else may hold back, from when the cluster is known on. */
interface Around {
  readonly links: Pick<BatchLinks, "hasCredit">;
  readonly peers: readonly WorkerName[];
  readonly deadLetters: Pick<DeadLetters, "blocked"> | null;
}

export class BackPressure {
  readonly #options: BackPressureOptions;
  /** By index: what records can reach within one call. */
  readonly #bySource: readonly Reach[];
  readonly #byExchange: readonly Reach[];
  #around: Around | null = null;

  constructor(options: BackPressureOptions) {
    this.#options = options;
    const { plan } = options;
    this.#bySource = plan.sources.map((source) => wholeReach(plan, source));
    this.#byExchange = plan.exchanges.map((exchange) => wholeReach(plan, exchange));
  }

  install(around: Around): void {
    this.#around = around;
  }

  /** Must this source stand still? */
  onSource(source: number): boolean {
    return this.#blocks(this.#bySource[source]!);
  }

  /** Must what comes through this exchange wait? */
  onExchange(exchange: number): boolean {
    return this.#blocks(this.#byExchange[exchange]!);
  }

  /** Must records wait that reach this, up to the next exchange? */
  on(reach: Reach): boolean {
    return this.#blocks(wholeReach(this.#options.plan, reach));
  }

  /** Who is kept from reading, by what; for status. */
  muted(): { readonly input: string; readonly by: readonly string[] }[] {
    const { plan } = this.#options;
    const found: { input: string; by: string[] }[] = [];
    if (this.#around === null) return found;
    for (const { index, name } of plan.sources) {
      const by = this.#blockers(this.#bySource[index]!);
      if (by.length > 0) found.push({ input: `source ${name}`, by });
    }
    for (const { id, index } of plan.exchanges) {
      const by = this.#blockers(this.#byExchange[index]!);
      if (by.length > 0) found.push({ input: `exchange ${id}`, by });
    }
    return found;
  }

  #blocks(reach: Reach): boolean {
    if (this.#around?.deadLetters?.blocked === true) return true;
    for (const sink of reach.reachesSinks) if (this.#holdsBack(this.#options.sinks[sink]!)) return true;
    for (const exchange of reach.reachesExchanges) if (this.#outOfCredit(exchange) !== null) return true;
    return false;
  }

  #blockers(reach: Reach): string[] {
    const by: string[] = [];
    if (this.#around?.deadLetters?.blocked === true) by.push("the file of dead letters (waiting for the disk)");
    for (const sink of reach.reachesSinks) {
      const connector = this.#options.sinks[sink]!;
      if (this.#holdsBack(connector))
        by.push(`sink ${connector.target}${connector.connected ? "" : " (not connected)"}`);
    }
    for (const exchange of reach.reachesExchanges) {
      const peer = this.#outOfCredit(exchange);
      if (peer !== null) by.push(`worker ${peer}`);
    }
    return by;
  }

  /** At a stop, who is away holds back nobody: what was taken in is bounded, and is counted if it can't be delivered. */
  #holdsBack(sink: SinkConnector): boolean {
    return sink.blocked && (sink.connected || !this.#options.drain.underWay);
  }

  #outOfCredit(exchange: number): WorkerName | null {
    if (this.#around === null) return null;
    const { links, peers } = this.#around;
    const { drain } = this.#options;
    for (const peer of peers) if (!drain.leavesOut(peer) && !links.hasCredit(peer, exchange)) return peer;
    return null;
  }
}

/** Whatever stays on this worker at an exchange goes on behind it at once. */
function wholeReach(plan: Plan, from: Reach): Reach {
  const sinks = new Set(from.reachesSinks);
  const exchanges = new Set(from.reachesExchanges);
  // A set may grow while it is walked.
  for (const exchange of exchanges) {
    const { reachesSinks, reachesExchanges } = plan.exchanges[exchange]!;
    for (const sink of reachesSinks) sinks.add(sink);
    for (const behind of reachesExchanges) exchanges.add(behind);
  }
  return { reachesSinks: [...sinks], reachesExchanges: [...exchanges] };
}
