/**
 * O-2PC: a sink that commits in two phases is told one truth. Judged by its transaction log:
 *
 *   - no worker breaks the protocol: no gap, no step back, no output between the phases, no decision about nothing;
 *   - ranges that were committed lie one behind the other, without gap or overlap;
 *   - nothing is both committed and aborted, and commits come in the order of checkpoints;
 *   - behind a commit of checkpoint c, the cluster never goes back to one before c;
 *   - at the end everything that was voted for has its decision.
 *
 * That the bytes are those of an undisturbed run, at any moment, is for O-SEQ and O-MODEL to say.
 */
import type { WorkerName } from "../../base/ids.ts";
import type { Observation } from "../observation.ts";
import { type Oracle, REPORTED_MAX, type Violation } from "./oracle.ts";

export const o2pc: Oracle = { id: "O-2PC", check };

/** What is known of one worker's transactions. */
class Ledger {
  committed = 0;
  lastEpoch = 0;
  /** The last range that was asked for. */
  asked: { readonly id: string; readonly start: number; readonly end: number } | null = null;
  readonly decisions = new Map<string, "abort" | "commit">();
}

function check(observation: Observation): Violation[] {
  const violations: Violation[] = [];
  const report = (timeMs: number, text: string) => {
    if (violations.length < REPORTED_MAX) violations.push({ oracle: "O-2PC", timeMs, text });
  };
  for (const { timeMs, worker, text } of observation.sinkRefusals) {
    report(timeMs, `${worker} breaks the sink's protocol: ${text}`);
  }
  const ledgers = new Map<WorkerName, Ledger>();
  /** Commits as they came: time, and the highest checkpoint so far. */
  const commits: { readonly timeMs: number; readonly epoch: number }[] = [];
  for (const { timeMs, worker, entry } of observation.transactions) {
    let ledger = ledgers.get(worker);
    if (ledger === undefined) {
      ledger = new Ledger();
      ledgers.set(worker, ledger);
    }
    if (entry.event === "error") report(timeMs, `the sink of ${worker} complains: ${entry.text}`);
    if (entry.event === "phase1") ledger.asked = entry;
    if (entry.event !== "phase2") continue;
    const why = decide(ledger, entry.id, entry.decision);
    if (why !== null) report(timeMs, `${worker}: ${why}`);
    if (entry.decision !== "commit") continue;
    const epoch = epochOf(entry.id);
    commits.push({ timeMs, epoch: Math.max(epoch, commits.at(-1)?.epoch ?? 0) });
  }
  checkRecoveries(observation, commits, report);
  if (observation.ending?.leftMs == null) return violations;
  for (const [worker, { asked, decisions }] of ledgers) {
    if (asked === null || decisions.has(asked.id)) continue;
    report(observation.timeMs, `${worker}: ${asked.id} was voted for, and has no decision at the end`);
  }
  return violations;
}

/** A sink that was not told the first time, or has lost it with its power, is told again: the same. */
function decide(ledger: Ledger, id: string, decision: "abort" | "commit"): string | null {
  const before = ledger.decisions.get(id);
  ledger.decisions.set(id, decision);
  if (before === decision) return null;
  if (before !== undefined) return `${id} was told to ${before}, and then to ${decision}`;
  if (decision === "abort") return null;
  const { asked, committed, lastEpoch } = ledger;
  const epoch = epochOf(id);
  if (asked?.id !== id) return `${id} was committed, and ${asked?.id ?? "nothing"} was asked for`;
  if (asked.start !== committed) return `${id} begins at ${asked.start}, and ${committed} bytes were committed before`;
  if (epoch <= lastEpoch) return `checkpoint ${epoch} was committed behind ${lastEpoch}`;
  ledger.committed = asked.end;
  ledger.lastEpoch = epoch;
  return null;
}

function checkRecoveries(
  observation: Observation,
  commits: readonly { readonly timeMs: number; readonly epoch: number }[],
  report: (timeMs: number, text: string) => void,
): void {
  for (const { timeMs, worker, code, text } of observation.log) {
    if (code !== "rolling_back") continue;
    const back = Number(/checkpoint ([0-9]+)/.exec(text)?.[1]);
    const committed = commits.findLast((commit) => commit.timeMs < timeMs)?.epoch ?? 0;
    if (back < committed) report(timeMs, `${worker} goes back to checkpoint ${back}, and ${committed} was committed`);
  }
}

function epochOf(transaction: string): number {
  return Number(/:c_id=([0-9]+)$/.exec(transaction)?.[1] ?? Number.NaN);
}
