import { EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Host } from "../../runtime/runtime.ts";
import { type ExternalClient, ExternalError } from "../external_client.ts";
import { integerOf } from "../options.ts";
import { print } from "../terminal.ts";
import { defineTool } from "../tool.ts";
import { withWorkerAt } from "../worker_address.ts";

/** One that is not complete after 30 seconds is given up by the cluster. */
const TIMEOUT_S = 40;

/** Takes a checkpoint now, and waits until it exists. */
export const checkpoint = defineTool({
  name: "checkpoint",
  calledAs: [],
  summary: "Take a checkpoint of the whole cluster now, and wait for it",
  usage: "HOST:PORT [options]",
  options: [{ name: "timeout", value: "SECONDS", help: "How long to wait for it", default: String(TIMEOUT_S) }],
  examples: ["127.0.0.1:7002"],
  takesWords: true,
  async run(parsed, invocation) {
    const timeoutS = integerOf(parsed, "timeout", { min: 1, max: 86_400 }) ?? TIMEOUT_S;
    return withWorkerAt(parsed, invocation, (client) => takeCheckpoint(invocation.runtime.host, client, timeoutS));
  },
});

async function takeCheckpoint(host: Host, client: ExternalClient, timeoutS: number): Promise<ExitStatus> {
  await client.send({ kind: "checkpoint_request" });
  const received = await client.receive(timeoutS * 1_000);
  if (received.kind !== "answer") {
    const what = received.kind === "ended" ? "it ended the connection" : `no answer within ${timeoutS} s`;
    throw new ExternalError(
      "no_answer",
      `Cannot tell whether a checkpoint was taken by the cluster of ${client.address}: ${what}; see tammar query status`,
    );
  }
  const { epoch, reason } = readAnswer(received.answer);
  if (epoch === 0) {
    throw new ExternalError(
      "checkpoint_failed",
      `The cluster of ${client.address} took no checkpoint: ${printable(reason, 1_000)}`,
    );
  }
  await print(host, `Checkpoint ${epoch} is complete\n`);
  return EXIT.done;
}

function readAnswer(answer: { readonly kind: string; readonly body?: unknown }): { epoch: number; reason: string } {
  const { epoch, reason } = ((answer.kind === "checkpoint_response" ? answer.body : null) ?? {}) as Record<
    string,
    unknown
  >;
  if (Number.isSafeInteger(epoch) && typeof reason === "string") return { epoch: epoch as number, reason };
  throw new ExternalError("not_a_worker", `The answer, ${printable(answer.kind)}, is none to what was asked`);
}
