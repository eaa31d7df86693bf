/** A cluster's status in a few lines, for `tammar query --watch`; whatever an answer lacks is left out. */
import { printable } from "../../base/log.ts";
import { fieldsOf } from "../external_client.ts";

type Fields = Readonly<Record<string, unknown>>;

/** @param body The answer to a status query. Ends with a newline. */
export function watchText(body: unknown): string {
  const { application, cluster_id, workers, absent } = fieldsOf(body);
  const all = Object.entries(fieldsOf(workers)).map(([name, fields]) => ({ name, fields: fieldsOf(fields) }));
  const checkpoints = all.map(({ name, fields }) => ({ name, of: fieldsOf(fields["checkpoint"]) }));
  const lines = [
    `"${text(application)}", cluster ${text(cluster_id) || "not formed yet"}; ${all.length} ${all.length === 1 ? "worker" : "workers"} answered${absentText(absent)}`,
    ...checkpointLines(checkpoints),
    ...recoveryLines(checkpoints),
    ...all.flatMap(({ name, fields }) => workerLines(name, fields)),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

interface Part {
  readonly name: string;
  readonly of: Fields;
}

function absentText(absent: unknown): string {
  return Array.isArray(absent) && absent.length > 0 ? `; absent: ${absent.map(text).join(", ")}` : "";
}

function checkpointLines(parts: readonly Part[]): string[] {
  const newest = Math.max(0, ...parts.map(({ of }) => number(of["epoch"])));
  if (newest === 0) return ["checkpoint: none yet"];
  const holders = parts.filter(({ of }) => of["epoch"] === newest);
  const age = Math.min(...holders.map(({ of }) => number(of["age_ms"])));
  // How long it took and what the whole has is known to the initializer, once it has taken one itself.
  const whole = parts.find(({ of }) => number(of["duration_ms"]) > 0)?.of;
  const size =
    whole === undefined
      ? ""
      : `; took ${ms(whole["duration_ms"])}, state ${bytes(whole["total_state_bytes"])}, wrote ${bytes(whole["total_written_bytes"])}`;
  const lines = [`checkpoint ${newest}, ${ms(age)} old${size}`];
  for (const { name, of } of parts) {
    const aborted = number(of["aborted"]);
    lines.push(
      `  ${text(name)}: checkpoint ${number(of["epoch"])}; aligned in ${ms(of["align_ms"])}, written in ${ms(of["write_ms"])}` +
        `; state ${bytes(of["state_bytes"])}, wrote ${bytes(of["written_bytes"])}${aborted === 0 ? "" : `; ${aborted} aborted`}`,
    );
  }
  return lines;
}

/** The last one of the cluster: each worker has gone through it. */
function recoveryLines(parts: readonly Part[]): string[] {
  const now = parts.filter(({ of }) => typeof of["recovering"] === "string" && of["recovering"] !== "");
  const lines = now.map(({ name, of }) => `recovering: ${text(name)}: ${text(of["recovering"])}`);
  const done = parts.filter(({ of }) => of["recovery_role"] === "survivor" || of["recovery_role"] === "returned");
  const first = done[0];
  if (first === undefined) return lines.length > 0 ? lines : ["last recovery: none"];
  const role = (is: string) =>
    done
      .filter(({ of }) => of["recovery_role"] === is)
      .map(({ name }) => text(name))
      .join(", ") || "none";
  lines.push(
    `last recovery: ${ms(first.of["recovery_age_ms"])} ago, to checkpoint ${number(first.of["recovery_epoch"])}: ` +
      `${text(first.of["recovery_reason"])}; returned: ${role("returned")}; survivors: ${role("survivor")}`,
  );
  for (const { name, of } of done) {
    lines.push(
      `  ${text(name)}: stood still ${ms(of["recovery_gather_ms"])} until it was told where to go back to, read ` +
        `${number(of["recovery_keys"])} keys in ${ms(of["recovery_restore_ms"])}, waited ${ms(of["recovery_wait_ms"])} for the others`,
    );
  }
  return lines;
}

function workerLines(name: string, fields: Fields): string[] {
  const keys = list(fields["stages"]).reduce((sum, stage) => sum + number(stage["keys"]), 0);
  const facts = [
    `phase ${number(fields["phase"])}`,
    `generation ${number(fields["generation"])}`,
    `${keys} keys`,
    `memory ${bytes(fields["resident_bytes"])}`,
    `${number(fields["user_errors"])} user errors`,
    fields["stopping"] === true ? "stopping" : [],
    text(fields["waiting_for"]) === "" ? [] : `waiting: ${text(fields["waiting_for"])}`,
  ].flat();
  const lines = [`${text(name)}: ${facts.join(", ")}`];
  for (const { input, by } of list(fields["muted"])) {
    lines.push(`  muted: ${text(input)}, by ${Array.isArray(by) ? by.map(text).join(", ") : text(by)}`);
  }
  if (fieldsOf(fields["checkpoint"])["muted"] === true) {
    lines.push("  muted: all sources, since too many checkpoints in a row have failed");
  }
  const { writing_epoch: epoch, writing_ms: sinceMs } = fieldsOf(fields["checkpoint"]);
  if (number(epoch) > 0) lines.push(`  checkpoint ${number(epoch)} writing for ${ms(sinceMs)}`);
  for (const sink of list(fields["sinks"])) {
    const since = number(sink["muted_ms"]);
    const mutes = since === 0 ? "" : `, has held its sources back for ${ms(since)}`;
    const state = sink["connected"] === true ? "connected" : "not connected";
    lines.push(`  sink ${text(sink["name"])}: ${state}, ${bytes(sink["queued_bytes"])} queued${mutes}`);
  }
  return lines;
}

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? printable(value, 500) : "";
}

function number(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function ms(value: unknown): string {
  const amount = number(value);
  return amount < 1_000 ? `${amount} ms` : `${(amount / 1_000).toFixed(1)} s`;
}

function bytes(value: unknown): string {
  const amount = number(value);
  if (amount < 10_000) return `${amount} bytes`;
  return amount < 10_000_000 ? `${Math.round(amount / 1_000)} KB` : `${Math.round(amount / 1_000_000)} MB`;
}
