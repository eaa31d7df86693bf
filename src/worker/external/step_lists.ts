import type { Plan } from "../../plan/plan.ts";
import { entityId, INSTANCES, stepIds } from "./entity_ids.ts";
import type { Partitions } from "./handler.ts";

/** The group of a stage, by its operator id. */
export function groupId(operator: string): string {
  return entityId("group", operator);
}

/** Ten steps for each stage on this worker: what the original had, and what harnesses count. */
export function partitionsOf(plan: Plan, worker: string): Partitions {
  const state = new Map<string, Map<string, string[]>>();
  const stateless = new Map<string, Map<string, string[]>>();
  for (const stage of plan.stages) {
    const partitions = stage.kind === "stateful" ? state : stateless;
    partitions.set(groupId(stage.id), new Map([[worker, stepIds(stage.id, worker)]]));
  }
  return { state, stateless };
}

/** The step that stands for all keys of a stage on a worker, where counts are asked for by step. */
export function stateStepId(operator: string, worker: string): string {
  return stepIds(operator, worker)[0]!;
}

/** One id for each connection that a TCP source says it takes at a time; ten for any other, as in the original. */
export function sourceIdsOf(plan: Plan, worker: string): string[] {
  return plan.sources.flatMap(({ name, definition }) => {
    const length = (definition.kind === "tcp" ? definition.connectionsMax : undefined) ?? INSTANCES;
    return Array.from({ length }, (_, index) => entityId("source", worker, name, `${index}`));
  });
}
