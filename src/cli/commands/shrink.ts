import { ConfigError, EXIT, type ExitStatus } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Host } from "../../runtime/runtime.ts";
import type { ReceivedAnswer, ShrinkRequest } from "../../wire/external.ts";
import { ExternalClient, ExternalError, fieldsOf } from "../external_client.ts";
import { addressOf, integerOf, isGiven, type OptionSpec, type ParsedArguments, required, textOf } from "../options.ts";
import { print } from "../terminal.ts";
import { defineTool } from "../tool.ts";

const OPTIONS: readonly OptionSpec[] = [
  { name: "external", letter: "e", value: "HOST:PORT", help: "The --external address of a worker that stays" },
  { name: "query", letter: "q", value: null, help: "Ask who could leave" },
  { name: "count", letter: "c", value: "N", help: "How many workers should leave" },
  { name: "workers", letter: "w", value: "NAME,...", help: "Which workers should leave" },
];

const ANSWER_TIMEOUT_MS = 30_000;

/** Asks workers to leave: the original's `cluster_shrinker`. */
export const shrink = defineTool({
  name: "shrink",
  calledAs: ["cluster_shrinker"],
  summary: "Ask who could leave the cluster, or send workers away",
  usage: "--external HOST:PORT --query|--count N|--workers NAME,...",
  options: OPTIONS,
  examples: ["--external 127.0.0.1:7002 --query", "--external 127.0.0.1:7002 --workers worker2,worker3"],
  takesWords: false,
  async run(parsed, { runtime }) {
    const external = addressOf(parsed, "external", "connect");
    if (external === null) throw required("external", "--external 127.0.0.1:7002");
    const request = readRequest(parsed);
    const client = await ExternalClient.connect(runtime, external, "Failed to connect");
    try {
      await client.send(request);
      const received = await client.receive(ANSWER_TIMEOUT_MS);
      if (received.kind === "answer") return await tell(runtime.host, received.answer);
      const what =
        received.kind === "timeout" ? `no answer within ${ANSWER_TIMEOUT_MS / 1_000} s` : "closed the connection";
      throw new ExternalError("no_answer", `${client.address}: ${what}; it may be no worker, or ending just now`);
    } finally {
      client.close();
    }
  },
});

function readRequest(parsed: ParsedArguments): ShrinkRequest {
  const query = isGiven(parsed, "query");
  const nodeCount = integerOf(parsed, "count", { min: 0, max: 256 }) ?? 0;
  const names = textOf(parsed, "workers");
  // A count of 0 asks for nothing, as in the original.
  if ([query, nodeCount > 0, names !== null].filter(Boolean).length !== 1) {
    throw new ConfigError("options_conflict", "You must specify exactly one of --query, --count, or --workers");
  }
  return { kind: "shrink_request", query, nodeCount, nodeNames: names === null ? [] : names.split(",") };
}

async function tell(host: Host, answer: ReceivedAnswer): Promise<ExitStatus> {
  switch (answer.kind) {
    case "shrink_query_response": {
      const { node_count, node_names } = fieldsOf(answer.body);
      const names = Array.isArray(node_names) ? node_names.map((name) => `${printable(String(name))},`).join("") : "";
      await print(host, `Eligible for shrink: Node count: ${node_count}, Nodes: |${names}|\n`);
      return EXIT.done;
    }
    case "shrink_error_response":
      // Of this kind is every answer in words; only one of them says yes.
      await print(host, `Cluster shrink response: ${printable(answer.text, 1_000)}\n`);
      return answer.text.startsWith("Shrinking by ") ? EXIT.done : EXIT.failed;
    default:
      throw new ExternalError(
        "not_a_worker",
        `Received invalid message: ${answer.kind} is no answer to a shrink request`,
      );
  }
}
