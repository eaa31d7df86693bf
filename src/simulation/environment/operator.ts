/** An operator's tool: asks a worker one thing over its external channel, as often as it is told, on one connection. */
import type { Address, Conn, Millis, Runtime } from "../../runtime/runtime.ts";
import { decodeExternalAnswer, type ExternalRequest, encodeExternal } from "../../wire/external.ts";
import { FrameSplitter } from "../../wire/frame.ts";
import type { CommandName } from "../scenario.ts";

export interface CommandEvents {
  readonly answered: (kind: string, body: unknown) => void;
  readonly ended: (outcome: "answer" | "ended" | "cut" | "timeout" | "no_connection" | "fault") => void;
}

/** A tool that was not answered by then gives up. */
const PATIENCE_MS: Millis = 20_000;

/** One thing that is asked, `times` times. */
export interface Asked {
  readonly what: CommandName;
  readonly times: number;
  /** What a `print` prints, and the reason of a stop. */
  readonly text: string;
}

const REQUESTS: Readonly<Record<CommandName, ExternalRequest>> = {
  status: { kind: "cluster_status_query" },
  rich_status: { kind: "status_query" },
  print: { kind: "print", text: "" },
  stop: { kind: "clean_shutdown", text: "" },
  stop_and_report: { kind: "shutdown_and_report", text: "" },
  report_status: { kind: "report_status", text: "boundary-count-status" },
  rotate: { kind: "rotate_log", text: "initializer" },
  rotate_w1: { kind: "rotate_log", text: "w1" },
  shrink: { kind: "shrink_request", query: false, nodeNames: [], nodeCount: 1 },
  shrink_query: { kind: "shrink_request", query: true, nodeNames: [], nodeCount: 0 },
  partitions: { kind: "partition_query" },
  partition_counts: { kind: "partition_count_query" },
  stateless_partitions: { kind: "stateless_partition_query" },
  stateless_partition_counts: { kind: "stateless_partition_count_query" },
  source_ids: { kind: "source_ids_query" },
  entities: { kind: "state_entity_query" },
  entity_counts: { kind: "state_entity_count_query" },
  cluster_entity_counts: { kind: "cluster_state_entity_count_query" },
  checkpoint: { kind: "checkpoint_request" },
};

function requestOf(what: CommandName, text: string): ExternalRequest {
  const request = REQUESTS[what];
  return "text" in request && request.text === "" ? { ...request, text } : request;
}

/** Requests that get no answer. */
const UNANSWERED: readonly CommandName[] = ["print", "stop", "report_status", "rotate", "rotate_w1"];

export async function runCommand(
  runtime: Runtime,
  address: Address,
  { what, times, text }: Asked,
  events: CommandEvents,
): Promise<void> {
  let conn: Conn;
  try {
    conn = await runtime.net.connect(address, { timeoutMs: 5_000 });
  } catch {
    return events.ended("no_connection");
  }
  const request = encodeExternal(requestOf(what, text));
  let over = false;
  const end = (outcome: "answer" | "ended" | "cut" | "timeout" | "fault"): void => {
    if (over) return;
    over = true;
    conn.abort();
    events.ended(outcome);
  };
  runtime.clock.startTimer(PATIENCE_MS, () => end("timeout"));
  const expected = UNANSWERED.includes(what) ? 0 : what === "stop_and_report" ? Number.POSITIVE_INFINITY : times;
  const splitter = new FrameSplitter({ lengthMax: 1 << 20 });
  let answers = 0;
  try {
    for (let i = 0; i < times; i++) await conn.write(request);
    if (expected === 0) conn.end();
    while (answers < expected) {
      const bytes = await conn.read();
      if (bytes === null) return end("ended");
      if (splitter.push(bytes) !== "ok") return end("fault");
      for (let i = 0; i < splitter.count; i++) {
        const answer = decodeExternalAnswer(splitter.bytes.subarray(splitter.starts[i]!, splitter.ends[i]!));
        if (answer.kind === "fault") return end("fault");
        answers++;
        events.answered(answer.kind, "body" in answer ? answer.body : "text" in answer ? answer.text : null);
      }
    }
    // Without an answer, the end of the connection says that the request was taken.
    if (expected === 0) while ((await conn.read()) !== null);
    end("answer");
  } catch {
    end("cut");
  }
}
