/**
 * A run as a list of events, one JSON object a line: steps, what arrived over the network (decoded where it is ours), log
 * entries, faults, lines at the sink, violations. `timeline.ts` draws it.
 */
import type { Millis } from "../runtime/runtime.ts";
import type { Arrival, ConnectionView } from "../runtime/virtual/network.ts";
import type { TraceLine } from "../runtime/virtual/scheduler.ts";
import { decodeControlMessage } from "../wire/control_codec.ts";
import { decodeExternalAnswer, decodeExternalRequest } from "../wire/external.ts";
import { FrameSplitter } from "../wire/frame.ts";
import { decodeHandshake } from "../wire/hello.ts";
import { PAYLOAD_HEADER_BYTES, PAYLOAD_KINDS } from "../wire/link.ts";
import type { SimulatedCluster } from "./cluster.ts";
import { channelOf } from "./faults.ts";
import type { FaultRecord, LogEntry, ProcessRecord } from "./observation.ts";
import type { Violation } from "./oracles/oracle.ts";
import type { Scenario } from "./scenario.ts";

export type TraceEvent =
  /** The first line. */
  | { readonly kind: "scenario"; readonly scenario: Scenario; readonly machines: readonly string[] }
  | { readonly kind: "step"; readonly t: Millis; readonly step: number; readonly owner: string; readonly what: string }
  | {
      readonly kind: "message";
      readonly t: Millis;
      readonly from: string;
      readonly to: string;
      readonly channel: string;
      /** Names of what it carries: `hello`, `form_saved`, `batch`, ... */
      readonly what: readonly string[];
    }
  | { readonly kind: "log"; readonly t: Millis; readonly worker: string; readonly code: string; readonly text: string }
  | { readonly kind: "process"; readonly t: Millis; readonly worker: string; readonly what: string }
  | { readonly kind: "fault"; readonly t: Millis; readonly what: string; readonly effect: string }
  | { readonly kind: "violation"; readonly t: Millis; readonly oracle: string; readonly text: string };

const LINK_FRAMES = ["?", "", "ack", "credit", "heartbeat", "goodbye", "resume"];

/** One direction of one connection. */
interface Stream {
  readonly splitter: FrameSplitter;
  shaken: boolean;
  broken: boolean;
}

export class Tracer {
  readonly #write: (event: TraceEvent) => void;
  readonly #streams = new Map<string, Stream>();
  #cluster: SimulatedCluster | null = null;

  constructor(write: (event: TraceEvent) => void) {
    this.#write = write;
  }

  /** Before anything happens. */
  begin(cluster: SimulatedCluster): void {
    this.#cluster = cluster;
    const machines = [...cluster.names, "sink", "sender", "operator", "stranger"];
    this.#write({ kind: "scenario", scenario: cluster.scenario, machines });
    cluster.world.network.onArrival = (connection, side, what) => this.#arrived(connection, side, what);
  }

  readonly step = ({ timeMs, step, owner, kind }: TraceLine): void => {
    this.#write({ kind: "step", t: timeMs, step, owner, what: kind });
  };

  readonly log = ({ timeMs, worker, code, text }: LogEntry): void => {
    this.#write({ kind: "log", t: timeMs, worker, code, text });
  };

  readonly fault = ({ timeMs, kind, effect }: FaultRecord): void => {
    this.#write({ kind: "fault", t: timeMs, what: kind, effect });
  };

  readonly process = ({ worker, startedMs, endedMs, cause, status }: ProcessRecord): void => {
    if (endedMs === null) this.#write({ kind: "process", t: startedMs, worker, what: "starts" });
    else
      this.#write({
        kind: "process",
        t: endedMs,
        worker,
        what: `ends: ${cause}${status === null ? "" : ` ${status}`}`,
      });
  };

  end(violations: readonly Violation[]): void {
    for (const { timeMs, oracle, text } of violations) this.#write({ kind: "violation", t: timeMs, oracle, text });
  }

  #arrived(connection: ConnectionView, side: "client" | "server", arrival: Arrival): void {
    const cluster = this.#cluster!;
    const [from, to] =
      side === "client" ? [connection.client, connection.server] : [connection.server, connection.client];
    const channel = channelOf(cluster, connection) ?? `port ${connection.port}`;
    const what = typeof arrival === "string" ? [arrival] : this.#decode(connection, side, channel, arrival);
    if (what.length > 0) {
      this.#write({ kind: "message", t: cluster.world.now(), from: role(from), to: role(to), channel, what });
    }
  }

  /** Names of the frames that became whole with these bytes. */
  #decode(connection: ConnectionView, side: "client" | "server", channel: string, bytes: Uint8Array): string[] {
    if (channel === "sink" || channel === "source") return [`${bytes.length} bytes`];
    const id = `${connection.id} ${side}`;
    let stream = this.#streams.get(id);
    if (stream === undefined) {
      stream = { splitter: new FrameSplitter({ lengthMax: 1 << 24 }), shaken: false, broken: false };
      this.#streams.set(id, stream);
    }
    if (stream.broken) return [`${bytes.length} bytes`];
    const { splitter } = stream;
    // What was read is handed to its reader afterwards, and may be overwritten: a splitter may keep no part of it.
    if (splitter.push(new Uint8Array(bytes)) !== "ok") stream.broken = true;
    const names: string[] = [];
    for (let i = 0; i < splitter.count; i++) {
      const frame = splitter.bytes.subarray(splitter.starts[i]!, splitter.ends[i]!);
      try {
        if (channel === "external") names.push(side === "client" ? request(frame) : answer(frame));
        else if (stream.shaken) names.push(linkFrame(frame));
        else names.push(decodeHandshake(frame).kind);
      } catch {
        stream.broken = true;
        names.push("garbage");
      }
      stream.shaken = true;
    }
    if (stream.broken && names.length === 0) names.push("garbage");
    return names;
  }
}

/** Senders are many, and one column. */
function role(machine: string): string {
  return /^(sender|probe)/.test(machine) ? "sender" : machine;
}

function request(frame: Uint8Array): string {
  const decoded = decodeExternalRequest(frame);
  return decoded.kind;
}

function answer(frame: Uint8Array): string {
  const decoded = decodeExternalAnswer(frame);
  return decoded.kind;
}

function linkFrame(frame: Uint8Array): string {
  if (frame[0] !== 1) return LINK_FRAMES[frame[0]!] ?? "?";
  const kind = PAYLOAD_KINDS[frame[1]! - 1];
  if (kind !== "control_message") return kind ?? "?";
  const message = decodeControlMessage(frame.subarray(PAYLOAD_HEADER_BYTES - 4));
  return message.kind === "phase_reached" ? `phase_reached ${message.phase}` : message.kind;
}
