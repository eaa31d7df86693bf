import { ConfigError, EXIT } from "../../base/errors.ts";
import { printable } from "../../base/log.ts";
import type { Millis } from "../../runtime/runtime.ts";
import type { ExternalRequest, ReceivedAnswer } from "../../wire/external.ts";
import { ExternalClient, ExternalError, fieldsOf } from "../external_client.ts";
import { nearest } from "../nearest.ts";
import {
  addressOf,
  integerOf,
  isGiven,
  type OptionSpec,
  type ParsedArguments,
  parseAddress,
  readDuration,
  refuseUnknown,
  textOf,
} from "../options.ts";
import { jsonText, print } from "../terminal.ts";
import { defineTool } from "../tool.ts";
import { statusText } from "./query_status.ts";
import { watchStatus } from "./query_watch.ts";

interface QueryType {
  readonly request: (message: string) => ExternalRequest;
  /** First line of the plain output; `null`: nothing is answered. */
  readonly title: string | null;
}

/** By the original's names. */
const TYPES: Readonly<Record<string, QueryType>> = {
  print: { request: (text) => ({ kind: "print", text }), title: null },
  "rotate-log": { request: (text) => ({ kind: "rotate_log", text }), title: null },
  "clean-shutdown": { request: (text) => ({ kind: "clean_shutdown", text }), title: null },
  "boundary-count-status": {
    request: () => ({ kind: "report_status", text: "boundary-count-status" }),
    title: null,
  },
  "cluster-status-query": { request: () => ({ kind: "cluster_status_query" }), title: "Cluster Status:" },
  "partition-query": { request: () => ({ kind: "partition_query" }), title: "Partition Distribution:" },
  "partition-count-query": {
    request: () => ({ kind: "partition_count_query" }),
    title: "Partition Distribution (counts):",
  },
  "source-ids-query": { request: () => ({ kind: "source_ids_query" }), title: "Source Ids:" },
  "state-entity-query": { request: () => ({ kind: "state_entity_query" }), title: "State Entity Distribution:" },
  "state-entity-count-query": { request: () => ({ kind: "state_entity_count_query" }), title: "State Entity Count:" },
  "cluster-state-entity-count-query": {
    request: () => ({ kind: "cluster_state_entity_count_query" }),
    title: "Cluster State Entity Count:",
  },
  "stateless-partition-query": {
    request: () => ({ kind: "stateless_partition_query" }),
    title: "Stateless Partition Distribution:",
  },
  "stateless-partition-count-query": {
    request: () => ({ kind: "stateless_partition_count_query" }),
    title: "Stateless Partition Count:",
  },
  /** Ours: everything a worker knows about itself and its peers. */
  status: { request: () => ({ kind: "status_query" }), title: "Status:" },
};

const OPTIONS: readonly OptionSpec[] = [
  { name: "external", letter: "e", value: "HOST:PORT", help: "The --external address of a worker" },
  { name: "type", letter: "t", value: "TYPE", help: "What to ask or to tell (see below)", default: "print" },
  {
    name: "message",
    letter: "m",
    value: "TEXT",
    help: "With print: the text for the worker's log; with rotate-log: the worker's name",
  },
  { name: "json", letter: "j", value: null, help: "Print the answer as JSON, and nothing else" },
  { name: "timeout", value: "SECONDS", help: "How long to wait for the answer", default: "10" },
  {
    name: "watch",
    letter: "w",
    value: null,
    help: "Ask for the status again and again, until SIGINT or SIGTERM; with --json one object a line",
  },
  {
    name: "interval",
    value: "TIME",
    help: "With --watch: the pause between two looks, 100ms to 1h; a number alone is seconds",
    default: "2s",
  },
];

/** Asks a worker: the original's `external_sender`, with `tammar query SUBJECT HOST:PORT` as a shorter way to say it. */
export const query = defineTool({
  name: "query",
  calledAs: ["external_sender"],
  summary: "Ask a worker for its status, partitions, keys; or tell it something",
  usage: "SUBJECT HOST:PORT [options]",
  options: OPTIONS,
  examples: [
    "status 127.0.0.1:7002",
    "--watch 127.0.0.1:7002",
    "state-entity 127.0.0.1:7002 --json",
    "--external 127.0.0.1:7002 --type cluster-status-query --json",
    "--external 127.0.0.1:7002 --type print --message hello",
    `SUBJECT --help\n\nSubjects (TYPE is the same, with -query behind those that have it):\n${subjects()}`,
  ],
  takesWords: true,
  async run(parsed, { runtime, program }) {
    const { host } = runtime;
    const isWatching = isGiven(parsed, "watch");
    const intervalMs = watchInterval(parsed);
    if (intervalMs !== null && !isWatching) {
      throw new ConfigError("options_conflict", "--interval has a meaning only with --watch: leave it out");
    }
    const { name, address } = readTarget(parsed, program);
    const type = TYPES[name]!;
    const json = isGiven(parsed, "json");
    const message = textOf(parsed, "message") ?? "";
    const timeoutS = integerOf(parsed, "timeout", { min: 1, max: 86_400 }) ?? 10;
    if (isWatching) {
      if (name !== "status") {
        throw new ConfigError("options_conflict", `--watch shows the status: leave out ${name}, or --watch`);
      }
      return watchStatus(runtime, { address, json, intervalMs: intervalMs ?? 2_000, answerMs: timeoutS * 1_000 });
    }
    const client = await ExternalClient.connect(runtime, address, "Failed to connect");
    try {
      if (!json) await print(host, "Connected...\n");
      await client.send(type.request(message));
      if (type.title === null) return EXIT.done;
      const received = await client.receive(timeoutS * 1_000);
      if (received.kind !== "answer") {
        const what = received.kind === "timeout" ? `no answer within ${timeoutS} s` : "closed the connection";
        throw new ExternalError(
          "no_answer",
          `Error reading header: ${client.address} ${what}; it may be no worker, or ending just now`,
        );
      }
      await print(host, json ? jsonOf(received.answer) : `${type.title}\n${textOfAnswer(received.answer)}`);
      return EXIT.done;
    } finally {
      client.close();
    }
  },
});

