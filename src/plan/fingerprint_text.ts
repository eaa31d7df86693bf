import type { Plan, Target } from "./plan.ts";

/**
 * The plan as text, the same wherever the same graph is planned: names, ids, kinds, connections; no option values, no
 * addresses, no functions (the application's code has a fingerprint of its own). One line a thing.
 */
export function planFingerprintText(plan: Plan): string {
  const target = (to: Target): string => {
    switch (to.kind) {
      case "stage":
        return quote(plan.stages[to.stage]!.id);
      case "exchange":
        return quote(plan.exchanges[to.exchange]!.id);
      case "sinks":
        return to.sinks.map((sink) => quote(plan.sinks[sink]!.id)).join(" ");
    }
  };
  const lines = [`application ${quote(plan.application)}`];
  for (const { name, definition, target: to } of plan.sources) {
    lines.push(`source ${definition.kind} ${quote(name)} to ${target(to)}`);
  }
  for (const { kind, id, keyed, target: to } of plan.stages) {
    lines.push(`stage ${kind}${keyed ? " keyed" : ""} ${quote(id)} to ${target(to)}`);
  }
  for (const { kind, id, target: to } of plan.exchanges) lines.push(`exchange ${kind} ${quote(id)} to ${target(to)}`);
  for (const { definition, id, output } of plan.sinks) {
    lines.push(`sink ${definition.kind} ${quote(id)}${output === null ? "" : ` at ${output}`}`);
  }
  return `${lines.join("\n")}\n`;
}

function quote(text: string): string {
  return JSON.stringify(text);
}
