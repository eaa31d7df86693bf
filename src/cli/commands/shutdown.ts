import { EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Host, Millis, Runtime } from "../../runtime/runtime.ts";
import { type ExternalClient, ExternalError } from "../external_client.ts";
import { integerOf, isGiven } from "../options.ts";
import { print } from "../terminal.ts";
import { defineTool } from "../tool.ts";
import { withWorkerAt } from "../worker_address.ts";

/** A worker of ours begins to report at once. One that is silent for so long is asked in the original's way as well. */
const FIRST_REPORT_MS = 3_000;
/** A cluster stops within 10 seconds, whoever is absent. */
const TIMEOUT_S = 20;

/** Stops a whole cluster cleanly: the original's `cluster_shutdown`, which waits and says what became of each worker. */
export const shutdown = defineTool({
  name: "shutdown",
  calledAs: ["cluster_shutdown", "tammar-shutdown"],
  summary: "Stop the whole cluster cleanly, through any worker",
  usage: "HOST:PORT [options]",
  options: [
    {
      name: "keep",
      value: null,
      help: "Leave the files with a last checkpoint: the next start goes on from there, also as another build",
    },
    { name: "timeout", value: "SECONDS", help: "How long to wait for the cluster's end", default: String(TIMEOUT_S) },
  ],
  examples: ["127.0.0.1:7002"],
  takesWords: true,
  async run(parsed, invocation) {
    const timeoutMs = (integerOf(parsed, "timeout", { min: 1, max: 86_400 }) ?? TIMEOUT_S) * 1_000;
    return withWorkerAt(parsed, invocation, (client) =>
      stopCluster(invocation.runtime, client, isGiven(parsed, "keep"), timeoutMs),
    );
  },
});

async function stopCluster(
  { host, clock }: Runtime,
  client: ExternalClient,
  keep: boolean,
  timeoutMs: Millis,
): Promise<ExitStatus> {
  const until = clock.monotonicMs() + timeoutMs;
  const reports = new Map<string, string>();
  let askedTheOldWay = false;
  await client.send({ kind: keep ? "suspend_and_report" : "shutdown_and_report", text: "" });
  for (;;) {
    const left = until - clock.monotonicMs();
    // The original knows no way to keep the files.
    const isSilent = !keep && reports.size === 0 && !askedTheOldWay;
    const received = await client.receive(isSilent ? Math.min(left, FIRST_REPORT_MS) : left);
    switch (received.kind) {
      case "timeout":
        if (isSilent && clock.monotonicMs() < until) {
          askedTheOldWay = true;
          await print(host, `waiting for an answer of ${client.address} (${FIRST_REPORT_MS / 1_000} s)\n`);
          await client.send({ kind: "clean_shutdown", text: "" });
          continue;
        }
        throw timedOut(client, reports, timeoutMs);
      case "ended":
        return ended(host, client, reports, askedTheOldWay);
      case "answer": {
        const report = readReport(received.answer);
        if (report === null) continue;
        if (report.kind === "done") return report.ok ? EXIT.done : failed(client, reports);
        const line = report.detail === "" ? report.status : `${report.status}: ${report.detail}`;
        if (reports.get(report.worker) === line) continue;
        reports.set(report.worker, line);
        await print(host, `${report.worker}: ${line}\n`);
      }
    }
  }
}

type Report =
  | { readonly kind: "worker"; readonly worker: string; readonly status: string; readonly detail: string }
  | { readonly kind: "done"; readonly ok: boolean };

/** `null`: an answer to something else, or of a form that we don't know. */
function readReport(answer: { readonly kind: string; readonly body?: unknown }): Report | null {
  if (answer.kind !== "shutdown_report" || typeof answer.body !== "object" || answer.body === null) return null;
  const { done, ok, worker, status, detail } = answer.body as Record<string, unknown>;
  if (done === true) return { kind: "done", ok: ok === true };
  if (typeof worker !== "string" || typeof status !== "string") return null;
  return {
    kind: "worker",
    worker: printable(worker),
    status: printable(status),
    detail: typeof detail === "string" ? printable(detail, 1_000) : "",
  };
}

/** The connection ended without the last report. */
async function ended(
  host: Host,
  client: ExternalClient,
  reports: ReadonlyMap<string, string>,
  askedTheOldWay: boolean,
): Promise<ExitStatus> {
  if (reports.size > 0) {
    throw new ExternalError(
      "connection_lost",
      `${client.address} ended the connection before the cluster's end was reported; last known: ${summary(reports)}`,
    );
  }
  if (!askedTheOldWay) {
    throw new ExternalError(
      "no_answer",
      `${client.address} closed the connection without an answer: it is no worker of a cluster, or it ended just now`,
    );
  }
  await print(host, `${client.address} took the request and closed the connection; it does not report on the others\n`);
  return EXIT.done;
}

function failed(client: ExternalClient, reports: ReadonlyMap<string, string>): never {
  throw new ExternalError(
    "shutdown_incomplete",
    `The cluster of ${client.address} did not stop cleanly: ${summary(reports)}`,
  );
}

function timedOut(client: ExternalClient, reports: ReadonlyMap<string, string>, timeoutMs: Millis): ExternalError {
  const known =
    reports.size === 0 ? "there was no answer, so this may be no worker" : `last known: ${summary(reports)}`;
  return new ExternalError(
    "shutdown_timeout",
    `No end of the cluster of ${client.address} within ${timeoutMs / 1_000} s: ${known}`,
  );
}

function summary(reports: ReadonlyMap<string, string>): string {
  return reports.size === 0 ? "no worker reported" : [...reports].map(([name, line]) => `${name} ${line}`).join("; ");
}
