/** Where a dead letter goes in again: the very operator that refused it. */
import { assignOwners, hashKey, keyGroupOf } from "../plan/key_groups.ts";
import type { Plan, PlannedExchange, PlannedSink, PlannedSource, PlannedStage, Reach, Target } from "../plan/plan.ts";
import type { ResentLetter } from "../wire/resend.ts";

export type LetterEntry =
  | { readonly kind: "source"; readonly source: PlannedSource }
  | { readonly kind: "stage"; readonly stage: PlannedStage }
  | { readonly kind: "exchange"; readonly exchange: PlannedExchange }
  | { readonly kind: "sink"; readonly sink: PlannedSink };

/** @returns A text: why there is none. */
export function entryOf(plan: Plan, letter: ResentLetter): LetterEntry | string {
  const { stage: id, during, bytes, head, value, key } = letter;
  if (bytes !== null || during === "event_time") return sourceOf(plan, letter);
  const stage = plan.stages.find((each) => each.id === id);
  const exchange = plan.exchanges.find((each) => each.id === id);
  const sink = plan.sinks.find((each) => each.id === id);
  if (stage === undefined && exchange === undefined && sink === undefined) return isNot(id);
  if (value === null || head !== null) return `it has no record that ${id} could take`;
  if (stage !== undefined) {
    if (stage.keyed && key === null) return `${id} takes records with keys now, and this one has none`;
    return { kind: "stage", stage };
  }
  return exchange !== undefined ? { kind: "exchange", exchange } : { kind: "sink", sink: sink! };
}

function sourceOf(plan: Plan, { stage: id, bytes, head, value }: ResentLetter): LetterEntry | string {
  const source = plan.sources.find(({ name }) => id === `${name}/decode`);
  if (source === undefined) return isNot(id);
  const { kind } = source.definition;
  if (kind === "generator") return `source ${source.name} is a generator now, which takes no records`;
  if (bytes === null && value === null) return "it has no record";
  if (bytes !== null && kind === "connector" && head === null) {
    return `source ${source.name} takes messages of connector programs, and this record is not kept as one`;
  }
  return { kind: "source", source };
}

function isNot(id: string): string {
  return `this application has no stage ${id}: its name was changed, or it was taken out; give it back its name`;
}

/** The member whose key it is, by index; null: any worker does. */
export function ownerOf(entry: LetterEntry, { key }: ResentLetter, members: number, keyGroups: number): number | null {
  if (key === null || entry.kind === "source" || entry.kind === "exchange") return null;
  if (entry.kind === "stage" && !entry.stage.keyed) return null;
  return assignOwners(members, keyGroups)[keyGroupOf(hashKey(key), keyGroups)]!;
}

/** What its record reaches, until it has crossed an exchange. */
export function reachOf(plan: Plan, entry: LetterEntry): Reach {
  switch (entry.kind) {
    case "source":
      return entry.source;
    case "sink":
      return { reachesSinks: [entry.sink.index], reachesExchanges: [] };
    case "exchange":
      return { reachesSinks: [], reachesExchanges: [entry.exchange.index] };
    case "stage": {
      let target: Target = entry.stage.target;
      while (target.kind === "stage") target = plan.stages[target.stage]!.target;
      return target.kind === "sinks"
        ? { reachesSinks: target.sinks, reachesExchanges: [] }
        : { reachesSinks: [], reachesExchanges: [target.exchange] };
    }
  }
}