function subjects(): string {
  return Object.keys(TYPES)
    .map((name) => `  ${name.replace(/-query$/, "")}`)
    .join("\n");
}

const WATCH_MS_MIN: Millis = 100;
const WATCH_MS_MAX: Millis = 3_600_000;

/** Null: not given. */
function watchInterval(parsed: ParsedArguments): Millis | null {
  const text = textOf(parsed, "interval");
  if (text === null) return null;
  const ms = readDuration(/^\d+$/.test(text) ? `${text}s` : text);
  if (ms !== null && ms >= WATCH_MS_MIN && ms <= WATCH_MS_MAX) return ms;
  throw new ConfigError(
    "option_invalid",
    `--interval ${printable(text)}: give a time from 100ms to 1h, as 500ms, 1s or 5m; a number alone is seconds`,
  );
}

function readTarget(
  parsed: ParsedArguments,
  program: string,
): { name: string; address: { host: string; port: number } } {
  const words = [...parsed.words];
  // `query --watch HOST:PORT`: there is one thing to watch.
  if (isGiven(parsed, "watch") && textOf(parsed, "type") === null && words[0]?.toLowerCase() !== "status") {
    if (words.length <= 1 && !Object.hasOwn(TYPES, `${words[0]}`) && !Object.hasOwn(TYPES, `${words[0]}-query`)) {
      words.unshift("status");
    }
  }
  const given = textOf(parsed, "type") ?? (isGiven(parsed, "external") && words.length === 0 ? "print" : words.shift());
  if (given === undefined) {
    throw new ConfigError(
      "usage",
      `Expected \`${program} SUBJECT HOST:PORT\`, such as \`${program} status 127.0.0.1:7002\`; see --help`,
    );
  }
  const lower = given.toLowerCase();
  const name = Object.hasOwn(TYPES, lower) ? lower : `${lower}-query`;
  if (!Object.hasOwn(TYPES, name)) {
    const near = nearest(
      lower,
      Object.keys(TYPES).flatMap((type) => [type, type.replace(/-query$/, "")]),
    );
    const hint = near === null ? "see --help for those there are" : `did you mean ${near}?`;
    throw new ConfigError("type_unknown", `Unknown type ${printable(given)}: ${hint}`);
  }
  const external = addressOf(parsed, "external", "connect");
  const word = external === null ? words.shift() : undefined;
  refuseUnknown({ ...parsed, words }, []);
  if (external !== null) return { name, address: external };
  if (word === undefined) {
    throw new ConfigError(
      "option_required",
      "--external is missing: give the --external address of a worker, for example --external 127.0.0.1:7002",
    );
  }
  return { name, address: parseAddress(program, word, "connect") };
}

function jsonOf(answer: ReceivedAnswer): string {
  switch (answer.kind) {
    case "cluster_status_query_response_not_initialized":
      return '{"processing_messages": false}\n';
    case "shrink_error_response":
      return `${jsonText({ error: answer.text })}\n`;
    default:
      return `${jsonText(answer.body)}\n`;
  }
}

/** As the original's tool prints it: scripts take the line about the cluster's status apart. */
function textOfAnswer(answer: ReceivedAnswer): string {
  switch (answer.kind) {
    case "cluster_status_query_response_not_initialized":
      return "Cluster not yet initialized\nProcessing messages: false\n";
    case "shrink_error_response":
      return `${printable(answer.text, 4_096)}\n`;
    case "cluster_status_query_response": {
      const { processing_messages, worker_count, worker_names } = fieldsOf(answer.body);
      const names = Array.isArray(worker_names)
        ? worker_names.map((name) => `${printable(String(name))},`).join("")
        : "";
      return `Processing messages: ${processing_messages}, Worker count: ${worker_count}, Workers: |${names}|\n`;
    }
    case "source_ids_query_response": {
      const { source_ids } = fieldsOf(answer.body);
      return Array.isArray(source_ids) ? source_ids.map((id) => `${printable(String(id))}\n`).join("") : "\n";
    }
    case "status_query_response":
      return statusText(answer.body);
    default:
      return `${jsonText(answer.body)}\n`;
  }
}
