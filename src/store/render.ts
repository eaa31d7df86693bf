/** What `tammar store` says, as text for people. */
import type { Epoch } from "../base/ids.ts";
import { printable } from "../base/log.ts";
import { listCheckpoints } from "./checkpoint_list.ts";
import { join, REMOVING_FILE, STATE_FOLDER } from "./folders.ts";
import {
  type CleanResult,
  type CleanStep,
  type DeadLettersReport,
  damagedFiles,
  type FileReport,
  type StoreReport,
  type WorkerFolder,
} from "./inspect.ts";
import type { SavedCluster } from "./saved_cluster.ts";
import type { CheckpointReport } from "./state_log/inspect_state.ts";
import { isRotated, resilienceDirOf } from "./state_log/state_folder.ts";

const STATES: Readonly<Record<SavedCluster["state"], string>> = {
  forming: "forming (counts as nothing: the next start begins anew)",
  formed: "formed",
  suspended: "suspended (the next start goes on from its last checkpoint, also as another build)",
  stopping: "stopping (was ready to go; the next start asks the initializer whether the cluster still exists)",
};

/** For `tammar store show`. Ends with a newline. */
export function renderShow(report: StoreReport, nowMs: number): string {
  const lines: string[] = [];
  if (report.workers.length === 0) lines.push(`nothing is saved in ${report.directory}`);
  for (const worker of report.workers) {
    if (lines.length > 0) lines.push("");
    lines.push(worker.path);
    const row = (name: string, value: string) => lines.push(`  ${name.padEnd(12)} ${value}`);
    const { saved } = worker;
    row("application", printable(saved?.application ?? worker.application ?? "unknown"));
    row(
      "worker",
      saved === null ? worker.worker : `${saved.worker} (${saved.role}; the cluster has ${saved.workerCount})`,
    );
    if (saved === null) row("cluster", "nothing readable is saved");
    else {
      row("cluster", saved.clusterId);
      row("state", STATES[saved.state]);
      row("generation", `${saved.generation}, routing version ${saved.routingVersion}`);
      row("addresses", `control ${addressText(saved.control)}, data ${addressText(saved.data)}`);
      for (const member of saved.members) {
        row("member", `${member.name}: control ${addressText(member.control)}, data ${addressText(member.data)}`);
      }
      row(
        "saved",
        `${ageText(nowMs - saved.savedAtMs)} ago (${timeText(saved.savedAtMs)}), start ${saved.startNumber}`,
      );
    }
    if (worker.decision !== null) {
      const { epoch, used } = worker.decision;
      row("decided", epoch === 0 ? "no checkpoint yet" : `checkpoint ${epoch} (the highest number used is ${used})`);
    }
    for (const checkpoint of worker.checkpoints ?? []) row("checkpoint", checkpointText(checkpoint, nowMs));
    row("held by", holderText(worker));
    for (const file of worker.files) if (file.outcome.kind !== "ok") row("file", `${file.name}: ${outcomeText(file)}`);
    for (const file of worker.deadLetters)
      row("dead letters", `${deadLettersText(file)} (tammar dead-letters shows them)`);
    for (const name of worker.unknown) row("not ours", printable(name));
  }
  for (const { path, why } of report.unreadable) lines.push(`cannot look into ${path}: ${why}`);
  return `${lines.join("\n")}\n`;
}

/** For `tammar store list`. Ends with a newline. */
export function renderList(report: StoreReport, nowMs: number): string {
  const lines: string[] = [];
  for (const { application, clusterId, workerCount, here, decided, checkpoints } of listCheckpoints(report)) {
    const some = here.length === workerCount ? "" : ` (here ${here.length}: ${here.join(", ")})`;
    lines.push(`"${printable(application)}", cluster ${clusterId}, ${count(workerCount, "worker")}${some}`);
    if (checkpoints.length === 0) lines.push("  no checkpoint");
    for (const { epoch, generation, wallMs, workers, keys, bytes } of checkpoints) {
      const missing = here.filter((name) => !workers.includes(name));
      const what = [
        `checkpoint ${epoch} of generation ${generation}`,
        `${ageText(nowMs - wallMs)} ago (${timeText(wallMs)})`,
        `${count(keys, "key")}, about ${bytesText(bytes)}`,
        decided === null ? [] : standing(epoch, decided),
        missing.length === 0 ? [] : `not in ${missing.join(", ")}`,
      ];
      lines.push(`  ${what.flat().join("; ")}`);
    }
  }
  if (lines.length === 0) lines.push(`no checkpoints in ${report.directory}`);
  for (const worker of report.workers) {
    if (worker.checkpoints === null && worker.files.some(({ name }) => isOfState(name))) {
      lines.push(`${worker.path}: its checkpoints cannot be told; see verify`);
    }
  }
  for (const { path, why } of report.unreadable) lines.push(`cannot look into ${path}: ${why}`);
  return `${lines.join("\n")}\n`;
}

function isOfState(name: string): boolean {
  return name.startsWith(`${STATE_FOLDER}/`) || isRotated(name);
}

/** For `tammar store verify`. Ends with a newline. */
export function renderVerify(report: StoreReport): string {
  const lines: string[] = [];
  let files = 0;
  for (const worker of report.workers) {
    for (const file of worker.files) {
      files++;
      lines.push(`${pathOf(worker, file.name)}: ${outcomeText(file)}`);
    }
    for (const file of worker.deadLetters) {
      files++;
      lines.push(`${join(worker.path, file.name)}: ${count(file.letters, "dead letter")}; ${outcomeText(file)}`);
    }
    for (const name of worker.unknown) lines.push(`${join(worker.path, printable(name))}: not ours, not looked at`);
  }
  for (const { path, why } of report.unreadable) lines.push(`${path}: cannot look into it: ${why}`);
  const bad = damagedFiles(report);
  lines.push(`${count(files, "file")} read back, ${bad === 0 ? "all fine" : `${bad} not fine`}`);
  return `${lines.join("\n")}\n`;
}

function pathOf({ path }: Pick<WorkerFolder, "path">, name: string): string {
  return join(isRotated(name) ? resilienceDirOf(path) : path, name);
}

/** What the four say with `--json`: one object in one line, plain data. */
export function verifyObject(report: StoreReport): object {
  const files = report.workers.flatMap(({ path, files, deadLetters }) =>
    [...files, ...deadLetters].map(({ name, ...file }) => ({ path: pathOf({ path }, name), ...file })),
  );
  const notOurs = report.workers.flatMap(({ path, unknown }) => unknown.map((name) => join(path, name)));
  const { directory, unreadable } = report;
  return { directory, fine: damagedFiles(report) === 0 && unreadable.length === 0, files, notOurs, unreadable };
}

/** For `tammar store clean`, before it does anything. Ends with a newline. */
export function renderPlan(directory: string, plan: readonly CleanStep[]): string {
  if (plan.length === 0) return `nothing to clean in ${directory}\n`;
  return plan.map((step) => `${planLine(step)}\n`).join("");
}

/** For `tammar store clean`, afterwards. Each line ends with a newline. */
export function renderCleaned(results: readonly CleanResult[]): string {
  return results.map((result) => `${cleanedLine(result)}\n`).join("");
}

function deadLettersText({ name, letters, bytes }: DeadLettersReport): string {
  return `${name}: ${count(letters, "dead letter")}, ${bytesText(bytes)}`;
}

function planLine({ folder, decision, withDeadLetters }: CleanStep): string {
  const application = folder.saved?.application ?? folder.application ?? "unknown";
  const cluster = folder.saved === null ? "" : `, cluster ${folder.saved.clusterId}`;
  const what = `${folder.path} (worker "${folder.worker}" of "${printable(application)}"${cluster})`;
  const letters = folder.deadLetters.map(deadLettersText).join(", ");
  const goes = letters === "" || !withDeadLetters ? "" : `, with ${letters}`;
  const stays =
    letters === "" || withDeadLetters ? "" : `; dead letters stay (--dead-letters removes them): ${letters}`;
  const others =
    folder.unknown.length === 0 ? "" : `; not ours and left there: ${printable(folder.unknown.join(", "))}`;
  const kept = `${goes}${stays}${others}`;
  switch (decision) {
    case "remove":
      return `remove ${what}${kept}`;
    case "held":
      return `keep   ${what}: held by ${holderText(folder)}`;
    case "other_user":
      return `keep   ${what}: belongs to another user`;
    case "cannot_tell":
      return `keep   ${what}: whether it is in use cannot be told`;
    case "only_dead_letters":
      return `keep   ${what}: it has nothing but dead letters (--dead-letters removes them): ${letters}`;
  }
}

function cleanedLine({ path, outcome }: CleanResult): string {
  switch (outcome.kind) {
    case "removed":
      return `removed ${path}`;
    case "removed_but": {
      const letters = outcome.deadLetters.length === 0 ? [] : `dead letters stay: ${outcome.deadLetters.join(", ")}`;
      const left = outcome.left.length === 0 ? [] : `not ours and left there: ${printable(outcome.left.join(", "))}`;
      return [`removed our files in ${path}`, letters, left].flat().join("; ");
    }
    case "skipped":
      return `kept    ${path}: ${outcome.why}`;
  }
}

function holderText(worker: WorkerFolder): string {
  switch (worker.held) {
    case "free":
      return "nobody";
    case "cannot_tell":
      return "cannot be told";
    case "held":
      return worker.holder === null
        ? "a process that does not say its number"
        : `process ${worker.holder.pid} since ${timeText(worker.holder.sinceMs)}`;
  }
}

function outcomeText(file: FileReport): string {
  switch (file.outcome.kind) {
    case "ok":
      return `ok (${file.bytes} bytes)`;
    case "unfinished":
      return file.name === REMOVING_FILE
        ? "left by a removal that was cut off; the next start or clean goes on with it"
        : "left by a save that was cut off; harmless";
    case "torn":
      return `ok up to offset ${file.outcome.offset} of ${file.bytes}; what was written last is not whole, as a crash leaves it, unless the checkpoint that exists was in it: ${file.outcome.why}`;
    case "unneeded":
      return "not needed any more; the next start removes it";
    case "refused":
      return file.outcome.why;
    case "other_version":
      return `has format version ${file.outcome.version}, which this tammar does not read`;
    case "damaged":
      return `damaged at offset ${file.outcome.offset}: ${file.outcome.why}`;
    case "unreadable":
      return file.outcome.why;
  }
}

/** Beside what the initializer has decided. */
function standing(epoch: Epoch, decided: Epoch): string {
  if (epoch === decided) return "the one that exists";
  return epoch < decided ? "older" : "not decided";
}

function checkpointText({ epoch, generation, wallMs, stages }: CheckpointReport, nowMs: number): string {
  const of = stages.map(({ id, version, keys, entryBytes }) => {
    const form = version === 1 ? "" : `, state version ${version}`;
    return `${printable(id)}: ${count(keys, "key")}, about ${bytesText(keys * entryBytes)}${form}`;
  });
  const when = `${ageText(nowMs - wallMs)} ago (${timeText(wallMs)})`;
  return `${epoch} of generation ${generation}, ${when}${of.length === 0 ? "" : `; ${of.join("; ")}`}`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function bytesText(bytes: number): string {
  if (bytes < 10_000) return `${bytes} bytes`;
  return bytes < 10_000_000 ? `${Math.round(bytes / 1000)} KB` : `${Math.round(bytes / 1_000_000)} MB`;
}

function addressText({ host, port }: { host: string; port: number }): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function timeText(wallMs: number): string {
  return wallMs <= 8.64e15 ? new Date(wallMs).toISOString() : `${wallMs} ms`;
}

function ageText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}
